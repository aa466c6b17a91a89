package trustanchor

import (
	"fmt"
	"time"
)

// ClockError says that the clock shows a time that is certainly past: the host
// started without one and it has not been set since.
type ClockError struct {
	Now, Bound time.Time
	Built      bool // Bound is when the program was built, not when it last ran
}

func (e *ClockError) Error() string {
	when := "when this host was last seen running"
	if e.Built {
		when = "when this program was built"
	}
	const layout = "2006-01-02 15:04 UTC"
	return fmt.Sprintf("clock not set: it shows %s, but it was %s already %s; set it (NTP does), and all goes on by itself",
		e.Now.UTC().Format(layout), e.Bound.UTC().Format(layout), when)
}

// checkClock compares now with what is known to be past.
func checkClock(now, built, persisted time.Time) error {
	switch {
	case now.Before(built):
		return &ClockError{Now: now, Bound: built, Built: true}
	case now.Before(persisted):
		return &ClockError{Now: now, Bound: persisted}
	}
	return nil
}

// witnessed returns how late it certainly is, given that the clock shows now.
// The clock alone is no witness: one that was wrong by years and written down
// would keep the host from working until then. A signature that was valid is,
// up to its end.
func witnessed(now, signatureEnd time.Time) time.Time {
	if now.After(signatureEnd) {
		return signatureEnd
	}
	return now
}
