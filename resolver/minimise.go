package resolver

import (
	"strings"

	"danepost/resolver/dnssec"
)

// minimiser decides how much of a name the servers of a zone are shown
// (RFC 9156 §2.3).
type minimiser struct {
	q     question
	whole bool
	upTo  dnssec.Name // the longest ancestor of q.name known to have no cut above it to be found
	taken int         // probes sent for this name
}

func (x *resolution) minimiser(q question, d *delegation) *minimiser {
	return &minimiser{q: q, whole: !x.r.minimise || d.forward, upTo: d.zone}
}

// all makes the whole name be shown from now on.
func (m *minimiser) all() { m.whole = true }

// seen takes note of the reply to a probe: the name exists (or is an empty
// non-terminal) in the zone asked, so the next probe goes further. A name said not to
// exist is asked for in full, since some servers say so of empty non-terminals.
func (m *minimiser) seen(probe question, f *fact) {
	m.upTo = probe.name
	if f.set == nil && f.rcode == rcodeNXDomain {
		m.whole = true
	}
}

// next returns the question for the servers of d.
func (m *minimiser) next(x *resolution, d *delegation) question {
	if m.whole {
		return m.q
	}
	if d.zone.IsBelow(m.upTo) {
		m.upTo = d.zone
	}
	total := m.q.name.Labels()
	have := m.upTo.Labels()
	for have < total {
		have = m.step(x, have, total)
		name := m.q.name.Ancestor(have)
		// A label with an underscore is no place for a cut: it is taken in one
		// step with what follows (RFC 9156 §2.3).
		for have < total && strings.HasPrefix(firstLabel(name), "_") {
			have++
			name = m.q.name.Ancestor(have)
		}
		if have >= total {
			break
		}
		if !x.existsIn(name, d.zone) {
			m.taken++
			x.probes++
			return question{name, TypeA}
		}
		m.upTo = name
	}
	return m.q
}

// step returns how many labels to show after have: one more for the first
// few probes, then enough that the probes left reach the whole name
// (RFC 9156 §2.3 step 5).
func (m *minimiser) step(x *resolution, have, total int) int {
	left := x.r.lim.MinimiseSteps - m.taken
	switch {
	case left <= 0 || x.probes >= 3*x.r.lim.MinimiseSteps:
		return total
	case m.taken < x.r.lim.MinimiseOneLabel:
		return have + 1
	}
	return have + max(1, (total-have)/left)
}

// existsIn reports whether zone is known to hold name itself, so that no probe for it is needed.
func (x *resolution) existsIn(name, zone dnssec.Name) bool {
	for _, t := range []uint16{TypeA, TypeAAAA, TypeMX} {
		f, ok := x.r.cache.get(cacheKey{name, t, kindFact}, x.now).(*fact)
		if ok && f.zone == zone && f.name == name {
			return true
		}
	}
	return false
}
