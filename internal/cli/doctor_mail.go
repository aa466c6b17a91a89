package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver"
)

// greeted is what one mail server showed.
type greeted struct {
	domain, host string
	addr         netip.Addr
	local        netip.Addr // our end of the connection
	seen         netip.Addr // our address as the server told it in its reply to EHLO
	banner       string
	refused      bool // it does not want us: 4xx or 5xx to the greeting or EHLO
	starttls     bool
	err          error
}

// mail tries the way out, and from what is learned on it, whether the address
// that mail leaves from has the names that receivers ask for.
func (d *doctor) mail(ctx context.Context) []finding {
	if host := d.config.Relay.Host; host != "" {
		return []finding{judgeRelay(host, d.greetHost(ctx, "", strings.TrimSuffix(host, "."), d.relayPort()))}
	}
	met, missing := d.greetDomains(ctx, d.destinations(ctx))
	out := []finding{judgePort(d.config.Deliver.Port, met, missing)}
	if f, ok := judgeSTARTTLS(met); ok {
		out = append(out, f)
	}
	sources := sourcesOf(met)
	var mu sync.Mutex
	found := make([][]finding, len(sources)+1)
	var wg sync.WaitGroup
	put := func(i int, f ...finding) {
		mu.Lock()
		defer mu.Unlock()
		found[i] = f
	}
	for i, ip := range sources {
		wg.Go(func() { put(i, d.nameChecks(ctx, ip)...) })
	}
	wg.Go(func() { put(len(sources), d.senderPolicy(ctx, sources)) })
	wg.Wait()
	return append(out, slices.Concat(found...)...)
}

func (d *doctor) relayPort() uint16 {
	if p := d.config.Relay.Port; p != 0 {
		return p
	}
	return 587
}

// greetDomains goes to the best mail servers of each domain; missing are
// domains whose servers could not be looked up.
func (d *doctor) greetDomains(ctx context.Context, domains []string) (met []greeted, missing []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, domain := range domains {
		wg.Go(func() {
			var got []greeted
			if host, _ := d.mailServer(ctx, domain); host != "" {
				got = d.greetHost(ctx, domain, host, d.config.Deliver.Port)
			}
			mu.Lock()
			defer mu.Unlock()
			if met = append(met, got...); len(got) == 0 {
				missing = append(missing, domain)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(met, func(a, b greeted) int {
		return strings.Compare(a.domain+a.host+a.addr.String(), b.domain+b.host+b.addr.String())
	})
	slices.Sort(missing)
	return met, missing
}

// greetHost connects to one address of each family.
func (d *doctor) greetHost(ctx context.Context, domain, host string, port uint16) []greeted {
	var addrs []netip.Addr
	for _, t := range []uint16{resolver.TypeA, resolver.TypeAAAA} {
		if found := d.lookup(ctx, host, t).Addrs(); len(found) > 0 {
			addrs = append(addrs, found[0])
		}
	}
	out := make([]greeted, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() {
			out[i] = d.greet(ctx, netip.AddrPortFrom(a, port))
			out[i].domain, out[i].host = domain, host
		})
	}
	wg.Wait()
	return out
}

// greet reads a greeting, says EHLO and goodbye.
func (d *doctor) greet(ctx context.Context, to netip.AddrPort) greeted {
	g := greeted{addr: to.Addr()}
	ctx, cancel := context.WithTimeout(ctx, doctorSMTP)
	defer cancel()
	var conn net.Conn
	if conn, g.err = d.dial(ctx, "tcp", to.String()); g.err != nil {
		return g
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if local, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
		g.local = local.Addr().Unmap()
	}
	if to.Port() == 465 {
		return g // implicit TLS (RFC 8314 §3.3): that it connects is what can be told
	}
	// A server may say much; 64 KiB is more than any that means well.
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, 64<<10)))
	code, banner, err := r.ReadResponse(0)
	if g.banner, g.err = banner, err; err != nil && code == 0 {
		return g
	}
	if g.err = nil; code != 220 {
		g.refused = true
		return g
	}
	fmt.Fprintf(conn, "EHLO %s\r\n", d.config.Hostname)
	code, reply, err := r.ReadResponse(0)
	if err != nil && code == 0 {
		g.err = err
		return g
	}
	fmt.Fprint(conn, "QUIT\r\n")
	if code != 250 {
		g.refused, g.banner = true, reply
		return g
	}
	first, rest, _ := strings.Cut(reply, "\n")
	g.seen = addressIn(first)
	g.starttls = slices.ContainsFunc(strings.Split(rest, "\n"), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "STARTTLS") })
	return g
}

// addressIn finds our own address in a server's reply to EHLO. Many put it
// there, and behind NAT nobody nearer knows it.
func addressIn(reply string) netip.Addr {
	bracketed := regexp.MustCompile(`\[(?:IPv6:)?([0-9a-fA-F.:]+)\]`)
	for _, m := range bracketed.FindAllStringSubmatch(reply, -1) {
		if ip, err := netip.ParseAddr(m[1]); err == nil && isPublic(ip) {
			return ip.Unmap()
		}
	}
	return netip.Addr{}
}

