//go:build interop

package interop

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// A second internet, of zones that are broken in random ways. Each is signed
// as a random administrator would (shape), then breaks change what its server,
// or its parent's, sends.

// brokenZone is one zone of it.
type brokenZone struct {
	*lab.Zone
	name   string
	parent *lab.Zone
	shape  lab.Signing
	other  *brokenZone // its aliases lead there; nil: to nowhere
	breaks []change
	tags   []string
	ask    []question
}

// change is one way in which a zone is broken. Both funcs get a copy of the
// message that they may change at will; they are called from many goroutines.
type change struct {
	name string // and parameters, for people
	// child changes what the zone's server sends, parent what the parent's
	// sends about the zone.
	child, parent func(z *brokenZone, e *event)
}

// event is one reply on its way out.
type event struct {
	lab.Query
	m    *dns.Msg
	next lab.Handler // the server as it was before
}

// brokenNet is the whole internet.
type brokenNet struct {
	lab   *lab.Lab
	zones []*brokenZone
}

// generator makes zones from a seed.
type generator struct{ *rand.Rand }

// chance is true so many times in a hundred.
func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// generate lays out n zones below five kinds of parents. Nothing runs yet.
func generate(seed uint64, n int) *brokenNet {
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	b := &brokenNet{lab: lab.New(lab.Options{DNSPort: 53})}
	parents := []*lab.Zone{
		b.lab.Zone("by-nsec.", lab.Signing{SplitKeys: true}),
		b.lab.Zone("by-nsec3.", lab.Signing{Denial: lab.NSEC3}),
		b.lab.Zone("by-optout.", lab.Signing{Denial: lab.OptOut, Algorithm: dns.RSASHA256}),
		b.lab.Zone("by-costly.", lab.Signing{Denial: lab.OptOut, Iterations: 100}),
		b.lab.Zone("unsigned.", lab.Signing{None: true}),
	}
	children := map[string]*brokenZone{}
	for i := range n {
		z := g.zone(i, parents, b.zones)
		z.Zone = b.lab.Zone(z.name, z.shape)
		z.Add(z.records()...)
		if len(z.breaks) > 0 {
			z.Wrap(z.wrapChild)
		}
		children[z.name] = z
		b.zones = append(b.zones, z)
	}
	for _, p := range parents {
		p.Wrap(func(next lab.Handler) lab.Handler { return wrapParent(p.Name(), children, next) })
	}
	return b
}

// zone makes one zone: a shape, up to two breaks, and the questions.
func (g generator) zone(i int, parents []*lab.Zone, before []*brokenZone) *brokenZone {
	last := len(parents) - 1
	parent := parents[g.IntN(last)]
	if g.chance(4) {
		parent = parents[last]
	}
	z := &brokenZone{name: fmt.Sprintf("z%03d.%s", i, parent.Name()), parent: parent}
	if len(before) > 0 {
		z.other = before[g.IntN(len(before))]
	}
	g.reshape(z)
	if parent == parents[last] {
		z.tags = append(z.tags, "no-ds")
	}
	all := breakKinds()
	var kinds []breakKind
	var wanted []string
	for range pick(g, 0, 1, 1, 1, 1, 1, 1, 2, 2) {
		if z.shape.None && !g.chance(20) {
			continue // little of an unsigned zone can break
		}
		kinds = append(kinds, all[g.IntN(len(all))])
	}
	slices.SortStableFunc(kinds, func(a, b breakKind) int { return b.order() - a.order() })
	for _, k := range kinds {
		c := k.make(g)
		c.name = strings.TrimSpace(k.name + " " + c.name)
		z.breaks = append(z.breaks, c)
		z.tags = append(z.tags, k.name)
		wanted = append(wanted, k.shows...)
	}
	g.askAbout(z, wanted)
	return z
}

// reshape chooses how the zone is signed.
func (g generator) reshape(z *brokenZone) {
	s := &z.shape
	s.Denial = pick(g, lab.NSEC, lab.NSEC, lab.NSEC3, lab.NSEC3, lab.OptOut)
	s.SplitKeys = g.chance(50)
	s.Algorithm = dns.ECDSAP256SHA256
	switch p := g.IntN(100); {
	case p < 4:
		s.None = true
	case p < 8:
		s.NoDS = true
	case p < 10:
		s.Expired = true
	case p < 11:
		s.LongRSA = true
	case p < 14:
		s.Algorithm = pick(g, dns.RSASHA256, dns.RSASHA512)
	case p < 22:
		s.Algorithm = pick(g, dns.ED25519, dns.ECDSAP384SHA384)
	case p < 24:
		s.Algorithm = dns.RSASHA1NSEC3SHA1
	}
	if s.Denial != lab.NSEC && g.chance(20) {
		s.Iterations = pick[uint16](g, 1, 10, 50, 51, 100, 150)
	}
	tag := func(on bool, name string) {
		if on {
			z.tags = append(z.tags, name)
		}
	}
	tag(s.None, "unsigned")
	tag(s.NoDS, "no-ds")
	tag(s.Expired, "all-expired")
	tag(s.LongRSA, "long-rsa")
	tag(s.Algorithm == dns.RSASHA1NSEC3SHA1, "sha1")
	tag(s.Denial == lab.OptOut, "opt-out")
	tag(s.Denial != lab.NSEC && s.Iterations > 50, "iterations-over-50")
}

