package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Buckets. A message's records stand together, so that a commit that changes
// them writes few pages. Its content is not beside them but in a bucket of
// its own, which bbolt keeps on pages of its own once it is larger than a
// quarter of a page: else every change of state would rewrite the bodies that
// share a page with it.
const (
	bucketMessages = "messages" // see below; its sequence is the last serial
	bucketDrops    = "drops"    // drop key -> id
	bucketState    = "state"    // format, clock, run

	keyContent = "content"
	keyFormat  = "format"
	keyState   = "state"
)

// In bucketMessages the id is the key of the message, recipientKey that of a
// recipient, and contentBucket that of a bucket with the content in it.
func contentBucket(id string) []byte { return []byte(id + "c") }

// recipientKey is the key of a message's i-th recipient.
func recipientKey(id string, i int) []byte {
	return binary.BigEndian.AppendUint32([]byte(id), uint32(i))
}

func bucket(tx *bolt.Tx, name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }

// formatName marks a database as a queue of this format.
const formatName = "danepost queue 1"

// store is the database: one method for each transaction.
type store struct {
	db     *bolt.DB
	clock  *clock
	commit *committer

	mu     sync.Mutex
	serial uint64              // the last one given out
	forget map[string]struct{} // drop keys to delete with the next commit
	drops  map[string]struct{} // drop keys known
	state  state
	dirty  bool // this run committed something
}

// state is what every commit notes, so small that it shares the root page.
type state struct {
	moment
	Run      RunRecord
	ClockSet bool // the wall clock was set, and nothing was scheduled since
}

// RunRecord is the history of one run: from Open to Close.
type RunRecord struct {
	Started   time.Time
	Clean     bool // it ended with Close
	Accepted  int64
	Delivered int64 // recipients
	Failed    int64 // recipients
}

func (s *state) encode() []byte {
	e := newEncoder()
	e.num(int64(s.Queue))
	e.num(s.Wall.UnixMicro())
	e.num(s.Run.Started.UnixMicro())
	e.flag(s.Run.Clean)
	e.num(s.Run.Accepted)
	e.num(s.Run.Delivered)
	e.num(s.Run.Failed)
	e.num(int64(s.Lost))
	e.text(s.Boot)
	e.num(int64(s.Up))
	e.flag(s.ClockSet)
	return e.finish()
}

func decodeState(b []byte) (state, error) {
	d := newDecoder(b)
	s := state{moment: moment{Queue: time.Duration(d.num()), Wall: time.UnixMicro(d.num())}}
	s.Run = RunRecord{Started: time.UnixMicro(d.num()), Clean: d.flag(), Accepted: d.num(), Delivered: d.num(), Failed: d.num()}
	s.Lost, s.Boot, s.Up = time.Duration(d.num()), d.text(), time.Duration(d.num())
	s.ClockSet = d.flag()
	return s, d.err()
}

// boltOptions are bbolt's settings for a queue. The page size is fixed
// so that a commit costs the same on machines with large pages.
func boltOptions() *bolt.Options {
	maxSize := int64(16 << 30)
	if strconv.IntSize == 32 {
		maxSize = 512 << 20 // what a 32-bit process can surely map; beyond its limit there is no way back
	}
	return &bolt.Options{
		Timeout:        time.Second,
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		PageSize:       4096,
		MaxSize:        int(maxSize),
	}
}

// format creates the buckets of a new database.
func format(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketMessages, bucketDrops, bucketState} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return bucket(tx, bucketState).Put([]byte(keyFormat), []byte(formatName))
	})
}

// load reads what a store keeps in memory, or says that this is not a queue.
func (s *store) load() error {
	return s.view(func(tx *bolt.Tx) error {
		b := bucket(tx, bucketState)
		if b == nil {
			return errors.New("it is a database, but not of a danepost queue")
		}
		if got := string(b.Get([]byte(keyFormat))); got != formatName {
			return fmt.Errorf("it has the format %q, this program knows %q", got, formatName)
		}
		for _, name := range []string{bucketMessages, bucketDrops} {
			if bucket(tx, name) == nil {
				return fmt.Errorf("the table %q is missing", name)
			}
		}
		s.serial = bucket(tx, bucketMessages).Sequence()
		if v := b.Get([]byte(keyState)); v != nil {
			var err error
			if s.state, err = decodeState(v); err != nil {
				return err
			}
		}
		s.drops, s.forget = map[string]struct{}{}, map[string]struct{}{}
		return bucket(tx, bucketDrops).ForEach(func(k, _ []byte) error {
			s.drops[string(k)] = struct{}{}
			return nil
		})
	})
}

