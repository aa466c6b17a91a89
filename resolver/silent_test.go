package resolver

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// A zone whose delegation brings glue for a server that is dead, and none for
// the one that lives: once that is known, nobody waits for the dead one again.
func TestSilentGlue(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "elsewhere.", servers: "192.0.2.2", records: "ns A 192.0.2.4\n"},
		zoneSpec{name: "example.", servers: "192.0.2.3",
			records: "z NS ns.elsewhere.\nz NS dead.z\ndead.z A 192.0.2.99\n"},
		zoneSpec{name: "z.example.", servers: "192.0.2.4", records: "www A 192.0.2.80\nmx A 192.0.2.81\n"},
	)
	r := n.resolver(nil)
	if a := r.Lookup(t.Context(), "www.z.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.80" {
		t.Fatalf("first look-up: %s (%s)", summary(a), a.Text)
	}
	n.drain()
	if a := r.Lookup(t.Context(), "mx.z.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.81" {
		t.Errorf("second look-up: %s (%s)", summary(a), a.Text)
	}
	for _, q := range n.drain() {
		if strings.HasPrefix(q, "192.0.2.99 ") {
			t.Errorf("the second look-up waited for the dead server: %s", q)
		}
	}
}

// Where all that answers is a box on the path that takes DNSSEC out, and the
// other addresses are silent, that is found out and said at once: the time of
// the look-up is not spent on the silent ones, question after question.
func TestStrippedBesideSilence(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1 192.0.2.2 192.0.2.3"},
		zoneSpec{name: "example.", servers: "192.0.2.4"},
		zoneSpec{name: "z.example.", servers: "192.0.2.5", records: "www A 192.0.2.80\n"},
	)
	n.tamper = func(server netip.Addr, _ Exchange, q, _ *dns.Msg) *dns.Msg {
		if server != netip.MustParseAddr("192.0.2.1") {
			return nil
		}
		return n.recurseStripped(q)
	}
	a := n.resolver(nil).Lookup(t.Context(), "www.z.example.", TypeA)
	if a.Status != dnssec.Bogus || !strings.Contains(a.Text, "has no RRSIG") {
		t.Errorf("%s (%s)", summary(a), a.Text)
	}
	silent := map[string]int{}
	for _, q := range n.drain() {
		if server, _, _ := strings.Cut(q, " "); server != "192.0.2.1" {
			silent[server]++
		}
	}
	for server, n := range silent {
		if n > 2 {
			t.Errorf("%s, which never answers, was asked %d times", server, n)
		}
	}
}

// recurseStripped answers as a recursive server does that knows nothing of DNSSEC.
func (n *internet) recurseStripped(q *dns.Msg) *dns.Msg {
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	var zone *testZone
	for _, z := range n.zones {
		if dns.IsSubDomain(z.name, name) && (zone == nil || dns.CountLabel(z.name) > dns.CountLabel(zone.name)) {
			zone = z
		}
	}
	r := new(dns.Msg).SetReply(q)
	zone.answer(r, name, qtype)
	r.Authoritative, r.RecursionAvailable, r.Extra = false, true, nil
	for _, section := range []*[]dns.RR{&r.Answer, &r.Ns} {
		var kept []dns.RR
		for _, rr := range *section {
			switch rr.Header().Rrtype {
			case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
			default:
				kept = append(kept, rr)
			}
		}
		*section = kept
	}
	return r
}

// What ends because its time is over says what the time was spent on.
func TestTimeOverSaysWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInternet(t,
			zoneSpec{name: ".", servers: "192.0.2.1"},
			zoneSpec{name: "example.", servers: "192.0.2.4 192.0.2.5", records: "www A 192.0.2.80\n"},
		)
		n.tamper = func(server netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
			if server == netip.MustParseAddr("192.0.2.1") {
				return r
			}
			time.Sleep(5 * time.Second)
			return nil
		}
		r := n.resolver(nil)
		defer r.Close()
		a := r.Lookup(t.Context(), "www.example.", TypeA)
		for _, part := range []string{"within the time", "of the servers of example.", "192.0.2.4:53: timed out", "192.0.2.5:53: timed out"} {
			if a.Status != dnssec.Indeterminate || !strings.Contains(a.Text, part) {
				t.Errorf("%s (%s) without %q", summary(a), a.Text, part)
			}
		}
	})
}
