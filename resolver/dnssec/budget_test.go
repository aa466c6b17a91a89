package dnssec

import (
	"encoding/binary"
	"testing"
)

// colliding makes DNSKEYs beside good that all have its tag: two octets of the
// public key make up for the others (RFC 4034 Appendix B).
func colliding(t testing.TB, good *testKey, count int) []*testKey {
	t.Helper()
	var out []*testKey
	for i := range count {
		k := *good
		k.rdata = append([]byte(nil), good.rdata...)
		// Ed25519 takes any 32 octets as a key, so these parse.
		binary.BigEndian.PutUint16(k.rdata[10:], uint16(1000+i))
		for fix := range 1 << 16 {
			binary.BigEndian.PutUint16(k.rdata[12:], uint16(fix))
			if KeyTag(k.rdata) == good.tag() {
				break
			}
		}
		if k.tag() != good.tag() {
			t.Fatal("no colliding key found")
		}
		out = append(out, &k)
	}
	return out
}

// counting replaces an algorithm's check by one that counts.
func counting(r *Rules, alg uint8, count *int) {
	inner := r.Verifiers[alg]
	r.Verifiers[alg] = func(r *Rules, publicKey []byte) (Check, error) {
		check, err := inner(r, publicKey)
		if err != nil {
			return nil, err
		}
		return func(data, sig []byte) bool {
			*count++
			return check(data, sig)
		}, nil
	}
}

// TestKeyTrap: many keys of one tag and many signatures by it, none of them
// right, must cost no more than the limits say (CVE-2023-50387).
func TestKeyTrap(t *testing.T) {
	zone := name(t, "example.")
	entry, good := newKey(t, zone, ksk, 13), newKey(t, zone, zsk, 15)
	traps := colliding(t, good, 20)
	www := func(sigs int) *RRset {
		set := rrset(name(t, "www.example."), 1, "\xc0\x00\x02\x01")
		for i := range sigs {
			good.signed(set)
			if i < sigs-1 {
				set.Sigs[i].Signature[0] ^= 1
			}
		}
		return set
	}
	tests := []struct {
		what   string
		keys   []*testKey // beside entry
		sigs   int        // on the RRset, only the last of them right
		budget Budget
		status Status
		reason Reason
		checks int // how many are made
	}{
		{what: "good key behind three others", keys: append(traps[:3:3], good), sigs: 1, budget: *plenty(), status: Secure, reason: ReasonVerified, checks: 4},
		{what: "good key behind four others", keys: append(traps[:4:4], good), sigs: 1, budget: *plenty(), status: Indeterminate, reason: ReasonLimitKeysPerTag, checks: 4},
		{what: "many keys, many signatures", keys: traps, sigs: 30, budget: *plenty(), status: Indeterminate, reason: ReasonLimitSigsPerRRset, checks: 8},
		{what: "too many keys for one signature, the next one wrong", keys: traps[:5], sigs: 2, budget: *plenty(), status: Indeterminate, reason: ReasonLimitKeysPerTag, checks: 8},
		{what: "eighth signature right", keys: []*testKey{good}, sigs: 8, budget: *plenty(), status: Secure, reason: ReasonVerified, checks: 8},
		{what: "ninth signature right", keys: []*testKey{good}, sigs: 9, budget: *plenty(), status: Indeterminate, reason: ReasonLimitSigsPerRRset, checks: 8},
		{what: "three checks left", keys: traps, sigs: 30, budget: Budget{SignatureChecks: 3, FailedChecks: 16}, status: Indeterminate, reason: ReasonLimitChecks, checks: 3},
		{what: "no check left", keys: []*testKey{good}, sigs: 1, status: Indeterminate, reason: ReasonLimitChecks, checks: 0},
		{what: "no failure left, none needed", keys: []*testKey{good}, sigs: 1, budget: Budget{SignatureChecks: 1}, status: Secure, reason: ReasonVerified, checks: 1},
		{what: "one failure left", keys: []*testKey{good}, sigs: 3, budget: Budget{SignatureChecks: 64, FailedChecks: 1}, status: Indeterminate, reason: ReasonLimitFailed, checks: 2},
		{what: "wrong, but within all limits", keys: traps[:2], sigs: 2, budget: *plenty(), status: Bogus, reason: ReasonSignatureBogus, checks: 4},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			r, count := DefaultRules(false), 0
			counting(r, 15, &count)
			keys, v := r.TrustKeys(dnskeySet(append([]*testKey{entry}, tt.keys...)...), []Anchor{{Zone: zone, DS: entry.ds(2)}}, testNow, plenty())
			if keys == nil {
				t.Fatal(v)
			}
			b := tt.budget
			wantVerdict(t, keys.Verify(www(tt.sigs), testNow, &b).Verdict, tt.status, tt.reason)
			if count != tt.checks || tt.budget.SignatureChecks-b.SignatureChecks != count {
				t.Errorf("%d checks made, %d paid for, want %d", count, tt.budget.SignatureChecks-b.SignatureChecks, tt.checks)
			}
			if b.SignatureChecks < 0 || b.FailedChecks < 0 {
				t.Errorf("budget overdrawn: %+v", b)
			}
		})
	}
}

// TestKeyTrapDNSKEY is the same trap on the way into a zone: DS records whose
// tag many keys share.
func TestKeyTrapDNSKEY(t *testing.T) {
	zone := name(t, "example.")
	good := newKey(t, zone, ksk, 15)
	traps := colliding(t, good, 20)
	for _, before := range []int{3, 4, 20} {
		r, digests := DefaultRules(false), 0
		sha256 := r.Digests[2]
		r.Digests[2] = func(data []byte) []byte { digests++; return sha256(data) }
		set := rrset(zone, typeDNSKEY)
		for _, k := range append(traps[:before:before], good) {
			set.Data = append(set.Data, k.rdata)
		}
		good.signed(set)
		_, v := r.TrustKeys(set, []Anchor{{Zone: zone, DS: good.ds(2)}}, testNow, plenty())
		if before < r.MaxKeysPerTag {
			wantVerdict(t, v, Secure, ReasonVerified)
		} else {
			wantVerdict(t, v, Indeterminate, ReasonLimitKeysPerTag)
		}
		if digests > r.MaxKeysPerTag {
			t.Errorf("%d digests computed", digests)
		}
	}
}

func TestDenialKeepsToBudget(t *testing.T) {
	z := newTestZone(t)
	sets := z.nsecs()
	for _, set := range sets {
		set.Sigs[0].Signature[0] ^= 1
	}
	b := &Budget{SignatureChecks: 64, FailedChecks: 3}
	d := z.keys.Denial(sets, testNow, b)
	wantVerdict(t, d.NameError(name(t, "none.example."), b), Indeterminate, ReasonLimitFailed)
	if made := 64 - b.SignatureChecks; made > 4 {
		t.Errorf("%d checks made", made)
	}
}
