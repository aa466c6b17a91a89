package dnssec

import (
	"slices"
	"testing"
	"time"
)

func TestVerifyAlgorithms(t *testing.T) {
	zone := name(t, "example.")
	for _, alg := range []uint8{5, 7, 8, 10, 13, 14, 15} {
		key := newKey(t, zone, ksk, alg)
		keys := trusted(t, key)
		set := key.signed(rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x02", "\xc0\x00\x02\x01", "\xc0\x00\x02\x02"))
		proof := keys.Verify(set, testNow, plenty())
		wantVerdict(t, proof.Verdict, Secure, ReasonVerified)
		if proof.TTL != 3600 || proof.KeyTag != key.tag() || !proof.Expires.Equal(testNow.Add(14*24*time.Hour)) {
			t.Errorf("algorithm %d: %+v", alg, proof)
		}
		for _, spoil := range []func(s *RRset){
			func(s *RRset) { s.Data[0][3] ^= 1 },
			func(s *RRset) { s.Data = s.Data[:1] },
			func(s *RRset) { s.Name = name(t, "wwx.example.") },
			func(s *RRset) { s.Class = 3 },
			func(s *RRset) { s.Sigs[0].OriginalTTL++ },
			func(s *RRset) { s.Sigs[0].Signature[5] ^= 1 },
			func(s *RRset) { s.Sigs[0].Signature = s.Sigs[0].Signature[1:] },
			func(s *RRset) { s.Sigs[0].Signature = append(s.Sigs[0].Signature, 0) },
			func(s *RRset) { s.Sigs[0].Signature = nil },
			func(s *RRset) { clear(s.Sigs[0].Signature) },
			func(s *RRset) { s.Sigs[0].Expiration++ },
		} {
			bad := *set
			bad.Data = nil
			for _, d := range set.Data {
				bad.Data = append(bad.Data, slices.Clone(d))
			}
			bad.Sigs = slices.Clone(set.Sigs)
			bad.Sigs[0].Signature = slices.Clone(set.Sigs[0].Signature)
			spoil(&bad)
			wantVerdict(t, keys.Verify(&bad, testNow, plenty()).Verdict, Bogus, ReasonSignatureBogus)
		}
	}
}

func TestVerifyReasons(t *testing.T) {
	zone := name(t, "example.")
	key, other := newKey(t, zone, ksk, 13), newKey(t, zone, zsk, 13)
	keys := trusted(t, key)
	www := name(t, "www.example.")
	day := uint32(24 * 3600)
	now := uint32(testNow.Unix())
	tests := []struct {
		what   string
		change func(*RRSIG)
		by     *testKey
		status Status
		reason Reason
		ede    int
	}{
		{"good", func(*RRSIG) {}, key, Secure, ReasonVerified, -1},
		{"expired", func(s *RRSIG) { s.Expiration = now - 3*day }, key, Bogus, ReasonSignatureExpired, 7},
		{"expired within the skew", func(s *RRSIG) { s.Inception, s.Expiration = now-30*day, now-day+60 }, key, Secure, ReasonVerified, -1},
		{"expired beyond the greatest skew", func(s *RRSIG) { s.Inception, s.Expiration = now-30*day, now-day-60 }, key, Bogus, ReasonSignatureExpired, 7},
		{"short-lived, within the least skew", func(s *RRSIG) { s.Inception, s.Expiration = now-7200, now-3500 }, key, Secure, ReasonVerified, -1},
		{"short-lived, beyond the least skew", func(s *RRSIG) { s.Inception, s.Expiration = now-7200, now-3700 }, key, Bogus, ReasonSignatureExpired, 7},
		{"not yet valid", func(s *RRSIG) { s.Inception = now + 2*day }, key, Bogus, ReasonSignatureEarly, 8},
		{"not yet valid, within the skew", func(s *RRSIG) { s.Inception = now + day }, key, Secure, ReasonVerified, -1},
		{"ends before it begins", func(s *RRSIG) { s.Inception, s.Expiration = now+1, now }, key, Bogus, ReasonSignatureMalformed, 6},
		{"other key", func(*RRSIG) {}, other, Bogus, ReasonDNSKEYMissing, 9},
		{"unknown algorithm", func(s *RRSIG) { s.Algorithm = 99 }, key, Bogus, ReasonSignatureAlgorithm, 10},
		{"another type", func(s *RRSIG) { s.TypeCovered = 28 }, key, Bogus, ReasonSignerMismatch, 6},
		{"a zone above", func(s *RRSIG) { s.Signer = Root }, key, Bogus, ReasonSignerMismatch, 6},
		{"a zone below", func(s *RRSIG) { s.Signer = www }, key, Bogus, ReasonSignerMismatch, 6},
		{"too many labels", func(s *RRSIG) { s.Labels = 3 }, key, Bogus, ReasonSignatureMalformed, 6},
		{"a wildcard above the zone", func(s *RRSIG) { s.Labels = 0 }, key, Bogus, ReasonSignatureMalformed, 6},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			set := rrset(www, 1, "\xc0\x00\x02\x01")
			sig := template(tt.by, set)
			tt.change(&sig)
			tt.by.signAs(set, www, sig)
			proof := keys.Verify(set, testNow, plenty())
			wantVerdict(t, proof.Verdict, tt.status, tt.reason)
			if proof.EDE != tt.ede {
				t.Errorf("EDE %d, want %d", proof.EDE, tt.ede)
			}
			if proof.Status == Secure && !proof.Expires.After(testNow) {
				t.Errorf("Secure until %v, which is past", proof.Expires)
			}
		})
	}
	wantVerdict(t, keys.Verify(rrset(www, 1, "\xc0\x00\x02\x01"), testNow, plenty()).Verdict, Bogus, ReasonSignatureMissing)
	wantVerdict(t, keys.Verify(key.signed(rrset(name(t, "www.example2."), 1, "\xc0\x00\x02\x01")), testNow, plenty()).Verdict, Bogus, ReasonSignerMismatch)
	wantVerdict(t, keys.Verify(key.signed(rrset(zone, typeDS, "\x00\x01\x0d\x02hash")), testNow, plenty()).Verdict, Bogus, ReasonSignerMismatch)
	wantVerdict(t, keys.Verify(key.signed(rrset(www, 1)), testNow, plenty()).Verdict, Bogus, ReasonSignerMismatch)
}

