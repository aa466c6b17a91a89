//go:build interop

package interop

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// keyBreaks change the keys of a zone.
func keyBreaks() []breakKind {
	all := []string{"data", "nxdomain", "cname"}
	keys := func(name string, f func(g generator) func(z *brokenZone, s *rrs)) breakKind {
		return breakKind{name, all, func(g generator) change {
			change1 := f(g)
			return change{child: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == dns.TypeDNSKEY && s.signed() }, func(s *rrs) { change1(z, s) })
			}}
		}}
	}
	plain := func(f func(z *brokenZone, s *rrs)) func(generator) func(*brokenZone, *rrs) {
		return func(generator) func(*brokenZone, *rrs) { return f }
	}
	return []breakKind{
		{"dnskey-missing", all, func(generator) change {
			return change{child: func(z *brokenZone, e *event) {
				if e.Type() == dns.TypeDNSKEY {
					e.m.Answer, e.m.Ns = nil, e.denialFor(z.name, dns.TypeTXT)
				}
			}}
		}},
		keys("dnskey-stranger-added", strangeKey(false)),
		keys("dnskey-stranger-signed", strangeKey(true)),
		keys("dnskey-malformed-beside", plain(func(z *brokenZone, s *rrs) {
			s.data = append(s.data, malformedKey(s))
			s.resign(z.Zone, nil)
		})),
		keys("dnskey-one-lost", func(g generator) func(*brokenZone, *rrs) {
			which, sign := g.IntN(2), g.chance(70)
			return func(z *brokenZone, s *rrs) {
				if len(s.data) > 1 {
					s.data = slices.Delete(s.data, which, which+1)
				}
				if sign {
					s.resign(z.Zone, nil)
				}
			}
		}),
		rekeyed("key-no-zone-bit", func(k *dns.DNSKEY) { k.Flags &^= dns.ZONE }),
		rekeyed("key-no-sep-bit", func(k *dns.DNSKEY) { k.Flags &^= dns.SEP }),
		rekeyed("key-revoked", func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }),
		rekeyed("key-protocol", func(k *dns.DNSKEY) { k.Protocol = 2 }),
		rekeyed("key-unknown-flag", func(k *dns.DNSKEY) { k.Flags |= 0x10 }),
		rekeyed("key-unknown-algorithm", func(k *dns.DNSKEY) { k.Algorithm = 200 }),
		rekeyed("key-private-algorithm", func(k *dns.DNSKEY) { k.Algorithm = 253 }),
	}
}

