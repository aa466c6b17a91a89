package submit

import (
	"context"
	"sync"
)

const (
	slotsPerUser = 64  // messages of one user worked on at once: as many share a sync of the disk
	callsPerUser = 512 // messages of one user worked on or waiting
)

// slots shares the gate's work among users: each has a line of its own, so
// that one who hands in thousands of messages makes only himself wait.
type slots struct {
	mu    sync.Mutex
	users map[uint32]*userSlots
}

type userSlots struct {
	calls int // working and waiting; 0 forgets the user
	work  chan struct{}
}

func newSlots() *slots { return &slots{users: map[uint32]*userSlots{}} }

// take waits for a slot of the user; call release when done.
func (s *slots) take(ctx context.Context, uid uint32) (release func(), err error) {
	s.mu.Lock()
	u := s.users[uid]
	if u == nil {
		u = &userSlots{work: make(chan struct{}, slotsPerUser)}
		s.users[uid] = u
	}
	if u.calls >= callsPerUser {
		s.mu.Unlock()
		return nil, tempf(nil, "user %d hands in more than %d messages at once; try again", uid, callsPerUser)
	}
	u.calls++
	s.mu.Unlock()

	select {
	case u.work <- struct{}{}:
		return func() { <-u.work; s.leave(uid, u) }, nil
	case <-ctx.Done():
		s.leave(uid, u)
		return nil, tempf(ctx.Err(), "gave up waiting to be queued")
	}
}

func (s *slots) leave(uid uint32, u *userSlots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.calls--; u.calls == 0 {
		delete(s.users, uid)
	}
}
