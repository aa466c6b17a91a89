package dnssec

import (
	"math/big"
	"slices"
	"testing"
)

func TestTrustKeys(t *testing.T) {
	zone := name(t, "example.")
	key, second, zoneKey := newKey(t, zone, ksk, 13), newKey(t, zone, ksk, 8), newKey(t, zone, zsk, 13)
	good := dnskeySet(key, zoneKey)
	strange := &DS{KeyTag: 1, Algorithm: 99, DigestType: 2, Digest: []byte{1}}
	strangeDigest := &DS{KeyTag: key.tag(), Algorithm: 13, DigestType: 3, Digest: []byte{1}}
	expired := rrset(zone, typeDNSKEY, string(key.rdata))
	sig := template(key, expired)
	sig.Expiration = sig.Inception + 10
	key.signAs(expired, zone, sig)
	forged := dnskeySet(key)
	forged.Data = append(forged.Data, zoneKey.rdata)
	notZone := newKey(t, zone, 1, 13)
	badProtocol := newKey(t, zone, ksk, 13)
	badProtocol.rdata[2] = 2
	revoked := newKey(t, zone, ksk|0x80, 13)
	empty := rrset(zone, typeDNSKEY)
	byZSK := zoneKey.signed(rrset(zone, typeDNSKEY, string(key.rdata), string(zoneKey.rdata)))
	falseSHA256 := key.ds(2)
	falseSHA256.Digest[0] ^= 1

	tests := []struct {
		what   string
		set    *RRset
		trust  []Anchor
		status Status
		reason Reason
	}{
		{"DS", good, []Anchor{{Zone: zone, DS: key.ds(2)}}, Secure, ReasonVerified},
		{"DS SHA-384", good, []Anchor{{Zone: zone, DS: key.ds(4)}}, Secure, ReasonVerified},
		{"DS SHA-1 alone", good, []Anchor{{Zone: zone, DS: key.ds(1)}}, Secure, ReasonVerified},
		{"DNSKEY", good, []Anchor{{Zone: zone, Key: key.rdata}}, Secure, ReasonVerified},
		{"two keys, one in the set", good, []Anchor{{Zone: zone, DS: second.ds(2)}, {Zone: zone, DS: key.ds(2)}}, Secure, ReasonVerified},
		{"an unknown algorithm beside", good, []Anchor{{Zone: zone, DS: strange}, {Zone: zone, DS: key.ds(2)}}, Secure, ReasonVerified},
		{"an unknown digest beside", good, []Anchor{{Zone: zone, DS: strangeDigest}, {Zone: zone, DS: key.ds(2)}}, Secure, ReasonVerified},
		{"only an unknown algorithm", good, []Anchor{{Zone: zone, DS: strange}}, Insecure, ReasonAlgorithmUnsupported},
		{"only an unknown digest", good, []Anchor{{Zone: zone, DS: strangeDigest}}, Insecure, ReasonDigestUnsupported},
		{"only algorithm 0", good, []Anchor{{Zone: zone, DS: altered(key.ds(2), func(d *DS) { d.Algorithm = 0 })}}, Insecure, ReasonAlgorithmUnsupported},
		{"only digest 0", good, []Anchor{{Zone: zone, DS: altered(key.ds(2), func(d *DS) { d.DigestType = 0 })}}, Insecure, ReasonDigestUnsupported},
		{"SHA-1 ignored beside SHA-256", good, []Anchor{{Zone: zone, DS: key.ds(1)}, {Zone: zone, DS: falseSHA256}}, Bogus, ReasonNoMatchingDNSKEY},
		{"SHA-1 kept beside an unknown digest", good, []Anchor{{Zone: zone, DS: key.ds(1)}, {Zone: zone, DS: strangeDigest}}, Secure, ReasonVerified},
		{"another zone's anchor", good, []Anchor{{Zone: Root, DS: key.ds(2)}}, Indeterminate, ReasonNoAnchor},
		{"no anchor", good, nil, Indeterminate, ReasonNoAnchor},
		{"an anchor of nothing", good, []Anchor{{Zone: zone}}, Indeterminate, ReasonNoAnchor},
		{"key replaced", good, []Anchor{{Zone: zone, DS: second.ds(2)}}, Bogus, ReasonNoMatchingDNSKEY},
		{"no set", nil, []Anchor{{Zone: zone, DS: key.ds(2)}}, Bogus, ReasonDNSKEYMissing},
		{"empty set", empty, []Anchor{{Zone: zone, DS: key.ds(2)}}, Bogus, ReasonDNSKEYMissing},
		{"no set, unsupported", nil, []Anchor{{Zone: zone, DS: strange}}, Insecure, ReasonAlgorithmUnsupported},
		{"expired", expired, []Anchor{{Zone: zone, DS: key.ds(2)}}, Bogus, ReasonSignatureExpired},
		{"key slipped in", forged, []Anchor{{Zone: zone, DS: key.ds(2)}}, Bogus, ReasonSignatureBogus},
		{"signed by a key that nothing leads to", byZSK, []Anchor{{Zone: zone, DS: key.ds(2)}}, Bogus, ReasonSignatureMissing},
		{"without zone bit", dnskeySet(notZone), []Anchor{{Zone: zone, DS: notZone.ds(2)}}, Bogus, ReasonNoZoneKey},
		{"wrong protocol", dnskeySet(badProtocol), []Anchor{{Zone: zone, DS: badProtocol.ds(2)}}, Bogus, ReasonNoZoneKey},
		{"revoked, by DS", dnskeySet(revoked), []Anchor{{Zone: zone, DS: revoked.ds(2)}}, Bogus, ReasonKeyRevoked},
		{"revoked, by key", dnskeySet(revoked), []Anchor{{Zone: zone, Key: revoked.rdata}}, Indeterminate, ReasonKeyRevoked},
		{"anchor since revoked", dnskeySet(revoked), []Anchor{{Zone: zone, Key: revoked.flag(ksk).rdata}}, Bogus, ReasonNoMatchingDNSKEY},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			keys, v := DefaultRules(false).TrustKeys(tt.set, tt.trust, testNow, plenty())
			wantVerdict(t, v, tt.status, tt.reason)
			if (keys != nil) != (v.Status == Secure) {
				t.Errorf("%v with keys %v", v.Status, keys)
			}
		})
	}
	keys := trusted(t, key, zoneKey, second.flag(ksk|0x80))
	want := []KeyInfo{{key.tag(), 13, ksk, true, true}, {zoneKey.tag(), 13, zsk, true, false}, {second.flag(ksk | 0x80).tag(), 8, ksk | 0x80, false, false}}
	if got := keys.List(); !slices.Equal(got, want) {
		t.Errorf("keys %+v, want %+v", got, want)
	}
}

