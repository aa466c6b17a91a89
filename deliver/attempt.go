package deliver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"danepost/queue"
)

// Deliver attempts every recipient of the item and reports each outcome as it
// becomes known. When ctx ends, recipients without an outcome get no report.
func (d *Deliverer) Deliver(ctx context.Context, item *queue.Item, report func(queue.Result)) {
	// The queue groups by Destination; grouping again costs nothing and holds
	// when the configuration has changed since.
	groups := map[string][]*recipient{}
	var order []string
	for _, r := range item.Recipients {
		name := d.Destination(r.Address)
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], &recipient{ItemRecipient: r})
	}
	for _, name := range order {
		a := &attempt{d: d, ctx: ctx, item: item, report: report, pending: groups[name], left: maxSessions}
		a.run()
	}
}

// recipient is one that has no outcome yet.
type recipient struct {
	queue.ItemRecipient
	// refused is what one address of a host said for reasons of policy, while
	// the other family may yet accept.
	refused *trouble
	waiting bool // for that other family
}

// attempt is one item on its way to one hop. It is used by one goroutine.
type attempt struct {
	d       *Deliverer
	ctx     context.Context
	item    *queue.Item
	report  func(queue.Result)
	content *content

	route    route
	pending  []*recipient
	left     int       // connections that may still be opened
	failures []trouble // of hosts, in order
	flipped  bool      // the other family was given its chance
	mayFlip  bool      // the session in use has another family to fall back on
}

// trouble is a failure and where it happened.
type trouble struct {
	at place
	f  *failure
}

// place is what a log line says about where a recipient's mail was. s is nil
// before a connection.
type place struct {
	host string
	addr netip.Addr
	s    *session
}

func (a *attempt) run() {
	c, err := openContent(a.item, a.d.cfg.Hostname, a.d.now())
	if err != nil {
		a.settleAll(place{}, later("4.3.0", "the message could not be read from the queue: %v", err))
		return
	}
	a.content = c
	defer c.src.Close()
	if c.received > maxReceived {
		// RFC 5321 §6.3
		a.settleAll(place{}, never("5.4.6", "mail loop: the message has passed more than %d hosts", maxReceived))
		return
	}
	if !cleanAddress(a.item.Envelope.Sender) {
		a.settleAll(place{}, never("5.1.7", "the sender's address cannot be sent in SMTP"))
		return
	}
	a.route = a.d.findRoute(a.ctx, a.d.cfg.hopFor(domainOf(a.pending[0].Address)))
	if f := a.route.problem; f != nil {
		f.unreachable = true
		a.settleAll(place{}, f)
		return
	}
	a.tryGroups()
	a.finish()
}

// tryGroups goes through the hosts by preference, equal ones in random order
// (RFC 5321 §5.1).
func (a *attempt) tryGroups() {
	for i := 0; i < len(a.route.groups); i++ {
		facts := a.d.findGroup(a.ctx, &a.route, i)
		rand.Shuffle(len(facts), func(x, y int) { facts[x], facts[y] = facts[y], facts[x] })
		for _, f := range facts {
			if len(a.pending) == 0 || a.ctx.Err() != nil || a.left <= 0 {
				return
			}
			plan := a.d.findPlan(a.ctx, &a.route, f)
			if a.item.Envelope.RequireTLS {
				plan.demandRequireTLS(&a.route)
			}
			if plan.problem != nil {
				a.unreachable(place{host: plan.host}, plan.problem)
				continue
			}
			a.tryHost(&plan)
		}
	}
}

// tryHost goes through the addresses of one host until one has dealt with
// every recipient.
func (a *attempt) tryHost(h *hostPlan) {
	if a.tryPooled(h) {
		return
	}
	addrs := interleave(h.addrs)
	for len(addrs) > 0 && a.left > 0 && a.ctx.Err() == nil {
		a.left--
		got, f := a.d.race(a.ctx, addrs, h.port)
		if f != nil {
			a.unreachable(place{host: h.host, addr: addrs[0]}, f)
			return
		}
		addrs = got.rest
		f = a.tryAddress(h, got)
		switch {
		case f == nil && len(a.pending) == 0:
			return
		case f == nil || f.permanent && f.policy():
			if !a.flip(&addrs, got.addr) {
				return
			}
		}
	}
}

// tryAddress sends what is pending over one new connection. nil: recipients
// that are still pending wait for the other family.
func (a *attempt) tryAddress(h *hostPlan, got dialed) *failure {
	s, f := a.d.bring(a.ctx, h, got, &a.left)
	if f != nil {
		a.unreachable(place{h.host, got.addr, s}, f)
		return f
	}
	a.mayFlip = a.canFlip(got.rest, got.addr)
	if f = a.use(s); f != nil {
		a.note(place{h.host, got.addr, s}, f)
	}
	return f
}

// tryPooled uses a connection that is still open. False: none, or it died
// before it was of use.
func (a *attempt) tryPooled(h *hostPlan) bool {
	for range maxSessions {
		s := a.d.pool.take(h.key(), h.addrs)
		if s == nil {
			return false
		}
		if !s.adopt(a.ctx, h) {
			s.quit()
			continue
		}
		a.mayFlip = false // others' mail went through here
		f := a.use(s)
		switch {
		case f == nil:
			return len(a.pending) == 0
		case !f.stale:
			a.note(place{h.host, s.addr, s}, f)
			return false
		}
	}
	return false
}

// flip leaves only addresses of the other family, once: a refusal for reasons
// of policy is often about the address that we came from.
func (a *attempt) flip(addrs *[]netip.Addr, from netip.Addr) bool {
	if !a.canFlip(*addrs, from) {
		return false
	}
	a.flipped = true
	for _, r := range a.pending {
		r.waiting = false
	}
	*addrs = slices.DeleteFunc(*addrs, func(x netip.Addr) bool { return x.Is4() == from.Is4() })
	return true
}

