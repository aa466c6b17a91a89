package dnssec

import "time"

// RRset is what a server sent under one owner, type and class.
type RRset struct {
	Name  Name
	Type  uint16
	Class uint16
	TTL   uint32   // seconds, the lowest received
	Data  [][]byte // RDATA as received, names decompressed, letter case kept
	Sigs  []RRSIG  // RRSIGs that cover Type, as received
}

// RRSIG is a decoded RRSIG RDATA (RFC 4034 §3.1).
type RRSIG struct {
	TypeCovered uint16
	Algorithm   uint8
	Labels      uint8
	OriginalTTL uint32
	Expiration  uint32
	Inception   uint32
	KeyTag      uint16
	Signer      Name
	Signature   []byte
	TTL         uint32 // of the RRSIG record itself
}

// ParseRRSIG decodes RDATA whose signer name is uncompressed.
func ParseRRSIG(rdata []byte) (RRSIG, error) { panic("skeleton") }

// DS is a decoded DS RDATA (RFC 4034 §5.1).
type DS struct {
	KeyTag     uint16
	Algorithm  uint8
	DigestType uint8
	Digest     []byte
}

// ParseDS decodes DS RDATA.
func ParseDS(rdata []byte) (DS, error) { panic("skeleton") }

// DNSKEY is a decoded DNSKEY RDATA (RFC 4034 §2.1).
type DNSKEY struct {
	Flags     uint16
	Protocol  uint8
	Algorithm uint8
	PublicKey []byte
}

// ParseDNSKEY decodes DNSKEY RDATA.
func ParseDNSKEY(rdata []byte) (DNSKEY, error) { panic("skeleton") }

// KeyTag computes the tag of DNSKEY RDATA (RFC 4034 Appendix B).
func KeyTag(rdata []byte) uint16 { panic("skeleton") }

// Anchor is one trusted starting point: a DS or a whole DNSKEY RDATA of Zone.
// Exactly one of DS and Key is set.
type Anchor struct {
	Zone Name
	DS   *DS
	Key  []byte
}

// Rules holds what is configurable about validation. Treat it as read-only
// once in use; it is then safe for concurrent use.
type Rules struct {
	// Verifiers by DNSSEC algorithm number; an algorithm that is absent is
	// unsupported (RFC 4035 §5.2).
	Verifiers map[uint8]Verifier
	// Digests by DS digest type number.
	Digests            map[uint8]func(data []byte) []byte
	MinRSABits         int    // smaller moduli are unsupported
	MaxRSABits         int    // larger ones too: their cost is the attacker's choice
	MaxNSEC3Iterations uint16 // above: Insecure, once the NSEC3's own signature verified (RFC 9276 §3.2)
	MaxKeysPerTag      int    // colliding key tags tried
	MaxSigsPerRRset    int    // signature checks per RRset
}

// Verifier checks sig over data with the algorithm-specific public key field
// of a DNSKEY. ErrUnsupportedKey says that the key is outside the bounds.
type Verifier func(publicKey, data, sig []byte) error

// DefaultRules returns the rules of DESIGN and the limits table: algorithms 8, 10,
// 13, 14, 15, and 5 and 7 where sha1 is true.
func DefaultRules(sha1 bool) *Rules { panic("skeleton") }

// Budget bounds the work of one resolution. It is not safe for concurrent use.
// When a count would fall below zero the call that needed it returns an
// Indeterminate verdict whose Reason names the limit.
type Budget struct {
	SignatureChecks int
	FailedChecks    int
	NSEC3Hashes     int
}

// Keys are the keys of one zone that a chain of trust reached. Immutable.
type Keys struct {
	Zone Name
	// contents are dnssec's own
}

// Proof is what Verify found.
type Proof struct {
	Verdict
	// Wildcard is the closest encloser ("example." for an expansion of
	// *.example.) when the signature's label count shows that the RRset was
	// expanded from a wildcard; "" otherwise. The caller must then prove that
	// the name itself does not exist (RFC 4035 §5.3.4).
	Wildcard Name
	Expires  time.Time // end of the signature that verified
	TTL      uint32    // the RRset's TTL capped by original TTL and Expires (RFC 4035 §5.3.3)
	KeyTag   uint16    // of the key that verified
}

// SupportedDS reports whether the set has at least one DS whose algorithm and
// digest are both supported; false means the child is Insecure, never Bogus
// (RFC 4035 §5.2).
func (r *Rules) SupportedDS(set []DS) bool { panic("skeleton") }

// TrustKeys decides whether a zone's DNSKEY RRset is the one that ds (already
// proved) stands for. Secure: keys are returned. Insecure: no supported path.
// Bogus: the set should have verified and did not.
func (r *Rules) TrustKeys(dnskey *RRset, trust []Anchor, now time.Time, b *Budget) (*Keys, Verdict) {
	panic("skeleton")
}

// Verify checks an RRset against the zone's keys. A set without signatures is
// Bogus ("signature-missing"): a secure zone signs all it is authoritative for.
func (k *Keys) Verify(set *RRset, now time.Time, b *Budget) Proof { panic("skeleton") }

// Denial holds the NSEC and NSEC3 RRsets of one zone that verified. RRsets
// that do not verify are left out. Immutable.
type Denial struct {
	// contents are dnssec's own; Expires and TTL bound what it proves
	Expires time.Time
	TTL     uint32
}

// Denial verifies the NSEC and NSEC3 RRsets among sets (others are ignored).
func (k *Keys) Denial(sets []*RRset, now time.Time, b *Budget) *Denial { panic("skeleton") }

// NoData judges the claim that name exists without a record of type (also by
// wildcard, empty non-terminal, RFC 4035 §3.1.3.1, §3.1.3.4, RFC 5155 §8.5-8.7). Secure: proved. Insecure: an
// opt-out span or an iteration count above the cap. Bogus: not proved.
func (d *Denial) NoData(name Name, qtype uint16, b *Budget) Verdict { panic("skeleton") }

// NameError judges the claim that name does not exist, nor a wildcard for it
// (RFC 4035 §3.1.3.2, RFC 5155 §8.4).
func (d *Denial) NameError(name Name, b *Budget) Verdict { panic("skeleton") }

// WildcardAnswer judges the expansion of *.encloser to name: nothing closer
// to name may exist (RFC 4035 §3.1.3.3, RFC 5155 §8.8).
func (d *Denial) WildcardAnswer(name, encloser Name, b *Budget) Verdict { panic("skeleton") }

// Delegation is what a denial of DS proved about a name.
type Delegation uint8

const (
	NotProved    Delegation = iota
	Unsigned                // a zone cut without DS: the child is Insecure
	OptOut                  // covered by an NSEC3 opt-out span: Insecure if it is a cut
	NotACut                 // the name exists (or not) in this zone, and no zone starts there
	TooExpensive            // iterations above the cap: Insecure
)

// NoDS judges the denial of DS at name, sent from the parent side
// (RFC 4035 §5.2, RFC 5155 §8.6, §8.9). NSEC from the child side never counts.
func (d *Denial) NoDS(name Name, b *Budget) (Delegation, Verdict) { panic("skeleton") }
