package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab"
	"danepost/queue"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// is compares a finding with a status and a piece of its text.
func (f finding) is(t *testing.T, status, piece string) {
	t.Helper()
	if f.Status != status || !strings.Contains(f.Text, piece) || (status == statusOK) != (f.Advice == "") {
		t.Errorf("%+v, want %s with %q", f, status, piece)
	}
}

func TestDoctorHost(t *testing.T) {
	now := instant("2026-11-22T02:32:00Z")
	judgeClock(now, now.Add(-day), true, true).is(t, statusOK, "kept by a time service")
	judgeClock(now, now.Add(-day), false, false).is(t, statusOK, "2026-11-22 02:32 UTC")
	judgeClock(now, now.Add(-day), false, true).is(t, statusWarn, "no time service")
	judgeClock(instant("1970-01-01T00:05:00Z"), now, true, true).is(t, statusFail, "before this program was made (2026-11-22)")

	for name, status := range map[string]string{"mail.example.com": statusOK, "vm": statusFail, "localhost.localdomain": statusFail, "box.local": statusFail, "vm.": statusFail} {
		judgeHostname(name).is(t, status, name)
	}

	dir := t.TempDir()
	missing := filepath.Join(dir, "a", "b")
	judgeStateDir(dir, dir, queue.Place{}, nil).is(t, statusOK, dir)
	judgeStateDir(missing, existing(missing), queue.Place{}, nil).is(t, statusOK, "made when it is first needed")
	judgeStateDir(dir, dir, queue.Place{Filesystem: "JFFS2", Unsuitable: "cannot map files as shared memory"}, nil).is(t, statusFail, "is on JFFS2, which cannot map")
	judgeStateDir(dir, dir, queue.Place{Filesystem: "tmpfs", Volatile: true}, nil).is(t, statusWarn, "lost when the power goes")
	judgeStateDir(dir, dir, queue.Place{}, os.ErrPermission).is(t, statusFail, "permission denied")
	if got := existing(missing); got != dir {
		t.Errorf("existing(%s) = %s", missing, got)
	}
	if place, err := queue.Examine(dir); err != nil || place.Free <= 0 || place.Unsuitable != "" {
		t.Errorf("%+v, %v", place, err)
	}
	judgeDisk(dir, 200<<20, 100<<20).is(t, statusOK, "200.0 MiB free")
	judgeDisk(dir, 50<<20, 100<<20).is(t, statusFail, "below 100.0 MiB no mail is taken")
	judgeDaemon(true).is(t, statusOK, "answers")
	judgeDaemon(false).is(t, statusWarn, "none is running")
}

// replyOf makes a reply of a server; lines are records of its answer section.
func replyOf(t *testing.T, server string, edit func(*dns.Msg), lines ...string) dnsReply {
	t.Helper()
	m := new(dns.Msg)
	m.SetReply(question(".", typeDNSKEY, false))
	m.SetEdns0(1232, true)
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if edit != nil {
		edit(m)
	}
	return dnsReply{server: netip.MustParseAddrPort(server), msg: m}
}

