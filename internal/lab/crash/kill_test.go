package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// sink is a receiver that remembers which numbered messages it took, when.
type sink struct {
	mu    sync.Mutex
	taken map[int][]time.Time
	wrong []string
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

type sinkSession struct {
	sink  *sink
	rcpts int
}

func (s *sinkSession) Reset()                               { s.rcpts = 0 }
func (s *sinkSession) Logout() error                        { return nil }
func (s *sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *sinkSession) Rcpt(string, *smtp.RcptOptions) error { s.rcpts++; return nil }
func (s *sinkSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, subject, _ := strings.Cut(string(b), "Subject: number ")
	line, _, _ := strings.Cut(subject, "\r\n")
	n, err := strconv.Atoi(line)
	_, text, _ := strings.Cut(string(b), "\r\n\r\n")
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if err != nil || strings.ReplaceAll(text, "\r\n", "\n") != killText(n) {
		s.sink.wrong = append(s.sink.wrong, fmt.Sprintf("%.80q", line))
	}
	s.sink.taken[n] = append(s.sink.taken[n], time.Now())
	return nil
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
	log    bytes.Buffer
}

func newHost(t *testing.T, sinkAddr string) *host {
	dir := t.TempDir()
	h := &host{t: t, binary: os.Getenv("DANEPOST_BINARY"), config: filepath.Join(dir, "danepost.toml"), socket: filepath.Join(dir, "socket")}
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
	cmd.Stderr = &h.log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	for range 1000 {
		if c, err := net.Dial("unix", h.socket); err == nil {
			c.Close()
			return cmd
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	h.t.Fatalf("the daemon did not come up:\n%s", h.log.String())
	return nil
}

// sendmail hands over one message as any program does, and says whether it
// was accepted.
func (h *host) sendmail(ctx context.Context, n int) bool {
	cmd := exec.CommandContext(ctx, h.binary, "--config", h.config, "sendmail", "-odq", "-i", "-f", "sender@client.example", "a@sink.example", "b@sink.example")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("Subject: number %d\n\n%s", n, killText(n)))
	return cmd.Run() == nil
}

func (h *host) waiting() int {
	out, err := exec.Command(h.binary, "--config", h.config, "queue", "list", "--json").Output()
	if err != nil {
		return -1
	}
	return bytes.Count(out, []byte("\n"))
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
	s := &sink{taken: map[int][]time.Time{}}
	server := smtp.NewServer(s)
	server.ErrorLog = log.New(io.Discard, "", 0) // connections that end in the middle
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Close()
		<-served
	}()
	h := newHost(t, l.Addr().String())
	load := startLoad(h, 4)
	var kills []time.Time
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for range rounds {
		daemon := h.serve()
		time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
		kills = append(kills, time.Now())
		if err := daemon.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		daemon.Wait()
	}
	acknowledged, tried := load.end()
	daemon := h.serve()
	for left := -1; left != 0; left = h.waiting() {
		if time.Since(kills[len(kills)-1]) > 2*time.Minute {
			t.Fatalf("%d messages are still waiting:\n%s", left, h.log.String())
		}
		time.Sleep(200 * time.Millisecond)
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
				l.mu.Lock()
				n := l.next
				l.next++
				l.mu.Unlock()
				if h.sendmail(context.WithoutCancel(ctx), n) {
					l.mu.Lock()
					l.acknowledged = append(l.acknowledged, n)
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *load) end() (acknowledged []int, tried int) {
	l.stop()
	l.wg.Wait()
	return l.acknowledged, l.next
}

// unfinished is how long before a kill a message may have been taken whose
// commit the kill still prevented, on a busy machine. atOnce is how many
// deliveries there are at once: so many commits one kill can prevent.
const (
	unfinished = time.Second
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
