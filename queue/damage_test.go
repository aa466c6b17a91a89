package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	q := mustOpen(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	q.Close()
	mustOpen(t, Options{Dir: dir})
}

// filled makes a queue directory with n messages in it and returns the path
// of its database.
func filled(t testing.TB, n int) (dir, db string) {
	dir = t.TempDir()
	q := mustOpen(t, Options{Dir: dir})
	for i := range n {
		mustPut(t, q, envelope("s@a.example", fmt.Sprintf("r%d@b.example", i)), strings.Repeat("content ", i*7%900))
	}
	mustPut(t, q, envelope("s@a.example", "big@b.example"), strings.Repeat("x", 2*inlineLimit))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, dbPath(dir)
}

// TestForeignDatabase: a file that is no queue is refused with its path and
// left as it is.
func TestForeignDatabase(t *testing.T) {
	foreign := func(buckets ...string) []byte {
		path := filepath.Join(t.TempDir(), "db")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			for _, b := range buckets {
				if _, err := tx.CreateBucket([]byte(b)); err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, file := range map[string][]byte{
		"text":            []byte("this is not a database\n"),
		"empty":           {},
		"zeros":           make([]byte, 32<<10),
		"foreign bbolt":   foreign("users"),
		"state elsewhere": foreign("state"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := dbPath(dir)
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Options{Dir: dir})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, file) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestTruncatedDatabase(t *testing.T) {
	dir, path := filled(t, 100)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for size := len(whole) - 4096; size >= 0; size -= 8192 {
		if err := os.Truncate(path, int64(size)); err != nil {
			t.Fatal(err)
		}
		q, err := Open(Options{Dir: dir})
		if err == nil {
			// Nothing was cut but room to grow.
			if n := len(mustList(t, q, Filter{})); n != 101 {
				t.Fatalf("cut to %d bytes it has %d messages", size, n)
			}
			q.Close()
			continue
		}
		if refused++; !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", size, err)
		}
	}
	if refused == 0 {
		t.Error("never refused")
	}
}

// TestAlteredDatabase flips bytes all over the file. Each time the queue
// either says that it is damaged, or opens and holds back what it cannot
// trust; no address it hands out was altered.
func TestAlteredDatabase(t *testing.T) {
	dir, path := filled(t, 60)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	damaged, held := 0, 0
	for range 300 {
		b := bytes.Clone(whole)
		at := rnd.IntN(len(b))
		b[at] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := Open(Options{Dir: dir})
		if err != nil {
			if damaged++; !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		for _, m := range mustList(t, q, Filter{}) {
			for _, r := range m.Recipients {
				if r.State == "held" {
					held++
				} else if !strings.HasSuffix(r.Address, "@b.example") || m.Sender != "s@a.example" {
					t.Fatalf("byte %d: handed out %q from %q", at, r.Address, m.Sender)
				}
			}
		}
		q.Close()
	}
	t.Logf("of 300 flipped bits %d made the file unusable, %d a recipient held", damaged, held)
	if damaged == 0 {
		t.Error("no damage was found")
	}
}

// TestContentDamaged: mail whose content file is missing or altered is held
// with the reason, and the rest goes on.
func TestContentDamaged(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 4096)
	for name, spoil := range map[string]func(path string) error{
		"missing":  os.Remove,
		"cut":      func(p string) error { return os.Truncate(p, 100) },
		"longer":   func(p string) error { return os.WriteFile(p, []byte(big+"x"), 0o600) },
		"one byte": func(p string) error { return os.WriteFile(p, []byte("1"+big[1:]), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			q := mustOpen(t, Options{})
			bad := mustPut(t, q, envelope("s@a.example", "r@b.example"), big)
			good := mustPut(t, q, envelope("s@a.example", "r@b.example"), big)
			if err := spoil(q.body.path(bad)); err != nil {
				t.Fatal(err)
			}
			h := &outside{}
			runAll(t, q, h, 0)
			if h.content[good+" r@b.example"] != big {
				t.Error("the good one was not delivered")
			}
			list := mustList(t, q, Filter{})
			if len(list) != 1 || list[0].QueueID != bad || list[0].QueueName != "hold" || !strings.Contains(list[0].Recipients[0].DelayReason, q.body.path(bad)) {
				t.Errorf("list %+v", list)
			}
			if len(h.notices) != 1 { // of the good one's success
				t.Errorf("notices %+v", h.notices)
			}
			if err := q.Cat(bad, &bytes.Buffer{}); !errors.Is(err, ErrContent) {
				t.Errorf("cat: %v", err)
			}
		})
	}
}

// TestOrphans: files that belong to no message are swept at start, others
// are left alone; content of a database that was moved aside is kept.
func TestOrphans(t *testing.T) {
	dir, db := filled(t, 1)
	content := filepath.Join(dir, "content")
	orphan := filepath.Join(content, formatID(12345))
	temp := filepath.Join(content, tempPrefix+"123")
	other := filepath.Join(content, "lost+found")
	stale := db + ".new"
	for _, p := range []string{orphan, temp, other, stale} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := mustOpen(t, Options{Dir: dir})
	if names := contentFiles(t, q); len(names) != 2 {
		t.Errorf("left after the sweep: %q", names)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a half-made database stays")
	}
	q.Close()
	if err := os.Rename(db, db+".damaged"); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	q = mustOpen(t, Options{Dir: dir, Log: logTo(&log)})
	aside, _ := filepath.Glob(content + ".before-*")
	if len(aside) != 1 || !strings.Contains(log.String(), aside[0]) {
		t.Fatalf("content moved aside: %q, log %s", aside, &log)
	}
	if kept, _ := os.ReadDir(aside[0]); len(kept) != 2 {
		t.Errorf("kept: %v", kept)
	}
	if len(mustList(t, q, Filter{})) != 0 || len(contentFiles(t, q)) != 0 {
		t.Error("the new queue is not empty")
	}
}

// TestCompact: a database that is more than half free is rewritten at start,
// with everything in it.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	q := mustOpen(t, Options{Dir: dir})
	var ids []string
	for range 150 {
		ids = append(ids, mustPut(t, q, envelope("s@a.example", "r@b.example"), strings.Repeat("x", 30_000)))
	}
	if _, err := q.Remove(Filter{IDs: ids[1:]}); err != nil {
		t.Fatal(err)
	}
	q.Close()
	before, _ := os.Stat(dbPath(dir))
	q = mustOpen(t, Options{Dir: dir})
	after, _ := os.Stat(dbPath(dir))
	if after.Size() > before.Size()/4 {
		t.Errorf("%d bytes before, %d after", before.Size(), after.Size())
	}
	h := &outside{}
	runAll(t, q, h, 0)
	if len(h.content[ids[0]+" r@b.example"]) != 30_000 {
		t.Error("the message left was lost")
	}
	if last := mustPut(t, q, envelope("s@a.example", "r@b.example"), "x"); last <= ids[149] {
		t.Errorf("id %s after %s: the serial was lost", last, ids[149])
	}
}

// TestClockJumps: the wall clock goes anywhere, while the queue runs and
// between runs; nothing expires, nothing becomes due early or late, ids go on
// ascending.
func TestClockJumps(t *testing.T) {
	years := func(n int) time.Duration { return time.Duration(n) * 365 * 24 * time.Hour }
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var offset atomic.Int64
		offset.Store(int64(years(-30)))
		now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		var attempts int
		h := &outside{deliver: func(*Item, ItemRecipient) Result {
			attempts++
			return Result{Outcome: Later, Reason: "busy", Reply: "450 busy"}
		}}
		last, begin := "", time.Now()
		for i, jump := range []time.Duration{years(-30), years(26), years(-20), years(100), 0, years(-25), years(600), years(-400)} {
			boot := func() Boot { return Boot{ID: fmt.Sprint(i / 2), Up: time.Since(begin)} } // every other one is a reboot
			q := mustOpen(t, Options{Dir: dir, Now: now, Boot: boot})
			id := mustPut(t, q, envelope("s@a.example", "r@b.example"), "x")
			if id <= last || !validID(id) {
				t.Errorf("jump %d: id %q after %q", i, id, last)
			}
			last = id
			done := make(chan error)
			before := attempts
			go func() { done <- q.RunUntilIdle(t.Context(), h, 4*time.Minute) }()
			time.Sleep(time.Second)
			offset.Store(int64(jump)) // while it runs
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := attempts - before; got < 1 || got > i+1 {
				t.Errorf("jump %d: %d attempts of %d messages", i, got, i+1)
			}
			q.Close()
		}
		for _, n := range h.notices {
			t.Errorf("told of: %+v", n)
		}
		q := mustOpen(t, Options{Dir: dir, Now: now})
		if n := len(mustList(t, q, Filter{})); n != 8 {
			t.Errorf("%d messages left of 8", n)
		}
		q.Close()
	})
}

