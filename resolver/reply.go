package resolver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"danepost/resolver/dnssec"
)

// question is a name in lower case and a type, class IN.
type question struct {
	name  dnssec.Name
	qtype uint16
}

// rank is the credibility of data (RFC 2181 §5.4.1), least first. Glue has none: it
// stays with its delegation and never answers.
type rank uint8

const (
	rankChained       rank = iota // further down the alias chain of an answer
	rankAnswer                    // answer section, not authoritative
	rankAuthoritative             // answer of a server with AA, and denials
)

// fact is what servers said about one name and type: an RRset, an alias
// instead of it, or that there is none. Immutable once in the cache.
type fact struct {
	name    dnssec.Name
	qtype   uint16 // of set; of the question where set is nil
	rcode   int
	set     *dnssec.RRset
	more    []*dnssec.RRset // beside set, for a question for ANY
	proof   []*dnssec.RRset // SOA, NSEC and NSEC3 that came with it
	extra   *dnssec.RRset   // the zone's NS that came with a wildcard answer; told once, not kept
	rank    rank
	zone    dnssec.Name // whose servers said it
	from    netip.AddrPort
	expires time.Time
	judged  *judgement // nil until it was
	// contradicted says that the message held a CNAME which this DNAME does not make.
	contradicted bool
	denied       bool   // the server says that there is nothing where this alias leads
	note         string // what was wrong with the message it came in
}

func (f *fact) bytes() int {
	size := 220 + len(f.note) + setBytes(f.set) + setsBytes(f.more) + setsBytes(f.proof)
	if f.judged != nil {
		size += 120
	}
	return size
}

// alias returns the name that f says to ask for instead of name.
func (f *fact) alias(q question) (next dnssec.Name, isAlias bool, err error) {
	if f.set == nil {
		return "", false, nil
	}
	switch {
	case f.set.Type == TypeDNAME && q.name.IsBelow(f.set.Name):
		next, ok := substitute(q.name, f.set.Name, target(f.set.Data[0]))
		if !ok {
			return "", true, fmt.Errorf("the name that the DNAME at %s makes of %s is too long", f.set.Name, q.name)
		}
		return next, true, nil
	case f.set.Type == TypeCNAME && q.qtype != typeANY && (q.qtype != TypeCNAME || f.denied):
		return target(f.set.Data[0]), true, nil
	}
	return "", false, nil
}

// substitute replaces the suffix owner of name (RFC 6672 §2.2).
func substitute(name, owner, to dnssec.Name) (dnssec.Name, bool) {
	next := name[:len(name)-len(owner)] + to
	return next, len(next) <= 255
}

type replyKind uint8

const (
	unusable replyKind = iota // another server may know better
	answered
	referred
)

// reply is a message of a server as the iteration sees it. Immutable.
type reply struct {
	kind    replyKind
	facts   []*fact // the first is about the question, others about where its aliases lead
	to      *delegation
	message *message
	why     string
	lame    bool // the server does not serve the zone
	doubt   bool // usable, if no server does better
}

// classify judges what the servers of d, asked q, sent back (RFC 1034 §5.3.3 step 4).
func (x *resolution) classify(m *message, q question, d *delegation, from netip.AddrPort) *reply {
	rep := &reply{message: m}
	if m.overflow != "" {
		rep.why = "a message past the limit " + m.overflow
		return rep
	}
	if m.rcode != rcodeNoError && m.rcode != rcodeNXDomain && m.rcode != rcodeYXDomain {
		rep.why = rcodeText(m.rcode)
		rep.lame = m.rcode == rcodeRefused
		return rep
	}
	c := classifier{x: x, m: m, d: d, from: from, rep: rep}
	if !c.looksLikeReferral(q) {
		c.answers(q)
	}
	if len(rep.facts) == 0 {
		c.nothing(q)
	}
	c.childServers()
	if m.rcode == rcodeYXDomain && (len(rep.facts) == 0 || rep.facts[0].qtype != TypeDNAME) {
		return &reply{message: m, why: rcodeText(m.rcode)}
	}
	if rep.kind == answered && !d.forward && !m.has(flagAA) && m.has(flagRA) {
		// A recursive server's opinion, where an authoritative one was asked.
		rep.doubt = true
	}
	return rep
}

// looksLikeReferral reports whether the NS records in the answer section are no
// answer: those of a child zone, shown by its parent without AA, are a
// referral, wherever they stand (RFC 2181 §6.1).
func (c *classifier) looksLikeReferral(q question) bool {
	if q.qtype != TypeNS || c.m.has(flagAA) || c.d.forward || !q.name.IsBelow(c.d.zone) {
		return false
	}
	ns := findSet(c.m.answer, q.name, TypeNS)
	if ns == nil || findSet(c.m.authority, q.name, typeSOA) != nil {
		return false
	}
	c.m.authority = append([]*dnssec.RRset{ns}, c.m.authority...)
	return true
}

