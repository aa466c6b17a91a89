package deliver

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestWithoutIPv6: a host without IPv6 asks for AAAA only where the A records
// alone do not settle both the addresses and where TLSA records are.
func TestWithoutIPv6(t *testing.T) {
	for _, c := range []struct {
		name, a, aaaa string
		asked         bool
	}{
		{"proved addresses are enough", "secure 192.0.2.1", "secure 2001:db8::1", false},
		{"unsigned ones are not", "insecure 192.0.2.1", "insecure 2001:db8::1", true},
		{"nor proof that there are none", "secure nodata", "secure 2001:db8::1", true},
		{"nor forged ones", "bogus 192.0.2.1", "secure 2001:db8::1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := []string{"good.example MX secure 10 mx.good.example", "mx.good.example A " + c.a, "mx.good.example AAAA " + c.aaaa,
				"_25._tcp.mx.good.example TLSA secure 3 1 1 " + strings.Repeat("ab", 32)}
			plan := func(six bool) (hostPlan, bool) {
				dns := newDNS(t, strings.Join(facts, "\n"))
				d := New(Config{Hostname: "client.example", IPv6: func() bool { return six }}, dns)
				defer d.Close()
				r := d.findRoute(context.Background(), d.cfg.hopFor("good.example"))
				p := d.findPlan(context.Background(), &r, d.findGroup(context.Background(), &r, 0)[0])
				return p, slices.Contains(dns.asked, "mx.good.example AAAA")
			}
			with, _ := plan(true)
			without, asked := plan(false)
			if asked != c.asked {
				t.Errorf("AAAA asked: %v", asked)
			}
			if with.level != without.level || with.base != without.base || (with.problem == nil) != (without.problem == nil) {
				t.Errorf("another plan without IPv6: level %s base %q, with it level %s base %q", without.level, without.base, with.level, with.base)
			}
		})
	}
}
