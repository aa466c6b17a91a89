package dnssec

import (
	"fmt"
	"testing"
)

// BenchmarkVerify has a sub-benchmark "alone" for the bare check of the same
// signature: the difference is what this package adds.
func BenchmarkVerify(b *testing.B) {
	zone := name(b, "example.")
	for _, alg := range []uint8{8, 13, 15} {
		key := newKey(b, zone, ksk, alg)
		if alg == 8 {
			key = newRSA(b, zone, ksk, alg, 2048)
		}
		keys := trusted(b, key)
		set := key.signed(rrset(name(b, "mx.example."), 15, "\x00\x0a\x02mx\x07example\x00", "\x00\x14\x03mx2\x07example\x00"))
		b.Run(fmt.Sprintf("algorithm=%d", alg), func(b *testing.B) {
			b.ReportAllocs()
			budget := plenty()
			for b.Loop() {
				budget.SignatureChecks = 64
				if keys.Verify(set, testNow, budget).Status != Secure {
					b.Fatal("not secure")
				}
			}
		})
		b.Run(fmt.Sprintf("algorithm=%d/alone", alg), func(b *testing.B) {
			b.ReportAllocs()
			var c canonicalizer
			c.load(set)
			data := c.compose(set, &set.Sigs[0], set.Name)
			check := keys.keys[0].check(keys.rules)
			for b.Loop() {
				if !check(data, set.Sigs[0].Signature) {
					b.Fatal("not secure")
				}
			}
		})
		b.Run(fmt.Sprintf("algorithm=%d/around", alg), func(b *testing.B) {
			b.ReportAllocs()
			r := *keys
			rules := *keys.rules
			rules.Verifiers = map[uint8]Verifier{alg: func(*Rules, []byte) (Check, error) {
				return func(_, _ []byte) bool { return true }, nil
			}}
			r.rules = &rules
			budget := plenty()
			for b.Loop() {
				budget.SignatureChecks = 64
				r.Verify(set, testNow, budget)
			}
		})
	}
}

func BenchmarkDenial(b *testing.B) {
	z := newTestZone(b)
	absent := name(b, "_25._tcp.a.example.")
	for _, tt := range []struct {
		what string
		sets []*RRset
	}{{"NSEC", z.nsecs()}, {"NSEC3", z.nsec3s(nsec3Params{})}, {"NSEC3-50", z.nsec3s(nsec3Params{iterations: 50})}} {
		b.Run(tt.what, func(b *testing.B) {
			b.ReportAllocs()
			d := z.keys.Denial(tt.sets, testNow, &Budget{SignatureChecks: 1000})
			for b.Loop() {
				if d.NameError(absent, plenty()).Status != Secure {
					b.Fatal("not secure")
				}
			}
		})
	}
}

func BenchmarkTrustKeys(b *testing.B) {
	zone := name(b, "example.")
	key := newKey(b, zone, ksk, 13)
	set := dnskeySet(key, newKey(b, zone, zsk, 13))
	r := DefaultRules(false)
	trust := []Anchor{{Zone: zone, DS: key.ds(2)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, v := r.TrustKeys(set, trust, testNow, plenty()); v.Status != Secure {
			b.Fatal(v)
		}
	}
}

func BenchmarkNameCompare(b *testing.B) {
	x, y := name(b, "_25._tcp.mx.example.com."), name(b, "_25._tcp.mx2.example.com.")
	b.ReportAllocs()
	for b.Loop() {
		x.Compare(y)
	}
}

// BenchmarkDenialFails is what a cache pays that tries old proofs in vain.
func BenchmarkDenialFails(b *testing.B) {
	z := newTestZone(b)
	d := z.denialFrom(z.nsecs()...)
	exists := name(b, "a.example.")
	b.ReportAllocs()
	for b.Loop() {
		if d.NameError(exists, plenty()).Status != Bogus {
			b.Fatal("not bogus")
		}
	}
}