func TestDoctorDNS(t *testing.T) {
	const sig = ". 60 IN RRSIG DNSKEY 13 0 60 20270101000000 20260101000000 2402 . AAAA"
	const four, six = "192.0.2.1:53", "[2001:db8::1]:53"
	lost := func(server string) dnsReply {
		return dnsReply{server: netip.MustParseAddrPort(server), err: errors.New("i/o timeout")}
	}
	signed, bare := replyOf(t, four, nil, sig), replyOf(t, four, nil)
	list := func(r ...dnsReply) []dnsReply { return r }

	judgeReach("x", "the root servers", list(signed, lost(six)), 0).is(t, statusOK, "1 of 1 by IPv4, 0 of 1 by IPv6")
	judgeReach("x", "the root servers", list(lost(four), lost(six)), 0).is(t, statusFail, "do not answer")
	judgeReach("x", "the root servers", list(lost(four)), 1).is(t, statusWarn, "this host's resolvers")

	judgeEDNS(list(lost(six), signed), false).is(t, statusOK, "signatures arrive")
	judgeEDNS(list(bare), false).is(t, statusFail, "without their signatures")
	judgeEDNS(list(bare), true).is(t, statusFail, "without their signatures")
	judgeEDNS(list(replyOf(t, four, func(m *dns.Msg) { m.Truncated = true })), false).is(t, statusOK, "come over TCP")
	judgeEDNS(list(lost(four)), false).is(t, statusWarn, "not known")
	stripped := replyOf(t, four, func(m *dns.Msg) { m.Extra = nil }, sig)
	judgeEDNS(list(stripped), false).is(t, statusFail, "without")

	resolving := replyOf(t, four, func(m *dns.Msg) { m.RecursionAvailable = true })
	judgeInterception(list(bare), list(lost(four))).is(t, statusOK, "nobody")
	judgeInterception(list(bare, resolving), nil).is(t, statusWarn, "192.0.2.1 answered like a resolver")
	judgeInterception(list(replyOf(t, four, nil, "www.example.com. A 192.0.2.9")), nil).is(t, statusWarn, "intercepted")
	judgeInterception(list(bare), list(bare)).is(t, statusWarn, "where no server is")
	judgeInterception(list(lost(four)), nil).is(t, statusWarn, "not known")

	root := answers(t)["secure"]
	judgeTrust(root).is(t, statusOK, "by anchor 20326")
	verdict := func(s dnssec.Status, reason dnssec.Reason) *resolver.Answer {
		return &resolver.Answer{Verdict: dnssec.Verdict{Status: s, Reason: reason}}
	}
	judgeTrust(verdict(dnssec.Bogus, dnssec.ReasonSignatureExpired)).is(t, statusFail, "signature expired")
	if f := judgeTrust(verdict(dnssec.Bogus, dnssec.ReasonSignatureEarly)); !strings.Contains(f.Advice, "clock") {
		t.Errorf("%+v", f)
	}
	judgeTrust(verdict(dnssec.Bogus, dnssec.ReasonNoMatchingDNSKEY)).is(t, statusFail, "no matching dnskey")
	judgeTrust(verdict(dnssec.Indeterminate, "timeout")).is(t, statusFail, "timeout")
	judgeTrust(verdict(dnssec.Insecure, dnssec.ReasonNoAnchor)).is(t, statusFail, "no trust anchor")
}

func TestDoctorMail(t *testing.T) {
	four, six := netip.MustParseAddr("198.51.100.25"), netip.MustParseAddr("2001:db8::25")
	ok4 := greeted{host: "mx.example", addr: four, starttls: true}
	ok6 := greeted{host: "mx.example", addr: six, starttls: true}
	lost := greeted{host: "mx.example", addr: four, err: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}}
	no := greeted{host: "mx.example", addr: four, refused: true, banner: "blocked, see https://example/\nmore"}
	list := func(g ...greeted) []greeted { return g }

	judgePort(25, list(ok4, ok6), nil).is(t, statusOK, "over IPv4 and IPv6")
	judgePort(25, list(lost, ok6), nil).is(t, statusOK, "over IPv6")
	judgePort(25, list(lost), nil).is(t, statusFail, "mx.example[198.51.100.25]: no answer")
	judgePort(25, list(no), nil).is(t, statusFail, `mx.example said "blocked, see https://example/"`)
	judgePort(25, list(no, ok4), nil).is(t, statusWarn, "said")
	inside := greeted{host: "mx.example", addr: netip.MustParseAddr("192.168.1.25")}
	judgePort(25, list(inside, lost), nil).is(t, statusWarn, "only in this network")
	judgePort(25, list(inside, ok4), nil).is(t, statusOK, "over IPv4")
	judgePort(2525, list(inside), nil).is(t, statusOK, "over IPv4")
	judgePort(25, nil, []string{"a.example", "b.example"}).is(t, statusWarn, "a.example, b.example")

	if f, ok := judgeSTARTTLS(list(ok4, greeted{addr: four})); !ok || f.Status != statusOK {
		t.Errorf("%+v", f)
	}
	if f, ok := judgeSTARTTLS(list(greeted{addr: four}, greeted{addr: six})); !ok || f.Status != statusWarn {
		t.Errorf("%+v", f)
	}
	if _, ok := judgeSTARTTLS(list(lost, no)); ok {
		t.Error("nothing was asked")
	}

	judgeRelay("relay.example", list(lost, ok6)).is(t, statusOK, "answers at 2001:db8::25")
	judgeRelay("relay.example", list(lost)).is(t, statusFail, "no answer")
	judgeRelay("relay.example", list(no)).is(t, statusFail, "blocked")
	judgeRelay("relay.example", nil).is(t, statusFail, "no address")

	judgeReverse(four, true, []string{"mail.example"}, "mail.example").is(t, statusOK, "both ways")
	judgeReverse(four, true, nil, "").is(t, statusFail, "198.51.100.25 has none")
	judgeReverse(four, true, []string{"mail.example"}, "").is(t, statusFail, "does not lead back")
	judgeReverse(four, false, nil, "").is(t, statusWarn, "could not be looked up")
	judgeOwnName("mail.example", four, true).is(t, statusOK, "leads to")
	judgeOwnName("mail.example", four, false).is(t, statusWarn, "does not lead to")
}

