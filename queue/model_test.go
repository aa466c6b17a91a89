package queue

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// model is what a queue should hold, kept the simplest way.
type model struct {
	t        *rapid.T
	dir      string
	q        *Queue
	mu       sync.Mutex
	rnd      *rand.Rand
	messages map[string]*modelMessage
	drops    map[string]string
	ended    map[string]bool // "id address": never to be attempted again
	bounces  int             // notices composed and not yet seen queued
	resting  map[string]bool // destinations that were unreachable in this run
}

type modelMessage struct {
	sender  string
	content string
	rcpts   map[string]*modelRecipient
}

type modelRecipient struct {
	held     bool
	attempts int
}

func (m *model) Destination(a string) string { return domainOf(a) }

func (m *model) Notice(item *Item, kind NoticeKind, about []Result) *Notice {
	if kind != NoticeFailure || item.Envelope.Sender == "" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bounces++
	return &Notice{Envelope: envelope("", item.Envelope.Sender), Content: []byte("about " + item.ID)}
}

// Deliver draws an outcome for each recipient and keeps the model's book.
func (m *model) Deliver(_ context.Context, item *Item, report func(Result)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.messages[item.ID] == nil {
		m.adopt(item.ID, item.Envelope.Sender, item.Recipients[0].Address)
	}
	for _, r := range item.Recipients {
		rec := m.messages[item.ID].rcpts[r.Address]
		if rec == nil || rec.held || m.ended[item.ID+" "+r.Address] {
			m.t.Errorf("%s %s was attempted, and is %+v", item.ID, r.Address, rec)
			continue
		}
		rec.attempts++
		res := Result{Index: r.Index, Reason: "because", Reply: "some", Outcome: Outcome(m.rnd.IntN(4))}
		switch {
		case m.rnd.IntN(8) == 0:
			continue // no report
		case res.Outcome == Later && m.rnd.IntN(3) == 0:
			res.Greylisted = true
		case res.Outcome == Later && m.rnd.IntN(3) == 0:
			// Other mail to the destination counts an attempt as well: the book
			// holds the least there must be.
			res.Reply, res.Unreachable = "", true
			m.resting[item.Destination] = true
		case res.Outcome == Delivered || res.Outcome == Failed:
			m.end(item.ID, r.Address)
		case res.Outcome == Held:
			rec.held = true
		}
		report(res)
	}
}

// adopt takes a bounce that came in a run into the book.
func (m *model) adopt(id, sender, to string) {
	if sender != "" {
		m.t.Errorf("%s from %s is in the queue and was never put", id, sender)
	}
	m.messages[id] = &modelMessage{rcpts: map[string]*modelRecipient{to: {}}}
	m.bounces--
}

func (m *model) end(id, address string) {
	m.ended[id+" "+address] = true
	delete(m.messages[id].rcpts, address)
	if len(m.messages[id].rcpts) == 0 {
		delete(m.messages, id)
	}
}

// check compares the queue with the book.
func (m *model) check(after string) {
	list, err := m.q.List(context.Background(), Filter{})
	if err != nil {
		m.t.Fatal(err)
	}
	if len(list) != len(m.messages) {
		m.t.Fatalf("after %s: %d messages, the book has %d", after, len(list), len(m.messages))
	}
	files := 0
	for _, s := range list {
		want := m.messages[s.QueueID]
		if want == nil || want.sender != s.Sender || len(want.rcpts) != len(s.Recipients) {
			m.t.Fatalf("after %s: %+v, the book has %+v", after, s, want)
		}
		for _, r := range s.Recipients {
			rec := want.rcpts[r.Address]
			if rec == nil || rec.held != (r.State == "held") || r.Attempts < rec.attempts {
				m.t.Fatalf("after %s: %s %+v, the book has %+v", after, s.QueueID, r, rec)
			}
		}
		var b bytes.Buffer
		if err := m.q.Cat(s.QueueID, &b); err != nil || want.content != "" && b.String() != want.content {
			m.t.Fatalf("after %s: content of %s is altered (%v)", after, s.QueueID, err)
		}
		files += btoi(s.MessageSize > inlineLimit)
	}
	if got := len(contentFiles(m.t, m.q)); got != files {
		m.t.Fatalf("after %s: %d content files, want %d", after, got, files)
	}
}