// isPublic: an address that the Internet can know a host by.
func isPublic(ip netip.Addr) bool {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // behind the NAT of carriers
	return ip.IsValid() && ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip.Unmap())
}

func judgePort(port uint16, met []greeted, missing []string) finding {
	check := fmt.Sprintf("port %d", port)
	reached, failures := map[string]int{}, map[string]string{}
	var refusal *greeted
	for i, g := range met {
		family := or(g.addr.Is4(), "IPv4", "IPv6")
		switch {
		case g.err != nil:
			failures[family] = fmt.Sprintf("%s[%s]: %s", g.host, g.addr, dialWords(g.err))
		case g.refused:
			refusal = &met[i]
			reached[family]++
		default:
			reached[family]++
		}
	}
	switch {
	case len(met) == 0:
		return healthy(check, "no mail server of %s could be looked up", strings.Join(missing, ", ")).
			todo(statusWarn, "see the checks of DNS; or name another domain with --to")
	case len(reached) == 0:
		why := or(failures["IPv4"] != "", failures["IPv4"], failures["IPv6"])
		return healthy(check, "no mail server can be reached: %s", why).
			todo(statusFail, "networks often block outgoing port 25: ask the provider to open it, or set [relay] to a server that takes this host's mail")
	case refusal != nil && reached["IPv4"]+reached["IPv6"] == refusals(met):
		return healthy(check, "mail servers turn this host away: %s said %q", refusal.host, firstLine(refusal.banner)).
			todo(statusFail, "follow what it says; addresses of homes and clouds are often listed: then set [relay]")
	}
	var words []string
	for _, family := range []string{"IPv4", "IPv6"} {
		if reached[family] > 0 {
			words = append(words, family)
		}
	}
	f := healthy(check, "mail servers answer over %s", strings.Join(words, " and "))
	if refusal != nil {
		f.Text += fmt.Sprintf("; %s[%s] said %q", refusal.host, refusal.addr, firstLine(refusal.banner))
		return f.todo(statusWarn, "one receiver turns this host away; follow what it says")
	}
	if port == smtpPort && !slices.ContainsFunc(met, func(g greeted) bool { return g.err == nil && isPublic(g.addr) }) {
		f.Text += ", but only in this network"
		return f.todo(statusWarn, "whether port 25 is open to the outside is not known: name a domain elsewhere with --to")
	}
	return f
}

// smtpPort is the port that networks block.
const smtpPort = 25

func refusals(met []greeted) (n int) {
	for _, g := range met {
		if g.refused && g.err == nil {
			n++
		}
	}
	return n
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func dialWords(err error) string {
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return "no answer"
	}
	parts := strings.Split(err.Error(), ": ")
	return parts[len(parts)-1]
}

func judgeRelay(host string, met []greeted) finding {
	const check = "relay"
	if len(met) == 0 {
		return healthy(check, "%s has no address that can be looked up", host).todo(statusFail, "see the checks of DNS, and [relay] host")
	}
	why := ""
	for _, g := range met {
		switch {
		case g.err != nil:
			why = dialWords(g.err)
		case g.refused:
			why = firstLine(g.banner)
		default:
			return healthy(check, "%s answers at %s; reverse names and SPF are its business", host, g.addr)
		}
	}
	return healthy(check, "%s does not take our mail: %s", host, why).todo(statusFail, "check [relay] host and port, and the way there")
}

// judgeSTARTTLS: servers that all lack what nearly all servers offer are most
// likely seen through something that removes it.
func judgeSTARTTLS(met []greeted) (finding, bool) {
	asked, offered := 0, 0
	for _, g := range met {
		if g.err == nil && !g.refused {
			asked++
		}
		if g.starttls {
			offered++
		}
	}
	f := healthy("STARTTLS", "offered by %d of %d servers", offered, asked)
	if asked == 0 || offered == asked {
		return f, asked > 0
	}
	if offered > 0 {
		return f, true
	}
	f.Text = "no server offers it: something in the path may remove it"
	return f.todo(statusWarn, "mail to domains with DANE waits rather than go in the clear; look for a firewall that rewrites SMTP, or use another network"), true
}

// sourcesOf lists our addresses as receivers see them.
func sourcesOf(met []greeted) []netip.Addr {
	var out []netip.Addr
	for _, family := range []bool{true, false} {
		var seen, local netip.Addr
		for _, g := range met {
			if g.err != nil || g.addr.Is4() != family {
				continue
			}
			if g.seen.IsValid() && g.seen.Is4() == family {
				seen = g.seen
			}
			local = g.local
		}
		if isPublic(local) {
			seen = local
		}
		if seen.IsValid() {
			out = append(out, seen)
		} else if local.IsValid() && !local.IsLoopback() {
			out = append(out, local) // behind NAT, and nobody told
		}
	}
	return out
}

