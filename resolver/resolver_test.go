package resolver

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// small is the internet most tests live in.
func small(t testing.TB) *internet {
	return newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1 192.0.2.2"},
		zoneSpec{name: "example.", servers: "192.0.2.11"},
		zoneSpec{name: "signed.example.", servers: "192.0.2.21 192.0.2.22", records: `
@ MX 10 mx
mx A 192.0.2.80
www CNAME mx
away CNAME mail.unsigned.example.
chain CNAME www
_25._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123
*.wild A 192.0.2.81
deep.down.here TXT "deep"
`},
		zoneSpec{name: "unsigned.example.", servers: "192.0.2.31", unsigned: true, records: `
@ MX 10 mail
mail A 192.0.2.82
back CNAME mx.signed.example.
`},
		zoneSpec{name: "bogus.example.", servers: "192.0.2.41", records: "@ MX 10 mx\nmx A 192.0.2.83\n"},
		zoneSpec{name: "both.example.", servers: "192.0.2.51", records: "@ A 192.0.2.84\n"},
		zoneSpec{name: "child.both.example.", servers: "192.0.2.51", records: "@ A 192.0.2.85\nmx A 192.0.2.86\n"},
		zoneSpec{name: "bare.both.example.", servers: "192.0.2.51", unsigned: true, records: "@ A 192.0.2.87\nmx A 192.0.2.88\n"},
	)
}

func TestLookup(t *testing.T) {
	n := small(t)
	n.tamper = func(server netip.Addr, x Exchange, q, reply *dns.Msg) *dns.Msg {
		if server == netip.MustParseAddr("192.0.2.41") {
			for _, rr := range reply.Answer {
				if mx, ok := rr.(*dns.MX); ok {
					c := *mx
					c.Mx = "evil.example."
					reply.Answer[0] = &c
				}
			}
		}
		return reply
	}
	for _, tt := range []struct {
		name, qtype, want string // status, rcode, data
	}{
		{"signed.example.", "MX", "secure NOERROR mx.signed.example."},
		{"mx.signed.example.", "A", "secure NOERROR 192.0.2.80"},
		{"mx.signed.example.", "AAAA", "secure NOERROR"},
		{"nothing.signed.example.", "A", "secure NXDOMAIN"},
		{"_25._tcp.mx.signed.example.", "TLSA", "secure NOERROR 1 record"},
		{"_26._tcp.mx.signed.example.", "TLSA", "secure NXDOMAIN"},
		{"down.here.signed.example.", "TXT", "secure NOERROR"},
		{"www.signed.example.", "A", "secure NOERROR 192.0.2.80 via mx.signed.example.:secure"},
		{"chain.signed.example.", "A", "secure NOERROR 192.0.2.80 via www.signed.example.:secure mx.signed.example.:secure"},
		{"away.signed.example.", "A", "insecure NOERROR 192.0.2.82 via mail.unsigned.example.:secure"},
		{"a.b.wild.signed.example.", "A", "secure NOERROR 192.0.2.81"},
		{"a.wild.signed.example.", "MX", "secure NOERROR"},
		{"unsigned.example.", "MX", "insecure NOERROR mail.unsigned.example."},
		{"none.unsigned.example.", "MX", "insecure NXDOMAIN"},
		{"back.unsigned.example.", "A", "insecure NOERROR 192.0.2.80 via mx.signed.example.:insecure"},
		{"bogus.example.", "MX", "bogus SERVFAIL"},
		{"mx.bogus.example.", "A", "secure NOERROR 192.0.2.83"},
		{"mx.child.both.example.", "A", "secure NOERROR 192.0.2.86"},
		{"mx.bare.both.example.", "A", "insecure NOERROR 192.0.2.88"},
		{"both.example.", "A", "secure NOERROR 192.0.2.84"},
		{"signed.example.", "DS", "secure NOERROR 1 record"},
		{"unsigned.example.", "DS", "secure NOERROR"},
		{"nosuch.example.", "A", "secure NXDOMAIN"},
		{"nosuchtld.", "A", "secure NXDOMAIN"},
		{"localhost.", "A", "insecure NOERROR 127.0.0.1"},
		{"192.0.2.1", "A", "insecure NXDOMAIN"},
	} {
		for _, minimise := range []bool{true, false} {
			t.Run(tt.name+tt.qtype, func(t *testing.T) {
				n.drain()
				r := n.resolver(func(c *Config) { c.NoMinimise = !minimise })
				a := r.Lookup(context.Background(), tt.name, dns.StringToType[tt.qtype])
				if got := summary(a); got != tt.want {
					t.Errorf("got  %s\nwant %s\n%s\n%s", got, tt.want, a.Text, strings.Join(n.drain(), "\n"))
				}
				again := r.Lookup(context.Background(), tt.name, dns.StringToType[tt.qtype])
				if summary(again) != tt.want || again.Queries != 0 {
					t.Errorf("second time: %s, %d queries", summary(again), again.Queries)
				}
			})
		}
	}
}

func summary(a *Answer) string {
	out := []string{a.Status.String(), dns.RcodeToString[a.Rcode]}
	for _, ip := range a.Addrs() {
		out = append(out, ip.String())
	}
	for _, mx := range a.MXs() {
		out = append(out, mx.Host.String())
	}
	if a.Type != TypeA && a.Type != TypeAAAA && a.Type != TypeMX && len(a.RRs) > 0 {
		out = append(out, string('0'+rune(len(a.RRs)))+" record")
	}
	for i, l := range a.Links {
		if i == 0 {
			out = append(out, "via")
		}
		out = append(out, l.Target.String()+":"+l.Status.String())
	}
	return strings.Join(out, " ")
}

// TestQueries counts what a cold domain costs once its parent is known.
func TestQueries(t *testing.T) {
	n := small(t)
	r := n.resolver(nil)
	r.Lookup(context.Background(), "unsigned.example.", TypeMX)
	n.drain()
	r.Lookup(context.Background(), "signed.example.", TypeMX)
	r.Lookup(context.Background(), "mx.signed.example.", TypeA)
	r.Lookup(context.Background(), "_25._tcp.mx.signed.example.", TypeTLSA)
	if q := n.drain(); len(q) > 5 {
		t.Errorf("%d queries:\n%s", len(q), strings.Join(q, "\n"))
	}
}
