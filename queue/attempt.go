package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"
)

// attempt is one job's delivery, from its leases to its last commit. It runs
// in a goroutine of its own.
type attempt struct {
	run  *runner
	job  *job
	item *Item
	want []int // recipients being attempted, by number

	mu       sync.Mutex
	results  []Result // reported and not settled
	reported map[int]bool
	content  error // the content could not be opened as accepted
	signal   chan struct{}

	impression impression
	down       *Result // the one that said the destination is unreachable
}

// flushAfter is how long a delivered recipient waits for company before its
// end is committed while the attempt goes on.
const flushAfter = 100 * time.Millisecond

// slowAfter is the length of an attempt from which its destination counts as
// slow.
const slowAfter = 10 * time.Second

// attempt delivers a job and reports to the owner.
func (r *runner) attempt(j *job, now time.Duration) {
	a := &attempt{run: r, job: j, reported: map[int]bool{}, signal: make(chan struct{}, 1)}
	for _, rcpt := range j.rcpts {
		if rcpt.next <= now+time.Second {
			a.want = append(a.want, rcpt.index)
		}
	}
	err := a.deliver(r.work)
	left, readErr := r.left(j)
	r.events <- event{job: j, left: left, impression: a.impression, down: a.down, err: errors.Join(err, readErr)}
}

// deliver hands the item out and settles what comes back.
func (a *attempt) deliver(ctx context.Context) error {
	item, err := a.run.item(a.job, a.want)
	if errors.Is(err, ErrNotFound) {
		return nil // removed meanwhile
	}
	a.item = item
	if err != nil { // the record of the message is damaged: an operator must look
		for _, i := range a.want {
			a.results = append(a.results, Result{Index: i, Outcome: Held, Reason: err.Error()})
		}
		return a.settle(a.take())
	}
	if len(item.Recipients) == 0 {
		return nil
	}
	a.watchContent()
	a.run.q.lease(item, true)
	defer a.run.q.lease(item, false)
	start := time.Now()
	done := make(chan error, 1)
	go func() { done <- a.handOut(ctx) }()
	err = a.collect(ctx, done)
	a.impression.slow = time.Since(start) > slowAfter
	return err
}

// handOut calls the handler and turns its panic into an error: one message
// must not end the process for all.
func (a *attempt) handOut(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error during delivery: %v", p)
			a.run.q.o.Log.Error("delivery panicked", "id", a.item.ID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	a.run.h.Deliver(ctx, a.item, a.report)
	return nil
}

// report takes one recipient's outcome. The first one counts.
func (a *attempt) report(res Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reported[res.Index] {
		return
	}
	for _, rcpt := range a.item.Recipients {
		if rcpt.Index == res.Index {
			res.Address = rcpt.Address
			a.reported[res.Index] = true
			a.results = append(a.results, res)
			break
		}
	}
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// collect settles outcomes until the handler returned: all at once when the
// last is reported, delivered ones alone when the rest takes its time.
func (a *attempt) collect(ctx context.Context, done <-chan error) error {
	var flush <-chan time.Time
	var failure error
	for {
		select {
		case <-a.signal:
			if a.complete() {
				failure = errors.Join(failure, a.settle(a.take()))
				flush = nil
			} else if flush == nil && a.hasDelivered() {
				flush = time.After(flushAfter)
			}
		case <-flush:
			flush = nil
			failure = errors.Join(failure, a.settle(a.takeDelivered()))
		case err := <-done:
			a.addMissing(ctx, err)
			return errors.Join(failure, a.settle(a.take()))
		}
	}
}

func (a *attempt) complete() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.reported) == len(a.item.Recipients)
}

func (a *attempt) hasDelivered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.results {
		if r.Outcome == Delivered {
			return true
		}
	}
	return false
}

func (a *attempt) take() []Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.results
	a.results = nil
	return taken
}

func (a *attempt) takeDelivered() (taken []Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var rest []Result
	for _, r := range a.results {
		if r.Outcome == Delivered {
			taken = append(taken, r)
		} else {
			rest = append(rest, r)
		}
	}
	a.results = rest
	return taken
}

// addMissing gives recipients without a report one. When the attempt was
// told to stop they are left as they were: that was no attempt of theirs.
func (a *attempt) addMissing(ctx context.Context, panicked error) {
	if ctx.Err() != nil && panicked == nil {
		return
	}
	reason := "the delivery ended without an outcome for this recipient"
	if panicked != nil {
		reason = panicked.Error()
	}
	for _, rcpt := range a.item.Recipients {
		a.report(Result{Index: rcpt.Index, Outcome: Later, Reason: reason, DSN: "4.3.0"})
	}
}

// watchContent notes when the content turns out missing or altered.
func (a *attempt) watchContent() {
	open := a.item.Open
	a.item.Open = func() (io.ReadSeekCloser, error) {
		f, err := open()
		if errors.Is(err, ErrContent) {
			a.mu.Lock()
			a.content = err
			a.mu.Unlock()
		}
		return f, err
	}
}

// settle commits results and notes what they tell about the destination.
func (a *attempt) settle(results []Result) error {
	if len(results) == 0 {
		return nil
	}
	a.mu.Lock()
	content := a.content
	a.mu.Unlock()
	for i := range results {
		res := &results[i]
		if content != nil && res.Outcome != Delivered && res.Outcome != Held {
			// Not the sender's fault and not the receiver's; the envelope is kept.
			res.Outcome, res.Reason = Held, content.Error()
		}
		a.impress(res)
	}
	return a.run.settle([]settlement{{item: a.item, results: results}})
}

func (a *attempt) impress(res *Result) {
	a.impression.delivered = a.impression.delivered || res.Outcome == Delivered
	a.impression.answered = a.impression.answered || res.Reply != "" || res.Greylisted || res.Outcome != Later
	if res.Outcome == Later && res.Unreachable {
		a.impression.unreachable = true
		a.down = res
	}
}

// item reads a job's message and recipients as the handler gets them.
func (r *runner) item(j *job, want []int) (*Item, error) {
	q := r.q
	m, err := q.store.message(j.id)
	if m == nil {
		return nil, err
	}
	item := &Item{
		ID: j.id, Destination: j.dest.name, Envelope: m.Envelope, Arrived: q.store.clock.arrived(m), Size: m.Size,
		Open: func() (io.ReadSeekCloser, error) { return q.openContent(j.id, m) },
	}
	if err != nil {
		return item, err
	}
	list, err := q.store.recipients(j.id, want)
	for _, n := range list {
		if n.Hold != "" {
			continue
		}
		item.Recipients = append(item.Recipients, ItemRecipient{Index: n.index, Recipient: n.Recipient})
		item.Attempts = max(item.Attempts, n.Attempts)
	}
	return item, err
}

// left reads what a job has to come back for.
func (r *runner) left(j *job) ([]dueRecipient, error) {
	indexes := make([]int, len(j.rcpts))
	for i, rcpt := range j.rcpts {
		indexes[i] = rcpt.index
	}
	list, err := r.q.store.recipients(j.id, indexes)
	return active(list), err
}

// active picks the recipients that are to be attempted.
func active(list []numbered) []dueRecipient {
	var due []dueRecipient
	for _, n := range list {
		if n.Hold == "" {
			due = append(due, dueRecipient{index: n.index, next: n.Next})
		}
	}
	return due
}

// lease marks the item's recipients as running, for those who list them.
func (q *Queue) lease(item *Item, running bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, rcpt := range item.Recipients {
		ref := recipientRef{item.ID, rcpt.Index}
		if running {
			q.active[ref] = struct{}{}
		} else {
			delete(q.active, ref)
		}
	}
}
