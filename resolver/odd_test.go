package resolver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// A server that says NXDOMAIN to all types but A must not lose the name for A:
// not while nothing proves it.
func TestNXDOMAINForOneType(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "example.", servers: "192.0.2.2", unsigned: true, records: "mx A 192.0.2.80\n"},
	)
	n.tamper = func(_ netip.Addr, _ Exchange, q, r *dns.Msg) *dns.Msg {
		if q.Question[0].Qtype == TypeAAAA {
			r = copyMsg(r)
			r.Rcode = dns.RcodeNameError
		}
		return r
	}
	r := n.resolver(nil)
	if a := r.Lookup(t.Context(), "mx.example.", TypeAAAA); a.Rcode != rcodeNXDomain {
		t.Errorf("AAAA: %s", summary(a))
	}
	if a := r.Lookup(t.Context(), "mx.example.", TypeA); summary(a) != "insecure NOERROR 192.0.2.80" {
		t.Errorf("A: %s (%s)", summary(a), a.Text)
	}
}

// What stands under an unsigned delegation is Insecure, also when its
// signatures name a zone further up, which is signed.
func TestSignerAboveInsecure(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "plain.", servers: "192.0.2.2", unsigned: true},
		zoneSpec{name: "island.plain.", servers: "192.0.2.3", records: "mx A 192.0.2.80\n"},
	)
	n.tamper = func(_ netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
		r = copyMsg(r)
		for _, rr := range r.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok && sig.SignerName == "island.plain." {
				sig.SignerName = "."
			}
		}
		return r
	}
	if a := n.resolver(nil).Lookup(t.Context(), "mx.island.plain.", TypeA); a.Status != dnssec.Insecure {
		t.Errorf("%s (%s)", summary(a), a.Text)
	}
}
