package queue

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// index is what the scheduler knows in memory: for each message and
// destination when it is due, and whose turn it is. It is a value without
// clock, disk or goroutine; its owner tells it the queue time.
//
// Destinations with something ready take turns, one job each. Three things
// keep one destination's trouble from delaying the others: it has at most
// limit jobs at once, which is one until it proves itself; while it cannot be
// reached at all it rests, and one job probes it for all; and all
// destinations in trouble together, and all unproven ones, leave connections
// to the others (see quota).
type index struct {
	rules    rules
	messages map[string][]*job
	dests    map[string]*destination
	waiting  jobHeap
	turns    [classes][]*destination // those that can start, in order of turn
	turn     uint64
	running  [classes]int
	idle     []*destination // proven ones without jobs, remembered for their next mail
}

// rules are the limits an index keeps.
type rules struct {
	connections    int
	perDestination int
	rest           time.Duration // how long an unreachable destination is left alone
}

// longestRest spares a dead destination's mail the same wait one by one, and
// is short enough that new mail to one that has recovered hardly notices.
const longestRest = 30 * time.Second

// class says how a destination did lately.
type class uint8

const (
	proven   class = iota // its host answered, in time
	unproven              // nothing is known yet
	troubled              // it could not be reached, or was slow
	classes
)

// job is a message's recipients at one destination, those neither ended nor
// held; at most recipientsPerJob.
type job struct {
	id    string
	dest  *destination
	rcpts []dueRecipient
	due   time.Duration
	place int // in the heap; -1 when it is not waiting
	class class
	state jobState
	stale bool // changed by others while it was running
}

type jobState uint8

const (
	jobWaiting jobState = iota
	jobReady
	jobRunning
)

// dueRecipient is when a recipient, by its number, is due.
type dueRecipient struct {
	index int
	next  time.Duration
}

// recipientsPerJob is what any host takes in one transaction, and bounds what
// one attempt holds in memory (RFC 5321 §4.5.3.1.8).
const recipientsPerJob = 100

// destination is a place mail goes to next.
type destination struct {
	name      string
	ready     []*job
	jobs      int // waiting, ready and running
	running   int
	limit     int
	class     class
	queued    bool // it stands in turns
	turn      uint64
	restUntil time.Duration
}

func newIndex(r rules) *index {
	return &index{rules: r, messages: map[string][]*job{}, dests: map[string]*destination{}}
}

// quota is how many jobs of a class and those in more trouble may run at
// once. What is in trouble gets half, what is not proven leaves a fifth:
// behind any number of dead destinations there is a connection for one that
// works. Connections stay idle for that, because none can be taken back.
func (x *index) quota(c class) int {
	n := x.rules.connections
	switch c {
	case troubled:
		return max(1, n/2)
	case unproven:
		return max(1, n-max(1, n/5))
	}
	return n
}

// mayStart says whether one more job of a class may run.
func (x *index) mayStart(c class) bool {
	sum := 0
	for k := classes; k > 0; k-- {
		sum += x.running[k-1]
		if k-1 <= c && sum >= x.quota(k-1) {
			return false
		}
	}
	return true
}

// set makes the recipients given all there is of a message, apart from what
// is running. dest names each one's destination.
func (x *index) set(id string, rcpts []dueRecipient, dest func(int) string, now time.Duration) {
	busy := x.clear(id)
	groups := map[string][]dueRecipient{}
	var names []string
	for _, r := range rcpts {
		if busy[r.index] {
			continue
		}
		name := dest(r.index)
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], r)
	}
	for _, name := range names {
		for chunk := range slices.Chunk(groups[name], recipientsPerJob) {
			x.add(&job{id: id, rcpts: slices.Clip(slices.Clone(chunk))}, name)
		}
	}
	x.promote(now)
}

// clear removes a message's jobs that are not running and returns the
// recipients of those that are.
func (x *index) clear(id string) (busy map[int]bool) {
	for _, j := range slices.Clone(x.messages[id]) {
		if j.state != jobRunning {
			x.remove(j)
			continue
		}
		j.stale = true
		if busy == nil {
			busy = map[int]bool{}
		}
		for _, r := range j.rcpts {
			busy[r.index] = true
		}
	}
	return busy
}

// add puts a new job into the waiting heap.
func (x *index) add(j *job, name string) {
	d := x.dests[name]
	if d == nil {
		d = &destination{name: name, limit: 1, class: unproven}
		x.dests[name] = d
	} else if d.jobs == 0 {
		x.idle = slices.DeleteFunc(x.idle, func(o *destination) bool { return o == d })
	}
	j.dest = d
	d.jobs++
	x.messages[j.id] = append(x.messages[j.id], j)
	x.wait(j)
}

// wait puts a job that is nowhere into the waiting heap.
func (x *index) wait(j *job) {
	j.state = jobWaiting
	j.due = slices.MinFunc(j.rcpts, func(a, b dueRecipient) int { return cmp.Compare(a.next, b.next) }).next
	heap.Push(&x.waiting, j)
}

// remove forgets a job, and its destination with the last one.
func (x *index) remove(j *job) {
	d := j.dest
	switch j.state {
	case jobWaiting:
		heap.Remove(&x.waiting, j.place)
	case jobReady:
		d.ready = slices.DeleteFunc(d.ready, func(o *job) bool { return o == j })
	}
	list := slices.DeleteFunc(x.messages[j.id], func(o *job) bool { return o == j })
	if x.messages[j.id] = list; len(list) == 0 {
		delete(x.messages, j.id)
	}
	if d.jobs--; d.jobs == 0 {
		x.retire(d)
	}
}

