package lab

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started returns a running lab furnished by f.
func started(t *testing.T, f func(*Lab)) *Lab {
	t.Helper()
	l := New(Options{})
	f(l)
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func (z *Zone) ask(t *testing.T, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.SetEdns0(4096, true)
	c := dns.Client{Net: network, UDPSize: 4096, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, net.JoinHostPort(z.Addr(), strconv.Itoa(z.lab.DNSPort())))
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return r
}

const content = `@ MX 10 mx
mx A 127.25.1.1
_25._tcp.mx TLSA 3 1 1 aa
alias CNAME mx
out CNAME mx.elsewhere.
*.w MX 10 mx
*.cw CNAME mx
old DNAME new
x.new A 127.25.1.2
deep.er.below TXT hello`

// TestProofs asks each kind of zone each kind of question, checks every
// signature in the reply, and has the denial judged by name order and by the
// hash functions of the DNS library.
func TestProofs(t *testing.T) {
	type want struct {
		name   string
		qtype  uint16
		rcode  int
		answer string // types in the answer section, RRSIG left out
		denies string // names that the authority section must show absent, or "=name" present
	}
	tests := []want{
		{"@", dns.TypeMX, 0, "MX", ""},
		{"@", dns.TypeDNSKEY, 0, "DNSKEY", ""},
		{"_25._tcp.mx", dns.TypeTLSA, 0, "TLSA", ""},
		{"mx", dns.TypeAAAA, 0, "", "=mx"},
		{"_tcp.mx", dns.TypeA, 0, "", "ent:_tcp.mx"},
		{"er.below", dns.TypeA, 0, "", "ent:er.below"},
		{"none", dns.TypeA, dns.RcodeNameError, "", "none *"},
		{"a.b.none", dns.TypeA, dns.RcodeNameError, "", "next:none *"},
		{"q.mx", dns.TypeA, dns.RcodeNameError, "", "q.mx *.mx"},
		{"alias", dns.TypeA, 0, "CNAME A", ""},
		{"alias", dns.TypeAAAA, 0, "CNAME", "=mx"},
		{"out", dns.TypeA, 0, "CNAME", ""},
		{"q.w", dns.TypeMX, 0, "MX", "q.w"},
		{"q.r.w", dns.TypeMX, 0, "MX", "next:r.w"},
		{"q.w", dns.TypeA, 0, "", "q.w =*.w"},
		{"q.cw", dns.TypeA, 0, "CNAME A", "q.cw"},
		{"x.old", dns.TypeA, 0, "DNAME CNAME A", ""},
		{"y.old", dns.TypeA, dns.RcodeNameError, "DNAME CNAME", "y.new *.new"},
		{"signed", dns.TypeDS, 0, "DS", ""},
		{"unsigned", dns.TypeDS, 0, "", "nods:unsigned"},
		{"q.unsigned", dns.TypeA, 0, "", "nods:unsigned"},
		{"q.signed", dns.TypeA, 0, "", ""},
	}
	for _, denial := range []Denial{NSEC, NSEC3, OptOut} {
		l := started(t, func(l *Lab) {
			l.Zone("top", Signing{Denial: denial, SplitKeys: true, Iterations: 2}).Add(strings.Split(content, "\n")...)
			l.Zone("signed.top", Signing{})
			l.Zone("unsigned.top", Signing{None: true})
		})
		top := l.zones[1]
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d/%s/%s", denial, tt.name, dns.TypeToString[tt.qtype]), func(t *testing.T) {
				name := absolute(tt.name)
				m := top.ask(t, "udp", name, tt.qtype)
				if m.Rcode != tt.rcode {
					t.Fatalf("rcode %s\n%s", dns.RcodeToString[m.Rcode], m)
				}
				if got := answerTypes(m); got != tt.answer {
					t.Errorf("answer %q, want %q\n%s", got, tt.answer, m)
				}
				verifyAll(t, top, m)
				for _, d := range strings.Fields(tt.denies) {
					checkDenial(t, denial, d, m)
				}
			})
		}
	}
}

func absolute(name string) string {
	if name == "@" {
		return "top."
	}
	return name + ".top."
}

