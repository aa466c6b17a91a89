package submit

import (
	"context"
	"encoding/binary"
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

const benchSize = 5 << 10

// BenchmarkSocket hands 5 KB messages to a server over its socket, one client
// at a time and 32 at once, each acknowledged only when durable. In the same
// run it stores the same bytes barely: alone with a write and fdatasync and a
// bbolt commit, together with bbolt's grouped commits. "x-bare" is the time
// of the socket's way as a multiple of the bare one's.
func BenchmarkSocket(b *testing.B) {
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			dir, err := os.MkdirTemp(".", "bench-") // on the disk, not on a tmpfs
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { os.RemoveAll(dir) })
			submit := benchServer(b, dir)
			store := bareStore(b, dir, clients)
			bare := inParallel(b, clients, store)
			b.ResetTimer()
			took := inParallel(b, clients, submit)
			b.ReportMetric(float64(took)/float64(bare), "x-bare")
		})
	}
}

// benchServer starts a server on a real queue and returns one submission.
func benchServer(b *testing.B, dir string) func() error {
	q, err := queue.Open(queue.Options{Dir: filepath.Join(dir, "queue")})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "s")
	ln, err := ListenSocket(path)
	if err != nil {
		b.Fatal(err)
	}
	gate := NewGate(Policy{Hostname: "mail.example.com", SpoolDir: dir}, Deps{Queue: q})
	ctx, cancel := context.WithCancel(context.Background())
	var server sync.WaitGroup
	server.Go(func() { (&Server{Gate: gate}).Serve(ctx, ln, path) })
	b.Cleanup(func() {
		cancel()
		server.Wait()
		q.Close()
	})
	client := &Client{Path: path}
	content := "Subject: x\n\n" + strings.Repeat(strings.Repeat("x", 79)+"\n", benchSize/80)
	sender := "a@example.org"
	return func() error {
		r := &Request{Sender: &sender, Recipients: []Recipient{{Text: "b@example.net"}}}
		_, err := client.Submit(context.Background(), r, strings.NewReader(content))
		return err
	}
}

// bareStore returns one durable store of the same bytes.
func bareStore(b *testing.B, dir string, clients int) func() error {
	db, err := bolt.Open(filepath.Join(dir, "bare"), 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close(); f.Close() })
	db.MaxBatchSize = clients
	var serial atomic.Uint64
	body := make([]byte, benchSize)
	put := func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("m"))
		if err != nil {
			return err
		}
		return bucket.Put(binary.BigEndian.AppendUint64(nil, serial.Add(1)), body)
	}
	if clients > 1 {
		return func() error { return db.Batch(put) }
	}
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

// inParallel runs fn b.N times from n goroutines and returns how long it took.
func inParallel(b *testing.B, n int, fn func() error) time.Duration {
	var left atomic.Int64
	left.Store(int64(b.N))
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
