// Package resolver finds DNS data by itself, from the root down, and has
// every verdict on it from package dnssec.
//
// A look-up is a resolution: the question is followed from the closest zone
// known, referral by referral, to the servers that hold the answer (RFC 1034
// §5.3.3), then the chain of trust is followed from the anchor to the zone that
// signed it (RFC 4035 §5). The parts, in the order of that way:
//
//	resolver.go   Config, Lookup, Query
//	special.go    names that never leave the host
//	answer.go     alias chains: one judged step for each name
//	iterate.go    one name: cache, closest servers, referrals
//	minimise.go   how much of the name each server is shown
//	ask.go        one question to the servers of one zone
//	exchange.go   one server: EDNS, cookies, letter case, TCP
//	reply.go      what a message says
//	judge.go      what it is worth
//	trust.go      the chain of trust
//	aggressive.go denials that answer for other names too
//	kept.go       answers as the cache holds them
//	forward.go    recursive servers as transport, where port 53 is closed
//	listener.go   other programs of the host as clients
package resolver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"danepost/resolver/dnssec"
)

// Config says what a Resolver works with. Zero values give what a host on the
// Internet wants, except that Anchors must be set: without it all is Insecure.
type Config struct {
	Hints   []Nameserver // root servers to start from; default: DefaultHints
	Stubs   []Stub       // delegations known beforehand, never replaced
	Anchors func() []dnssec.Anchor
	// Ready returns why look-ups cannot be judged yet, such as a clock that was
	// not set; nil or a nil error if they can. Mail waits meanwhile.
	Ready func() error
	// ClockNames are the names of time servers: while Ready fails, Query (not
	// Lookup) answers them unvalidated, so that the clock can be set at all.
	ClockNames      []dnssec.Name
	NegativeAnchors []dnssec.Name // zones exempt from validation (RFC 7646)
	Rules           *dnssec.Rules // default: dnssec.DefaultRules(false)

	Forward     ForwardMode
	ForwardTo   []netip.AddrPort // recursive servers for ForwardAlways and ForwardAuto
	Listen      netip.AddrPort   // where this resolver itself serves, never forwarded to
	Port        uint16           // of authoritative servers; default 53
	NoMinimise  bool             // send whole names to every server (RFC 9156 off)
	KeepCase    bool             // no random letter case
	NoIPv4      bool
	NoIPv6      bool
	LooseGlue   bool // take glue, for the delegation it came with, from outside the zone that sent it
	AskLoopback bool // servers on loopback addresses may be asked, as test networks need

	Transport  Transport // default: UDP and TCP sockets
	Now        func() time.Time
	Limits     *Limits // default: DefaultLimits
	CacheBytes int     // default 8 MiB
	Random     io.Reader
	Log        *slog.Logger
}

// Stub is a delegation from the configuration.
type Stub struct {
	Zone    dnssec.Name
	Servers []Nameserver
}

// Resolver is safe for concurrent use.
type Resolver struct {
	lim       Limits
	rules     *dnssec.Rules
	anchors   func() []dnssec.Anchor
	anchorSum atomic.Uint64 // of the anchors last used
	ready     func() error
	clock     map[dnssec.Name]bool
	exempt    map[dnssec.Name]bool
	hints     *delegation
	stubs     map[dnssec.Name]*delegation
	forward   *forwarder
	port      uint16
	minimise  bool
	keepCase  bool
	family    [2]bool // IPv4, IPv6 in use
	loopback  bool
	looseGlue bool
	transport Transport
	own       *netTransport // transport, where it was made here
	now       func() time.Time
	source    io.Reader
	log       *slog.Logger
	cache     *cache
	servers   *servers
	flights   flights
	ownRoot   bool // the hints are not those of the Internet

	life context.Context // ends with Close
	end  context.CancelFunc
}

