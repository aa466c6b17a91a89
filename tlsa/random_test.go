package tlsa

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A scene is a random chain with random records, of which every flaw is
// known, so that the right verdict follows from how it was made and not from
// what its certificates say.
type scene struct {
	certs  []*minted // the server's own, its issuer, and so on up to a root
	flaws  []string  // by depth, "" for none
	sent   []bool    // by depth; the server's own always is
	chain  [][]byte
	specs  []recordSpec
	record []Record
}

// recordSpec is how a record was made.
type recordSpec struct {
	usage, selector, matching uint8
	target                    int // depth; -1: nothing of this chain
	cut                       bool
}

func (r recordSpec) usable() bool { return !r.cut && (r.usage == DANETA || r.usage == DANEEE) }

// stage makes scenes.
type stage struct {
	*mint
	rng      *rand.Rand
	supply   []crypto.Signer
	stranger *minted
}

func newStage(t testing.TB, seed uint64) *stage {
	s := &stage{
		mint: &mint{t: t, now: mustTime(t, vectorTime), byDER: map[string]crypto.Signer{}},
		rng:  rand.New(rand.NewPCG(seed, 1)),
	}
	for range 8 {
		s.supply = append(s.supply, s.newKey())
	}
	s.stranger = s.make(spec{CN: "Stranger", CA: true})
	return s
}

func (s *stage) chance(percent int) bool { return s.rng.IntN(100) < percent }

func (s *stage) pick(list ...string) string { return list[s.rng.IntN(len(list))] }

func (s *stage) scene() *scene {
	sc := &scene{}
	s.keys = slices.Clone(s.supply)
	s.rng.Shuffle(len(s.keys), func(i, j int) { s.keys[i], s.keys[j] = s.keys[j], s.keys[i] })
	top := s.rng.IntN(5)
	var issuer *minted
	for depth := top; depth >= 0; depth-- {
		flaw := ""
		if s.chance(12) {
			flaw = s.pick("expired", "future", "purpose", "name", "not-ca", "path-length", "critical")
		}
		issuer = s.make(s.flawed(depth, flaw, issuer))
		sc.certs = append(sc.certs, issuer)
		sc.flaws = append(sc.flaws, flawAt(flaw, depth))
	}
	slices.Reverse(sc.certs)
	slices.Reverse(sc.flaws)
	s.send(sc)
	for range 1 + s.rng.IntN(4) {
		s.publish(sc)
	}
	return sc
}

// flawAt drops the flaws that are none at this depth.
func flawAt(flaw string, depth int) string {
	switch {
	case flaw == "name" && depth > 0,
		flaw == "not-ca" && depth == 0,
		flaw == "path-length" && depth < 2:
		return ""
	}
	return flaw
}

func (s *stage) flawed(depth int, flaw string, issuer *minted) spec {
	out := spec{CN: fmt.Sprintf("Authority %d", depth), CA: depth > 0, Issuer: issuer}
	if depth == 0 {
		out.CN, out.DNS = "server", []string{s.pick(mx, "*.example.com")}
	}
	switch flawAt(flaw, depth) {
	case "expired":
		out.From, out.To = -9*day, -time.Hour
	case "future":
		out.From = time.Hour
	case "purpose":
		out.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case "name":
		out.DNS = []string{"mx.example.org"}
	case "not-ca":
		out.CA = false
	case "path-length":
		out.PathLen = -1
	case "critical":
		out.Extra = unknownCritical()
	}
	return out
}

// send decides what the server sends and in which order.
func (s *stage) send(sc *scene) {
	sc.sent = make([]bool, len(sc.certs))
	sc.sent[0] = true
	var rest [][]byte
	for depth := 1; depth < len(sc.certs); depth++ {
		if sc.sent[depth] = s.chance(75); sc.sent[depth] {
			rest = append(rest, sc.certs[depth].der)
		}
	}
	if s.chance(15) && len(rest) > 0 {
		rest = append(rest, rest[0])
	}
	if s.chance(15) {
		rest = append(rest, s.stranger.der)
	}
	if s.chance(30) {
		s.rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	}
	sc.chain = append([][]byte{sc.certs[0].der}, rest...)
}

