package tour

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"danepost/internal/lab"
)

// Build compiles danepost as users get it, without cgo, into dir and returns
// the path of the binary. It needs the go command and a directory inside the
// module to run in.
func Build(ctx context.Context, dir string) (string, error) {
	out, err := filepath.Abs(filepath.Join(dir, "danepost"))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "danepost")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return out, nil
}

// Program is the built binary with a configuration of the lab.
type Program struct {
	Path   string
	Config lab.Config
}

// Output is what a finished command left.
type Output struct {
	Stdout, Stderr string
	Code           int // exit status; -1 when it was killed
}

// Run runs one command with the lab's configuration to its end. The error is
// about starting it, not about its exit status.
func (p *Program) Run(ctx context.Context, stdin string, args ...string) (Output, error) {
	cmd := exec.CommandContext(ctx, p.Path, append([]string{"--config", p.Config.File}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	out := Output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return out, err
}

// Send hands one message over as a user's program does, recipients taken from
// its headers.
func (p *Program) Send(ctx context.Context, to, subject, body string) error {
	msg := fmt.Sprintf("From: Alice <%s>\nTo: %s\nSubject: %s\n\n%s\n", Sender, to, subject, body)
	out, err := p.Run(ctx, msg, "sendmail", "-t", "-i", "-f", Sender)
	if err != nil {
		return err
	}
	if out.Code != 0 {
		return fmt.Errorf("danepost sendmail -t: exit status %d: %s", out.Code, strings.TrimSpace(out.Stderr))
	}
	return nil
}

// Line is one line of the daemon's log: one recipient, one attempt.
type Line struct {
	Msg      string `json:"msg"`
	ID       string `json:"id"`
	From     string `json:"from"`
	To       string `json:"to"`
	Domain   string `json:"domain"`
	Host     string `json:"host"`
	Address  string `json:"address"`
	Security string `json:"security"`
	TLS      string `json:"tls"`
	Match    string `json:"match"`
	MXStatus string `json:"mx_status"`
	Reply    string `json:"reply"`
	Reason   string `json:"reason"`
	DSN      string `json:"dsn"`
	Attempts int    `json:"attempts"`
}

// Daemon is a running "danepost serve".
type Daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and its log is read
	err  error         // of the process; valid after done

	mu      sync.Mutex
	lines   []Line
	raw     bytes.Buffer
	changed chan struct{} // closed and replaced at each line
}

// Serve starts the daemon and returns when it answers on its socket, which it
// makes only when it is ready. A socket that answers before the daemon said
// that it started is that of a run in the background, about to make way.
func (p *Program) Serve(ctx context.Context) (*Daemon, error) {
	d := &Daemon{
		cmd:  exec.Command(p.Path, "--config", p.Config.File, "serve"),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	log, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.done)
		d.read(log)
		d.err = d.cmd.Wait()
	}()
	socket := filepath.Join(p.Config.Dir, "danepost.sock")
	for {
		if strings.Contains(d.Log(), `"msg":"started"`) {
			if c, err := net.Dial("unix", socket); err == nil { // one left behind by a killed daemon refuses
				c.Close()
				return d, nil
			}
		}
		select {
		case <-d.done:
			return nil, fmt.Errorf("danepost serve ended before it was ready: %v\n%s", d.err, d.Log())
		case <-ctx.Done():
			d.Kill()
			return nil, fmt.Errorf("danepost serve: no socket %s: %w\n%s", socket, ctx.Err(), d.Log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// read keeps the log until its end.
func (d *Daemon) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		text, err := in.ReadString('\n')
		if text != "" {
			d.mu.Lock()
			d.raw.WriteString(text)
			var l Line
			if json.Unmarshal([]byte(text), &l) == nil && l.To != "" {
				d.lines = append(d.lines, l)
			}
			close(d.changed)
			d.changed = make(chan struct{})
			d.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// Log returns all that the daemon has logged, as it was written.
func (d *Daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.raw.String()
}

// Wait returns the first log line about a recipient for which ok is true,
// once it is there.
func (d *Daemon) Wait(ctx context.Context, ok func(Line) bool) (Line, error) {
	for {
		d.mu.Lock()
		changed := d.changed
		for _, l := range d.lines {
			if ok(l) {
				d.mu.Unlock()
				return l, nil
			}
		}
		d.mu.Unlock()
		select {
		case <-changed:
		case <-d.done:
			return Line{}, errors.New("the daemon ended")
		case <-ctx.Done():
			return Line{}, ctx.Err()
		}
	}
}

// Stop ends the daemon as an init system does and returns how it ended.
func (d *Daemon) Stop(ctx context.Context) error {
	d.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		d.Kill()
		return fmt.Errorf("danepost serve did not end after SIGTERM: %w", ctx.Err())
	}
}

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() {
	d.cmd.Process.Kill() //nolint:errcheck // it may be gone
	<-d.done
}
