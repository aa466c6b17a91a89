package dnssec

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Anchor is one trusted starting point: a DS or a whole DNSKEY RDATA of Zone.
// Exactly one of DS and Key is set.
type Anchor struct {
	Zone Name
	DS   *DS
	Key  []byte
}

// Keys are the keys of one zone that a chain of trust reached. Immutable, and
// safe for concurrent use.
type Keys struct {
	Zone Name
	// Proof of the DNSKEY RRset itself: KeyTag is that of the key that the
	// chain of trust enters by.
	Proof Proof

	rules *Rules
	keys  []zoneKey
	// weak says that every key of the zone without the SEP flag is out of
	// bounds: the zone's data are then signed by what counts as unsupported.
	// A stray weak key beside a good one must not have this effect: whoever
	// breaks it could then turn the zone's data Insecure.
	weak bool
}

// KeyInfo describes one key of a zone, for people.
type KeyInfo struct {
	Tag       uint16
	Algorithm uint8
	Flags     uint16
	Usable    bool // it may check signatures
	Entry     bool // the chain of trust enters the zone by it
}

// List returns the zone's keys in the order received.
func (k *Keys) List() []KeyInfo {
	out := make([]KeyInfo, 0, len(k.keys))
	for i := range k.keys {
		key := &k.keys[i]
		out = append(out, KeyInfo{Tag: key.tag, Algorithm: key.algorithm, Flags: key.flags,
			Usable: key.usable(), Entry: key.entry})
	}
	return out
}

// Size estimates the octets of memory that the keys take.
func (k *Keys) Size() int {
	size := 160
	for i := range k.keys {
		size += 64 + 16 + len(k.keys[i].rdata)
	}
	return size
}

// zoneKey is one DNSKEY, prepared for checking.
type zoneKey struct {
	tag       uint16
	algorithm uint8
	flags     uint16
	entry     bool
	err       error // why it checks nothing
	// rdata is read again for each check: that costs little beside the check, and a parsed
	// key would take several times the memory for as long as the zone is known.
	rdata []byte
}

// usable reports whether the key may check signatures.
func (k *zoneKey) usable() bool { return k.err == nil }

// check returns what checks signatures by a usable key; nil if it is none.
func (k *zoneKey) check(r *Rules) Check {
	verifier := r.Verifiers[k.algorithm]
	if k.err != nil || verifier == nil {
		return nil
	}
	check, err := verifier(r, k.rdata[dnskeyFixedLen:])
	if err != nil {
		return nil
	}
	return check
}

var (
	errNotSigning  = errors.New("no zone key (zone bit, protocol 3), or revoked")
	errNoAlgorithm = errors.New("unsupported algorithm")
)

// made reports whether the key may have made sig.
func (k *zoneKey) made(sig *RRSIG) bool {
	return k.tag == sig.KeyTag && k.algorithm == sig.Algorithm
}

// fault is the reason that goes with a key whose error is not ErrUnsupportedKey.
func (k *zoneKey) fault() Reason {
	switch {
	case !errors.Is(k.err, errNotSigning):
		return ReasonDNSKEYMalformed
	case k.flags&flagRevoke != 0:
		return ReasonKeyRevoked
	}
	return ReasonNoZoneKey
}

// prepare reads one DNSKEY RDATA.
func (r *Rules) prepare(rdata []byte) zoneKey {
	dnskey, err := ParseDNSKEY(rdata)
	if err != nil {
		return zoneKey{err: err, rdata: rdata}
	}
	key := zoneKey{tag: KeyTag(rdata), algorithm: dnskey.Algorithm, flags: dnskey.Flags, rdata: rdata}
	verifier := r.Verifiers[dnskey.Algorithm]
	switch {
	case !dnskey.Signs():
		key.err = errNotSigning
	case verifier == nil:
		key.err = errNoAlgorithm
	default:
		_, key.err = verifier(r, dnskey.PublicKey)
	}
	return key
}

