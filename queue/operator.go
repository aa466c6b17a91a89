package queue

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Summary is one message as `queue list --json` shows it.
type Summary struct {
	QueueName   string             `json:"queue_name"` // "incoming", "active", "deferred" or "hold"
	QueueID     string             `json:"queue_id"`
	ArrivalTime int64              `json:"arrival_time"` // Unix seconds
	MessageSize int64              `json:"message_size"` // bytes
	Sender      string             `json:"sender"`
	Recipients  []SummaryRecipient `json:"recipients"`
	NextAttempt int64              `json:"next_attempt"` // Unix seconds of the earliest; 0 when none is due ever (all held)
	Attempts    int                `json:"attempts"`     // of the recipient tried most often
	UID         uint32             `json:"uid"`
}

// SummaryRecipient is one recipient that has not ended.
type SummaryRecipient struct {
	Address     string `json:"address"`
	DelayReason string `json:"delay_reason"` // why it is late or held
	State       string `json:"state"`        // "ready", "running", "waiting" or "held"
	Attempts    int    `json:"attempts"`
	NextAttempt int64  `json:"next_attempt"` // Unix seconds, 0 when held
}

// Detail is everything known about one message.
type Detail struct {
	Summary
	Envelope Envelope          `json:"-"`       // Recipients is empty: see History
	Stored   string            `json:"stored"`  // "inline" or the path of its content
	Checksum string            `json:"sha256"`  // of the content, hex
	History  []RecipientRecord `json:"history"` // one for each of Recipients
}

// RecipientRecord is a recipient with its most recent attempts, oldest first.
type RecipientRecord struct {
	Recipient
	Attempts []Attempt `json:"attempts"`
}

// Attempt is what one attempt brought.
type Attempt struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	DSN    string    `json:"dsn,omitempty"`
	Reply  string    `json:"reply,omitempty"`
	Host   string    `json:"host,omitempty"`
}

// Done says what an operator verb did to one message.
type Done struct {
	QueueID    string   `json:"queue_id"`
	Did        string   `json:"did"` // "retried", "held", "released" or "removed"
	Recipients []string `json:"recipients"`
	Left       int      `json:"left"` // recipients of the message that remain queued
}

// List returns the selected messages in order of arrival. A zero filter
// lists everything.
func (q *Queue) List(ctx context.Context, f Filter) ([]Summary, error) {
	var list []Summary
	err := q.each(ctx, f, func(s *stored) error {
		list = append(list, q.summary(s))
		return nil
	})
	return list, err
}

// Show returns everything about one message, or ErrNotFound.
func (q *Queue) Show(id string) (*Detail, error) {
	s, err := q.store.one(normalID(id))
	if err != nil {
		return nil, err
	}
	d := &Detail{Summary: q.summary(s), Envelope: s.message.Envelope, Stored: "inline", Checksum: hex.EncodeToString(s.message.Sum)}
	if s.message.InFile {
		d.Stored = q.body.path(s.id)
	}
	for _, n := range s.recipients {
		d.History = append(d.History, RecipientRecord{Recipient: n.Recipient, Attempts: n.History})
	}
	return d, nil
}

