package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	boltErrors "go.etcd.io/bbolt/errors"
)

// committer runs changes in transactions: one that finds the disk idle is
// committed at once, those that arrive meanwhile share the next transaction
// and its two syncs. A lone caller never waits for company. Only behind a
// transaction that was shared does the next one wait, a fraction of what it
// costs, for those just answered: they mostly come back with their next
// message, and would find the disk busy with one of them.
type committer struct {
	db     *bolt.DB
	first  func(*bolt.Tx) error // what every transaction does before its changes
	last   func(*bolt.Tx) error // and behind them
	breaks func()               // called when a sync failed
	unmap  func()               // called now and then while there are commits

	mu      sync.Mutex
	closed  bool
	broken  error // a sync failed: what the disk holds is unknown
	queue   []*change
	wakeup  chan struct{} // capacity 1
	stopped chan struct{}

	shared int           // changes in the last transaction; of the loop alone
	took   time.Duration // what it took
}

// change is a function to run in a transaction. It may be run again after a
// rollback, so it sets what it returns to its caller and adds to nothing.
type change struct {
	run  func(*bolt.Tx) error
	done chan error
}

// changesPerCommit bounds one transaction's size.
const changesPerCommit = 256

// unmapEvery bounds what a busy queue's database takes of the process's memory.
const unmapEvery = 200 * time.Millisecond

// start starts the committer's goroutine; close ends it.
func (c *committer) start() *committer {
	c.wakeup, c.stopped = make(chan struct{}, 1), make(chan struct{})
	go c.loop()
	return c
}

// do runs fn in a transaction and returns when that is durable or failed.
func (c *committer) do(fn func(*bolt.Tx) error) error {
	ch := &change{run: fn, done: make(chan error, 1)}
	c.mu.Lock()
	if err := c.refuse(); err != nil {
		c.mu.Unlock()
		return err
	}
	c.queue = append(c.queue, ch)
	c.mu.Unlock()
	c.wake()
	return <-ch.done
}

// refuse says why there can be no change. c.mu is held.
func (c *committer) refuse() error {
	if c.closed {
		return ErrClosed
	}
	return c.broken
}

// health returns why there can be no change any more, nil while there can.
func (c *committer) health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refuse()
}

func (c *committer) wake() {
	select {
	case c.wakeup <- struct{}{}:
	default:
	}
}

// close ends the committer after what was handed to it, and waits.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake()
	<-c.stopped
}

func (c *committer) loop() {
	defer close(c.stopped)
	var unmapped time.Time
	for range c.wakeup {
		for {
			c.gather()
			batch, end := c.take()
			if end {
				return
			}
			if len(batch) == 0 {
				break
			}
			start := time.Now()
			c.commit(batch)
			c.shared, c.took = len(batch), time.Since(start)
			if start.Sub(unmapped) > unmapEvery {
				unmapped = start
				c.unmap()
			}
		}
	}
}

// gather waits, if the last transaction was shared, for as many changes
// again, but for no more than an eighth of its time.
func (c *committer) gather() {
	if c.shared < 2 {
		return
	}
	enough := time.NewTimer(c.took / 8)
	defer enough.Stop()
	for c.waiting() < c.shared {
		select {
		case <-c.wakeup:
		case <-enough.C:
			return
		}
	}
}

// waiting is how many changes wait; many, once there will be no more.
func (c *committer) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return changesPerCommit
	}
	return len(c.queue)
}

func (c *committer) take() (batch []*change, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), changesPerCommit)
	batch, c.queue = c.queue[:n:n], c.queue[n:]
	return batch, n == 0 && c.closed
}

// commit tries the batch as one transaction. If one of its changes objects,
// each goes alone, so that only the culprit fails.
func (c *committer) commit(batch []*change) {
	own, err := c.transact(batch)
	if own && len(batch) > 1 {
		for _, ch := range batch {
			_, err := c.transact([]*change{ch})
			ch.done <- err
		}
		return
	}
	for _, ch := range batch {
		ch.done <- err
	}
}

// transact runs the changes in one transaction. own tells an error of a
// change from one of the disk.
func (c *committer) transact(batch []*change) (own bool, err error) {
	if broken := c.isBroken(); broken != nil {
		return false, broken
	}
	err = c.update(func(tx *bolt.Tx) error {
		if err := c.first(tx); err != nil {
			return err
		}
		for _, ch := range batch {
			if err := ch.run(tx); err != nil {
				own = true
				return err
			}
		}
		return c.last(tx)
	})
	if err == nil || own {
		return own, err
	}
	err = diskError("commit to the queue", err)
	if !retriable(err) {
		c.mu.Lock()
		c.broken = fmt.Errorf("the queue accepts nothing more until it is opened again: %w", err)
		c.mu.Unlock()
		c.breaks()
	}
	return false, err
}

func (c *committer) isBroken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// update is bbolt's, with its panic over a page that makes no sense turned
// into an error.
func (c *committer) update(fn func(*bolt.Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return c.db.Update(fn)
}

// retriable says whether the store can be trusted after a failed commit. It
// can when pages could not be placed or written: the transaction before is
// untouched. After a failed sync nobody knows what the disk holds, and the
// kernel may not try those pages again.
func retriable(err error) bool {
	var path *fs.PathError
	return errors.Is(err, boltErrors.ErrMaxSizeReached) ||
		errors.As(err, &path) && path.Op == "write" ||
		strings.Contains(err.Error(), resizeFailed)
}

// resizeFailed is how bbolt begins the error of a file that would not grow;
// it does not wrap the cause.
const resizeFailed = "file resize error"

// diskError names full disks ErrFull, and says what to do about read-only ones.
func diskError(doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, boltErrors.ErrMaxSizeReached) ||
		strings.HasPrefix(err.Error(), resizeFailed) && strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		return fmt.Errorf("%s: %w: %w", doing, ErrFull, err)
	}
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s: %w; the kernel makes a filesystem read-only when it finds an error: see its log, check the disk and mount it again", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
