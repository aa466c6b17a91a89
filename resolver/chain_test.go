package resolver

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// Zones signed in the ways that occur on mail domains.
func TestKeys(t *testing.T) {
	const mail = "@ MX 10 mx\nmx A 192.0.2.80\n_25._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123\n"
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1", twoKeys: true},
		zoneSpec{name: "ed25519.", servers: "192.0.2.2", alg: dns.ED25519, records: mail},
		zoneSpec{name: "p384.", servers: "192.0.2.3", alg: dns.ECDSAP384SHA384, records: mail},
		zoneSpec{name: "rsa.", servers: "192.0.2.4", alg: dns.RSASHA256, records: mail},
		zoneSpec{name: "split.", servers: "192.0.2.5", twoKeys: true, records: mail},
		zoneSpec{name: "rolling.", servers: "192.0.2.6", strayDS: true, records: mail},
		zoneSpec{name: "wild.", servers: "192.0.2.7", records: "*._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123\n" + mail},
	)
	for _, zone := range []string{"ed25519.", "p384.", "rsa.", "split.", "rolling."} {
		r := n.resolver(nil)
		for _, q := range []struct {
			name  string
			qtype uint16
			want  string
		}{
			{zone, TypeMX, "secure NOERROR mx." + zone},
			{"_25._tcp.mx." + zone, TypeTLSA, "secure NOERROR 1 record"},
			{"_26._tcp.mx." + zone, TypeTLSA, "secure NXDOMAIN"},
		} {
			if a := r.Lookup(context.Background(), q.name, q.qtype); summary(a) != q.want {
				t.Errorf("%s %d: %s (%s)", q.name, q.qtype, summary(a), a.Text)
			}
		}
	}
	r := n.resolver(nil)
	if a := r.Lookup(context.Background(), "_2525._tcp.mx.wild.", TypeTLSA); summary(a) != "secure NOERROR 1 record" {
		t.Errorf("wildcard TLSA: %s (%s)", summary(a), a.Text)
	}
}

// Denial by NSEC3, which most large mail domains use: of TLSA records too.
func TestNSEC3(t *testing.T) {
	const mail = "@ MX 10 mx\nmx A 192.0.2.80\n_25._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123\n*.wild MX 5 mx\n"
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "example.", servers: "192.0.2.2", nsec3: &nsec3Spec{optOut: true}},
		zoneSpec{name: "plain.example.", servers: "192.0.2.3", unsigned: true, records: mail},
		zoneSpec{name: "hashed.example.", servers: "192.0.2.4", nsec3: &nsec3Spec{iterations: 5}, records: mail},
		zoneSpec{name: "costly.example.", servers: "192.0.2.5", nsec3: &nsec3Spec{iterations: 51}, records: mail},
	)
	for _, tt := range []struct{ name, qtype, want string }{
		{"_25._tcp.mx.hashed.example.", "TLSA", "secure NOERROR 1 record"},
		{"_26._tcp.mx.hashed.example.", "TLSA", "secure NXDOMAIN"},
		{"_25._tcp.mx.hashed.example.", "A", "secure NOERROR"},
		{"_tcp.mx.hashed.example.", "TLSA", "secure NOERROR"},
		{"a.b.wild.hashed.example.", "MX", "secure NOERROR mx.hashed.example."},
		{"mx.plain.example.", "A", "insecure NOERROR 192.0.2.80"},
		{"nosuch.example.", "A", "insecure NXDOMAIN"}, // the span is one of opt-out
		{"mx.costly.example.", "A", "secure NOERROR 192.0.2.80"},
		{"_26._tcp.mx.costly.example.", "TLSA", "insecure NXDOMAIN"}, // RFC 9276 §3.2
	} {
		r := n.resolver(nil)
		if a := r.Lookup(context.Background(), tt.name, dns.StringToType[tt.qtype]); summary(a) != tt.want {
			t.Errorf("%s %s: %s, want %s (%s)", tt.name, tt.qtype, summary(a), tt.want, a.Text)
		}
	}
	lim := DefaultLimits()
	lim.NSEC3Hashes = 2
	r := n.resolver(func(c *Config) { c.Limits = &lim })
	if a := r.Lookup(context.Background(), "a.b.c.d.hashed.example.", TypeA); a.Status != dnssec.Indeterminate || a.Reason != dnssec.ReasonLimitNSEC3Hashes {
		t.Errorf("past the limit: %s %s", summary(a), a.Reason)
	}
	// Without its own signature an NSEC3 with many iterations does not make the answer Insecure.
	n.tamper = func(_ netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
		r = copyMsg(r)
		for _, rr := range r.Ns {
			if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == dns.TypeNSEC3 && sig.SignerName == "costly.example." {
				sig.Signature = sig.Signature[:8] + "AAAA" + sig.Signature[12:]
			}
		}
		return r
	}
	if a := n.resolver(nil).Lookup(context.Background(), "_26._tcp.mx.costly.example.", TypeTLSA); a.Status != dnssec.Bogus {
		t.Errorf("forged iterations: %s (%s)", summary(a), a.Text)
	}
}

