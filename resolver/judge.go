package resolver

import (
	"fmt"
	"net/netip"
	"time"

	"danepost/resolver/dnssec"
)

// judgement is what was proved about a fact. Immutable.
type judgement struct {
	dnssec.Verdict
	chain    []ZoneTrust
	ends     time.Time // of the earliest signature it rests on; zero unless Secure
	until    time.Time // end of the TTL that the signatures allow; zero if they set none
	denial   *dnssec.Denial
	zone     dnssec.Name // that proved it
	wildcard dnssec.Name // the closest encloser of an expansion, "" for none
	extra    bool        // what came along beyond the proof verified
}

// settle finds q and has it judged; data that is Bogus is asked for again, from
// servers that did not send it, before that is the verdict: one broken server
// among several must not break a domain.
func (x *resolution) settle(q question, judge func(*fact) dnssec.Verdict) (*fact, dnssec.Verdict) {
	f, fl := x.find(q)
	if fl != nil {
		return nil, fl.Verdict
	}
	v := judge(f)
	before := x.avoid
	defer func() { x.avoid = before }()
	for v.Status == dnssec.Bogus && x.restart < x.r.lim.BogusRestarts && !x.spent() {
		x.restart++
		x.shun(f)
		x.forget(f)
		again, fl := x.descend(q, x.best(q))
		if fl != nil {
			break
		}
		f, v = again, judge(again)
	}
	if v.Status == dnssec.Bogus {
		x.doubt(f.zone)
	}
	return f, v
}

// doubt forgets what was learned about a zone before: Bogus data may be that of a zone
// which got other keys or servers, or went up in its parent, before the TTLs of
// its former state were over. Once this verdict is, the way there begins at the
// parent again. A zone whose delegation is fresh is what it is.
func (x *resolution) doubt(zone dnssec.Name) {
	d := x.known(zone)
	if d == nil || d.fixed || d.since.IsZero() || x.now.Sub(d.since) < x.r.lim.BogusTTL {
		return
	}
	delete(x.cuts, zone)
	x.r.cache.drop(cacheKey{zone, 0, kindDelegation})
	x.r.cache.drop(cacheKey{zone, typeDS, kindFact})
	x.r.cache.drop(cacheKey{zone, typeDS, kindOutcome})
	if t, ok := x.r.cache.get(cacheKey{zone, 0, kindTrust}, x.now).(*trust); ok && t.Status == dnssec.Secure {
		x.r.cache.drop(cacheKey{zone, 0, kindTrust})
	}
}

// shun leaves the server of f out from now on. If it was asked without EDNS it
// could not send signatures: the next resolution tries it with EDNS again.
func (x *resolution) shun(f *fact) {
	x.r.servers.note(f.from, x.now, func(st *serverState) { st.noEDNS = time.Time{} })
	if f.rank == rankChained {
		return // what came along with an alias was perhaps never the server's to tell: it is asked for that
	}
	next := make(map[netip.AddrPort]bool, len(x.avoid)+1)
	for a := range x.avoid {
		next[a] = true
	}
	next[f.from] = true
	x.avoid = next
}

// forget takes a fact out of the cache.
func (x *resolution) forget(f *fact) {
	delete(x.seen, question{f.name, f.qtype})
	x.r.cache.drop(cacheKey{f.name, f.qtype, kindFact})
	x.r.cache.drop(cacheKey{f.name, f.qtype, kindOutcome})
	if f.rcode == rcodeNXDomain {
		x.r.cache.drop(cacheKey{f.name, 0, kindName})
	}
}

// judged settles q, keeps the judgement with the fact, and returns both. The fact is
// nil where none could be had.
func (x *resolution) judged(q question) (*fact, *judgement) {
	var j, dname *judgement
	f, v := x.settle(q, func(f *fact) dnssec.Verdict {
		j, dname = x.judge(q, f), nil
		if f.contradicted && j.Status == dnssec.Secure {
			dname, j = j, contradiction(f, j)
		}
		return j.Verdict
	})
	if f == nil {
		return nil, &judgement{Verdict: v}
	}
	if dname != nil {
		clean := *f
		clean.contradicted = false
		x.keep(&clean, dname)
		return f, j
	}
	if f.judged == nil && j.Status != dnssec.Indeterminate {
		f = x.keep(f, j)
	}
	return f, j
}

