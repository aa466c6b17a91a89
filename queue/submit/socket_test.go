package submit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danepost/queue"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveTest runs a server for a test and returns a client of it.
func serveTest(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	ln, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln, path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there after the server ended")
		}
	})
	return &Client{Path: path}
}

// TestCommandLineToQueue is the whole way of `sendmail -t -i -f`.
func TestCommandLineToQueue(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	client := serveTest(t, &Server{Gate: gate})
	args, err := ParseArgs([]string{"sendmail", "-t", "-i", "-f", "bounce@example.org", "extra@example.net"})
	if err != nil {
		t.Fatal(err)
	}
	in := "From: a@example.org\nTo: b@example.net\nBcc: hidden@example.net\nSubject: x\n\n.\nbody\n"
	r, err := client.Submit(context.Background(), args.Request(""), strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	m := q.last(t)
	if m.id != r.ID {
		t.Errorf("answered id %q, queued %q", r.ID, m.id)
	}
	if m.env.Sender != "bounce@example.org" || addresses(m.env) != "extra@example.net b@example.net hidden@example.net" {
		t.Errorf("envelope %+v", m.env)
	}
	if strings.Contains(m.body, "hidden") {
		t.Error("a Bcc address is in the content")
	}
	if !strings.HasSuffix(m.body, "\r\n\r\n.\r\nbody\r\n") {
		t.Errorf("content %q", m.body)
	}
	if m.env.UID != uint32(os.Getuid()) {
		t.Errorf("uid %d", m.env.UID)
	}
}

// TestRealQueue does the same with the queue itself, over the socket and as
// its owner, and asks for it as an operator.
func TestRealQueue(t *testing.T) {
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "queue")})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	gate := NewGate(testPolicy(t), Deps{Queue: q})
	client := serveTest(t, &Server{Gate: gate, Operator: q})
	ctx := context.Background()
	in := "From: a@example.org\nTo: b@example.net\nBcc: hidden@example.net\n\nbody\n"
	args, err := ParseArgs([]string{"sendmail", "-t", "-i", "-fbounce@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	r := args.Request("")
	r.Key = NewKey(time.Now(), uint32(os.Getuid()))
	over, err := client.Submit(ctx, r, strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.Submit(ctx, r, strings.NewReader(in))
	if err != nil || again.ID != over.ID {
		t.Errorf("the same key again: %q, %v; want %q", again.ID, err, over.ID)
	}
	if _, err := gate.Accept(ctx, args.Request(""), alice, strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	list, err := client.List(ctx, queue.Filter{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d messages listed, %v; want 2", len(list), err)
	}
	for _, s := range list {
		var body bytes.Buffer
		if err := client.Cat(ctx, s.QueueID, &body); err != nil {
			t.Fatal(err)
		}
		checkWire(t, body.String())
		if strings.Contains(body.String(), "hidden") {
			t.Error("a Bcc address is in the content")
		}
		if s.Sender != "bounce@example.org" || len(s.Recipients) != 2 {
			t.Errorf("listed %+v", s)
		}
	}
	if d, err := client.Show(ctx, over.ID); err != nil || d.QueueID != over.ID {
		t.Errorf("show: %+v, %v", d, err)
	}
	if done, err := client.Hold(ctx, queue.Filter{IDs: []string{over.ID}}); err != nil || len(done) != 1 {
		t.Errorf("hold: %+v, %v", done, err)
	}
	if done, err := client.Release(ctx, queue.Filter{IDs: []string{over.ID}}); err != nil || len(done) != 2 {
		t.Errorf("release: %+v, %v", done, err)
	}
	if _, err := client.Remove(ctx, queue.Filter{}); ExitCode(err) != ExitUsage {
		t.Errorf("remove with nothing selected: %v", err)
	}
	if done, err := client.Remove(ctx, queue.Filter{All: true}); err != nil || len(done) != 2 {
		t.Errorf("remove: %+v, %v", done, err)
	}
	if _, err := client.Show(ctx, over.ID); ExitCode(err) != ExitUsage {
		t.Errorf("show of a removed message: %v", err)
	}
}
