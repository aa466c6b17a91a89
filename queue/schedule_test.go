package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryDir is a directory whose syncs cost nothing, where there is one:
// simulations commit by the ten thousand.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "queue-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// world is a Handler whose destinations behave by the first word of their
// name.
type world struct {
	mu      sync.Mutex
	met     map[string]bool // greylisting: message and recipient tried before
	arrived map[string]time.Time
	waits   map[string][]time.Duration
	tries   map[string]int
	running map[string]int // deliveries under way by destination
	most    map[string]int // and in "" for all
}

func newWorld() *world {
	return &world{met: map[string]bool{}, arrived: map[string]time.Time{}, waits: map[string][]time.Duration{},
		tries: map[string]int{}, running: map[string]int{}, most: map[string]int{}}
}

func kindOf(dest string) string { return dest[:strings.IndexAny(dest, "0123456789")] }

func (w *world) Destination(a string) string                { return domainOf(a) }
func (w *world) Notice(*Item, NoticeKind, []Result) *Notice { return nil }

func (w *world) Deliver(ctx context.Context, item *Item, report func(Result)) {
	kind := kindOf(item.Destination)
	w.enter(item.Destination, 1)
	defer w.enter(item.Destination, -1)
	w.mu.Lock()
	w.tries[kind]++
	w.mu.Unlock()
	res := Result{Outcome: Delivered, Reply: "250 ok"}
	switch kind {
	case "dead":
		time.Sleep(30 * time.Second)
		res = Result{Outcome: Later, Reason: "connection timed out", Unreachable: true}
	case "slow":
		time.Sleep(20 * time.Second)
	case "grey":
		time.Sleep(200 * time.Millisecond)
		w.mu.Lock()
		key := item.ID + item.Recipients[0].Address
		if !w.met[key] {
			w.met[key] = true
			res = Result{Outcome: Later, Reason: "greylisted", Reply: "450 later", Greylisted: true}
		}
		w.mu.Unlock()
	case "good":
		time.Sleep(200 * time.Millisecond)
	}
	for _, r := range item.Recipients {
		res.Index = r.Index
		if res.Outcome == Delivered {
			w.mu.Lock()
			w.waits[kind] = append(w.waits[kind], time.Since(item.Arrived))
			w.mu.Unlock()
		}
		report(res)
	}
}

func (w *world) enter(dest string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range []string{dest, ""} {
		w.running[key] += n
		w.most[key] = max(w.most[key], w.running[key])
	}
}

// TestSimulation runs 10,000 messages to 1,000 destinations of all kinds
// through six hours of fake time. Good ones answer within a second: their
// mail must not wait noticeably longer because others are dead or slow, and
// mail to greylisting ones no longer than they ask for.
func TestSimulation(t *testing.T) {
	w := simulate(t, map[string]int{"good": 800, "grey": 100, "dead": 60, "slow": 40})
	for _, kind := range []string{"good", "grey", "slow", "dead"} {
		t.Logf("%-5s %5d delivered, %5d delayed, %5d attempts, waited %v (median) %v (worst)", kind, len(w.waits[kind]), delayed(w.waits[kind]),
			w.tries[kind], median(w.waits[kind]).Round(time.Second), worst(w.waits[kind]).Round(time.Second))
	}
	for kind, want := range map[string]int{"good": 8000, "grey": 1000, "slow": 400, "dead": 0} {
		if got := len(w.waits[kind]); got != want {
			t.Errorf("%s: %d delivered, want %d", kind, got, want)
		}
	}
	for kind, most := range map[string]time.Duration{"good": 20 * time.Second, "grey": 7*time.Minute + 20*time.Second} {
		if got := worst(w.waits[kind]); got > most {
			t.Errorf("%s: waited %v, want at most %v", kind, got, most)
		}
	}
	if w.most[""] > 50 {
		t.Errorf("%d deliveries at once, want at most 50", w.most[""])
	}
	for dest, n := range w.most {
		if dest != "" && n > 5 || strings.HasPrefix(dest, "dead") && n > 1 {
			t.Errorf("%s: %d deliveries at once", dest, n)
		}
	}
	// One probe speaks for ten messages: nobody knocks at a dead door ten times.
	if tries := w.tries["dead"]; tries > 60*6*12 {
		t.Errorf("%d attempts at 60 dead destinations in six hours", tries)
	}
}

// delayed counts waits that a person would notice.
func delayed(d []time.Duration) (n int) {
	for _, w := range d {
		n += btoi(w > 30*time.Second)
	}
	return n
}

