//go:build interop

package interop

import (
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// breakKind makes changes of one kind with random parameters. shows names the
// questions of the menu that can tell.
type breakKind struct {
	name  string
	shows []string
	make  func(generator) change
}

// breakKinds is everything that can go wrong with a zone here.
func breakKinds() []breakKind {
	var out []breakKind
	out = append(out, signatureBreaks()...)
	out = append(out, dataBreaks()...)
	out = append(out, keyBreaks()...)
	out = append(out, dsBreaks()...)
	out = append(out, denialBreaks()...)
	out = append(out, mixedBreaks()...)
	return append(out, replayBreaks()...)
}

// order is 1 for breaks that need a key of the zone or its parent: what they
// sign counts, and whatever somebody on the path does, order 0, comes later.
func (k breakKind) order() int {
	switch k.name {
	case "sig-expired", "sig-early", "sig-dates-swapped", "sig-just-expired", "sig-tag", "sig-signer", "sig-by-parent",
		"wildcard-forged", "dnskey-stranger-signed", "dnskey-malformed-beside", "dnskey-one-lost",
		"bitmap-has-type", "bitmap-delegation", "denial-by-parent", "soa-of-parent", "two-algorithms", "two-algorithms-one-unknown":
		return 1
	}
	if strings.HasPrefix(k.name, "key-") || strings.HasPrefix(k.name, "nsec3-") ||
		strings.HasPrefix(k.name, "ds-") && k.name != "ds-stripped" && k.name != "ds-unsigned" {
		return 1
	}
	return 0
}

// onSigs is a kind that changes signatures of a random target.
func onSigs(name string, param func(generator) (string, func(*brokenZone, *rrs))) breakKind {
	return breakKind{name, targetShows(), func(g generator) change {
		at := g.target()
		word, f := param(g)
		return change{name: strings.TrimSpace(at.name + " " + word), child: func(z *brokenZone, e *event) {
			e.edit(func(s *rrs) bool { return at.match(s) && s.signed() }, func(s *rrs) { f(z, s) })
		}}
	}}
}

// resigned is a kind that signs a random target anew with something changed.
func resigned(name string, param func(generator) (string, func(*brokenZone, *dns.RRSIG))) breakKind {
	return onSigs(name, func(g generator) (string, func(*brokenZone, *rrs)) {
		word, adapt := param(g)
		return word, func(z *brokenZone, s *rrs) {
			s.resign(z.Zone, func(sig *dns.RRSIG) { adapt(z, sig) })
		}
	})
}

func at(d time.Duration) uint32 { return uint32(time.Now().Add(d).Unix()) }

const day = 24 * time.Hour

func signatureBreaks() []breakKind {
	dates := func(from, to func(generator) time.Duration) func(generator) (string, func(*brokenZone, *dns.RRSIG)) {
		return func(g generator) (string, func(*brokenZone, *dns.RRSIG)) {
			a, b := from(g), to(g)
			return fmt.Sprintf("%v to %v", a, b), func(_ *brokenZone, sig *dns.RRSIG) { sig.Inception, sig.Expiration = at(a), at(b) }
		}
	}
	days := func(least, more int) func(generator) time.Duration {
		return func(g generator) time.Duration { return time.Duration(least+g.IntN(more)) * day }
	}
	plain := func(word string, f func(*brokenZone, *rrs)) func(generator) (string, func(*brokenZone, *rrs)) {
		return func(generator) (string, func(*brokenZone, *rrs)) { return word, f }
	}
	return []breakKind{
		onSigs("sig-flipped", func(g generator) (string, func(*brokenZone, *rrs)) {
			where, bit := g.Uint32(), byte(1)<<g.IntN(8)
			return "", func(_ *brokenZone, s *rrs) {
				s.eachSig(func(sig *dns.RRSIG) {
					octets(sig, func(b []byte) []byte { b[int(where)%len(b)] ^= bit; return b })
				})
			}
		}),
		onSigs("sig-cut", func(g generator) (string, func(*brokenZone, *rrs)) {
			n := 1 + g.IntN(40)
			return fmt.Sprint(n), func(_ *brokenZone, s *rrs) {
				s.eachSig(func(sig *dns.RRSIG) { octets(sig, func(b []byte) []byte { return b[:len(b)-n] }) })
			}
		}),
		onSigs("sig-long", plain("", func(_ *brokenZone, s *rrs) {
			s.eachSig(func(sig *dns.RRSIG) { octets(sig, func(b []byte) []byte { return append(b, 0) }) })
		})),
		onSigs("sig-missing", plain("", func(_ *brokenZone, s *rrs) { s.sigs = nil })),
		onSigs("sig-labels", func(g generator) (string, func(*brokenZone, *rrs)) {
			by := pick(g, -1, 1)
			return fmt.Sprintf("%+d", by), func(_ *brokenZone, s *rrs) {
				s.eachSig(func(sig *dns.RRSIG) { sig.Labels = uint8(int(sig.Labels) + by) })
			}
		}),
		onSigs("sig-original-ttl", plain("", func(_ *brokenZone, s *rrs) {
			s.eachSig(func(sig *dns.RRSIG) { sig.OrigTtl++ })
		})),
		onSigs("sig-by-parent", plain("", func(z *brokenZone, s *rrs) { s.resign(z.parent, nil) })),
		onSigs("sig-by-stranger", plain("", func(z *brokenZone, s *rrs) {
			if z.other != nil && len(z.other.Keys()) > 0 && len(z.Keys()) > 0 {
				old := s.sigs[0].(*dns.RRSIG)
				s.resign(z.other.Zone, func(sig *dns.RRSIG) { sig.SignerName, sig.KeyTag = old.SignerName, old.KeyTag })
				s.eachSig(func(sig *dns.RRSIG) { sig.Algorithm = old.Algorithm })
			}
		})),
		onSigs("sig-bad-before-good", func(g generator) (string, func(*brokenZone, *rrs)) {
			n := 1 + g.IntN(4)
			return fmt.Sprint(n), func(_ *brokenZone, s *rrs) { s.sigs = append(spoilt(s.sigs[0], n), s.sigs...) }
		}),
		onSigs("sig-many-bad", func(g generator) (string, func(*brokenZone, *rrs)) {
			n := 12 + g.IntN(20)
			return fmt.Sprint(n), func(_ *brokenZone, s *rrs) { s.sigs = append(spoilt(s.sigs[0], n), s.sigs...) }
		}),
		resigned("sig-expired", dates(days(-60, 20), days(-30, 27))),
		resigned("sig-early", dates(days(2, 20), days(30, 20))),
		resigned("sig-dates-swapped", dates(days(20, 20), days(-40, 20))),
		resigned("sig-just-expired", dates(days(-40, 20), func(g generator) time.Duration { return -time.Duration(1+g.IntN(20)) * time.Minute })),
		resigned("sig-tag", func(g generator) (string, func(*brokenZone, *dns.RRSIG)) {
			by := uint16(1 + g.IntN(1000))
			return fmt.Sprintf("%+d", by), func(_ *brokenZone, sig *dns.RRSIG) { sig.KeyTag += by }
		}),
		onSigs("sig-algorithm", func(g generator) (string, func(*brokenZone, *rrs)) {
			a := pick[uint8](g, dns.RSASHA256, dns.ECDSAP384SHA384, dns.ED448, 200)
			return fmt.Sprint(a), func(_ *brokenZone, s *rrs) { s.eachSig(func(sig *dns.RRSIG) { sig.Algorithm = a }) }
		}),
		resigned("sig-signer", func(g generator) (string, func(*brokenZone, *dns.RRSIG)) {
			how := pick(g, "parent", "child", "sibling", "root")
			return how, func(z *brokenZone, sig *dns.RRSIG) {
				sig.SignerName = map[string]string{"parent": z.parent.Name(), "child": "www." + z.name, "sibling": "x" + z.name, "root": "."}[how]
			}
		}),
	}
}

// spoilt returns n copies of a signature, each with another octet changed.
func spoilt(good dns.RR, n int) []dns.RR {
	var out []dns.RR
	for i := range n {
		c := dns.Copy(good).(*dns.RRSIG)
		octets(c, func(b []byte) []byte { b[i%len(b)] ^= byte(1 + i/len(b)); return b })
		out = append(out, c)
	}
	return out
}

// dataBreaks change records and leave their signatures.
func dataBreaks() []breakKind {
	onData := func(name string, shows []string, f func(z *brokenZone, e *event, s *rrs)) breakKind {
		return breakKind{name, shows, func(generator) change {
			return change{child: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == e.Type() && s.typ != dns.TypeDNSKEY && len(s.data) > 0 },
					func(s *rrs) { f(z, e, s) })
			}}
		}}
	}
	positive := []string{"data", "wild"}
	alias := func(name string, typ uint16, f func(dns.RR)) breakKind {
		return breakKind{name, []string{"cname", "far"}, func(generator) change {
			return change{child: func(_ *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == typ && len(s.data) > 0 }, func(s *rrs) { f(s.data[0]) })
			}}
		}}
	}
	return []breakKind{
		onData("data-changed", positive, func(_ *brokenZone, _ *event, s *rrs) { change1(s.data[0]) }),
		onData("data-added", positive, func(_ *brokenZone, _ *event, s *rrs) {
			c := dns.Copy(s.data[0])
			change1(c)
			s.data = append(s.data, c)
		}),
		onData("data-dropped", []string{"data"}, func(_ *brokenZone, _ *event, s *rrs) {
			if len(s.data) > 1 {
				s.data = s.data[1:]
			}
		}),
		onData("data-twice", positive, func(_ *brokenZone, _ *event, s *rrs) { s.data = append(s.data, dns.Copy(s.data[0])) }),
		onData("ttl-raised", positive, func(_ *brokenZone, _ *event, s *rrs) {
			for _, rr := range s.data {
				rr.Header().Ttl *= 10
			}
		}),
		onData("ttl-lowered", positive, func(_ *brokenZone, _ *event, s *rrs) {
			for _, rr := range s.data {
				rr.Header().Ttl = 5
			}
		}),
		onData("upper-case", positive, func(_ *brokenZone, _ *event, s *rrs) {
			for _, rr := range append(s.data, s.sigs...) {
				rr.Header().Name = strings.ToUpper(rr.Header().Name)
			}
		}),
		alias("cname-redirected", dns.TypeCNAME, func(rr dns.RR) { rr.(*dns.CNAME).Target = "mx." + rr.(*dns.CNAME).Target }),
		alias("dname-redirected", dns.TypeDNAME, func(rr dns.RR) { rr.(*dns.DNAME).Target = "by-nsec." }),
		alias("dname-dropped", dns.TypeDNAME, func(rr dns.RR) { rr.Header().Name = "elsewhere." + rr.Header().Name }),
		{"wildcard-forged", []string{"data"}, func(generator) change {
			return change{child: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool {
					return s.typ == e.Type() && s.owner != z.name && s.signed() && s.typ != dns.TypeDNSKEY
				}, func(s *rrs) {
					s.sigs = []dns.RR{s.signedAs(z.Zone, "*."+z.name, nil)}
				})
			}}
		}},
		{"unsigned-extra", positive, func(generator) change { // a record that nobody asked for
			return change{child: func(z *brokenZone, e *event) {
				rr, _ := dns.NewRR("extra." + z.name + " 60 IN A 192.0.2.66")
				e.m.Answer = append(e.m.Answer, rr)
			}}
		}},
	}
}

// change1 changes the RDATA of a record.
func change1(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.A:
		rr.A[len(rr.A)-1] ^= 1
	case *dns.AAAA:
		rr.AAAA[15] ^= 1
	case *dns.MX:
		rr.Preference++
	case *dns.TLSA:
		rr.Certificate = "ff" + rr.Certificate[2:]
	}
}
