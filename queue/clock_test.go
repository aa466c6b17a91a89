package queue

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// machine is the clocks of a host in a bubble of fake time: a wall clock that
// can be set, and a kernel that can be started again and put to sleep.
type machine struct {
	run     int // of the machine
	started time.Time
	off     time.Duration // what the wall clock is wrong by
	mu      sync.Mutex
	asleep  time.Duration
}

func newMachine() *machine { return &machine{started: time.Now()} }

func (m *machine) wall() time.Time { return time.Now().Add(m.off + m.slept()) }

func (m *machine) slept() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asleep
}

func (m *machine) boot() Boot {
	asleep := m.slept()
	return Boot{ID: fmt.Sprint("run ", m.run), Up: time.Since(m.started) + asleep, Asleep: asleep}
}

// reboot starts the machine again after it was off for d.
func (m *machine) reboot(d time.Duration) {
	time.Sleep(d)
	m.off += m.asleep
	m.run, m.started, m.asleep = m.run+1, time.Now(), 0
}

// sleep suspends it: time passes that no timer sees. Then it runs for as long
// as it may take until that is noticed.
func (m *machine) sleep(d time.Duration) {
	m.mu.Lock()
	m.asleep += d
	m.mu.Unlock()
	time.Sleep(lookEvery)
}

func (m *machine) options(dir string) Options {
	return Options{Dir: dir, Now: m.wall, Boot: m.boot}
}

func TestElapsed(t *testing.T) {
	wall := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	then := moment{Wall: wall, Boot: "a", Up: time.Hour}
	for name, c := range map[string]struct {
		then moment
		now  time.Time
		boot Boot
		gap  time.Duration
		set  bool
	}{
		"a new queue":                        {moment{}, wall, Boot{ID: "a", Up: time.Hour}, 0, false},
		"restart":                            {then, wall.Add(10 * time.Second), Boot{ID: "a", Up: time.Hour + 10*time.Second}, 10 * time.Second, false},
		"restart, clock slewed":              {then, wall.Add(40 * time.Second), Boot{ID: "a", Up: time.Hour + 10*time.Second}, 10 * time.Second, false},
		"restart, clock set forward":         {then, wall.Add(40 * year), Boot{ID: "a", Up: time.Hour + 10*time.Second}, 10 * time.Second, true},
		"restart, clock set back":            {then, wall.Add(-40 * year), Boot{ID: "a", Up: 3 * time.Hour}, 2 * time.Hour, true},
		"restart, clock set by hours":        {then, wall.Add(5 * time.Hour), Boot{ID: "a", Up: time.Hour + time.Minute}, time.Minute, true},
		"restart, the kernel's clock back":   {then, wall, Boot{ID: "a", Up: time.Minute}, 0, false},
		"reboot":                             {then, wall.Add(3 * time.Minute), Boot{ID: "b", Up: time.Minute}, 3 * time.Minute, false},
		"off for a week":                     {then, wall.Add(7 * day), Boot{ID: "b", Up: time.Minute}, 7 * day, false},
		"reboot, clock set forward by years": {then, wall.Add(40 * year), Boot{ID: "b", Up: time.Minute}, 0, true},
		"reboot, clock lost":                 {then, time.Unix(0, 0), Boot{ID: "b", Up: time.Minute}, 0, true},
		"reboot, clock a little behind":      {then, wall.Add(-2 * time.Second), Boot{ID: "b", Up: time.Minute}, 0, false},
		"no name of the machine's run":       {moment{Wall: wall}, wall.Add(time.Hour), Boot{}, time.Hour, false},
	} {
		if gap, set := elapsed(c.then, c.now, c.boot); gap != c.gap || set != c.set {
			t.Errorf("%s: %v, set %v; want %v, %v", name, gap, set, c.gap, c.set)
		}
	}
}

// life is a queue's clock through restarts of its process.
type life struct {
	*machine
	clock *clock
	noted moment // by the last commit
}

// restart begins a process with what the one before noted last.
func (l *life) restart() { l.clock, _ = newClock(l.wall, l.boot, l.noted) }

