package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestPutDeliver(t *testing.T) {
	for _, size := range []int{0, 1, 4096, inlineLimit, inlineLimit + 1, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			q := mustOpen(t, Options{})
			body := strings.Repeat("x", size)
			id := mustPut(t, q, envelope("s@a.example", "1@b.example", "2@b.example", "3@c.example"), body)
			if got, want := len(contentFiles(t, q)), btoi(size > inlineLimit); got != want {
				t.Errorf("%d content files, want %d", got, want)
			}
			h := &outside{}
			runAll(t, q, h, 0)
			for _, to := range []string{"1@b.example", "2@b.example", "3@c.example"} {
				if h.content[id+" "+to] != body {
					t.Errorf("%s got %d bytes, want %d", to, len(h.content[id+" "+to]), size)
				}
			}
			if list := mustList(t, q, Filter{}); len(list) != 0 {
				t.Errorf("still queued: %+v", list)
			}
			if files := contentFiles(t, q); len(files) != 0 {
				t.Errorf("files left: %q", files)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func contentFiles(t interface {
	Helper()
	Fatal(...any)
}, q *Queue) (names []string) {
	t.Helper()
	list, err := os.ReadDir(q.body.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestEnvelopeKept pins that every field of an envelope comes back, after a
// restart as well, bytes that are no UTF-8 included.
func TestEnvelopeKept(t *testing.T) {
	dir := t.TempDir()
	q := mustOpen(t, Options{Dir: dir})
	in := Envelope{
		Sender: "b\xe4r@a.example", Body: "8BITMIME", SMTPUTF8: true, RequireTLS: true, Ret: "HDRS", EnvID: "a b+\x00",
		UID: 4294967295, DropKey: "k", DateUnset: true, ID: q.NewID(),
		Recipients: []Recipient{{Address: "\xff@b.example", Notify: "SUCCESS,DELAY", ORcpt: "rfc822;x@y"}},
	}
	if id := mustPut(t, q, in, "body"); id != in.ID {
		t.Errorf("queued as %s, wanted %s", id, in.ID)
	}
	q.Close()
	q = mustOpen(t, Options{Dir: dir})
	h := &outside{before: func(_ context.Context, item *Item) {
		got := item.Envelope
		got.ID = item.ID
		for _, r := range item.Recipients {
			got.Recipients = append(got.Recipients, r.Recipient)
		}
		if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", in) {
			t.Errorf("got  %#v\nwant %#v", got, in)
		}
	}}
	runAll(t, q, h, 0)
	if len(h.attempts) != 1 {
		t.Errorf("%d attempts", len(h.attempts))
	}
}

func TestPutRefuses(t *testing.T) {
	q := mustOpen(t, Options{MaxMessage: 100_000})
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	broken := errors.New("the source broke")
	big := strings.Repeat("x", 100_001)
	ok := envelope("s@a.example", "r@b.example")
	for name, c := range map[string]struct {
		ctx  context.Context
		env  Envelope
		body io.Reader
		want error
	}{
		"no recipients":       {context.Background(), envelope("s@a.example"), strings.NewReader("x"), nil},
		"cancelled":           {cancelled, ok, strings.NewReader("x"), context.Canceled},
		"too large":           {context.Background(), ok, strings.NewReader(big), ErrTooLarge},
		"reader fails, small": {context.Background(), ok, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), broken},
		"reader fails, large": {context.Background(), ok, io.MultiReader(strings.NewReader(big[:99_999]), iotest.ErrReader(broken)), broken},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := q.Put(c.ctx, c.env, c.body)
			if err == nil || id != "" || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("id %q, error %v, want %v", id, err, c.want)
			}
			if list := mustList(t, q, Filter{}); len(list) != 0 {
				t.Errorf("queued: %v", list)
			}
			if files := contentFiles(t, q); len(files) != 0 {
				t.Errorf("files left: %q", files)
			}
		})
	}
	if _, err := q.Put(context.Background(), ok, strings.NewReader(big[1:])); err != nil {
		t.Errorf("a message of exactly the limit: %v", err)
	}
}