func (m *model) put() {
	size := rapid.SampledFrom([]int{1, 500, 5000, inlineLimit, inlineLimit + 1, 100_000}).Draw(m.t, "size")
	e := envelope(rapid.SampledFrom([]string{"", "s@a.example", "s@b.example"}).Draw(m.t, "sender"))
	msg := &modelMessage{sender: e.Sender, content: strings.Repeat("c", size), rcpts: map[string]*modelRecipient{}}
	for i := range rapid.IntRange(1, 5).Draw(m.t, "recipients") {
		r := Recipient{Address: fmt.Sprintf("r%d@%s.example", i, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(m.t, "domain"))}
		if rapid.IntRange(0, 9).Draw(m.t, "held") == 0 {
			r.Hold = "held from the start"
		}
		e.Recipients = append(e.Recipients, r)
		msg.rcpts[r.Address] = &modelRecipient{held: r.Hold != ""}
	}
	e.DropKey = rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(m.t, "drop key")
	id, err := m.q.Put(context.Background(), e, strings.NewReader(msg.content))
	if err != nil {
		m.t.Fatal(err)
	}
	if before := m.drops[e.DropKey]; e.DropKey != "" && before != "" {
		if id != before {
			m.t.Fatalf("drop key %s gave %s, before %s", e.DropKey, id, before)
		}
		return
	}
	if m.messages[id] != nil {
		m.t.Fatalf("id %s was given twice", id)
	}
	m.messages[id] = msg
	if e.DropKey != "" {
		m.drops[e.DropKey] = id
	}
}

func (m *model) run() {
	m.resting = map[string]bool{}
	time.Sleep(time.Duration(rapid.IntRange(0, 15).Draw(m.t, "seconds")) * time.Second)
	if err := m.q.RunUntilIdle(context.Background(), m, 0); err != nil {
		m.t.Fatal(err)
	}
	list, err := m.q.List(context.Background(), Filter{})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range list {
		if m.messages[s.QueueID] == nil { // found its destination known to be unreachable
			m.adopt(s.QueueID, s.Sender, s.Recipients[0].Address)
		}
		for _, r := range s.Recipients {
			if r.State == "running" || r.State == "ready" && !m.resting[domainOf(r.Address)] {
				m.t.Fatalf("%s %s is %s after the run", s.QueueID, r.Address, r.State)
			}
		}
	}
	if m.bounces != 0 {
		m.t.Fatalf("%d bounces were composed and are not in the queue", m.bounces)
	}
}

func (m *model) verb() {
	var ids []string
	for id := range m.messages {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	f := Filter{}
	switch rapid.IntRange(0, 3).Draw(m.t, "selection") {
	case 0:
		f.All = true
	case 1:
		f.Domain = rapid.SampledFrom([]string{"a.example", "b.example"}).Draw(m.t, "domain")
	case 2:
		f.Sender = rapid.SampledFrom([]string{"<>", "s@a.example"}).Draw(m.t, "sender")
	default:
		if len(ids) == 0 {
			return
		}
		f.IDs = []string{rapid.SampledFrom(ids).Draw(m.t, "id")}
	}
	name := rapid.SampledFrom([]string{"retry", "hold", "release", "remove"}).Draw(m.t, "verb")
	if _, err := verbs(m.q)[name](f); err != nil {
		m.t.Fatal(err)
	}
	for _, id := range ids {
		msg := m.messages[id]
		for address, rec := range msg.rcpts {
			if f.Domain != "" && domainOf(address) != f.Domain || f.Sender != "" && "<"+msg.sender+">" != "<"+strings.Trim(f.Sender, "<>")+">" ||
				len(f.IDs) > 0 && f.IDs[0] != id {
				continue
			}
			switch name {
			case "hold":
				rec.held = true
			case "release":
				rec.held = false
			case "remove":
				m.end(id, address)
			}
		}
	}
}

// modelOptions lets hours of retries pass in a minute.
func modelOptions(dir string) Options {
	return Options{Dir: dir, WarnAfter: -1, RetryFirst: 2 * time.Second, RetryMax: 20 * time.Second}
}

func (m *model) reopen() {
	if err := m.q.Close(); err != nil {
		m.t.Fatal(err)
	}
	q, err := Open(modelOptions(m.dir))
	if err != nil {
		m.t.Fatal(err)
	}
	m.q = q
}

// TestModel compares the queue with a model of it through random sequences of
// everything one can do to it.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A bubble has no deadline to ask t for, and rapid ends after a day of it.
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) {
			dir := memoryDir(t)
			q, err := Open(modelOptions(dir))
			if err != nil {
				rt.Fatal(err)
			}
			m := &model{t: rt, dir: dir, q: q, messages: map[string]*modelMessage{}, drops: map[string]string{}, ended: map[string]bool{},
				rnd: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))}
			defer func() { m.q.Close() }()
			rt.Repeat(map[string]func(*rapid.T){
				"put":    func(*rapid.T) { m.put() },
				"put2":   func(*rapid.T) { m.put() },
				"run":    func(*rapid.T) { m.run() },
				"verb":   func(*rapid.T) { m.verb() },
				"reopen": func(*rapid.T) { m.reopen() },
				"forget": func(*rapid.T) {
					m.q.ForgetDrops(func(key string) bool { return key != "k1" })
					delete(m.drops, "k1")
				},
				"": func(*rapid.T) { m.check("a step") },
			})
		})
	})
}
