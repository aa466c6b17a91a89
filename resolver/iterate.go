package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"danepost/resolver/dnssec"
)

// resolution is the state of one resolution and all its sub-questions: what
// it may still spend, and what it must not do again. It belongs to one
// goroutine; only flights reads waiting, under its own lock.
type resolution struct {
	r       *Resolver
	ctx     context.Context
	now     time.Time
	anchors []dnssec.Anchor // as they were at its start
	budget  dnssec.Budget
	packets int // sent
	probes  int // of QNAME minimisation
	depth   int // questions that wait for one another
	restart int // because of bogus data

	offline bool // only chains of trust may be completed by asking
	forward bool // recursive servers are asked
	waiting *flight
	priming bool                        // or tried to already
	probeNS bool                        // servers do not answer probes for A, but for NS
	stuck   map[dnssec.Name]bool        // zones whose server addresses are being looked for
	pending map[question]bool           // questions under way
	trouble *asking                     // the last that a server failed
	seen    map[question]*fact          // facts that must not outlive the resolution
	cuts    map[dnssec.Name]*delegation // likewise
	avoid   map[netip.AddrPort]bool     // servers that sent bogus data
}

func (r *Resolver) newResolution(ctx context.Context) *resolution {
	return &resolution{
		r: r, ctx: ctx, now: r.now(), forward: r.forward.active.Load(), anchors: r.currentAnchors(),
		budget: dnssec.Budget{
			SignatureChecks: r.lim.SignatureChecks,
			FailedChecks:    r.lim.FailedChecks,
			NSEC3Hashes:     r.lim.NSEC3Hashes,
		},
	}
}

// failure is why a question has no answer. Its verdict is never Secure.
type failure struct {
	dnssec.Verdict
	expires time.Time // of a failure remembered
	count   int       // in a row
}

func (f *failure) Error() string { return f.Text }

func (f *failure) bytes() int { return 120 + len(f.Text) }

// The reasons of a question which no server of the zone answered: because none
// could be reached, or because none gave a useful reply.
const (
	reasonUnreachable dnssec.Reason = "no-reachable-server"
	reasonUseless     dnssec.Reason = "no-useful-server"
)

// fail makes a failure that says nothing about the data: Indeterminate.
func fail(reason dnssec.Reason, ede int, format string, args ...any) *failure {
	return &failure{Verdict: dnssec.Verdict{
		Status: dnssec.Indeterminate, Reason: reason, Text: fmt.Sprintf(format, args...), EDE: ede,
	}}
}

// RFC 8914 §4 codes that the resolver gives itself.
const (
	edeOther         = 0
	edeBogus         = 6
	edeDNSKEYMissing = 9
	edeNotReady      = 14
	edeProhibited    = 18
	edeNoReachable   = 22
	edeNetworkError  = 23
)

// limitReached makes the failure of a resolution that ran past a limit.
func limitReached(limit string, value any) *failure {
	return fail(dnssec.Reason("limit-"+limit), edeOther, "gave up at the limit of %v %s", value, limit)
}

// over returns why the resolution must end, nil if it need not.
func (x *resolution) over() *failure {
	switch err := x.ctx.Err(); {
	case errors.Is(err, context.Canceled):
		return fail("cancelled", edeOther, "the look-up was cancelled")
	case err != nil:
		return fail("limit-time", edeNoReachable, "no answer within the time of one resolution")
	case x.packets >= x.r.lim.Packets:
		return limitReached("packets", x.r.lim.Packets)
	}
	return nil
}

// spent reports whether what the resolution found may be due to its own end.
func (x *resolution) spent() bool { return x.over() != nil }

// find answers q with a fact, judged or not, by the algorithm of RFC 1034
// §5.3.3: what is known locally; else the closest servers known; ask them;
// and follow referrals until one answers. Aliases are facts, for the caller to follow.
func (x *resolution) find(q question) (*fact, *failure) {
	if f := x.local(q); f != nil {
		return f, nil
	}
	if f := x.remembered(q); f != nil {
		return nil, f
	}
	if x.offline && x.depth == 0 && q.qtype != typeDNSKEY && q.qtype != typeDS {
		return nil, fail(reasonUnknown, edeOther, "%s is not in the cache", q.name)
	}
	if x.pending[q] {
		return nil, fail("loop", edeNoReachable, "the look-up of %s depends on itself", q.name)
	}
	if x.depth >= x.r.lim.Depth {
		return nil, limitReached("depth", x.r.lim.Depth)
	}
	if x.pending == nil {
		x.pending = make(map[question]bool)
	}
	x.depth++
	x.pending[q] = true
	defer func() { x.depth--; delete(x.pending, q) }()
	f, fl := x.descend(q, x.best(q))
	if fl != nil {
		x.remember(q, fl)
		return nil, fl
	}
	return f, nil
}

// local looks for what is known already (RFC 1034 §5.3.3 step 1): the data, an
// alias, or that there is none; also by a proof about a name above (RFC 8020 §2, RFC 6672 §3.2).
func (x *resolution) local(q question) *fact {
	if f := x.seen[q]; f != nil {
		return f
	}
	c := x.r.cache
	if f := x.factAt(q.name, q.qtype); f != nil {
		return f
	}
	if q.qtype != TypeCNAME {
		alias := question{q.name, TypeCNAME}
		if f := x.seen[alias]; f != nil && f.set != nil {
			return f
		}
		if f := x.factAt(q.name, TypeCNAME); f != nil && f.set != nil {
			return f
		}
	}
	if f, ok := c.get(cacheKey{q.name, 0, kindName}, x.now).(*fact); ok {
		return f
	}
	if d := x.known(q.name); q.qtype == typeDS && d != nil {
		if f := d.dsFact(); f != nil {
			return f
		}
	}
	for n := q.name.Parent(); n != dnssec.Root; n = n.Parent() {
		if f, ok := c.get(cacheKey{n, 0, kindName}, x.now).(*fact); ok && f.secure() {
			return f.denying(q)
		}
		if f := x.factAt(n, TypeDNAME); f != nil && f.set != nil && f.secure() {
			c := *f
			c.denied = false // that was about another name
			return &c
		}
	}
	return x.aggressive(q)
}

