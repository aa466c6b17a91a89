package dnssec

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a zone whose truth is known: what its NSEC or NSEC3 records prove
// must be so, whichever of them are shown, and must be proved when all are.
type model struct {
	apex  Name
	types map[Name][]uint16
	p     nsec3Params
}

// omitted reports whether an opt-out chain leaves n out.
func (m *model) omitted(n Name) bool {
	return m.p.flags&flagOptOut != 0 && slices.Equal(m.types[n], []uint16{typeNS})
}

// chained reports whether the opt-out chain has a record for n.
func (m *model) chained(n Name) bool {
	for owner := range m.types {
		if owner.IsSubdomainOf(n) && !m.omitted(owner) {
			return true
		}
	}
	return false
}

// exists reports whether n is in the zone, with records or without.
func (m *model) exists(n Name) bool {
	for owner := range m.types {
		if owner.IsSubdomainOf(n) {
			return true
		}
	}
	return false
}

func (m *model) has(n Name, rrtype uint16) bool { return slices.Contains(m.types[n], rrtype) }

// hidden reports whether n is below a zone cut or a DNAME.
func (m *model) hidden(n Name) bool {
	for n = n.Parent(); n.IsBelow(m.apex); n = n.Parent() {
		if m.has(n, typeNS) || m.has(n, typeDNAME) {
			return true
		}
	}
	return false
}

func (m *model) inside(n Name) bool { return n.IsSubdomainOf(m.apex) && !m.hidden(n) }

// encloser is the closest encloser of a name that does not exist.
func (m *model) encloser(n Name) Name {
	for !m.exists(n) {
		n = n.Parent()
	}
	return n
}

// lacks reports whether n itself would be answered with NODATA.
func (m *model) lacks(n Name, qtype uint16) bool {
	if m.has(n, qtype) || m.has(n, typeCNAME) {
		return false
	}
	switch {
	case n == m.apex:
		return qtype != typeDS
	case m.has(n, typeNS):
		return qtype == typeDS
	}
	return true
}

func (m *model) noData(n Name, qtype uint16) bool {
	if !m.inside(n) {
		return false
	}
	if m.exists(n) {
		return m.lacks(n, qtype)
	}
	wildcard := m.encloser(n).Wildcard()
	return m.exists(wildcard) && m.lacks(wildcard, qtype)
}

func (m *model) nameError(n Name) bool {
	return m.inside(n) && !m.exists(n) && !m.exists(m.encloser(n).Wildcard())
}

func (m *model) wildcardAnswer(n, encloser Name) bool {
	return m.inside(n) && n.IsBelow(encloser) && encloser.IsSubdomainOf(m.apex) &&
		!m.exists(n.Ancestor(encloser.Labels()+1))
}

func (m *model) noDS(n Name) Delegation {
	switch {
	case !m.inside(n), n == m.apex, m.has(n, typeDS):
		return NotProved
	case m.has(n, typeNS):
		return Unsigned
	}
	return NotACut
}

// drawModel makes a small zone out of few labels, so that names meet often.
func drawModel(t *rapid.T) *model {
	m := &model{apex: "\x07example\x00", types: map[Name][]uint16{}}
	m.types[m.apex] = []uint16{typeNS, typeSOA}
	m.p = nsec3Params{iterations: uint16(rapid.IntRange(0, 2).Draw(t, "iterations")), salt: rapid.SampledFrom([]string{"", "s", "salt"}).Draw(t, "salt")}
	m.p.flags = uint8(rapid.IntRange(0, 1).Draw(t, "flags"))
	kinds := [][]uint16{{1}, {15}, {1, 15}, {typeCNAME}, {typeDNAME, 1}, {typeNS}, {typeNS, typeDS}}
	for range rapid.IntRange(0, 8).Draw(t, "names") {
		n := drawName(t, m.apex)
		kind := rapid.SampledFrom(kinds).Draw(t, "types")
		if n == m.apex || n.IsWildcard() && (kind[0] == typeNS || kind[0] == typeDNAME) {
			continue
		}
		m.types[n] = kind
	}
	for n := range m.types {
		if m.hidden(n) {
			delete(m.types, n) // occluded: in no chain
		}
	}
	return m
}

