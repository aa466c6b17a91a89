package trustanchor

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"danepost/resolver/dnssec"
)

// State is where a key stands (RFC 5011 §4.2).
type State uint8

const (
	Start   State = iota // not known; never stored
	AddPend              // seen, not yet trusted
	Valid                // trusted
	Missing              // trusted, but gone from the zone
	Revoked              // not trusted, still seen or not long gone
	Removed              // not trusted, never again
)

var stateNames = [...]string{"start", "add-pending", "valid", "missing", "revoked", "removed"}

// String returns the word used in the state file and in JSON.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText writes the word for s.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word for s.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames[:], string(text))
	if i <= int(Start) {
		return errUnknownState
	}
	*s = State(i)
	return nil
}

// trusted reports whether a key in this state may verify the zone.
func (s State) trusted() bool { return s == Valid || s == Missing }

// Key is one key that the set knows. Its identity is the key material, not
// its tag and not its flags.
type Key struct {
	DS    *dnssec.DS // what the configuration knows of it; nil for a key that was learned
	RDATA []byte     // as last seen, flags included; nil while only DS is known
	State State
	Since time.Time // of State; for Revoked, the last time the key was seen
	Seen  int       // sightings while AddPend
	TTL   uint32    // of the RRset at the first sighting, seconds
}

// DNSKEY flags (RFC 4034 §2.1.1, RFC 5011 §2.1).
const (
	flagRevoke uint16 = 0x0080
	flagSEP    uint16 = 0x0001
)

func flagsOf(rdata []byte) uint16 {
	if len(rdata) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(rdata)
}

// unrevoked returns rdata with the REVOKE bit clear: the form that DS records
// and trust refer to.
func unrevoked(rdata []byte) []byte {
	out := bytes.Clone(rdata)
	binary.BigEndian.PutUint16(out, flagsOf(out)&^flagRevoke)
	return out
}

// sameMaterial compares protocol, algorithm and public key.
func sameMaterial(a, b []byte) bool {
	return len(a) > 4 && len(b) > 4 && bytes.Equal(a[2:], b[2:])
}

// Tag is the key's tag as an administrator knows it: that of the key before
// it was revoked.
func (k *Key) Tag() uint16 {
	if k.RDATA != nil {
		return dnssec.KeyTag(unrevoked(k.RDATA))
	}
	if k.DS != nil {
		return k.DS.KeyTag
	}
	return 0
}

// Algorithm is the key's DNSSEC algorithm number.
func (k *Key) Algorithm() uint8 {
	if len(k.RDATA) > 3 {
		return k.RDATA[3]
	}
	if k.DS != nil {
		return k.DS.Algorithm
	}
	return 0
}

// pinned reports whether the key is outside of RFC 5011: a configured zone
// signing key, which the protocol never adds, misses or revokes.
func (k *Key) pinned() bool { return k.RDATA != nil && flagsOf(k.RDATA)&flagSEP == 0 }

// anchor is the key as validation wants it.
func (k *Key) anchor(zone dnssec.Name) dnssec.Anchor {
	if k.RDATA != nil {
		return dnssec.Anchor{Zone: zone, Key: k.RDATA}
	}
	return dnssec.Anchor{Zone: zone, DS: k.DS}
}

// Set is what is known about one zone's trust anchors. It is a value: Observe
// returns a changed copy.
type Set struct {
	Zone dnssec.Name
	Keys []Key

	Queried   time.Time // the last query that brought an answer
	Succeeded time.Time // the last answer that verified
	Failures  int       // answers since then that did not verify
	// SignatureEnd is the latest end of a signature that verified: a witness of
	// the time up to then.
	SignatureEnd time.Time
	// How long until the next query after a success and after a failure
	// (RFC 5011 §2.3), before jitter; zero before the first success.
	Interval, Retry time.Duration
	Next            time.Time // of the next query; zero: now
}

// NewSet returns the set of a zone whose anchors are all trusted.
func NewSet(zone dnssec.Name, anchors []dnssec.Anchor) Set {
	s := Set{Zone: zone}
	for _, a := range anchors {
		if a.Zone == zone {
			s.Keys = append(s.Keys, Key{DS: a.DS, RDATA: a.Key, State: Valid})
		}
	}
	return s
}

// clone makes the keys of the copy independent of those of s.
func (s Set) clone() Set {
	s.Keys = slices.Clone(s.Keys)
	return s
}

// AllRevoked reports whether the set had keys and all of them are revoked or
// removed: the owner of the zone has withdrawn every anchor.
func (s *Set) AllRevoked() bool {
	revoked := false
	for i := range s.Keys {
		switch {
		case s.Keys[i].State.trusted():
			return false
		case s.Keys[i].State != AddPend:
			revoked = true
		}
	}
	return revoked
}

// Anchors returns what validation may start from. When everything is revoked
// these are the revoked keys themselves, which validate nothing: the zone is then
// Indeterminate. RFC 5011 §5 would have it treated as if it had no anchor at
// all, Insecure; that is deviated from, because mail must not be sent
// unprotected on account of it.
func (s *Set) Anchors() []dnssec.Anchor {
	all := s.AllRevoked()
	var out []dnssec.Anchor
	for i := range s.Keys {
		k := &s.Keys[i]
		switch {
		case k.State.trusted():
			out = append(out, k.anchor(s.Zone))
		case all && k.RDATA != nil:
			revoked := bytes.Clone(k.RDATA)
			binary.BigEndian.PutUint16(revoked, flagsOf(revoked)|flagRevoke)
			out = append(out, dnssec.Anchor{Zone: s.Zone, Key: revoked})
		}
	}
	return out
}

// find returns the key with this material, or nil.
func (s *Set) find(rdata []byte) *Key {
	for i := range s.Keys {
		if sameMaterial(s.Keys[i].RDATA, rdata) {
			return &s.Keys[i]
		}
	}
	return nil
}
