package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"danepost/deliver"
	"danepost/queue"
	"danepost/queue/submit"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// How long the doctor takes, at most.
const (
	doctorTime   = 40 * time.Second
	doctorDNS    = 3 * time.Second  // one question to one server
	doctorSMTP   = 15 * time.Second // one connection, greeting and EHLO
	doctorLookup = 15 * time.Second // one validated look-up
)

// The words of finding.Status.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// finding is the outcome of one check, in words for who runs the host. Its
// JSON is one that others may rely on: fields are only added.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // "ok", "warn" or "fail"
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do about it
}

func healthy(check, format string, args ...any) finding {
	return finding{Check: check, Status: statusOK, Text: fmt.Sprintf(format, args...)}
}

func (f finding) todo(status, format string, args ...any) finding {
	f.Status, f.Advice = status, fmt.Sprintf(format, args...)
	return f
}

// doctor finds out whether this host is fit to send. It looks and asks; it
// changes nothing and sends no mail.
type doctor struct {
	config *Config
	names  deliver.Resolver
	roots  []netip.AddrPort // root servers, or the servers that look-ups are forwarded to
	spare  int              // resolvers of the host that [resolver] forward = "auto" may fall back on
	to     []string         // domains whose mail servers are tried; none: see destinations
	tell   func(string)     // says beforehand who is going to be contacted
	now    func() time.Time
	ready  func() error // why no look-up can be judged yet; nil if all can
	// ask puts one question to one server, unvalidated.
	ask  func(ctx context.Context, server netip.AddrPort, tcp bool, q *dns.Msg) (*dns.Msg, error)
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// runDoctor is `danepost doctor`: exit 0 when nothing failed, else 1.
func runDoctor(inv *invocation, args []string) error {
	fs := inv.flags("doctor")
	asJSON := fs.Bool("json", false, "print one JSON object")
	to := fs.StringSlice("to", nil, "`DOMAIN`s whose mail servers are tried (default: this host's own, or else some large ones)")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageError("usage: danepost doctor [--json] [--to DOMAIN]")
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	n, err := openNames(c, quiet())
	if err != nil {
		return err
	}
	defer n.Close()
	d, err := newDoctor(c, n)
	if err != nil {
		return err
	}
	d.ready = n.anchors.Ready
	d.to = *to
	d.tell = func(text string) { fmt.Fprintln(inv.Err, "danepost doctor: "+text) }
	ctx, stop := untilSignal()
	defer stop()
	findings := d.examine(ctx)
	if *asJSON {
		err = doctorJSON(inv.Out, findings)
	} else {
		renderDoctor(inv.Out, findings)
	}
	if err == nil && !fitToSend(findings) {
		err = exitStatus(1)
	}
	return err
}

func newDoctor(c *Config, names deliver.Resolver) (*doctor, error) {
	rc, err := resolverConfig(c, quiet())
	if err != nil {
		return nil, configError(err)
	}
	d := &doctor{
		config: c, names: names, now: time.Now,
		ask: askServer, dial: dialFrom(c.Deliver),
	}
	if rc.Forward == resolver.ForwardAlways {
		d.roots = rc.ForwardTo
		return d, nil
	}
	hints := rc.Hints
	if len(hints) == 0 {
		hints = resolver.DefaultHints()
	}
	d.roots = someRoots(hints, c.Resolver.Port)
	if rc.Forward == resolver.ForwardAuto {
		d.spare = len(rc.ForwardTo)
	}
	return d, nil
}

// someRoots picks a few root servers of each family.
func someRoots(hints []resolver.Nameserver, port uint16) []netip.AddrPort {
	const each = 3
	var four, six []netip.AddrPort
	for _, h := range hints {
		for _, a := range h.Addrs {
			if to := netip.AddrPortFrom(a, port); a.Is4() && len(four) < each {
				four = append(four, to)
			} else if a.Is6() && len(six) < each {
				six = append(six, to)
			}
		}
	}
	return append(four, six...)
}

func askServer(ctx context.Context, server netip.AddrPort, tcp bool, q *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: or(tcp, "tcp", "udp"), Timeout: doctorDNS}
	reply, _, err := client.ExchangeContext(ctx, q, server.String())
	return reply, err
}

// dialFrom connects from the addresses that deliveries are made from.
func dialFrom(c DeliverConfig) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		var dialer net.Dialer
		source := c.SourceIPv4
		if to.Addr().Is6() {
			source = c.SourceIPv6
		}
		if ip, err := netip.ParseAddr(source); err == nil {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
		}
		return dialer.DialContext(ctx, network, address)
	}
}

// examine makes all checks, those that wait for the network side by side.
func (d *doctor) examine(ctx context.Context) []finding {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	parts := []func(context.Context) []finding{d.host, d.dns, d.trust, d.mail}
	found := make([][]finding, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() { found[i] = part(ctx) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

// lookup is a validated look-up with a bound on its time.
func (d *doctor) lookup(ctx context.Context, name string, qtype uint16) *resolver.Answer {
	ctx, cancel := context.WithTimeout(ctx, doctorLookup)
	defer cancel()
	return d.names.Lookup(ctx, name, qtype)
}

// usable reports whether something may be concluded from an answer.
func usable(a *resolver.Answer) bool {
	return (a.Status == dnssec.Secure || a.Status == dnssec.Insecure) &&
		(a.Rcode == dns.RcodeSuccess || a.Rcode == dns.RcodeNameError)
}

// daemon asks whether somebody answers on the socket.
func (d *doctor) daemon(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, doctorDNS)
	defer cancel()
	for _, path := range d.config.sockets() {
		client := &submit.Client{Path: path}
		if _, err := client.List(ctx, queue.Filter{IDs: []string{"none"}}); !errors.Is(err, submit.ErrNoDaemon) {
			return true
		}
	}
	return false
}

func fitToSend(findings []finding) bool {
	return !slices.ContainsFunc(findings, func(f finding) bool { return f.Status == statusFail })
}

func doctorJSON(w io.Writer, findings []finding) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Fit    bool      `json:"fit"`
		Checks []finding `json:"checks"`
	}{fitToSend(findings), findings})
}

// renderDoctor prints the findings for people: the sum first, then each check
// with what to do below it.
func renderDoctor(w io.Writer, findings []finding) {
	s := newScreen(w)
	count := map[string]int{}
	for _, f := range findings {
		count[f.Status]++
	}
	head := s.paint(good, "this host is fit to send")
	if count[statusFail] > 0 {
		head = s.paint(bad, "this host is not fit to send yet") + ": " + plural(count[statusFail], "failure")
	}
	if n := count[statusWarn]; n > 0 {
		head += ", " + plural(n, "warning")
	}
	s.line("%s", head)
	s.line("")
	tones := map[string]tone{statusOK: good, statusWarn: warn, statusFail: bad}
	var rows [][]cell
	for _, f := range findings {
		rows = append(rows, []cell{toned(tones[f.Status], f.Status), text(f.Check), text(clean(f.Text))})
		if f.Advice != "" {
			rows = append(rows, []cell{text(""), text(""), text("→ " + clean(f.Advice))})
		}
	}
	s.table("", rows)
}
