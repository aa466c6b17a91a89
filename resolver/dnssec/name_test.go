package dnssec

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		".":                       "\x00",
		"example":                 "\x07example\x00",
		"Example.COM.":            "\x07example\x03com\x00",
		`a\.b.c`:                  "\x03a.b\x01c\x00",
		`a\046b.c`:                "\x03a.b\x01c\x00",
		`\000.c`:                  "\x01\x00\x01c\x00",
		`\065`:                    "\x01a\x00",
		"_25._tcp.mx.example.":    "\x03_25\x04_tcp\x02mx\x07example\x00",
		strings.Repeat("a.", 127): strings.Repeat("\x01a", 127) + "\x00",
		long:                      "\x3f" + long + "\x00",
	} {
		got, err := ParseName(in)
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
		if back, err := ParseName(got.String()); err != nil || back != got {
			t.Errorf("%q: %s does not read back: %v", in, got, err)
		}
	}
	for _, in := range []string{"", "..", ".a", "a..b", "a..", `a\`, `a\1`, `a\25x`, `a\256`, long + "a",
		strings.Repeat("a.", 128), strings.Repeat(long+".", 4)} {
		if got, err := ParseName(in); err == nil {
			t.Errorf("%q is no name, got %q", in, got)
		}
	}
}

func TestNameParts(t *testing.T) {
	n := name(t, "a.b.example.")
	if n.Parent() != name(t, "b.example.") || Root.Parent() != Root || n.Labels() != 3 || Root.Labels() != 0 {
		t.Error("Parent, Labels")
	}
	if n.Ancestor(1) != name(t, "example.") || n.Ancestor(0) != Root || n.Ancestor(9) != n {
		t.Error("Ancestor")
	}
	if n.Wildcard() != name(t, "*.a.b.example.") || !n.Wildcard().IsWildcard() || n.IsWildcard() || n.Prepend("X") != name(t, "x.a.b.example.") {
		t.Error("Wildcard, Prepend")
	}
	longest := name(t, strings.Repeat("a.", 127))
	if longest.Wildcard() != "" || n.Prepend("") != "" || n.Prepend(strings.Repeat("a", 64)) != "" {
		t.Error("a name with no room got a child")
	}
	for _, tt := range []struct {
		a, b   string
		sub    bool
		common string
	}{
		{"a.b.example.", "example.", true, "example."},
		{"a.b.example.", ".", true, "."},
		{"example.", "a.example.", false, "example."},
		{"xexample.", "example.", false, "."},
		{"a.example.", "b.example.", false, "example."},
		{"example.", "example.", true, "example."},
		{`a\007example.`, "example.", false, "."}, // the octets end alike, the labels do not
	} {
		a, b := name(t, tt.a), name(t, tt.b)
		if a.IsSubdomainOf(b) != tt.sub || a.IsBelow(b) != (tt.sub && a != b) {
			t.Errorf("%s below %s: %v", a, b, !tt.sub)
		}
		if got := a.CommonAncestor(b); got != name(t, tt.common) || got != b.CommonAncestor(a) {
			t.Errorf("%s and %s have %s in common", a, b, got)
		}
	}
}

func TestNameCompare(t *testing.T) {
	// The example of RFC 4034 §6.1, and the ends of the range.
	order := []string{".", "example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.",
		"z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`}
	for i, a := range order {
		for j, b := range order {
			if got := name(t, a).Compare(name(t, b)); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
}

func TestReadName(t *testing.T) {
	for _, bad := range []string{"", "\x01", "\x01a", "\xc0\x0c", "\x40" + strings.Repeat("a", 64) + "\x00",
		strings.Repeat("\x01a", 128) + "\x00"} {
		if n, _, err := ReadName([]byte(bad)); err == nil {
			t.Errorf("%q read as %s", bad, n)
		}
		if Name(bad).Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
	n, used, err := ReadName([]byte("\x03CoM\x00rest"))
	if n != name(t, "com.") || used != 5 || err != nil {
		t.Errorf("%s %d %v", n, used, err)
	}
}

// FuzzName feeds arbitrary strings to every method: none may panic, and names
// that are valid must agree with another implementation.
func FuzzName(f *testing.F) {
	f.Add("\x01a\x07example\x00", "\x07example\x00")
	f.Add("\x01*\x00", "\x3f")
	f.Add("\xff", strings.Repeat("\x00", 300))
	f.Fuzz(func(t *testing.T, a, b string) {
		n, m := Name(a), Name(b)
		_, _, _, _ = n.String(), n.Parent(), n.Labels(), n.IsWildcard()
		_, _, _ = n.Ancestor(2), n.Wildcard(), n.Prepend(b)
		_, _, _ = n.Compare(m), n.CommonAncestor(m), n.IsSubdomainOf(m)
		_, _ = ParseName(a)
		if !n.Valid() || !m.Valid() {
			return
		}
		n, m = n.Lower(), m.Lower()
		if back, err := ParseName(n.String()); err != nil || back != n {
			t.Errorf("%s does not read back: %q %v", n, back, err)
		}
		if sign(n.Compare(m)) != -sign(m.Compare(n)) || (n.Compare(m) == 0) != (n == m) {
			t.Errorf("%s and %s: no order", n, m)
		}
		if n.IsSubdomainOf(m) != (n.CommonAncestor(m) == m) {
			t.Errorf("%s and %s: ancestry", n, m)
		}
		if n.IsSubdomainOf(m) != dns.IsSubDomain(m.String(), n.String()) {
			t.Errorf("%s in %s: not as elsewhere", n, m)
		}
		if n.Labels() != dns.CountLabel(n.String()) {
			t.Errorf("%s: %d labels", n, n.Labels())
		}
		if got, want := sign(n.Compare(m)), slowCompare(n, m); got != want {
			t.Errorf("%s against %s: %d, want %d", n, m, got, want)
		}
	})
}

func sign(i int) int {
	return min(max(i, -1), 1)
}

// slowCompare is RFC 4034 §6.1 as it reads.
func slowCompare(n, m Name) int {
	labels := func(n Name) []string {
		var out []string
		for n != Root {
			out = append(out, string(n[1:1+int(n[0])]))
			n = n.Parent()
		}
		slices.Reverse(out)
		return out
	}
	return slices.Compare(labels(n), labels(m))
}