// TrustKeys decides whether a zone's DNSKEY RRset is the one that trust (DS
// records already proved, or anchors) stands for. Anchors of other zones are
// passed over. Secure: keys are returned. Insecure: no supported path. Bogus:
// the set should have verified and did not. A nil or empty set is a missing
// one.
func (r *Rules) TrustKeys(dnskey *RRset, trust []Anchor, now time.Time, b *Budget) (*Keys, Verdict) {
	if dnskey == nil {
		dnskey = &RRset{Type: typeDNSKEY}
		if len(trust) > 0 {
			dnskey.Name = trust[0].Zone
		}
	}
	zone := dnskey.Name
	trust, why := r.usableTrust(zone, trust)
	if len(trust) == 0 {
		return nil, why
	}
	if len(dnskey.Data) == 0 || dnskey.Type != typeDNSKEY {
		return nil, verdict(Bogus, ReasonDNSKEYMissing,
			fmt.Sprintf("the zone %s has a chain of trust but shows no DNSKEY records", zone))
	}
	keys := &Keys{Zone: zone, rules: r, keys: make([]zoneKey, 0, len(dnskey.Data))}
	for _, rdata := range dnskey.Data {
		keys.keys = append(keys.keys, r.prepare(rdata))
	}
	keys.weak = allWeak(keys.keys)
	m := matching{rules: r, keys: keys}
	for i := range trust {
		m.match(&trust[i])
	}
	if len(m.entries) == 0 {
		return nil, m.verdict(trust)
	}
	v := verification{rules: r, zone: zone, keys: m.entries, entry: true, set: dnskey, now: now, budget: b}
	keys.Proof = v.run()
	switch {
	case keys.Proof.Status == Secure:
		return keys, keys.Proof.Verdict
	case keys.Proof.Status == Bogus && m.limit != "":
		return nil, m.verdict(trust)
	}
	return nil, keys.Proof.Verdict
}

// allWeak computes Keys.weak.
func allWeak(keys []zoneKey) bool {
	weak := false
	for i := range keys {
		switch {
		case keys[i].flags&flagSEP != 0:
		case keys[i].usable():
			return false
		case errors.Is(keys[i].err, ErrUnsupportedKey):
			weak = true
		}
	}
	return weak
}

// usableTrust returns what of trust is for zone and supported; where nothing
// is, the verdict that follows.
func (r *Rules) usableTrust(zone Name, trust []Anchor) ([]Anchor, Verdict) {
	usable := make([]Anchor, 0, len(trust))
	digest, algorithm, revoked, better := -1, -1, false, false // -1: none, for 0 is a number that occurs
	for _, a := range trust {
		switch {
		case a.Zone != zone || (a.DS == nil) == (a.Key == nil):
			continue
		case a.DS == nil:
			key, err := ParseDNSKEY(a.Key)
			if err != nil || key.Revoked() {
				revoked = err == nil // RFC 5011 §2.1: a revoked key never counts again
				continue
			}
			algorithm = int(key.Algorithm)
		case r.Digests[a.DS.DigestType] == nil && r.Verifiers[a.DS.Algorithm] != nil:
			digest = int(a.DS.DigestType)
			continue
		default:
			algorithm = int(a.DS.Algorithm)
		}
		if r.Verifiers[uint8(algorithm)] == nil {
			continue
		}
		better = better || a.DS != nil && a.DS.DigestType != 1
		usable = append(usable, a)
	}
	if better {
		usable = dropSHA1(usable)
	}
	switch {
	case len(usable) > 0:
		return usable, Verdict{}
	case digest >= 0:
		return nil, verdict(Insecure, ReasonDigestUnsupported,
			fmt.Sprintf("no DS record of %s has a digest type supported here (one has type %d)", zone, digest))
	case algorithm >= 0:
		return nil, verdict(Insecure, ReasonAlgorithmUnsupported,
			fmt.Sprintf("the zone %s is signed only with algorithms not supported here (such as %d)", zone, algorithm))
	case revoked:
		return nil, verdict(Indeterminate, ReasonKeyRevoked, fmt.Sprintf("every trust anchor of %s is revoked", zone))
	}
	return nil, verdict(Indeterminate, ReasonNoAnchor, fmt.Sprintf("nothing says which keys of %s to trust", zone))
}

// dropSHA1 leaves out the SHA-1 digests of a set that has better ones: whoever
// can break SHA-1 must not profit from it (RFC 4509 §3).
func dropSHA1(trust []Anchor) []Anchor {
	kept := trust[:0]
	for _, a := range trust {
		if a.DS == nil || a.DS.DigestType != 1 {
			kept = append(kept, a)
		}
	}
	return kept
}

// matching finds the keys of a zone that its anchors stand for.
type matching struct {
	rules   *Rules
	keys    *Keys
	entries []zoneKey // usable keys that match

	unsupported int    // anchors whose key is out of bounds
	fault       Reason // of a key that matches and cannot be used
	tag         uint16 // of that key
	limit       Reason
}

