package resolver

import (
	"strings"

	"danepost/resolver/dnssec"
)

// minimiser decides how much of a question the servers of a zone are shown
// (RFC 9156 §2.3).
type minimiser struct {
	q     question
	whole bool        // all of it
	upTo  dnssec.Name // the longest ancestor of q.name that is known to lie in the zone asked
	taken int         // probes sent for this name
}

func (x *resolution) minimiser(q question, d *delegation) *minimiser {
	return &minimiser{q: q, whole: !x.r.minimise || d.forward, upTo: d.zone}
}

// seen takes note of the reply to a probe: the name exists (or is an empty
// non-terminal) in the zone asked, so the next probe goes further. A name said not to
// exist is asked for in full, since some servers say so of empty non-terminals.
func (m *minimiser) seen(probe question, f *fact) {
	m.upTo = probe.name
	if f.set == nil && f.rcode == rcodeNXDomain || probe.name == m.q.name {
		m.whole = true
	}
}

// failed takes note that no server answered a probe usefully. Some do not like the
// type, and answer for NS; after that the whole question is shown.
func (m *minimiser) failed(x *resolution, fl *failure) {
	if x.probeNS || fl.Reason != reasonUseless {
		m.whole = true
		return
	}
	x.probeNS = true
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
		// The type is hidden where that costs nothing: who asks for AAAA needs A as well.
		if have >= total && m.q.qtype != TypeAAAA {
			break
		}
		if !x.existsIn(name, d.zone) {
			m.taken++
			x.probes++
			return question{name, x.probeType()}
		}
		m.upTo = name
	}
	return m.q
}

// probeType is the type that probes ask for: A hides most (RFC 9156 §2.1).
func (x *resolution) probeType() uint16 {
	if x.probeNS {
		return TypeNS
	}
	return TypeA
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
		if x.holds(zone, name, t) {
			return true
		}
	}
	return false
}
