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
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
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
	Dir  string           // created with mode 0700 when absent
	Now  func() time.Time // wall clock; default time.Now
	Boot func() Boot      // the machine's other clocks; default: asks the kernel
	Log  *slog.Logger     // default: discarded

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
type Queue struct {
	o        Options
	lock     *os.File
	body     *contents
	store    *store
	previous RunRecord

	mu     sync.Mutex
	closed bool
	run    *mailbox                  // of the Run under way, nil when there is none
	rests  *rests                    // of the same
	active map[recipientRef]struct{} // recipients being attempted
}

// recipientRef names a recipient of a message.
type recipientRef struct {
	id    string
	index int
}

// Previous is what the run before this one left: the last one that wrote
// anything. It is zero for a new queue.
func (q *Queue) Previous() RunRecord { return q.previous }

// Put makes a message durable and returns its queue id; until it returned
// nil nothing was promised. An error of content's reader aborts and leaves
// nothing. An Envelope.DropKey that was seen before returns the id it got
// then. Errors: ErrFull, ErrTooLarge, or of the reader or the filesystem.
func (q *Queue) Put(ctx context.Context, e Envelope, content io.Reader) (id string, err error) {
	if len(e.Recipients) == 0 {
		return "", errors.New("a message without recipients cannot be queued")
	}
	if e.DropKey != "" {
		if id, err := q.store.dropped(e.DropKey); id != "" || err != nil {
			return id, err
		}
	}
	if err := q.room(); err != nil {
		return "", err
	}
	s, err := q.body.stage(withContext(ctx, content), q.o.MaxMessage, q.room)
	if err != nil {
		return "", err
	}
	// Nothing is interrupted from here on: a commit takes as long as the disk.
	entry, err := q.entry(e, s)
	if err != nil {
		s.discard()
		return "", err
	}
	id, err = q.store.put(entry)
	q.body.reuse(s)
	if err != nil || id != entry.id {
		q.discard(s)
		return id, err
	}
	q.changed(false, id)
	return id, nil
}

// NewID gives out an id that no message has or will have, for a caller that
// writes it into the message it puts. One that is not used is lost.
func (q *Queue) NewID() string { return q.store.newID() }

// entry names staged content and makes a message of it that can be committed.
func (q *Queue) entry(e Envelope, s *staged) (*entry, error) {
	now, passed := q.store.clock.read()
	n := &entry{
		id:      e.ID,
		message: &message{Envelope: e, Arrived: q.o.Now(), Passed: passed, Size: s.size, Sum: s.sum, InFile: s.path != ""},
		inline:  s.inline,
	}
	if n.id == "" {
		n.id = q.NewID()
	}
	n.message.Envelope.ID, n.message.Envelope.Recipients = "", nil
	n.recipients = make([]recipient, len(e.Recipients))
	for i, r := range e.Recipients {
		n.recipients[i] = recipient{Recipient: r, Next: now, Since: now}
	}
	return n.encode(), q.body.place(s, n.id)
}

// discard removes content whose commit failed: unless a sync failed, after
// which nobody knows whether there will be a message that needs it. The next
// start knows, and sweeps.
func (q *Queue) discard(s *staged) {
	if q.store.commit.isBroken() == nil {
		s.discard()
	}
}

// room says whether the disk has room for new mail.
func (q *Queue) room() error {
	if q.o.MinFree <= 0 {
		return nil
	}
	free, err := freeBytes(q.o.Dir)
	if err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", q.o.Dir, err)
	}
	if free < q.o.MinFree {
		return fmt.Errorf("%w: %s has %d MB free and must keep %d MB", ErrFull, q.o.Dir, free>>20, q.o.MinFree>>20)
	}
	return nil
}

// ForgetDrops forgets the drop keys for which keep returns false: those whose
// maildrop file was unlinked. It costs nothing: the change rides on the next
// commit. Do not call it while a Put with a DropKey is under way.
func (q *Queue) ForgetDrops(keep func(key string) bool) {
	s := q.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.drops {
		if !keep(key) {
			s.forget[key] = struct{}{}
			delete(s.drops, key)
		}
	}
}

// open opens the content of a message.
func (q *Queue) openContent(id string, m *message) (io.ReadSeekCloser, error) {
	if m.InFile {
		return q.body.open(id, m)
	}
	b, err := q.store.content(id)
	if err != nil {
		return nil, err
	}
	return openInline(b, m)
}

// unlink removes the content files of messages that have ended. One that
// stays is swept when the queue is opened again.
func (q *Queue) unlink(ids []string) {
	for _, id := range ids {
		if err := os.Remove(q.body.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			q.o.Log.Warn("the content of an ended message could not be removed; the next start tries again", "id", id, "error", err)
		}
	}
}

// changed tells the scheduler that messages came or were changed by others;
// urgent, that an operator wants them tried now.
func (q *Queue) changed(urgent bool, ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.run != nil {
		q.run.add(ids, urgent)
	}
}

// withContext makes a reader fail when ctx has ended.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
