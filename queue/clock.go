package queue

import (
	"sync"
	"time"
)

// Boot is what the machine knows of time beside its wall clock, which anyone
// may set.
type Boot struct {
	ID     string        // of the machine's run since it was started; "" when it does not say
	Up     time.Duration // how long that run lasts, suspensions included
	Asleep time.Duration // how much of Up it was suspended
}

// clock measures queue time: how long this queue has had the chance to
// deliver. Lifetimes and retries are counted in it, so that setting the wall
// clock, even by years and across restarts, expires nothing, makes nothing
// late and nothing due.
//
// While the process lives queue time advances with the monotonic clock. What
// passes without it, because the process did not run or the machine slept, is
// known from the kernel within one run of the machine, and otherwise from the
// wall clock as far as that is plausible (see elapsed). Of each such stretch
// at most maxGap counts: mail that nobody could try for a week has not been
// tried for a week.
type clock struct {
	wall  func() time.Time
	boot  func() Boot
	start time.Time // has a monotonic reading

	mu     sync.Mutex
	base   time.Duration // queue time at start, and the suspensions since
	lost   time.Duration // what has passed and does not count
	asleep time.Duration // Boot.Asleep when it was last looked at
	looked time.Duration // since start, when that was
}

const (
	// maxGap is what counts of time in which nothing ran.
	maxGap = 24 * time.Hour
	// maxOff is the longest time that a machine is believed to have been off.
	// When the wall clock says more, or less than nothing, then it was set.
	maxOff = 31 * 24 * time.Hour
	// clockSlack is the least difference between clocks that means something.
	clockSlack = time.Minute
	// lookEvery is how often the kernel is asked whether the machine slept.
	lookEvery = time.Second
)

// moment is what the clocks showed when the queue was last written to.
type moment struct {
	Queue time.Duration // queue time
	Lost  time.Duration
	Wall  time.Time // zero: never
	Boot  string
	Up    time.Duration
}

// elapsed returns how long the time from then to a wall clock's reading on a
// machine's run was, as far as anyone can tell, and whether the wall clock was
// set in between.
func elapsed(then moment, wall time.Time, b Boot) (gap time.Duration, wasSet bool) {
	if then.Wall.IsZero() {
		return 0, false
	}
	told := wall.Sub(then.Wall)
	if then.Boot != "" && then.Boot == b.ID {
		gap = max(0, b.Up-then.Up)
		return gap, (told - gap).Abs() > clockSlack
	}
	if told < -clockSlack || told > maxOff {
		return 0, true
	}
	return max(0, told), false
}

// newClock resumes queue time. wasSet says that the wall clock was set since then.
func newClock(wall func() time.Time, boot func() Boot, then moment) (c *clock, wasSet bool) {
	b := boot()
	c = &clock{wall: wall, boot: boot, start: time.Now(), base: then.Queue, lost: then.Lost, asleep: b.Asleep}
	gap, wasSet := elapsed(then, wall(), b)
	c.skip(gap)
	return c, wasSet
}

// skip counts a stretch in which nothing ran.
func (c *clock) skip(gap time.Duration) {
	c.base += min(gap, maxGap)
	c.lost += max(0, gap-maxGap)
}

// now returns queue time.
func (c *clock) now() time.Duration {
	now, _ := c.read()
	return now
}

// read returns queue time, and with what does not count added: time as it passed.
func (c *clock) read() (now, passed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ran := time.Since(c.start)
	if ran-c.looked >= lookEvery {
		c.looked = ran
		asleep := c.boot().Asleep
		if slept := asleep - c.asleep; slept > time.Second { // less may lie between two readings
			c.skip(slept)
			c.asleep = asleep
		}
	}
	now = c.base + ran
	return now, now + c.lost
}

// moment notes what the clocks show.
func (c *clock) moment() moment {
	b := c.boot()
	now, passed := c.read()
	return moment{Queue: now, Lost: passed - now, Wall: c.wall(), Boot: b.ID, Up: b.Up}
}

// at returns the wall clock's reading for a queue time, as far as it can be
// told now.
func (c *clock) at(t time.Duration) time.Time { return c.wall().Add(t - c.now()) }

// arrived returns when a message arrived, in terms of the wall clock as it is
// now: what it showed then may have been decades off.
func (c *clock) arrived(m *message) time.Time {
	if m.Passed == 0 {
		return m.Arrived
	}
	_, passed := c.read()
	at := c.wall().Add(m.Passed - passed)
	if at.Sub(m.Arrived).Abs() <= clockSlack {
		return m.Arrived
	}
	return at
}
