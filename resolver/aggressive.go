package resolver

import (
	"slices"
	"time"

	"danepost/resolver/dnssec"
)

// denials are the proofs of non-existence that a zone sent, latest last, for
// aggressive use (RFC 8198). Immutable.
type denials struct {
	entries []denialEntry
	all     *dnssec.Denial // of the entries together
	until   time.Time      // when the first entry expires and all is no longer right
}

type denialEntry struct {
	denial  *dnssec.Denial
	proof   []*dnssec.RRset
	chain   []ZoneTrust
	expires time.Time
}

func (d *denials) bytes() int { return 100 + 500*len(d.entries) }

// addDenial keeps what proved a negative answer or a wildcard, so that it can
// prove others.
func (x *resolution) addDenial(j *judgement, f *fact) {
	if j.Status != dnssec.Secure || j.denial == nil || !f.expires.After(x.now) {
		return
	}
	k := cacheKey{j.zone, 0, kindDenials}
	next := &denials{}
	if old, ok := x.r.cache.get(k, x.now).(*denials); ok {
		for _, e := range old.entries {
			if e.expires.After(x.now) {
				next.entries = append(next.entries, e)
			}
		}
	}
	// The TTL of a proof is that of its least part; RFC 8198 §5.4 caps it by the negative TTL.
	until := minTime(f.expires, x.now.Add(min(x.ttl(j.denial.TTL), x.r.lim.MaxNegativeTTL)))
	next.entries = append(next.entries, denialEntry{j.denial, f.proof, j.chain, until})
	if drop := len(next.entries) - x.r.lim.DenialsPerZone; drop > 0 {
		next.entries = next.entries[drop:]
	}
	next.join()
	x.r.cache.put(k, next, next.last())
}

// join computes all and until.
func (d *denials) join() {
	d.until = d.entries[0].expires
	for _, e := range d.entries {
		d.until = minTime(d.until, e.expires)
	}
	d.all = joined(d.entries)
}

func joined(entries []denialEntry) *dnssec.Denial {
	each := make([]*dnssec.Denial, len(entries))
	for i, e := range entries {
		each[i] = e.denial
	}
	return dnssec.Join(each...)
}

func (d *denials) last() time.Time {
	last := d.entries[0].expires
	for _, e := range d.entries {
		if e.expires.After(last) {
			last = e.expires
		}
	}
	return last
}

// aggressive denies q by proofs that came with other answers (RFC 8198 §5.1,
// §5.2); nil if they do not suffice. Opt-out spans are of no use for this.
func (x *resolution) aggressive(q question) *fact {
	name := q.name
	if q.qtype == typeDS && name != dnssec.Root {
		name = name.Parent()
	}
	for ; ; name = name.Parent() {
		if d, ok := x.r.cache.get(cacheKey{name, 0, kindDenials}, x.now).(*denials); ok {
			return x.denyBy(d, q)
		}
		// A zone cut in between: the proofs above it say nothing about q.
		if name == dnssec.Root || x.known(name) != nil {
			return nil
		}
	}
}

// addWildcard keeps the RRset of a wildcard under the wildcard's own name, so
// that it can answer other names (RFC 8198 §5.3).
func (x *resolution) addWildcard(j *judgement, f *fact) {
	if j.Status != dnssec.Secure || j.wildcard == "" || !f.expires.After(x.now) {
		return
	}
	c, set := *f, *f.set
	set.Name = j.wildcard.Wildcard()
	c.name, c.set, c.proof = set.Name, &set, nil
	x.r.cache.put(cacheKey{set.Name, set.Type, kindFact}, &c, c.expires)
}

// expand answers q from a wildcard that is known, where d proves that nothing
// closer to the name exists.
func (x *resolution) expand(e *denialEntry, q question, b *dnssec.Budget) *fact {
	for encloser := q.name.Parent(); ; encloser = encloser.Parent() {
		for _, t := range []uint16{q.qtype, TypeCNAME} {
			w, ok := x.r.cache.get(cacheKey{encloser.Wildcard(), t, kindFact}, x.now).(*fact)
			if !ok || !w.secure() || w.judged.wildcard != encloser {
				continue
			}
			if e.denial.WildcardAnswer(q.name, encloser, b).Status != dnssec.Secure {
				return nil
			}
			f, set := *w, *w.set
			set.Name = q.name
			f.name, f.set, f.proof = q.name, &set, e.proof
			f.expires = minTime(w.expires, e.expires)
			return &f
		}
		if encloser == dnssec.Root {
			return nil
		}
	}
}

// denyBy looks for as few proofs as suffice to deny q.
func (x *resolution) denyBy(d *denials, q question) *fact {
	b := &dnssec.Budget{NSEC3Hashes: x.r.lim.NSEC3Hashes / 4}
	for _, e := range slices.Backward(d.entries) {
		if rcode, ok := denies(e.denial, q, b); ok && e.expires.After(x.now) {
			return e.fact(q, rcode)
		}
	}
	for i := range d.entries {
		if e := &d.entries[i]; e.expires.After(x.now) {
			if f := x.expand(e, q, b); f != nil {
				return f
			}
		}
	}
	if len(d.entries) < 2 || !d.until.After(x.now) {
		return nil
	}
	rcode, ok := denies(d.all, q, b)
	if !ok {
		return nil
	}
	// Together they do: leave out one after the other that is not needed.
	needed := slices.Clone(d.entries)
	for i := len(needed) - 1; i >= 0 && len(needed) > 1; i-- {
		fewer := slices.Delete(slices.Clone(needed), i, i+1)
		if r, ok := denies(joined(fewer), q, b); ok && r == rcode {
			needed = fewer
		}
	}
	e := needed[len(needed)-1]
	e.denial, e.expires = joined(needed), d.until
	for _, n := range needed {
		e.proof = mergeSets(e.proof, n.proof)
	}
	return e.fact(q, rcode)
}

// denies reports whether d proves that there is no q, and how that is said.
func denies(d *dnssec.Denial, q question, b *dnssec.Budget) (rcode int, ok bool) {
	if d.NameError(q.name, b).Status == dnssec.Secure {
		return rcodeNXDomain, true
	}
	v := d.NoData(q.name, q.qtype, b)
	// In an opt-out span there is no signed delegation, whatever else there is.
	return rcodeNoError, v.Status == dnssec.Secure || q.qtype == typeDS && v.Reason == dnssec.ReasonOptOut
}

// fact makes the answer. It is left to be judged like one from a server where
// the proof is less than Secure.
func (e *denialEntry) fact(q question, rcode int) *fact {
	f := &fact{name: q.name, qtype: q.qtype, rcode: rcode, proof: e.proof, rank: rankAuthoritative, expires: e.expires}
	if q.qtype != typeDS {
		f.judged = &judgement{
			Verdict: dnssec.Verdict{Status: dnssec.Secure, Reason: dnssec.ReasonVerified, EDE: -1},
			chain:   e.chain, ends: e.denial.Expires,
		}
	}
	return f
}

// mergeSets adds the RRsets of more that are not in sets yet.
func mergeSets(sets, more []*dnssec.RRset) []*dnssec.RRset {
	for _, s := range more {
		if findSet(sets, s.Name, s.Type) == nil {
			sets = append(sets, s)
		}
	}
	return sets
}
