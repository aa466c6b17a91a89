package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is a receiver that remembers which numbered messages it took, when.
// It knows no CHUNKING: receivers have been seen to take the part of a chunk
// that came before the connection died for the whole message.
type sink struct {
	listener net.Listener
	sessions sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	taken map[int][]time.Time
	wrong []string
}

func startSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{listener: l, conns: map[net.Conn]bool{}, taken: map[int][]time.Time{}}
	s.sessions.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[c] = true
			s.mu.Unlock()
			s.sessions.Go(func() { s.session(c) })
		}
	})
	t.Cleanup(s.close)
	return s
}

func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.sessions.Wait()
}

func (s *sink) session(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	text := textproto.NewConn(c)
	reply := "220 sink.example"
	for {
		if err := text.PrintfLine("%s", reply); err != nil {
			return
		}
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		reply = "250 ok"
		switch verb, _, _ := strings.Cut(strings.ToUpper(line), " "); verb {
		case "DATA":
			if err := text.PrintfLine("354 go ahead"); err != nil {
				return
			}
			b, err := text.ReadDotBytes()
			if err != nil {
				return // it never came whole
			}
			s.take(string(b))
		case "QUIT":
			text.PrintfLine("221 bye")
			return
		}
	}
}

// take remembers a message. Lines end in LF.
func (s *sink) take(message string) {
	_, subject, _ := strings.Cut(message, "Subject: number ")
	line, _, _ := strings.Cut(subject, "\n")
	n, err := strconv.Atoi(line)
	_, text, _ := strings.Cut(message, "\n\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := killText(n); err != nil || text != want {
		s.wrong = append(s.wrong, fmt.Sprintf("number %.20q with %d bytes of %d, ending in %q", line, len(text), len(want), text[max(0, len(text)-30):]))
	}
	s.taken[n] = append(s.taken[n], time.Now())
}

// killText is the body of the n-th message.
func killText(n int) string {
	return strings.Repeat(fmt.Sprintf("line of %d\n", n), []int{3, 300, 5000, 15_000}[n%4])
}

// host is a danepost under test.
type host struct {
	t      *testing.T
	binary string
	config string
	socket string
	log    *os.File // of all daemons
}

