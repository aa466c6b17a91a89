package resolver

import (
	"strings"
	"testing"
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