func TestSources(t *testing.T) {
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		met  []greeted
		want string
	}{
		{"direct", []greeted{{addr: ip("198.51.100.25"), local: ip("203.0.113.9")}}, "203.0.113.9"},
		{"behind NAT, and told", []greeted{{addr: ip("198.51.100.25"), local: ip("192.168.1.9"), seen: ip("203.0.113.9")}}, "203.0.113.9"},
		{"behind NAT", []greeted{{addr: ip("198.51.100.25"), local: ip("192.168.1.9")}}, "192.168.1.9"},
		{"both families", []greeted{{addr: ip("198.51.100.25"), local: ip("203.0.113.9")}, {addr: ip("2001:db8::25"), local: ip("2001:db8::9")}}, "203.0.113.9 2001:db8::9"},
		{"a failed connection tells nothing", []greeted{{addr: ip("2001:db8::25"), err: errors.New("x")}}, ""},
		{"a test network", []greeted{{addr: ip("127.25.1.1"), local: ip("127.0.0.1")}}, ""},
	} {
		var got []string
		for _, a := range sourcesOf(c.met) {
			got = append(got, a.String())
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
	for reply, want := range map[string]string{
		"mx.google.com at your service, [203.0.113.9]": "203.0.113.9",
		"mx.example Hello [IPv6:2001:db8::9], nice":    "2001:db8::9",
		"mx.example Hello [192.168.1.1]":               "invalid IP",
		"mx.example":                                   "invalid IP",
		"mx.example [not.an.address] [999.1.1.1]":      "invalid IP",
	} {
		if got := addressIn(reply).String(); got != want {
			t.Errorf("%q: %s, want %s", reply, got, want)
		}
	}
}

// fakeDNS answers from lines in zone-file form; "FAIL name" fails.
type fakeDNS struct {
	t  *testing.T
	rr map[string][]dns.RR // by name and type
}

func newFakeDNS(t *testing.T, lines ...string) *fakeDNS {
	f := &fakeDNS{t, map[string][]dns.RR{}}
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		key := rr.Header().Name + dns.TypeToString[rr.Header().Rrtype]
		f.rr[key] = append(f.rr[key], rr)
	}
	return f
}

func (f *fakeDNS) Lookup(_ context.Context, name string, qtype uint16) *resolver.Answer {
	a := &resolver.Answer{Type: qtype, Verdict: dnssec.Verdict{Status: dnssec.Insecure}}
	if strings.HasPrefix(name, "broken.") {
		a.Status, a.Rcode = dnssec.Indeterminate, 2
		return a
	}
	for _, rr := range f.rr[dns.Fqdn(name)+dns.TypeToString[qtype]] {
		wire := make([]byte, 4096)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			f.t.Fatal(err)
		}
		_, off, _ := dns.UnpackDomainName(wire, 0)
		a.RRs = append(a.RRs, resolver.RR{Type: qtype, Data: wire[off+10 : n]})
	}
	return a
}

