package lab

import (
	"sort"
	"strings"

	"github.com/miekg/dns"
)

// answer is the authoritative server: what RFC 1034 §4.3.2 asks for, with the
// proofs of RFC 4035 §3.1 and RFC 5155 §7.2 where the query has the DO bit.
func (s *signedZone) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	a := &answering{signedZone: s, m: m, qtype: q.Question[0].Qtype, seen: map[*rrset]bool{}}
	if opt := q.IsEdns0(); opt != nil {
		a.do = opt.Do() && s.signed
		m.SetEdns0(udpSize, opt.Do())
	}
	name := strings.ToLower(q.Question[0].Name)
	if !dns.IsSubDomain(s.origin, name) {
		m.Rcode, m.Authoritative = dns.RcodeRefused, false
		return m
	}
	for range 8 { // aliases inside the zone are followed for the client
		if name = a.step(name); name == "" || !dns.IsSubDomain(s.origin, name) {
			break
		}
	}
	return m
}

// answering is one answer in the making.
type answering struct {
	*signedZone
	m     *dns.Msg
	qtype uint16
	do    bool
	seen  map[*rrset]bool // denial records already in the authority section
}

// step answers for one name and returns the next when it is an alias.
func (a *answering) step(name string) string {
	if cut, at := a.firstCut(name); cut != nil && !(at == name && a.qtype == dns.TypeDS) {
		a.referral(at, cut)
		return ""
	}
	if dname := a.dname(name); dname != nil {
		return a.follow(name, dname)
	}
	if n := a.nodes[name]; n != nil {
		return a.exact(name, n)
	}
	ce, next := a.closestEncloser(name)
	if n := a.nodes["*."+strings.TrimPrefix(ce, ".")]; n != nil {
		return a.wildcard(name, n, ce, next)
	}
	a.m.Rcode = dns.RcodeNameError
	a.soa()
	a.denyName(name, ce, next)
	a.denyWildcard(ce)
	return ""
}

// firstCut returns the delegation closest to the apex, at or above name.
func (a *answering) firstCut(name string) (cut *node, at string) {
	for n := name; n != a.origin; n = parentName(n) {
		if x := a.nodes[n]; x != nil && x.cut {
			cut, at = x, n
		}
	}
	return cut, at
}

func (a *answering) dname(name string) *rrset {
	for name != a.origin {
		name = parentName(name)
		if n := a.nodes[name]; n != nil && n.sets[dns.TypeDNAME] != nil {
			return n.sets[dns.TypeDNAME]
		}
	}
	return nil
}

// follow puts a DNAME and the CNAME that it means into the answer (RFC 6672 §3.1).
func (a *answering) follow(name string, set *rrset) string {
	d := set.rrs[0].(*dns.DNAME)
	target := strings.TrimSuffix(name, d.Hdr.Name) + d.Target
	a.put(&a.m.Answer, set)
	a.m.Answer = append(a.m.Answer, &dns.CNAME{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl}, Target: target})
	return strings.ToLower(target)
}

// put appends a set, and its signatures if the client wants them.
func (a *answering) put(section *[]dns.RR, set *rrset) {
	*section = append(*section, set.rrs...)
	if a.do {
		*section = append(*section, set.sigs...)
	}
}

// exact answers for a name that exists.
func (a *answering) exact(name string, n *node) string {
	if set := n.sets[a.qtype]; set != nil {
		a.put(&a.m.Answer, set)
		if a.qtype == dns.TypeNS && name == a.origin {
			a.glueFor(set)
		}
		return ""
	}
	if set := n.sets[dns.TypeCNAME]; set != nil {
		a.put(&a.m.Answer, set)
		return strings.ToLower(set.rrs[0].(*dns.CNAME).Target)
	}
	a.soa()
	a.denyType(name)
	return ""
}

// wildcard answers from *.ce, which stands for name (RFC 4592 §3.3.1).
func (a *answering) wildcard(name string, n *node, ce, next string) string {
	set, alias := n.sets[a.qtype], false
	if set == nil {
		set, alias = n.sets[dns.TypeCNAME], true
	}
	if set == nil { // RFC 4035 §3.1.3.4
		a.soa()
		a.denyName(name, ce, next)
		if a.do {
			a.deny(a.match("*." + strings.TrimPrefix(ce, ".")))
		}
		return ""
	}
	made := &rrset{}
	for _, rr := range set.rrs {
		made.rrs = append(made.rrs, renamed(rr, name))
	}
	for _, rr := range set.sigs {
		made.sigs = append(made.sigs, renamed(rr, name))
	}
	a.put(&a.m.Answer, made)
	switch { // only what is closer must be shown absent (RFC 5155 §7.2.6)
	case !a.do:
	case a.nsec3 != nil:
		a.deny(a.cover(next))
	default:
		a.deny(a.cover(name))
	}
	if alias {
		return strings.ToLower(set.rrs[0].(*dns.CNAME).Target)
	}
	return ""
}

