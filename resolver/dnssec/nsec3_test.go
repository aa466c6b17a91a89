package dnssec

import (
	"encoding/base32"
	"fmt"
	"strings"
	"testing"
)

func typeFrom(s string) (t uint16) {
	fmt.Sscan(s, &t)
	return t
}

func TestNSEC3HashVectors(t *testing.T) {
	// RFC 5155 Appendix A: the hashes of its example zone.
	p := params3{iterations: 12, salt: "\xaa\xbb\xcc\xdd"}
	for owner, want := range map[string]string{
		"example":       "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom",
		"a.example":     "35mthgpgcu1qg68fab165klnsnk3dpvl",
		"ai.example":    "gjeqe526plbf1g8mklp59enfd789njgi",
		"ns1.example":   "2t7b4g4vsa5smi47k61mv5bv1a22bojr",
		"ns2.example":   "q04jkcevqvmu85r014c7dkba38o0ji5r",
		"w.example":     "k8udemvp1j2f7eg6jebps17vp3n8i58h",
		"*.w.example":   "r53bq7cc2uvmubfu5ocmm6pers9tk9en",
		"x.w.example":   "b4um86eghhds6nea196smvmlo4ors995",
		"y.w.example":   "ji6neoaepv8b5o6k4ev33abha8ht9fgc",
		"x.y.w.example": "2vptu5timamqttgl4luu9kg21e0aor3s",
		"xx.example":    "t644ebqk9bibcna874givr6joj62mlhv",
	} {
		h, ok := plenty().hash(name(t, owner), p, 1)
		if got := strings.ToLower(base32.HexEncoding.EncodeToString(h[:])); got != want || !ok {
			t.Errorf("%s: %s, want %s", owner, got, want)
		}
	}
}

