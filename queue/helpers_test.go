package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustOpen opens a queue in a directory of its own, or in o.Dir, and closes
// it with the test.
func mustOpen(t testing.TB, o Options) *Queue {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	q, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return q
}

func envelope(sender string, to ...string) Envelope {
	e := Envelope{Sender: sender}
	for _, a := range to {
		e.Recipients = append(e.Recipients, Recipient{Address: a})
	}
	return e
}

func mustPut(t testing.TB, q *Queue, e Envelope, content string) string {
	t.Helper()
	id, err := q.Put(context.Background(), e, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// domainOf is the destination of an address in tests.
func domainOf(address string) string {
	_, d := cutAddress(address)
	return strings.ToLower(d)
}

// outside is a Handler that remembers what it was asked.
type outside struct {
	// deliver decides each recipient; nil delivers.
	deliver func(item *Item, r ItemRecipient) Result
	// hold, when set, is called first, outside of the lock.
	before func(ctx context.Context, item *Item)
	notice func(item *Item, kind NoticeKind, about []Result) *Notice

	mu       sync.Mutex
	attempts []attemptSeen
	notices  []noticeSeen
	content  map[string]string // of what was delivered
}

type attemptSeen struct {
	id, dest, to string
	at           time.Time
	before       int
}

type noticeSeen struct {
	id    string
	kind  NoticeKind
	about []Result
	at    time.Time
}

func (o *outside) Destination(a string) string { return domainOf(a) }

func (o *outside) Deliver(ctx context.Context, item *Item, report func(Result)) {
	if o.before != nil {
		o.before(ctx, item)
	}
	f, err := item.Open()
	if err != nil {
		for _, r := range item.Recipients {
			report(Result{Index: r.Index, Outcome: Later, Reason: err.Error()})
		}
		return
	}
	b, err := io.ReadAll(f)
	f.Close()
	for _, r := range item.Recipients {
		res := Result{Outcome: Delivered, Reply: "250 ok"}
		o.mu.Lock()
		o.attempts = append(o.attempts, attemptSeen{item.ID, item.Destination, r.Address, time.Now(), item.Attempts})
		if o.deliver != nil {
			res = o.deliver(item, r)
		}
		if res.Outcome == Delivered && err == nil {
			if o.content == nil {
				o.content = map[string]string{}
			}
			o.content[item.ID+" "+r.Address] += string(b)
		}
		o.mu.Unlock()
		res.Index = r.Index
		report(res)
	}
}

func (o *outside) Notice(item *Item, kind NoticeKind, about []Result) *Notice {
	o.mu.Lock()
	o.notices = append(o.notices, noticeSeen{item.ID, kind, about, time.Now()})
	o.mu.Unlock()
	if o.notice != nil {
		return o.notice(item, kind, about)
	}
	if item.Envelope.Sender == "" || kind == NoticeSuccess {
		return nil
	}
	return &Notice{Envelope: envelope("", item.Envelope.Sender), Content: []byte("Subject: about " + item.ID + "\r\n\r\n")}
}

func (o *outside) times() (at []time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.attempts {
		at = append(at, a.at)
	}
	return at
}

// runAll runs until nothing is running or due within horizon.
func runAll(t testing.TB, q *Queue, h Handler, horizon time.Duration) {
	t.Helper()
	if err := q.RunUntilIdle(context.Background(), h, horizon); err != nil {
		t.Fatal(err)
	}
}

func mustList(t testing.TB, q *Queue, f Filter) []Summary {
	t.Helper()
	list, err := q.List(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// logTo collects a log as text.
func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
