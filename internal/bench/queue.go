package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// queues measures the queue alone; its peer is the bare database. Like all
// rows they can be asked for by name: --rows '^queue'.
func (l *lab) queues() []work {
	return []work{
		{name: "queue: durable, one client",
			how:  "go test -bench in package queue/submit: 5 KB messages through the daemon's socket; a bare write + fdatasync and a bbolt commit of the same bytes in the same run",
			ours: func() (Sample, error) { return l.enqueue("clients=1", "3000x") },
			goals: []goal{{key: "x-bare", unit: "times the bare way", wanted: 1.5, absolute: true},
				{key: "socket-us", unit: "µs/message"}, {key: "socket-cpu-us", unit: "µs CPU/message, both ends"}}},
		{name: "queue: durable, 32 clients",
			how:  "the same, beside 32 goroutines that wait for bbolt's Batch, and for one committing goroutine; each client on a connection of its own for all messages, and for each",
			ours: func() (Sample, error) { return l.enqueue("clients=32", "20000x") },
			goals: []goal{{key: "kept-of-committer", unit: "of the committer's rate", wanted: 0.5, atLeast: true, absolute: true},
				{key: "kept-of-batch", unit: "of Batch's rate", wanted: 0.5, atLeast: true, absolute: true},
				{key: "socket-of-committer", unit: "of the committer's, a connection each"}, {key: "socket-of-batch", unit: "of Batch's, a connection each"},
				{key: "batch-us", unit: "µs/message, Batch"}, {key: "committer-us", unit: "µs/message, committer"},
				{key: "kept-us", unit: "µs/message"}, {key: "socket-us", unit: "µs/message, a connection each"},
				{key: "batch-cpu-us", unit: "µs CPU/message, Batch"}, {key: "kept-cpu-us", unit: "µs CPU/message, both ends"}}},
		{name: "queue: 10,000 waiting, flash, large messages",
			how:  "go test in package queue: bytes passed to write calls over a message's whole life, which is two commits; heap and time of a start with 10,000 waiting messages",
			ours: l.queueCosts,
			goals: []goal{{key: "heap", unit: "MB of heap, 10,000 waiting", wanted: 12, absolute: true}, {key: "open", unit: "ms to open and schedule them", wanted: 1000, absolute: true},
				{key: "flash", unit: "KiB written/4 KB message", wanted: 64, absolute: true}, {key: "flash10000", unit: "the same, 10,000 waiting", wanted: 64, absolute: true},
				{key: "afterLarge", unit: "of that after 25 MB passed", wanted: 1.1, absolute: true}}},
		{name: "queue: a message of 50 MB",
			how:  "handed in, queued and delivered; the highest resident size of the daemon",
			ours: l.largeMessage, goals: []goal{{key: "peak", unit: "MB at the peak", wanted: 40, absolute: true}, {key: "seconds", unit: "s until delivered"}}},
	}
}

// goTest runs tests or benchmarks of a package of the repository.
func (l *lab) goTest(args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"test", "-count=1"}, args...)...)
	cmd.Dir, cmd.Stderr = l.o.Source, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go test %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// enqueue runs a benchmark of the socket and returns what it printed.
func (l *lab) enqueue(clients, times string) (Sample, error) {
	out, err := l.goTest("-run", "^$", "-bench", "^BenchmarkSocket$/^"+clients+"$", "-benchtime", times, "./queue/submit")
	if err != nil {
		return nil, err
	}
	s := Sample{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "BenchmarkSocket/"+clients) {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if s[f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
				return nil, err
			}
		}
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("go test -bench printed no figures: %s", out)
	}
	return s, nil
}

// queueCosts runs the tests that measure what the queue costs.
func (l *lab) queueCosts() (Sample, error) {
	out, err := l.goTest("-v", "-run", "^(TestTenThousand|TestBytesWritten|TestAfterLargeMessage)$", "./queue")
	if err != nil {
		return nil, err
	}
	s := Sample{}
	read := func(pattern string, keys ...string) {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		for i, key := range keys {
			if m == nil {
				err = errors.Join(err, fmt.Errorf("%s was not printed by the tests: %s", key, out))
				return
			}
			s[key], _ = strconv.ParseFloat(m[i+1], 64)
		}
	}
	read(`with +0 others waiting: +([\d.]+) KiB`, "flash")
	read(`with +10000 others waiting: +([\d.]+) KiB`, "flash10000")
	read(`(\d+) bytes for each message before, (\d+) after`, "before", "after")
	read(`scheduled in ([\d.]+) ms, ([\d.]+) MB of heap`, "open", "heap")
	if err != nil {
		return nil, err
	}
	s["afterLarge"] = s["after"] / s["before"]
	return s, nil
}

// largeMessage has one message of nearly 50 MB go all the way.
func (l *lab) largeMessage() (s Sample, err error) {
	if err := l.configureDanepost(""); err != nil {
		return nil, err
	}
	receiver, err := l.startReceiver()
	defer func() { err = errors.Join(err, receiver.stop()) }()
	if err != nil {
		return nil, err
	}
	danepost, err := l.startDanepost()
	defer func() { err = errors.Join(err, danepost.stop()) }()
	if err != nil {
		return nil, err
	}
	text := append([]byte("Subject: large\n\n"), bytes.Repeat([]byte(strings.Repeat("x", 75)+"\n"), 48<<20/76)...)
	in := filepath.Join(l.scratch, "large")
	defer os.Remove(in)
	if err := os.WriteFile(in, text, 0o644); err != nil {
		return nil, err
	}
	message, err := os.Open(in)
	if err != nil {
		return nil, err
	}
	defer message.Close()
	begin := time.Now()
	cmd := exec.Command(l.sendmail(), "-i", l.toOne(0))
	cmd.Stdin = message
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("sendmail: %w: %s", err, out)
	}
	got, err := l.awaitMessages(1, 2*time.Minute)
	if err != nil {
		return nil, err
	}
	peak, err := highestResident(danepost.cmd.Process.Pid)
	return Sample{"peak": peak, "seconds": time.Unix(0, got.LastNano).Sub(begin).Seconds()}, err
}

// highestResident is the largest resident set a process ever had, in MB.
func highestResident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0, errors.New("the kernel does not tell a process's highest resident size")
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	return kb * 1024 / 1e6, err
}
