package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"danepost/queue"
)

// TestFaults makes system calls of a process at work fail: the disk is full
// for a while or from some point on, remounted read-only, or loses what it is
// told to keep. What was acknowledged must be there afterwards, and what
// cannot be kept must be refused.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		inject string // strace counts the calls of each thread by itself
		after  string // "some" or "none" are accepted after a refusal
	}{
		"full for a while":      {"pwrite64:error=ENOSPC:when=20..25", "some"},
		"full from some point":  {"pwrite64:error=ENOSPC:when=30+", ""},
		"read-only for a while": {"pwrite64:error=EROFS:when=20..25", "some"},
		"read-only":             {"pwrite64:error=EROFS:when=30+", ""},
		"sync of the database":  {"fdatasync:error=EIO:when=11", "none"},
		"sync of the meta page": {"fdatasync:error=EIO:when=12", "none"},
		"sync finds no room":    {"fdatasync:error=ENOSPC:when=13", "none"},
		"sync of content":       {"fsync:error=EIO:when=8+", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			_, out := trace(t, dir, "faults", "-e", "inject="+c.inject)
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			refused, after := 0, 0
			for _, line := range lines {
				if strings.HasPrefix(line, "refused") {
					refused++
				} else if strings.HasPrefix(line, "put ") && refused > 0 {
					after++
				}
			}
			p, err := readPromises(lines)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d acknowledged, %d refused, %d acknowledged after the first refusal", len(p.put), refused, after)
			if refused == 0 {
				t.Error("nothing was refused")
			}
			// Three others may be past the fault when it strikes.
			if c.after == "none" && after > 3 || c.after == "some" && after == 0 {
				t.Errorf("%d messages acknowledged after one was refused", after)
			}
			if err := checkPromises(dir, p); err != nil {
				t.Error(err)
			}
		})
	}
}

// taker accepts everything and remembers it.
type taker struct{ worker }

func (*taker) Deliver(_ context.Context, item *queue.Item, report func(queue.Result)) {
	f, err := item.Open()
	if err != nil {
		return
	}
	f.Close()
	for _, r := range item.Recipients {
		report(queue.Result{Index: r.Index, Outcome: queue.Delivered, Reply: "250 ok"})
	}
}

// TestFullDisk fills a small filesystem with mail: what does not fit is
// refused as ErrFull, what was accepted is delivered although not a byte is
// free, and then there is room again.
func TestFullDisk(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	mount := t.TempDir()
	if err := unix.Mount("queue-test", mount, "tmpfs", 0, "size=3m"); err != nil {
		t.Skip("a small filesystem cannot be mounted here (root can): ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	q, err := queue.Open(queue.Options{Dir: filepath.Join(mount, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	accepted := fillUp(t, q, []int{200_000, 30_000, 1000, 10})
	// Take the last blocks as well.
	junk := bytes.Repeat([]byte("x"), 4096)
	f, err := os.Create(filepath.Join(mount, "junk"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(junk)
	}
	f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := q.RunUntilIdle(ctx, &taker{}, 0); err != nil {
		t.Fatal(err)
	}
	list, err := q.List(ctx, queue.Filter{})
	if err != nil || len(list) != 0 {
		t.Errorf("%d of %d messages are left: %v", len(list), accepted, err)
	}
	if again := fillUp(t, q, []int{30_000}); again < 10 {
		t.Errorf("room for %d messages after the first %d were delivered", again, accepted)
	}
}

// fillUp puts messages until none of each size fits.
func fillUp(t *testing.T, q *queue.Queue, sizes []int) (accepted int) {
	t.Helper()
	for _, size := range sizes {
		for {
			e := queue.Envelope{Sender: "s@a.example", Recipients: []queue.Recipient{{Address: fmt.Sprintf("r@good%d.example", accepted%7)}}}
			_, err := q.Put(context.Background(), e, strings.NewReader(strings.Repeat("x", size)))
			if errors.Is(err, queue.ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			accepted++
		}
	}
	return accepted
}