func TestMinFree(t *testing.T) {
	q := mustOpen(t, Options{MinFree: 1 << 60})
	_, err := q.Put(context.Background(), envelope("s@a.example", "r@b.example"), strings.NewReader("x"))
	if !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

func TestDropKey(t *testing.T) {
	dir := t.TempDir()
	q := mustOpen(t, Options{Dir: dir})
	e := envelope("s@a.example", "r@b.example")
	e.DropKey = "drop.1"
	first := mustPut(t, q, e, "x")
	again := func() {
		t.Helper()
		if id := mustPut(t, q, e, "x"); id != first {
			t.Errorf("put again it is %s, was %s", id, first)
		}
	}
	again()
	runAll(t, q, &outside{}, 0)
	again() // it is delivered and gone, and still known
	q.Close()
	q = mustOpen(t, Options{Dir: dir})
	again()
	q.ForgetDrops(func(key string) bool { return true })
	again()
	q.ForgetDrops(func(key string) bool { return false })
	q.Close() // what was to be forgotten rides on the close
	q = mustOpen(t, Options{Dir: dir})
	if id := mustPut(t, q, e, "x"); id == first {
		t.Error("forgotten key still known")
	}
	if list := mustList(t, q, Filter{}); len(list) != 1 {
		t.Errorf("%d messages, want 1", len(list))
	}
}

// TestDropKeyConcurrent puts one key from many goroutines at once.
func TestDropKeyConcurrent(t *testing.T) {
	q := mustOpen(t, Options{})
	e := envelope("s@a.example", "r@b.example")
	e.DropKey = "k"
	ids := make(chan string)
	for range 20 {
		go func() {
			id, err := q.Put(context.Background(), e, strings.NewReader(strings.Repeat("x", 40_000)))
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	seen := map[string]bool{}
	for range 20 {
		seen[<-ids] = true
	}
	if len(seen) != 1 || len(mustList(t, q, Filter{})) != 1 || len(contentFiles(t, q)) != 1 {
		t.Errorf("ids %v, %d files", seen, len(contentFiles(t, q)))
	}
}

// TestBackoffTimes runs two recipients through days of refusals, in fake
// time, and looks at when they were tried.
func TestBackoffTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		mustPut(t, q, envelope("s@a.example", "slow@grey.example"), "x")
		n := 0
		h := &outside{deliver: func(item *Item, r ItemRecipient) Result {
			if n++; n == 1 {
				return Result{Outcome: Later, Reason: "come back", Greylisted: true}
			}
			if n < 8 {
				return Result{Outcome: Later, Reason: "busy", Reply: "450 busy"}
			}
			return Result{Outcome: Delivered, Reply: "250 ok"}
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
		defer cancel()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		at := h.times()
		want := []time.Duration{6, 10, 20, 40, 68, 68, 68}
		if len(at) != len(want)+1 {
			t.Fatalf("%d attempts, want %d", len(at), len(want)+1)
		}
		for i, w := range want {
			got := at[i+1].Sub(at[i])
			low, high := w*time.Minute, w*time.Minute*11/10
			if w == 68 {
				low, high = 61*time.Minute, 68*time.Minute
			}
			if got < low || got > high+time.Second {
				t.Errorf("wait %d is %v, want %v to %v", i+1, got, low, high)
			}
		}
		q.Close()
	})
}

// TestGivenUp follows a recipient that nobody takes: one warning after four
// hours, a bounce after five days in the transaction that ends it.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		start := time.Now()
		id := mustPut(t, q, envelope("s@a.example", "r@dead.example"), "x")
		h := &outside{deliver: func(item *Item, r ItemRecipient) Result {
			if r.Address == "s@a.example" {
				return Result{Outcome: Delivered, Reply: "250 ok"}
			}
			return Result{Outcome: Later, Reason: "no route", DSN: "4.4.1"}
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 7*24*time.Hour)
		defer cancel()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range h.notices {
			if n.id == id {
				got = append(got, fmt.Sprintf("%d %s", n.kind, n.about[0].DSN))
				after := n.at.Sub(start)
				low := map[NoticeKind]time.Duration{NoticeDelay: 4 * time.Hour, NoticeFailure: 120 * time.Hour}[n.kind]
				if after < low || after > low+70*time.Minute {
					t.Errorf("notice %d after %v, want %v", n.kind, after, low)
				}
			}
		}
		if want := []string{"1 4.4.1", "0 4.4.7"}; !slices.Equal(got, want) {
			t.Errorf("notices %q, want %q", got, want)
		}
		delivered := 0
		for key := range h.content {
			if strings.HasSuffix(key, " s@a.example") {
				delivered++
			}
		}
		if delivered != 2 {
			t.Errorf("%d notices delivered, want 2", delivered)
		}
		if list := mustList(t, q, Filter{}); len(list) != 0 {
			t.Errorf("still queued: %+v", list)
		}
		q.Close()
	})
}