func answerTypes(m *dns.Msg) string {
	var out []string
	for _, rr := range m.Answer {
		s := dns.TypeToString[rr.Header().Rrtype]
		if rr.Header().Rrtype != dns.TypeRRSIG && (len(out) == 0 || out[len(out)-1] != s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// verifyAll demands a good signature on every set that needs one.
func verifyAll(t *testing.T, z *Zone, m *dns.Msg) {
	t.Helper()
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		sets := map[string][]dns.RR{}
		sigs := map[string]*dns.RRSIG{}
		for _, rr := range section {
			if s, ok := rr.(*dns.RRSIG); ok {
				sigs[fmt.Sprint(s.Hdr.Name, s.TypeCovered)] = s
				continue
			}
			k := fmt.Sprint(rr.Header().Name, rr.Header().Rrtype)
			sets[k] = append(sets[k], rr)
		}
		for k, set := range sets {
			h := set[0].Header()
			referral := h.Rrtype == dns.TypeNS && h.Name != z.name
			synthesized := h.Rrtype == dns.TypeCNAME && strings.HasSuffix(h.Name, ".old.top.")
			if referral || synthesized {
				continue
			}
			sig := sigs[k]
			if sig == nil {
				t.Errorf("no signature: %s", set[0])
				continue
			}
			verified := false
			for _, key := range z.keys {
				verified = verified || key.rr.KeyTag() == sig.KeyTag && sig.Verify(key.rr, set) == nil
			}
			if !verified || !sig.ValidityPeriod(time.Now()) {
				t.Errorf("bad signature: %s", sig)
			}
		}
	}
}

// checkDenial judges one claim about a name against the records of a reply.
func checkDenial(t *testing.T, denial Denial, claim string, m *dns.Msg) {
	t.Helper()
	kind, name, plain := strings.Cut(claim, ":")
	if !plain {
		kind, name = "absent", claim
		if strings.HasPrefix(claim, "=") {
			kind, name = "present", claim[1:]
		}
	}
	full := name + ".top."
	matched, covered := false, false
	for _, rr := range m.Ns {
		switch rr := rr.(type) {
		case *dns.NSEC:
			matched = matched || rr.Hdr.Name == full
			after, before := canonicalLess(rr.Hdr.Name, full), canonicalLess(full, rr.NextDomain)
			covered = covered || after && (before || rr.NextDomain == "top.")
		case *dns.NSEC3:
			matched = matched || rr.Match(full)
			covered = covered || rr.Cover(full) && !rr.Match(full) // the library counts the start of a span in
		}
	}
	good := false
	switch kind {
	case "present":
		good = matched
	case "ent": // NSEC has no record of its own for an empty non-terminal
		good = matched != (denial == NSEC) && covered == (denial == NSEC)
	case "nods":
		good = matched != (denial == OptOut)
		if denial == OptOut {
			good = covered && !matched
		}
	case "absent", "next":
		good = covered && !matched
	}
	if !good {
		t.Errorf("%s: matched %v, covered %v\n%s", claim, matched, covered, m)
	}
}

func TestReferralHasGlueAndDS(t *testing.T) {
	l := started(t, func(l *Lab) { l.Zone("top", Signing{}) })
	m := l.Root().ask(t, "tcp", "anything.top", dns.TypeA)
	if m.Authoritative || len(m.Answer) != 0 || len(only(m.Ns, dns.TypeDS)) != 1 || len(only(m.Extra, dns.TypeA)) != 1 {
		t.Errorf("not a referral with DS and glue:\n%s", m)
	}
	if ds := only(m.Ns, dns.TypeDS)[0].(*dns.DS); ds.Digest != l.zones[1].DS().Digest {
		t.Errorf("another DS: %s", ds)
	}
}

func TestTruncation(t *testing.T) {
	l := started(t, func(l *Lab) {
		z := l.Zone("big", Signing{})
		for i := range 60 {
			z.Add(fmt.Sprintf("@ TXT %d-%s", i, strings.Repeat("x", 50)))
		}
	})
	z := l.zones[1]
	if m := z.ask(t, "udp", "big", dns.TypeTXT); !m.Truncated || len(m.Answer) != 0 || m.IsEdns0() == nil {
		t.Errorf("not truncated:\n%s", m)
	}
	if m := z.ask(t, "tcp", "big", dns.TypeTXT); m.Truncated || len(m.Answer) != 61 {
		t.Errorf("not whole: %d records", len(m.Answer))
	}
}

func TestReplaceSignsAnew(t *testing.T) {
	l := started(t, func(l *Lab) { l.Zone("z", Signing{}).Add("@ MX 10 one") })
	z := l.zones[1]
	z.Replace("@ MX 20 two", "_{port}._tcp.two TLSA 3 1 1 aa")
	m := z.ask(t, "udp", "z", dns.TypeMX)
	verifyAll(t, z, m)
	if mx := only(m.Answer, dns.TypeMX); len(mx) != 1 || mx[0].(*dns.MX).Mx != "two.z." {
		t.Errorf("still the old records:\n%s", m)
	}
	owner := fmt.Sprintf("_%d._tcp.two.z.", l.SMTPPort())
	if m := z.ask(t, "udp", owner, dns.TypeTLSA); len(only(m.Answer, dns.TypeTLSA)) != 1 {
		t.Errorf("{port} not expanded:\n%s", m)
	}
	if n := z.Asked(owner, dns.TypeTLSA); n != 1 {
		t.Errorf("counted %d queries", n)
	}
}

func TestForgers(t *testing.T) {
	l := started(t, func(l *Lab) {
		l.Zone("keep", Signing{}).Add("@ MX 10 mx").Wrap(Forge(true, "keep. 60 IN MX 1 evil."))
		l.Zone("drop", Signing{}).Add("@ MX 10 mx").Wrap(StripSignatures).Wrap(Forge(false, "drop. 60 IN MX 1 evil."))
		l.Zone("fail", Signing{}).Wrap(Fail(dns.RcodeServerFailure, dns.TypeMX))
	})
	for i, sigs := range []int{1, 0} {
		z := l.zones[i+1]
		m := z.ask(t, "udp", z.name, dns.TypeMX)
		if mx := only(m.Answer, dns.TypeMX); len(mx) != 1 || mx[0].(*dns.MX).Mx != "evil." {
			t.Errorf("not forged:\n%s", m)
		}
		if n := len(only(m.Answer, dns.TypeRRSIG)); n != sigs {
			t.Errorf("%s: %d signatures, want %d", z.name, n, sigs)
		}
	}
	if m := l.zones[3].ask(t, "udp", "fail", dns.TypeMX); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("did not fail:\n%s", m)
	}
	if m := l.zones[3].ask(t, "udp", "fail", dns.TypeSOA); m.Rcode != 0 {
		t.Errorf("failed for SOA too:\n%s", m)
	}
}

func TestMisusePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"bad record":     func() { New(Options{}).Zone("z", Signing{}).Add("@ MX ten mx") },
		"declared twice": func() { l := New(Options{}); l.Zone("z", Signing{}); l.Zone("Z.", Signing{}) },
		"outside": func() {
			l := New(Options{})
			l.Zone("z", Signing{}).Add("elsewhere. A 127.0.0.1")
			if l.Start() == nil {
				l.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}