func TestVerifyDatesWrap(t *testing.T) {
	// The serial numbers wrap on 2106-02-07 at 06:28:16 UTC.
	zone := name(t, "example.")
	key := newKey(t, zone, ksk, 15)
	now := time.Date(2106, 2, 7, 6, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		from, to time.Duration
		reason   Reason
	}{
		{-24 * time.Hour, 24 * time.Hour, ReasonVerified},
		{-96 * time.Hour, -48 * time.Hour, ReasonSignatureExpired},
		{48 * time.Hour, 96 * time.Hour, ReasonSignatureEarly},
	} {
		set := rrset(zone, typeDNSKEY, string(key.rdata))
		sig := template(key, set)
		sig.Inception, sig.Expiration = uint32(now.Add(tt.from).Unix()), uint32(now.Add(tt.to).Unix())
		key.signAs(set, zone, sig)
		_, v := DefaultRules(false).TrustKeys(set, []Anchor{{Zone: zone, Key: key.rdata}}, now, plenty())
		if v.Reason != tt.reason {
			t.Errorf("%v to %v: %+v", tt.from, tt.to, v)
		}
	}
}

func TestVerifyTTL(t *testing.T) {
	zone := name(t, "example.")
	key := newKey(t, zone, ksk, 15)
	keys := trusted(t, key)
	for _, tt := range []struct {
		what           string
		set, orig, rrs uint32
		left           time.Duration
		want           uint32
	}{
		{"as received", 300, 3600, 3600, time.Hour, 300},
		{"original TTL", 7200, 3600, 7200, 4 * time.Hour, 3600},
		{"of the RRSIG", 7200, 3600, 60, time.Hour, 60},
		{"end of the signature", 7200, 7200, 7200, time.Minute, 60},
	} {
		set := rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x01")
		sig := template(key, set)
		sig.OriginalTTL, sig.TTL, sig.Expiration = tt.orig, tt.rrs, uint32(testNow.Add(tt.left).Unix())
		key.signAs(set, set.Name, sig)
		set.TTL = tt.set
		if proof := keys.Verify(set, testNow, plenty()); proof.Status != Secure || proof.TTL != tt.want {
			t.Errorf("%s: %v, TTL %d, want %d", tt.what, proof.Verdict, proof.TTL, tt.want)
		}
	}
}

func TestVerifyWildcard(t *testing.T) {
	zone := name(t, "example.")
	key := newKey(t, zone, ksk, 13)
	keys := trusted(t, key)
	set := key.signed(rrset(name(t, "*.a.example."), 1, "\xc0\x00\x02\x01"))

	proof := keys.Verify(set, testNow, plenty())
	wantVerdict(t, proof.Verdict, Secure, ReasonVerified)
	if proof.Wildcard != "" {
		t.Errorf("the wildcard itself counts as expanded from %s", proof.Wildcard)
	}
	for _, owner := range []string{"x.a.example.", "y.x.a.example.", "*.x.a.example."} {
		proof := keys.Verify(expanded(set, name(t, owner)), testNow, plenty())
		wantVerdict(t, proof.Verdict, Secure, ReasonVerified)
		if proof.Wildcard != name(t, "a.example.") {
			t.Errorf("%s: expanded from %q", owner, proof.Wildcard)
		}
	}
	wantVerdict(t, keys.Verify(expanded(set, name(t, "x.b.example.")), testNow, plenty()).Verdict, Bogus, ReasonSignatureBogus)
	// The name that the asterisk hangs from is no expansion of it.
	wantVerdict(t, keys.Verify(expanded(set, name(t, "a.example.")), testNow, plenty()).Verdict, Bogus, ReasonSignatureBogus)
}

func TestVerifySecondSignature(t *testing.T) {
	zone := name(t, "example.")
	key, zone2 := newKey(t, zone, ksk, 13), newKey(t, zone, zsk, 8)
	keys := trusted(t, key, zone2)
	set := key.signed(rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x01"))
	set.Sigs[0].Signature[0] ^= 1
	zone2.signed(set)
	b := plenty()
	proof := keys.Verify(set, testNow, b)
	wantVerdict(t, proof.Verdict, Secure, ReasonVerified) // RFC 6840 §5.11
	if b.SignatureChecks != 62 || b.FailedChecks != 15 || proof.KeyTag != zone2.tag() {
		t.Errorf("%+v %+v", b, proof)
	}
}