// strangeKey adds a key that signs nothing, and has the set signed with it or not.
func strangeKey(signed bool) func(generator) func(*brokenZone, *rrs) {
	return func(g generator) func(*brokenZone, *rrs) {
		k := &dns.DNSKEY{Flags: pick[uint16](g, 256, 257), Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
		if _, err := k.Generate(256); err != nil {
			panic(err)
		}
		return func(z *brokenZone, s *rrs) {
			c := dns.Copy(k)
			*c.Header() = *s.data[0].Header()
			s.data = append(s.data, c)
			if signed {
				s.resign(z.Zone, nil)
			}
		}
	}
}

// malformedKey is a key that no library can read.
func malformedKey(s *rrs) dns.RR {
	k := dns.Copy(s.data[0]).(*dns.DNSKEY)
	b := []byte(k.PublicKey)
	for i := range b[:8] {
		b[i], b[len(b)/2+i] = b[len(b)/2+i], b[i]
	}
	k.PublicKey = string(b)
	return k
}

// rekeyed is a kind in which the key records themselves are odd, and all else
// (DS, key tags of the signatures) fits them.
func rekeyed(name string, f func(*dns.DNSKEY)) breakKind {
	return breakKind{name, []string{"data", "nxdomain"}, func(generator) change {
		odd := func(k *dns.DNSKEY) *dns.DNSKEY { f(k); return k }
		child := func(z *brokenZone, e *event) {
			keys := z.Keys()
			if len(keys) == 0 {
				return
			}
			e.edit(func(s *rrs) bool { return s.signed() }, func(s *rrs) {
				signer := keys[len(keys)-1]
				if s.typ == dns.TypeDNSKEY {
					signer = keys[0]
					for i, rr := range s.data {
						s.data[i] = odd(rr.(*dns.DNSKEY))
					}
				}
				signer = odd(dns.Copy(signer).(*dns.DNSKEY))
				algorithm := signer.Algorithm
				s.resign(z.Zone, func(sig *dns.RRSIG) { sig.KeyTag = signer.KeyTag() })
				s.eachSig(func(sig *dns.RRSIG) { sig.Algorithm = algorithm })
			})
		}
		return change{child: child, parent: onDS(func(z *brokenZone, _ []dns.RR) []dns.RR {
			return []dns.RR{odd(z.Keys()[0]).ToDS(dns.SHA256)}
		})}
	}}
}

// onDS returns a parent's change that puts other DS records in the place of
// the true ones, properly signed.
func onDS(f func(z *brokenZone, old []dns.RR) []dns.RR) func(*brokenZone, *event) {
	return func(z *brokenZone, e *event) {
		e.edit(func(s *rrs) bool { return s.typ == dns.TypeDS && s.owner == z.name && s.signed() }, func(s *rrs) {
			ttl := s.data[0].Header().Ttl
			s.data = f(z, s.data)
			for _, rr := range s.data {
				rr.Header().Ttl, rr.Header().Name = ttl, z.name
			}
			s.resign(z.parent, nil)
		})
	}
}

// dsBreaks change what the parent says of the zone's keys.
func dsBreaks() []breakKind {
	all := []string{"data", "nxdomain", "cname", "wild"}
	ds := func(name string, f func(g generator) (string, func(good *dns.DS, key *dns.DNSKEY) []dns.RR)) breakKind {
		return breakKind{name, all, func(g generator) change {
			word, made := f(g)
			return change{name: word, parent: onDS(func(z *brokenZone, _ []dns.RR) []dns.RR {
				return made(z.DS(), z.Keys()[0])
			})}
		}}
	}
	with := func(d *dns.DS, f func(*dns.DS)) *dns.DS { c := dns.Copy(d).(*dns.DS); f(c); return c }
	bad := func(d *dns.DS) { d.Digest = flipHex(d.Digest) }
	digest := func(g generator) uint8 { return pick[uint8](g, 0, 3, 5, 99, 255) }
	return []breakKind{
		ds("ds-digest", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(good *dns.DS, _ *dns.DNSKEY) []dns.RR { return []dns.RR{with(good, bad)} }
		}),
		ds("ds-tag", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(good *dns.DS, _ *dns.DNSKEY) []dns.RR {
				return []dns.RR{with(good, func(d *dns.DS) { d.KeyTag++ })}
			}
		}),
		ds("ds-algorithm", func(g generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			a := pick[uint8](g, dns.RSASHA256, dns.ECDSAP384SHA384, dns.ED25519)
			return fmt.Sprint(a), func(good *dns.DS, _ *dns.DNSKEY) []dns.RR {
				return []dns.RR{with(good, func(d *dns.DS) { d.Algorithm = a })}
			}
		}),
		ds("ds-unknown-algorithm", func(g generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			a := pick[uint8](g, 0, 4, 9, 200, 253)
			return fmt.Sprint(a), func(good *dns.DS, _ *dns.DNSKEY) []dns.RR {
				return []dns.RR{with(good, func(d *dns.DS) { d.Algorithm = a })}
			}
		}),
		ds("ds-unknown-digest", func(g generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			t := digest(g)
			return fmt.Sprint(t), func(good *dns.DS, _ *dns.DNSKEY) []dns.RR {
				return []dns.RR{with(good, func(d *dns.DS) { d.DigestType = t })}
			}
		}),
		ds("ds-good-and-unknown", func(g generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			t, a := digest(g), pick[uint8](g, 0, 200)
			return "", func(good *dns.DS, _ *dns.DNSKEY) []dns.RR {
				return []dns.RR{with(good, func(d *dns.DS) { d.DigestType = t }), good, with(good, func(d *dns.DS) { d.Algorithm = a })}
			}
		}),
		ds("ds-good-and-bad", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(good *dns.DS, _ *dns.DNSKEY) []dns.RR { return []dns.RR{with(good, bad), good} }
		}),
		ds("ds-sha1", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(_ *dns.DS, k *dns.DNSKEY) []dns.RR { return []dns.RR{k.ToDS(dns.SHA1)} }
		}),
		ds("ds-sha384", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(_ *dns.DS, k *dns.DNSKEY) []dns.RR { return []dns.RR{k.ToDS(dns.SHA384)} }
		}),
		ds("ds-sha1-good-sha256-bad", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(good *dns.DS, k *dns.DNSKEY) []dns.RR { return []dns.RR{k.ToDS(dns.SHA1), with(good, bad)} }
		}),
		ds("ds-sha256-good-sha1-bad", func(generator) (string, func(*dns.DS, *dns.DNSKEY) []dns.RR) {
			return "", func(good *dns.DS, k *dns.DNSKEY) []dns.RR { return []dns.RR{with(k.ToDS(dns.SHA1), bad), good} }
		}),
		{"ds-stripped", all, func(generator) change {
			return change{parent: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == dns.TypeDS && s.owner == z.name }, func(s *rrs) { s.data, s.sigs = nil, nil })
			}}
		}},
		{"ds-unsigned", all, func(generator) change {
			return change{parent: func(z *brokenZone, e *event) {
				e.edit(func(s *rrs) bool { return s.typ == dns.TypeDS && s.owner == z.name }, func(s *rrs) { s.sigs = nil })
			}}
		}},
	}
}

func flipHex(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '0':
			return '1'
		case '1':
			return '0'
		}
		return r
	}, "0"+s[1:])
}
