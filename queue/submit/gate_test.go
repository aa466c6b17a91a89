package submit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"danepost/queue"
)

// TestRewrite: forced senders and From, by user, address, domain or for all.
func TestRewrite(t *testing.T) {
	all := map[string]string{"*": "box@example.org"}
	tests := []struct {
		name         string
		sender, from map[string]string
		src          Source
		given        *string
		header       string
		wantSender   string
		wantFrom     string
	}{
		{"nothing", nil, nil, alice, nil, "From: x@example.com", "alice@host.example.com", "From: x@example.com"},
		{"all", all, all, alice, nil, "From: Alice <alice@host.example.com>", "box@example.org", "From: Alice <box@example.org>"},
		{"all, given sender", all, nil, alice, sender("a@example.com"), "From: x@example.com", "box@example.org", "From: x@example.com"},
		{"null sender stays", all, all, alice, sender("<>"), "From: x@example.com", "", "From: box@example.org"},
		{"user", map[string]string{"alice": "al@example.org", "*": "box@example.org"}, map[string]string{"alice": "al@example.org"}, alice, nil, "From: x@example.com", "al@example.org", "From: al@example.org"},
		{"other user", map[string]string{"bob": "bob@example.org"}, map[string]string{"bob": "bob@example.org"}, alice, nil, "From: x@example.com", "alice@host.example.com", "From: x@example.com"},
		{"address", map[string]string{"root@host.example.com": "r@example.org"}, map[string]string{"root@host.example.com": "r@example.org"}, alice, sender("root"), "From: root (Cron Daemon)", "r@example.org", "From: r@example.org (Cron Daemon)"},
		{"domain", map[string]string{"@host.example.com": "h@example.org"}, map[string]string{"@HOST.example.com": "h@example.org"}, alice, nil, "From: a@host.example.com, b@other.example", "h@example.org", "From: h@example.org, b@other.example"},
		{"missing From", nil, all, alice, nil, "X: y", "alice@host.example.com", `From: "Alice Doe" <box@example.org>`},
		{"unreadable From", nil, all, alice, nil, "From: <<x", "alice@host.example.com", "From: box@example.org"},
		{"unreadable From, no rule", nil, nil, alice, nil, "From: <<x", "alice@host.example.com", "From: <<x"},
		{"localhost", nil, nil, alice, sender("root@localhost"), "From: root@localhost", "root@host.example.com", "From: root@host.example.com"},
		{"short name", nil, nil, alice, sender("root@host"), "From: Root <root@host>", "root@host.example.com", "From: Root <root@host.example.com>"},
		{"number for a name", nil, nil, Source{UID: 4711, User: "4711"}, nil, "X: y", "4711@host.example.com", "From: 4711@host.example.com"},
		{"SMTP without a user", nil, nil, Source{}, sender("a@example.com"), "X: y", "a@example.com", "From: a@example.com"},
		{"SMTP bounce without a user", nil, nil, Source{}, sender(""), "X: y", "", "From: postmaster@host.example.com"},
		{"gecos to encode", nil, nil, Source{User: "j", Gecos: "Jürgen \"J\" Müller\r\nBcc: x@y"}, nil, "X: y", "j@host.example.com", "From: =?utf-8?b?SsO8cmdlbiAiSiIgTcO8bGxlckJjYzogeEB5?= <j@host.example.com>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testPolicy(t)
			p.RewriteSender, p.RewriteFrom = tt.sender, tt.from
			gate, q := testGate(t, p)
			_, err := gate.Accept(context.Background(), &Request{Sender: tt.given, Recipients: to("b@example.net")}, tt.src, strings.NewReader(tt.header+"\n\nx\n"))
			if err != nil {
				t.Fatal(err)
			}
			m := q.last(t)
			checkWire(t, m.body)
			if m.env.Sender != tt.wantSender {
				t.Errorf("sender %q, want %q", m.env.Sender, tt.wantSender)
			}
			if !strings.Contains(m.body, "\r\n"+tt.wantFrom+"\r\n") {
				t.Errorf("no %q in\n%s", tt.wantFrom, m.body)
			}
		})
	}
}

// TestClockUnset: nothing is dated by a clock that is not set.
func TestClockUnset(t *testing.T) {
	q := &memQueue{}
	gate := NewGate(testPolicy(t), Deps{Queue: q, ClockSet: func() bool { return false }})
	if _, err := gate.Accept(context.Background(), &Request{Recipients: to("b@example.net")}, alice, strings.NewReader("\nx\n")); err != nil {
		t.Fatal(err)
	}
	m := q.last(t)
	if !m.env.DateUnset || strings.Contains(m.body, "Date:") || strings.Contains(m.body, "Received:") || !strings.Contains(m.body, "Message-ID:") {
		t.Errorf("%+v\n%s", m.env, m.body)
	}
}