// TestBounceExpires: a bounce nobody takes ends as well, and is not bounced
// unless its handler wants so.
func TestBounceExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		mustPut(t, q, envelope("s@dead.example", "r@b.example"), "x")
		h := &outside{deliver: func(item *Item, r ItemRecipient) Result {
			if item.Envelope.Sender == "" {
				return Result{Outcome: Later, Reason: "no route", Unreachable: true}
			}
			return Result{Outcome: Failed, Reason: "no such user", Reply: "550 no", DSN: "5.1.1"}
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 6*24*time.Hour)
		defer cancel()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		if list := mustList(t, q, Filter{}); len(list) != 0 {
			t.Errorf("still queued: %+v", list)
		}
		last := h.notices[len(h.notices)-1]
		if last.kind != NoticeFailure || last.about[0].DSN != "4.4.7" {
			t.Errorf("last notice %+v", last)
		}
		q.Close()
	})
}

// TestHeld: what is held stays, visibly, for as long as nobody releases it,
// and then has its whole life before it.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		e := envelope("s@a.example", "root", "r@b.example")
		e.Recipients[0].Hold = "no postmaster is configured"
		id := mustPut(t, q, e, "x")
		h := &outside{}
		ctx, cancel := context.WithTimeout(context.Background(), 30*24*time.Hour)
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		cancel()
		list := mustList(t, q, Filter{})
		if len(list) != 1 || list[0].QueueName != "hold" || list[0].Recipients[0].DelayReason != "no postmaster is configured" {
			t.Fatalf("list %+v", list)
		}
		if done, err := q.Retry(Filter{IDs: []string{id}}); err != nil || len(done) != 0 {
			t.Errorf("retry of a held one: %v %v", done, err)
		}
		if done, err := q.Release(Filter{IDs: []string{strings.ToLower(id)}}); err != nil || len(done) != 1 {
			t.Errorf("release: %v %v", done, err)
		}
		h.deliver = func(*Item, ItemRecipient) Result { return Result{Outcome: Later, Reason: "busy"} }
		ctx, cancel = context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		for _, n := range h.notices {
			if n.kind == NoticeFailure {
				t.Error("it expired on release")
			}
		}
		if len(mustList(t, q, Filter{})) != 1 {
			t.Error("it is gone")
		}
		q.Close()
	})
}

// TestLogLines: the queue logs what it decides itself, and only that; what
// was attempted is the handler's to log.
func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := mustOpen(t, Options{Log: logTo(&log), WarnAfter: -1, MaxAge: time.Hour})
		first := mustPut(t, q, envelope("s@a.example", "r@dead.example"), "x")
		other := mustPut(t, q, envelope("s@a.example", "r@dead.example"), "x")
		h := &outside{notice: func(*Item, NoticeKind, []Result) *Notice { return nil }, deliver: func(*Item, ItemRecipient) Result {
			return Result{Outcome: Later, Reason: "no route", Unreachable: true}
		}}
		runAll(t, q, h, 0)
		if s := log.String(); strings.Count(s, "msg=deferred") != 1 || !strings.Contains(s, "id="+other) || strings.Contains(s, "id="+first) {
			t.Errorf("after one attempt:\n%s", s)
		}
		for _, key := range []string{
			"id", "from", "to", "domain", "host", "address", "security", "tls", "match", "mx_status", "reply", "dsn", "attempts", "delay_ms", "reason",
		} {
			if !strings.Contains(log.String(), " "+key+"=") {
				t.Errorf("no key %s in\n%s", key, log.String())
			}
		}
		log.Reset()
		time.Sleep(2 * time.Hour)
		runAll(t, q, h, 0)
		if s := log.String(); strings.Count(s, "msg=bounced") != 2 || !strings.Contains(s, `reason="given up after 2 hours; the last attempt: no route"`) {
			t.Errorf("after its lifetime:\n%s", s)
		}
		q.Close()
	})
}

// TestNoticeInTransaction looks at the queue from within: while the notice is
// composed the recipient is still there, and when it is gone the bounce is.
func TestNoticeInTransaction(t *testing.T) {
	q := mustOpen(t, Options{})
	id := mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
	var whileComposing int
	h := &outside{
		deliver: func(item *Item, r ItemRecipient) Result {
			if item.ID == id {
				return Result{Outcome: Failed, Reason: "no", Reply: "550 no"}
			}
			return Result{Outcome: Held, Reason: "look at the bounce"}
		},
		notice: func(item *Item, kind NoticeKind, about []Result) *Notice {
			whileComposing = len(mustList(t, q, Filter{IDs: []string{id}}))
			return &Notice{Envelope: envelope("", item.Envelope.Sender), Content: []byte(strings.Repeat("b", 100_000))}
		},
	}
	runAll(t, q, h, 0)
	if whileComposing != 1 {
		t.Error("the recipient ended before its notice")
	}
	list := mustList(t, q, Filter{})
	if len(list) != 1 || list[0].Sender != "" || list[0].MessageSize != 100_000 || list[0].Recipients[0].Address != "s@a.example" {
		t.Errorf("list %+v", list)
	}
}

