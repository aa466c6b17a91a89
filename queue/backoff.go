package queue

import "time"

// backoff returns how long to wait after the n-th failed attempt (n >= 1) of
// a recipient. It doubles from first to most; jitter in [0,1) spreads what
// failed together over a tenth of the wait, and never leaves [first, most].
//
// A greylisting host lets a retry pass after a set time, mostly five minutes:
// the first one comes a fifth later than first, six minutes by default, and
// never earlier.
func backoff(n int, greylisted bool, first, most time.Duration, jitter float64) time.Duration {
	if n <= 1 && greylisted {
		first = first * 6 / 5
		return first + time.Duration(jitter*float64(first)/10)
	}
	wait := first
	for i := 1; i < n && wait < most; i++ {
		wait *= 2
	}
	if wait >= most {
		return most - time.Duration(jitter*float64(most-min(first, most))/10)
	}
	return min(most, wait+time.Duration(jitter*float64(wait)/10))
}
