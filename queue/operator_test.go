package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// threeMessages fills a queue: one to two domains, one bounce, one of another user.
func threeMessages(t *testing.T, q *Queue) (ids [3]string) {
	ids[0] = mustPut(t, q, envelope("Alice@a.example", "one@x.example", "two@Y.example"), "first")
	ids[1] = mustPut(t, q, envelope("", "three@x.example"), "second")
	e := envelope("carol@c.example", "one@x.example")
	e.UID, e.DropKey = 1000, "k"
	ids[2] = mustPut(t, q, e, strings.Repeat("third", 20_000))
	return ids
}

func TestFilter(t *testing.T) {
	q := mustOpen(t, Options{})
	ids := threeMessages(t, q)
	uid := uint32(1000)
	for name, c := range map[string]struct {
		f    Filter
		want string // numbers of messages with their selected recipients
	}{
		"nothing":          {Filter{}, "0:one,two 1:three 2:one"},
		"all":              {Filter{All: true}, "0:one,two 1:three 2:one"},
		"id":               {Filter{IDs: []string{ids[2]}}, "2:one"},
		"id twice":         {Filter{IDs: []string{ids[2], strings.ToLower(ids[2])}}, "2:one"},
		"sender":           {Filter{Sender: "alice@A.example"}, "0:one,two"},
		"sender, brackets": {Filter{Sender: "<alice@a.example>"}, "0:one,two"},
		"null sender":      {Filter{Sender: "<>"}, "1:three"},
		"recipient":        {Filter{Recipient: "ONE@x.example"}, "0:one 2:one"},
		"part of one":      {Filter{Recipient: "one@x"}, ""},
		"domain":           {Filter{Domain: "y.example"}, "0:two"},
		"both":             {Filter{Domain: "x.example", Sender: "<>"}, "1:three"},
		"user":             {Filter{UID: &uid}, "2:one"},
		"drop key":         {Filter{DropKey: "k"}, "2:one"},
		"no such drop key": {Filter{DropKey: "j"}, ""},
		"substring":        {Filter{Recipient: "e@x.exa", Substring: true}, "0:one 1:three 2:one"},
		"substring sender": {Filter{Sender: "ALICE", Substring: true}, "0:one,two"},
		"substring id":     {Filter{IDs: []string{ids[1][1:]}, Substring: true}, "1:three"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range mustList(t, q, c.f) {
				var to []string
				for _, r := range s.Recipients {
					to = append(to, strings.SplitN(r.Address, "@", 2)[0])
				}
				got = append(got, string('0'+byte(slices.Index(ids[:], s.QueueID)))+":"+strings.Join(to, ","))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

func TestUnknownID(t *testing.T) {
	q := mustOpen(t, Options{})
	ids := threeMessages(t, q)
	if _, err := q.Show("NOPE"); !errors.Is(err, ErrNotFound) {
		t.Errorf("show: %v", err)
	}
	if err := q.Cat("../../etc/passwd", &bytes.Buffer{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("cat: %v", err)
	}
	done, err := q.Hold(Filter{IDs: []string{"NOPE", ids[1]}})
	if !errors.Is(err, ErrNotFound) || len(done) != 1 || done[0].QueueID != ids[1] {
		t.Errorf("hold: %v, %v; the one that exists must be held", done, err)
	}
	other := uint32(1000)
	if list, err := q.List(context.Background(), Filter{IDs: []string{ids[0]}, UID: &other}); !errors.Is(err, ErrNotFound) || len(list) != 0 {
		t.Errorf("another user's message: %v, %v", list, err)
	}
	for name, verb := range verbs(q) {
		if _, err := verb(Filter{}); !errors.Is(err, ErrNoFilter) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

func verbs(q *Queue) map[string]func(Filter) ([]Done, error) {
	return map[string]func(Filter) ([]Done, error){"retry": q.Retry, "hold": q.Hold, "release": q.Release, "remove": q.Remove}
}

func TestVerbs(t *testing.T) {
	q := mustOpen(t, Options{})
	ids := threeMessages(t, q)
	h := &outside{deliver: func(*Item, ItemRecipient) Result { return Result{Outcome: Later, Reason: "busy", Reply: "450 busy"} }}
	runAll(t, q, h, 0)
	names := func() (s []string) {
		for _, m := range mustList(t, q, Filter{}) {
			s = append(s, m.QueueName)
		}
		return s
	}
	if got := names(); !slices.Equal(got, []string{"deferred", "deferred", "deferred"}) {
		t.Errorf("after an attempt: %q", got)
	}
	done, err := q.Hold(Filter{Domain: "x.example"})
	if err != nil || len(done) != 3 || done[0].Did != "held" || !slices.Equal(done[0].Recipients, []string{"one@x.example"}) || done[0].Left != 2 {
		t.Errorf("hold: %+v, %v", done, err)
	}
	if got := names(); !slices.Equal(got, []string{"deferred", "hold", "hold"}) {
		t.Errorf("held: %q", got)
	}
	if done, err = q.Kick(Filter{}); err != nil || len(done) != 1 || done[0].Recipients[0] != "two@Y.example" {
		t.Errorf("kick: %+v, %v", done, err)
	}
	if done, err = q.Release(Filter{All: true}); err != nil || len(done) != 3 {
		t.Errorf("release: %+v, %v", done, err)
	}
	if done, err = q.Remove(Filter{Recipient: "one@x.example"}); err != nil || len(done) != 2 || done[0].Left != 1 || done[1].Left != 0 {
		t.Errorf("remove: %+v, %v", done, err)
	}
	if list := mustList(t, q, Filter{}); len(list) != 2 || list[0].QueueID != ids[0] || len(list[0].Recipients) != 1 {
		t.Errorf("left: %+v", list)
	}
	if files := contentFiles(t, q); len(files) != 0 {
		t.Errorf("content of a removed message stays: %q", files)
	}
	h.deliver = nil
	runAll(t, q, h, 0)
	if got := names(); len(got) != 0 {
		t.Errorf("released and retried mail stays: %q", got)
	}
}

func TestShowAndCat(t *testing.T) {
	q := mustOpen(t, Options{})
	ids := threeMessages(t, q)
	n := 0
	h := &outside{deliver: func(*Item, ItemRecipient) Result {
		n++
		return Result{Outcome: Later, Reason: "busy", Reply: "450 busy", DSN: "4.3.2", Host: "mx.x.example"}
	}}
	for range historyKept + 2 {
		runAll(t, q, h, 0)
		if _, err := q.Retry(Filter{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := q.Show(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if d.Attempts != historyKept+2 || len(d.History) != 2 || len(d.History[0].Attempts) != historyKept || d.Envelope.Sender != "Alice@a.example" || d.Stored != "inline" {
		t.Errorf("show: %+v", d)
	}
	if a := d.History[1].Attempts[0]; a.Reason != "busy" || a.Host != "mx.x.example" || a.Reply != "450 busy" || a.DSN != "4.3.2" || a.At.IsZero() {
		t.Errorf("history: %+v", a)
	}
	for i, want := range []string{"first", "second", strings.Repeat("third", 20_000)} {
		var b bytes.Buffer
		if err := q.Cat(strings.ToLower(ids[i]), &b); err != nil || b.String() != want {
			t.Errorf("cat %d: %d bytes, %v", i, b.Len(), err)
		}
	}
}

// TestListJSON pins the names others rely on.
func TestListJSON(t *testing.T) {
	q := mustOpen(t, Options{Now: func() time.Time { return time.Unix(1_790_000_000, 0) }})
	id := mustPut(t, q, envelope("s@a.example", "r@b.example"), "body")
	got, err := json.Marshal(mustList(t, q, Filter{})[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"queue_name":"incoming","queue_id":"` + id + `","arrival_time":1790000000,"message_size":4,"sender":"s@a.example",` +
		`"recipients":[{"address":"r@b.example","delay_reason":"","state":"ready","attempts":0,"next_attempt":`
	if !strings.HasPrefix(string(got), want) {
		t.Errorf("got  %s\nwant %s...", got, want)
	}
}

// TestVerbsWhileRunning acts on a message whose delivery is under way.
func TestVerbsWhileRunning(t *testing.T) {
	for name, c := range map[string]struct {
		verb    func(*Queue, Filter) ([]Done, error)
		outcome Outcome
		left    string // queue name afterwards; "" when it is gone
	}{
		"hold, later":       {(*Queue).Hold, Later, "hold"},
		"hold, delivered":   {(*Queue).Hold, Delivered, ""},
		"remove, later":     {(*Queue).Remove, Later, ""},
		"remove, delivered": {(*Queue).Remove, Delivered, ""},
		"remove, failed":    {(*Queue).Remove, Failed, ""},
		"retry, later":      {(*Queue).Retry, Later, "deferred"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := mustOpen(t, Options{})
				id := mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
				h := &outside{
					before:  func(context.Context, *Item) { time.Sleep(time.Minute) },
					deliver: func(*Item, ItemRecipient) Result { return Result{Outcome: c.outcome, Reason: "because"} },
					notice:  func(*Item, NoticeKind, []Result) *Notice { return nil },
				}
				done := make(chan error)
				go func() { done <- q.RunUntilIdle(context.Background(), h, 0) }()
				time.Sleep(time.Second)
				if list := mustList(t, q, Filter{}); len(list) != 1 || list[0].QueueName != "active" || list[0].Recipients[0].State != "running" {
					t.Errorf("while running: %+v", list)
				}
				if _, err := c.verb(q, Filter{IDs: []string{id}}); err != nil {
					t.Error(err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				got := ""
				for _, m := range mustList(t, q, Filter{}) {
					got = m.QueueName
				}
				if got != c.left {
					t.Errorf("afterwards %q, want %q", got, c.left)
				}
				if len(h.attempts) > 1 {
					t.Errorf("%d attempts", len(h.attempts))
				}
				q.Close()
			})
		})
	}
}

// TestVerbWakesScheduler: what an operator retries or releases is tried at
// once, although its destination was just found unreachable.
func TestVerbWakesScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		id := mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
		h := &outside{deliver: func(*Item, ItemRecipient) Result {
			return Result{Outcome: Later, Reason: "no route", Unreachable: true}
		}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- q.Run(ctx, h) }()
		for i, verb := range []func(Filter) ([]Done, error){nil, q.Retry, q.Hold, q.Release} {
			if verb != nil {
				if _, err := verb(Filter{IDs: []string{id}}); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Second)
			if got, want := len(h.times()), []int{1, 2, 2, 3}[i]; got != want {
				t.Errorf("after verb %d: %d attempts, want %d", i, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
	})
}

// TestListedRest: new mail to a destination that was just found unreachable
// says what it waits for, and when it is tried.
func TestListedRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mustOpen(t, Options{})
		h := &outside{deliver: func(*Item, ItemRecipient) Result {
			return Result{Outcome: Later, Reason: "connection refused", Unreachable: true}
		}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- q.Run(ctx, h) }()
		mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
		time.Sleep(10 * time.Second)
		id := mustPut(t, q, envelope("s@a.example", "other@b.example"), "x")
		time.Sleep(time.Second)
		s := mustList(t, q, Filter{IDs: []string{id}})[0]
		r := s.Recipients[0]
		if wait := s.NextAttempt - time.Now().Unix(); wait < 18 || wait > 20 || r.NextAttempt != s.NextAttempt {
			t.Errorf("next attempt in %d s, want about 19", wait)
		}
		if r.State != "waiting" || r.Attempts != 0 || r.DelayReason != "its destination could not be reached a moment ago: connection refused" {
			t.Errorf("listed as %+v", r)
		}
		if _, err := q.Retry(Filter{IDs: []string{id}}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if s := mustList(t, q, Filter{IDs: []string{id}})[0]; s.Attempts != 1 || s.Recipients[0].DelayReason != "connection refused" {
			t.Errorf("after a retry: %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
	})
}
