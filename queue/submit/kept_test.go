package submit

import (
	"bufio"
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// TestKeptConnection: messages go through one connection, which a server that
// ends does not wait for, and which is made anew for the next server.
func TestKeptConnection(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	path := filepath.Join(t.TempDir(), "s")
	client := &Client{Path: path, Keep: true}
	defer client.Close()
	for round := range 2 {
		ln, err := ListenSocket(path)
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- (&Server{Gate: gate}).Serve(ctx, ln, path) }()
		var first *net.UnixConn
		for range 3 {
			_, err := client.Submit(ctx, &Request{Recipients: to("b@example.net")}, strings.NewReader("\nx\n"))
			must(t, err)
			if len(client.idle) != 1 || first != nil && client.idle[0].UnixConn != first {
				t.Fatalf("round %d: %d connections are kept, or another one", round, len(client.idle))
			}
			first = client.idle[0].UnixConn
		}
		start := time.Now()
		cancel()
		must(t, <-done)
		if took := time.Since(start); took > drainTimeout/2 {
			t.Errorf("the server waited %v for a connection that is only kept", took)
		}
	}
	if n := len(q.all()); n != 6 {
		t.Errorf("%d messages queued, want 6", n)
	}
}

// TestRequestsInTurn: a refusal of a whole message leaves the connection, one
// in the middle of a message ends it.
func TestRequestsInTurn(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	client := serveTest(t, &Server{Gate: gate})
	c, err := net.Dial("unix", client.Path)
	must(t, err)
	defer c.Close()
	in := bufio.NewReader(c)
	good := &call{Version: wireVersion, Verb: verbSubmit, Request: &Request{Recipients: to("b@example.net")}}
	bad := &call{Version: wireVersion, Verb: verbSubmit, Request: &Request{Recipients: to("b@@example.net")}}
	for i, step := range []struct {
		call    *call
		content string
		code    int
	}{
		{good, "\nx\n", ExitOK},
		{bad, "\nx\n", ExitDataErr},
		{&call{Version: wireVersion, Verb: "dance"}, "", ExitNoPerm},
		{good, "\nx\n", ExitOK},
		{good, "\nx\x00\n", ExitDataErr},
	} {
		if step.code == ExitNoPerm && os.Geteuid() == 0 {
			step.code = ExitUnavailable
		}
		must(t, writeJSON(c, frameCall, step.call))
		if step.call.Verb == verbSubmit {
			// As for send: the server may have refused it before its end.
			if writeFrame(c, frameData, []byte(step.content)) == nil {
				writeFrame(c, frameEnd, nil)
			}
		}
		if _, err := receive(in, nil); ExitCode(err) != step.code {
			t.Errorf("step %d: %v, want code %d", i, err, step.code)
		}
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection is open after a message that was refused before its end")
	}
	if n := len(q.all()); n != 2 {
		t.Errorf("%d messages queued, want 2", n)
	}
}

// TestKnownUsers: a caller's name is that of the file as it is, but for a
// second.
func TestKnownUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := write(t, dir, "passwd", "alice:x:1000:1000::/:/bin/sh\n")
		var k knownUsers
		for range 2 {
			if s := k.source(1000, file); s.User != "alice" {
				t.Errorf("%+v", s)
			}
		}
		must(t, os.Rename(write(t, dir, "new", "carol:x:1000:1000::/:/bin/sh\nbob:x:1001:1000::/:/bin/sh\n"), file))
		if s := k.source(1001, file); s.User != "bob" {
			t.Errorf("a new user: %+v", s)
		}
		time.Sleep(usersLook)
		if s := k.source(1000, file); s.User != "carol" {
			t.Errorf("a second after the change: %+v", s)
		}
		must(t, os.Remove(file))
		time.Sleep(usersLook)
		if s := k.source(1000, file); s.User != "1000" {
			t.Errorf("without a file: %+v", s)
		}
	})
}

// TestFill compares the line ends a body gets with their definition, however
// the body is cut into reads.
func TestFill(t *testing.T) {
	ends := regexp.MustCompile("\r*\n|\r+")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		body := make([]byte, rnd.IntN(60))
		for i := range body {
			body[i] = "ab\r\n\r\n\xe4"[rnd.IntN(7)]
		}
		want := ends.ReplaceAll(body, []byte("\r\n"))
		if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
			want = append(want, "\r\n"...)
		}
		longest := 0
		for line := range bytes.SplitSeq(want, []byte("\r\n")) {
			longest = max(longest, len(line))
		}
		for name, s := range map[string]*spool{"whole": {}, "by bytes": {}} {
			var in = iotest.OneByteReader(bytes.NewReader(body))
			if name == "whole" {
				in = bytes.NewReader(body)
			}
			must(t, s.fill(in, 0, newFillBuffers()))
			if got := s.mem.Bytes(); !bytes.Equal(got, want) || s.longest != longest || s.eight != bytes.Contains(body, []byte("\xe4")) || s.size != int64(len(want)) {
				t.Fatalf("%q %s: %q, longest %d, eight %v, size %d; want %q, %d", body, name, got, s.longest, s.eight, s.size, want, longest)
			}
		}
	}
}
