package dnssec

import (
	"encoding/base32"
	"strings"
	"testing"
)

// rfcZone is the zone that RFC 4035 Appendix A and RFC 5155 Appendix A describe.
func rfcZone(t testing.TB) *testZone {
	return signZone(t, "example.", map[string][]uint16{
		"example.":       {typeNS, typeSOA, 15, typeDNSKEY},
		"a.example.":     {typeNS, typeDS},
		"ai.example.":    {1, 13, 28},
		"b.example.":     {typeNS},
		"c.example.":     {typeNS},
		"ns1.example.":   {1},
		"ns2.example.":   {1},
		"*.w.example.":   {15},
		"x.w.example.":   {15},
		"x.y.w.example.": {15},
		"xx.example.":    {1, 13, 28},
	})
}

// pick returns the sets that stand at these owner names, or hashes of them.
func pick(t testing.TB, sets []*RRset, owners ...string) []*RRset {
	t.Helper()
	var out []*RRset
	for _, owner := range owners {
		found := false
		for _, set := range sets {
			if strings.HasPrefix(set.Name.String(), owner+".") || set.Name.String() == owner {
				out, found = append(out, set), true
			}
		}
		if !found {
			t.Fatalf("no record at %s", owner)
		}
	}
	return out
}

// TestExampleResponses goes through RFC 4035 Appendix B with keys of its own:
// each response proves its claim by the records shown there, and by no less.
func TestExampleResponses(t *testing.T) {
	z := rfcZone(t)
	chain := z.nsecs()
	for _, tt := range []struct {
		what   string
		owners []string
		c      claim
	}{
		{"B.2 name error", []string{"b.example.", "example."}, claim{"nxdomain", "ml.example.", "", "bogus", ""}}, // c.example. stands here in RFC 5155
		{"B.2 name error", []string{"c.example.", "example."}, claim{"nxdomain", "ml.example.", "", "secure", ""}},
		{"B.2 without the wildcard", []string{"c.example."}, claim{"nxdomain", "ml.example.", "", "bogus", ""}},
		{"B.3 no data", []string{"ns1.example."}, claim{"nodata", "ns1.example.", "15", "secure", ""}},
		{"B.5 unsigned delegation", []string{"b.example."}, claim{"nods", "b.example.", "", "unsigned", ""}},
		{"B.6 wildcard", []string{"x.y.w.example."}, claim{"wildcard", "a.z.w.example.", "w.example.", "secure", ""}},
		{"B.6 by another record", []string{"x.w.example."}, claim{"wildcard", "a.z.w.example.", "w.example.", "bogus", ""}},
		{"B.7 wildcard without data", []string{"x.y.w.example.", "*.w.example."}, claim{"nodata", "a.z.w.example.", "28", "secure", ""}},
		{"B.7 without the wildcard", []string{"x.y.w.example."}, claim{"nodata", "a.z.w.example.", "28", "bogus", ""}},
		{"B.7 without the denial", []string{"*.w.example."}, claim{"nodata", "a.z.w.example.", "28", "bogus", ""}},
		{"B.8 DS asked of the child", []string{"example."}, claim{"nodata", "example.", "43", "bogus", ""}},
	} {
		d := z.denialFrom(pick(t, chain, tt.owners...)...)
		if got := ask(t, d, tt.c); got != tt.c.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.c.want)
		}
	}
}

// TestHashedExampleResponses does the same for RFC 5155 Appendix B. Its zone has the
// opt-out flag everywhere, so what needs the next closer name's denial is
// Insecure (RFC 5155 §9.2).
func TestHashedExampleResponses(t *testing.T) {
	z := rfcZone(t)
	optOut := z.nsec3s(nsec3Params{flags: flagOptOut, iterations: 12, salt: "\xaa\xbb\xcc\xdd"})
	plain := z.nsec3s(nsec3Params{iterations: 12, salt: "\xaa\xbb\xcc\xdd"})
	const (
		apex, x, w, ns1, yw = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", "b4um86eghhds6nea196smvmlo4ors995", "k8udemvp1j2f7eg6jebps17vp3n8i58h",
			"2t7b4g4vsa5smi47k61mv5bv1a22bojr", "ji6neoaepv8b5o6k4ev33abha8ht9fgc"
		a, star, xyw = "35mthgpgcu1qg68fab165klnsnk3dpvl", "r53bq7cc2uvmubfu5ocmm6pers9tk9en", "q04jkcevqvmu85r014c7dkba38o0ji5r"
	)
	for _, tt := range []struct {
		what   string
		owners []string
		c      claim
	}{
		{"B.1 name error", []string{apex, x, a}, claim{"nxdomain", "a.c.x.w.example.", "", "insecure", ""}},
		{"B.1 without closest encloser", []string{apex, a}, claim{"nxdomain", "a.c.x.w.example.", "", "bogus", ""}},
		{"B.1 without next closer", []string{x, a}, claim{"nxdomain", "a.c.x.w.example.", "", "bogus", ""}},
		{"B.1 without wildcard", []string{apex, x}, claim{"nxdomain", "a.c.x.w.example.", "", "bogus", ""}},
		{"B.2 no data", []string{ns1}, claim{"nodata", "ns1.example.", "15", "secure", ""}},
		{"B.2.1 empty non-terminal", []string{yw}, claim{"nodata", "y.w.example.", "1", "secure", ""}},
		{"B.2.1 by another record", []string{ns1}, claim{"nodata", "y.w.example.", "1", "bogus", ""}},
		{"B.3 opt-out delegation", []string{a, apex}, claim{"nods", "c.example.", "", "optout", ""}},
		{"B.3 without closest encloser", []string{a}, claim{"nods", "c.example.", "", "notproved", ""}},
		{"B.4 wildcard", []string{xyw}, claim{"wildcard", "a.z.w.example.", "w.example.", "insecure", ""}},
		{"B.5 wildcard without data", []string{w, xyw, star}, claim{"nodata", "a.z.w.example.", "28", "insecure", ""}},
		{"B.6 DS asked of the child", []string{apex}, claim{"nodata", "example.", "43", "bogus", ""}},
	} {
		d := z.denialFrom(pick(t, optOut, tt.owners...)...)
		if got := ask(t, d, tt.c); got != tt.c.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.c.want)
		}
	}
	// Without opt-out the same claims are Secure.
	d := z.denialFrom(plain...)
	for _, c := range []claim{
		{"nxdomain", "a.c.x.w.example.", "", "secure", ""},
		{"wildcard", "a.z.w.example.", "w.example.", "secure", ""},
		{"nodata", "a.z.w.example.", "28", "secure", ""},
		{"nods", "c.example.", "", "unsigned", ""},
	} {
		if got := ask(t, d, c); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.verb, c.name, got, c.want)
		}
	}
	if h := slowHash(z.apex, nsec3Params{iterations: 12, salt: "\xaa\xbb\xcc\xdd"}); strings.ToLower(base32.HexEncoding.EncodeToString([]byte(h))) != apex {
		t.Error("the test's own hash is wrong")
	}
}
