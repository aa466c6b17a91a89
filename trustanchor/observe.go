package trustanchor

import (
	"bytes"
	"time"

	"danepost/resolver/dnssec"
)

// Observation is one answer to a query for a zone's DNSKEY set, reduced to
// what RFC 5011 asks about.
type Observation struct {
	Keys         []SeenKey     // secure entry points that can be used here, and every signer
	TTL          uint32        // original TTL of the set, seconds
	SignatureEnd time.Time     // the latest end among the signatures that verified
	Lifetime     time.Duration // from now to the earliest such end, for the query interval
}

// SeenKey is a key in the answer, or one that signed the answer from outside.
type SeenKey struct {
	RDATA []byte
	InSet bool
	Signs bool // its signature over the set verified
}

// Limits of one observation: a set is signed by few keys.
const (
	maxSeenKeys     = 64
	signatureChecks = 64
	failedChecks    = 32
	maxPendingKeys  = 32 // in a set; more are not noted
)

// Examine checks the signatures on a zone's DNSKEY set by each secure entry
// point in it and by each key that the set trusts, revoked ones by their own
// signature alone. Nothing is decided here.
func Examine(rules *dnssec.Rules, s *Set, rrset *dnssec.RRset, now time.Time) Observation {
	o := Observation{TTL: rrset.TTL}
	budget := &dnssec.Budget{SignatureChecks: signatureChecks, FailedChecks: failedChecks}
	check := func(rdata []byte, inSet bool) {
		key, err := dnssec.ParseDNSKEY(rdata)
		if err != nil || rules.Verifiers[key.Algorithm] == nil || len(o.Keys) >= maxSeenKeys {
			return
		}
		if key.Protocol != 3 || key.Flags&0x0100 == 0 {
			return // RFC 4034 §2.1: not a zone key
		}
		signs := rules.SignedBy(rrset, rdata, now, budget).Status == dnssec.Secure
		if signs {
			o.note(rrset, rdata, now)
		}
		o.Keys = append(o.Keys, SeenKey{RDATA: rdata, InSet: inSet, Signs: signs})
	}
	for _, rdata := range rrset.Data {
		// RFC 5011 §4.1: only keys with the SEP bit are candidates; a trusted one
		// may be without it by configuration.
		if flagsOf(rdata)&flagSEP != 0 || s.find(rdata) != nil {
			check(rdata, true)
		}
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.State.trusted() && k.RDATA != nil && !contains(rrset.Data, k.RDATA) {
			check(k.RDATA, false)
		}
	}
	return o
}

func contains(set [][]byte, rdata []byte) bool {
	for _, d := range set {
		if bytes.Equal(d, rdata) {
			return true
		}
	}
	return false
}

// note remembers the signature that key made: its end bounds the next query
// and the clock.
func (o *Observation) note(rrset *dnssec.RRset, rdata []byte, now time.Time) {
	tag := dnssec.KeyTag(rdata)
	for i := range rrset.Sigs {
		sig := &rrset.Sigs[i]
		if sig.KeyTag != tag || sig.Algorithm != rdata[3] {
			continue
		}
		// RFC 1982 §3.2: the instant nearest to now.
		end := now.Add(time.Duration(int32(sig.Expiration-uint32(now.Unix()))) * time.Second)
		if end.After(o.SignatureEnd) {
			o.SignatureEnd = end
		}
		if left := end.Sub(now); o.Lifetime == 0 || left < o.Lifetime {
			o.Lifetime = max(left, time.Second)
		}
	}
}
