//go:build interop

package interop

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danepost/internal/lab"
	"danepost/internal/lab/tour"
)

// shown is one way in which a receiver appears in DNS and TLS.
type shown struct {
	label  string
	id     *lab.Identity // nil: no STARTTLS
	tlsa   []string      // RDATA
	expect string        // the log's security; "" when the mail must wait
	reason string        // part of what the log then says
}

// ways lists what each receiver shows, one address for each. host is the name
// of the MX that is named in its certificate.
func ways(host func(label string) string) []shown {
	var out []shown
	add := func(label, expect, reason string, id *lab.Identity, tlsa ...string) {
		out = append(out, shown{label, id, tlsa, expect, reason})
	}
	ee := func(label string) *lab.Identity { return lab.SelfSigned(host(label)) }
	const verified = "dane-verified"
	other := lab.SelfSigned("other.test")
	ca := issuer{}.authority("CA of the receivers", nil)
	stranger := issuer{}.authority("CA of a stranger", nil)
	mid := ca.authority("intermediate CA", nil)
	leaf := func(by issuer, names ...string) *lab.Identity {
		l := by.newCert(ecKey(), nil, names...)
		return lab.NewIdentity(l.key, l.cert, by.cert)
	}

	id := ee("ee311")
	add("ee311", verified, "", id, lab.TLSA(3, 1, 1, id.Leaf()))
	id = ee("ee301")
	add("ee301", verified, "", id, lab.TLSA(3, 0, 1, id.Leaf()))
	id = ee("ee312")
	add("ee312", verified, "", id, lab.TLSA(3, 1, 2, id.Leaf()))
	id = ee("ee300")
	add("ee300", verified, "", id, lab.TLSA(3, 0, 0, id.Leaf()))
	l := issuer{}.newCert(rsaKey(), nil, host("eersa"))
	id = lab.NewIdentity(l.key, l.cert)
	add("eersa", verified, "", id, lab.TLSA(3, 1, 1, id.Leaf()))
	l = issuer{}.newCert(ecKey(), expired, "elsewhere.test")
	id = lab.NewIdentity(l.key, l.cert)
	add("eeold", verified, "", id, lab.TLSA(3, 1, 1, id.Leaf()))
	id = ee("roll")
	add("roll", verified, "", id, lab.TLSA(3, 1, 1, other.Leaf()), lab.TLSA(3, 1, 1, id.Leaf()))
	add("eewrong", "", "TLSA", ee("eewrong"), lab.TLSA(3, 1, 1, other.Leaf()))

	add("ta201", verified, "", leaf(ca, host("ta201")), lab.TLSA(2, 0, 1, ca.cert))
	add("ta211", verified, "", leaf(ca, host("ta211")), lab.TLSA(2, 1, 1, ca.cert))
	l = mid.newCert(ecKey(), nil, host("tamid"))
	add("tamid", verified, "", lab.NewIdentity(l.key, l.cert, mid.cert), lab.TLSA(2, 0, 0, ca.cert))
	l = ca.newCert(ecKey(), nil, host("tabare"))
	add("tabare", verified, "", lab.NewIdentity(l.key, l.cert), lab.TLSA(2, 1, 0, ca.cert))
	add("mixed", verified, "", leaf(ca, host("mixed")), lab.TLSA(3, 1, 1, other.Leaf()), lab.TLSA(2, 1, 1, ca.cert))
	add("tawrong", "", "TLSA", leaf(ca, host("tawrong")), lab.TLSA(2, 0, 1, stranger.cert))
	add("taname", "", "", leaf(ca, "elsewhere.test"), lab.TLSA(2, 0, 1, ca.cert))
	l = ca.newCert(ecKey(), expired, host("taold"))
	add("taold", "", "", lab.NewIdentity(l.key, l.cert, ca.cert), lab.TLSA(2, 0, 1, ca.cert))

	add("unusable", "dane-unauthenticated", "", ee("unusable"), lab.TLSA(1, 1, 1, other.Leaf()))
	add("notlsa", "encrypted", "", ee("notlsa"))
	add("notls", "", "STARTTLS", nil, lab.TLSA(3, 1, 1, other.Leaf()))
	return out
}