// records is what every zone has.
func (z *brokenZone) records() []string {
	out := []string{
		"@ MX 10 mx", "mx A 192.0.2.25", "_25._tcp.mx TLSA 3 1 1 " + strings.Repeat("0123456789abcdef", 4),
		"www A 192.0.2.80", "www A 192.0.2.81", "www AAAA 2001:db8::80", "alias CNAME www",
		"*.wild A 192.0.2.99", "here.wild A 192.0.2.98", "*.cwild CNAME www", "b.ent A 192.0.2.7",
		"*._tcp.star TLSA 2 0 1 " + strings.Repeat("89abcdef01234567", 4), "_25._tcp.star TLSA 3 1 1 " + strings.Repeat("fedcba9876543210", 4),
	}
	if z.other != nil {
		out = append(out, "far CNAME www."+z.other.name, "farther CNAME alias."+z.other.name, "sub DNAME "+z.other.name,
			"_25._tcp.far CNAME _25._tcp.mx."+z.other.name)
	}
	return out
}

// menu is what can be asked of a zone, by the word that breaks use for it.
func menu() map[string][]string {
	return map[string][]string{
		"data":     {"www A", "_25._tcp.mx TLSA", "@ MX", "www AAAA"},
		"tlsa":     {"_25._tcp.mx TLSA"},
		"beside":   {"here.wild A", "_25._tcp.star TLSA"},
		"nodata":   {"www TXT", "mx AAAA", "@ TXT"},
		"ent":      {"ent A", "_tcp.mx TLSA"},
		"nxdomain": {"nope A", "_25._tcp.www TLSA", "a.b.nope A"},
		"wild":     {"x.wild A", "x.y.wild A", "_99._tcp.star TLSA"},
		"wildless": {"x.wild TXT"},
		"cname":    {"alias A", "x.cwild A"},
		"far":      {"far A", "farther A", "www.sub A", "_25._tcp.mx.sub TLSA", "_25._tcp.far TLSA", "nope.sub A"},
	}
}

// askAbout chooses four questions: one about what is broken, one for TLSA records.
func (g generator) askAbout(z *brokenZone, wanted []string) {
	words := []string{"data", "nodata", "ent", "nxdomain", "wild", "wildless", "cname", "beside"}
	if z.other != nil {
		words = append(words, "far")
	}
	all := menu()
	seen := map[string]bool{}
	for i := 0; i < 4; {
		word := words[g.IntN(len(words))]
		switch {
		case i == 0 && len(wanted) > 0:
			word = wanted[g.IntN(len(wanted))]
		case i == 1 && !seen["_25._tcp.mx TLSA"]:
			word = "tlsa"
		}
		text := all[word][g.IntN(len(all[word]))]
		if seen[text] {
			continue
		}
		seen[text] = true
		i++
		label, qtype, _ := strings.Cut(text, " ")
		name := z.name
		if label != "@" {
			name = label + "." + z.name
		}
		z.ask = append(z.ask, question{name: name, qtype: dns.StringToType[qtype]})
	}
}

// asked returns the zone's questions with the tags of all zones in play.
func (b *brokenNet) asked(z *brokenZone) []*asked {
	var out []*asked
	for _, q := range z.ask {
		t := b.truthOf(q)
		a := &asked{question: q, withDelv: true, truth: &t, tags: t.tags()}
		var about []string
		for _, in := range t.path {
			about = append(about, in.String())
		}
		a.about = strings.Join(about, "\n    ")
		out = append(out, a)
	}
	return out
}

// String describes the zone for the record.
func (z *brokenZone) String() string {
	var breaks []string
	for _, c := range z.breaks {
		breaks = append(breaks, c.name)
	}
	return fmt.Sprintf("%s\t%+v\t%s", z.name, z.shape, strings.Join(breaks, "; "))
}

func (z *brokenZone) wrapChild(next lab.Handler) lab.Handler {
	return func(q lab.Query) *dns.Msg {
		m := next(q)
		if m == nil || !dns.IsSubDomain(z.name, q.Name()) {
			return m // a changed address may lead here
		}
		e := &event{Query: q, m: m.Copy(), next: next}
		for _, c := range z.breaks {
			if c.child != nil {
				c.child(z, e)
			}
		}
		return e.m
	}
}

// wrapParent lets the breaks of the zone that a question is about change what
// the parent says.
func wrapParent(parent string, children map[string]*brokenZone, next lab.Handler) lab.Handler {
	return func(q lab.Query) *dns.Msg {
		m := next(q)
		labels := dns.SplitDomainName(q.Name())
		if n := len(labels) - dns.CountLabel(parent); m == nil || n < 1 {
			return m
		} else if z := children[dns.Fqdn(strings.Join(labels[n-1:], "."))]; z != nil {
			e := &event{Query: q, m: m.Copy(), next: next}
			for _, c := range z.breaks {
				if c.parent != nil {
					c.parent(z, e)
				}
			}
			return e.m
		}
		return m
	}
}