func drawName(t *rapid.T, apex Name) Name {
	n := apex
	for range rapid.IntRange(0, 4).Draw(t, "depth") {
		n = n.Prepend(rapid.SampledFrom([]string{"a", "b", "*", "\x00", "zz"}).Draw(t, "label"))
	}
	return n
}

// chains returns the NSEC and the NSEC3 chain of the zone, unsigned.
func (m *model) chains() (nsecs, nsec3s []*RRset) {
	z := &testZone{apex: m.apex, types: m.types, key: &testKey{zone: m.apex, rdata: make([]byte, 5), sign: func([]byte) []byte { return nil }}}
	return z.nsecs(), z.nsec3s(m.p)
}

// denial is a Denial of sets that counts them as verified.
func (m *model) denial(sets []*RRset) *Denial {
	d := &Denial{rules: DefaultRules(false), zone: m.apex}
	for _, set := range sets {
		d.add(d.read(set), set.TTL, testNow)
	}
	return d
}

// drawSome leaves out some of the sets, or none.
func drawSome(t *rapid.T, sets []*RRset) (some []*RRset, all bool) {
	all = rapid.Bool().Draw(t, "all")
	for i, set := range sets {
		if all || rapid.Bool().Draw(t, fmt.Sprint("shown", i)) {
			some = append(some, set)
		}
	}
	return some, all
}

// checkModel puts one claim of each kind to what a random part of a random
// zone's chain proves.
func checkModel(t *rapid.T) {
	m := drawModel(t)
	nsecs, nsec3s := m.chains()
	optOut := false
	sets := nsecs
	// Below an empty non-terminal that opt-out leaves out, the wildcard that a
	// proof is about is not the one that would match.
	gap := false
	if rapid.Bool().Draw(t, "nsec3") {
		sets, optOut = nsec3s, m.p.flags&flagOptOut != 0
	}
	some, all := drawSome(t, sets)
	d := m.denial(some)
	n := drawName(t, m.apex)
	if optOut && m.inside(n) {
		gap = !m.chained(m.encloser(n))
	}
	qtype := rapid.SampledFrom([]uint16{1, 15, typeCNAME, typeNS, typeDS, typeDNAME}).Draw(t, "type")
	encloser := n.Ancestor(rapid.IntRange(0, 5).Draw(t, "encloser"))

	judge := func(claim string, got Verdict, truth bool) {
		switch {
		case got.Status == Secure && !truth:
			t.Fatalf("%s: proved, but it is not so; zone %v", claim, m.types)
		case got.Status == Insecure && (!optOut || m.chained(n)):
			t.Fatalf("%s: insecure without opt-out; zone %v", claim, m.types)
		case got.Status == Indeterminate:
			t.Fatalf("%s: %s", claim, got.Text)
		case all && truth && got.Status != Secure && !optOut:
			t.Fatalf("%s: so it is, but %s; zone %v", claim, got.Text, m.types)
		case all && truth && !gap && got.Status < Insecure:
			t.Fatalf("%s: so it is, but %s; zone %v", claim, got.Text, m.types)
		}
	}
	judge(fmt.Sprintf("%s lacks type %d", n, qtype), d.NoData(n, qtype, plenty()), m.noData(n, qtype))
	judge(fmt.Sprintf("%s does not exist", n), d.NameError(n, plenty()), m.nameError(n))
	if m.exists(encloser.Wildcard()) { // else there would be no signature to show
		judge(fmt.Sprintf("%s is of *.%s", n, encloser), d.WildcardAnswer(n, encloser, plenty()), m.wildcardAnswer(n, encloser))
	}

	truth := m.noDS(n)
	found, v := d.NoDS(n, plenty())
	switch {
	case found == OptOut:
		if !optOut || m.chained(n) {
			t.Fatalf("%s: opt-out, but the chain has it; zone %v", n, m.types)
		}
	case found != NotProved && found != truth:
		t.Fatalf("%s: %d, but it is %d; zone %v", n, found, truth, m.types)
	case found == NotProved && all && truth != NotProved:
		t.Fatalf("%s: %d, but nothing proved: %s; zone %v", n, truth, v.Text, m.types)
	}
}

func TestDenialModel(t *testing.T) { rapid.Check(t, checkModel) }

func FuzzDenialModel(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkModel)) }
