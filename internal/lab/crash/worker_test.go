package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/queue"
)

// TestMain is also the process that is traced: the test binary starts itself
// with workerDir set.
func TestMain(m *testing.M) {
	if dir := os.Getenv(workerDir); dir != "" {
		os.Exit(work(dir, os.Getenv(workerPlan)))
	}
	os.Exit(m.Run())
}

const (
	workerDir  = "CRASH_WORKER_DIR"
	workerPlan = "CRASH_WORKER_PLAN"
)

// soak says whether the long form was asked for.
func soak() bool { return os.Getenv("DANEPOST_SOAK") != "" }

// The worker says on its standard output, one write for each line, what it
// acknowledges to whom:
//
//	put ID N          Put returned nil for the N-th message
//	final ID I        the outcome of recipient I was final; its commit follows
//	gone ID           it was seen that the message is no longer queued
//	remove ID         it is about to be removed
//	refused N ERROR   Put failed
type worker struct {
	mu   sync.Mutex
	next int // number of the next message
	ids  []string
}

func say(format string, args ...any) {
	// One write call: the trace orders it among the others.
	os.Stdout.WriteString(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") + "\n")
}

// body is the content of the n-th message: it names itself, and its size and
// bytes follow from the number.
func body(n int) []byte {
	sizes := []int{40, 900, 4096, 20_000, 32_000, 33_000, 150_000}
	line := []byte(fmt.Sprintf("message %d\n", n))
	return bytes.Repeat(line, sizes[n%len(sizes)]/len(line)+1)
}

// number reads back which message a content is, -1 if it is none that was
// ever put.
func number(content []byte) int {
	var n int
	if _, err := fmt.Sscanf(string(content[:min(len(content), 40)]), "message %d\n", &n); err != nil || !bytes.Equal(content, body(n)) {
		return -1
	}
	return n
}

// recipients of the n-th message: one to three, to hosts that take mail,
// refuse it for good or for now.
func recipients(n int) (list []queue.Recipient) {
	hosts := []string{"good", "bad", "later", "good"}
	for i := range n%3 + 1 {
		list = append(list, queue.Recipient{Address: fmt.Sprintf("r%d@%s%d.example", i, hosts[(n+i)%len(hosts)], n%5)})
	}
	return list
}

func (w *worker) Destination(a string) string { return a[strings.IndexByte(a, '@')+1:] }

func (w *worker) Deliver(_ context.Context, item *queue.Item, report func(queue.Result)) {
	f, err := item.Open()
	if err != nil {
		say("unreadable %s %v", item.ID, err)
		return
	}
	_, err = io.Copy(io.Discard, f)
	f.Close()
	for _, r := range item.Recipients {
		res := queue.Result{Index: r.Index, Outcome: queue.Delivered, Reply: "250 ok"}
		switch {
		case strings.Contains(r.Address, "@bad"):
			res.Outcome, res.Reply = queue.Failed, "550 no"
		case strings.Contains(r.Address, "@later") || err != nil:
			res.Outcome, res.Reply = queue.Later, "450 busy"
		}
		if res.Outcome != queue.Later {
			say("final %s %d", item.ID, r.Index)
		}
		report(res)
	}
}

func (w *worker) Notice(item *queue.Item, kind queue.NoticeKind, about []queue.Result) *queue.Notice {
	if kind != queue.NoticeFailure || item.Envelope.Sender == "" {
		return nil
	}
	return &queue.Notice{
		Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "sender@later9.example"}}},
		Content:  []byte(fmt.Sprintf("bounce of %s\n", item.ID)),
	}
}

// put queues the next message and says so.
func (w *worker) put(q *queue.Queue) {
	w.mu.Lock()
	n := w.next
	w.next++
	w.mu.Unlock()
	w.putNumber(q, n)
}

func (w *worker) putNumber(q *queue.Queue, n int) {
	e := queue.Envelope{Sender: "sender@a.example", Recipients: recipients(n), DropKey: fmt.Sprintf("drop-%d", n)}
	if n%2 == 0 {
		e.DropKey = ""
	}
	id, err := q.Put(context.Background(), e, bytes.NewReader(body(n)))
	if err != nil {
		say("refused %d %v", n, err)
		return
	}
	say("put %s %d", id, n)
	w.mu.Lock()
	w.ids = append(w.ids, id)
	w.mu.Unlock()
}

// lookForGone says which messages are no longer queued.
func (w *worker) lookForGone(q *queue.Queue) {
	list, err := q.List(context.Background(), queue.Filter{})
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, s := range list {
		there[s.QueueID] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	for _, id := range w.ids {
		if there[id] {
			left = append(left, id)
		} else {
			say("gone %s", id)
		}
	}
	w.ids = left
}

// session opens the queue, puts n messages from some goroutines while it
// runs, does more, and closes it.
func (w *worker) session(dir string, n int, more func(q *queue.Queue)) error {
	q, err := queue.Open(queue.Options{Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), RetryFirst: time.Hour, RetryMax: time.Hour, DrainTime: time.Second})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- q.Run(ctx, w) }()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range n / 4 {
				w.put(q)
			}
		})
	}
	wg.Wait()
	if more != nil {
		more(q)
	}
	w.lookForGone(q)
	cancel()
	return errors.Join(<-ran, q.Close())
}

// work is the traced process: sessions with restarts between them, among
// them one that leaves the database more than half free.
func work(dir, plan string) int {
	w := &worker{}
	if plan == "faults" { // its errors are expected
		if err := w.session(dir, 60, nil); err != nil {
			say("refused -1 %v", err)
		}
		return 0
	}
	err := errors.Join(
		w.session(dir, 40, nil),
		w.session(dir, 8, func(q *queue.Queue) {
			var ids []string
			for i := range 60 { // the largest that are inline
				w.putNumber(q, 7000+4+7*i)
			}
			for _, id := range w.ids {
				say("remove %s", id)
				ids = append(ids, id)
			}
			if _, err := q.Remove(queue.Filter{IDs: ids}); err != nil && !errors.Is(err, queue.ErrNotFound) {
				say("remove failed: %v", err)
			}
			q.ForgetDrops(func(key string) bool { return len(key)%2 == 0 })
		}),
		w.session(dir, 20, func(q *queue.Queue) {
			if _, err := q.Hold(queue.Filter{All: true}); err != nil {
				say("hold failed: %v", err)
			}
		}),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