func TestAcceptRefuses(t *testing.T) {
	p := testPolicy(t)
	tests := []struct {
		name string
		p    func(*Policy)
		fail error
		r    Request
		in   string
		want int
		says string
	}{
		{"too large", func(p *Policy) { p.MaxSize = 2 << 20 }, nil, Request{}, strings.Repeat("x\n", 1<<20), ExitDataErr, "2 MB"},
		{"disk full", func(p *Policy) { p.MinFree = 1 << 60 }, nil, Request{}, "x", ExitTempFail, "min_free_mb"},
		{"no spool", func(p *Policy) { p.SpoolDir = "/nonexistent" }, nil, Request{}, strings.Repeat("x\n", 100<<10), ExitTempFail, "temporary file"},
		{"queue full", nil, queue.ErrFull, Request{}, "x", ExitTempFail, "not queued"},
		{"queue says too large", nil, queue.ErrTooLarge, Request{}, "x", ExitDataErr, "limit"},
		{"queue on JFFS2", nil, queue.ErrUnsuitable, Request{}, "x", ExitConfig, "filesystem"},
		{"I/O error", nil, syscall.EIO, Request{}, "x", ExitTempFail, "input/output error"},
		{"looping", nil, nil, Request{}, strings.Repeat("Received: x\n", 101) + "\nx", ExitDataErr, "circles"},
		{"body type", nil, nil, Request{Body: "BINARYMIME"}, "x", ExitDataErr, "BINARYMIME"},
		{"RET", nil, nil, Request{Ret: "hdrs"}, "x", ExitDataErr, "RET"},
		{"NOTIFY", nil, nil, Request{Notify: "NEVER,SUCCESS"}, "x", ExitDataErr, "NOTIFY"},
		{"ENVID", nil, nil, Request{EnvID: "a\r\nRCPT TO:<x>"}, "x", ExitDataErr, "ENVID"},
		{"sender with a line break", nil, nil, Request{Sender: sender("\"a\\\r\n\"@b.example")}, "x", ExitDataErr, ""},
		{"forced sender is none", func(p *Policy) { p.RewriteSender = map[string]string{"*": "a@"} }, nil, Request{}, "x", ExitConfig, "[rewrite]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := p
			if tt.p != nil {
				tt.p(&p)
			}
			gate, q := testGate(t, p)
			q.fail = tt.fail
			tt.r.Recipients = to("b@example.net")
			_, err := gate.Accept(context.Background(), &tt.r, alice, strings.NewReader(tt.in))
			if ExitCode(err) != tt.want || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("error %v (exit %d), want exit %d and %q", err, ExitCode(err), tt.want, tt.says)
			}
			if len(q.all()) > 0 {
				t.Error("refused, but queued")
			}
		})
	}
}

// TestHeldAndReleased: mail for root waits visibly, and goes to postmaster
// once there is one.
func TestHeldAndReleased(t *testing.T) {
	q, err := queue.Open(queue.Options{Dir: filepath.Join(t.TempDir(), "queue")})
	must(t, err)
	defer q.Close()
	p := testPolicy(t)
	p.Postmaster = ""
	ctx := context.Background()
	gate := NewGate(p, Deps{Queue: q})
	rc, err := gate.Accept(ctx, &Request{Recipients: to("root", "b@example.net")}, alice, strings.NewReader("Subject: x\n\nx\n"))
	must(t, err)
	before, err := gateShow(q, rc.ID)
	must(t, err)
	if r := before.Recipients[0]; r.State != "held" || !strings.Contains(r.DelayReason, "set postmaster") || !strings.Contains(r.DelayReason, "/etc/danepost.toml") {
		t.Errorf("recipient %+v", r)
	}
	if _, err := gate.Release(ctx, q, queue.Filter{IDs: []string{rc.ID}}); ExitCode(err) != ExitConfig {
		t.Errorf("release without a postmaster: %v", err)
	}
	p.Postmaster = "admin@example.net"
	gate = NewGate(p, Deps{Queue: q})
	done, err := gate.Release(ctx, q, queue.Filter{IDs: []string{rc.ID}})
	must(t, err)
	if len(done) != 1 || done[0].Did != "released" {
		t.Errorf("released %+v", done)
	}
	list, err := q.List(ctx, queue.Filter{})
	must(t, err)
	var all []string
	for _, s := range list {
		var body bytes.Buffer
		must(t, q.Cat(s.QueueID, &body))
		checkWire(t, body.String())
		for _, r := range s.Recipients {
			all = append(all, r.Address+" "+r.State)
		}
	}
	if got := strings.Join(all, ", "); got != "b@example.net ready, admin@example.net ready" {
		t.Errorf("queued for %s", got)
	}
}

func gateShow(q *queue.Queue, id string) (*queue.Summary, error) {
	list, err := q.List(context.Background(), queue.Filter{IDs: []string{id}})
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("%d listed, %w", len(list), err)
	}
	return &list[0], nil
}