func renamed(rr dns.RR, name string) dns.RR {
	c := dns.Copy(rr)
	c.Header().Name = name
	return c
}

// referral sends the client down, with DS or the proof that there is none.
func (a *answering) referral(at string, cut *node) {
	a.m.Authoritative = len(a.m.Answer) > 0
	a.m.Ns = append(a.m.Ns, cut.sets[dns.TypeNS].rrs...)
	if ds := cut.sets[dns.TypeDS]; ds != nil && a.do {
		a.put(&a.m.Ns, ds)
	} else {
		a.denyType(at)
	}
	a.glueFor(cut.sets[dns.TypeNS])
}

// glueFor adds the addresses that the zone knows of an NS set's targets.
func (a *answering) glueFor(ns *rrset) {
	for _, rr := range ns.rrs {
		target := strings.ToLower(rr.(*dns.NS).Ns)
		if n := a.nodes[target]; n != nil && n.sets[dns.TypeA] != nil {
			a.put(&a.m.Extra, n.sets[dns.TypeA])
		}
	}
	for i, rr := range a.m.Extra { // OPT stands last
		if rr.Header().Rrtype == dns.TypeOPT && i != len(a.m.Extra)-1 {
			a.m.Extra = append(append(a.m.Extra[:i:i], a.m.Extra[i+1:]...), rr)
			break
		}
	}
}

func (a *answering) soa() { a.put(&a.m.Ns, a.nodes[a.origin].sets[dns.TypeSOA]) }

// closestEncloser returns the longest existing name above name, and the name
// one label longer (RFC 5155 §1.3).
func (a *answering) closestEncloser(name string) (ce, next string) {
	for next = name; ; next = ce {
		ce = parentName(next)
		if a.nodes[ce] != nil {
			return ce, next
		}
	}
}

// denyType proves that name has nothing of the type asked for.
func (a *answering) denyType(name string) {
	if !a.do {
		return
	}
	if set := a.match(name); set != nil {
		a.deny(set)
		return
	}
	if a.nsec3 == nil { // an empty non-terminal (RFC 4035 §3.1.3.2, the name is covered)
		a.deny(a.cover(name))
		return
	}
	// Left out of the chain by opt-out: the closest encloser that is in it (RFC 5155 §7.2.4, §7.2.7).
	next, ce := name, parentName(name)
	for a.match(ce) == nil {
		next, ce = ce, parentName(ce)
	}
	a.deny(a.match(ce))
	a.deny(a.cover(next))
}

// denyName proves that name does not exist.
func (a *answering) denyName(name, ce, next string) {
	if !a.do {
		return
	}
	if a.nsec3 == nil {
		a.deny(a.cover(name))
		return
	}
	for a.match(ce) == nil { // an empty non-terminal that opt-out left out
		next, ce = ce, parentName(ce)
	}
	a.deny(a.match(ce))
	a.deny(a.cover(next))
}

func (a *answering) denyWildcard(ce string) {
	if !a.do {
		return
	}
	for a.nsec3 != nil && a.match(ce) == nil {
		ce = parentName(ce)
	}
	a.deny(a.cover("*." + strings.TrimPrefix(ce, ".")))
}

// deny puts a record of the chain into the authority section, once.
func (a *answering) deny(set *rrset) {
	if set == nil || a.seen[set] {
		return
	}
	a.seen[set] = true
	a.put(&a.m.Ns, set)
}

// match returns the denial record whose owner is name.
func (s *signedZone) match(name string) *rrset {
	key := name
	if s.nsec3 != nil {
		key = s.hash(name)
	}
	for _, l := range s.chain {
		if l.key == key {
			return l.set
		}
	}
	return nil
}

// cover returns the denial record whose span holds name: the last one before
// it, or the last of all when name comes before the first.
func (s *signedZone) cover(name string) *rrset {
	key, less := name, canonicalLess
	if s.nsec3 != nil {
		key, less = s.hash(name), func(a, b string) bool { return a < b }
	}
	i := sort.Search(len(s.chain), func(i int) bool { return !less(s.chain[i].key, key) })
	return s.chain[(i+len(s.chain)-1)%len(s.chain)].set
}
