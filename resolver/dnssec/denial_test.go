package dnssec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// testZone is a signed zone whose denials a test asks for. Its content:
//
//	example.                SOA NS DNSKEY
//	a.example.              A
//	alias.example.          CNAME
//	c.x.ent.example.        A          (ent and x.ent are empty non-terminals)
//	ren.example.            DNAME
//	signed.example.         NS DS
//	unsigned.example.       NS
//	wild.example.           TXT
//	*.wild.example.         MX
//	b.wild.example.         A
type testZone struct {
	apex  Name
	key   *testKey
	keys  *Keys
	types map[Name][]uint16
}

func newTestZone(t testing.TB) *testZone {
	t.Helper()
	return signZone(t, "example.", map[string][]uint16{
		"example.":          {typeSOA, typeNS, typeDNSKEY},
		"a.example.":        {1},
		"alias.example.":    {typeCNAME},
		"c.x.ent.example.":  {1},
		"ren.example.":      {typeDNAME},
		"signed.example.":   {typeNS, typeDS},
		"unsigned.example.": {typeNS},
		"wild.example.":     {16},
		"*.wild.example.":   {15},
		"b.wild.example.":   {1},
	})
}

// signZone makes a zone with these types at these names.
func signZone(t testing.TB, apex string, types map[string][]uint16) *testZone {
	t.Helper()
	z := &testZone{apex: name(t, apex), types: map[Name][]uint16{}}
	z.key = newKey(t, z.apex, ksk, 15)
	z.keys = trusted(t, z.key)
	for owner, types := range types {
		z.types[name(t, owner)] = types
	}
	return z
}

// nsecs returns the zone's whole NSEC chain, signed.
func (z *testZone) nsecs() []*RRset {
	var owners []Name
	for owner := range z.types {
		owners = append(owners, owner)
	}
	slices.SortFunc(owners, Name.Compare)
	var out []*RRset
	for i, owner := range owners {
		next := owners[(i+1)%len(owners)]
		out = append(out, z.key.signed(nsecSet(owner, next, append(z.types[owner], typeRRSIG, typeNSEC)...)))
	}
	return out
}

