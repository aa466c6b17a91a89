package dnssec

import (
	"slices"
	"strings"
	"testing"
)

// denialFrom verifies sets signed by the zone's key.
func (z *testZone) denialFrom(sets ...*RRset) *Denial {
	for _, set := range sets {
		if set.Sigs == nil {
			z.key.signed(set)
		}
	}
	return z.keys.Denial(sets, testNow, &Budget{SignatureChecks: 1000, FailedChecks: 1000})
}

func TestNSECTraps(t *testing.T) {
	z := newTestZone(t)
	n := func(s string) Name { return name(t, s) }
	wildcard := z.key.signed(nsecSet(n("*.example."), n("a.example."), typeNS, typeRRSIG, typeNSEC))
	// The wildcard's own record, as if it were that of a name it expands to.
	moved := expanded(wildcard, n("b.example."))
	tests := []struct {
		what   string
		d      *Denial
		ask    claim
		reason Reason
	}{
		{"owner expanded from a wildcard (CVE-2017-15105)", z.denialFrom(moved), claim{"nodata", "b.example.", "1", "bogus", ""}, ReasonNSECMismatch},
		{"the same about DS", z.denialFrom(moved), claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"next name out of the zone", z.denialFrom(nsecSet(n("b.example."), n("zz.test."), 1)), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"next name above the zone", z.denialFrom(nsecSet(n("b.example."), Root, 1)), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"next name comes first", z.denialFrom(nsecSet(n("b.example."), n("a.example."), 1)), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"next name is its own owner", z.denialFrom(nsecSet(n("b.example."), n("b.example."), 1)), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"zone of one name", z.denialFrom(nsecSet(z.apex, z.apex, typeNS, typeSOA)), claim{"nxdomain", "c.example.", "", "secure", ""}, ReasonVerified},
		{"zone of one name, itself", z.denialFrom(nsecSet(z.apex, z.apex, typeNS, typeSOA)), claim{"nxdomain", "example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"last name of the zone", z.denialFrom(nsecSet(n("x.example."), z.apex, 1), nsecSet(z.apex, n("x.example."), typeNS, typeSOA)), claim{"nxdomain", "z.example.", "", "secure", ""}, ReasonVerified},
		{"wildcard not denied", z.denialFrom(nsecSet(n("x.example."), z.apex, 1)), claim{"nxdomain", "z.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"nothing but the wildcard's denial", z.denialFrom(nsecSet(z.apex, n("a.example."), typeNS, typeSOA)), claim{"nxdomain", "z.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard is an empty non-terminal", z.denialFrom(nsecSet(z.apex, n("x.*.example."), typeNS, typeSOA), nsecSet(n("x.*.example."), z.apex, 1)), claim{"nodata", "z.example.", "1", "secure", ""}, ReasonVerified},
		{"so there is something to match", z.denialFrom(nsecSet(z.apex, n("x.*.example."), typeNS, typeSOA), nsecSet(n("x.*.example."), z.apex, 1)), claim{"nxdomain", "z.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"black lie", z.denialFrom(nsecSet(n("b.example."), n(`\000.b.example.`), 1, typeRRSIG, typeNSEC)), claim{"nodata", "b.example.", "28", "secure", ""}, ReasonVerified},
		{"black lie about DS", z.denialFrom(nsecSet(n("b.example."), n(`\000.b.example.`), typeRRSIG, typeNSEC)), claim{"nods", "b.example.", "", "notacut", ""}, ReasonVerified},
		{"NXNAME", z.denialFrom(nsecSet(n("b.example."), n(`\000.b.example.`), typeRRSIG, typeNSEC, typeNXNAME)), claim{"nxdomain", "b.example.", "", "secure", ""}, ReasonVerified},
		{"NXNAME is no data either", z.denialFrom(nsecSet(n("b.example."), n(`\000.b.example.`), typeRRSIG, typeNSEC, typeNXNAME)), claim{"nodata", "b.example.", "1", "secure", ""}, ReasonVerified},
		{"NXNAME beside data", z.denialFrom(nsecSet(n("b.example."), n(`\000.b.example.`), 1, typeRRSIG, typeNSEC, typeNXNAME)), claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"minimal covering records", z.denialFrom(nsecSet(n("b~.example."), n("b~~.example."), typeRRSIG, typeNSEC), nsecSet(n(`\).example.`), n("+.example."), typeRRSIG, typeNSEC)), claim{"nxdomain", "b~\\000.example.", "", "secure", ""}, ReasonVerified},
		{"delegation with SOA bit is an apex", z.denialFrom(nsecSet(n("b.example."), n("c.example."), typeNS, typeSOA)), claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"bits of windows beyond the first", z.denialFrom(nsecSet(n("b.example."), n("c.example."), 1, 257, 65280)), claim{"nodata", "b.example.", "65280", "bogus", ""}, ReasonNSECMismatch},
		{"nothing sent", z.denialFrom(), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMissing},
		{"another RRset", z.denialFrom(rrset(n("a.example."), 1, "\x01\x02\x03\x04")), claim{"nxdomain", "c.example.", "", "bogus", ""}, ReasonNSECMissing},
		{"malformed bitmap", z.denialFrom(rrset(n("b.example."), typeNSEC, string(n("c.example."))+"\x00\x21")), claim{"nodata", "b.example.", "1", "bogus", ""}, ReasonNSECMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			if got := ask(t, tt.d, tt.ask); got != tt.ask.want {
				t.Errorf("%s %s: %s, want %s", tt.ask.verb, tt.ask.name, got, tt.ask.want)
			}
			if v := verdictOf(t, tt.d, tt.ask); v.Reason != tt.reason {
				t.Errorf("%s %s: %q, want %q", tt.ask.verb, tt.ask.name, v.Reason, tt.reason)
			}
		})
	}
}

// verdictOf is ask with the whole verdict.
func verdictOf(t testing.TB, d *Denial, c claim) Verdict {
	t.Helper()
	n := name(t, c.name)
	switch c.verb {
	case "nodata":
		return d.NoData(n, typeFrom(c.rest), plenty())
	case "nxdomain":
		return d.NameError(n, plenty())
	case "wildcard":
		return d.WildcardAnswer(n, name(t, c.rest), plenty())
	}
	_, v := d.NoDS(n, plenty())
	return v
}

func TestBitmap(t *testing.T) {
	for _, bad := range []string{"\x00", "\x00\x00", "\x00\x21" + strings.Repeat("\x01", 33), "\x00\x02\x01", "\x01\x01\x01\x00\x01\x01", "\x00\x01\x01\x00\x01\x01"} {
		if _, err := parseBitmap([]byte(bad)); err == nil {
			t.Errorf("%x is a bitmap", bad)
		}
	}
	all := []uint16{1, 2, 6, 15, 43, 46, 47, 255, 256, 257, 32768, 65535}
	m, err := parseBitmap([]byte(bits(all...)))
	if err != nil {
		t.Fatal(err)
	}
	for rrtype := range 65536 {
		if m.has(uint16(rrtype)) != slices.Contains(all, uint16(rrtype)) {
			t.Errorf("type %d: %v", rrtype, m.has(uint16(rrtype)))
		}
	}
	padded, err := parseBitmap([]byte("\x00\x06\x40\x00\x00\x00\x00\x00"))
	if err != nil || !padded.has(1) || padded.has(2) {
		t.Errorf("trailing zeros: %v", err)
	}
}

func TestDenialFaults(t *testing.T) {
	z := newTestZone(t)
	n := func(s string) Name { return name(t, s) }
	covering := func() *RRset { return nsecSet(z.apex, z.apex, typeNS, typeSOA) }
	expired := covering()
	sig := template(z.key, expired)
	sig.Expiration = sig.Inception + 10
	z.key.signAs(expired, expired.Name, sig)
	forged := z.key.signed(covering())
	forged.Sigs[0].Signature[3] ^= 1
	unsigned := covering()

	for _, tt := range []struct {
		what   string
		set    *RRset
		b      *Budget
		status Status
		reason Reason
	}{
		{"expired", expired, plenty(), Bogus, ReasonSignatureExpired},
		{"forged", forged, plenty(), Bogus, ReasonSignatureBogus},
		{"unsigned", unsigned, plenty(), Bogus, ReasonSignatureMissing},
		{"no checks left", z.key.signed(covering()), &Budget{}, Indeterminate, ReasonLimitChecks},
		{"good", z.key.signed(covering()), plenty(), Secure, ReasonVerified},
	} {
		d := z.keys.Denial([]*RRset{tt.set}, testNow, tt.b)
		wantVerdict(t, d.NameError(n("x.example."), plenty()), tt.status, tt.reason)
		if tt.status != Secure && !d.Expires.IsZero() {
			t.Errorf("%s: nothing verified, until %v", tt.what, d.Expires)
		}
	}
	short, long := z.key.signed(covering()), covering()
	sig = template(z.key, long)
	sig.Expiration -= 3600
	z.key.signAs(long, long.Name, sig)
	short.TTL = 60
	d := z.keys.Denial([]*RRset{short, long, expired}, testNow, plenty())
	if d.TTL != 60 || d.Expires.Unix() != int64(sig.Expiration) {
		t.Errorf("TTL %d, until %v", d.TTL, d.Expires)
	}
}
