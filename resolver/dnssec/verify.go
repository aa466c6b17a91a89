package dnssec

import (
	"errors"
	"fmt"
	"time"
)

// Proof is what Verify found.
type Proof struct {
	Verdict
	// Wildcard is the closest encloser ("example." for an expansion of
	// *.example.) when the signature's label count shows that the RRset was
	// expanded from a wildcard; "" otherwise. The caller must then prove that
	// the name itself does not exist (RFC 4035 §5.3.4). A DS RRset that was
	// expanded is no delegation (RFC 4592 §4.6).
	Wildcard Name
	Expires  time.Time // end of the signature that verified
	TTL      uint32    // the RRset's TTL capped by original TTL and Expires (RFC 4035 §5.3.3)
	KeyTag   uint16    // of the key that verified
}

// Verify checks an RRset against the zone's keys. A set without signatures is
// Bogus ("signature-missing"): a secure zone signs all it is authoritative for.
func (k *Keys) Verify(set *RRset, now time.Time, b *Budget) Proof {
	v := verification{rules: k.rules, zone: k.Zone, keys: k.keys, weak: k.weak, set: set, now: now, budget: b}
	return v.run()
}

// verification is one RRset on its way to a verdict.
type verification struct {
	rules  *Rules
	zone   Name
	keys   []zoneKey
	weak   bool // see Keys.weak
	entry  bool // keys are not all of the zone's, but those that a chain of trust enters by
	set    *RRset
	now    time.Time
	budget *Budget

	loaded bool   // the budget's canonicalizer holds set
	checks int    // signature checks done for this set
	worst  fault  // of the signature that came furthest
	limit  Reason // the limit that was met, if any
}

// fault is why a signature did not do. The later in this list, the further the
// signature came, and the more its fault says about the set.
type fault struct {
	rank   int
	reason Reason
	sig    *RRSIG
}

const (
	rankNone      = iota // no signature at all
	rankSigner           // not signed by this zone
	rankMalformed        // its label count cannot be
	rankAlgorithm        // an algorithm nobody here knows
	rankNoKey            // no such key in the zone
	rankKey              // the key is out of bounds or must not sign
	rankDate             // not yet, or no longer
	rankBogus            // the signature is wrong
)

func (v *verification) run() Proof {
	v.worst = fault{rankNone, ReasonSignatureMissing, nil}
	// DS is the parent's to sign, never the child's own (RFC 4035 §2.4).
	ownDS := v.set.Type == typeDS && v.set.Name == v.zone
	if len(v.set.Data) == 0 || ownDS || !v.set.Name.IsSubdomainOf(v.zone) {
		v.worst = fault{rankSigner, ReasonSignerMismatch, nil}
		return v.failed()
	}
	for i := range v.set.Sigs {
		sig := &v.set.Sigs[i]
		owner, encloser, f := v.admissible(sig)
		if f.rank == rankNone && v.verifies(sig, owner) {
			return v.proved(sig, encloser)
		}
		if f.rank != rankNone {
			v.note(f)
		}
		if v.exhausted() {
			break
		}
	}
	return v.failed()
}

// note keeps the most telling fault.
func (v *verification) note(f fault) {
	if f.rank > v.worst.rank {
		v.worst = f
	}
}

// exhausted reports whether a limit was met that stops further signatures;
// colliding keys of one signature say nothing about the next.
func (v *verification) exhausted() bool {
	return v.limit != "" && v.limit != ReasonLimitKeysPerTag
}

// admissible makes the checks of RFC 4035 §5.3.1 that need no key, cheapest
// first, and those of the dates. It returns the owner name that was signed.
func (v *verification) admissible(sig *RRSIG) (owner, encloser Name, f fault) {
	if sig.TypeCovered != v.set.Type || sig.Signer != v.zone {
		return "", "", fault{rankSigner, ReasonSignerMismatch, sig}
	}
	owner, encloser, ok := signedOwner(v.set.Name, sig)
	// An asterisk hangs from a name in the zone, never from one above it.
	if !ok || owner == "" || !owner.IsSubdomainOf(v.zone) {
		return "", "", fault{rankMalformed, ReasonSignatureMalformed, sig}
	}
	if v.rules.Verifiers[sig.Algorithm] == nil {
		return "", "", fault{rankAlgorithm, ReasonSignatureAlgorithm, sig}
	}
	if f := v.keyFault(sig); f.rank != rankNone {
		return "", "", f
	}
	if reason := dateFault(sig, v.now); reason != "" {
		return "", "", fault{rankDate, reason, sig}
	}
	return owner, encloser, fault{}
}

// keyFault looks for a usable key that may have made sig.
func (v *verification) keyFault(sig *RRSIG) fault {
	f := fault{rankNoKey, ReasonDNSKEYMissing, sig}
	if v.entry {
		f.reason = ReasonSignatureMissing
	}
	for i := range v.keys {
		key := &v.keys[i]
		switch {
		case !key.made(sig):
			continue
		case key.usable():
			return fault{}
		case errors.Is(key.err, ErrUnsupportedKey):
			f = fault{rankKey, ReasonKeyUnsupported, sig}
		default:
			f = fault{rankKey, key.fault(), sig}
		}
	}
	return f
}

