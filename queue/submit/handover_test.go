package submit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHandover walks the ladder: which way a message takes, what is asked to
// run, and the exit code.
func TestHandover(t *testing.T) {
	small, large := "\nx\n", "\n"+strings.Repeat("x\n", replayable)
	broken := fmt.Errorf("%w: EOF", ErrBroken)
	refused := &Error{Code: ExitDataErr, Text: "NUL"}
	tests := []struct {
		name    string
		socket  error // what the socket answers; nil: accepted
		noSock  bool
		noDrop  bool
		drop    error
		owner   bool // the caller can start runs
		attempt Attempt
		in      string
		want    string // ways in order
		code    int
	}{
		{name: "daemon", want: "socket", in: small},
		{name: "daemon refuses", socket: refused, want: "socket", code: ExitDataErr, in: small},
		{name: "daemon full", socket: &Error{Code: ExitTempFail, Text: "full"}, want: "socket", code: ExitTempFail, in: small},
		{name: "daemon of another version", socket: &Error{Code: ExitUnavailable, Text: "version"}, want: "socket drop", in: small},
		{name: "daemon of another version, large", socket: &Error{Code: ExitUnavailable, Text: "version"}, want: "socket", code: ExitUnavailable, in: large},
		{name: "daemon dies", socket: broken, want: "socket drop", in: small},
		{name: "daemon dies, large", socket: broken, want: "socket", code: ExitTempFail, in: large},
		{name: "no daemon", socket: ErrNoDaemon, want: "socket drop", in: small},
		{name: "no daemon, large", socket: ErrNoDaemon, want: "socket drop", in: large},
		{name: "no daemon, owner", socket: ErrNoDaemon, owner: true, want: "socket drop detach", in: small},
		{name: "no daemon, owner waits", socket: ErrNoDaemon, owner: true, attempt: AttemptWait, want: "socket drop attempt", in: small},
		{name: "no daemon, owner only queues", socket: ErrNoDaemon, owner: true, attempt: AttemptNone, want: "socket drop", in: small},
		{name: "no daemon, others wait", socket: ErrNoDaemon, attempt: AttemptWait, want: "socket drop", in: small},
		{name: "no socket", noSock: true, owner: true, want: "drop detach", in: small},
		{name: "drop refuses", noSock: true, owner: true, drop: refused, want: "drop", code: ExitDataErr, in: small},
		{name: "nothing", noSock: true, noDrop: true, want: "", code: ExitUnavailable, in: small},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ways []string
			keys := map[string]bool{}
			read := func(r *Request, content io.Reader) {
				b, err := io.ReadAll(content)
				if err != nil || string(b) != tt.in {
					t.Errorf("%d bytes of %d, %v", len(b), len(tt.in), err)
				}
				keys[r.Key] = true
			}
			h := &Handover{Source: alice, Now: func() time.Time { return testTime }}
			if !tt.noSock {
				h.Socket = func(_ context.Context, r *Request, content io.Reader) (Submission, error) {
					ways = append(ways, "socket")
					if !errors.Is(tt.socket, ErrNoDaemon) {
						read(r, content)
					}
					return Submission{Receipt: Receipt{"Q1"}}, tt.socket
				}
			}
			if !tt.noDrop {
				h.Drop = func(r *Request, content io.Reader) error {
					ways = append(ways, "drop")
					read(r, content)
					return tt.drop
				}
			}
			if tt.owner {
				h.Detach = func() error { ways = append(ways, "detach"); return nil }
				h.Attempt = func(string) ([]string, error) { ways = append(ways, "attempt"); return nil, nil }
			}
			got, err := h.Do(context.Background(), &Request{}, tt.attempt, strings.NewReader(tt.in))
			if w := strings.Join(ways, " "); w != tt.want || ExitCode(err) != tt.code {
				t.Errorf("took %q with exit %d (%v), want %q with %d", w, ExitCode(err), err, tt.want, tt.code)
			}
			if err == nil && got.ID == "" && !got.Dropped {
				t.Error("neither an id nor a drop file")
			}
			if len(keys) > 1 {
				t.Error("the second way got another key")
			}
		})
	}
}

