package queue

import "time"

// clock measures queue time: how long this queue has existed, as far as
// anyone can tell. While the process lives it advances with the monotonic
// clock, so that setting the wall clock, even by years, makes nothing due and
// expires nothing. Across restarts it advances by what the wall clock says,
// but never back and at most by maxGap: a host without a clock battery wakes
// in 1970 or jumps by decades, and its mail has not aged for that.
type clock struct {
	wall  func() time.Time
	start time.Time // has a monotonic reading
	base  time.Duration
}

const maxGap = 24 * time.Hour

// newClock resumes queue time from what the last commit noted.
func newClock(wall func() time.Time, queueThen time.Duration, wallThen time.Time) *clock {
	gap := time.Duration(0)
	if !wallThen.IsZero() {
		gap = min(max(wall().Sub(wallThen), 0), maxGap)
	}
	return &clock{wall: wall, start: time.Now(), base: queueThen + gap}
}

// now returns queue time.
func (c *clock) now() time.Duration { return c.base + time.Since(c.start) }

// at returns the wall clock's reading for a queue time, as far as it can be
// told now.
func (c *clock) at(t time.Duration) time.Time { return c.wall().Add(t - c.now()) }