func TestNSEC3Traps(t *testing.T) {
	z := newTestZone(t)
	p := nsec3Params{iterations: 1, salt: "s"}
	n := func(s string) Name { return name(t, s) }
	// at makes a record that matches owner, around one that covers it alone.
	at := func(p nsec3Params, owner string, types ...uint16) *RRset {
		h := slowHash(n(owner), p)
		return nsec3Set(z.apex, p, h, step(h, 1), types...)
	}
	around := func(p nsec3Params, owner string) *RRset {
		h := slowHash(n(owner), p)
		return nsec3Set(z.apex, p, step(h, -1), step(h, 1))
	}
	with := func(change func(*nsec3Params)) nsec3Params {
		c := p
		change(&c)
		return c
	}
	optOut := with(func(p *nsec3Params) { p.flags = flagOptOut })
	otherSalt := with(func(p *nsec3Params) { p.salt = "t" })
	unknownFlag := with(func(p *nsec3Params) { p.flags = 2 })
	costly := with(func(p *nsec3Params) { p.iterations = 51 })
	absurd := with(func(p *nsec3Params) { p.iterations = 2501 })
	unknownHash := at(p, "b.example.", 1)
	unknownHash.Data[0][0] = 2
	forgedCostly := z.key.signed(at(costly, "b.example.", 1))
	forgedCostly.Sigs[0].Signature[9] ^= 1
	apex := at(p, "example.", typeNS, typeSOA)
	deep := at(p, "b.example.", 1)
	deep.Name = deep.Name.Parent().Prepend("sub").Prepend(string(deep.Name[1:33]))
	wild := z.key.signed(rrset(z.apex.Wildcard(), typeNSEC3, string(at(p, "b.example.", 1).Data[0])))
	moved := expanded(wild, at(p, "b.example.").Name)
	oneName := nsec3Set(z.apex, p, slowHash(z.apex, p), slowHash(z.apex, p), typeNS, typeSOA)

	tests := []struct {
		what   string
		sets   []*RRset
		ask    claim
		reason Reason
	}{
		{"name error", []*RRset{apex, around(p, "b.example."), around(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "secure", ""}, ReasonVerified},
		{"no closest encloser", []*RRset{around(p, "b.example."), around(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"next closer not denied", []*RRset{apex, around(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard not denied", []*RRset{apex, around(p, "b.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard exists", []*RRset{apex, around(p, "b.example."), at(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard has no such data", []*RRset{apex, around(p, "b.example."), at(p, "*.example.", 1)}, claim{"nodata", "b.example.", "15", "secure", ""}, ReasonVerified},
		{"wildcard has it", []*RRset{apex, around(p, "b.example."), at(p, "*.example.", 15)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard with CNAME", []*RRset{apex, around(p, "b.example."), at(p, "*.example.", typeCNAME)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"wildcard in an opt-out span", []*RRset{apex, around(optOut, "b.example."), at(p, "*.example.", 1)}, claim{"nodata", "b.example.", "15", "insecure", ""}, ReasonOptOut},
		{"name error in an opt-out span", []*RRset{apex, around(optOut, "b.example."), around(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "insecure", ""}, ReasonOptOut},
		{"only the wildcard in an opt-out span", []*RRset{apex, around(p, "b.example."), around(optOut, "*.example.")}, claim{"nxdomain", "b.example.", "", "secure", ""}, ReasonVerified},
		{"closest encloser is a delegation", []*RRset{at(p, "b.example.", typeNS), around(p, "c.b.example."), around(p, "*.b.example.")}, claim{"nxdomain", "c.b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"closest encloser is a DNAME", []*RRset{at(p, "b.example.", typeDNAME), around(p, "c.b.example."), around(p, "*.b.example.")}, claim{"nxdomain", "c.b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"parent's record of a delegation", []*RRset{at(p, "b.example.", typeNS)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"parent's record about DS", []*RRset{at(p, "b.example.", typeNS)}, claim{"nods", "b.example.", "", "unsigned", ""}, ReasonUnsignedDelegate},
		{"child's record about DS", []*RRset{at(p, "b.example.", typeNS, typeSOA)}, claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"DS is there", []*RRset{at(p, "b.example.", typeNS, typeDS)}, claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"DS in an opt-out span", []*RRset{apex, around(optOut, "b.example.")}, claim{"nods", "b.example.", "", "optout", ""}, ReasonOptOut},
		{"DS below an opt-out span", []*RRset{apex, around(optOut, "b.example.")}, claim{"nods", "c.b.example.", "", "optout", ""}, ReasonOptOut},
		{"DS in an opt-out span, no closest encloser", []*RRset{around(optOut, "b.example.")}, claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"DS of a name that is not there", []*RRset{apex, around(p, "b.example.")}, claim{"nods", "b.example.", "", "notacut", ""}, ReasonVerified},
		{"empty non-terminal", []*RRset{at(p, "b.example.")}, claim{"nodata", "b.example.", "15", "secure", ""}, ReasonVerified},
		{"NXNAME", []*RRset{at(p, "b.example.", typeRRSIG, typeNXNAME)}, claim{"nxdomain", "b.example.", "", "secure", ""}, ReasonVerified},
		{"NXNAME beside data", []*RRset{at(p, "b.example.", 1, typeRRSIG, typeNXNAME)}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"records of two chains", []*RRset{at(otherSalt, "example.", typeNS, typeSOA), around(p, "b.example."), around(p, "*.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"unknown flag", []*RRset{at(unknownFlag, "b.example.", 1)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"unknown hash", []*RRset{unknownHash}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"not below the apex", []*RRset{deep}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"owner expanded from a wildcard", []*RRset{moved}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"too many iterations", []*RRset{at(costly, "b.example.", 1)}, claim{"nodata", "b.example.", "15", "insecure", ""}, ReasonNSEC3Iterations},
		{"too many iterations, of another name", []*RRset{at(costly, "c.example.", 1)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"too many iterations, the type exists", []*RRset{at(costly, "b.example.", 1, 15)}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonNSECMismatch},
		{"too many iterations, name error", []*RRset{at(costly, "example.", typeNS, typeSOA), around(costly, "b.example."), around(costly, "*.example.")}, claim{"nxdomain", "b.example.", "", "insecure", ""}, ReasonNSEC3Iterations},
		{"too many iterations, name error of another name", []*RRset{at(costly, "example.", typeNS, typeSOA), around(costly, "c.example."), around(costly, "*.example.")}, claim{"nxdomain", "b.example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"too many iterations, beside a wildcard", []*RRset{around(costly, "b.example.")}, claim{"wildcard", "b.example.", "example.", "insecure", ""}, ReasonNSEC3Iterations},
		{"too many iterations, no cut", []*RRset{at(costly, "b.example.", 1)}, claim{"nods", "b.example.", "", "notacut", ""}, ReasonVerified},
		{"too many iterations, no DS", []*RRset{at(costly, "b.example.", typeNS)}, claim{"nods", "b.example.", "", "unsigned", ""}, ReasonUnsignedDelegate},
		{"too many iterations, DS is there", []*RRset{at(costly, "b.example.", typeNS, typeDS)}, claim{"nods", "b.example.", "", "notproved", ""}, ReasonNSECMismatch},
		{"more iterations than are hashed", []*RRset{at(absurd, "c.example.", 1)}, claim{"nodata", "b.example.", "15", "insecure", ""}, ReasonNSEC3Iterations},
		{"more iterations than are hashed, about DS", []*RRset{at(absurd, "c.example.", 1)}, claim{"nods", "b.example.", "", "expensive", ""}, ReasonNSEC3Iterations},
		{"too many iterations, forged", []*RRset{forgedCostly}, claim{"nodata", "b.example.", "15", "bogus", ""}, ReasonSignatureBogus},
		{"too many iterations beside a proof", []*RRset{at(costly, "b.example.", 1), at(p, "b.example.", 1)}, claim{"nodata", "b.example.", "15", "secure", ""}, ReasonVerified},
		{"the only name of a zone", []*RRset{oneName}, claim{"nxdomain", "b.example.", "", "secure", ""}, ReasonVerified},
		{"the only name of a zone, itself", []*RRset{oneName}, claim{"nxdomain", "example.", "", "bogus", ""}, ReasonNSECMismatch},
		{"NSEC and NSEC3 make one proof each", []*RRset{nsecSet(z.apex, n("x.example."), typeNS, typeSOA), around(p, "b.example.")}, claim{"nxdomain", "y.example.", "", "bogus", ""}, ReasonNSECMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			d := z.denialFrom(tt.sets...)
			if got := ask(t, d, tt.ask); got != tt.ask.want {
				t.Errorf("%s %s: %s, want %s", tt.ask.verb, tt.ask.name, got, tt.ask.want)
			}
			if v := verdictOf(t, d, tt.ask); v.Reason != tt.reason {
				t.Errorf("%s %s: %q, want %q", tt.ask.verb, tt.ask.name, v.Reason, tt.reason)
			}
		})
	}
}

func TestNSEC3HashLimit(t *testing.T) {
	z := newTestZone(t)
	d := z.denialFrom(z.nsec3s(nsec3Params{})...)
	deep := name(t, strings.Repeat("x.", 60)+"example.")
	b := &Budget{NSEC3Hashes: 64}
	wantVerdict(t, d.NameError(deep, b), Secure, ReasonVerified)
	if b.NSEC3Hashes != 64-62 {
		t.Errorf("%d hashes left after 62 names", b.NSEC3Hashes)
	}
	wantVerdict(t, d.NameError(deep, b), Secure, ReasonVerified) // nothing is hashed twice
	for hashes := range 62 {
		wantVerdict(t, d.NameError(deep, &Budget{NSEC3Hashes: hashes}), Indeterminate, ReasonLimitNSEC3Hashes)
		wantVerdict(t, d.NoData(deep, 1, &Budget{NSEC3Hashes: hashes}), Indeterminate, ReasonLimitNSEC3Hashes)
	}
	if found, v := d.NoDS(deep, &Budget{NSEC3Hashes: 60}); found != NotProved || v.Status != Indeterminate {
		t.Errorf("%d %+v", found, v)
	}
	wantVerdict(t, d.WildcardAnswer(deep, z.apex, &Budget{}), Indeterminate, ReasonLimitNSEC3Hashes)

	// Many iterations cost more, so that no more than a few names are hashed.
	d = z.denialFrom(z.nsec3s(nsec3Params{iterations: 2500})...)
	wantVerdict(t, d.NameError(name(t, "_25._tcp.mx.b.nosuch.example."), plenty()), Insecure, ReasonNSEC3Iterations)
	wantVerdict(t, d.NameError(deep, plenty()), Indeterminate, ReasonLimitNSEC3Hashes)
}
