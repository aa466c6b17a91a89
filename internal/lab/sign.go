package lab

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// signedZone is a zone as it is served. It is never changed.
type signedZone struct {
	origin string
	signed bool
	nodes  map[string]*node // by owner; empty non-terminals are there, without sets
	nsec3  *dns.NSEC3PARAM  // nil: NSEC
	chain  []chainLink      // the NSEC or NSEC3 records, in the order of the names or hashes
}

type node struct {
	sets map[uint16]*rrset
	cut  bool // a delegation starts here
	glue bool // below a cut
}

type rrset struct {
	rrs  []dns.RR
	sigs []dns.RR
}

type chainLink struct {
	key string // owner name (NSEC) or hash in upper case (NSEC3)
	set *rrset
}

// build sorts records into a zone, makes its chain of denial and signs it.
func (z *Zone) build(rrs []dns.RR) *signedZone {
	s := &signedZone{origin: z.name, signed: !z.sign.None, nodes: map[string]*node{}}
	for _, rr := range rrs {
		s.insert(rr)
	}
	for name, n := range s.nodes {
		n.cut = name != z.name && n.sets[dns.TypeNS] != nil
	}
	for name, n := range s.nodes {
		n.glue = s.belowCut(name)
	}
	if !s.signed {
		return s
	}
	if z.sign.Denial == NSEC {
		s.makeNSEC(z)
	} else {
		s.makeNSEC3(z)
	}
	for _, n := range s.nodes {
		for t, set := range n.sets {
			if !n.glue && (!n.cut || t == dns.TypeDS || t == dns.TypeNSEC) {
				z.signSet(set)
			}
		}
	}
	for _, l := range s.chain {
		if len(l.set.sigs) == 0 {
			z.signSet(l.set)
		}
	}
	return s
}

// insert files rr and the names between it and the apex.
func (s *signedZone) insert(rr dns.RR) {
	name, t := rr.Header().Name, rr.Header().Rrtype
	if !dns.IsSubDomain(s.origin, name) {
		panic(fmt.Sprintf("lab: zone %s: record outside the zone: %s", s.origin, rr))
	}
	for n := name; ; n = parentName(n) {
		if s.nodes[n] == nil {
			s.nodes[n] = &node{sets: map[uint16]*rrset{}}
		}
		if n == s.origin {
			break
		}
	}
	sets := s.nodes[name].sets
	if sets[t] == nil {
		sets[t] = &rrset{}
	}
	sets[t].rrs = append(sets[t].rrs, rr)
}

func (s *signedZone) belowCut(name string) bool {
	for name != s.origin {
		name = parentName(name)
		if n := s.nodes[name]; name != s.origin && n != nil && n.cut {
			return true
		}
	}
	return false
}