// publish adds a random record.
func (s *stage) publish(sc *scene) {
	r := recordSpec{usage: DANETA, selector: uint8(s.rng.IntN(2)), matching: uint8(s.rng.IntN(3)), target: s.rng.IntN(len(sc.certs))}
	switch {
	case s.chance(30):
		r.usage, r.target = DANEEE, 0
	case s.chance(5):
		r.usage = uint8(s.rng.IntN(2))
	}
	source := sc.certs[r.target]
	if s.chance(25) {
		r.target, source = -1, s.stranger
	}
	rec := source.tlsa(r.usage, r.selector, r.matching)
	if r.target == -1 && r.matching != Full {
		rec = wrong(rec)
	}
	if s.chance(5) && r.matching != Full {
		r.cut = true
		rec = ParseRecord(append([]byte{r.usage, r.selector, r.matching}, rec.Data[:s.rng.IntN(20)]...))
	}
	sc.specs = append(sc.specs, r)
	sc.record = append(sc.record, rec)
}

// counting returns the records that are usable and not hidden by a stronger digest.
func (sc *scene) counting() []recordSpec {
	var out []recordSpec
	for _, r := range sc.specs {
		hidden := slices.ContainsFunc(sc.specs, func(o recordSpec) bool {
			return o.usable() && o.usage == r.usage && o.selector == r.selector && o.matching > r.matching
		})
		if r.usable() && (r.matching == Full || !hidden) {
			out = append(out, r)
		}
	}
	return out
}

// expect is the verdict that follows from how the scene was made.
func (sc *scene) expect() (Outcome, int) {
	counting := sc.counting()
	if len(counting) == 0 {
		return Unusable, -1
	}
	has := func(match func(recordSpec) bool) bool { return slices.ContainsFunc(counting, match) }
	if has(func(r recordSpec) bool { return r.usage == DANEEE && r.target == 0 }) {
		return Matched, 0
	}
	outcome := NoMatch
	if last := len(sc.certs) - 1; last == 0 { // signed by itself
		if has(func(r recordSpec) bool { return r == recordSpec{DANETA, SPKI, Full, 0, false} }) {
			return sc.sound(0, 0)
		}
	}
	reachable := true
	for k := 1; k < len(sc.certs); k++ {
		carried := has(func(r recordSpec) bool { return r == recordSpec{DANETA, Cert, Full, k, false} })
		here := sc.sent[k] || carried
		switch {
		case here && has(func(r recordSpec) bool { return r.usage == DANETA && r.target == k }):
			if !reachable {
				return Untrusted, -1
			}
			return sc.sound(k, k)
		case !here && reachable && has(func(r recordSpec) bool { return r == recordSpec{DANETA, SPKI, Full, k, false} }):
			return sc.sound(k-1, k-1)
		}
		reachable = reachable && here
	}
	// The stranger is a decoy where it is named and at hand.
	if has(func(r recordSpec) bool {
		return r.usage == DANETA && r.target == -1 && r.matching == Full && (r.selector == Cert || sc.strangerSent())
	}) {
		outcome = Untrusted
	}
	return outcome, -1
}

// strangerSent: the stranger is the only certificate without a place of its own.
func (sc *scene) strangerSent() bool {
	return slices.ContainsFunc(sc.chain, func(der []byte) bool {
		return !slices.ContainsFunc(sc.certs, func(c *minted) bool { return string(c.der) == string(der) })
	})
}

// sound judges the certificates up to depth: any flaw of one breaks the path.
func (sc *scene) sound(upTo, depth int) (Outcome, int) {
	for _, f := range sc.flaws[:upTo+1] {
		if f != "" {
			return Untrusted, depth
		}
	}
	return Matched, depth
}

func (sc *scene) String() string {
	var b strings.Builder
	for i := range sc.certs {
		fmt.Fprintf(&b, "depth %d sent %v flaw %q\n", i, sc.sent[i], sc.flaws[i])
	}
	for i, r := range sc.specs {
		fmt.Fprintf(&b, "record %d %d %d of depth %d cut %v: %s\n", r.usage, r.selector, r.matching, r.target, r.cut, sc.record[i].Short())
	}
	fmt.Fprintf(&b, "%d certificates sent", len(sc.chain))
	return b.String()
}

func TestRandomScenes(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 300
	}
	const seed = 20261122
	s := newStage(t, seed)
	count := map[Outcome]int{}
	for i := range n {
		sc := s.scene()
		got := Verify(Query{Records: sc.record, Chain: sc.chain, Names: []string{mx}, Now: s.now})
		outcome, depth := sc.expect()
		if got.Outcome != outcome || got.Depth != depth {
			t.Fatalf("scene %d: got %v at depth %d (%s), want %v at depth %d\n%s", i, got.Outcome, got.Depth, got.Reason, outcome, depth, sc)
		}
		count[outcome]++
	}
	for _, o := range []Outcome{Unusable, NoMatch, Untrusted, Matched} {
		if count[o] < n/100 {
			t.Errorf("only %d of %d scenes end in %v", count[o], n, o)
		}
	}
	t.Log(count)
}