// contradiction judges a message that held both a DNAME that verified and a CNAME
// that it does not make (RFC 6672 §5.3.1). The DNAME is good for other
// questions; the message was changed by somebody.
func contradiction(f *fact, dname *judgement) *judgement {
	return &judgement{chain: dname.chain, zone: dname.zone, Verdict: dnssec.Verdict{
		Status: dnssec.Bogus, Reason: "cname-contradicts-dname", EDE: edeBogus,
		Text: fmt.Sprintf("a CNAME came along that the signed DNAME at %s does not make", f.name),
	}}
}

// keep replaces a fact by its judged self. What is Bogus does not stay in the
// cache as a fact: the answer made of it does, for a short while.
func (x *resolution) keep(f *fact, j *judgement) *fact {
	c := *f
	c.judged = j
	if j.Status == dnssec.Secure && j.denial != nil {
		c.proof = j.proofs(f.proof)
	}
	if !j.extra {
		c.extra = nil
	}
	c.expires = minEnd(f.expires, j.until)
	if j.Status == dnssec.Secure && c.set != nil && c.set.Type == TypeDNAME {
		// Kept at least into the next second: at TTL zero each name below would cost a query.
		c.expires = maxTime(c.expires, x.now.Truncate(time.Second).Add(2*time.Second))
	}
	if j.Status == dnssec.Bogus {
		x.forget(f)
		return &c
	}
	if c.expires.After(x.now) {
		x.store(&c)
	}
	x.addDenial(j, &c)
	x.addWildcard(j, &c)
	return &c
}

// judge decides what a fact is worth (RFC 4035 §5). Its signatures say which
// zone to go to; where they turn out to be of no use, the way down to the name
// itself decides whether there should have been others.
func (x *resolution) judge(q question, f *fact) *judgement {
	if f.judged != nil {
		return f.judged
	}
	if f.set != nil && f.set.Type == typeRRSIG {
		return &judgement{Verdict: dnssec.Verdict{ // RFC 4035 §2.2: there is no RRSIG of an RRSIG
			Status: dnssec.Insecure, Reason: "signature-unsigned", EDE: -1, Text: "signatures are not signed themselves",
		}}
	}
	if len(f.more) > 0 {
		return x.judgeAll(q, f)
	}
	owner := f.name
	if f.qtype == typeDS && owner != dnssec.Root {
		owner = owner.Parent() // parent side data (RFC 4035 §3.1.4.1)
	}
	at, signed := signer(f, owner)
	if f.zone != "" && f.zone.IsBelow(at) && owner.IsSubdomainOf(f.zone) && !x.forward {
		at = f.zone // a zone above it must not sign in its stead (RFC 4035 §5.3.1)
	}
	t := x.trustFor(at, signed)
	if top, _ := x.anchorsOver(owner); t.Status == dnssec.Insecure && top.IsBelow(at) {
		// An anchor stands between, so that what is insecure above it says nothing.
		at = top
		t = x.trustFor(at, false)
	}
	j := x.weigh(t, q, f)
	if below := x.below(f, owner, signed); j.Status == dnssec.Bogus && t.Status == dnssec.Secure && at != below {
		t2 := x.trustFor(below, false)
		if t2.Status != dnssec.Indeterminate && t2.zone != t.zone {
			t, j = t2, x.weigh(t2, q, f)
		}
	}
	j.chain, j.zone = t.chain, t.zone
	j.Verdict = x.stripped(j.Verdict, f.from)
	return j
}

// below returns the name whose zone decides on data that its signer's keys do not
// fit. Records that bear a signature are those of the zone whose server sent
// them: that opt-out would allow an unsigned delegation further down is no
// excuse for a signature that does not fit.
func (x *resolution) below(f *fact, owner dnssec.Name, signed bool) dnssec.Name {
	if f.set != nil && signed && f.zone != "" && owner.IsSubdomainOf(f.zone) && !x.forward {
		return f.zone
	}
	return owner
}

