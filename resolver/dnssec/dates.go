package dnssec

import "time"

// Clocks of signers and of small hosts are off by a little. A tenth of the
// signature's lifetime is forgiven at either end, within these bounds.
const (
	minSkew = time.Hour
	maxSkew = 24 * time.Hour
)

// skew returns how far the dates of sig are stretched.
func skew(sig *RRSIG) time.Duration {
	lifetime := time.Duration(sig.Expiration-sig.Inception) * time.Second
	return min(max(lifetime/10, minSkew), maxSkew)
}

// dateFault returns why sig is not valid at now, "" where it is. Dates are
// serial numbers: they wrap (RFC 4034 §3.1.5, RFC 1982 §3.2).
func dateFault(sig *RRSIG, now time.Time) Reason {
	if int32(sig.Expiration-sig.Inception) < 0 {
		return ReasonSignatureMalformed
	}
	slack := skew(sig)
	if serialTime(sig.Inception, now).Add(-slack).After(now) {
		return ReasonSignatureEarly
	}
	if serialTime(sig.Expiration, now).Add(slack).Before(now) {
		return ReasonSignatureExpired
	}
	return ""
}

// serialTime returns the instant nearest to now that serial stands for.
func serialTime(serial uint32, now time.Time) time.Time {
	sec := now.Unix()
	return time.Unix(sec+int64(int32(serial-uint32(sec))), 0)
}

func timeText(serial uint32, now time.Time) string {
	return serialTime(serial, now).UTC().Format("2006-01-02 15:04:05 UTC")
}
