package resolver

import (
	"context"
	"sync"
)

// flights lets one caller do what several want, the others wait for it. A
// wait that would close a circle of resolutions waiting for one another is
// refused: the caller then works for itself.
type flights struct {
	mu     sync.Mutex
	flying map[flightKey]*flight
}

type flightKey struct {
	cacheKey
	zone string // of the servers asked, for upstream questions
}

// flight is one piece of work under way.
type flight struct {
	leader *resolution
	done   chan struct{}
	value  any
	ok     bool // value may be shared: the leader was not cancelled
}

// do returns what work returns, from another resolution where one is at the
// same piece already. shared says that it was.
func (g *flights) do(x *resolution, k flightKey, work func() any) (value any, shared bool) {
	for {
		g.mu.Lock()
		f := g.flying[k]
		if f == nil {
			f = &flight{leader: x, done: make(chan struct{})}
			g.flying[k] = f
			g.mu.Unlock()
			return g.lead(x, k, f, work), false
		}
		if circle(x, f) {
			g.mu.Unlock()
			return work(), false
		}
		x.waiting = f
		g.mu.Unlock()
		err := f.wait(x.ctx)
		g.mu.Lock()
		x.waiting = nil
		g.mu.Unlock()
		if err != nil {
			return work(), false // which fails at once, with the reason of x
		}
		if f.ok {
			return f.value, true
		}
	}
}

// circle reports whether f waits for x, through however many others.
func circle(x *resolution, f *flight) bool {
	for f != nil {
		if f.leader == x {
			return true
		}
		f = f.leader.waiting
	}
	return false
}

func (g *flights) lead(x *resolution, k flightKey, f *flight, work func() any) any {
	defer func() {
		g.mu.Lock()
		delete(g.flying, k)
		g.mu.Unlock()
		close(f.done)
	}()
	f.value = work()
	f.ok = !x.spent()
	return f.value
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
