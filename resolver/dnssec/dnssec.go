// Package dnssec decides what a set of DNS bytes proves. It is pure: no
// sockets, no clock, no log, no globals. Values go in, a Verdict comes out.
//
// The order of work, for one zone on the way down from a trust anchor:
//
//	DS (signed by the parent)  -> Rules.TrustKeys -> Keys of the child
//	RRset + RRSIGs             -> Keys.Verify     -> Proof: verdict, wildcard, expiry
//	NSEC / NSEC3 RRsets        -> Keys.Denial     -> Denial: what is proved absent
//
// Every function that costs work takes a *Budget, so that one resolution can
// never be made to check signatures or hash names without end (RFC 9276,
// CVE-2023-50387, CVE-2023-50868).
package dnssec

// Status is the security status of data, in the sense of RFC 4035 §4.3.
type Status uint8

const (
	// Indeterminate: it could not be found out (RFC 7672 §2.1.1). The zero
	// value, so that a forgotten verdict never reads as a good one.
	Indeterminate Status = iota
	// Bogus: a chain of trust exists and the data does not fit it.
	Bogus
	// Insecure: the chain of trust provably ends above, or no anchor covers it.
	Insecure
	// Secure: signed all the way from a trust anchor.
	Secure
)

// String returns the word used in JSON and logs.
func (s Status) String() string {
	return [...]string{"indeterminate", "bogus", "insecure", "secure"}[s&3]
}

// Weaker returns the status that claims less. A chain is as good as its
// weakest link: Bogus < Indeterminate < Insecure < Secure.
func (s Status) Weaker(t Status) Status {
	rank := [...]uint8{Indeterminate: 1, Bogus: 0, Insecure: 2, Secure: 3}
	if rank[t&3] < rank[s&3] {
		return t
	}
	return s
}

// Verdict is a status and why. Reason is for programs (a closed list of
// lower-case words joined by "-"), Text for people, EDE the RFC 8914 code
// (-1 none; 0 is a code of its own, "other").
type Verdict struct {
	Status Status
	Reason Reason
	Text   string
	EDE    int
}

// Reason is a machine-readable cause, e.g. "signature-expired".
type Reason string

// The reasons this package gives.
const (
	ReasonVerified Reason = "verified" // Secure

	// An RRset that does not verify: Bogus.
	ReasonSignatureMissing   Reason = "signature-missing"
	ReasonSignatureExpired   Reason = "signature-expired"
	ReasonSignatureEarly     Reason = "signature-not-yet-valid"
	ReasonSignatureBogus     Reason = "signature-bogus"
	ReasonSignatureMalformed Reason = "signature-malformed" // dates or label count that cannot be
	ReasonSignatureAlgorithm Reason = "signature-algorithm" // only by algorithms nobody here knows
	ReasonSignerMismatch     Reason = "signer-mismatch"

	// A zone's keys.
	ReasonDNSKEYMissing    Reason = "dnskey-missing"
	ReasonNoMatchingDNSKEY Reason = "no-matching-dnskey"
	ReasonDNSKEYMalformed  Reason = "dnskey-malformed"
	ReasonNoZoneKey        Reason = "no-zone-key"
	ReasonKeyRevoked       Reason = "dnskey-revoked"
	ReasonNoAnchor         Reason = "no-trust-anchor"

	// Insecure by what this validator supports.
	ReasonAlgorithmUnsupported Reason = "algorithm-unsupported"
	ReasonDigestUnsupported    Reason = "digest-unsupported"
	ReasonKeyUnsupported       Reason = "key-unsupported"

	// Denial of existence.
	ReasonNSECMissing      Reason = "nsec-missing"
	ReasonNSECMismatch     Reason = "nsec-mismatch" // records are there and do not prove it
	ReasonOptOut           Reason = "nsec3-opt-out"
	ReasonNSEC3Iterations  Reason = "nsec3-iterations"
	ReasonUnsignedDelegate Reason = "unsigned-delegation"

	// Limits: Indeterminate.
	ReasonLimitChecks       Reason = "limit-signature-checks"
	ReasonLimitFailed       Reason = "limit-failed-checks"
	ReasonLimitKeysPerTag   Reason = "limit-keys-per-tag"
	ReasonLimitSigsPerRRset Reason = "limit-signatures-per-rrset"
	ReasonLimitNSEC3Hashes  Reason = "limit-nsec3-hashes"
)

// RFC 8914 §4 codes.
const (
	edeNone            = -1
	edeAlgorithm       = 1
	edeDigest          = 2
	edeIndeterminate   = 5
	edeBogus           = 6
	edeExpired         = 7
	edeEarly           = 8
	edeDNSKEYMissing   = 9
	edeRRSIGsMissing   = 10
	edeNoZoneKey       = 11
	edeNSECMissing     = 12
	edeNSEC3Iterations = 27
)

// ede returns the RFC 8914 code that goes with a reason.
func (r Reason) ede() int {
	switch r {
	case ReasonVerified, ReasonUnsignedDelegate, ReasonOptOut:
		return edeNone
	case ReasonAlgorithmUnsupported, ReasonKeyUnsupported:
		return edeAlgorithm
	case ReasonDigestUnsupported:
		return edeDigest
	case ReasonNoAnchor, ReasonLimitChecks, ReasonLimitFailed, ReasonLimitKeysPerTag,
		ReasonLimitSigsPerRRset, ReasonLimitNSEC3Hashes:
		return edeIndeterminate
	case ReasonSignatureExpired:
		return edeExpired
	case ReasonSignatureEarly:
		return edeEarly
	case ReasonDNSKEYMissing, ReasonNoMatchingDNSKEY, ReasonKeyRevoked:
		return edeDNSKEYMissing
	case ReasonSignatureMissing, ReasonSignatureAlgorithm:
		return edeRRSIGsMissing
	case ReasonNoZoneKey:
		return edeNoZoneKey
	case ReasonNSECMissing:
		return edeNSECMissing
	case ReasonNSEC3Iterations:
		return edeNSEC3Iterations
	}
	return edeBogus
}

// verdict builds the Verdict that goes with a reason.
func verdict(s Status, r Reason, text string) Verdict {
	return Verdict{Status: s, Reason: r, Text: text, EDE: r.ede()}
}