// childServers keeps the NS RRset that a zone shows itself, where it names
// other servers than the parent does: as a last resort, not as a delegation.
func (c *classifier) childServers() {
	if c.d.fixed || c.rep.kind != answered {
		return
	}
	for _, sets := range [][]*dnssec.RRset{c.m.answer, c.m.authority} {
		ns := findSet(sets, c.d.zone, TypeNS)
		if ns == nil {
			continue
		}
		for _, data := range ns.Data {
			if !c.d.names(target(data)) {
				f := c.positive(ns)
				f.expires = minTime(f.expires, c.d.expires)
				c.x.r.cache.put(cacheKey{c.d.zone, 0, kindZoneNS}, f, f.expires)
				return
			}
		}
	}
}

type classifier struct {
	x    *resolution
	m    *message
	d    *delegation
	from netip.AddrPort
	rep  *reply
}

// answers follows the answer section from the question on, as far as the
// server's own zone reaches.
func (c *classifier) answers(q question) {
	for range c.x.r.lim.Aliases {
		if !c.speaksFor(q.name) && len(c.rep.facts) > 0 {
			return
		}
		f := c.find(q)
		if f == nil {
			break
		}
		// NXDOMAIN beside a CNAME that was asked for is about its target (RFC 6604 §2.1).
		f.denied = q.qtype == TypeCNAME && c.m.rcode == rcodeNXDomain
		f.contradicted = c.contradicts(q, f)
		c.add(f)
		next, isAlias, err := f.alias(q)
		if !isAlias || err != nil {
			return
		}
		q.name = next
	}
	if len(c.rep.facts) == 0 {
		return
	}
	// The end of the chain is denied in the same message: by its RCODE (RFC 6604 §3), or by
	// the SOA of a zone that holds it.
	if soa := c.soa(q); c.speaksFor(q.name) && soa != nil {
		c.add(c.negative(q, soa))
		return
	}
	// Proofs about where the alias leads may come along, such as that a delegation is unsigned.
	c.rep.facts[len(c.rep.facts)-1].proof = c.proof(false)
}

// contradicts reports whether a CNAME came along with the DNAME f that f does
// not make (RFC 6672 §5.3.1): somebody changed the message.
func (c *classifier) contradicts(q question, f *fact) bool {
	cname := findSet(c.m.answer, q.name, TypeCNAME)
	if f.set.Type != TypeDNAME || cname == nil {
		return false
	}
	next, ok := substitute(q.name, f.set.Name, target(f.set.Data[0]))
	return ok && next != target(cname.Data[0])
}

// speaksFor reports whether the servers asked may say something about name,
// as far as is known: it lies in their zone, and not in a delegated one.
func (c *classifier) speaksFor(name dnssec.Name) bool {
	if c.d.forward {
		return true
	}
	for n := name; len(n) > len(c.d.zone); n = n.Parent() {
		if c.x.known(n) != nil {
			return false
		}
	}
	return name.IsSubdomainOf(c.d.zone)
}

// find looks for the RRset asked for, or an alias in its place.
func (c *classifier) find(q question) *fact {
	for _, s := range c.m.answer {
		if s.Type == TypeDNAME && q.name.IsBelow(s.Name) && s.Name.IsSubdomainOf(c.d.zone) && len(s.Data) == 1 {
			return c.positive(s)
		}
	}
	if q.qtype == typeANY {
		return c.all(q)
	}
	if s := findSet(c.m.answer, q.name, q.qtype); s != nil {
		return c.positive(s)
	}
	if s := findSet(c.m.answer, q.name, TypeCNAME); s != nil && len(s.Data) == 1 {
		return c.positive(s)
	}
	return nil
}

// all makes one fact of whatever stands at a name, for a question for ANY.
func (c *classifier) all(q question) *fact {
	var f *fact
	for _, s := range c.m.answer {
		switch {
		case s.Name != q.name:
		case f == nil:
			f = c.positive(s)
			f.qtype = typeANY
		default:
			other := c.positive(s)
			f.more = append(f.more, other.set)
			f.expires = minTime(f.expires, other.expires)
		}
	}
	return f
}

// note tells what was left out of the message, if anything.
func (c *classifier) note() string {
	if len(c.m.dropped) == 0 {
		return ""
	}
	return "the reply of " + c.from.String() + " held records that were left out: " + c.m.dropped[0]
}

func (c *classifier) positive(s *dnssec.RRset) *fact {
	s = compact(s)
	s.TTL = uint32(c.x.ttl(s.TTL) / time.Second)
	f := &fact{
		name: s.Name, qtype: s.Type, set: s, zone: c.d.zone, from: c.from, note: c.note(),
		rank: rankAnswer, expires: c.x.now.Add(c.x.ttl(s.TTL)),
	}
	if len(c.rep.facts) > 0 {
		f.rank = rankChained
	} else if c.m.has(flagAA) {
		f.rank = rankAuthoritative
	}
	if expanded(s) {
		f.proof = c.proof(false)
		if ns := findSet(c.m.authority, c.d.zone, TypeNS); ns != nil && len(ns.Sigs) > 0 {
			f.extra = compact(ns)
		}
	}
	return f
}