// nsec3s returns the zone's whole NSEC3 chain, signed. With opt-out, unsigned
// delegations are left out of it.
func (z *testZone) nsec3s(p nsec3Params) []*RRset {
	types := map[string][]uint16{}
	for owner, ts := range z.types {
		if p.flags&flagOptOut != 0 && slices.Equal(ts, []uint16{typeNS}) {
			continue
		}
		types[slowHash(owner, p)] = append(ts, typeRRSIG)
		for ent := owner; ent.IsBelow(z.apex); ent = ent.Parent() {
			if _, ok := z.types[ent]; !ok {
				types[slowHash(ent, p)] = nil
			}
		}
	}
	var hashes []string
	for h := range types {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	var out []*RRset
	for i, h := range hashes {
		out = append(out, z.key.signed(nsec3Set(z.apex, p, h, hashes[(i+1)%len(hashes)], types[h]...)))
	}
	return out
}

// claim is a statement about the test zone.
type claim struct {
	verb string // nodata, nxdomain, wildcard, nods
	name string
	rest string // type or encloser
	want string // what the NSEC chain proves; optout: what an opt-out chain does, if another
	opt  string
}

var claims = []claim{
	{"nodata", "a.example.", "15", "secure", ""},
	{"nodata", "a.example.", "1", "bogus", ""},
	{"nodata", "a.example.", "255", "bogus", ""},
	{"nodata", "a.example.", "43", "secure", ""},
	{"nodata", "example.", "15", "secure", ""},
	{"nodata", "example.", "43", "bogus", ""}, // the child's side of the cut
	{"nodata", "alias.example.", "15", "bogus", ""},
	{"nodata", "alias.example.", "5", "bogus", ""},
	{"nodata", "ent.example.", "1", "secure", ""},
	{"nodata", "ent.example.", "255", "secure", ""},
	{"nodata", "x.ent.example.", "1", "secure", ""},
	{"nodata", "y.ent.example.", "1", "bogus", "either"},
	{"nodata", "none.example.", "1", "bogus", "insecure"}, // it does not exist, nor a wildcard for it
	{"nodata", "n.wild.example.", "1", "secure", "either"},
	{"nodata", "n.wild.example.", "15", "bogus", "either"},
	{"nodata", "m.n.wild.example.", "1", "secure", "either"},
	{"nodata", "m.b.wild.example.", "1", "bogus", "either"},
	{"nodata", "*.wild.example.", "1", "secure", ""},
	{"nodata", "*.wild.example.", "15", "bogus", ""},
	{"nodata", "unsigned.example.", "15", "bogus", "either"},
	{"nodata", "unsigned.example.", "43", "secure", "either"},
	{"nodata", "signed.example.", "43", "bogus", ""},
	{"nodata", "x.signed.example.", "1", "bogus", ""},
	{"nodata", "x.ren.example.", "1", "bogus", ""},
	{"nodata", "ren.example.", "1", "secure", ""},
	{"nodata", "example2.", "1", "bogus", ""},

	{"nxdomain", "none.example.", "", "secure", "either"},
	{"nxdomain", "x.y.none.example.", "", "secure", "either"},
	{"nxdomain", "\\000.a.example.", "", "secure", "either"},
	{"nxdomain", "a.example.", "", "bogus", ""},
	{"nxdomain", "example.", "", "bogus", ""},
	{"nxdomain", "ent.example.", "", "bogus", ""},
	{"nxdomain", "x.ent.example.", "", "bogus", ""},
	{"nxdomain", "y.ent.example.", "", "secure", "either"},
	{"nxdomain", "n.wild.example.", "", "bogus", ""},
	{"nxdomain", "x.signed.example.", "", "bogus", ""},
	{"nxdomain", "x.ren.example.", "", "bogus", ""},
	{"nxdomain", "signed.example.", "", "bogus", ""},
	{"nxdomain", "example2.", "", "bogus", ""},
	{"nxdomain", ".", "", "bogus", ""},

	{"wildcard", "n.wild.example.", "wild.example.", "secure", "either"},
	{"wildcard", "m.n.wild.example.", "wild.example.", "secure", "either"},
	{"wildcard", "b.wild.example.", "wild.example.", "bogus", ""},
	{"wildcard", "m.b.wild.example.", "wild.example.", "bogus", ""}, // b.wild is closer
	{"wildcard", "y.ent.example.", "example.", "bogus", ""},
	{"wildcard", "x.signed.example.", "example.", "bogus", ""},
	{"wildcard", "wild.example.", "wild.example.", "bogus", ""},
	{"wildcard", "a.example2.", "example2.", "bogus", ""},

	{"nods", "unsigned.example.", "", "unsigned", "optout"},
	{"nods", "signed.example.", "", "notproved", ""},
	{"nods", "a.example.", "", "notacut", ""},
	{"nods", "alias.example.", "", "notacut", ""},
	{"nods", "ent.example.", "", "notacut", ""},
	{"nods", "none.example.", "", "notacut", "either"},
	{"nods", "x.signed.example.", "", "notproved", ""},
	{"nods", "x.unsigned.example.", "", "notproved", "optout"},
	{"nods", "x.ren.example.", "", "notproved", ""},
	{"nods", "example.", "", "notproved", ""},
	{"nods", "example2.", "", "notproved", ""},
}

// ask puts a claim to a Denial.
func ask(t testing.TB, d *Denial, c claim) string {
	t.Helper()
	n, b := name(t, c.name), plenty()
	var v Verdict
	switch c.verb {
	case "nodata":
		var qtype uint16
		fmt.Sscan(c.rest, &qtype)
		v = d.NoData(n, qtype, b)
	case "nxdomain":
		v = d.NameError(n, b)
	case "wildcard":
		v = d.WildcardAnswer(n, name(t, c.rest), b)
	case "nods":
		found, v := d.NoDS(n, b)
		want := map[Delegation]Status{Unsigned: Insecure, OptOut: Insecure, TooExpensive: Insecure, NotACut: Secure}
		if status, ok := want[found]; ok && v.Status != status || found == NotProved && v.Status >= Insecure {
			t.Errorf("%+v: %d with %+v", c, found, v)
		}
		return [...]string{"notproved", "unsigned", "optout", "notacut", "expensive"}[found]
	}
	if v.Status != Secure && v.Text == "" {
		t.Errorf("%+v: %v %q says nothing to people", c, v.Status, v.Reason)
	}
	return v.Status.String()
}

func TestDenial(t *testing.T) {
	z := newTestZone(t)
	optOut := nsec3Params{flags: flagOptOut, salt: "\xaa\xbb"}
	for what, sets := range map[string][]*RRset{
		"NSEC":            z.nsecs(),
		"NSEC3":           z.nsec3s(nsec3Params{iterations: 12, salt: "\xaa\xbb\xcc\xdd"}),
		"NSEC3 plain":     z.nsec3s(nsec3Params{}),
		"NSEC3 opt-out":   z.nsec3s(optOut),
		"both":            append(z.nsecs(), z.nsec3s(nsec3Params{})...),
		"two NSEC3 salts": append(z.nsec3s(nsec3Params{salt: "a"}), z.nsec3s(nsec3Params{iterations: 1})...),
	} {
		t.Run(what, func(t *testing.T) {
			d := z.keys.Denial(sets, testNow, &Budget{SignatureChecks: 1000})
			if len(d.nsec)+len(d.nsec3) != len(sets) {
				t.Fatalf("%d of %d records verified", len(d.nsec)+len(d.nsec3), len(sets))
			}
			var each []*Denial
			for _, set := range sets {
				each = append(each, z.keys.Denial([]*RRset{set}, testNow, plenty()))
			}
			cached := Join(each...)
			for _, c := range claims {
				want := c.want
				if strings.Contains(what, "opt-out") && c.opt != "" {
					want = c.opt
				}
				got := ask(t, d, c)
				switch {
				case want == "either" && (got == "secure" || got == "insecure" || got == "notacut" || got == "optout"):
				case got != want:
					t.Errorf("%s %s %s: %s, want %s", c.verb, c.name, c.rest, got, want)
				}
				if again := ask(t, cached, c); again != got {
					t.Errorf("%s %s %s: %s from the cache, %s at first", c.verb, c.name, c.rest, again, got)
				}
			}
		})
	}
}