// TestNobodyToTell: a failure that the handler can tell nobody of, also one by
// age, does not vanish: it stays, held, with its reason.
func TestNobodyToTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := mustOpen(t, Options{MaxAge: time.Hour, WarnAfter: -1, Log: slog.New(slog.NewTextHandler(&log, nil))})
		id := mustPut(t, q, envelope("", "r@b.example", "never@b.example"), "x")
		h := &outside{
			deliver: func(_ *Item, r ItemRecipient) Result {
				if r.Address == "never@b.example" {
					return Result{Outcome: Failed, Reason: "no such user"}
				}
				return Result{Outcome: Later, Reason: "busy"}
			},
			notice: func(*Item, NoticeKind, []Result) *Notice { return &Notice{Hold: "nobody to tell"} },
		}
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Hour)
		defer cancel()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		list := mustList(t, q, Filter{IDs: []string{id}})
		if len(list) != 1 || list[0].QueueName != "hold" || len(list[0].Recipients) != 2 {
			t.Fatalf("list %+v, want both recipients held", list)
		}
		for i, want := range []string{"nobody to tell: given up after", "nobody to tell: no such user"} {
			if got := list[0].Recipients[i].DelayReason; !strings.HasPrefix(got, want) {
				t.Errorf("reason %q, want %q", got, want)
			}
		}
		q.Close()
		if s := log.String(); !strings.Contains(s, "msg=held") || strings.Contains(s, "msg=bounced") {
			t.Errorf("the log says:\n%s", s)
		}
	})
}

func TestUnreportedAndPanic(t *testing.T) {
	q := mustOpen(t, Options{})
	mustPut(t, q, envelope("s@a.example", "r@silent.example"), "x")
	mustPut(t, q, envelope("s@a.example", "r@panic.example"), "x")
	mustPut(t, q, envelope("s@a.example", "r@good.example"), "x")
	runAll(t, q, awkward{}, 0)
	list := mustList(t, q, Filter{})
	if len(list) != 2 {
		t.Fatalf("list %+v", list)
	}
	for i, want := range []string{"without an outcome", "internal error"} {
		if r := list[i].Recipients[0]; !strings.Contains(r.DelayReason, want) || r.Attempts != 1 {
			t.Errorf("%+v, want reason %q", r, want)
		}
	}
}

type awkward struct{}

func (awkward) Destination(a string) string                { return domainOf(a) }
func (awkward) Notice(*Item, NoticeKind, []Result) *Notice { return nil }
func (awkward) Deliver(_ context.Context, item *Item, report func(Result)) {
	switch item.Destination {
	case "panic.example":
		panic("handler bug")
	case "good.example":
		report(Result{Index: 0, Outcome: Delivered})
		report(Result{Index: 0, Outcome: Failed}) // the first one counts
		report(Result{Index: 9, Outcome: Failed}) // nobody
	}
}

// TestShutdown: a delivery under way when Run's context ends may finish, one
// that does not is told to stop, and what it did not do is no attempt.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{DrainTime: time.Minute})
		quick := mustPut(t, q, envelope("s@a.example", "r@quick.example"), "x")
		stuck := mustPut(t, q, envelope("s@a.example", "r@stuck.example"), "x")
		h := &stopping{outside: &outside{}}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := q.Run(ctx, h); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 70*time.Second {
			t.Errorf("shut down after %v, want 70s", took)
		}
		list := mustList(t, q, Filter{})
		if len(list) != 1 || list[0].QueueID != stuck || list[0].Attempts != 0 || list[0].QueueName != "incoming" {
			t.Errorf("%s must be delivered, %s untouched: %+v", quick, stuck, list)
		}
		q.Close()
	})
}

type stopping struct{ *outside }

func (s *stopping) Deliver(ctx context.Context, item *Item, report func(Result)) {
	if item.Destination == "stuck.example" {
		<-ctx.Done()
		return
	}
	time.Sleep(30 * time.Second)
	s.outside.Deliver(ctx, item, report)
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- q.Run(ctx, &outside{}) }()
		synctest.Wait()
		if err := q.Run(ctx, &outside{}); err == nil {
			t.Error("two runs at once")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
	})
}
