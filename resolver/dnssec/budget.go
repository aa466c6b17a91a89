package dnssec

// Budget bounds the work of one resolution. It is not safe for concurrent use.
// When a count would fall below zero the call that needed it returns an
// Indeterminate verdict whose Reason names the limit. Once a check too many has
// failed, no more are made.
//
// It also carries what one resolution can reuse: buffers, and the NSEC3
// hashes already computed.
type Budget struct {
	SignatureChecks int
	FailedChecks    int
	NSEC3Hashes     int

	failed    bool // FailedChecks was not enough
	canonical canonicalizer
	hashes    []hashed
}

// takeCheck pays for one signature check, or names the limit that forbids it.
func (b *Budget) takeCheck() Reason {
	switch {
	case b.failed:
		return ReasonLimitFailed
	case b.SignatureChecks <= 0:
		return ReasonLimitChecks
	}
	b.SignatureChecks--
	return ""
}

// takeFailure pays for a check that failed, or names the limit.
func (b *Budget) takeFailure() Reason {
	if b.FailedChecks <= 0 {
		b.failed = true
		return ReasonLimitFailed
	}
	b.FailedChecks--
	return ""
}

// costlyHash is what hashing with more iterations than the rules like costs of
// NSEC3Hashes: enough are left for the labels of a TLSA name, few for an attacker.
const costlyHash = 5

// takeHash pays for hashing one name.
func (b *Budget) takeHash(cost int) bool {
	if b.NSEC3Hashes < cost {
		return false
	}
	b.NSEC3Hashes -= cost
	return true
}
