package dnssec

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"testing"
)

// fixedKey is a key that is the same in every run, so that a corpus can hold
// its signatures.
func fixedKey(zone Name) *testKey {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{42}, ed25519.SeedSize))
	return &testKey{
		zone:  zone,
		rdata: keyRData(ksk, 15, private.Public().(ed25519.PublicKey)),
		sign:  func(data []byte) []byte { return ed25519.Sign(private, data) },
	}
}

// wire encodes a RRSIG as a server sends it.
func (s *RRSIG) wire() []byte {
	b := binary.BigEndian.AppendUint16(nil, s.TypeCovered)
	b = append(b, s.Algorithm, s.Labels)
	for _, v := range []uint32{s.OriginalTTL, s.Expiration, s.Inception} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = binary.BigEndian.AppendUint16(b, s.KeyTag)
	return append(append(b, s.Signer...), s.Signature...)
}

// FuzzVerify feeds RRsets and signatures made of arbitrary bytes: Secure may
// only be what the key signed.
func FuzzVerify(f *testing.F) {
	zone := Name("\x07example\x00")
	key := fixedKey(zone)
	keys := trusted(f, key)
	genuine := map[string]bool{}
	for _, set := range []*RRset{
		rrset("\x02mx\x07example\x00", 15, "\x00\x0a\x01a\x07example\x00", "\x00\x0b\x01b\x07example\x00"),
		rrset("\x01*\x07example\x00", 16, "\x01a", "\x01b"),
		rrset(zone, typeNSEC, "\x02mx\x07example\x00\x00\x01\x40"),
	} {
		key.signed(set)
		var c canonicalizer
		c.load(set)
		genuine[string(c.compose(set, &set.Sigs[0], set.Name))] = true
		second := []byte(nil)
		if len(set.Data) > 1 {
			second = set.Data[1]
		}
		f.Add([]byte(set.Name), set.Type, set.Data[0], second, set.Sigs[0].wire())
		f.Add([]byte("\x01X\x02yY"+set.Name), set.Type, bytes.ToUpper(set.Data[0]), second, set.Sigs[0].wire())
	}
	f.Fuzz(func(t *testing.T, owner []byte, rrtype uint16, a, b, rrsig []byte) {
		sig, err := ParseRRSIG(rrsig)
		if err != nil {
			return
		}
		sig.TTL = 3600
		set := &RRset{Name: Name(owner), Type: rrtype, Class: 1, TTL: 3600, Data: [][]byte{a, b}, Sigs: []RRSIG{sig, sig}}
		if len(b) == 0 {
			set.Data = set.Data[:1]
		}
		budget := plenty()
		proof := keys.Verify(set, testNow, budget)
		if proof.Status == Secure {
			signed, _, _ := signedOwner(set.Name, &sig)
			var c canonicalizer
			c.load(set)
			if !genuine[string(c.compose(set, &sig, signed))] {
				t.Errorf("%q type %d %x is Secure, but was never signed", owner, rrtype, set.Data)
			}
			if proof.Wildcard == "" && set.Name != signed {
				t.Errorf("%s was expanded from %s, and nobody said so", set.Name, signed)
			}
		}
		if proof.Status == Insecure || proof.Reason == "" {
			t.Errorf("%+v", proof)
		}
		if rrtype == typeNSEC || rrtype == typeNSEC3 {
			d := keys.Denial([]*RRset{set}, testNow, budget)
			for _, n := range []Name{Name(owner), zone, zone.Wildcard(), "\x01q\x07example\x00"} {
				d.NoData(n, 1, budget)
				d.NameError(n, budget)
				d.WildcardAnswer(n, n.Parent(), budget)
				d.NoDS(n, budget)
			}
		}
	})
}

// FuzzForgedDenial adds to, takes from and changes the records of a real chain:
// nothing may come out Secure that the whole chain does not prove.
func FuzzForgedDenial(f *testing.F) {
	z := newTestZone(f)
	key := fixedKey(z.apex)
	z.key, z.keys = key, trusted(f, key)
	chains := [][]*RRset{z.nsecs(), z.nsec3s(nsec3Params{salt: "s"})}
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{1, 1, 0, 3, 4, 2, 6, 1, 8, 1, 255, 3, 9, 90, 4, 7, 7})
	f.Add([]byte{0, 9, 0, 0, 1, 9, 1, 2, 3, 9, 3, 2, 1, 40, 4, 2, 8, 40, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		next := func() int {
			if len(script) == 0 {
				return 0
			}
			c := script[0]
			script = script[1:]
			return int(c)
		}
		chain := chains[next()%2]
		var sets []*RRset
		for range min(len(script)/2, 12) {
			set := *chain[next()%len(chain)]
			set.Data = [][]byte{slices.Clone(set.Data[0])}
			set.Sigs = slices.Clone(set.Sigs)
			other := chain[next()%len(chain)]
			switch data := set.Data[0]; next() % 8 {
			case 1:
				data[next()%len(data)] ^= byte(next())
			case 2:
				set.Name = other.Name
			case 3:
				set.Data = append(set.Data, other.Data[0])
			case 4:
				set.Sigs = other.Sigs
			case 5:
				set.Sigs[0].Labels = byte(next())
			case 6:
				set.Name = z.apex.Wildcard()
			case 7:
				set.Data[0] = data[:next()%len(data)]
			}
			sets = append(sets, &set)
		}
		d := z.keys.Denial(sets, testNow, &Budget{SignatureChecks: 1000, FailedChecks: 1000})
		for _, c := range claims {
			got := ask(t, d, c)
			if good := got == c.want; !good && (got == "secure" || got == "insecure" || got == "notacut" || got == "unsigned" || got == "optout") {
				t.Errorf("%s %s %s: %s, but the whole chain says %s", c.verb, c.name, c.rest, got, c.want)
			}
		}
	})
}
