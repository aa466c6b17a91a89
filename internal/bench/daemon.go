package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a program that was started in the foreground, with whatever
// processes it forks.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  string // file that takes its output
	done chan error
}

// start runs a program whose output goes to a log file in dir.
func start(dir, name string, argv ...string) (*daemon, error) {
	d := &daemon{name: name, log: filepath.Join(dir, name+".log"), done: make(chan error, 1)}
	out, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Dir = out, out, "/"
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	return d, nil
}

// stop ends the daemon with SIGTERM to its main process, and kills what is
// left of it after a while.
func (d *daemon) stop() error {
	if d == nil {
		return nil
	}
	syscall.Kill(d.main(), syscall.SIGTERM)
	select {
	case <-d.done:
		return nil
	case <-time.After(30 * time.Second):
	}
	for _, p := range d.processes() {
		syscall.Kill(p, syscall.SIGKILL)
	}
	<-d.done
	return fmt.Errorf("%s did not end by itself", d.name)
}

// main is the process that signals must go to: above Postfix's master there
// is a shell.
func (d *daemon) main() int {
	for _, p := range d.processes() {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p)); err == nil && strings.TrimSpace(string(name)) == "master" {
			return p
		}
	}
	return d.cmd.Process.Pid
}

// await calls ready until it succeeds. It fails when the daemon ended or
// after limit, with what it logged.
func (d *daemon) await(limit time.Duration, ready func() bool) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ready() {
			return nil
		}
		select {
		case err := <-d.done:
			d.done <- err
			return fmt.Errorf("%s ended: %v: %s", d.name, err, d.lastWords())
		default:
		}
	}
	return fmt.Errorf("%s is not ready after %v: %s", d.name, limit, d.lastWords())
}

// lastWords returns the end of the log.
func (d *daemon) lastWords() string {
	data, _ := os.ReadFile(d.log)
	return string(data[max(0, len(data)-1000):])
}

// processes returns the daemon's process and all its descendants.
func (d *daemon) processes() []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if f := procStat(pid); f != nil {
				ppid, _ := strconv.Atoi(f[1])
				children[ppid] = append(children[ppid], pid)
			}
		}
	}
	all := []int{d.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// procStat returns the fields of /proc/PID/stat behind the name: [1] is the
// parent, [11] to [14] are utime, stime, cutime and cstime.
func procStat(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}

// tick is the unit of times in /proc on all Linux architectures.
const tick = 10 * time.Millisecond

// cpu is the CPU time of all processes, those that ended included.
func (d *daemon) cpu() time.Duration {
	var t time.Duration
	for _, p := range d.processes() {
		for i, f := range procStat(p) {
			if i >= 11 && i <= 14 {
				n, _ := strconv.ParseInt(f, 10, 64)
				t += time.Duration(n) * tick
			}
		}
	}
	return t
}

// memory is the proportional set size of all processes in bytes, and their
// number.
func (d *daemon) memory() (pss int64, processes int) {
	for _, p := range d.processes() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			continue
		}
		pss += pssOf(string(data))
		processes++
	}
	return pss, processes
}

// pssOf reads a smaps_rollup.
func pssOf(rollup string) int64 {
	for line := range strings.Lines(rollup) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// run runs a command to its end and returns its standard output.
func run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), err
}

// stopAll stops daemons, the last one first.
func stopAll(ds ...*daemon) error {
	var err error
	for i := len(ds) - 1; i >= 0; i-- {
		err = errors.Join(err, ds[i].stop())
	}
	return err
}
