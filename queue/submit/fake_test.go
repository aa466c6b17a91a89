package submit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/queue"
)

// memQueue keeps what is put, in memory, and keeps the queue's promise about
// keys.
type memQueue struct {
	mu   sync.Mutex
	msgs []memMessage
	ids  int
	fail error
}

type memMessage struct {
	id   string
	env  queue.Envelope
	body string
}

func (q *memQueue) NewID() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids++
	return fmt.Sprintf("Q%d", q.ids)
}

func (q *memQueue) Put(_ context.Context, env queue.Envelope, content io.Reader) (string, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return "", err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fail != nil {
		return "", q.fail
	}
	for _, m := range q.msgs {
		if env.DropKey != "" && m.env.DropKey == env.DropKey {
			return m.id, nil
		}
	}
	q.msgs = append(q.msgs, memMessage{env.ID, env, string(b)})
	return env.ID, nil
}

func (q *memQueue) all() []memMessage {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]memMessage(nil), q.msgs...)
}

func (q *memQueue) last(t *testing.T) memMessage {
	t.Helper()
	all := q.all()
	if len(all) == 0 {
		t.Fatal("nothing was queued")
	}
	return all[len(all)-1]
}

var errFull = errors.New("no room")

var testTime = time.Date(2026, 11, 7, 9, 30, 0, 0, time.FixedZone("", 3600))

func testPolicy(t *testing.T) Policy {
	return Policy{Hostname: "host.example.com", SpoolDir: t.TempDir(), ConfigFile: "/etc/danepost.toml", Postmaster: "admin@example.net"}
}

func testGate(t *testing.T, p Policy) (*Gate, *memQueue) {
	q := &memQueue{}
	return NewGate(p, Deps{Queue: q, Now: func() time.Time { return testTime }}), q
}

var alice = Source{UID: 1000, User: "alice", Gecos: "Alice Doe"}

func to(words ...string) []Recipient {
	var rs []Recipient
	for _, w := range words {
		rs = append(rs, Recipient{Text: w})
	}
	return rs
}

func addresses(env queue.Envelope) string {
	var a []string
	for _, r := range env.Recipients {
		a = append(a, r.Address)
	}
	return strings.Join(a, " ")
}

func (discardQueue) NewID() string { return "Q0" }

func (discardQueue) Put(_ context.Context, _ queue.Envelope, content io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{content})
	return "Q0", err
}
