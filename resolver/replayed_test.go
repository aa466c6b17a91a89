package resolver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// Whoever is on the path has every record that a zone ever signed, and may send
// it in the place of any other. An existing TLSA RRset must not come out
// Insecure or absent by that, however its zone denies names.
func TestReplayedDenial(t *testing.T) {
	const records = "mx A 192.0.2.80\n_25._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123\n"
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1", nsec3: &nsec3Spec{iterations: 100, optOut: true}},
		zoneSpec{name: "listed.", servers: "192.0.2.2", records: records},
		zoneSpec{name: "hashed.", servers: "192.0.2.3", nsec3: &nsec3Spec{}, records: records},
		zoneSpec{name: "optout.", servers: "192.0.2.4", nsec3: &nsec3Spec{optOut: true}, records: records},
		zoneSpec{name: "costly.", servers: "192.0.2.5", nsec3: &nsec3Spec{iterations: 51}, records: records},
		zoneSpec{name: "costlier.", servers: "192.0.2.6", nsec3: &nsec3Spec{iterations: 2500, optOut: true}, records: records},
	)
	// said is what a server answers to another question.
	said := func(server netip.Addr, q *dns.Msg, name string, qtype uint16) *dns.Msg {
		other := copyMsg(q)
		other.Question[0].Name, other.Question[0].Qtype = name, qtype
		r := n.serve(server, other)
		r.Question = q.Question
		return r
	}
	root := netip.MustParseAddr("192.0.2.1")
	zone := ""
	for what, tamper := range map[string]func(server netip.Addr, q, r *dns.Msg) *dns.Msg{
		"another name's NXDOMAIN": func(server netip.Addr, q, r *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeTLSA {
				return said(server, q, "_99._tcp.mx."+zone, dns.TypeTLSA)
			}
			return r
		},
		"another name's NODATA": func(server netip.Addr, q, r *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeTLSA {
				return said(server, q, "_tcp.mx."+zone, dns.TypeTLSA)
			}
			return r
		},
		"forged, with a DS denied that nobody has": func(server netip.Addr, q, r *dns.Msg) *dns.Msg {
			switch {
			case q.Question[0].Qtype == dns.TypeDS && server != root:
				return said(server, q, "nosuch."+zone, dns.TypeDS)
			case q.Question[0].Qtype == dns.TypeTLSA && len(r.Answer) > 0:
				r.Answer = unsigned(r.Answer)
				r.Answer[0].(*dns.TLSA).Certificate = strings.Repeat("ff", 32)
			}
			return r
		},
		"the zone's DS denied": func(server netip.Addr, q, r *dns.Msg) *dns.Msg {
			if server == root && len(r.Ns) > 0 && r.Ns[0].Header().Name == zone || q.Question[0].Qtype == dns.TypeDS {
				r.Answer, r.Ns = nil, append(r.Ns[:min(1, len(r.Ns))], said(root, q, "nosuch.", dns.TypeDS).Ns...)
			} else {
				r.Answer, r.Ns = unsigned(r.Answer), unsigned(r.Ns)
			}
			return r
		},
	} {
		for _, zone = range []string{"listed.", "hashed.", "optout.", "costly.", "costlier."} {
			n.tamper = nil
			if a := n.resolver(nil).Lookup(t.Context(), "_25._tcp.mx."+zone, TypeTLSA); summary(a) != "secure NOERROR 1 record" {
				t.Errorf("%s untouched: %s (%s)", zone, summary(a), a.Text)
			}
			n.tamper = func(server netip.Addr, _ Exchange, q, r *dns.Msg) *dns.Msg {
				if q.Question[0].Qtype == dns.TypeDNSKEY {
					return r
				}
				return tamper(server, q, copyMsg(r))
			}
			a := n.resolver(nil).Lookup(t.Context(), "_25._tcp.mx."+zone, TypeTLSA)
			if a.Status != dnssec.Bogus && a.Status != dnssec.Indeterminate {
				t.Errorf("%s, %s: %s (%s)", zone, what, summary(a), a.Text)
			}
		}
	}
}

// What a zone once signed for a name is void after it delegated that name: data
// of the zone below must bear its signature, or none where it is unsigned.
func TestSignedFromAbove(t *testing.T) {
	n := small(t)
	above := n.zones["example."]
	n.tamper = func(server netip.Addr, _ Exchange, q, r *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype != dns.TypeA || len(r.Answer) == 0 || server == netip.MustParseAddr("192.0.2.11") {
			return r
		}
		r = copyMsg(r)
		r.Answer = unsigned(r.Answer)
		r.Answer = append(r.Answer, above.sign(t, r.Answer))
		return r
	}
	for name, want := range map[string]dnssec.Status{
		"mx.signed.example.":     dnssec.Bogus,
		"mail.unsigned.example.": dnssec.Insecure,
	} {
		if a := n.resolver(nil).Lookup(t.Context(), name, TypeA); a.Status != want {
			t.Errorf("%s: %s (%s), want %v", name, summary(a), a.Text, want)
		}
	}
}
