//go:build interop

package interop

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// compareSpeed reports how long sendmail -t with 5 KB takes from the start of
// the process to its end, danepost's and Postfix's in turn, both with their
// daemons running, and bounds the memory of danepost's. What the time must be,
// the benchmark judges: here the machine has other things to do.
func compareSpeed(t *testing.T, ours, theirs *peer) {
	const runs = 30
	text := "From: Robot <robot@home.demo>\nTo: speed@inbox.demo\nSubject: speed\n\n" + strings.Repeat(strings.Repeat("x", 63)+"\n", 79)
	a, b, err := inTurn(runs, func() (time.Duration, error) { return ours.timeOf(text) }, func() (time.Duration, error) { return theirs.timeOf(text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("sendmail -t of 5 KB, median of %d (least, most): danepost %v (%v, %v), Postfix %v (%v, %v), ratio %.2f", runs,
		micro(a[runs/2]), micro(a[0]), micro(a[runs-1]), micro(b[runs/2]), micro(b[0]), micro(b[runs-1]), a[runs/2].Seconds()/b[runs/2].Seconds())
	kb, err := ours.memoryOf(text)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory of danepost's sendmail -t: %.1f MB", float64(kb)/1024)
	if kb > 15*1024 {
		t.Errorf("danepost's sendmail -t takes %d KB of memory, more than 15 MB", kb)
	}
}

// inTurn times two things in turn, n times each, and sorts the times.
func inTurn(n int, first, second func() (time.Duration, error)) (a, b []time.Duration, err error) {
	for range n {
		took, err := first()
		if err != nil {
			return nil, nil, err
		}
		a = append(a, took)
		if took, err = second(); err != nil {
			return nil, nil, err
		}
		b = append(b, took)
	}
	slices.Sort(a)
	slices.Sort(b)
	return a, b, nil
}

func micro(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// timeOf runs sendmail -t once.
func (p *peer) timeOf(text string) (time.Duration, error) {
	cmd := exec.Command("/usr/sbin/sendmail", "-t")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root.dir, Credential: &syscall.Credential{Uid: 33, Gid: 33}}
	cmd.Dir, cmd.Env, cmd.Stdin = "/", []string{"PATH=/usr/sbin:/usr/bin", "HOME=/home/www"}, strings.NewReader(text)
	time.Sleep(40 * time.Millisecond) // the delivery of the last one is over
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: sendmail -t: %w: %s", p.name, err, out)
	}
	return took, nil
}

// memoryOf is the largest resident set of sendmail -t in KB. time starts it,
// because a process that this one started would begin with this one's size.
func (p *peer) memoryOf(text string) (int, error) {
	out, err := p.root.do(call{user: "www-data", argv: []string{"time", "-f", "%M", "/usr/sbin/sendmail", "-t"}, stdin: text})
	if err != nil {
		return 0, err
	}
	kb, err := strconv.Atoi(strings.TrimSpace(out.stderr))
	if err != nil || out.code != 0 {
		return 0, fmt.Errorf("time sendmail -t: exit status %d: %s", out.code, out.stderr)
	}
	return kb, nil
}