// verifies tries the keys that sig may have been made by. Tags collide, so
// there may be several; that is bounded (CVE-2023-50387).
func (v *verification) verifies(sig *RRSIG, owner Name) bool {
	var data []byte
	tried := 0
	for i := range v.keys {
		key := &v.keys[i]
		if !key.made(sig) || !key.usable() {
			continue
		}
		switch {
		case tried >= v.rules.MaxKeysPerTag:
			v.limit = ReasonLimitKeysPerTag
			return false
		case v.checks >= v.rules.MaxSigsPerRRset:
			v.limit = ReasonLimitSigsPerRRset
			return false
		}
		if limit := v.budget.takeCheck(); limit != "" {
			v.limit = limit
			return false
		}
		tried++
		v.checks++
		if data == nil {
			data = v.signedData(sig, owner)
		}
		if check := key.check(v.rules); check != nil && check(data, sig.Signature) {
			return true
		}
		v.note(fault{rankBogus, ReasonSignatureBogus, sig})
		if limit := v.budget.takeFailure(); limit != "" {
			v.limit = limit
			return false
		}
	}
	return false
}

func (v *verification) signedData(sig *RRSIG, owner Name) []byte {
	c := &v.budget.canonical
	if !v.loaded {
		c.load(v.set)
		v.loaded = true
	}
	return c.compose(v.set, sig, owner)
}

// proved is the verdict on a set whose signature sig verified.
func (v *verification) proved(sig *RRSIG, encloser Name) Proof {
	expires := serialTime(sig.Expiration, v.now)
	if !expires.After(v.now) {
		// Accepted by the skew alone, so that is what is left of it.
		expires = expires.Add(skew(sig))
	}
	ttl := min(v.set.TTL, sig.OriginalTTL, sig.TTL)
	if left := expires.Sub(v.now) / time.Second; left < time.Duration(ttl) {
		ttl = uint32(max(left, 0)) // RFC 4035 §5.3.3
	}
	return Proof{
		Verdict:  verdict(Secure, ReasonVerified, ""),
		Wildcard: encloser,
		Expires:  expires,
		TTL:      ttl,
		KeyTag:   sig.KeyTag,
	}
}

// failed is the verdict on a set that no signature verified.
func (v *verification) failed() Proof {
	switch {
	case v.limit != "":
		return Proof{Verdict: verdict(Indeterminate, v.limit,
			fmt.Sprintf("gave up on the signatures of %s: %s", v.what(), limitText(v.limit)))}
	case v.worst.reason == ReasonKeyUnsupported && v.weak:
		return Proof{Verdict: verdict(Insecure, ReasonKeyUnsupported, v.text())}
	}
	return Proof{Verdict: verdict(Bogus, v.worst.reason, v.text())}
}

func (v *verification) what() string {
	return fmt.Sprintf("%s %s", v.set.Name, typeText(v.set.Type))
}

// text says what is wrong in words for the zone's administrator.
func (v *verification) text() string {
	sig, what := v.worst.sig, v.what()
	switch v.worst.reason {
	case ReasonSignatureMissing:
		if sig != nil {
			return fmt.Sprintf("%s is not signed by any key that the chain of trust leads to", what)
		}
		return fmt.Sprintf("%s has no RRSIG, but the zone %s is signed", what, v.zone)
	case ReasonSignerMismatch:
		if sig == nil {
			return fmt.Sprintf("%s does not belong to the zone %s", what, v.zone)
		}
		return fmt.Sprintf("%s is signed by %s, not by its zone %s", what, sig.Signer, v.zone)
	case ReasonSignatureAlgorithm:
		return fmt.Sprintf("%s is signed only with algorithm %d, which is not supported here", what, sig.Algorithm)
	}
	by := fmt.Sprintf("key %d (algorithm %d) of %s", sig.KeyTag, sig.Algorithm, v.zone)
	switch v.worst.reason {
	case ReasonSignatureMalformed:
		if v.worst.rank == rankMalformed {
			return fmt.Sprintf("the RRSIG of %s by %s has an impossible label count, %d", what, by, sig.Labels)
		}
		return fmt.Sprintf("the RRSIG of %s by %s ends before it begins", what, by)
	case ReasonDNSKEYMissing:
		return fmt.Sprintf("%s is signed by %s, which is not in the zone's DNSKEY RRset", what, by)
	case ReasonKeyUnsupported:
		return fmt.Sprintf("%s is signed by %s, whose size or exponent is not supported here", what, by)
	case ReasonKeyRevoked, ReasonNoZoneKey, ReasonDNSKEYMalformed:
		return fmt.Sprintf("%s is signed by %s, which must not sign: it is revoked, no zone key or malformed", what, by)
	case ReasonSignatureExpired:
		return fmt.Sprintf("the RRSIG of %s by %s expired on %s", what, by, timeText(sig.Expiration, v.now))
	case ReasonSignatureEarly:
		return fmt.Sprintf("the RRSIG of %s by %s is not valid before %s", what, by, timeText(sig.Inception, v.now))
	}
	return fmt.Sprintf("the RRSIG of %s by %s does not fit the data", what, by)
}

func limitText(r Reason) string {
	switch r {
	case ReasonLimitKeysPerTag:
		return "too many keys share one key tag"
	case ReasonLimitSigsPerRRset:
		return "too many signatures on one RRset"
	case ReasonLimitFailed:
		return "too many signatures failed in this look-up"
	case ReasonLimitNSEC3Hashes:
		return "too many NSEC3 hashes for one look-up"
	}
	return "too many signature checks for one look-up"
}

// typeText names the types that an administrator of a mail domain meets.
func typeText(t uint16) string {
	switch t {
	case 1:
		return "A"
	case typeNS:
		return "NS"
	case typeCNAME:
		return "CNAME"
	case typeSOA:
		return "SOA"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 28:
		return "AAAA"
	case typeDNAME:
		return "DNAME"
	case typeDS:
		return "DS"
	case typeNSEC:
		return "NSEC"
	case typeDNSKEY:
		return "DNSKEY"
	case typeNSEC3:
		return "NSEC3"
	case 52:
		return "TLSA"
	}
	return fmt.Sprintf("TYPE%d", t) // RFC 3597 §5
}