func (m *matching) match(a *Anchor) {
	tried := 0
	for i := range m.keys.keys {
		key := &m.keys.keys[i]
		if a.DS != nil {
			if key.tag != a.DS.KeyTag || key.algorithm != a.DS.Algorithm {
				continue
			}
			if tried >= m.rules.MaxKeysPerTag {
				m.limit = ReasonLimitKeysPerTag
				return
			}
			tried++
			if !m.rules.MatchDS(m.keys.Zone, key.rdata, a.DS) {
				continue
			}
		} else if !bytes.Equal(key.rdata, a.Key) {
			continue
		}
		m.enter(key)
		return
	}
}

// enter notes a key that an anchor stands for.
func (m *matching) enter(key *zoneKey) {
	switch {
	case key.entry: // by another DS already
	case key.usable():
		key.entry = true
		m.entries = append(m.entries, *key)
	case errors.Is(key.err, ErrUnsupportedKey):
		m.unsupported++
		m.tag = key.tag
	default:
		m.tag, m.fault = key.tag, key.fault()
	}
}

// verdict is what follows where no anchor leads to a usable key.
func (m *matching) verdict(trust []Anchor) Verdict {
	zone := m.keys.Zone
	switch {
	case m.limit != "":
		return verdict(Indeterminate, m.limit, fmt.Sprintf("gave up on the keys of %s: %s", zone, limitText(m.limit)))
	case m.unsupported == len(trust):
		// No other path exists: each anchor is of a key that counts as
		// unsupported. Were one not accounted for, an attacker could have
		// taken its key out of the answer.
		return verdict(Insecure, ReasonKeyUnsupported,
			fmt.Sprintf("key %d of %s has a size or exponent that is not supported here", m.tag, zone))
	case m.fault == ReasonNoZoneKey:
		return verdict(Bogus, m.fault,
			fmt.Sprintf("key %d of %s fits its DS record but is no zone key", m.tag, zone))
	case m.fault == ReasonKeyRevoked:
		return verdict(Bogus, m.fault, fmt.Sprintf("key %d of %s is revoked, and no other key is trusted", m.tag, zone))
	case m.fault != "":
		return verdict(Bogus, m.fault, fmt.Sprintf("key %d of %s is malformed", m.tag, zone))
	}
	return verdict(Bogus, ReasonNoMatchingDNSKEY,
		fmt.Sprintf("no DNSKEY of %s fits the %s that the chain of trust shows", zone, trustText(trust)))
}

func trustText(trust []Anchor) string {
	a := trust[0]
	text := fmt.Sprintf("key %d", KeyTag(a.Key))
	if a.DS != nil {
		text = fmt.Sprintf("DS record (key tag %d, algorithm %d)", a.DS.KeyTag, a.DS.Algorithm)
	}
	if len(trust) > 1 {
		text += fmt.Sprintf(" or its %d siblings", len(trust)-1)
	}
	return text
}

// SignedBy judges whether key, a DNSKEY RDATA of the set's owner, signs the
// DNSKEY RRset. Secure: it does. Whether the key is in the set or is trusted
// is not asked. A revoked key is judged here like any other, by its own
// signature: that is how it is known to be revoked (RFC 5011 §2.1).
func (r *Rules) SignedBy(dnskey *RRset, key []byte, now time.Time, b *Budget) Verdict {
	parsed, err := ParseDNSKEY(key)
	if err != nil || dnskey == nil {
		return verdict(Bogus, ReasonDNSKEYMalformed, "a DNSKEY record that is too short")
	}
	verifier := r.Verifiers[parsed.Algorithm]
	if verifier == nil {
		return verdict(Insecure, ReasonAlgorithmUnsupported,
			fmt.Sprintf("algorithm %d of key %d is not supported here", parsed.Algorithm, KeyTag(key)))
	}
	if parsed.Flags&flagZone == 0 || parsed.Protocol != 3 {
		return verdict(Bogus, ReasonNoZoneKey, fmt.Sprintf("key %d of %s is no zone key", KeyTag(key), dnskey.Name))
	}
	prepared := zoneKey{tag: KeyTag(key), algorithm: parsed.Algorithm, flags: parsed.Flags, rdata: key}
	_, prepared.err = verifier(r, parsed.PublicKey)
	v := verification{rules: r, zone: dnskey.Name, keys: []zoneKey{prepared}, weak: true,
		set: dnskey, now: now, budget: b}
	return v.run().Verdict
}
