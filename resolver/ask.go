package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"danepost/resolver/dnssec"
)

// asked is what flies between resolutions that ask the same servers the same.
type asked struct {
	rep  *reply
	fail *failure
}

// ask puts one question to the servers of d until one gives a usable reply.
func (x *resolution) ask(d *delegation, q question) (*reply, *failure) {
	if len(x.avoid) > 0 {
		return x.askServers(d, q)
	}
	key := flightKey{cacheKey{q.name, q.qtype, kindFact}, string(d.zone)}
	v, _ := x.r.flights.do(x, key, func() any {
		if rep := x.learned(d, q); rep != nil {
			return asked{rep, nil}
		}
		rep, fl := x.askServers(d, q)
		if fl == nil {
			x.share(rep)
		}
		return asked{rep, fl}
	})
	a := v.(asked)
	return a.rep, a.fail
}

// learned makes a reply of what another resolution found out since this one
// looked at the cache.
func (x *resolution) learned(d *delegation, q question) *reply {
	if f := x.factAt(q.name, q.qtype); f != nil {
		return &reply{kind: answered, facts: []*fact{f}}
	}
	if d.forward {
		return nil
	}
	name := q.name
	if q.qtype == typeDS {
		name = name.Parent()
	}
	for ; name.IsBelow(d.zone); name = name.Parent() {
		if to := x.known(name); to != nil && !x.stuck[name] {
			return &reply{kind: referred, to: to}
		}
	}
	return nil
}

// share puts what a reply says into the cache, before others can ask again.
func (x *resolution) share(rep *reply) {
	for _, f := range rep.facts {
		x.store(f)
	}
	if to := rep.to; to != nil && to.expires.After(x.now) && x.r.stubs[to.zone] == nil {
		x.r.cache.put(cacheKey{to.zone, 0, kindDelegation}, to, to.expires)
	}
}

func (x *resolution) askServers(d *delegation, q question) (*reply, *failure) {
	a := &asking{x: x, d: d}
	a.addGlue()
	for {
		if fl := x.over(); fl != nil {
			return nil, a.ended(fl)
		}
		c := a.next()
		if c == nil {
			break
		}
		if (a.second != nil || len(x.avoid) > 0) && x.r.servers.mute(c.addr) {
			c.done = true // there is a reply already, and no ground to hope for another one here
			continue
		}
		m, err := x.exchange(c, q, d)
		if over := (*failure)(nil); errors.As(err, &over) {
			return nil, a.ended(over)
		}
		if err != nil {
			a.failed(c, err.Error())
			continue
		}
		a.heard = true
		rep := x.classify(m, q, d, c.addr)
		switch {
		case rep.kind == unusable:
			c.done = true
			a.overflow = m.overflow
			a.failed(c, c.addr.String()+": "+rep.why)
			if rep.lame {
				x.r.servers.setLame(c.addr, d.zone, x.now)
			}
		case rep.doubt:
			c.done = true
			a.second = rep
		default:
			return rep, nil
		}
	}
	if fl := x.over(); fl != nil {
		return nil, a.ended(fl)
	}
	if a.second != nil {
		return a.second, nil
	}
	return nil, a.unreachable()
}

// asking is the state of one question to the servers of one zone.
type asking struct {
	x       *resolution
	d       *delegation
	choices []choice
	names   []dnssec.Name // servers whose addresses are to be looked up
	glued   []dnssec.Name // servers of which glue is known only
	looked  int           // server names looked up
	empty   int           // of these, that had no address
	heard   bool          // some server answered, if of no use
	child   bool          // the servers that the zone itself names were added
	second  *reply        // usable, but not trusted to be the best
	reasons []string
	// overflow is the limit that the last useless message ran past.
	overflow string
}

