package trustanchor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"danepost/resolver/dnssec"
)

// TestClock: nothing is asked or trusted before the clock is set, and all
// goes on when it is; a time that no signature vouches for is not written down.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "anchors")
		r := newRoot(t, 1)
		r.keys[0].published, r.keys[0].signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
		start := time.Now()
		var offset atomic.Int64 // of the host's clock, which starts in 1970
		now := func() time.Time { return time.Unix(0, 0).Add(time.Since(start) + time.Duration(offset.Load())) }
		set := func(to time.Time) { offset.Store(int64(to.Sub(time.Unix(0, 0).Add(time.Since(start))))) }
		open := func() *Keeper {
			k, err := Open(Config{
				Path: path, Configured: []Configured{r.keys[0].anchor(t)}, Now: now, Random: func() float64 { return 0 },
				Fetch: func(context.Context, dnssec.Name) (*dnssec.RRset, error) { return r.fetch(now()) },
			})
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		k := open()
		stop := run(k)
		time.Sleep(time.Hour)
		var clock *ClockError
		if err := k.Ready(); !errors.As(err, &clock) || !clock.Built || !strings.Contains(err.Error(), "clock not set: it shows 1970-01-01") {
			t.Errorf("not set: %v", err)
		}
		if r.queries() != 0 || k.Refresh(t.Context()) == nil {
			t.Error("asks although the clock is not set")
		}
		set(released.AddDate(0, 1, 0))
		time.Sleep(time.Minute)
		if err := k.Ready(); err != nil || r.queries() != 1 {
			t.Errorf("set: %v, %d queries", err, r.queries())
		}
		stop()
		seen := now()

		set(seen.AddDate(0, 0, -10)) // after a reboot the clock is behind
		k = open()
		if err := k.Ready(); !errors.As(err, &clock) || clock.Built {
			t.Errorf("behind the last time seen: %v", err)
		}
		set(seen.AddDate(9, 0, 0))
		r.change(true) // years ahead: no signature is valid there
		stop = run(k)
		time.Sleep(3 * 24 * time.Hour)
		stop()
		set(seen.AddDate(0, 0, 20))
		if err := open().Ready(); err != nil {
			t.Errorf("a wrong time was written down: %v", err)
		}
	})
}

// TestForwardJump: a clock that jumps ahead by years removes no anchor, even if
// every signature seems valid there.
func TestForwardJump(t *testing.T) {
	r := newRoot(t, 2)
	for _, k := range r.keys {
		k.published, k.signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
	}
	now := released
	k := r.keeper("", func() time.Time { return now }, r.keys[0].anchor(t), r.keys[1].anchor(t))
	for _, step := range []time.Time{released, released.AddDate(0, 0, 1), released.AddDate(7, 0, 0)} {
		now = step
		if step != released {
			r.keys[1].gone = released.AddDate(0, 0, 1)
		}
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(k.Anchors()); got != 2 {
		t.Errorf("%d anchors after the jump: %+v", got, k.Status())
	}
}

// TestFlash: a host that is offline writes nothing, and one that is online
// at most once a day, between queries for the time alone.
func TestFlash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "anchors")
		r := newRoot(t, 1)
		r.keys[0].published, r.keys[0].signing = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(-1, 0, 0)
		k := r.keeper(path, time.Now, r.keys[0].anchor(t))
		stop := run(k)
		defer stop()
		writes := func(days int) (n int) {
			var last os.FileInfo
			for range days * 24 {
				time.Sleep(time.Hour)
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if last != nil && !os.SameFile(last, info) {
					n++
				}
				last = info
			}
			return n
		}
		time.Sleep(time.Minute)
		if n := writes(30); n < 25 || n > 32 {
			t.Errorf("%d writes in 30 days online", n)
		}
		r.change(true)
		time.Sleep(20 * 24 * time.Hour) // until the time is no longer vouched for
		if n := writes(30); n > 0 {
			t.Errorf("%d writes in 30 days offline", n)
		}
	})
}