func TestRevokedKeySignsNothing(t *testing.T) {
	zone := name(t, "example.")
	key, revoked := newKey(t, zone, ksk, 13), newKey(t, zone, ksk|0x80, 13)
	keys := trusted(t, key, revoked)
	set := revoked.signed(rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x01"))
	wantVerdict(t, keys.Verify(set, testNow, plenty()).Verdict, Bogus, ReasonKeyRevoked)
}

func TestRSABounds(t *testing.T) {
	zone := name(t, "example.")
	exp := func(s string) *big.Int { n, _ := new(big.Int).SetString(s, 0); return n }
	tests := []struct {
		what   string
		params rsaParams
		min    int
		status Status
		reason Reason
	}{
		{"1024 bits", rsaParams{1024, exp("65537")}, 1024, Secure, ReasonVerified},
		{"exponent 3", rsaParams{1024, exp("3")}, 1024, Secure, ReasonVerified},
		{"exponent 2^32+1", rsaParams{1024, exp("0x100000001")}, 1024, Secure, ReasonVerified},
		{"exponent of 64 bits", rsaParams{1024, exp("0x8000000000000003")}, 1024, Secure, ReasonVerified},
		{"exponent of 65 bits", rsaParams{1024, exp("0x10000000000000001")}, 1024, Insecure, ReasonKeyUnsupported},
		{"exponent 1", rsaParams{1024, exp("1")}, 1024, Insecure, ReasonKeyUnsupported},
		{"512 bits", rsaParams{512, exp("65537")}, 1024, Insecure, ReasonKeyUnsupported},
		{"512 bits allowed", rsaParams{512, exp("65537")}, 512, Secure, ReasonVerified},
		{"1021 bits", rsaParams{1021, exp("65537")}, 1024, Insecure, ReasonKeyUnsupported},
		{"1029 bits", rsaParams{1029, exp("65537")}, 1024, Secure, ReasonVerified},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			key := newRSAExponent(t, zone, ksk, 8, tt.params)
			r := DefaultRules(false)
			r.MinRSABits = tt.min
			_, v := r.TrustKeys(dnskeySet(key), []Anchor{{Zone: zone, DS: key.ds(2)}}, testNow, plenty())
			wantVerdict(t, v, tt.status, tt.reason)
		})
	}
	t.Run("by crypto/rsa", func(t *testing.T) { trusted(t, stdRSA(t, zone, ksk, 2048)) })
	t.Run("over 4096 bits", func(t *testing.T) {
		big := keyRData(ksk, 8, append([]byte{3, 1, 0, 1}, slices.Repeat([]byte{0xff}, 513)...))
		if k := DefaultRules(false).prepare(big); k.err != ErrUnsupportedKey {
			t.Errorf("got %v", k.err)
		}
	})
}