// receiver is another people's mail server in a root of its own. It takes
// mail on one address for each of its ways and puts all into one Maildir.
type receiver struct {
	software string
	net      byte // its addresses are 10.53.net.*
	root     *root
	daemon   *daemon
	maildir  string // of the root
	logs     []string
	ways     []shown // before furnish only those of its own
	start    func() (*daemon, error)
	came     map[string]string // of each way, for the report
}

func (v *receiver) zone() string { return v.software + ".interop." }
func (v *receiver) host(label string) string {
	return "mx." + label + "." + strings.TrimSuffix(v.zone(), ".")
}
func (v *receiver) domain(label string) string {
	return label + "." + strings.TrimSuffix(v.zone(), ".")
}
func (v *receiver) address(i int) string { return fmt.Sprintf("10.53.%d.%d", v.net, i+1) }

// furnish declares the receiver's zone.
func (v *receiver) furnish(l *lab.Lab) {
	v.ways = append(ways(v.host), v.ways...)
	z := l.Zone(v.zone(), lab.Signing{})
	for i, w := range v.ways {
		z.Add(fmt.Sprintf("%s MX 10 mx.%s", w.label, w.label), fmt.Sprintf("mx.%s A %s", w.label, v.address(i)))
		for _, data := range w.tlsa {
			z.Add(fmt.Sprintf("_25._tcp.mx.%s TLSA %s", w.label, data))
		}
	}
}

