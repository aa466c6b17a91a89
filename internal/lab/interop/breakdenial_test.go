//go:build interop

package interop

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// denialBreaks change the proofs of what is not there.
func denialBreaks() []breakKind {
	proofs := []string{"nodata", "ent", "nxdomain", "wild", "wildless"}
	plain := func(f func(*brokenZone, *event)) func(generator) change {
		return func(generator) change { return change{child: f} }
	}
	return []breakKind{
		{"denial-stripped", proofs, plain(func(_ *brokenZone, e *event) { e.dropDenials(func(int) bool { return true }) })},
		{"denial-one-lost", proofs, func(g generator) change {
			which := g.IntN(3)
			return change{name: fmt.Sprint(which), child: func(_ *brokenZone, e *event) { e.dropDenials(func(n int) bool { return n == which }) }}
		}},
		{"denial-of-other", proofs, func(g generator) change {
			label := pick(g, "mx.", "www.", "zzz.", "nope.", "b.ent.", "")
			return change{name: label, child: func(z *brokenZone, e *event) {
				if e.negative() {
					e.m.Ns = e.denialFor(label+z.name, dns.TypeTXT)
				}
			}}
		}},
		{"rcode-flipped", []string{"nodata", "ent", "nxdomain", "wildless"}, plain(func(_ *brokenZone, e *event) {
			if e.negative() {
				e.m.Rcode = dns.RcodeNameError - e.m.Rcode // NOERROR is 0
			}
		})},
		{"nxdomain-forged", []string{"data", "wild"}, func(g generator) change {
			label := pick(g, "nope.", "aaa.", "zzz.", "x.wild.")
			return change{name: label, child: func(z *brokenZone, e *event) { e.deny(z, dns.RcodeNameError, label) }}
		}},
		{"nodata-forged", []string{"data", "wild"}, func(g generator) change {
			label := pick(g, "mx.", "www.", "ent.", "")
			return change{name: label, child: func(z *brokenZone, e *event) { e.deny(z, dns.RcodeSuccess, label) }}
		}},
		{"bitmap-has-type", []string{"nodata", "ent", "wildless"}, func(g generator) change {
			cname := g.chance(30)
			return change{name: map[bool]string{true: "CNAME"}[cname], child: func(z *brokenZone, e *event) {
				typ := e.Type()
				if cname {
					typ = dns.TypeCNAME
				}
				if e.negative() && e.m.Rcode == dns.RcodeSuccess {
					e.bitmaps(z, func(types []uint16) []uint16 { return append(types, typ) })
				}
			}}
		}},
		{"bitmap-delegation", []string{"nodata", "nxdomain"}, plain(func(z *brokenZone, e *event) {
			if e.negative() { // as if the name were the parent's side of a cut
				e.bitmaps(z, func(types []uint16) []uint16 {
					return slices.DeleteFunc(append(types, dns.TypeNS), func(t uint16) bool { return t == dns.TypeSOA })
				})
			}
		})},
		{"denial-by-parent", []string{"nodata"}, plain(func(z *brokenZone, e *event) {
			if e.negative() {
				e.m.Ns = slices.DeleteFunc(e.m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeSOA })
				set := &rrs{data: []dns.RR{&dns.NSEC{Hdr: dns.RR_Header{Name: e.Name(), Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 60},
					NextDomain: "\\000." + e.Name(), TypeBitMap: []uint16{dns.TypeRRSIG, dns.TypeNSEC}}}}
				set.resign(z.parent, nil)
				e.m.Ns = append(append(e.m.Ns, set.data...), set.sigs...)
			}
		})},
		onNSEC3("nsec3-unknown-flag", func(n *dns.NSEC3) { n.Flags |= 4 }),
		onNSEC3("nsec3-opt-out-flag", func(n *dns.NSEC3) { n.Flags |= 1 }),
		onNSEC3("nsec3-unknown-hash", func(n *dns.NSEC3) { n.Hash = 2 }),
		onNSEC3("nsec3-iterations", func(n *dns.NSEC3) { n.Iterations++ }),
		onNSEC3("nsec3-iterations-huge", func(n *dns.NSEC3) { n.Iterations = 2500 }),
		onNSEC3("nsec3-iterations-absurd", func(n *dns.NSEC3) { n.Iterations = 2501 }),
		onNSEC3("nsec3-salt", func(n *dns.NSEC3) { n.Salt, n.SaltLength = "abcd", 2 }),
		{"soa-missing", []string{"nodata", "nxdomain"}, plain(func(_ *brokenZone, e *event) {
			e.edit(func(s *rrs) bool { return s.typ == dns.TypeSOA && e.Type() != dns.TypeSOA }, func(s *rrs) { s.data, s.sigs = nil, nil })
		})},
		{"soa-of-parent", []string{"nodata", "nxdomain"}, plain(func(z *brokenZone, e *event) {
			if e.negative() {
				e.edit(func(s *rrs) bool { return s.typ == dns.TypeSOA }, func(s *rrs) {
					s.data[0].Header().Name = z.parent.Name()
					s.resign(z.parent, nil)
				})
			}
		})},
	}
}

// deny replaces an answer by a denial that the server gives for another name.
func (e *event) deny(z *brokenZone, rcode int, label string) {
	if e.Type() != dns.TypeDNSKEY && len(e.m.Answer) > 0 {
		e.m.Rcode, e.m.Answer, e.m.Ns = rcode, nil, e.denialFor(label+z.name, dns.TypeTXT)
	}
}

// bitmaps changes the type lists of the denial records and signs them anew.
func (e *event) bitmaps(z *brokenZone, f func([]uint16) []uint16) {
	sorted := func(types []uint16) []uint16 {
		types = f(slices.Clone(types))
		slices.Sort(types)
		return slices.Compact(types)
	}
	e.edit(func(s *rrs) bool { return s.typ == dns.TypeNSEC || s.typ == dns.TypeNSEC3 }, func(s *rrs) {
		for _, rr := range s.data {
			switch rr := rr.(type) {
			case *dns.NSEC:
				rr.TypeBitMap = sorted(rr.TypeBitMap)
			case *dns.NSEC3:
				rr.TypeBitMap = sorted(rr.TypeBitMap)
			}
		}
		if s.signed() {
			s.resign(z.Zone, nil)
		}
	})
}

// onNSEC3 changes a parameter of the NSEC3 records and signs them anew.
func onNSEC3(name string, f func(*dns.NSEC3)) breakKind {
	return breakKind{name, []string{"nodata", "nxdomain", "wild"}, func(generator) change {
		return change{child: func(z *brokenZone, e *event) {
			e.edit(func(s *rrs) bool { return s.typ == dns.TypeNSEC3 && s.signed() }, func(s *rrs) {
				for _, rr := range s.data {
					f(rr.(*dns.NSEC3))
				}
				s.resign(z.Zone, nil)
			})
		}}
	}}
}
