package resolver

import (
	"time"

	"danepost/resolver/dnssec"
)

// outcome is the end of one resolution: the judged steps from the question to
// the final data, and the Answer made of them. Immutable.
type outcome struct {
	answer  *Answer
	steps   []step
	rcode   int
	verdict dnssec.Verdict // of the whole
	chain   []ZoneTrust    // where it failed
	expires time.Time
}

// step is one link of an alias chain, or the data (or its denial) at the end of it.
type step struct {
	name  dnssec.Name // asked for in this step
	fact  *fact
	j     *judgement
	alias bool
}

func (o *outcome) bytes() int {
	return 480 + 96*len(o.steps) + 48*len(o.answer.RRs) + 48*len(o.answer.Links) + len(o.verdict.Text)
}

// answer follows aliases from q to the data, each step found and judged by
// itself (RFC 1034 §5.3.3 step 4c).
func (x *resolution) answer(q question, check bool) *outcome {
	o := &outcome{verdict: dnssec.Verdict{Status: dnssec.Secure, Reason: dnssec.ReasonVerified, EDE: -1}}
	asked := q
	for {
		if len(o.steps) > x.r.lim.Aliases {
			o.fail(limitReached("aliases", x.r.lim.Aliases).Verdict)
			break
		}
		f, j := x.step(q, check)
		if f == nil || j.Status == dnssec.Indeterminate && check {
			o.fail(j.Verdict)
			if o.chain = j.chain; o.chain == nil {
				o.chain = x.chainSoFar(q.name)
			}
			break
		}
		next, isAlias, err := f.alias(q)
		o.steps = append(o.steps, step{q.name, f, j, isAlias})
		o.weaken(j.Verdict)
		o.rcode = f.rcode
		if err != nil {
			o.rcode = rcodeYXDomain // RFC 6672 §2.2
			break
		}
		if !isAlias || j.Status == dnssec.Bogus || q.qtype == TypeCNAME && f.set.Type == TypeDNAME && !f.denied {
			break // the CNAME that a DNAME makes is itself the answer to a question for CNAME
		}
		q.name = next
	}
	x.complete(o, asked, q)
	return o
}

// chainSoFar is the part of the way down to name that is known.
func (x *resolution) chainSoFar(name dnssec.Name) []ZoneTrust {
	top, _ := x.anchorsOver(name)
	if t := x.knownTrust(name, top); t != nil && top != "" {
		return t.chain
	}
	return nil
}

// step finds one name; without check nothing is judged.
func (x *resolution) step(q question, check bool) (*fact, *judgement) {
	if check {
		return x.judged(q)
	}
	f, fl := x.find(q)
	if fl != nil {
		return nil, &judgement{Verdict: fl.Verdict}
	}
	return f, &judgement{Verdict: dnssec.Verdict{Status: dnssec.Indeterminate, Reason: "not-checked", EDE: -1}}
}

// fail makes the whole answer one that could not be had.
func (o *outcome) fail(v dnssec.Verdict) {
	if v.Status != dnssec.Bogus {
		v.Status = dnssec.Indeterminate
	}
	o.verdict = v
}

// weaken takes the verdict of one step into that of the whole.
func (o *outcome) weaken(v dnssec.Verdict) {
	if o.verdict.Status.Weaker(v.Status) != o.verdict.Status {
		o.verdict = v
	}
}

// complete makes the Answer.
func (x *resolution) complete(o *outcome, asked, last question) {
	if o.failed() {
		o.rcode = rcodeServFail
	}
	a := &Answer{
		Name: asked.name, Type: asked.qtype, Rcode: o.rcode, Verdict: o.verdict,
		Final: last.name, FinalStatus: dnssec.Indeterminate, Queries: x.packets,
	}
	o.answer = a
	o.expires = x.now.Add(x.r.lim.MaxTTL)
	for _, s := range o.steps {
		o.expires = minTime(o.expires, s.fact.expires)
		a.Chain = s.j.chain
		a.SignatureEnd = minEnd(a.SignatureEnd, s.j.ends)
		if s.alias {
			a.Links = append(a.Links, Link{s.fact.set.Name, target(s.fact.set.Data[0]), s.fact.set.Type, s.j.Status})
			continue
		}
		a.FinalStatus = s.j.Status
		if s.fact.set != nil && !o.failed() {
			a.RRs = records(s.fact.set)
			for _, more := range s.fact.more {
				a.RRs = append(a.RRs, records(more)...)
			}
		}
	}
	if o.chain != nil {
		a.Chain = o.chain
	}
	switch o.verdict.Status {
	case dnssec.Bogus:
		o.expires = minTime(o.expires, x.now.Add(x.r.lim.BogusTTL))
		if len(o.steps) == 0 || !o.expires.After(x.now) {
			o.expires = x.now.Add(x.r.lim.BogusTTL)
		}
	case dnssec.Indeterminate:
		o.expires = x.now
	}
	if o.verdict.Status != dnssec.Secure {
		a.SignatureEnd = time.Time{}
	}
	a.Expires = o.expires
}

// failed reports whether the answer must be SERVFAIL (RFC 4035 §5.5).
func (o *outcome) failed() bool {
	s := o.verdict.Status
	return s == dnssec.Bogus || s == dnssec.Indeterminate && o.verdict.Reason != "not-checked"
}

// records turns an RRset into single records.
func records(s *dnssec.RRset) []RR {
	out := make([]RR, len(s.Data))
	for i, d := range s.Data {
		out[i] = RR{Name: s.Name, Type: s.Type, TTL: s.TTL, Data: d}
	}
	return out
}
