//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// workDir returns a directory of the inner run, made if need be.
func workDir(name ...string) (string, error) {
	dir := filepath.Join(append([]string{os.Getenv(workVar)}, name...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// danepost is the binary under test.
func danepost() string { return filepath.Join(os.Getenv(workVar), "danepost") }

// command runs a program to its end and returns what it printed; the error
// shows all of it.
func command(name string, args ...string) (string, error) { return commandIn("", name, args...) }

func commandIn(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// writeFiles writes texts into dir by name.
func writeFiles(dir string, texts map[string]string) error {
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// daemon is a child process that runs until stop.
type daemon struct {
	name string
	log  string // path
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done
}

// startDaemon starts a program that stays in the foreground, in dir, its
// output going to dir/NAME.log.
func startDaemon(name, dir string, args ...string) (*daemon, error) {
	d := &daemon{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = dir, log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.done)
		d.err = d.cmd.Wait()
	}()
	return d, nil
}

// ready polls check until it has no error, the daemon ends or time is up.
func (d *daemon) ready(within time.Duration, check func() error) error {
	end := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s ended: %v\n%s", d.name, d.err, d.tail())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready after %v: %w\n%s", d.name, within, err, d.tail())
		}
	}
}

// tail returns the end of the log.
func (d *daemon) tail() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// stop ends the process and waits for it.
func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone already
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		d.cmd.Process.Kill() //nolint:errcheck // as above
		<-d.done
	}
}

// stopAtEnd stops the daemon when the test ends, and shows its log if it
// did not survive until then.
func (d *daemon) stopAtEnd(t *testing.T) {
	t.Cleanup(func() {
		select {
		case <-d.done:
			t.Errorf("%s ended before its time: %v\n%s", d.name, d.err, d.tail())
		default:
			d.stop()
		}
	})
}

// inParallel runs all of fs, which work hard, a few at a time.
func inParallel(fs []func() error) error { return errors.Join(runAll(fs, 4)...) }

// runAll runs all of fs, so many at a time, and returns the errors there were.
func runAll(fs []func() error, atOnce int) []error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, f := range fs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f()
		})
	}
	wg.Wait()
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// runBinary runs danepost with a configuration and returns its output and
// exit status.
func runBinary(ctx context.Context, config string, args ...string) (stdout, stderr string, code int, err error) {
	return runBinaryIn(ctx, "", append([]string{"--config", config}, args...)...)
}

// runBinaryIn runs danepost in a network namespace, "" for this one.
func runBinaryIn(ctx context.Context, netns string, args ...string) (stdout, stderr string, code int, err error) {
	argv := append([]string{danepost()}, args...)
	if netns != "" {
		argv = append([]string{"ip", "netns", "exec", netns}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode(), err
}
