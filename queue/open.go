package queue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Open opens or creates the queue in o.Dir, locks it against other processes,
// and recovers: content files that belong to nothing are removed, and the
// database is compacted when more than half of it is free. A lease of a
// process that died needs no release, for a lease is held in memory and ends
// with the lock. Errors: ErrLocked, ErrDamaged, ErrUnsuitable, or of the
// filesystem. Nothing damaged is ever overwritten.
func Open(o Options) (*Queue, error) {
	o = o.withDefaults()
	if err := prepareDir(o.Dir, o.Log); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{o: o, lock: lock, body: &contents{dir: filepath.Join(o.Dir, "content")}, active: map[recipientRef]struct{}{}}
	if err := q.open(); err != nil {
		lock.Close()
		return nil, err
	}
	return q, nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Boot == nil {
		o.Boot = kernelBoot()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.MaxAge = cmp.Or(o.MaxAge, 5*24*time.Hour)
	o.WarnAfter = cmp.Or(o.WarnAfter, 4*time.Hour)
	o.RetryFirst = cmp.Or(o.RetryFirst, 5*time.Minute)
	o.RetryMax = max(o.RetryFirst, cmp.Or(o.RetryMax, 68*time.Minute))
	o.DrainTime = cmp.Or(o.DrainTime, 20*time.Second)
	o.Connections = max(1, cmp.Or(o.Connections, 50))
	o.PerDestination = max(1, cmp.Or(o.PerDestination, 5))
	return o
}

// prepareDir makes the directory and asks its filesystem.
func prepareDir(dir string, log *slog.Logger) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	kind, err := filesystem(dir)
	if err != nil {
		return fmt.Errorf("ask the filesystem of %s: %w", dir, err)
	}
	switch kind.fit {
	case unsuitable:
		return fmt.Errorf("%w: %s is on %s, which %s; put the state directory on a local disk or flash (ext4, f2fs, UBIFS)", ErrUnsuitable, dir, kind.name, kind.why)
	case volatile:
		log.Warn("the queue is in memory: queued mail is lost when the power goes", "dir", dir, "filesystem", kind.name)
	}
	return nil
}