// types lists what a denial record says of a node: below and at a cut the
// zone is authoritative for DS alone (RFC 4034 §4.1.2).
func (n *node) types(more ...uint16) []uint16 {
	out := append([]uint16(nil), more...)
	signed := len(more) > 0 // an NSEC, itself signed
	for t := range n.sets {
		if n.cut && t != dns.TypeNS && t != dns.TypeDS {
			continue
		}
		out = append(out, t)
		signed = signed || !n.cut || t == dns.TypeDS
	}
	if signed {
		out = append(out, dns.TypeRRSIG)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// makeNSEC makes the chain of RFC 4034 §4 over all names that own records.
func (s *signedZone) makeNSEC(z *Zone) {
	var names []string
	for name, n := range s.nodes {
		if !n.glue && len(n.sets) > 0 {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool { return canonicalLess(names[i], names[j]) })
	for i, name := range names {
		n := s.nodes[name]
		set := &rrset{rrs: []dns.RR{&dns.NSEC{
			Hdr:        z.header(name, dns.TypeNSEC),
			NextDomain: names[(i+1)%len(names)],
			TypeBitMap: n.types(dns.TypeNSEC),
		}}}
		n.sets[dns.TypeNSEC] = set
		s.chain = append(s.chain, chainLink{name, set})
	}
}

// makeNSEC3 makes the chain of RFC 5155 §7.1. With opt-out, delegations
// without DS, and empty non-terminals that lead to nothing else, are left out.
func (s *signedZone) makeNSEC3(z *Zone) {
	s.nsec3 = &dns.NSEC3PARAM{Hdr: z.header(s.origin, dns.TypeNSEC3PARAM), Hash: dns.SHA1, Iterations: z.sign.Iterations}
	s.nodes[s.origin].sets[dns.TypeNSEC3PARAM] = &rrset{rrs: []dns.RR{s.nsec3}}
	optOut := z.sign.Denial == OptOut
	in := map[string]*node{}
	for name, n := range s.nodes {
		if n.glue || len(n.sets) == 0 || optOut && n.cut && n.sets[dns.TypeDS] == nil {
			continue
		}
		for m := name; ; m = parentName(m) {
			in[m] = s.nodes[m]
			if m == s.origin {
				break
			}
		}
	}
	var flags uint8
	if optOut {
		flags = 1
	}
	for name, n := range in {
		s.chain = append(s.chain, chainLink{s.hash(name), &rrset{rrs: []dns.RR{&dns.NSEC3{
			Hash: dns.SHA1, Flags: flags, Iterations: z.sign.Iterations, HashLength: 20, TypeBitMap: n.types(),
		}}}})
	}
	sort.Slice(s.chain, func(i, j int) bool { return s.chain[i].key < s.chain[j].key })
	for i, l := range s.chain {
		rr := l.set.rrs[0].(*dns.NSEC3)
		rr.Hdr = z.header(strings.ToLower(l.key)+"."+strings.TrimPrefix(s.origin, "."), dns.TypeNSEC3)
		rr.NextDomain = s.chain[(i+1)%len(s.chain)].key
	}
}

func (s *signedZone) hash(name string) string {
	return strings.ToUpper(dns.HashName(name, dns.SHA1, s.nsec3.Iterations, ""))
}

// signSet makes one RRSIG: the first key signs the keys, the last the rest.
func (z *Zone) signSet(set *rrset) {
	set.sigs = []dns.RR{z.Sign(set.rrs, nil)}
}

// Sign makes a signature as the zone's owner would, for attackers and bad
// administrators: the first key signs DNSKEY records, the last one all else.
// adapt, which may be nil, changes what is signed beside the records: dates,
// signer, key tag, original TTL. It may be called once the lab runs.
func (z *Zone) Sign(rrs []dns.RR, adapt func(*dns.RRSIG)) *dns.RRSIG {
	k := z.keys[len(z.keys)-1]
	h := rrs[0].Header()
	if h.Rrtype == dns.TypeDNSKEY {
		k = z.keys[0]
	}
	now := z.lab.opts.Now()
	from, to := now.Add(-time.Hour), now.AddDate(0, 0, 30)
	if z.sign.Expired {
		from, to = now.AddDate(0, 0, -30), now.AddDate(0, 0, -3) // beyond the skew that some validators grant
	}
	sig := &dns.RRSIG{Hdr: z.header(h.Name, dns.TypeRRSIG), Algorithm: k.rr.Algorithm, KeyTag: k.rr.KeyTag(), SignerName: z.name,
		Inception: uint32(from.Unix()), Expiration: uint32(to.Unix())}
	sig.Hdr.Ttl = h.Ttl
	if adapt != nil {
		adapt(sig)
	}
	if err := sig.Sign(k.priv, rrs); err != nil {
		panic(fmt.Sprintf("lab: zone %s: signing %s: %v", z.name, rrs[0], err))
	}
	return sig
}

// parentName cuts the first label; the root's parent is the root.
func parentName(name string) string {
	off, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[off:]
}

// canonicalLess orders lower-case names as RFC 4034 §6.1 does, for names
// without escapes.
func canonicalLess(a, b string) bool {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	for i := 1; i <= len(la) && i <= len(lb); i++ {
		if x, y := la[len(la)-i], lb[len(lb)-i]; x != y {
			return x < y
		}
	}
	return len(la) < len(lb)
}
