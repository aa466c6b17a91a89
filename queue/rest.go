package queue

import (
	"maps"
	"sync"
	"time"
)

// rest is the time in which an unreachable destination is left alone.
type rest struct {
	until  time.Duration // queue time
	reason string        // why it could not be reached
}

// rests tells those who list the queue which destinations rest. The schedule
// itself keeps its own count (see destination.restUntil).
type rests struct {
	dest func(recipient string) string // Handler.Destination

	mu sync.Mutex
	of map[string]rest // by destination
}

// begin notes a rest and forgets those that are over.
func (r *rests) begin(destination string, new rest, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]rest{}
	}
	maps.DeleteFunc(r.of, func(_ string, old rest) bool { return old.until <= now })
	r.of[destination] = new
}

func (r *rests) end(destination string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, destination)
}

// restOf returns the rest that a recipient's destination takes, if it does.
func (q *Queue) restOf(address string, now time.Duration) (rest, bool) {
	q.mu.Lock()
	r := q.rests
	q.mu.Unlock()
	if r == nil {
		return rest{}, false
	}
	name := r.dest(address)
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.of[name]
	return found, found.until > now
}
