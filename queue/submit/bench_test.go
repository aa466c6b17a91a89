package submit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"danepost/queue"
)

const (
	benchSize  = 5 << 10
	storedSize = 5446 // of it in the queue
)

// contender is one way to make a 5 KB message durable, and what it took.
type contender struct {
	name  string
	store func() error
	took  time.Duration
	cpu   time.Duration
}

// BenchmarkSocket hands 5 KB messages to a server over its socket, each
// acknowledged only when durable, and stores the same bytes barely, in turns.
//
// Alone, the bare way is a write with fdatasync plus a bbolt commit; x-bare is
// the time of the socket as a multiple of it.
//
// 32 clients at once are compared with 32 goroutines which share bbolt's
// transactions, each waiting until its own message is durable: with bbolt's
// Batch, told that 32 make a transaction, and with one goroutine that commits
// whatever is waiting. x-batch and x-committer are the rate of the socket as
// a part of theirs. us is microseconds per message by the clock, cpu-us those
// of both ends' processor time.
func BenchmarkSocket(b *testing.B) {
	b.Run("clients=1", func(b *testing.B) {
		dir := benchDir(b)
		all := []*contender{{name: "socket", store: benchServer(b, dir, false)}, {name: "bare", store: bareAlone(b, dir)}}
		inTurns(b, 1, all)
		b.ReportMetric(float64(all[0].took)/float64(all[1].took), "x-bare")
	})
	b.Run("clients=32", func(b *testing.B) {
		dir := benchDir(b)
		all := []*contender{
			{name: "socket", store: benchServer(b, dir, false)},
			{name: "kept", store: benchServer(b, dir, true)},
			{name: "batch", store: bareBatch(b, dir, 32)},
			{name: "committer", store: bareCommitter(b, dir)},
		}
		inTurns(b, 32, all)
		for _, ours := range all[:2] {
			for _, bare := range all[2:] {
				b.ReportMetric(float64(bare.took)/float64(ours.took), ours.name+"-of-"+bare.name)
			}
		}
		b.ReportMetric(commitsOf(b, fmt.Sprint(dir, "/queue-true/queue.db"))/float64(b.N), "kept-commits/op")
		b.ReportMetric(commitsOf(b, fmt.Sprint(dir, "/queue-false/queue.db"))/float64(b.N), "socket-commits/op")
	})
}

// inTurns runs every contender b.N times from n goroutines, a part at a time,
// so that what else the machine does hits all of them alike.
func inTurns(b *testing.B, n int, all []*contender) {
	for _, c := range all {
		inParallel(b, n, n, c.store) // first: files grow, pools fill
	}
	b.ResetTimer()
	for left := b.N; left > 0; {
		part := min(left, 64*n)
		left -= part
		for _, c := range all {
			before := cpuTime()
			c.took += inParallel(b, n, part, c.store)
			c.cpu += cpuTime() - before
		}
	}
	for _, c := range all {
		b.ReportMetric(float64(c.took.Nanoseconds())/1000/float64(b.N), c.name+"-us")
		b.ReportMetric(float64(c.cpu.Nanoseconds())/1000/float64(b.N), c.name+"-cpu-us")
	}
}

// inParallel runs fn total times from n goroutines and returns how long it took.
func inParallel(b *testing.B, n, total int, fn func() error) time.Duration {
	var left atomic.Int64
	left.Store(int64(total))
	var wg sync.WaitGroup
	start := time.Now()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(".", "bench-") // on the disk, not on a tmpfs
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// benchServer starts a server on a real queue and returns one submission.
func benchServer(b *testing.B, dir string, keep bool) func() error {
	q, err := queue.Open(queue.Options{Dir: fmt.Sprint(dir, "/queue-", keep)})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "s")
	client := &Client{Path: path, Keep: keep}
	ln, err := ListenSocket(path)
	if err != nil {
		b.Fatal(err)
	}
	gate := NewGate(Policy{Hostname: "mail.example.com", SpoolDir: dir}, Deps{Queue: q})
	ctx, cancel := context.WithCancel(context.Background())
	var server sync.WaitGroup
	server.Go(func() { (&Server{Gate: gate}).Serve(ctx, ln, path) })
	b.Cleanup(func() {
		client.Close()
		cancel()
		server.Wait()
		q.Close()
	})
	content := "Subject: x\n\n" + strings.Repeat(strings.Repeat("x", 79)+"\n", benchSize/80)
	sender := "a@example.org"
	return func() error {
		r := &Request{Sender: &sender, Recipients: []Recipient{{Text: "b@example.net"}}}
		_, err := client.Submit(context.Background(), r, strings.NewReader(content))
		return err
	}
}

// bareAlone appends to a file and syncs it, and commits the same to bbolt.
func bareAlone(b *testing.B, dir string) func() error {
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	db, put := bareDB(b, filepath.Join(dir, "alone"))
	body := make([]byte, storedSize)
	return func() error {
		if _, err := f.Write(body); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		return db.Update(put)
	}
}

// bareBatch is bbolt's own grouping at its best: n callers fill a transaction,
// and it waits for them no longer than they need.
func bareBatch(b *testing.B, dir string, n int) func() error {
	db, put := bareDB(b, filepath.Join(dir, "batch"))
	db.MaxBatchSize, db.MaxBatchDelay = n, time.Millisecond
	return func() error { return db.Batch(put) }
}

// bareCommitter commits in one goroutine whatever callers wait for.
func bareCommitter(b *testing.B, dir string) func() error {
	db, put := bareDB(b, filepath.Join(dir, "committer"))
	calls := make(chan chan error, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for first := range calls {
			batch := []chan error{first}
			for len(calls) > 0 {
				batch = append(batch, <-calls)
			}
			err := db.Update(func(tx *bolt.Tx) error {
				for range batch {
					if err := put(tx); err != nil {
						return err
					}
				}
				return nil
			})
			for _, done := range batch {
				done <- err
			}
		}
	})
	b.Cleanup(func() { close(calls); wg.Wait() })
	return func() error {
		done := make(chan error, 1)
		calls <- done
		return <-done
	}
}

// bareDB opens a database and returns what puts a message's bytes into it: as
// many as the queue keeps of the same message, which are its content with the
// header completed and line ends of two bytes, an envelope and a recipient.
func bareDB(b *testing.B, path string) (*bolt.DB, func(*bolt.Tx) error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	if err := db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"messages", "content"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	body, envelope, recipient := make([]byte, storedSize), make([]byte, 80), make([]byte, 35)
	var serial atomic.Uint64
	return db, func(tx *bolt.Tx) error {
		key := binary.BigEndian.AppendUint64(nil, serial.Add(1))
		messages := tx.Bucket([]byte("messages"))
		return errors.Join(messages.Put(key, envelope), messages.Put(append(key, 0, 0, 0, 0), recipient),
			tx.Bucket([]byte("content")).Put(key, body))
	}
}

func commitsOf(b *testing.B, path string) float64 {
	f, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(max(binary.NativeEndian.Uint64(f[16+48:]), binary.NativeEndian.Uint64(f[4096+16+48:])))
}
