//go:build interop

package interop

import (
	"crypto"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// replayBreaks are attacks by somebody on the path who has no key, but every
// record that the zone and its parent ever signed.
func replayBreaks() []breakKind {
	exact := []string{"data", "tlsa", "beside"}
	return []breakKind{
		{"denials-replayed", exact, func(g generator) change {
			rcode, every, part := pick(g, dns.RcodeSuccess, dns.RcodeNameError), g.chance(50), g.part()
			return change{name: dns.RcodeToString[rcode], child: func(z *brokenZone, e *event) {
				if every || len(e.m.Answer) > 0 || e.Type() == dns.TypeDS {
					e.replay(z, rcode, part(z.Denials()))
				}
			}}
		}},
		{"forged-as-unsigned", exact, func(g generator) change {
			part := g.part()
			return change{child: func(z *brokenZone, e *event) {
				if e.Type() == dns.TypeDS {
					e.replay(z, dns.RcodeSuccess, part(z.Denials()))
					return
				}
				e.forge()
			}}
		}},
		{"delegation-denied", exact, func(g generator) change {
			forged, label, part := g.chance(70), fmt.Sprintf("n%d.", g.IntN(1000)), g.few()
			c := change{name: label, parent: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == dns.TypeDS && s.owner == z.name }, func(s *rrs) { s.data, s.sigs = nil, nil })
				e.m.Ns = append(append(e.m.Ns, e.denialFor(label+z.parent.Name(), dns.TypeDS)...), part(z.parent.Denials())...)
				e.m.Ns = dns.Dedup(e.m.Ns, nil)
			}}
			if forged {
				c.child = func(_ *brokenZone, e *event) { e.forge() }
			}
			return c
		}},
		{"wildcard-replayed", []string{"beside"}, func(g generator) change {
			part, own := g.part(), g.chance(50)
			return change{child: func(z *brokenZone, e *event) {
				other, ok := map[string]string{"here.wild." + z.name: "x.wild.", "_25._tcp.star." + z.name: "_99._tcp.star."}[e.Name()]
				if !ok || len(e.m.Answer) == 0 {
					return
				}
				m := e.next(e.instead(other+z.name, e.Type())).Copy()
				for _, rr := range m.Answer {
					rr.Header().Name = e.Name()
				}
				e.m.Answer, e.m.Ns = m.Answer, m.Ns
				if !own {
					e.m.Ns = part(z.Denials())
				}
			}}
		}},
		{"wildcard-proof-of-other", []string{"wild", "cname"}, func(g generator) change {
			label := pick(g, "mx.", "zzz.", "nope.", "b.ent.", "y.star.", "wild.")
			return change{name: label, child: func(z *brokenZone, e *event) {
				if len(e.m.Answer) > 0 && slices.ContainsFunc(e.m.Ns, isDenial) {
					e.m.Ns = e.denialFor(label+z.name, dns.TypeTXT)
				}
			}}
		}},
		{"dname-misapplied", exact, func(generator) change {
			return change{child: func(z *brokenZone, e *event) {
				m := e.next(e.instead("www.sub."+z.name, dns.TypeA)).Copy()
				if e.Name() == z.name || e.Type() == dns.TypeDNSKEY || len(m.Answer) == 0 || m.Answer[0].Header().Rrtype != dns.TypeDNAME {
					return
				}
				m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
					if rr.Header().Rrtype == dns.TypeCNAME {
						rr.Header().Name = e.Name()
					}
					return rr.Header().Rrtype == dns.TypeA
				})
				e.m.Rcode, e.m.Answer, e.m.Ns = dns.RcodeSuccess, m.Answer, nil
			}}
		}},
	}
}

func isDenial(rr dns.RR) bool {
	return rr.Header().Rrtype == dns.TypeNSEC || rr.Header().Rrtype == dns.TypeNSEC3
}

// part chooses among records that stand in pairs with their signatures: all,
// three quarters or an eighth of them.
func (g generator) part() func([]dns.RR) []dns.RR {
	bits := pick(g, ^uint64(0), g.Uint64()|g.Uint64(), g.Uint64()&g.Uint64()&g.Uint64())
	return func(rrs []dns.RR) (out []dns.RR) {
		for i := 0; i+1 < len(rrs); i += 2 {
			if bits>>(i/2%64)&1 != 0 {
				out = append(out, rrs[i:i+2]...)
			}
		}
		return out
	}
}

// few chooses eight pairs of however many.
func (g generator) few() func([]dns.RR) []dns.RR {
	var at [8]uint32
	for i := range at {
		at[i] = g.Uint32()
	}
	return func(rrs []dns.RR) (out []dns.RR) {
		for _, n := range at {
			if len(rrs) > 1 {
				i := int(n) % (len(rrs) / 2) * 2
				out = append(out, rrs[i:i+2]...)
			}
		}
		return out
	}
}