func worst(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return slices.Max(d)
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// simulate puts ten messages for each destination, in random order over ten
// minutes, and runs for six hours.
func simulate(t *testing.T, kinds map[string]int) *world {
	w := newWorld()
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{Dir: memoryDir(t)})
		var to []string
		for _, kind := range []string{"good", "grey", "dead", "slow"} {
			for i := range kinds[kind] {
				for range 10 {
					to = append(to, fmt.Sprintf("r@%s%d.example", kind, i))
				}
			}
		}
		rnd := rand.New(rand.NewPCG(7, 11))
		rnd.Shuffle(len(to), func(a, b int) { to[a], to[b] = to[b], to[a] })
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
		defer cancel()
		done := make(chan error)
		go func() { done <- q.Run(ctx, w) }()
		for some := range slices.Chunk(to, 100) {
			var wg sync.WaitGroup
			for _, a := range some { // together: they share commits
				wg.Go(func() {
					if _, err := q.Put(ctx, envelope("s@a.example", a), strings.NewReader("body")); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			time.Sleep(6 * time.Second)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
	})
	return w
}

// TestDeadFlood: more dead destinations than connections, all at once; mail
// to a destination that worked before still goes out at once.
func TestDeadFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{Dir: memoryDir(t), Connections: 10})
		w := newWorld()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
		defer cancel()
		done := make(chan error)
		go func() { done <- q.Run(ctx, w) }()
		mustPut(t, q, envelope("s@a.example", "1@good1.example", "2@good2.example"), "x") // proves them
		time.Sleep(time.Second)
		for i := range 100 {
			mustPut(t, q, envelope("s@a.example", fmt.Sprintf("r@dead%d.example", i)), "x")
		}
		for range 50 {
			time.Sleep(time.Minute)
			mustPut(t, q, envelope("s@a.example", "1@good1.example"), "x")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		t.Logf("good waited %v at most, while 100 dead destinations were tried %d times", worst(w.waits["good"]), w.tries["dead"])
		if len(w.waits["good"]) != 52 {
			t.Errorf("%d delivered, want 52", len(w.waits["good"]))
		}
		if got := worst(w.waits["good"]); got > time.Second {
			t.Errorf("good mail waited %v", got)
		}
		q.Close()
	})
}

// TestRoundRobin: a list of 5,000 recipients at one domain does not stand
// before a single message to another.
func TestRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{Dir: memoryDir(t), Connections: 2})
		w := newWorld()
		list := envelope("s@a.example")
		for i := range 5000 {
			list.Recipients = append(list.Recipients, Recipient{Address: fmt.Sprintf("r%d@good1.example", i)})
		}
		mustPut(t, q, list, "x")
		mustPut(t, q, envelope("s@a.example", "r@grey2.example"), "x")
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := q.Run(ctx, w); err != nil {
			t.Error(err)
		}
		if got := worst(w.waits["grey"]); got > 8*time.Minute {
			t.Errorf("it waited %v", got)
		}
		if got := len(w.waits["good"]); got != 5000 {
			t.Errorf("%d of the list delivered", got)
		}
		if w.tries["good"] != 50 {
			t.Errorf("%d attempts for 5000 recipients, want 50", w.tries["good"])
		}
		q.Close()
	})
}

// TestBackoff holds the function to its bounds for any number of attempts.
func TestBackoff(t *testing.T) {
	const first, most = 5 * time.Minute, 68 * time.Minute
	for _, jitter := range []float64{0, 0.5, 0.999999} {
		last := time.Duration(0)
		for n := 1; n < 200; n++ {
			d := backoff(n, false, first, most, jitter)
			if d < first || d > most {
				t.Fatalf("%d: %v", n, d)
			}
			if d < last && n < 5 {
				t.Errorf("%d: %v after %v", n, d, last)
			}
			last = d
		}
		if d := backoff(1, true, first, most, jitter); d < 6*time.Minute || d > 7*time.Minute {
			t.Errorf("greylisted: %v", d)
		}
		if a, b := backoff(2, true, first, most, jitter), backoff(2, false, first, most, jitter); a != b {
			t.Errorf("greylisted again: %v, otherwise %v", a, b)
		}
		if d := backoff(3, false, time.Hour, time.Hour, jitter); d != time.Hour {
			t.Errorf("first equal to most: %v", d)
		}
	}
}

func TestID(t *testing.T) {
	last, text := uint64(0), ""
	for _, now := range []time.Time{time.Unix(0, 0), time.Unix(1, 0), time.Unix(1, 0), time.Unix(-5, 0), {}, time.Unix(1e9, 0),
		time.Unix(5, 0), time.Unix(1.9e9, 0), time.Unix(1e12, 0), time.Unix(1.9e9, 0)} {
		n := nextID(last, now)
		id := formatID(n)
		if n <= last || id <= text || !validID(id) || strings.ContainsAny(id, "AEIOUaeiou") {
			t.Errorf("%v: %d %q after %d %q", now, n, id, last, text)
		}
		last, text = n, id
	}
}