func TestUnsupportedKeyBesideAnother(t *testing.T) {
	zone := name(t, "example.")
	weak, good := newRSA(t, zone, ksk, 8, 512), newKey(t, zone, ksk, 13)
	weakZSK := newRSA(t, zone, zsk, 8, 512)
	r := DefaultRules(false)
	both := []Anchor{{Zone: zone, DS: weak.ds(2)}, {Zone: zone, DS: good.ds(2)}}

	_, v := r.TrustKeys(weak.signed(dnskeySet(good, weak)), both, testNow, plenty())
	wantVerdict(t, v, Secure, ReasonVerified)
	// Taking the good key out of the answer must not turn the zone Insecure.
	_, v = r.TrustKeys(dnskeySet(weak), both, testNow, plenty())
	wantVerdict(t, v, Bogus, ReasonNoMatchingDNSKEY)

	www := weakZSK.signed(rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x01"))
	keys := trusted(t, good, weakZSK)
	wantVerdict(t, keys.Verify(www, testNow, plenty()).Verdict, Insecure, ReasonKeyUnsupported)
	keys = trusted(t, good, newKey(t, zone, zsk, 13), weakZSK)
	wantVerdict(t, keys.Verify(www, testNow, plenty()).Verdict, Bogus, ReasonKeyUnsupported)
}

func TestSignedBy(t *testing.T) {
	zone := name(t, "example.")
	key, other := newKey(t, zone, ksk, 13), newKey(t, zone, ksk, 15)
	revoked := key.flag(ksk | 0x80)
	r := DefaultRules(false)
	set := dnskeySet(other, revoked)
	wantVerdict(t, r.SignedBy(set, other.rdata, testNow, plenty()), Secure, ReasonVerified)
	if v := r.SignedBy(set, revoked.rdata, testNow, plenty()); v.Status != Bogus {
		t.Errorf("a revoked key that did not sign: %+v", v)
	}
	revoked.signed(set)
	wantVerdict(t, r.SignedBy(set, revoked.rdata, testNow, plenty()), Secure, ReasonVerified)
	if v := r.SignedBy(set, key.rdata, testNow, plenty()); v.Status != Bogus {
		t.Errorf("the key before it was revoked: %+v", v)
	}
	if !r.MatchDS(zone, other.rdata, other.ds(2)) || r.MatchDS(zone, key.rdata, other.ds(2)) || r.MatchDS(Root, other.rdata, other.ds(2)) {
		t.Error("MatchDS")
	}
}

func altered(d *DS, f func(*DS)) *DS {
	c := *d
	f(&c)
	return &c
}