// A record that bears a signature of its zone and does not fit it is forged,
// even where the zone's NSEC3 records would allow an unsigned delegation.
func TestForgedUnderWeakNSEC3(t *testing.T) {
	const records = "mx A 192.0.2.80\n*.wild A 192.0.2.81\n"
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "optout.", servers: "192.0.2.2", nsec3: &nsec3Spec{optOut: true}, records: records},
		zoneSpec{name: "costly.", servers: "192.0.2.3", nsec3: &nsec3Spec{iterations: 51}, records: records},
	)
	n.tamper = func(_ netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
		r = copyMsg(r)
		for i, rr := range r.Answer {
			if a, ok := rr.(*dns.A); ok {
				forged := *a
				forged.A = []byte{203, 0, 113, 1}
				r.Answer[i] = &forged
			}
		}
		return r
	}
	for _, name := range []string{"a.wild.optout.", "mx.costly.", "a.wild.costly."} {
		if a := n.resolver(nil).Lookup(t.Context(), name, TypeA); a.Status != dnssec.Bogus {
			t.Errorf("%s: %s (%s)", name, summary(a), a.Text)
		}
	}
}

// A DNAME over the mail part of a domain: each step has a status of its own.
func TestDNAMEOverMX(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "old.", servers: "192.0.2.2", records: "@ DNAME new.\n"},
		zoneSpec{name: "new.", servers: "192.0.2.3", records: "dept MX 10 mx\nmx A 192.0.2.80\n"},
		zoneSpec{name: "plain.", servers: "192.0.2.4", unsigned: true, records: "@ DNAME new.\n"},
	)
	r := n.resolver(nil)
	a := r.Lookup(context.Background(), "dept.old.", TypeMX)
	if summary(a) != "secure NOERROR mx.new. via new.:secure" || a.Links[0].Type != TypeDNAME || a.Final != mustName("dept.new.") {
		t.Errorf("%s %+v", summary(a), a.Links)
	}
	n.drain()
	if a := r.Lookup(context.Background(), "other.old.", TypeMX); a.Status != dnssec.Secure || a.Rcode != rcodeNXDomain {
		t.Errorf("from the DNAME in the cache: %s", summary(a))
	}
	if q := n.drain(); len(q) != 1 || !strings.Contains(q[0], "other.new.") {
		t.Errorf("a cached DNAME was asked for again: %q", q)
	}
	if a := r.Lookup(context.Background(), "dept.plain.", TypeMX); summary(a) != "insecure NOERROR mx.new. via new.:insecure" || a.FinalStatus != dnssec.Secure {
		t.Errorf("%s, final %v", summary(a), a.FinalStatus)
	}
}

// An attacker strips, swaps and forges along the chain. Never is the result Secure, nor Insecure
// where the zone is signed.
func TestForgedChains(t *testing.T) {
	child := netip.MustParseAddr("192.0.2.21")
	for what, forge := range map[string]func(server netip.Addr, q, r *dns.Msg) *dns.Msg{
		"no DS": func(_ netip.Addr, q, r *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeDS {
				r = empty(r, 0)
			}
			r.Ns = unsigned(r.Ns)
			return r
		},
		"no signatures at all": func(_ netip.Addr, _, r *dns.Msg) *dns.Msg {
			r.Answer, r.Ns = unsigned(r.Answer), unsigned(r.Ns)
			return r
		},
		"no DNSKEY": func(_ netip.Addr, q, r *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeDNSKEY && q.Question[0].Name != "." {
				return empty(r, 0)
			}
			return r
		},
		"data of another name": func(server netip.Addr, _, r *dns.Msg) *dns.Msg {
			if server == child || server == broken {
				for _, rr := range r.Answer {
					if sig, ok := rr.(*dns.RRSIG); ok {
						sig.SignerName = "example."
					}
				}
			}
			return r
		},
		"signer below": func(server netip.Addr, _, r *dns.Msg) *dns.Msg {
			for _, rr := range r.Answer {
				if sig, ok := rr.(*dns.RRSIG); ok && rr.Header().Name == "mx.signed.example." {
					sig.SignerName = "mx.signed.example."
				}
			}
			return r
		},
	} {
		t.Run(what, func(t *testing.T) {
			n := small(t)
			n.tamper = func(server netip.Addr, _ Exchange, q, r *dns.Msg) *dns.Msg {
				if server == netip.MustParseAddr("192.0.2.1") || server == netip.MustParseAddr("192.0.2.2") {
					return r
				}
				return forge(server, q, copyMsg(r))
			}
			a := n.resolver(nil).Lookup(context.Background(), "mx.signed.example.", TypeA)
			if a.Status == dnssec.Secure || a.Status == dnssec.Insecure || a.Rcode != rcodeServFail {
				t.Errorf("%s: %s", summary(a), a.Text)
			}
		})
	}
}

