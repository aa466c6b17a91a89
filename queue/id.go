package queue

import (
	"strings"
	"time"
)

// idDigits are the digits of queue ids, in ASCII order so that ids sort by
// time as text. Without vowels no id spells a word, and case never matters.
const idDigits = "0123456789BCDFGHJKLMNPQRSTVWXZ"

// idLength carries microseconds since 1970 until the year 2531.
const idLength = 11

// nextID returns the serial after last, which is the microsecond of now or,
// where the clock stands still or went back, one more than last: serials
// never repeat as long as last is kept.
func nextID(last uint64, now time.Time) uint64 {
	us := now.UnixMicro()
	if us > 0 && uint64(us) > last && uint64(us) < idLimit() {
		return uint64(us)
	}
	return last + 1
}

// idLimit is the first serial that does not fit. A clock beyond it is wrong.
func idLimit() uint64 {
	n := uint64(1)
	for range idLength {
		n *= uint64(len(idDigits))
	}
	return n
}

// formatID writes a serial as a queue id.
func formatID(serial uint64) string {
	var b [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		b[i] = idDigits[serial%uint64(len(idDigits))]
		serial /= uint64(len(idDigits))
	}
	return string(b[:])
}

// validID says whether s has the form of a queue id. It guards file names.
func validID(s string) bool {
	return len(s) == idLength && strings.Trim(s, idDigits) == ""
}