func newHost(t *testing.T, sinkAddr string) *host {
	dir := t.TempDir()
	log, err := os.CreateTemp("", "danepost-kill-*.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		log.Close()
		if t.Failed() {
			t.Log("the daemons' log is in ", log.Name())
		} else {
			os.Remove(log.Name())
		}
	})
	h := &host{t: t, log: log, binary: os.Getenv("DANEPOST_BINARY"), config: filepath.Join(dir, "danepost.toml"), socket: filepath.Join(dir, "socket")}
	if h.binary == "" {
		h.binary = filepath.Join(dir, "danepost")
		if out, err := exec.Command("go", "build", "-o", h.binary, "danepost").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	text := fmt.Sprintf(`hostname = "client.example"
state_dir = %q
socket = %q
[queue]
retry_first = "1s"
retry_max = "2s"
min_free_mb = 1
[resolver]
forward = ["127.0.0.1:9"]
[deliver]
connections_per_destination = %d
[[policy]]
domain = "sink.example"
tls = "none"
via = %q
`, filepath.Join(dir, "state"), h.socket, atOnce, sinkAddr)
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// serve starts the daemon and waits until it takes mail.
func (h *host) serve() *exec.Cmd {
	h.t.Helper()
	os.Remove(h.socket)
	cmd := exec.Command(h.binary, "--config", h.config, "serve")
	cmd.Stderr = h.log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	for range 6000 {
		if c, err := net.Dial("unix", h.socket); err == nil {
			c.Close()
			return cmd
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	h.t.Fatal("the daemon did not come up")
	return nil
}

// sendmail hands over one message as any program does, and says whether it
// was accepted.
func (h *host) sendmail(n int) bool {
	cmd := exec.Command(h.binary, "--config", h.config, "sendmail", "-odq", "-i", "-f", "sender@client.example", "a@sink.example", "b@sink.example")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("Subject: number %d\n\n%s", n, killText(n)))
	return cmd.Run() == nil
}

// waiting counts what is queued, and what still lies in the maildrop: looked
// at first, for that is the way mail goes.
func (h *host) waiting() int {
	dropped, err := os.ReadDir(filepath.Join(filepath.Dir(h.config), "state", "maildrop"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return -1
	}
	out, err := exec.Command(h.binary, "--config", h.config, "queue", "list", "--json").Output()
	if err != nil {
		return -1
	}
	return len(dropped) + bytes.Count(out, []byte("\n"))
}

// drain waits until nothing is waiting any more, and returns what still is.
func (h *host) drain(limit time.Duration) (left int) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if left = h.waiting(); left == 0 {
			break
		}
	}
	return left
}

// TestKill kills the daemon at random moments under load from many sendmail
// processes, and starts it again: every message whose sendmail said 0 arrives
// whole, none is invented, and one arrives twice only if its first copy was
// taken so shortly before a kill that the commit may not have been finished.
func TestKill(t *testing.T) {
	rounds := 6
	if soak() {
		rounds = 200
	}
	s := startSink(t)
	h := newHost(t, s.listener.Addr().String())
	load := startLoad(h, 4)
	defer load.end()
	var kills []time.Time
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for i := range rounds {
		daemon := h.serve()
		if i%5 == 4 { // mail that came while it was down must not pile up
			load.pause(func() { h.drain(time.Minute) })
		}
		time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		kills = append(kills, time.Now())
		if err := daemon.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		daemon.Wait()
	}
	acknowledged, tried := load.end()
	daemon := h.serve()
	if left := h.drain(2 * time.Minute); left != 0 {
		t.Errorf("%d messages are still waiting", left)
	}
	if err := errors.Join(daemon.Process.Signal(os.Interrupt), daemon.Wait()); err != nil {
		t.Errorf("shut down: %v", err)
	}
	s.check(t, acknowledged, tried, kills)
}

// load is sendmail processes, one after the other in each of some workers.
type load struct {
	stop         context.CancelFunc
	wg           sync.WaitGroup
	gate         sync.RWMutex // held by who pauses it
	mu           sync.Mutex
	next         int
	acknowledged []int
}

func startLoad(h *host, workers int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for range workers {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.one(h)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return l
}

// one hands over one message, whatever becomes of it.
func (l *load) one(h *host) {
	l.gate.RLock()
	defer l.gate.RUnlock()
	l.mu.Lock()
	n := l.next
	l.next++
	l.mu.Unlock()
	if h.sendmail(n) {
		l.mu.Lock()
		l.acknowledged = append(l.acknowledged, n)
		l.mu.Unlock()
	}
}

// pause runs fn while nothing new is handed over.
func (l *load) pause(fn func()) {
	l.gate.Lock()
	defer l.gate.Unlock()
	fn()
}

func (l *load) end() (acknowledged []int, tried int) {
	l.stop()
	l.wg.Wait()
	return l.acknowledged, l.next
}

// unfinished is how long before a kill a message may have been taken whose
// commit the kill still prevented; on a busy machine the reply alone takes a
// while. atOnce is how many
// deliveries there are at once: so many commits one kill can prevent.
const (
	unfinished = 3 * time.Second
	atOnce     = 3
)

func (s *sink) check(t *testing.T, acknowledged []int, tried int, kills []time.Time) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) > 0 {
		t.Errorf("messages arrived that were never sent so: %q", s.wrong)
	}
	for _, n := range acknowledged {
		if len(s.taken[n]) == 0 {
			t.Errorf("message %d was acknowledged and never arrived", n)
		}
	}
	twice := 0
	for n, times := range s.taken {
		if n < 0 || n >= tried {
			t.Errorf("message %d was never sent", n)
		}
		for i := 1; i < len(times); i++ {
			twice++
			if !killedBetween(kills, times[i-1], times[i]) {
				t.Errorf("message %d came at %v and again at %v, with no kill shortly behind the first", n, times[i-1], times[i])
			}
		}
	}
	if twice > atOnce*len(kills) {
		t.Errorf("%d messages came twice, %d deliveries at once were killed %d times", twice, atOnce, len(kills))
	}
	t.Logf("%d kills, %d messages handed over, %d acknowledged, %d arrived, %d of them twice", len(kills), tried, len(acknowledged), len(s.taken), twice)
	if len(acknowledged) < len(kills) {
		t.Error("too little was sent")
	}
}

// killedBetween says whether the kill before the second copy came shortly
// behind the first one, or before the sink had read it.
func killedBetween(kills []time.Time, first, again time.Time) bool {
	var last time.Time
	for _, k := range kills {
		if k.Before(again) {
			last = k
		}
	}
	return !last.IsZero() && last.Sub(first) < unfinished
}