// keys writes each way's chain and key into the root, below /etc/interop.
func (v *receiver) keys() error {
	files := map[string]string{}
	for _, w := range v.ways {
		if w.id != nil {
			chain, key := pemOf(w.id)
			files["/etc/interop/"+w.label+".crt"] = chain
			files["/etc/interop/"+w.label+".key"] = key
			files["/etc/interop/"+w.label+".pem"] = key + chain
		}
	}
	if err := v.root.write(files); err != nil {
		return err
	}
	for name := range files {
		if !strings.HasSuffix(name, ".crt") {
			if err := os.Chmod(v.root.path(name), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrived returns the messages in the mailbox that hold marker.
func (v *receiver) arrived(marker string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(v.root.path(v.maildir), "new", "*"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), marker) {
			out = append(out, string(text))
		}
	}
	return out, nil
}

// wait returns the one message that holds marker once it is in the mailbox.
func (v *receiver) wait(marker string, within time.Duration) (string, error) {
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		got, err := v.arrived(marker)
		switch {
		case err != nil:
			return "", err
		case len(got) == 1:
			return got[0], nil
		case len(got) > 1:
			return "", fmt.Errorf("%d copies arrived", len(got))
		case time.Now().After(end):
			return "", fmt.Errorf("nothing in the mailbox after %v", within)
		}
	}
}

func (v *receiver) showLogs(t *testing.T) {
	t.Helper()
	for _, name := range v.logs {
		if text, err := os.ReadFile(v.root.path(name)); err == nil {
			t.Logf("%s, %s:\n%s", v.software, name, tail(string(text), 30))
		}
	}
	t.Logf("%s:\n%s", v.software, v.daemon.tail())
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// testReceivers delivers with the real binary to each receiver.
func testReceivers(t *testing.T) {
	all := []*receiver{postfixReceiver(), eximReceiver(), smtpdReceiver()}
	l := lab.New(lab.Options{DNSPort: 53, SMTPPort: 25})
	l.Zone("interop.", lab.Signing{Denial: lab.NSEC3})
	for _, v := range all {
		v.furnish(l)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, v := range all {
		v.root = newRoot(t, v.software)
		err := v.keys()
		if err == nil {
			v.daemon, err = v.start()
		}
		if err != nil {
			t.Fatalf("%s: %v", v.software, err)
		}
		v.daemon.stopAtEnd(t)
		if err := v.daemon.ready(20*time.Second, func() error { return greets(v.address(0)) }); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := workDir("receivers")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.WriteConfig(dir, `queue.retry_first = "1s"`, `queue.retry_max = "2s"`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p := &tour.Program{Path: danepost(), Config: c}
	d, err := p.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop(ctx) //nolint:errcheck // only its mail matters here
	for _, v := range all {
		t.Run(v.software, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					v.showLogs(t)
				}
			}()
			v.testWays(t, ctx, p, d)
			v.testContent(t, ctx, p)
		})
	}
	section(t, "60-receivers", receiversTable(all))
}

// testWays sends one message to each way and looks at the log and the mailbox.
func (v *receiver) testWays(t *testing.T, ctx context.Context, p *tour.Program, d *tour.Daemon) {
	v.came = map[string]string{}
	for _, w := range v.ways {
		if err := p.Send(ctx, "box@"+v.domain(w.label), "way "+w.label, "marker-"+w.label+"."); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range v.ways {
		limit, cancel := context.WithTimeout(ctx, 20*time.Second)
		line, err := d.Wait(limit, func(l tour.Line) bool {
			return l.Domain == v.domain(w.label) && (w.expect == "" || l.Msg == "delivered")
		})
		cancel()
		switch {
		case err != nil:
			t.Errorf("%s: %v; the log says %s", w.label, err, lastOf(d.Log(), v.domain(w.label)))
		case w.expect == "" && (line.Msg != "deferred" || !strings.Contains(line.Reason+line.Reply, w.reason)):
			t.Errorf("%s must wait because of %q: %+v", w.label, w.reason, line)
		case line.Security != w.expect && w.expect != "":
			t.Errorf("%s: security %q, want %q: %+v", w.label, line.Security, w.expect, line)
		case w.expect != "":
			if _, err := v.wait("marker-"+w.label+".", 10*time.Second); err != nil {
				t.Errorf("%s: %v", w.label, err)
			}
		}
		if v.came[w.label] = line.Security; w.expect == "" {
			v.came[w.label] = "waits"
		}
		t.Logf("%-12s %-9s %-20s %s %s", w.label, line.Msg, line.Security, line.Match, line.Reason)
	}
	for _, w := range v.ways {
		if got, err := v.arrived("marker-" + w.label + "."); w.expect == "" && (err != nil || len(got) != 0) {
			t.Errorf("%s: %d messages arrived, which must not (%v)", w.label, len(got), err)
		}
	}
}

// receiversTable shows what came of each way of each receiver.
func receiversTable(all []*receiver) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Mail servers\n\nOne message to each way in which a server shows itself (right: delivered and in the mailbox; \"waits\": deferred, and nothing arrived),\n"+
		"and to each server %d that are hard to carry, compared in the mailbox with what was handed over, octet by octet: none differs.\n"+
		"ee and ta with three digits: a DANE-EE or DANE-TA record of that usage, selector and matching type that fits; wrong: none fits; old: the\n"+
		"certificate has expired; name: it names another host; roll, mixed: one of two records fits; mid, bare: with an intermediate, without its\n"+
		"authority in the chain; unusable: PKIX-EE only; the rest are settings of Postfix.\n", len(letters()))
	cells, came := []any{"shown"}, map[string]bool{}
	for _, v := range all {
		cells = append(cells, v.software)
		for label := range v.came {
			came[label] = true
		}
	}
	b.WriteString(heading(cells...))
	for _, label := range sortedKeys(came) {
		cells := []any{label}
		for _, v := range all {
			cells = append(cells, v.came[label])
		}
		b.WriteString(row(cells...))
	}
	return b.String()
}

// lastOf returns the last line of a log with word in it.
func lastOf(log, word string) string {
	last := "nothing"
	for line := range strings.Lines(log) {
		if strings.Contains(line, word) {
			last = line
		}
	}
	return last
}

// greets reports whether a mail server answers at an address.
func greets(address string) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, "25"), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // the read finds out
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "220") {
		err = fmt.Errorf("greeting %q", line)
	}
	return err
}
