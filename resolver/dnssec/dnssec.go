// Package dnssec decides what a set of DNS bytes proves. It is pure: no
// sockets, no clock, no log, no globals. Values go in, a Verdict comes out.
//
// The order of work, for one zone on the way down from a trust anchor:
//
//	DS (signed by the parent)  -> TrustKeys  -> Keys of the child
//	RRset + RRSIGs             -> Keys.Verify -> Verdict, wildcard, expiry
//	NSEC / NSEC3 RRsets        -> the Deny functions -> what is proved absent
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