// Cat writes the content of a message, or fails with ErrNotFound or ErrContent.
func (q *Queue) Cat(id string, w io.Writer) error {
	id = normalID(id)
	m, err := q.store.message(id)
	if err != nil {
		return err
	}
	r, err := q.openContent(id, m)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// Retry makes the selected waiting recipients due now; held ones stay held.
func (q *Queue) Retry(f Filter) ([]Done, error) {
	now := q.store.clock.now()
	return q.change("retried", f, func(n numbered) (recipient, bool) {
		n.Next = now
		return n.recipient, n.Hold == ""
	})
}

// Kick is Retry where a zero filter means everything: `sendmail -q`.
func (q *Queue) Kick(f Filter) ([]Done, error) {
	f.All = f.All || !f.selects()
	return q.Retry(f)
}

// Hold keeps the selected recipients from being attempted until released. An
// attempt that is under way is not interrupted; if it succeeds it counts.
func (q *Queue) Hold(f Filter) ([]Done, error) {
	return q.change("held", f, func(n numbered) (recipient, bool) {
		was := n.Hold
		n.Hold = "held by an operator"
		return n.recipient, was == ""
	})
}

// Release makes the selected held recipients due now, with a fresh lifetime.
func (q *Queue) Release(f Filter) ([]Done, error) {
	now := q.store.clock.now()
	return q.change("released", f, func(n numbered) (recipient, bool) {
		was := n.Hold
		n.Hold, n.Next, n.Since, n.Warned = "", now, now, false
		return n.recipient, was != "" && n.err == nil
	})
}

// Remove takes the selected recipients out of the queue without a bounce.
func (q *Queue) Remove(f Filter) ([]Done, error) {
	return q.change("removed", f, func(n numbered) (recipient, bool) { return recipient{}, true })
}

// editChunk is how many messages a verb reads, and changes in one
// transaction.
const editChunk = 200

// change gives the selected recipients the record that edit returns, where it
// returns true, and tells the scheduler. The verb is what Done says; "removed"
// ends the recipients.
func (q *Queue) change(verb string, f Filter, edit func(numbered) (recipient, bool)) ([]Done, error) {
	if !f.selects() && !f.All {
		return nil, fmt.Errorf("%w: name queue ids, a sender, a recipient, a domain, or all", ErrNoFilter)
	}
	var done []Done
	var chunk []*stored
	flush := func() error {
		some, err := q.changeChunk(verb, chunk, edit)
		done, chunk = append(done, some...), nil
		return err
	}
	err := q.each(context.Background(), f, func(s *stored) error {
		if chunk = append(chunk, s); len(chunk) == editChunk {
			return flush()
		}
		return nil
	})
	return done, errors.Join(flush(), err)
}

// changeChunk is change for a few messages, in one transaction.
func (q *Queue) changeChunk(verb string, chunk []*stored, edit func(numbered) (recipient, bool)) ([]Done, error) {
	for {
		var done []Done
		var updates []update
		var ids []string
		for _, s := range chunk {
			d := Done{QueueID: s.id, Did: verb, Recipients: []string{}, Left: s.total}
			for _, n := range s.recipients {
				next, wanted := edit(n)
				if !wanted {
					continue
				}
				u := update{id: s.id, index: n.index, was: n.record}
				if verb == "removed" {
					d.Left--
				} else {
					u.now = next.encode()
				}
				updates = append(updates, u)
				d.Recipients = append(d.Recipients, n.Address)
			}
			if len(d.Recipients) > 0 {
				done, ids = append(done, d), append(ids, s.id)
			}
		}
		if len(updates) == 0 {
			return nil, nil
		}
		files, err := q.store.settle(updates, nil, func(*RunRecord) {})
		if errors.Is(err, errChanged) {
			if err := q.reread(chunk); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		q.unlink(files)
		q.changed(verb == "retried" || verb == "released", ids...)
		return done, nil
	}
}

// reread reads again the selected recipients of messages that changed under
// an operator's verb.
func (q *Queue) reread(chunk []*stored) error {
	for _, s := range chunk {
		var selected []int
		for _, n := range s.recipients {
			selected = append(selected, n.index)
		}
		list, err := q.store.recipients(s.id, nil)
		if err != nil {
			return err
		}
		s.total = len(list)
		s.recipients = slices.DeleteFunc(list, func(n numbered) bool { return !slices.Contains(selected, n.index) })
	}
	return nil
}

// summary is what List says of a message.
func (q *Queue) summary(s *stored) Summary {
	m := s.message
	sum := Summary{
		QueueID: s.id, ArrivalTime: q.store.clock.arrived(m).Unix(), MessageSize: m.Size,
		Sender: m.Envelope.Sender, UID: m.Envelope.UID, Recipients: []SummaryRecipient{},
	}
	now := q.store.clock.now()
	held, running := 0, 0
	for _, n := range s.recipients {
		r := SummaryRecipient{Address: n.Address, DelayReason: n.reason(), Attempts: n.Attempts, State: "waiting"}
		next := n.Next
		switch {
		case q.isActive(s.id, n.index):
			r.State = "running"
			running++
		case n.Hold != "" || s.err != nil:
			r.State = "held"
			held++
		case n.Next <= now:
			r.State = "ready"
			if rest, rests := q.restOf(n.Address, now); rests {
				r.State, next = "waiting", rest.until
				r.DelayReason = "its destination could not be reached a moment ago: " + rest.reason
			}
		}
		if s.err != nil {
			r.DelayReason = s.err.Error()
		}
		if r.State != "held" {
			r.NextAttempt = q.store.clock.at(next).Unix()
			if sum.NextAttempt == 0 || r.NextAttempt < sum.NextAttempt {
				sum.NextAttempt = r.NextAttempt
			}
		}
		sum.Attempts = max(sum.Attempts, n.Attempts)
		sum.Recipients = append(sum.Recipients, r)
	}
	switch {
	case running > 0:
		sum.QueueName = "active"
	case held == len(s.recipients):
		sum.QueueName = "hold"
	case sum.Attempts == 0:
		sum.QueueName = "incoming"
	default:
		sum.QueueName = "deferred"
	}
	return sum
}

func (q *Queue) isActive(id string, index int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, yes := q.active[recipientRef{id, index}]
	return yes
}