func (f *fact) secure() bool {
	return f.judged != nil && f.judged.Status == dnssec.Secure
}

// denying makes of a proof that a name does not exist one for a name below it.
func (f *fact) denying(q question) *fact {
	c := *f
	c.name, c.qtype = q.name, q.qtype
	return &c
}

// store keeps a fact: for everyone in the cache, or for this resolution alone
// where its TTL is zero. More credible data is not displaced (RFC 2181 §5.4.1).
func (x *resolution) store(f *fact) {
	if !f.expires.After(x.now) {
		if x.seen == nil {
			x.seen = make(map[question]*fact)
		}
		x.seen[question{f.name, f.qtype}] = f
		return
	}
	f = f.lean()
	k := cacheKey{f.name, f.qtype, kindFact}
	if f.rcode == rcodeNXDomain && f.set == nil && f.hasSOA() && f.secure() {
		// Unproved it stands for its own type alone: there are servers that say
		// NXDOMAIN to all but the types they know, and forgers.
		x.r.cache.drop(k)
		k = cacheKey{f.name, 0, kindName}
	}
	if old, ok := x.r.cache.get(k, x.now).(*fact); ok && old.outranks(f) {
		return
	}
	if k.kind == kindFact && f.judged == nil {
		if old := x.factAt(f.name, f.qtype); old != nil && old.outranks(f) {
			return
		}
	}
	x.r.cache.put(k, f, f.expires)
}

// lean returns f as the cache keeps it.
func (f *fact) lean() *fact {
	if f.extra == nil {
		return f
	}
	c := *f
	c.extra = nil
	return &c
}

// hasSOA reports whether a denial came with the SOA that RFC 2308 §3 asks for.
func (f *fact) hasSOA() bool {
	for _, s := range f.proof {
		if s.Type == typeSOA {
			return true
		}
	}
	return false
}

func (f *fact) outranks(g *fact) bool {
	return f.rank > g.rank || f.secure() && g.judged == nil && f.rank >= g.rank
}

// descend asks the servers of d, and of the zones they refer to, until there
// is an answer (RFC 1034 §5.3.3 steps 3 and 4), showing each no more of
// the name than it needs (RFC 9156).
func (x *resolution) descend(q question, d *delegation) (*fact, *failure) {
	shown := x.minimiser(q, d)
	for hops := 0; hops < x.r.lim.Referrals; {
		probe := shown.next(x, d)
		rep, fl := x.ask(d, probe)
		switch {
		case fl != nil && probe != q && !x.spent():
			shown.failed(x, fl)
		case fl != nil:
			return nil, fl
		case rep.kind == referred:
			hops++
			next, fl := x.follow(rep.to)
			if fl != nil {
				return nil, fl
			}
			d = next
		case probe == q:
			return x.take(rep), nil
		default:
			shown.seen(probe, x.take(rep))
		}
	}
	return nil, limitReached("referrals", x.r.lim.Referrals)
}

// take stores what a reply says and returns the fact that answers the question.
func (x *resolution) take(rep *reply) *fact {
	for _, f := range rep.facts {
		x.store(f)
	}
	return rep.facts[0]
}

// follow goes to a delegation that was just received.
func (x *resolution) follow(to *delegation) (*delegation, *failure) {
	if x.r.stubs[to.zone] != nil {
		return x.r.stubs[to.zone], nil
	}
	if x.stuck[to.zone] && !to.hasAddrs() {
		return nil, fail("loop", edeNoReachable,
			"the addresses of the servers of %s can only be had from these servers", to.zone)
	}
	if to.expires.After(x.now) {
		x.r.cache.put(cacheKey{to.zone, 0, kindDelegation}, to, to.expires)
		return to, nil
	}
	if x.cuts == nil {
		x.cuts = make(map[dnssec.Name]*delegation)
	}
	x.cuts[to.zone] = to
	return to, nil
}

func (d *delegation) hasAddrs() bool {
	for _, s := range d.servers {
		if len(s.Addrs) > 0 {
			return true
		}
	}
	return false
}

// remembered returns a failure of the same question that is too recent to try
// again (RFC 9520 §3.2).
func (x *resolution) remembered(q question) *failure {
	f, ok := x.r.cache.get(cacheKey{q.name, q.qtype, kindFailure}, x.now).(*failure)
	if !ok || !x.now.Before(f.expires) {
		return nil
	}
	return f
}

// remember keeps a failure, for twice as long as the one before it. Failures that
// only say that this one resolution ended are not kept.
func (x *resolution) remember(q question, f *failure) {
	if f.Reason == "cancelled" || f.Reason == "loop" || f.Reason == "limit-depth" || f.count > 0 {
		return
	}
	kept := *f
	kept.count = 1
	wait := x.r.lim.FailTTL
	k := cacheKey{q.name, q.qtype, kindFailure}
	if old, ok := x.r.cache.get(k, x.now).(*failure); ok {
		kept.count = old.count + 1
		wait = min(wait<<min(old.count, 16), x.r.lim.MaxFailTTL)
	}
	kept.expires = x.now.Add(wait)
	// The entry outlives the failure, so that one that follows soon is known as the next in a row.
	x.r.cache.put(k, &kept, kept.expires.Add(x.r.lim.MaxFailTTL))
}