// makeDir creates dir and what leads to it, durably.
func makeDir(dir string) error {
	dir = filepath.Clean(dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// open does what Open does once the directory is locked.
func (q *Queue) open() error {
	path := dbPath(q.o.Dir)
	if err := q.removeTemporaries(); err != nil {
		return err
	}
	created, err := q.createIfAbsent(path)
	if err != nil {
		return err
	}
	if err := makeDir(q.body.dir); err != nil {
		return err
	}
	db, err := openDB(path)
	if err != nil {
		return err
	}
	if db, err = q.compact(db); err != nil {
		return err
	}
	q.store = &store{db: db}
	if err := q.store.load(); err != nil {
		db.Close()
		return damaged(path, err)
	}
	q.store.unmap()
	before := q.store.state
	clk, wasSet := newClock(q.o.Now, q.o.Boot, before.moment)
	q.store.clock, q.store.state.ClockSet = clk, before.ClockSet || wasSet
	q.store.state.Run = RunRecord{Started: q.o.Now()}
	c := &committer{db: db, first: q.store.applyForget, last: q.store.stamp, breaks: q.suspect, unmap: q.store.unmap}
	q.store.commit = c.start()
	q.previous = before.Run
	if err := q.recover(created); err != nil {
		q.store.close()
		return err
	}
	return nil
}

// openDB opens the database, after a look at every page of it: bbolt answers
// damage with a panic or a fault.
func openDB(path string) (*bolt.DB, error) {
	err := checkFile(path)
	var db *bolt.DB
	if err == nil {
		db, err = bolt.Open(path, 0o600, boltOptions())
	}
	var system syscall.Errno
	switch {
	case err == nil:
		return db, nil
	case errors.As(err, &system): // it says nothing about what the file holds
		return nil, diskError("open the queue's database", err)
	}
	return nil, damaged(path, err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; it was left as it is: move it aside (mv %s %s.damaged) to start with an empty queue, and keep it and the content directory beside it for a rescue", ErrDamaged, path, err, path, path)
}

// removeTemporaries removes databases that were being made when a process
// died. Nothing refers to them.
func (q *Queue) removeTemporaries() error {
	left, err := filepath.Glob(dbPath(q.o.Dir) + ".new*")
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// createIfAbsent makes an empty database where there is none. It gets its
// name when it is whole and synced: a power cut leaves none or a good one.
func (q *Queue) createIfAbsent(path string) (created bool, err error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	temp := path + ".new"
	db, err := bolt.Open(temp, 0o600, boltOptions())
	if err != nil {
		return false, diskError("create the queue", err)
	}
	if err := errors.Join(format(db), db.Close()); err != nil {
		return false, diskError("create the queue", err)
	}
	return true, q.replaceDB(temp)
}

// replaceDB syncs a database file and gives it the queue's name.
func (q *Queue) replaceDB(temp string) error {
	f, err := os.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return diskError("create the queue", err)
	}
	if err := os.Rename(temp, dbPath(q.o.Dir)); err != nil {
		return diskError("create the queue", err)
	}
	return syncDir(q.o.Dir)
}

// compactAbove is the size of a database that is worth compacting.
const compactAbove = 1 << 20

// suspectPath is a mark that a sync of the database failed. Pages of it may
// be in the kernel's memory and not on the disk, and the kernel does not try
// to write them again: the next one to open the queue copies all of it.
func (q *Queue) suspectPath() string { return dbPath(q.o.Dir) + ".suspect" }

// suspect leaves the mark, if the disk still lets it.
func (q *Queue) suspect() {
	err := os.WriteFile(q.suspectPath(), []byte("a sync of queue.db failed; it is copied when the queue is opened\n"), 0o600)
	if err == nil {
		err = syncDir(q.o.Dir)
	}
	q.o.Log.Error("the disk did not keep what was written to it; look at it before the queue is opened again", "dir", q.o.Dir, "mark", err == nil)
}

// compact rewrites the database without its free pages when they are more
// than half of it, or when it is suspect, and returns the database to use. A
// failure to save room is no failure to open.
func (q *Queue) compact(db *bolt.DB) (*bolt.DB, error) {
	path := db.Path()
	size, free := pagesOf(db)
	_, err := os.Stat(q.suspectPath())
	suspect := err == nil
	if !suspect && (size < compactAbove || free <= size/2) {
		return db, nil
	}
	temp := path + ".new"
	if err := copyDB(temp, db); err != nil && suspect {
		return nil, errors.Join(fmt.Errorf("copy the queue's database, of which a sync failed: %w", err), db.Close())
	} else if err != nil {
		q.o.Log.Warn("the queue's database could not be compacted; it works as it is", "path", path, "error", err)
		os.Remove(temp)
		return db, nil
	}
	if err := errors.Join(db.Close(), q.replaceDB(temp)); err != nil {
		return nil, err
	}
	if suspect {
		if err := os.Remove(q.suspectPath()); err != nil {
			return nil, err
		}
	}
	q.o.Log.Info("the queue's database was compacted", "path", path, "bytes_before", size, "bytes_free", free)
	return openDB(path)
}

// pagesOf returns the bytes of the database's pages, and of its free ones.
func pagesOf(db *bolt.DB) (size, free int64) {
	tx, err := db.Begin(false)
	if err != nil {
		return 0, 0
	}
	defer tx.Rollback()
	stats := db.Stats()
	return tx.Size(), int64(stats.FreePageN+stats.PendingPageN) * int64(db.Info().PageSize)
}

func copyDB(temp string, src *bolt.DB) error {
	dst, err := bolt.Open(temp, 0o600, boltOptions())
	if err != nil {
		return err
	}
	dst.NoSync = true // replaceDB syncs the whole
	return errors.Join(bolt.Compact(dst, src, 1<<20), dst.Close())
}

// recover puts the content directory in order, notes that a run began, and
// says how the one before ended.
func (q *Queue) recover(created bool) error {
	if created {
		if err := q.keepStrayContent(); err != nil {
			return err
		}
	}
	swept, err := q.body.sweep(q.store.known)
	if err != nil {
		return fmt.Errorf("sweep %s: %w", q.body.dir, err)
	}
	if !created && !q.previous.Clean && !q.previous.Started.IsZero() {
		q.o.Log.Info("the run before ended without closing the queue; everything it accepted is here",
			"started", q.previous.Started, "files_swept", swept)
	}
	return nil
}

// keepStrayContent moves content that an earlier database knew out of the
// sweep's way: a new database means that the old one was moved aside, and
// someone may still rescue it.
func (q *Queue) keepStrayContent() error {
	entries, err := os.ReadDir(q.body.dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	aside := fmt.Sprintf("%s.before-%s", q.body.dir, q.store.newID())
	if err := os.Rename(q.body.dir, aside); err != nil {
		return err
	}
	q.o.Log.Warn("the database is new, but there was content of an earlier one; it was moved aside", "content", aside, "files", len(entries))
	return makeDir(q.body.dir)
}

// Close releases the queue. Call it after Run returned.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	q.closed = true
	q.mu.Unlock()
	noted := q.store.noteEnd(q.previous)
	return errors.Join(noted, q.store.close(), q.lock.Close())
}