// addGlue makes choices of the addresses that the delegation came with.
func (a *asking) addGlue() {
	offset := 0
	if n := len(a.d.servers); n > 1 {
		offset = int(a.x.r.random() % uint64(n))
	}
	for i := range a.d.servers {
		s := a.d.servers[(i+offset)%len(a.d.servers)]
		ips := s.Addrs
		if len(ips) == 0 {
			ips = a.x.cachedGlue(s.Name)
		}
		if len(ips) == 0 {
			ips = a.x.cachedAddrs(s.Name)
		}
		if len(ips) == 0 {
			a.names = append(a.names, s.Name)
			continue
		}
		a.add(s.Name, ips)
		if !a.d.fixed {
			a.glued = append(a.glued, s.Name)
		}
	}
}

func (a *asking) add(name dnssec.Name, ips []netip.Addr) {
	for _, ip := range ips {
		if !a.x.r.usable(ip, a.d) {
			continue
		}
		addr := netip.AddrPortFrom(ip.Unmap(), a.x.r.port)
		if a.d.forward {
			addr = netip.AddrPortFrom(addr.Addr(), a.x.r.forward.ports[addr.Addr()])
		}
		if a.has(addr) {
			continue
		}
		a.choices = append(a.choices, choice{addr: addr, name: name, done: a.x.avoid[addr]})
	}
}

func (a *asking) has(addr netip.AddrPort) bool {
	for i := range a.choices {
		if a.choices[i].addr == addr {
			return true
		}
	}
	return false
}

// next returns the server to ask. Before one that kept silent is asked again,
// the names of servers without known address are looked up. When all have
// failed, what the zone itself says of its servers is tried: their
// addresses may differ from the glue, and they from those the parent names.
func (a *asking) next() *choice {
	for !a.fresh() && a.lookup() {
	}
	for {
		c := a.x.r.servers.pick(a.choices, a.d.zone, a.x.now, a.x.r.random)
		if c != nil || len(a.x.avoid) > 0 {
			return c
		}
		for _, name := range a.glued {
			// Servers that all keep silent will not say their own addresses either.
			// Nor are the root's addresses to be had from anyone else.
			if a.d.zone != dnssec.Root && (a.heard || !name.IsSubdomainOf(a.d.zone)) {
				a.names = append(a.names, name)
			}
		}
		a.glued = nil
		a.names = append(a.names, a.childServers()...)
		if !a.lookup() {
			return nil
		}
	}
}

// childServers returns the servers that the zone names beyond those of its delegation.
func (a *asking) childServers() []dnssec.Name {
	f, ok := a.x.r.cache.get(cacheKey{a.d.zone, 0, kindZoneNS}, a.x.now).(*fact)
	if !ok || a.child {
		return nil
	}
	a.child = true
	var out []dnssec.Name
	for _, data := range f.set.Data {
		if name := target(data); !a.d.names(name) {
			out = append(out, name)
		}
	}
	return out
}

// fresh reports whether there is a server that was not asked yet and is not
// known to keep silent.
func (a *asking) fresh() bool {
	for i := range a.choices {
		c := &a.choices[i]
		if !c.done && c.tries == 0 && !a.x.r.servers.keepsSilent(c.addr, a.x.now) {
			return true
		}
	}
	return false
}

// lookup finds the addresses of the next server name, within the limits that
// keep a delegation from sending this host to ask all the world (NXNSAttack).
// It reports false when there is none left.
func (a *asking) lookup() bool {
	lim := &a.x.r.lim
	if len(a.names) == 0 || a.looked >= lim.ServerNames || a.empty > lim.MissingGlue || a.x.spent() {
		return false
	}
	name := a.names[0]
	a.names = a.names[1:]
	before, sent := len(a.choices), a.x.packets
	ips, fl := a.x.addresses(name, a.d.zone)
	a.add(name, ips)
	cost := min(1, a.x.packets-sent) // what the cache knew costs nobody anything
	a.looked += cost
	if len(a.choices) == before {
		a.empty += cost
		why := "no address"
		if fl != nil {
			why = fl.Text
		}
		a.reasons = append(a.reasons, name.String()+": "+why)
	}
	return true
}