// A referral without DS or denial proves nothing: the DS is asked for.
func TestBareReferral(t *testing.T) {
	n := small(t)
	n.tamper = func(_ netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
		r = copyMsg(r)
		r.Ns = unsigned(r.Ns)
		return r
	}
	if a := n.resolver(nil).Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
		t.Errorf("%s: %s", summary(a), a.Text)
	}
}

// copyMsg copies the records too, so that a change does not stay in the zone.
func copyMsg(m *dns.Msg) *dns.Msg {
	if m == nil {
		return nil
	}
	return m.Copy()
}

// An island of trust: what stands above the anchor can prove nothing about it.
func TestIsland(t *testing.T) {
	n := small(t)
	n.zones["signed.example."].key.Hdr.Name = "signed.example."
	r := n.resolver(func(c *Config) {
		c.Anchors = func() []dnssec.Anchor {
			key := make([]byte, 0, 128)
			msg := make([]byte, 512)
			off, err := dns.PackRR(n.zones["signed.example."].key, msg, 0, nil, false)
			if err != nil {
				t.Fatal(err)
			}
			key = append(key, msg[len("signed.example.")+1+10:off]...)
			return []dnssec.Anchor{{Zone: mustName("signed.example."), Key: key}}
		}
	})
	if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
		t.Errorf("in the island: %s (%s)", summary(a), a.Text)
	}
	if a := r.Lookup(context.Background(), "example.", 6); a.Status != dnssec.Insecure {
		t.Errorf("beside it: %s", summary(a))
	}
	n.tamper = func(_ netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
		r = empty(r, dns.RcodeNameError) // the parent says that there is no such domain
		r.Authoritative = true
		r.Ns = []dns.RR{mustRR("example. 900 SOA a. b. 1 2 3 4 900")}
		return r
	}
	if a := r.Lookup(context.Background(), "new.signed.example.", TypeA); a.Status == dnssec.Insecure || a.Rcode != rcodeServFail {
		t.Errorf("denied from above: %s (%s)", summary(a), a.Text)
	}
}

// When a trust anchor goes, what it proved goes with it.
func TestAnchorsChange(t *testing.T) {
	n := small(t)
	anchors := n.config().Anchors()
	r := n.resolver(func(c *Config) { c.Anchors = func() []dnssec.Anchor { return anchors } })
	if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
		t.Fatalf("%s: %s", summary(a), a.Text)
	}
	ds := *anchors[0].DS
	ds.Digest = make([]byte, len(ds.Digest))
	anchors = []dnssec.Anchor{{Zone: dnssec.Root, DS: &ds}}
	if a := r.Lookup(context.Background(), "www.signed.example.", TypeA); a.Status != dnssec.Bogus {
		t.Errorf("by an anchor that fits nothing: %s", summary(a))
	}
	if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Bogus {
		t.Errorf("from the cache: %s", summary(a))
	}
}

// The chain of trust is there for people.
func TestChain(t *testing.T) {
	n := small(t)
	r := n.resolver(nil)
	a := r.Lookup(context.Background(), "mx.signed.example.", TypeA)
	var zones []string
	for _, z := range a.Chain {
		if len(z.DS) == 0 || len(z.Keys) == 0 || z.Status != dnssec.Secure {
			t.Errorf("%+v", z)
		}
		zones = append(zones, z.Zone.String())
	}
	if got := strings.Join(zones, " "); got != ". example. signed.example." {
		t.Errorf("chain %s", got)
	}
	a = r.Lookup(context.Background(), "unsigned.example.", TypeMX)
	last := a.Chain[len(a.Chain)-1]
	if last.Zone != mustName("unsigned.example.") || last.Status != dnssec.Insecure || last.Reason == "" {
		t.Errorf("%+v", last)
	}
}