// applyForget deletes the drop keys that are to be forgotten: before anything
// else in the transaction, which may put one of them anew.
func (s *store) applyForget(tx *bolt.Tx) error {
	s.mu.Lock()
	keys := slices.Collect(maps.Keys(s.forget))
	s.mu.Unlock()
	for _, key := range keys {
		if err := bucket(tx, bucketDrops).Delete([]byte(key)); err != nil {
			return err
		}
	}
	tx.OnCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range keys {
			delete(s.forget, key)
		}
	})
	return nil
}

// stamp notes the last serial, the time and the run's history.
func (s *store) stamp(tx *bolt.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := bucket(tx, bucketMessages)
	if s.serial > b.Sequence() {
		if err := b.SetSequence(s.serial); err != nil {
			return err
		}
	}
	s.dirty = true
	s.state.moment = s.clock.moment()
	return bucket(tx, bucketState).Put([]byte(keyState), s.state.encode())
}

// takeClockSet says whether the wall clock was set before anything of this
// process was scheduled, and forgets it.
func (s *store) takeClockSet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.state.ClockSet
	s.state.ClockSet = false
	return was
}

// newID gives out a queue id.
func (s *store) newID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial = nextID(s.serial, s.clock.wall())
	return formatID(s.serial)
}

// view is bbolt's View, with its panic over a page that makes no sense
// turned into an error.
func (s *store) view(fn func(*bolt.Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return s.db.View(fn)
}

// unmap gives the pages of the database that were looked at back: bbolt maps
// the whole file, and what passed through would else count as the process's
// memory for as long as it runs. A transaction is open, so that bbolt does not
// move the map meanwhile.
func (s *store) unmap() {
	s.view(func(tx *bolt.Tx) error { //nolint:errcheck // nothing can fail
		unmap(s.db.Info().Data, tx.Size())
		return nil
	})
}

// dropped returns the id a drop key was queued under, "" when it is new.
func (s *store) dropped(key string) (id string, err error) {
	s.mu.Lock()
	_, forgotten := s.forget[key]
	s.mu.Unlock()
	if forgotten {
		return "", nil
	}
	err = s.view(func(tx *bolt.Tx) error {
		id = string(bucket(tx, bucketDrops).Get([]byte(key)))
		return nil
	})
	return id, err
}

// entry is a message to put.
type entry struct {
	id         string
	message    *message
	recipients []recipient
	inline     []byte   // its content, unless message.InFile
	records    [][]byte // what encode made of message and recipients
}

// encode makes the records, outside of the transaction that all wait for.
func (e *entry) encode() *entry {
	e.records = append(make([][]byte, 0, 1+len(e.recipients)), e.message.encode())
	for i := range e.recipients {
		e.records = append(e.records, e.recipients[i].encode())
	}
	return e
}

// put commits a message and returns its id: another one than e's when the
// drop key was queued before.
func (s *store) put(e *entry) (id string, err error) {
	err = s.commit.do(func(tx *bolt.Tx) error {
		id = e.id
		if key := []byte(e.message.Envelope.DropKey); len(key) > 0 {
			drops := bucket(tx, bucketDrops)
			if before := drops.Get(key); before != nil {
				id = string(before)
				return nil
			}
			if err := drops.Put(key, []byte(id)); err != nil {
				return err
			}
		}
		return putEntry(tx, e)
	})
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := e.message.Envelope.DropKey; key != "" {
		s.drops[key] = struct{}{}
	}
	if id == e.id {
		s.state.Run.Accepted++
	}
	return id, nil
}

func putEntry(tx *bolt.Tx, e *entry) error {
	b := bucket(tx, bucketMessages)
	b.FillPercent = 0.9 // ids grow: pages are filled once
	if err := b.Put([]byte(e.id), e.records[0]); err != nil {
		return err
	}
	for i, record := range e.records[1:] {
		if err := b.Put(recipientKey(e.id, i), record); err != nil {
			return err
		}
	}
	if e.message.InFile {
		return nil
	}
	own, err := b.CreateBucket(contentBucket(e.id))
	if err != nil {
		return err
	}
	return own.Put([]byte(keyContent), e.inline)
}

// numbered is a recipient with its place in the envelope and the record it
// was read from.
type numbered struct {
	recipient
	index  int
	record []byte
	err    error // the record is damaged
}

// message reads one message, or fails with ErrNotFound.
func (s *store) message(id string) (m *message, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		m, err = getMessage(tx, id)
		return err
	})
	return m, err
}