// nameChecks checks the names of one source address: its reverse name, and that
// our own name leads to it.
func (d *doctor) nameChecks(ctx context.Context, ip netip.Addr) []finding {
	check := "reverse name"
	if !isPublic(ip) {
		return []finding{healthy(check, "not known: %s is translated on the way out, and no server said to what", ip).
			todo(statusWarn, "make sure that the public address has a reverse name that leads back to it")}
	}
	reverse, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return nil
	}
	ptr := d.lookup(ctx, reverse, dns.TypePTR)
	names := targets(ptr)
	confirmed := ""
	for _, name := range names[:min(len(names), 5)] {
		if slices.Contains(d.addresses(ctx, name, ip), ip) {
			confirmed = name
			break
		}
	}
	own := slices.Contains(d.addresses(ctx, d.config.Hostname, ip), ip)
	return []finding{judgeReverse(ip, usable(ptr), names, confirmed), judgeOwnName(d.config.Hostname, ip, own)}
}

func judgeReverse(ip netip.Addr, known bool, names []string, confirmed string) finding {
	const check = "reverse name"
	advice := fmt.Sprintf("ask whoever gave you %s to set its reverse name to this host's name; many receivers refuse mail from addresses without one", ip)
	switch {
	case !known:
		return healthy(check, "that of %s could not be looked up", ip).todo(statusWarn, "try again; receivers that cannot look it up either may defer mail")
	case len(names) == 0:
		return healthy(check, "%s has none", ip).todo(statusFail, "%s", advice)
	case confirmed == "":
		return healthy(check, "%s is called %s, which does not lead back to it", ip, names[0]).todo(statusFail, "%s; and that name's address to %s", advice, ip)
	}
	return healthy(check, "%s is %s, both ways", ip, confirmed)
}

func judgeOwnName(hostname string, ip netip.Addr, own bool) finding {
	f := healthy("EHLO name", "%s leads to %s", hostname, ip)
	if own {
		return f
	}
	f.Text = fmt.Sprintf("%s does not lead to %s, where its mail comes from", hostname, ip)
	return f.todo(statusWarn, "publish the address under that name, or set hostname to a name that has it")
}

// addresses are those of a name in ip's family.
func (d *doctor) addresses(ctx context.Context, name string, ip netip.Addr) []netip.Addr {
	qtype := resolver.TypeA
	if ip.Is6() {
		qtype = resolver.TypeAAAA
	}
	return d.lookup(ctx, name, qtype).Addrs()
}

// targets decodes the names in the records of a PTR answer.
func targets(a *resolver.Answer) []string {
	var out []string
	for _, rr := range a.RRs {
		if name, _, err := dns.UnpackDomainName(rr.Data, 0); err == nil && rr.Type == dns.TypePTR {
			out = append(out, strings.TrimSuffix(name, "."))
		}
	}
	return out
}

// senderPolicy asks whether SPF lets our addresses send for our own domain.
func (d *doctor) senderPolicy(ctx context.Context, sources []netip.Addr) finding {
	domain := d.config.Hostname
	if d.config.Rewrite.QualifyDomain != "" {
		domain = d.config.Rewrite.QualifyDomain
	}
	results := map[netip.Addr]spfResult{}
	for _, ip := range sources {
		if isPublic(ip) {
			results[ip] = checkSPF(ctx, d.lookup, domain, ip)
		}
	}
	if len(results) == 0 {
		results[netip.Addr{}] = checkSPF(ctx, d.lookup, domain, netip.Addr{})
	}
	return judgeSPF(domain, results)
}

// judgeSPF takes the worst of the results.
func judgeSPF(domain string, results map[netip.Addr]spfResult) finding {
	f := healthy("SPF", "%s lets this host send", domain)
	worst := spfPass
	for ip, r := range results {
		if r < worst {
			continue
		}
		worst = r
		switch r {
		case spfNone:
			f.Text = fmt.Sprintf("%s says nothing about who may send for it", domain)
			f = f.todo(statusWarn, "publish a TXT record, such as %s", spfExample(domain, ip))
		case spfNeutral:
			f.Text = fmt.Sprintf("%s does not say whether %s may send for it", domain, ip)
			f = f.todo(statusWarn, "add the address to its SPF record")
		case spfFail, spfSoftFail:
			f.Text = fmt.Sprintf("%s says that %s may not send for it", domain, ip)
			f = f.todo(statusFail, "add the address to its SPF record, or receivers refuse the mail")
		case spfBroken:
			f.Text = fmt.Sprintf("the SPF record of %s cannot be evaluated", domain)
			f = f.todo(statusWarn, "check it: syntax, more than one record, or more than ten look-ups")
		case spfUnknown:
			f.Text = fmt.Sprintf("whether %s lets this host send could not be found out", domain)
			f = f.todo(statusWarn, "make sure that its SPF record covers the address that mail leaves from")
		}
	}
	return f
}

func spfExample(domain string, ip netip.Addr) string {
	who := "a"
	switch {
	case ip.Is4():
		who = "ip4:" + ip.String()
	case ip.Is6():
		who = "ip6:" + ip.String()
	}
	return fmt.Sprintf("%s. TXT %q", strings.TrimSuffix(domain, "."), "v=spf1 "+who+" -all")
}