func (a *attempt) canFlip(addrs []netip.Addr, from netip.Addr) bool {
	return !a.flipped && slices.ContainsFunc(addrs, func(x netip.Addr) bool { return x.Is4() != from.Is4() })
}

// note keeps why a host was of no use.
func (a *attempt) note(at place, f *failure) {
	a.failures = append(a.failures, trouble{at, f})
}

// unreachable is note for what happened before the host heard of the message.
// What REQUIRETLS demands is the message's doing all the same.
func (a *attempt) unreachable(at place, f *failure) {
	f.unreachable = !a.item.Envelope.RequireTLS
	a.note(at, f)
}

// finish gives the remaining recipients their outcome: permanent only if
// every host refused for good, and nothing at all if we were cut short.
func (a *attempt) finish() {
	if a.ctx.Err() != nil {
		return
	}
	for _, r := range slices.Clone(a.pending) {
		if r.refused != nil {
			a.settle(r, r.refused.at, r.refused.f)
		}
	}
	if len(a.pending) == 0 {
		return
	}
	if len(a.failures) == 0 {
		if a.route.looped {
			a.settleAll(place{}, loop(a.route.hop.domain))
			return
		}
		a.settleAll(place{}, later("4.4.0", "no host was tried"))
		return
	}
	t := a.failures[0]
	var reasons []string
	all := true
	for _, x := range a.failures {
		all = all && x.f.unreachable
		if t.f.permanent && !x.f.permanent {
			t = x
		}
		reasons = appendNew(reasons, x.String())
	}
	f := *t.f
	f.unreachable = all
	f.reason = oneLine(strings.Join(reasons, "; "))
	a.settleAll(t.at, &f)
}

// String names the host before the reason.
func (t trouble) String() string {
	switch {
	case t.at.host == "" || strings.Contains(t.f.reason, t.at.host):
		return t.f.reason
	case t.at.addr.IsValid():
		return t.at.host + "[" + t.at.addr.String() + "]: " + t.f.reason
	}
	return t.at.host + ": " + t.f.reason
}

// settleAll gives all remaining recipients one outcome.
func (a *attempt) settleAll(at place, f *failure) {
	for _, r := range slices.Clone(a.pending) {
		a.settle(r, at, f)
	}
}

// settle reports and logs the failure of one recipient.
func (a *attempt) settle(r *recipient, at place, f *failure) { a.settleAs(r, at, f, false) }

func (a *attempt) settleAs(r *recipient, at place, f *failure, greylisted bool) {
	res := queue.Result{Index: r.Index, Address: r.Address, Host: at.host, Outcome: queue.Later,
		Reason: trouble{at, f}.String(), DSN: f.code, Reply: f.reply, Greylisted: greylisted}
	res.Unreachable = f.unreachable && !f.permanent
	if f.permanent {
		res.Outcome = queue.Failed
		a.holdIfUnreturnable(&res)
	}
	a.conclude(r, at, res)
}

// settleRecipient is settle for a refusal at RCPT, where a temporary one is
// often greylisting.
func (a *attempt) settleRecipient(r *recipient, at place, f *failure) {
	a.settleAs(r, at, f, f.replied/100 == 4)
}

// holdIfUnreturnable: a bounce that bounces goes to the postmaster; without
// one it waits where people see it.
func (a *attempt) holdIfUnreturnable(res *queue.Result) {
	if a.d.unreturnable(a.item.Envelope.Sender, res.Address) {
		res.Outcome = queue.Held
		res.Reason = oneLine(nobodyToTell + ": " + res.Reason)
	}
}

// conclude takes the recipient off the list.
func (a *attempt) conclude(r *recipient, at place, res queue.Result) {
	a.pending = slices.DeleteFunc(a.pending, func(x *recipient) bool { return x == r })
	a.logResult(r, at, res)
	a.report(res)
}

// logResult writes the one line that each recipient gets for each attempt.
func (a *attempt) logResult(r *recipient, at place, res queue.Result) {
	msg, level := "deferred", slog.LevelWarn
	switch res.Outcome {
	case queue.Delivered:
		msg, level = "delivered", slog.LevelInfo
	case queue.Failed:
		msg = "bounced"
	case queue.Held:
		msg = "held"
	}
	var p proof
	var version, address string
	if at.s != nil && at.s.wire != nil {
		version, _ = tlsWords(at.s.tls)
		if res.Outcome == queue.Delivered || at.s.tls != nil {
			p = at.s.proof
		}
	}
	if at.addr.IsValid() {
		address = at.addr.String()
	}
	attrs := []slog.Attr{
		slog.String("id", a.item.ID), slog.String("from", a.item.Envelope.Sender), slog.String("to", r.Address),
		slog.String("domain", domainOf(r.Address)), slog.String("host", at.host), slog.String("address", address),
		slog.String("security", p.security), slog.String("tls", version), slog.String("match", p.match),
		slog.String("mx_status", a.route.mxStatus), slog.String("reply", res.Reply), slog.String("dsn", res.DSN),
		slog.Int("attempts", a.item.Attempts+1),
		slog.Int64("delay_ms", a.d.now().Sub(a.item.Arrived).Milliseconds()),
	}
	if res.Outcome != queue.Delivered {
		attrs = append(attrs, slog.String("reason", res.Reason))
	}
	a.d.log.LogAttrs(a.ctx, level, msg, attrs...)
}

// cleanAddress: no byte that could end a command line or a path.
func cleanAddress(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) &&
		(strings.Contains(s, `"`) || !strings.ContainsAny(s, "<> "))
}