// instead is the same query about something else.
func (e *event) instead(name string, qtype uint16) lab.Query {
	q := e.Query
	q.Msg = e.Msg.Copy()
	q.Msg.Question[0] = dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	return q
}

// replay turns the reply into a denial of these records.
func (e *event) replay(z *brokenZone, rcode int, denials []dns.RR) {
	if e.Type() == dns.TypeDNSKEY {
		return
	}
	soa := z.Truth(asking(z.name, dns.TypeSOA)).Copy().Answer
	e.m.Rcode, e.m.Answer, e.m.Ns = rcode, nil, append(soa, denials...)
}

// forge changes the data of a reply and takes the signatures away.
func (e *event) forge() {
	if e.Type() != dns.TypeDNSKEY {
		e.edit(func(s *rrs) bool { return len(s.data) > 0 && !isDenial(s.data[0]) }, func(s *rrs) {
			change1(s.data[0])
			s.sigs = nil
		})
	}
}

// mixedBreaks sign a zone with a second algorithm, and leave some of it out.
func mixedBreaks() []breakKind {
	all := []string{"data", "tlsa", "nodata", "nxdomain", "wild", "cname"}
	mixed := func(name string, algorithm func(generator) uint8, ds ...string) breakKind {
		return breakKind{name, all, func(g generator) change {
			m := newSecond(algorithm(g))
			which, lost := pick(g, ds...), pick(g, "none", "none", "first", "second", "second DNSKEY")
			return change{name: fmt.Sprintf("%d, DS of %s, lost %s", m.key.Algorithm, which, lost),
				child: func(z *brokenZone, e *event) {
					e.edit(func(s *rrs) bool { return s.signed() }, func(s *rrs) { m.sign(z, s, lost) })
				},
				parent: onDS(func(z *brokenZone, old []dns.RR) []dns.RR {
					other := dns.Copy(m.key).(*dns.DNSKEY)
					other.Hdr.Name = z.name
					return map[string][]dns.RR{"first": old, "both": append(slices.Clone(old), other.ToDS(dns.SHA256)), "second": {other.ToDS(dns.SHA256)}}[which]
				})}
		}}
	}
	return []breakKind{
		mixed("two-algorithms", func(g generator) uint8 { return pick(g, dns.ED25519, dns.ECDSAP384SHA384) }, "both", "first", "second"),
		mixed("two-algorithms-one-unknown", func(generator) uint8 { return 200 }, "both", "first"),
	}
}

// second is a second key of a zone, with the zone bit and the SEP flag.
type second struct {
	key  *dns.DNSKEY
	priv crypto.Signer
	real uint8 // the algorithm that signs, under the number that the key says
}

func newSecond(algorithm uint8) *second {
	m := &second{key: &dns.DNSKEY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Flags: 257, Protocol: 3, Algorithm: algorithm}, real: algorithm}
	if algorithm == 200 {
		m.real = dns.ED25519
		m.key.Algorithm = m.real
	}
	bits := 256
	if algorithm == dns.ECDSAP384SHA384 {
		bits = 384
	}
	priv, err := m.key.Generate(bits)
	if err != nil {
		panic(err)
	}
	m.priv, m.key.Algorithm = priv.(crypto.Signer), algorithm
	return m
}

// sign adds the second key, and signatures by it, and takes away what gets lost.
func (m *second) sign(z *brokenZone, s *rrs, lost string) {
	if s.typ == dns.TypeDNSKEY && lost != "second DNSKEY" {
		k := dns.Copy(m.key)
		*k.Header() = *s.data[0].Header()
		s.data = append(s.data, k)
		s.resign(z.Zone, nil)
	}
	first := s.sigs[0].(*dns.RRSIG)
	sig := dns.Copy(first).(*dns.RRSIG)
	sig.Algorithm, sig.KeyTag = m.real, m.key.KeyTag()
	var data []dns.RR
	for _, rr := range s.data {
		c := dns.Copy(rr)
		c.Header().Name = s.signedOwner()
		data = append(data, c)
	}
	if err := sig.Sign(m.priv, data); err != nil {
		panic(err)
	}
	sig.Hdr.Name, sig.Algorithm = s.data[0].Header().Name, m.key.Algorithm
	s.sigs = append(s.sigs, sig)
	s.sigs = slices.DeleteFunc(s.sigs, func(rr dns.RR) bool {
		mine := rr.(*dns.RRSIG).KeyTag == m.key.KeyTag()
		return lost == "first" && !mine || strings.HasPrefix(lost, "second") && mine
	})
}