func TestHandoverReadError(t *testing.T) {
	h := &Handover{Source: alice, Now: time.Now, Drop: func(*Request, io.Reader) error { t.Error("dropped"); return nil }}
	in := io.MultiReader(strings.NewReader("\nx"), iotestErr{})
	if _, err := h.Do(context.Background(), &Request{}, 0, in); ExitCode(err) != ExitOSErr {
		t.Errorf("error %v", err)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

// TestDaemonDies: the daemon commits and dies before it answers; what falls
// back to the maildrop is queued once.
func TestDaemonDies(t *testing.T) {
	d := newDropTest(t)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := ListenSocket(path)
	must(t, err)
	died := make(chan struct{})
	go func() {
		defer close(died)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		k, err := readCall(in)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := d.gate.Accept(context.Background(), k.Request, d.src, &content{r: in}); err != nil {
			t.Error(err)
		}
	}()
	client := &Client{Path: path}
	h := &Handover{Source: d.src, Now: func() time.Time { return testTime }, Socket: client.Submit,
		Drop: func(r *Request, in io.Reader) error { return d.Write(d.gate, r, d.src, in) }}
	got, err := h.Do(context.Background(), &Request{Recipients: to("b@example.net")}, 0, strings.NewReader("\nx\n"))
	<-died
	ln.Close()
	os.Remove(path)
	if err != nil || !got.Dropped {
		t.Fatalf("%+v, %v", got, err)
	}
	if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
		t.Fatalf("imported %d, %v", n, err)
	}
	if n := len(d.q.all()); n != 1 {
		t.Errorf("%d messages queued", n)
	}
}

// TestBrokenContent: a client that goes away in the middle leaves nothing.
func TestBrokenContent(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	client := serveTest(t, &Server{Gate: gate})
	for _, frames := range []string{"", "D\x00\x00\x00\x05\nabcd", "D\x00\x00\x00\x05\na", "D\x00\x00\x00\x05\nabcdX\x00\x00\x00\x00", "D\x00\x10\x00\x00"} {
		c, err := net.Dial("unix", client.Path)
		must(t, err)
		must(t, writeJSON(c, frameCall, &call{Version: wireVersion, Verb: verbSubmit, Request: &Request{Recipients: to("b@example.net")}}))
		io.WriteString(c, frames)
		c.(*net.UnixConn).CloseWrite()
		res, err := receive(bufio.NewReader(c), nil)
		if res != nil || ExitCode(err) != ExitTempFail {
			t.Errorf("%q: %+v, %v", frames, res, err)
		}
		c.Close()
	}
	if len(q.all()) != 0 {
		t.Error("half a message was queued")
	}
}

// FuzzCall: no bytes on the socket do anything but be refused or obeyed.
func FuzzCall(f *testing.F) {
	var b bytes.Buffer
	if err := writeJSON(&b, frameCall, &call{Version: 1, Verb: verbSubmit, Request: &Request{Recipients: to("b@example.net")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(append(bytes.Clone(b.Bytes()), "D\x00\x00\x00\x03\nx\nE\x00\x00\x00\x00"...))
	f.Add([]byte("C\x00\x00\x00\x02{}"))
	f.Add([]byte("C\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), 64)
		k, err := readCall(r)
		if err != nil || k.Verb != verbSubmit || k.Request == nil {
			return
		}
		gate, q := testGate(t, Policy{Hostname: "h.example.com", SpoolDir: os.TempDir(), MaxSize: 1 << 20})
		if _, err := gate.Accept(context.Background(), k.Request, alice, &content{r: r}); err == nil {
			checkWire(t, q.last(t).body)
		}
	})
}