// idleKept bounds the memory of destinations without mail.
const idleKept = 500

// retire forgets a destination without jobs, or remembers it among the last
// proven ones: who is written to every day is not lined up with strangers.
func (x *index) retire(d *destination) {
	d.ready = nil
	if d.class != proven {
		delete(x.dests, d.name)
		return
	}
	if x.idle = append(x.idle, d); len(x.idle) <= idleKept {
		return
	}
	oldest := x.idle[0]
	x.idle = x.idle[1:]
	delete(x.dests, oldest.name)
}

// promote makes ready what is due, unless its destination rests.
func (x *index) promote(now time.Duration) {
	for len(x.waiting) > 0 && x.waiting[0].due <= now {
		j := x.waiting[0]
		if j.dest.restUntil > now {
			j.due = j.dest.restUntil
			heap.Fix(&x.waiting, 0)
			continue
		}
		heap.Pop(&x.waiting)
		j.state = jobReady
		j.dest.ready = append(j.dest.ready, j)
		x.enqueue(j.dest)
	}
}

// enqueue gives a destination a turn if it can use one and has none.
func (x *index) enqueue(d *destination) {
	if d.queued || len(d.ready) == 0 || d.running >= d.limit {
		return
	}
	x.turn++
	d.queued, d.turn = true, x.turn
	x.turns[d.class] = append(x.turns[d.class], d)
}

// start returns the job whose turn it is, running now, or nil.
func (x *index) start() *job {
	for {
		d := x.pop()
		if d == nil {
			return nil
		}
		if len(d.ready) == 0 || d.running >= d.limit {
			continue
		}
		j := d.ready[0]
		d.ready = d.ready[1:]
		j.state, j.class = jobRunning, d.class
		d.running++
		x.running[j.class]++
		x.enqueue(d)
		return j
	}
}

// pop takes the destination whose turn came first among the classes that may
// start something.
func (x *index) pop() *destination {
	best := classes
	for c := range classes {
		if len(x.turns[c]) > 0 && x.mayStart(c) && (best == classes || x.turns[c][0].turn < x.turns[best][0].turn) {
			best = c
		}
	}
	if best == classes {
		return nil
	}
	d := x.turns[best][0]
	x.turns[best] = x.turns[best][1:]
	d.queued = false
	if d.class != best { // it changed while it waited
		x.enqueue(d)
		return x.pop()
	}
	return d
}

// impression is what an attempt told about its destination.
type impression struct {
	delivered   bool // something was accepted
	answered    bool // the remote host replied to something
	slow        bool
	unreachable bool // no mail can get there
}

// finish takes back a running job with what is left of it. It returns the
// destination's other ready jobs, running, when the destination turned out
// unreachable: they have failed as well.
func (x *index) finish(j *job, left []dueRecipient, im impression, now time.Duration) (share []*job) {
	d := j.dest
	x.running[j.class]--
	d.running--
	x.learn(d, im)
	if im.unreachable {
		d.restUntil = now + x.rules.rest
		share = x.takeReady(d)
	}
	x.putBack(j, left, now)
	x.enqueue(d)
	return share
}

// learn adjusts what a destination is trusted with.
func (x *index) learn(d *destination, im impression) {
	switch {
	case im.unreachable || !im.answered && !im.delivered:
		d.class, d.limit = troubled, 1
	case im.slow:
		d.class = troubled
	default:
		d.class = proven
	}
	if im.delivered {
		d.limit = min(d.limit+1, x.rules.perDestination)
	}
}

// takeReady marks all ready jobs of a destination running, outside of any
// limit: they take no connection.
func (x *index) takeReady(d *destination) []*job {
	taken := d.ready
	d.ready = nil
	for _, j := range taken {
		j.state = jobRunning
	}
	return taken
}

// putBack makes a running job wait for what is left of it, or forgets it.
func (x *index) putBack(j *job, left []dueRecipient, now time.Duration) {
	if len(left) == 0 {
		x.remove(j)
		return
	}
	j.rcpts = left
	x.wait(j)
	x.promote(now)
}

// wake ends the rest of a message's destinations, which it names: an operator
// asked.
func (x *index) wake(id string) (names []string) {
	for _, j := range slices.Clone(x.messages[id]) {
		d := j.dest
		names = append(names, d.name)
		if d.restUntil = 0; j.state == jobWaiting {
			x.remove(j)
			x.add(j, d.name)
		}
	}
	return names
}

// next returns when something becomes due, or false.
func (x *index) next() (time.Duration, bool) {
	if len(x.waiting) == 0 {
		return 0, false
	}
	return x.waiting[0].due, true
}

// ready says whether a job could start if there were connections.
func (x *index) ready() bool {
	for _, ring := range x.turns {
		for _, d := range ring {
			if len(d.ready) > 0 {
				return true
			}
		}
	}
	return false
}

// jobHeap orders jobs by when they are due, then by age.
type jobHeap []*job

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(a, b int) bool {
	if h[a].due != h[b].due {
		return h[a].due < h[b].due
	}
	return h[a].id < h[b].id
}
func (h jobHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a]; h[a].place, h[b].place = a, b }
func (h *jobHeap) Push(j any) {
	j.(*job).place = len(*h)
	*h = append(*h, j.(*job))
}
func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.place = -1
	return j
}