func getMessage(tx *bolt.Tx, id string) (*message, error) {
	v := bucket(tx, bucketMessages).Get([]byte(id))
	if v == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	m, err := decodeMessage(v)
	if err != nil {
		return m, fmt.Errorf("message %s: %w", id, err)
	}
	return m, nil
}

// recipients reads those of a message's recipients that have not ended, all
// of them or the ones numbered.
func (s *store) recipients(id string, only []int) (list []numbered, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		list = getRecipients(tx, id, only)
		return nil
	})
	return list, err
}

func getRecipients(tx *bolt.Tx, id string, only []int) (list []numbered) {
	b := bucket(tx, bucketMessages)
	if only != nil {
		for _, i := range only {
			if v := b.Get(recipientKey(id, i)); v != nil {
				list = append(list, readNumbered(i, v))
			}
		}
		return list
	}
	c := b.Cursor()
	for k, v := c.Seek(recipientKey(id, 0)); isRecipientOf(k, id); k, v = c.Next() {
		list = append(list, readNumbered(int(binary.BigEndian.Uint32(k[len(id):])), v))
	}
	return list
}

func isRecipientOf(k []byte, id string) bool {
	return len(k) == len(id)+4 && string(k[:len(id)]) == id
}

func readNumbered(i int, v []byte) numbered {
	n := numbered{index: i, record: bytes.Clone(v)}
	n.recipient, n.err = decodeRecipient(n.record)
	if n.err != nil {
		// Never to be sent: its address may be another's.
		n.Hold = "its record in the queue's database is damaged"
	}
	return n
}

// stored is a message as read.
type stored struct {
	id         string
	message    *message
	err        error      // the message's record is damaged
	recipients []numbered // those that have not ended, or the selected ones of them
	total      int        // how many have not ended
}

// one reads a message with its recipients, or fails with ErrNotFound.
func (s *store) one(id string) (m *stored, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		v := bucket(tx, bucketMessages).Get([]byte(id))
		if v == nil {
			return fmt.Errorf("%s: %w", id, ErrNotFound)
		}
		m = &stored{id: id, recipients: getRecipients(tx, id, nil)}
		m.message, m.err = decodeMessage(v)
		m.total = len(m.recipients)
		return nil
	})
	return m, err
}

// next reads the messages behind the id after, at most n of them but at
// least one if there is one: short transactions let the file's free pages be
// used again.
func (s *store) next(after string, n int) (list []stored, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		list = list[:0]
		c := bucket(tx, bucketMessages).Cursor()
		k, v := c.First()
		if after != "" { // behind the last recipient's key there can be
			k, v = c.Seek(append([]byte(after), 0xff, 0xff, 0xff, 0xff, 0xff))
		}
		for ; k != nil; k, v = c.Next() {
			if len(k) == idLength {
				if len(list) == n {
					return nil
				}
				m, err := decodeMessage(v)
				list = append(list, stored{id: string(k), message: m, err: err})
				continue
			}
			if len(list) == 0 || !isRecipientOf(k, list[len(list)-1].id) {
				continue // content, or of no message
			}
			last := &list[len(list)-1]
			last.total++
			last.recipients = append(last.recipients, readNumbered(int(binary.BigEndian.Uint32(k[idLength:])), v))
		}
		return nil
	})
	return list, err
}

// content reads content that is in the database.
func (s *store) content(id string) (b []byte, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		own := bucket(tx, bucketMessages).Bucket(contentBucket(id))
		if own == nil {
			return fmt.Errorf("%w: the database has none for %s", ErrContent, id)
		}
		b = bytes.Clone(own.Get([]byte(keyContent)))
		return nil
	})
	return b, err
}

// known returns whether a message exists, for the sweep of content files.
func (s *store) known(id string) bool {
	_, err := s.message(id)
	return !errors.Is(err, ErrNotFound)
}

// noteEnd notes that the run ended in good order, if there is anything new
// to note: a run that did nothing writes nothing.
func (s *store) noteEnd(before RunRecord) error {
	s.mu.Lock()
	idle := !s.dirty && len(s.forget) == 0 && (before.Clean || before.Started.IsZero())
	s.state.Run.Clean = true
	s.mu.Unlock()
	if idle {
		return nil
	}
	return s.commit.do(func(*bolt.Tx) error { return nil })
}

func (s *store) close() error {
	s.commit.close()
	return s.db.Close()
}

// dbPath is the database's path in a queue's directory.
func dbPath(dir string) string { return filepath.Join(dir, "queue.db") }