// judgeAll judges each RRset of an answer to a question for ANY; the weakest decides.
func (x *resolution) judgeAll(q question, f *fact) *judgement {
	one := *f
	one.more = nil
	worst := x.judge(q, &one)
	for _, s := range f.more {
		one.set = s
		if j := x.judge(q, &one); worst.Status.Weaker(j.Status) != worst.Status {
			worst = j
		}
	}
	return worst
}

// signer returns the deepest zone that claims to have signed f. Where no
// signature can count, that is the zone whose servers sent it.
func signer(f *fact, owner dnssec.Name) (dnssec.Name, bool) {
	best := dnssec.Name("")
	look := func(s *dnssec.RRset) {
		for i := range s.Sigs {
			n := s.Sigs[i].Signer.Lower()
			if owner.IsSubdomainOf(n) && len(n) > len(best) {
				best = n
			}
		}
	}
	if f.set != nil {
		look(f.set)
	} else {
		for _, s := range f.proof {
			look(s)
		}
	}
	switch {
	case best != "":
		return best, true
	case f.zone != "" && owner.IsSubdomainOf(f.zone):
		return f.zone, false
	}
	return owner, false
}

// weigh judges f by the keys of the zone that it should come from.
func (x *resolution) weigh(t *trust, q question, f *fact) *judgement {
	if t.Status != dnssec.Secure {
		return &judgement{Verdict: t.Verdict}
	}
	if f.set == nil {
		return x.weighDenial(t, f)
	}
	p := t.keys.Verify(f.set, x.now, &x.budget)
	j := &judgement{Verdict: p.Verdict, ends: p.Expires}
	if p.Status != dnssec.Secure {
		return j
	}
	j.until = x.now.Add(x.ttl(p.TTL))
	if p.Wildcard == "" {
		if len(f.proof) > 0 {
			j.denial = t.keys.Denial(f.proof, x.now, &x.budget)
		}
		return j
	}
	if f.set.Type == TypeDNAME {
		// RFC 6672 §3.3: wildcards owning a DNAME make no sense
		j.Status, j.Reason, j.EDE = dnssec.Bogus, dnssec.ReasonSignerMismatch, edeBogus
		return j
	}
	j.wildcard = p.Wildcard
	j.extra = f.extra != nil && t.keys.Verify(f.extra, x.now, &x.budget).Status == dnssec.Secure
	j.denial = t.keys.Denial(f.proof, x.now, &x.budget)
	j.Verdict = j.denial.WildcardAnswer(f.set.Name, p.Wildcard, &x.budget)
	if j.Status == dnssec.Bogus {
		j.EDE = edeBogus // data is there, so the code for its lack would mislead
	}
	j.ends = minEnd(j.ends, j.denial.Expires)
	return j
}

// proofs leaves of what came in the authority section only what verified.
func (j *judgement) proofs(sets []*dnssec.RRset) []*dnssec.RRset {
	var out []*dnssec.RRset
	for _, s := range sets {
		if s.Type == typeSOA {
			out = append(out, s)
		}
	}
	return append(out, j.denial.Proofs()...)
}

// weighDenial judges a negative answer. Its SOA sets how long it is believed,
// so that must verify too.
func (x *resolution) weighDenial(t *trust, f *fact) *judgement {
	for _, s := range f.proof {
		if s.Type != typeSOA {
			continue
		}
		if p := t.keys.Verify(s, x.now, &x.budget); p.Status != dnssec.Secure {
			return &judgement{Verdict: p.Verdict}
		}
	}
	d := t.keys.Denial(f.proof, x.now, &x.budget)
	j := &judgement{ends: d.Expires, denial: d}
	if f.rcode == rcodeNXDomain {
		j.Verdict = d.NameError(f.name, &x.budget)
	} else {
		j.Verdict = d.NoData(f.name, f.qtype, &x.budget)
	}
	if j.Status == dnssec.Bogus && !f.hasSOA() {
		j.EDE = edeBogus // not a denial that lacks its proof: something else went wrong
	}
	return j
}

func minEnd(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