// New makes a Resolver. Close it when done.
func New(c Config) *Resolver {
	ownRoot := len(c.Hints) > 0
	c = c.withDefaults()
	r := &Resolver{
		lim: *c.Limits, rules: c.Rules, anchors: c.Anchors, ready: c.Ready,
		exempt: make(map[dnssec.Name]bool), stubs: make(map[dnssec.Name]*delegation),
		port: c.Port, minimise: !c.NoMinimise, keepCase: c.KeepCase,
		family: [2]bool{!c.NoIPv4, !c.NoIPv6}, loopback: c.AskLoopback, looseGlue: c.LooseGlue,
		transport: c.Transport, now: c.Now, source: c.Random, log: c.Log,
		cache: newCache(c.CacheBytes), ownRoot: ownRoot, clock: make(map[dnssec.Name]bool),
	}
	if r.transport == nil {
		r.own = newNetTransport(&r.lim)
		r.transport = r.own
	}
	r.flights.flying = make(map[flightKey]*flight)
	var secret [16]byte
	binary.BigEndian.PutUint64(secret[:], r.random())
	binary.BigEndian.PutUint64(secret[8:], r.random())
	r.servers = newServers(&r.lim, secret)
	for _, n := range c.NegativeAnchors {
		r.exempt[n] = true
	}
	for _, n := range c.ClockNames {
		r.clock[n] = true
	}
	r.hints = &delegation{zone: dnssec.Root, servers: c.Hints, fixed: true}
	for _, s := range c.Stubs {
		r.stubs[s.Zone] = &delegation{zone: s.Zone, servers: s.Servers, fixed: true}
	}
	r.forward = newForwarder(&c)
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// withDefaults is the one place where zero values get their meaning.
func (c Config) withDefaults() Config {
	if len(c.Hints) == 0 {
		c.Hints = DefaultHints()
	}
	if c.Anchors == nil {
		c.Anchors = func() []dnssec.Anchor { return nil }
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Rules == nil {
		c.Rules = dnssec.DefaultRules(false)
	}
	if c.Port == 0 {
		c.Port = 53
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Limits == nil {
		lim := DefaultLimits()
		c.Limits = &lim
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 8 << 20
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Close releases the sockets kept. Look-ups under way may fail.
func (r *Resolver) Close() error {
	r.end()
	r.forward.probes.Wait()
	if r.own != nil {
		return r.own.Close()
	}
	return nil
}

// random returns 64 bits that nobody can guess (RFC 5452 §9.2).
func (r *Resolver) random() uint64 {
	var b [8]byte
	if _, err := io.ReadFull(r.source, b[:]); err != nil {
		panic("resolver: the source of random bits failed: " + err.Error())
	}
	return binary.BigEndian.Uint64(b[:])
}

// negative reports whether zone is a negative trust anchor.
func (r *Resolver) negative(zone dnssec.Name) bool {
	return len(r.exempt) > 0 && r.exempt[zone]
}

// addressTypes lists the address records worth asking for.
func (r *Resolver) addressTypes() []uint16 {
	var out []uint16
	if r.family[0] {
		out = append(out, TypeA)
	}
	if r.family[1] {
		out = append(out, TypeAAAA)
	}
	return out
}

// usable reports whether ip may be asked for zones that a stranger delegated
// to it: not one of the host's own, or of no single host (RFC 6761, RFC 5735 §4).
func (r *Resolver) usable(ip netip.Addr, d *delegation) bool {
	ip = ip.Unmap()
	if ip.Is4() && !r.family[0] || ip.Is6() && !r.family[1] {
		return false
	}
	if d.fixed {
		return true
	}
	return !ip.IsUnspecified() && !ip.IsMulticast() && (r.loopback || !ip.IsLoopback())
}

// Lookup returns the validated answer for a name in presentation format. It
// always returns an Answer; one that could not be had says why in its verdict. It honours ctx.
func (r *Resolver) Lookup(ctx context.Context, name string, qtype uint16) *Answer {
	n, err := dnssec.ParseName(name)
	if err != nil {
		return &Answer{Type: qtype, Rcode: rcodeServFail, Verdict: dnssec.Verdict{
			Reason: "name-invalid", Text: err.Error(), EDE: edeOther}}
	}
	q := question{n, qtype}
	if a := r.cachedAnswer(q); a != nil {
		return a
	}
	return r.resolve(ctx, q, true).answer
}

// resolve answers from the cache or by a resolution, one for all who ask the
// same at the same time.
func (r *Resolver) resolve(ctx context.Context, q question, check bool) *outcome {
	if check {
		if o := r.cachedOutcome(q); o != nil {
			return o
		}
	}
	if o := r.special(q); o != nil {
		return o
	}
	if check {
		if err := r.ready(); err != nil {
			return refusal(q, "not-ready", edeNotReady, err.Error())
		}
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.lim.Time)
	defer cancel()
	r.chooseWay(ctx)
	x := r.newResolution(ctx)
	if !check {
		return x.timed(x.answer(q, false), start)
	}
	k := flightKey{cacheKey: cacheKey{q.name, q.qtype, kindOutcome}}
	v, shared := r.flights.do(x, k, func() any { return r.lead(x, q) })
	if shared {
		return v.(*outcome)
	}
	return x.timed(v.(*outcome), start)
}

// lead resolves q for all who wait for it and keeps the outcome.
func (r *Resolver) lead(x *resolution, q question) *outcome {
	o := x.answer(q, true)
	switch {
	case r.reconsider(x.ctx, o.verdict):
		x.forward = true
		r.cache.drop(cacheKey{q.name, q.qtype, kindFailure})
		o = x.answer(q, true)
	case r.forward.deserted(x, o.verdict):
		x.forward = false
		r.cache.drop(cacheKey{q.name, q.qtype, kindFailure})
		if direct := x.answer(q, true); !direct.failed() {
			o = direct
			r.iterateAgain("the configured resolvers do not answer, and the name servers do; iterating")
		}
	}
	if o.expires.After(x.now) {
		x.keepOutcome(q, o)
	}
	return o
}

// timed enters how long the call took.
func (x *resolution) timed(o *outcome, start time.Time) *outcome {
	a := *o.answer
	a.Elapsed = time.Since(start)
	c := *o
	c.answer = &a
	return &c
}

// settled returns o as the cache shows it to those who come later.
func (o *outcome) settled() *outcome {
	a := *o.answer
	a.Queries = 0
	c := *o
	c.answer = &a
	c.steps = make([]step, len(o.steps))
	for i, s := range o.steps {
		s.fact = s.fact.lean()
		c.steps[i] = s
	}
	return &c
}

// refusal is an outcome without resolution.
func refusal(q question, reason dnssec.Reason, ede int, text string) *outcome {
	v := dnssec.Verdict{Reason: reason, Text: text, EDE: ede}
	return &outcome{rcode: rcodeServFail, verdict: v, answer: &Answer{
		Name: q.name, Type: q.qtype, Rcode: rcodeServFail, Verdict: v, Final: q.name,
	}}
}

// RawDNSKEY fetches the DNSKEY RRset of a zone from its servers, past the cache and
// unjudged: who tracks trust anchors (RFC 5011) judges it by other rules.
func (r *Resolver) RawDNSKEY(ctx context.Context, zone dnssec.Name) (*dnssec.RRset, error) {
	ctx, cancel := context.WithTimeout(ctx, r.lim.Time)
	defer cancel()
	x := r.newResolution(ctx)
	q := question{zone, typeDNSKEY}
	d := x.best(q)
	for range r.lim.Referrals {
		rep, fl := x.askServers(d, q)
		if fl != nil {
			return nil, fl
		}
		if rep.kind == referred { // a trust point below the root whose servers are not known yet
			if d, fl = x.follow(rep.to); fl != nil {
				return nil, fl
			}
			continue
		}
		if rep.kind != answered || rep.facts[0].set == nil || rep.facts[0].set.Type != typeDNSKEY {
			return nil, fail("dnskey-missing", edeOther, "the servers of %s show no DNSKEY records", zone)
		}
		return rep.facts[0].set, nil
	}
	return nil, limitReached("referrals", r.lim.Referrals)
}
