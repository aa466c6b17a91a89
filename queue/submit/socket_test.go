package submit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