// addresses looks the addresses of a server up. The zone it serves is of no help meanwhile.
func (x *resolution) addresses(name, zone dnssec.Name) (ips []netip.Addr, fl *failure) {
	if !x.stuck[zone] {
		if x.stuck == nil {
			x.stuck = make(map[dnssec.Name]bool)
		}
		x.stuck[zone] = true
		defer delete(x.stuck, zone)
	}
	for _, t := range x.r.addressTypes() {
		q := question{name, t}
		for range x.r.lim.Aliases {
			var f *fact
			if f, fl = x.find(q); fl != nil {
				break
			}
			next, isAlias, err := f.alias(q)
			if err != nil {
				break
			}
			if !isAlias {
				if f.set != nil {
					ips = append(ips, addrs(f.set)...)
				}
				break
			}
			q.name = next
		}
		if len(ips) > 0 {
			break
		}
	}
	// The way there may have shown glue, which is worth a try beside what the servers themselves say.
	ips = append(ips, x.cachedGlue(name)...)
	return ips[:min(len(ips), x.r.lim.AddrsPerServer)], fl
}

// cachedGlue returns the addresses of a server that came with the delegation of the
// zone it lies in: glue may serve any delegation, if it may answer none.
func (x *resolution) cachedGlue(name dnssec.Name) []netip.Addr {
	for n := name; n != dnssec.Root; n = n.Parent() {
		if d := x.known(n); d != nil {
			if ips := d.addrsOf(name); len(ips) > 0 {
				return ips
			}
		}
	}
	return nil
}

// cachedAddrs returns what is known of a server's addresses without asking.
func (x *resolution) cachedAddrs(name dnssec.Name) (ips []netip.Addr) {
	for _, t := range x.r.addressTypes() {
		if f := x.factAt(name, t); f != nil && f.set != nil && f.set.Type == t {
			ips = append(ips, addrs(f.set)...)
		}
	}
	return ips[:min(len(ips), x.r.lim.AddrsPerServer)]
}

// failed notes why a server was of no use.
func (a *asking) failed(c *choice, why string) {
	if c.spent(&a.x.r.lim) {
		c.done = true
	}
	if len(a.reasons) < 8 {
		a.reasons = append(a.reasons, why)
	}
	a.x.trouble = a
}

// told lists the reasons, those that came again with their count.
func (a *asking) told() string {
	var each []string
	for i, why := range a.reasons {
		if slices.Contains(a.reasons[:i], why) {
			continue
		}
		times := 0
		for _, other := range a.reasons[i:] {
			if other == why {
				times++
			}
		}
		if times > 1 {
			why = fmt.Sprintf("%s, %d times", why, times)
		}
		each = append(each, why)
	}
	return strings.Join(each, "; ")
}

// ended adds to the end of the whole resolution what the servers that failed last did until then.
func (a *asking) ended(fl *failure) *failure {
	if len(a.reasons) == 0 && a.x.trouble != nil {
		a = a.x.trouble
	}
	if len(a.reasons) > 0 && fl.Reason != "cancelled" {
		fl.Text += fmt.Sprintf("; of the servers of %s: %s", a.d.zone, a.told())
	}
	return fl
}

func (a *asking) unreachable() *failure {
	lim := &a.x.r.lim
	switch {
	case a.overflow != "":
		return limitReached(a.overflow, lim.of(a.overflow))
	case len(a.names) > 0 && a.empty > lim.MissingGlue:
		return limitReached("missing-glue", lim.MissingGlue)
	case len(a.names) > 0 && a.looked >= lim.ServerNames:
		return limitReached("server-names", lim.ServerNames)
	}
	why := a.told()
	if why == "" {
		why = "none has an address that this host may ask"
	}
	reason := reasonUnreachable
	if a.heard {
		reason = reasonUseless
	}
	return fail(reason, edeNoReachable, "no server of %s answered usefully: %s", a.d.zone, why)
}
