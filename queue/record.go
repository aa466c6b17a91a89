package queue

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// message is what the store keeps of a message beside its recipients.
type message struct {
	Envelope Envelope      // without Recipients
	Arrived  time.Time     // as the wall clock showed it
	Passed   time.Duration // see clock.read; 0: unknown
	Size     int64
	Sum      []byte // SHA-256 of the content
	InFile   bool   // the content is a file of its own
}

// recipient is what the store keeps of a recipient that has not ended. Next
// and Since are queue time (see clock).
type recipient struct {
	Recipient // its Hold is the reason it is held, "" when it is not
	Attempts  int
	Next      time.Duration // when it is due
	Since     time.Duration // when its lifetime began
	Warned    bool          // its sender was told that it is late
	History   []Attempt     // the last few, oldest first
}

// historyKept bounds recipient.History, textKept each text in it.
const (
	historyKept = 5
	textKept    = 512
)

// remember appends an attempt to the history and drops what is too old.
func (r *recipient) remember(a Attempt) {
	a.Reason, a.Reply = clip(a.Reason), clip(a.Reply)
	keep := r.History
	if len(keep) >= historyKept {
		keep = keep[len(keep)-historyKept+1:]
	}
	r.History = append(append([]Attempt(nil), keep...), a)
}

// reason is why the recipient is late or held, "" when it is neither.
func (r *recipient) reason() string {
	if r.Hold != "" || len(r.History) == 0 {
		return r.Hold
	}
	return r.History[len(r.History)-1].Reason
}

func clip(s string) string {
	if len(s) > textKept {
		return s[:textKept]
	}
	return s
}

// Records are fields in a fixed order behind a version byte, closed by a
// CRC-32C: bbolt does not notice a flipped bit in a value, and an address
// with one goes to a stranger. Later versions append fields; a reader of
// missing fields gets zeros.
const recordVersion = 1

var errRecord = errors.New("the record is damaged")

type encoder struct{ b []byte }

func newEncoder() *encoder { return &encoder{b: append(make([]byte, 0, 256), recordVersion)} }

func (e *encoder) num(n int64) { e.b = binary.AppendVarint(e.b, n) }

func (e *encoder) text(s string) {
	e.b = binary.AppendUvarint(e.b, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) flag(f bool) {
	if f {
		e.num(1)
	} else {
		e.num(0)
	}
}

func (e *encoder) finish() []byte {
	return binary.BigEndian.AppendUint32(e.b, crc32.Checksum(e.b, crc32.MakeTable(crc32.Castagnoli)))
}

type decoder struct {
	b   []byte
	bad bool
}

func newDecoder(b []byte) *decoder {
	n := len(b) - crc32.Size
	if n < 1 || crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[n:]) {
		return &decoder{bad: true}
	}
	return &decoder{b: b[1:n], bad: b[0] < recordVersion}
}

func (d *decoder) num() int64 {
	if len(d.b) == 0 {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string {
	if len(d.b) == 0 {
		return ""
	}
	size, n := binary.Uvarint(d.b)
	if n <= 0 || size > uint64(len(d.b)-n) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[n : n+int(size)])
	d.b = d.b[n+int(size):]
	return s
}

func (d *decoder) flag() bool { return d.num() != 0 }

func (d *decoder) err() error {
	if d.bad {
		return errRecord
	}
	return nil
}

func (m *message) encode() []byte {
	e := newEncoder()
	env := &m.Envelope
	e.text(env.Sender)
	e.text(env.Body)
	e.flag(env.SMTPUTF8)
	e.flag(env.RequireTLS)
	e.text(env.Ret)
	e.text(env.EnvID)
	e.num(int64(env.UID))
	e.text(env.DropKey)
	e.flag(env.DateUnset)
	e.num(m.Arrived.UnixMicro())
	e.num(m.Size)
	e.text(string(m.Sum))
	e.flag(m.InFile)
	e.num(int64(m.Passed))
	return e.finish()
}

func decodeMessage(b []byte) (*message, error) {
	d := newDecoder(b)
	m := &message{Envelope: Envelope{
		Sender:     d.text(),
		Body:       d.text(),
		SMTPUTF8:   d.flag(),
		RequireTLS: d.flag(),
		Ret:        d.text(),
		EnvID:      d.text(),
		UID:        uint32(d.num()),
		DropKey:    d.text(),
		DateUnset:  d.flag(),
	}}
	m.Arrived = time.UnixMicro(d.num())
	m.Size = d.num()
	m.Sum = []byte(d.text())
	m.InFile = d.flag()
	m.Passed = time.Duration(d.num())
	return m, d.err()
}

func (r *recipient) encode() []byte {
	e := newEncoder()
	e.text(r.Address)
	e.text(r.Notify)
	e.text(r.ORcpt)
	e.text(r.Hold)
	e.num(int64(r.Attempts))
	e.num(int64(r.Next))
	e.num(int64(r.Since))
	e.flag(r.Warned)
	e.num(int64(len(r.History)))
	for _, a := range r.History {
		e.num(a.At.UnixMicro())
		e.text(a.Reason)
		e.text(a.DSN)
		e.text(a.Reply)
		e.text(a.Host)
	}
	return e.finish()
}

func decodeRecipient(b []byte) (recipient, error) {
	d := newDecoder(b)
	r := recipient{
		Recipient: Recipient{Address: d.text(), Notify: d.text(), ORcpt: d.text(), Hold: d.text()},
		Attempts:  int(d.num()),
		Next:      time.Duration(d.num()),
		Since:     time.Duration(d.num()),
		Warned:    d.flag(),
	}
	n := d.num()
	for i := int64(0); i < n && len(d.b) > 0; i++ {
		r.History = append(r.History, Attempt{
			At:     time.UnixMicro(d.num()),
			Reason: d.text(),
			DSN:    d.text(),
			Reply:  d.text(),
			Host:   d.text(),
		})
	}
	return r, d.err()
}
