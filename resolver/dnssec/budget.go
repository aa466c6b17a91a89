package dnssec

// Budget bounds the work of one resolution. It is not safe for concurrent use.
// When a count would fall below zero the call that needed it returns an
// Indeterminate verdict whose Reason names the limit.
//
// It also carries what one resolution can reuse: buffers, and the NSEC3
// hashes already computed.
type Budget struct {
	SignatureChecks int
	FailedChecks    int
	NSEC3Hashes     int

	canonical canonicalizer
	hashes    []hashed
}

// takeCheck pays for one signature check.
func (b *Budget) takeCheck() bool {
	if b.SignatureChecks <= 0 {
		return false
	}
	b.SignatureChecks--
	return true
}

// takeFailure pays for a check that failed.
func (b *Budget) takeFailure() bool {
	if b.FailedChecks <= 0 {
		return false
	}
	b.FailedChecks--
	return true
}

// takeHash pays for hashing one name.
func (b *Budget) takeHash() bool {
	if b.NSEC3Hashes <= 0 {
		return false
	}
	b.NSEC3Hashes--
	return true
}