func TestUnsuitable(t *testing.T) {
	for magic, want := range map[uint32]fitness{0x72b6: unsuitable, 0x6969: unsuitable, 0x01021994: volatile, 0xef53: fit, 0x24051905: fit} {
		if got := classify(magic); got.fit != want || want != fit && got.name == "" || want == unsuitable && got.why == "" {
			t.Errorf("%#x: %+v, want %d", magic, got, want)
		}
	}
}

// FuzzCheckPages: no file makes the checker fail in another way than by its
// verdict.
func FuzzCheckPages(f *testing.F) {
	// A database with the smallest pages, so that mutations hit something.
	path := filepath.Join(f.TempDir(), "db")
	o := boltOptions()
	o.PageSize = 1 << 10
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		f.Fatal(err)
	}
	e := &entry{id: formatID(1), message: &message{Sum: []byte("sum")}, recipients: make([]recipient, 3), inline: make([]byte, 1500)}
	err = errors.Join(format(db), db.Update(func(tx *bolt.Tx) error { return putEntry(tx, e.encode()) }), db.Close())
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:16<<10], uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, file []byte, at, value uint32) {
		file = bytes.Clone(file)
		if n := uint32(len(file)); n >= 4 {
			binary.NativeEndian.PutUint32(file[at%(n-3):], value)
		}
		_ = checkPages(bytes.NewReader(file), int64(len(file)))
	})
}

// FuzzRecords: a record that is not whole is refused, and whatever decodes
// encodes to something that decodes to the same.
func FuzzRecords(f *testing.F) {
	m := message{Envelope: Envelope{Sender: "s@a.example"}, Size: 3, Sum: []byte("sum")}
	f.Add(m.encode())
	r := recipient{Recipient: Recipient{Address: "r@b.example"}, History: []Attempt{{Reason: "x"}}}
	f.Add(r.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		// Give it the right checksum half of the time.
		e := encoder{b: append([]byte{recordVersion}, b...)}
		for _, b := range [][]byte{b, e.finish()} {
			if m, err := decodeMessage(b); err == nil {
				if again, err := decodeMessage(m.encode()); err != nil || !bytes.Equal(again.encode(), m.encode()) {
					t.Errorf("message %x: %v", b, err)
				}
			}
			if r, err := decodeRecipient(b); err == nil {
				if again, err := decodeRecipient(r.encode()); err != nil || !bytes.Equal(again.encode(), r.encode()) {
					t.Errorf("recipient %x: %v", b, err)
				}
			}
		}
	})
}