// expanded reports whether a signature says that s came from a wildcard.
func expanded(s *dnssec.RRset) bool {
	count := s.Name.Labels()
	for i := range s.Sigs {
		if int(s.Sigs[i].Labels) < count {
			return true
		}
	}
	return false
}

// proof collects the denial records of the authority section.
func (c *classifier) proof(soa bool) []*dnssec.RRset {
	var out []*dnssec.RRset
	for _, s := range c.m.authority {
		if s.Name.IsSubdomainOf(c.d.zone) && (s.Type == typeNSEC || s.Type == typeNSEC3 || s.Type == typeSOA && soa) {
			out = append(out, compact(s))
		}
	}
	return out
}

// soa returns the SOA in the authority section of a zone that may deny q, or nil.
func (c *classifier) soa(q question) *dnssec.RRset {
	for _, s := range c.m.authority {
		if s.Type == typeSOA && q.name.IsSubdomainOf(s.Name) && s.Name.IsSubdomainOf(c.d.zone) {
			return s
		}
	}
	return nil
}

// negative makes the fact that there is no such data; soa may be nil.
func (c *classifier) negative(q question, soa *dnssec.RRset) *fact {
	f := &fact{
		name: q.name, qtype: q.qtype, rcode: c.m.rcode, proof: c.proof(true),
		rank: rankAuthoritative, zone: c.d.zone, from: c.from,
	}
	f.expires = c.x.now.Add(c.x.negativeTTL(soa))
	f.note = c.note()
	return f
}

// negativeTTL is the lesser of the SOA's own TTL and its MINIMUM (RFC 2308 §5).
// Without SOA it is as short as for a failure, instead of the nothing that
// RFC 2308 §5 asks for: the question would else be asked again within one resolution.
func (x *resolution) negativeTTL(soa *dnssec.RRset) time.Duration {
	if soa == nil || len(soa.Data[0]) < 4 {
		return x.r.lim.FailTTL
	}
	d := soa.Data[0]
	ttl := min(soa.TTL, binary.BigEndian.Uint32(d[len(d)-4:]))
	return min(x.ttl(ttl), x.r.lim.MaxNegativeTTL)
}

func (c *classifier) add(f *fact) {
	c.rep.kind = answered
	c.rep.facts = append(c.rep.facts, f)
}

// nothing handles a message without an answer: a denial, a referral, or a
// server that does not serve the zone.
func (c *classifier) nothing(q question) {
	if soa := c.soa(q); soa != nil {
		c.add(c.negative(q, soa))
		return
	}
	ns := c.delegates(q)
	switch {
	case c.m.rcode == rcodeNXDomain:
		c.add(c.negative(q, nil))
	case ns != nil && !c.d.forward:
		c.rep.kind, c.rep.to = referred, c.x.referral(c.m, ns, c.d)
	case c.m.has(flagAA) || c.d.forward:
		c.add(c.negative(q, nil))
		c.rep.doubt = len(c.m.authority) == 0 && !c.d.forward // not even a SOA: others may know better
	case c.refersElsewhere():
		c.rep.why, c.rep.lame = "lame: refers to a zone that is not below its own", true
	case len(c.m.dropped) > 0:
		c.rep.why = "malformed: " + c.m.dropped[0]
	default:
		c.add(c.negative(q, nil))
		c.rep.doubt = true
	}
}

// delegates returns the NS RRset that refers to a zone below that of the
// servers asked and above (or at) the name asked for.
func (c *classifier) delegates(q question) *dnssec.RRset {
	name := q.name
	if q.qtype == typeDS {
		name = name.Parent() // a DS is not looked for behind the cut it belongs to
	}
	for _, s := range c.m.authority {
		if s.Type == TypeNS && name.IsSubdomainOf(s.Name) && s.Name.IsBelow(c.d.zone) {
			return s
		}
	}
	return nil
}

func (c *classifier) refersElsewhere() bool {
	for _, s := range c.m.authority {
		if s.Type == TypeNS {
			return true
		}
	}
	return false
}

// ttl applies the bounds to a TTL in seconds.
func (x *resolution) ttl(seconds uint32) time.Duration {
	return max(x.r.lim.MinTTL, min(time.Duration(seconds)*time.Second, x.r.lim.MaxTTL))
}

// rcodeText names the RCODEs that servers send when they will not answer.
func rcodeText(rcode int) string {
	switch rcode {
	case rcodeFormErr:
		return "FORMERR"
	case rcodeServFail:
		return "SERVFAIL"
	case rcodeNotImp:
		return "NOTIMP"
	case rcodeRefused:
		return "REFUSED"
	case rcodeYXDomain:
		return "YXDOMAIN without a DNAME"
	case rcodeBadVers:
		return "BADVERS"
	case rcodeBadCooke:
		return "BADCOOKIE"
	}
	return fmt.Sprintf("RCODE %d", rcode)
}
