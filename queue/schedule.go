package queue

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// mailbox carries the ids of messages that came or changed to the scheduler,
// from anyone, without making them wait.
type mailbox struct {
	mu     sync.Mutex
	ids    []string
	urgent map[string]bool // an operator wants them tried now
	signal chan struct{}   // capacity 1
}

func newMailbox() *mailbox {
	return &mailbox{urgent: map[string]bool{}, signal: make(chan struct{}, 1)}
}

func (m *mailbox) add(ids []string, urgent bool) {
	m.mu.Lock()
	m.ids = append(m.ids, ids...)
	for _, id := range ids {
		if urgent {
			m.urgent[id] = true
		}
	}
	m.mu.Unlock()
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() (ids []string, urgent map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids, urgent = m.ids, m.urgent
	m.ids, m.urgent = nil, map[string]bool{}
	return ids, urgent
}

func (m *mailbox) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ids) == 0
}

// event is what workers tell the owner.
type event struct {
	job        *job
	left       []dueRecipient
	impression impression
	down       *Result
	shared     bool  // the job took no connection
	stuck      int   // +1: outcomes cannot be recorded; -1: that is over
	err        error // the store failed
}

// runner is one Run. Its loop owns the index; attempts run in goroutines that
// report on events and that the loop waits for.
type runner struct {
	q      *Queue
	h      Handler
	policy policy
	index  *index
	inbox  *mailbox
	events chan event
	work   context.Context // of the attempts: outlives Run's by the drain

	workers sync.WaitGroup
	busy    int   // jobs whose event is still to come
	stuck   int   // settlements the disk does not take
	err     error // why the run ends
}

// Run attempts what is due until ctx ends, then waits for the deliveries
// under way: Options.DrainTime, after which their context ends too. It fails
// when the disk does not keep what is written to it. One Run at a time.
func (q *Queue) Run(ctx context.Context, h Handler) error {
	return q.runUntil(ctx, h, -1)
}

// RunUntilIdle is Run that also ends when nothing is running or due within
// horizon (0: each due recipient is tried once).
func (q *Queue) RunUntilIdle(ctx context.Context, h Handler, horizon time.Duration) error {
	return q.runUntil(ctx, h, max(0, horizon))
}

// runUntil runs; a negative horizon is never reached.
func (q *Queue) runUntil(ctx context.Context, h Handler, horizon time.Duration) error {
	inbox := newMailbox()
	if err := q.begin(inbox, &rests{dest: h.Destination}); err != nil {
		return err
	}
	defer q.end()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &runner{
		q: q, h: h, inbox: inbox, work: work,
		policy: policy{maxAge: q.o.MaxAge, warnAfter: q.o.WarnAfter, retryFirst: q.o.RetryFirst, retryMax: q.o.RetryMax},
		index:  newIndex(rules{connections: q.o.Connections, perDestination: q.o.PerDestination, rest: min(q.o.RetryFirst, longestRest)}),
		events: make(chan event),
	}
	if err := r.load(); err != nil {
		return err
	}
	r.loop(ctx, horizon)
	r.drain(cancel)
	return r.err
}

func (q *Queue) begin(inbox *mailbox, resting *rests) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if q.run != nil {
		return errors.New("the queue is being run already")
	}
	q.run, q.rests = inbox, resting
	return nil
}

func (q *Queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.run, q.rests = nil, nil
}

// loadChunk is how many messages one read transaction takes in.
const loadChunk = 500

// load builds the index from the store. After the wall clock was set between
// two runs all is due: some of it waited for the clock alone.
func (r *runner) load() error {
	now := r.q.store.clock.now()
	latest := time.Duration(math.MaxInt64)
	if r.q.store.takeClockSet() {
		latest = now
	}
	for after := ""; ; {
		list, err := r.q.store.next(after, loadChunk)
		r.q.store.unmap()
		if err != nil || len(list) == 0 {
			return err
		}
		for _, m := range list {
			r.place(m.id, m.recipients, latest)
		}
		after = list[len(list)-1].id
	}
}

// place puts a message's recipients into the index, due at the latest then.
func (r *runner) place(id string, list []numbered, latest time.Duration) {
	address := make(map[int]string, len(list))
	for _, n := range list {
		address[n.index] = n.Address
	}
	dest := func(i int) string { return r.h.Destination(address[i]) }
	rcpts := active(list)
	for i := range rcpts {
		rcpts[i].next = min(rcpts[i].next, latest)
	}
	r.index.set(id, rcpts, dest, r.q.store.clock.now())
}

// loop starts what is due and takes in what happened.
func (r *runner) loop(ctx context.Context, horizon time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && r.err == nil {
		now := r.q.store.clock.now()
		r.index.promote(now)
		r.startReady(now)
		if r.idle(now, horizon) {
			return
		}
		r.setTimer(timer, now)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.inbox.signal:
			r.reload()
		case ev := <-r.events:
			r.handle(ev)
		}
	}
}

// startReady hands out jobs while there are connections for them.
func (r *runner) startReady(now time.Duration) {
	for r.stuck == 0 {
		j := r.index.start()
		if j == nil {
			return
		}
		r.busy++
		r.workers.Go(func() { r.attempt(j, now) })
	}
}

// idle says whether a bounded run has nothing to stay for.
func (r *runner) idle(now, horizon time.Duration) bool {
	if horizon < 0 || r.busy > 0 || r.index.ready() || !r.inbox.empty() {
		return false
	}
	next, some := r.index.next()
	return !some || next > now+horizon
}

// setTimer wakes the loop when something is due. The timers of a machine that
// sleeps stand still, and queue time does not: so it looks at least every
// minute while mail waits.
func (r *runner) setTimer(timer *time.Timer, now time.Duration) {
	wait := time.Hour
	if next, some := r.index.next(); some {
		wait = min(time.Minute, max(0, next-now))
	}
	timer.Reset(wait)
}

// reload takes in messages that came or that others changed.
func (r *runner) reload() {
	ids, urgent := r.inbox.take()
	for _, id := range ids {
		list, err := r.q.store.recipients(id, nil)
		if err != nil {
			r.err = err
			return
		}
		r.place(id, list, math.MaxInt64)
		if urgent[id] {
			for _, name := range r.index.wake(id) {
				r.q.rests.end(name)
			}
		}
	}
}

// handle takes in what a worker says.
func (r *runner) handle(ev event) {
	r.account(ev)
	if ev.job == nil {
		return
	}
	now := r.q.store.clock.now()
	stale := ev.job.stale
	ev.job.stale = false
	if ev.impression.unreachable {
		r.q.rests.begin(ev.job.dest.name, rest{until: now + r.index.rules.rest, reason: ev.down.Reason}, now)
	}
	if ev.shared {
		r.index.putBack(ev.job, ev.left, now)
	} else if share := r.index.finish(ev.job, ev.left, ev.impression, now); len(share) > 0 {
		r.busy += len(share)
		r.workers.Go(func() { r.share(share, *ev.down) })
	}
	if stale {
		r.inbox.add([]string{ev.job.id}, false)
	}
}

// account keeps count of what is under way.
func (r *runner) account(ev event) {
	r.stuck += ev.stuck
	if ev.job != nil {
		r.busy--
	}
	if ev.err != nil && r.err == nil {
		r.err = ev.err
	}
}

// drain waits for what is under way, and ends it when its time is over.
func (r *runner) drain(cancel context.CancelFunc) {
	limit := time.AfterFunc(r.q.o.DrainTime, cancel)
	defer limit.Stop()
	for r.busy > 0 {
		r.account(<-r.events)
	}
	r.workers.Wait()
}