func TestSPF(t *testing.T) {
	zone := newFakeDNS(t,
		`none.example. TXT "something else"`,
		`plain.example. TXT "v=spf1 ip4:203.0.113.0/24 ip6:2001:db8::/32 -all"`,
		`soft.example. TXT "v=spf1 ~all"`,
		`open.example. TXT "v=spf1 ?all"`,
		`silent.example. TXT "v=spf1"`,
		`a.example. TXT "v=spf1 a/24 -all"`, `a.example. A 203.0.113.77`,
		`mx.example. TXT "v=spf1 mx -all"`, `mx.example. MX 10 host.example.`, `host.example. A 203.0.113.9`,
		`inc.example. TXT "v=spf1 include:plain.example -all"`,
		`deep.example. TXT "v=spf1 include:none.example -all"`,
		`redir.example. TXT "v=spf1 redirect=plain.example"`,
		`two.example. TXT "v=spf1 -all"`, `two.example. TXT "v=spf1 +all"`,
		`macro.example. TXT "v=spf1 exists:%{i}.example -all"`,
		`exists.example. TXT "v=spf1 exists:host.example -all"`,
		`typo.example. TXT "v=spf1 ipv4:203.0.113.9 -all"`,
		`loop.example. TXT "v=spf1 include:loop.example -all"`,
		`split.example. TXT "v=spf1 ip4:203." "0.113.9 -all"`,
		`far.example. TXT "v=spf1 a:broken.example -all"`,
		`minus.example. TXT "v=spf1 -ip4:203.0.113.9 +all"`,
	)
	four, six := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")
	for _, c := range []struct {
		domain string
		ip     netip.Addr
		want   spfResult
	}{
		{"none.example", four, spfNone}, {"absent.example", four, spfNone},
		{"plain.example", four, spfPass}, {"plain.example", six, spfPass},
		{"plain.example", netip.MustParseAddr("198.51.100.1"), spfFail},
		{"soft.example", four, spfSoftFail}, {"open.example", four, spfNeutral}, {"silent.example", four, spfNeutral},
		{"a.example", four, spfPass}, {"mx.example", four, spfPass}, {"mx.example", six, spfFail},
		{"inc.example", four, spfPass}, {"deep.example", four, spfBroken}, {"redir.example", four, spfPass},
		{"two.example", four, spfBroken}, {"macro.example", four, spfUnknown}, {"exists.example", four, spfPass},
		{"typo.example", four, spfBroken}, {"loop.example", four, spfBroken}, {"split.example", four, spfPass},
		{"far.example", four, spfUnknown}, {"broken.example", four, spfUnknown}, {"minus.example", four, spfFail},
		{"plain.example", netip.Addr{}, spfUnknown}, {"none.example", netip.Addr{}, spfNone},
	} {
		if got := checkSPF(t.Context(), zone.Lookup, c.domain, c.ip); got != c.want {
			t.Errorf("%s from %v: %d, want %d", c.domain, c.ip, got, c.want)
		}
	}
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfPass, six: spfPass}).is(t, statusOK, "lets this host send")
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfPass, six: spfFail}).is(t, statusFail, "2001:db8::9 may not send")
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfNone}).is(t, statusWarn, "says nothing")
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfUnknown}).is(t, statusWarn, "could not be found out")
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfBroken}).is(t, statusWarn, "cannot be evaluated")
	judgeSPF("a.example", map[netip.Addr]spfResult{four: spfNeutral}).is(t, statusWarn, "does not say")
	if got, want := spfExample("a.example", six), `a.example. TXT "v=spf1 ip6:2001:db8::9 -all"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDoctorNames(t *testing.T) {
	ip := netip.MustParseAddr("203.0.113.9")
	d := &doctor{config: &Config{Hostname: "mail.example"}, names: newFakeDNS(t,
		"9.113.0.203.in-addr.arpa. PTR mail.example.", "mail.example. A 203.0.113.9")}
	got := d.nameChecks(t.Context(), ip)
	got[0].is(t, statusOK, "203.0.113.9 is mail.example, both ways")
	got[1].is(t, statusOK, "mail.example leads to")
	d.names = newFakeDNS(t, "9.113.0.203.in-addr.arpa. PTR other.example.", "mail.example. A 203.0.113.10")
	got = d.nameChecks(t.Context(), ip)
	got[0].is(t, statusFail, "does not lead back")
	got[1].is(t, statusWarn, "does not lead to")
	d.nameChecks(t.Context(), netip.MustParseAddr("192.168.1.9"))[0].is(t, statusWarn, "translated")
}

// TestDoctorDestinations: who is contacted, and that it is said.
func TestDoctorDestinations(t *testing.T) {
	zone := newFakeDNS(t, "example.com. MX 10 mx.example.com.", "self.example. MX 10 box.self.example.", "null.example. MX 0 .", "mail.example.net. MX 5 mx.example.net.")
	for _, c := range []struct {
		config Config
		to     []string
		want   string
		told   string
	}{
		{Config{Hostname: "box.example.com", Postmaster: "admin@example.com"}, nil, "example.com", "connecting to the mail servers of example.com; nothing is sent"},
		{Config{Hostname: "Box.Example.com"}, nil, "example.com", "of example.com;"},
		{Config{Hostname: "box.self.example", Postmaster: "a@null.example", Rewrite: RewriteConfig{From: Rewrites{"*": "x@mail.example.net"}}}, nil, "mail.example.net", "of mail.example.net;"},
		{Config{Hostname: "box.self.example"}, nil, "gmail.com outlook.com gmx.net", "of gmail.com, outlook.com, gmx.net, for no domain"},
		{Config{Hostname: "box"}, nil, "gmail.com outlook.com gmx.net", "of gmail.com"},
		{Config{Hostname: "box.example.com"}, []string{"named.example"}, "named.example", ""},
	} {
		told := ""
		d := &doctor{config: &c.config, names: zone, to: c.to, tell: func(s string) { told += s }}
		if got := strings.Join(d.destinations(t.Context()), " "); got != c.want || !strings.Contains(told, c.told) || c.told == "" && told != "" {
			t.Errorf("%+v: %s, told %q", c.config, got, told)
		}
	}
}

// TestDoctorInLab runs the whole command on the test internet.
func TestDoctorInLab(t *testing.T) {
	l := lab.New(lab.Options{})
	l.Zone("demo.", lab.Signing{})
	z := l.Zone("good.demo.", lab.Signing{})
	id := lab.SelfSigned("mx.good.demo")
	r := l.Receiver("mx.good.demo", id)
	z.Add("@ MX 10 mx", "mx A "+r.Addr())
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.WriteConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := Main([]string{"danepost", "--config", c.File, "doctor", "--to", "good.demo"}, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs})
	if code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d: %s%s", code, out.String(), errs.String())
	}
	for _, line := range []string{"this host is fit to send", "DNS over UDP  the root servers answer: 1 of 1", "DNS over TCP  the root servers answer: 1 of 1",
		"EDNS          signatures arrive", "trust anchor  the root's keys are verified by anchor", "mail servers answer over IPv4", "STARTTLS      offered by 1 of 1"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is missing in\n%s", line, out.String())
		}
	}
	if _, err := os.Stat(c.State); !errors.Is(err, os.ErrNotExist) {
		t.Error("it made the state directory")
	}
	// Unasked it goes to the domain of its own postmaster, and says so.
	text, err := os.ReadFile(c.File)
	if err == nil {
		err = os.WriteFile(c.File, regexp.MustCompile(`(?m)^postmaster = .*$`).ReplaceAll(text, []byte(`postmaster = "admin@good.demo"`)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	code = Main([]string{"danepost", "--config", c.File, "doctor"}, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs})
	if code != 0 || !strings.Contains(errs.String(), "mail servers of good.demo; nothing is sent") || !strings.Contains(out.String(), "mail servers answer") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
	// A wrong anchor, and nobody to deliver to.
	key := filepath.Join(c.Dir, "root.key")
	if err := os.WriteFile(key, []byte(". IN DS 1 13 2 "+strings.Repeat("00", 32)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	code = Main([]string{"danepost", "--config", c.File, "doctor", "--json", "--to", "none.demo"}, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs})
	if code != 1 || !strings.Contains(out.String(), `"fit":false`) || !strings.Contains(out.String(), `"check":"trust anchor","status":"fail"`) {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

// TestDoctorEnds: whatever does not answer, the doctor does.
func TestDoctorEnds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	d := &doctor{config: &Config{Hostname: "mail.example"}, dial: dialFrom(DeliverConfig{})}
	g := d.greet(ctx, netip.MustParseAddrPort(silent.Addr().String()))
	if g.err == nil || g.refused {
		t.Errorf("%+v", g)
	}
}

func TestRenderDoctor(t *testing.T) {
	findings := []finding{
		healthy("clock", "2026-11-22 02:32 UTC, kept by a time service"),
		judgeDaemon(false),
		judgePort(25, []greeted{{host: "mx.example", addr: netip.MustParseAddr("198.51.100.25"), err: errors.New("dial tcp: connect: connection refused")}}, nil),
		judgeReverse(netip.MustParseAddr("203.0.113.9"), true, nil, ""),
	}
	var out bytes.Buffer
	renderDoctor(&out, findings)
	golden(t, "doctor.txt", out.Bytes())
	out.Reset()
	renderDoctor(&out, findings[:2])
	golden(t, "doctor-fit.txt", out.Bytes())
	out.Reset()
	if err := doctorJSON(&out, findings); err != nil {
		t.Fatal(err)
	}
	golden(t, "doctor.json", out.Bytes())
}
