package resolver

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A zone that got another key while the old one and its DS were still in the cache
// is Bogus no longer than that verdict is kept, and not until their TTLs are over.
func TestZoneRenewed(t *testing.T) {
	spec := zoneSpec{name: "example.", servers: "192.0.2.2", records: "www A 192.0.2.80\nmx A 192.0.2.81\n"}
	for what, renew := range map[string]func(n *internet){
		"another key": func(n *internet) {
			root := n.zones["."]
			delete(root.rrs[spec.name], dns.TypeDS)
			n.add(spec)
			n.zones[spec.name].finish(t)
			n.delegate(n.zones[spec.name])
			root.sigs[spec.name][dns.TypeDS] = []dns.RR{root.sign(t, root.rrs[spec.name][dns.TypeDS])}
		},
		"part of its parent": func(n *internet) {
			root, z := n.zones["."], n.zones[spec.name]
			delete(root.rrs, spec.name)
			for owner, sets := range z.rrs {
				delete(sets, dns.TypeDNSKEY)
				delete(sets, dns.TypeNS)
				root.rrs[owner] = sets
			}
			for _, sets := range root.rrs {
				delete(sets, dns.TypeNSEC)
			}
			root.names = nil
			root.finish(t)
			root.servers = append(root.servers, z.servers...)
			delete(n.zones, spec.name)
		},
	} {
		n := newInternet(t, zoneSpec{name: ".", servers: "192.0.2.1"}, spec)
		now := testNow
		r := n.resolver(func(c *Config) { c.Now = func() time.Time { return now } })
		for i, step := range []struct {
			after time.Duration
			name  string
			want  string
		}{
			{0, "www.example.", "secure NOERROR 192.0.2.80"},
			{2 * time.Minute, "mx.example.", "bogus SERVFAIL"},
			{61 * time.Second, "mx.example.", "secure NOERROR 192.0.2.81"},
		} {
			now = now.Add(step.after)
			if i == 1 {
				renew(n)
			}
			if a := r.Lookup(t.Context(), step.name, TypeA); summary(a) != step.want {
				t.Errorf("%s, step %d: %s (%s), want %s", what, i, summary(a), a.Text, step.want)
			}
		}
	}
}
