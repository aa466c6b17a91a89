package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"danepost/queue"
)

// scratch is a directory whose syncs are cheap, where there is one: states
// after power cuts are made by the hundred.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// trace runs the worker on dir under strace and returns the trace's path.
func trace(t *testing.T, dir, plan string, extra ...string) (path string, output []byte) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	path = filepath.Join(scratch(t), "trace")
	args := append(TraceOptions(path), extra...)
	cmd := exec.Command(strace, append(args, os.Args[0])...)
	cmd.Env = append(os.Environ(), workerDir+"="+dir, workerPlan+"="+plan, "GOMAXPROCS=2")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if strings.Contains(errs.String(), "ptrace") {
			t.Skip("strace may not trace here: ", errs.String())
		}
		t.Fatalf("%v: %s", err, errs.String())
	}
	return path, out.Bytes()
}

// TestPowerCut records a process at work and cuts the power at every call or,
// in the short form, at some. Each time the queue must open, hold every
// recipient that was acknowledged and has no final outcome, hold none that
// was seen to be gone, and hold nothing that was never put; where a
// recipient ended in failure its bounce must be there.
func TestPowerCut(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	path, _ := trace(t, filepath.Join(root, "state", "danepost"), "")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(3, 5))
	d := NewDisk(root)
	cuts, last := 0, 0
	err = Parse(f, func(c Call) error {
		if err := d.Do(c); err != nil {
			return err
		}
		if d.Calls == last {
			return nil
		}
		last = d.Calls
		how := []Survival{Nothing, All, Some}
		if !soak() {
			if rnd.IntN(12) > 0 {
				return nil
			}
			how = []Survival{[]Survival{Nothing, All, Some, Some}[rnd.IntN(4)]}
		}
		for _, how := range how {
			cuts++
			if err := cutAndCheck(t, d, how, rnd); err != nil {
				return fmt.Errorf("power cut after call %d (%s), survival %d: %w", d.Calls, c.Name, how, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d power cuts over %d calls; %d lines acknowledged", cuts, d.Calls, len(d.Acknowledged))
	if d.Replaced["queue.db"] == 0 {
		t.Error("the database was never compacted")
	}
	if cuts < 50 || len(d.Acknowledged) < 100 {
		t.Error("too little was tried")
	}
}

// promised is what a process had acknowledged.
type promised struct {
	put     map[string]int // id -> number
	final   map[string]bool
	gone    map[string]bool
	removed map[string]bool
}

func readPromises(lines []string) (promised, error) {
	p := promised{put: map[string]int{}, final: map[string]bool{}, gone: map[string]bool{}, removed: map[string]bool{}}
	for _, line := range lines {
		var id string
		var n int
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "put":
			if _, err := fmt.Sscanf(line, "put %s %d", &id, &n); err != nil {
				return p, fmt.Errorf("line %q: %w", line, err)
			}
			p.put[id] = n
		case "final":
			if _, err := fmt.Sscanf(line, "final %s %d", &id, &n); err != nil {
				return p, fmt.Errorf("line %q: %w", line, err)
			}
			p.final[fmt.Sprint(id, " ", recipientOf(p.put, id, n))] = true
			p.final[fmt.Sprint(id, " ", n)] = true
		case "gone":
			p.gone[strings.TrimPrefix(line, "gone ")] = true
		case "remove":
			p.removed[strings.TrimPrefix(line, "remove ")] = true
		case "refused":
		default:
			return p, fmt.Errorf("the worker said %q", line)
		}
	}
	return p, nil
}

func recipientOf(put map[string]int, id string, i int) string {
	n, ok := put[id]
	if !ok {
		return "" // its put was not acknowledged yet
	}
	return recipients(n)[i].Address
}

func cutAndCheck(t *testing.T, d *Disk, how Survival, rnd *rand.Rand) error {
	dir, err := os.MkdirTemp(scratchRoot(), "cut-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := d.Cut(dir, how, rnd); err != nil {
		return err
	}
	p, err := readPromises(d.Acknowledged)
	if err != nil {
		return err
	}
	return checkPromises(filepath.Join(dir, "state", "danepost"), p)
}

func scratchRoot() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return ""
}

// checkPromises opens the queue in dir and compares.
func checkPromises(dir string, p promised) error {
	q, err := queue.Open(queue.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer q.Close()
	list, err := q.List(context.Background(), queue.Filter{})
	if err != nil {
		return err
	}
	there := map[string]bool{}  // "id address"
	bounces := map[string]int{} // of id
	for _, s := range list {
		if err := checkMessage(q, s, p, bounces); err != nil {
			return err
		}
		for _, r := range s.Recipients {
			there[s.QueueID+" "+r.Address] = true
		}
	}
	for id, n := range p.put {
		for i, r := range recipients(n) {
			key := id + " " + r.Address
			final := p.final[fmt.Sprint(id, " ", i)]
			if !there[key] && !final && !p.removed[id] {
				return fmt.Errorf("message %s (number %d) was acknowledged, and its recipient %s is lost", id, n, r.Address)
			}
			if !there[key] && final && strings.Contains(r.Address, "@bad") && bounces[id] == 0 && !p.removed[id] {
				return fmt.Errorf("recipient %s of %s ended in failure without a bounce", r.Address, id)
			}
		}
	}
	return nil
}

// checkMessage looks at one message that is in the queue.
func checkMessage(q *queue.Queue, s queue.Summary, p promised, bounces map[string]int) error {
	if p.gone[s.QueueID] {
		return fmt.Errorf("message %s had ended and is back", s.QueueID)
	}
	var content bytes.Buffer
	if err := q.Cat(s.QueueID, &content); err != nil {
		return err
	}
	if of, ok := strings.CutPrefix(strings.TrimSpace(content.String()), "bounce of "); ok && s.Sender == "" {
		bounces[of]++
		return nil
	}
	n := number(content.Bytes())
	if n < 0 {
		return fmt.Errorf("message %s is none that was put: %.40q", s.QueueID, content.String())
	}
	if known, ok := p.put[s.QueueID]; ok && known != n {
		return fmt.Errorf("message %s has the content of number %d, not %d", s.QueueID, n, known)
	}
	want := map[string]bool{}
	for _, r := range recipients(n) {
		want[r.Address] = true
	}
	for _, r := range s.Recipients {
		if !want[r.Address] {
			return errors.New("a recipient was invented: " + r.Address)
		}
	}
	return nil
}
