package resolver

import (
	"net/netip"
	"time"

	"danepost/resolver/dnssec"
)

// delegation is a zone as its parent described it: the servers, their glue,
// and what the referral said of the child's keys. Immutable.
type delegation struct {
	zone    dnssec.Name
	parent  dnssec.Name // the zone whose servers sent the referral; "" for hints and stubs
	servers []Nameserver
	ds      []byte          // the DS RRset of the referral, packed; nil if it had none
	denial  []*dnssec.RRset // NSEC and NSEC3 of the referral
	since   time.Time       // when the parent said so
	expires time.Time
	forward bool // the servers are recursive ones, asked with RD
	fixed   bool // from the configuration
}

func (d *delegation) bytes() int {
	size := 184 + len(d.ds) + setsBytes(d.denial)
	for _, s := range d.servers {
		size += 48 + len(s.Name) + 24*len(s.Addrs)
	}
	return size
}

// setBytes estimates what an RRset that compact made keeps alive.
func setBytes(s *dnssec.RRset) int {
	if s == nil {
		return 0
	}
	size := 112
	for _, d := range s.Data {
		size += 24 + len(d)
	}
	for i := range s.Sigs {
		size += 88 + len(s.Sigs[i].Signature)
	}
	return size
}

func setsBytes(sets []*dnssec.RRset) int {
	size := 8 * len(sets)
	for _, s := range sets {
		size += setBytes(s) + len(s.Name)
	}
	return size
}

// referral builds the delegation to the owner of ns out of a message that the
// servers of d sent. Glue is taken only for the servers named, and only where it lies
// in the zone that sent it (RFC 2181 §5.4.1, RFC 9471).
func (x *resolution) referral(m *message, ns *dnssec.RRset, d *delegation) *delegation {
	lim := &x.r.lim
	child := &delegation{zone: ns.Name, parent: d.zone, since: x.now}
	ttl := x.ttl(ns.TTL)
	for _, data := range ns.Data {
		if len(child.servers) == lim.NSPerDelegation {
			break
		}
		child.servers = append(child.servers, Nameserver{Name: target(data)})
	}
	for i := range child.servers {
		s := &child.servers[i]
		if s.Name.IsSubdomainOf(d.zone) || x.r.looseGlue {
			s.Addrs = glue(m, s.Name, lim)
		}
	}
	for _, set := range m.authority {
		switch {
		case set.Type == typeDS && set.Name == child.zone:
			child.ds = packSet(set)
		case (set.Type == typeNSEC || set.Type == typeNSEC3) && set.Name.IsSubdomainOf(d.zone):
			child.denial = append(child.denial, compact(set))
		}
	}
	// A zone does not outlive the one above it: else the servers of a name that was deleted from
	// its parent could keep it alive through delegations of their own (ghost domains).
	child.expires = x.now.Add(ttl)
	if !d.expires.IsZero() {
		child.expires = minTime(child.expires, d.expires)
	}
	return child
}

// glue collects the addresses of one server from the additional section.
func glue(m *message, name dnssec.Name, lim *Limits) []netip.Addr {
	var out []netip.Addr
	for _, sets := range [][]*dnssec.RRset{m.additional, m.answer} {
		for _, t := range []uint16{TypeA, TypeAAAA} {
			out = append(out, addrs(findSet(sets, name, t))...)
		}
		if len(out) > 0 {
			break
		}
	}
	return out[:min(len(out), lim.AddrsPerServer)]
}

// addrs decodes the addresses of an A or AAAA RRset; nil gives none.
func addrs(set *dnssec.RRset) []netip.Addr {
	if set == nil {
		return nil
	}
	out := make([]netip.Addr, 0, len(set.Data))
	for _, d := range set.Data {
		if ip, ok := netip.AddrFromSlice(d); ok {
			out = append(out, ip)
		}
	}
	return out
}

// best returns the closest delegation known for a question: the zone whose
// servers to ask first (RFC 1034 §5.3.3 step 2). A DS record stands with the
// parent (RFC 4035 §3.1.4.1). Zones whose own server addresses are being
// looked for are passed over, since asking them would go in a circle.
func (x *resolution) best(q question) *delegation {
	if x.forward {
		return x.r.forward.zone
	}
	name := q.name
	if q.qtype == typeDS {
		name = name.Parent()
	}
	for {
		if d := x.known(name); d != nil && (name == dnssec.Root || !x.stuck[name]) {
			return d
		}
		if name == dnssec.Root {
			return x.root()
		}
		name = name.Parent()
	}
}

// known returns the delegation of exactly that zone, nil if there is none.
func (x *resolution) known(zone dnssec.Name) *delegation {
	if d := x.r.stubs[zone]; d != nil {
		return d
	}
	if d, ok := x.r.cache.get(cacheKey{zone, 0, kindDelegation}, x.now).(*delegation); ok {
		return d
	}
	return x.cuts[zone]
}

// root returns the root servers: primed, once for all who need them, or those
// of the hints where that fails.
func (x *resolution) root() *delegation {
	hints := x.r.hints
	if x.priming {
		return hints
	}
	x.priming = true
	key := flightKey{cacheKey: cacheKey{dnssec.Root, 0, kindDelegation}}
	v, _ := x.r.flights.do(x, key, func() any {
		if d := x.known(dnssec.Root); d != nil {
			return d
		}
		return x.prime(hints)
	})
	return v.(*delegation)
}

// prime asks a root server for the root servers (RFC 9609 §3).
func (x *resolution) prime(hints *delegation) *delegation {
	rep, fail := x.askServers(hints, question{dnssec.Root, TypeNS})
	if fail != nil || rep.kind != answered || rep.facts[0].set == nil {
		return hints
	}
	m := rep.message
	d := x.referral(m, rep.facts[0].set, hints)
	d.parent, d.ds, d.denial = "", nil, nil
	reachable := false
	for i := range d.servers {
		if len(d.servers[i].Addrs) == 0 {
			d.servers[i].Addrs = hints.addrsOf(d.servers[i].Name)
		}
		for _, ip := range d.servers[i].Addrs {
			reachable = reachable || x.r.usable(ip, d)
		}
	}
	if !reachable {
		return hints
	}
	x.r.cache.put(cacheKey{dnssec.Root, 0, kindDelegation}, d, d.expires)
	return d
}

func (d *delegation) addrsOf(name dnssec.Name) []netip.Addr {
	for _, s := range d.servers {
		if s.Name == name {
			return s.Addrs
		}
	}
	return nil
}

// dsSet returns the DS RRset of the referral, nil if there was none.
func (d *delegation) dsSet() *dnssec.RRset {
	if d.ds == nil {
		return nil
	}
	s, _ := unpackSet(d.ds, d.zone)
	return s
}

// dsFact is what the referral said of the child's keys: from the parent's
// side, where the DS RRset belongs (RFC 4035 §3.1.4.1). nil if it said nothing that is signed.
func (d *delegation) dsFact() *fact {
	set := d.dsSet()
	if set == nil || len(set.Sigs) == 0 {
		return nil
	}
	return &fact{name: d.zone, qtype: typeDS, set: set, rank: rankAuthoritative, zone: d.parent, expires: d.expires}
}

// names reports whether name is a server of d.
func (d *delegation) names(name dnssec.Name) bool {
	for i := range d.servers {
		if d.servers[i].Name == name {
			return true
		}
	}
	return false
}