// TestSlots: a user with a thousand messages makes only himself wait.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots()
		ctx, cancel := context.WithCancel(context.Background())
		var releases []func()
		for range slotsPerUser {
			r, err := s.take(ctx, 1)
			must(t, err)
			releases = append(releases, r)
		}
		var mu sync.Mutex
		got := map[uint32]int{}
		for range 20 {
			go func() {
				r, err := s.take(ctx, 1)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					got[1]++
					r()
				} else {
					got[0]++
				}
			}()
		}
		synctest.Wait()
		r, err := s.take(ctx, 2)
		must(t, err)
		r()
		mu.Lock()
		if got[1] != 0 {
			t.Errorf("%d more than the limit", got[1])
		}
		mu.Unlock()
		releases[0]()
		synctest.Wait()
		if got[1] != 20 {
			t.Errorf("%d of 20 waiters were served", got[1])
		}
		// All taken again: who gives up leaves no trace.
		r, err = s.take(ctx, 1)
		must(t, err)
		for range 3 {
			go func() {
				if _, err := s.take(ctx, 1); ExitCode(err) != ExitTempFail {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		for _, r := range append(releases[1:], r) {
			r()
		}
		if len(s.users) != 0 {
			t.Errorf("still known: %v", s.users)
		}
	})
}

func TestLocalUser(t *testing.T) {
	file := write(t, t.TempDir(), "passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:& Doe,Room 1,,:/home/alice:/bin/sh\nbad\x01:x:1001:1:x:/:/\nshort:x:1002\n")
	tests := []struct {
		uid         uint32
		name, gecos string
	}{{0, "root", "root"}, {1000, "alice", "Alice Doe"}, {1001, "1001", ""}, {1002, "1002", ""}, {4711, "4711", ""}}
	for _, tt := range tests {
		if s := LocalUser(tt.uid, file); s.UID != tt.uid || s.User != tt.name || s.Gecos != tt.gecos {
			t.Errorf("%d: %+v", tt.uid, s)
		}
	}
	if s := LocalUser(7, "/nonexistent"); s.User != "7" {
		t.Errorf("without a passwd file: %+v", s)
	}
}

// TestCallersOfOtherUsers starts this test binary as other users: 16 callers
// of 4 users at once, none fails, nothing is lost, each one's uid is its own,
// and none may do what operators do. Needs root.
func TestCallersOfOtherUsers(t *testing.T) {
	if path := os.Getenv("SUBMIT_TEST_SOCKET"); path != "" {
		callAsOther(t, &Client{Path: path})
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to become other users")
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	q, err := queue.Open(queue.Options{Dir: filepath.Join(dir, "queue")})
	must(t, err)
	defer q.Close()
	p := testPolicy(t)
	group := uint32(60999)
	client := serveTest(t, &Server{Gate: NewGate(p, Deps{Queue: q}), Operator: q, AdminGroup: &group})
	for d := filepath.Dir(client.Path); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	exe := filepath.Join(dir, "submit.test")
	b, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(exe, b, 0o755))

	var wg sync.WaitGroup
	for i := range 16 {
		cmd := exec.Command(exe, "-test.run=^TestCallersOfOtherUsers$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "SUBMIT_TEST_SOCKET="+client.Path)
		cred := &syscall.Credential{Uid: uint32(61000 + i%4), Gid: 61000}
		if i%4 == 3 {
			cred.Groups = []uint32{group}
			cmd.Env = append(cmd.Env, "SUBMIT_TEST_ADMIN=1")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	list, err := q.List(context.Background(), queue.Filter{})
	must(t, err)
	of := map[uint32]int{}
	for _, s := range list {
		of[s.UID]++
		if want := strconv.Itoa(int(s.UID)) + "@host.example.com"; s.Sender != want {
			t.Errorf("sender %s, want %s", s.Sender, want)
		}
	}
	for i := range uint32(4) {
		if of[61000+i] != 12 {
			t.Errorf("%d messages of user %d, want 12", of[61000+i], 61000+i)
		}
	}
}

// callAsOther is what each of the other users does.
func callAsOther(t *testing.T, c *Client) {
	ctx := context.Background()
	for i := range 3 {
		body := "Subject: x\n\n" + strings.Repeat("line\n", i*20000)
		if _, err := c.Submit(ctx, &Request{Recipients: to("b@example.net"), Key: NewKey(time.Now(), uint32(os.Getuid()))}, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.List(ctx, queue.Filter{})
	must(t, err)
	admin := os.Getenv("SUBMIT_TEST_ADMIN") != ""
	for _, s := range list {
		if !admin && s.UID != uint32(os.Getuid()) {
			t.Errorf("mail of user %d is listed", s.UID)
		}
	}
	if !admin {
		other := uint32(61003)
		if list, err := c.List(ctx, queue.Filter{UID: &other}); err != nil || len(list) > 0 && list[0].UID == other {
			t.Errorf("mail of others by asking for it: %+v, %v", list, err)
		}
	}
	want := ExitNoPerm
	if admin {
		want = ExitOK
	}
	nothing := queue.Filter{Recipient: "nobody@nowhere.example"}
	for name, do := range map[string]func(context.Context, queue.Filter) ([]queue.Done, error){
		"retry": c.Retry, "hold": c.Hold, "release": c.Release, "remove": c.Remove, "run": c.Run} {
		if _, err := do(ctx, nothing); ExitCode(err) != want {
			t.Errorf("%s: %v, want exit %d", name, err, want)
		}
	}
	if err := c.Cat(ctx, list[0].QueueID, &bytes.Buffer{}); ExitCode(err) != want {
		t.Errorf("cat: %v, want exit %d", err, want)
	}
}