// TestQueueTime follows queue time, and a message's age as it is shown,
// through restarts, reboots and suspensions. The message arrived with the last
// commit.
func TestQueueTime(t *testing.T) {
	for name, c := range map[string]struct {
		off  time.Duration // of the wall clock when the message arrives
		pass func(l *life)
		now  time.Duration // queue time
		age  time.Duration // as shown
	}{
		"an hour":                   {0, func(l *life) { time.Sleep(time.Hour) }, time.Hour, time.Hour},
		"killed after an hour":      {0, func(l *life) { time.Sleep(time.Hour); l.restart() }, time.Hour, time.Hour},
		"in 1986, killed, set":      {-40 * year, func(l *life) { time.Sleep(10 * time.Second); l.off = 0; l.restart() }, 10 * time.Second, 10 * time.Second},
		"in 1986, set":              {-40 * year, func(l *life) { time.Sleep(10 * time.Second); l.off = 0 }, 10 * time.Second, 10 * time.Second},
		"in 1986, rebooted, set":    {-40 * year, func(l *life) { time.Sleep(time.Hour); l.off = 0; l.reboot(0); l.restart() }, 0, 0},
		"in 1986, rebooted in 1986": {-40 * year, func(l *life) { time.Sleep(time.Hour); l.reboot(0); l.restart(); l.off = 0 }, time.Hour, time.Hour},
		"in 2066, killed, set":      {40 * year, func(l *life) { time.Sleep(time.Minute); l.off = 0; l.restart() }, time.Minute, time.Minute},
		"in 2066, set, rebooted":    {40 * year, func(l *life) { l.off = 0; l.reboot(time.Hour); l.restart() }, 0, 0},
		"set to 2066 and back":      {0, func(l *life) { l.off = 40 * year; l.restart(); l.noted = l.clock.moment(); l.off = 0; l.restart() }, 0, 0},
		"rebooted":                  {0, func(l *life) { l.reboot(time.Hour); l.restart() }, time.Hour, time.Hour},
		"off for a week":            {0, func(l *life) { l.reboot(7 * day); l.restart() }, day, 7 * day},
		"off for a week, twice": {0, func(l *life) {
			l.reboot(7 * day)
			l.restart()
			l.noted = l.clock.moment()
			l.reboot(7 * day)
			l.restart()
		}, 2 * day, 14 * day},
		"not run for a week": {0, func(l *life) { time.Sleep(7 * day); l.restart() }, day, 7 * day},
		"a nap":              {0, func(l *life) { l.sleep(time.Hour) }, time.Hour + lookEvery, time.Hour + lookEvery},
		"asleep for a week":  {0, func(l *life) { l.sleep(7 * day) }, day + lookEvery, 7*day + lookEvery},
		"asleep for a week, killed": {0, func(l *life) {
			l.sleep(7 * day)
			l.clock.now()
			time.Sleep(time.Hour)
			l.restart()
		}, day, 7*day + time.Hour + lookEvery},
		"two nights": {0, func(l *life) { l.sleep(9 * time.Hour); l.clock.now(); l.sleep(9 * time.Hour) }, 18*time.Hour + 2*lookEvery, 18*time.Hour + 2*lookEvery},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &life{machine: newMachine()}
				l.off = c.off
				l.restart()
				time.Sleep(time.Second)
				l.noted = l.clock.moment()
				start, passed := l.clock.read()
				msg := &message{Arrived: l.wall(), Passed: passed}
				c.pass(l)
				if got := l.clock.now() - start; got != c.now {
					t.Errorf("queue time went on by %v, want %v", got, c.now)
				}
				if age := l.wall().Sub(l.clock.arrived(msg)); age != c.age {
					t.Errorf("shown as %v old, want %v", age, c.age)
				}
			})
		})
	}
}

// TestClockSetAtRestart: mail was accepted and put off while the clock stood
// in 1986, and the process killed. Started with the right clock it is tried at
// once, nobody is told of a delay, and it is as old as it is.
func TestClockSetAtRestart(t *testing.T) {
	for name, reboot := range map[string]bool{"killed": false, "rebooted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				m.off = -40 * year
				o := m.options(t.TempDir())
				q := mustOpen(t, o)
				time.Sleep(time.Second)
				mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
				unset := &outside{deliver: func(*Item, ItemRecipient) Result {
					return Result{Outcome: Later, Reason: "clock not set", Unreachable: true}
				}}
				runAll(t, q, unset, 0)
				time.Sleep(8 * time.Second)
				q.Close()
				if m.off = 0; reboot {
					m.reboot(0)
				}
				q = mustOpen(t, o) // by someone who attempts nothing, but commits
				if _, err := q.Remove(Filter{IDs: []string{mustPut(t, q, envelope("s@a.example", "other@b.example"), "x")}}); err != nil {
					t.Error(err)
				}
				q.Close()
				q = mustOpen(t, o)
				h := &outside{deliver: func(item *Item, _ ItemRecipient) Result {
					if age := m.wall().Sub(item.Arrived); age < 0 || age > 10*time.Second {
						t.Errorf("tried as a message %v old", age)
					}
					return Result{Outcome: Later, Reason: "busy", Reply: "450 busy"}
				}}
				runAll(t, q, h, 0)
				if len(h.attempts) != 1 || len(h.notices) != 0 {
					t.Errorf("%d attempts and %d notices, want one attempt", len(h.attempts), len(h.notices))
				}
				s := mustList(t, q, Filter{})[0]
				if age := m.wall().Unix() - s.ArrivalTime; age < 0 || age > 10 {
					t.Errorf("listed as %d seconds old", age)
				}
				if wait := s.NextAttempt - m.wall().Unix(); wait < 300 {
					t.Errorf("the next attempt is %d s away, as if the second were none", wait)
				}
				runAll(t, q, h, 0)
				if len(h.attempts) != 1 {
					t.Error("tried again when nothing was due")
				}
				q.Close()
			})
		})
	}
}

// TestSuspended: what became due while the machine slept is tried soon after
// it woke, although no timer ran, and a week asleep expires nothing.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		o := m.options(t.TempDir())
		o.WarnAfter = -1
		q := mustOpen(t, o)
		mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
		h := &outside{deliver: func(*Item, ItemRecipient) Result {
			return Result{Outcome: Later, Reason: "busy", Reply: "450 busy"}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx, h) }()
		time.Sleep(3 * day)
		before := len(h.times())
		m.sleep(7 * day)
		time.Sleep(time.Minute)
		if got := len(h.times()) - before; got != 1 {
			t.Errorf("%d attempts in the minute after waking, want 1", got)
		}
		for _, n := range h.notices {
			if n.kind == NoticeFailure {
				t.Errorf("expired: %+v", n)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
	})
}
