// Package queue keeps accepted mail until it is delivered, returned or
// removed. It knows bytes, recipients and times, not SMTP.
//
// The promise: when Put returns nil the message is on the disk and stays
// there until each recipient ended. State lives in one bbolt file; content
// up to 32 KiB lives in it too, larger content in files beside it, written
// and synced before the transaction that mentions them, unlinked after the
// one that forgets them.
package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Errors that callers branch on; the errors returned wrap them and say which
// path, what happened and what to do.
var (
	ErrLocked     = errors.New("the queue is in use by another process")
	ErrDamaged    = errors.New("the queue's database is damaged or not a queue")
	ErrUnsuitable = errors.New("the filesystem cannot hold a queue")
	ErrFull       = errors.New("not enough room on the queue's disk")
	ErrTooLarge   = errors.New("message too large")
	ErrNotFound   = errors.New("no such message in the queue")
	ErrContent    = errors.New("the content of the message is missing or altered")
	ErrNoFilter   = errors.New("nothing selected")
	ErrClosed     = errors.New("the queue is closed")
)

// Options says where a queue is and how it behaves. Zero values get the
// defaults named.
type Options struct {
	Dir string           // created with mode 0700 when absent
	Now func() time.Time // wall clock; default time.Now
	Log *slog.Logger     // default: discarded

	MaxAge     time.Duration // a recipient this old is bounced after its next failure; 5 days
	WarnAfter  time.Duration // the sender is told once of a recipient this late; 4 hours; negative: never
	RetryFirst time.Duration // first backoff; 5 minutes
	RetryMax   time.Duration // longest backoff; 68 minutes
	DrainTime  time.Duration // how long deliveries may go on after Run's context ended; 20 seconds

	MaxMessage int64 // bytes of content; 0: no limit
	MinFree    int64 // bytes that must be free on the disk for Put to accept; 0: no check

	Connections    int // deliveries at once; 50
	PerDestination int // deliveries at once to one destination; 5
}

// Queue is an open queue. Its methods are safe for concurrent use.
type Queue struct{}

// Open opens or creates the queue in o.Dir, locks it against other processes,
// and recovers: content files that belong to nothing are removed, and the
// database is compacted when more than half of it is free. Errors: ErrLocked,
// ErrDamaged, ErrUnsuitable, or of the filesystem. Nothing damaged is ever
// overwritten.
func Open(o Options) (*Queue, error) { return nil, ErrClosed }

// Close releases the queue. Call it after Run returned.
func (q *Queue) Close() error { return ErrClosed }

// Put makes a message durable and returns its queue id; until it returned
// nil nothing was promised. An error of content's reader aborts and leaves
// nothing. An Envelope.DropKey that was seen before returns the id it got
// then. Errors: ErrFull, ErrTooLarge, or of the reader or the filesystem.
func (q *Queue) Put(ctx context.Context, e Envelope, content io.Reader) (id string, err error) {
	return "", ErrClosed
}

// ForgetDrops forgets the drop keys for which keep returns false: those whose
// maildrop file was unlinked. It costs nothing: the change rides on the next
// commit. Do not call it while a Put with a DropKey is under way.
func (q *Queue) ForgetDrops(keep func(key string) bool) {}

// Run attempts what is due until ctx ends, then waits for the deliveries
// under way: Options.DrainTime, after which their context ends too. It fails
// when the disk does not keep what is written to it. One Run at a time.
func (q *Queue) Run(ctx context.Context, h Handler) error { return ErrClosed }

// RunUntilIdle is Run that also ends when nothing is running or due within
// horizon (0: each due recipient is tried once).
func (q *Queue) RunUntilIdle(ctx context.Context, h Handler, horizon time.Duration) error {
	return ErrClosed
}
