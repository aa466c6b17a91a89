package queue

import (
	"context"
	"io"
	"time"
)

// Filter selects recipients of queued messages. Fields that are set are
// ANDed; a verb touches only the recipients selected, so that Domain picks
// one domain's recipients out of a list message. Addresses are compared
// without regard to case.
type Filter struct {
	IDs       []string // queue ids, any of them
	All       bool     // everything; a verb wants this or another selection
	Sender    string   // reverse-path; "<>" is the null sender
	Recipient string   // forward-path
	Domain    string   // domain of the forward-path
	UID       *uint32  // only mail handed in by this user

	// Substring makes ids, Sender and Recipient match anywhere inside, as
	// sendmail's -qI, -qS and -qR do.
	Substring bool
}

// Summary is one message as `queue list --json` shows it.
type Summary struct {
	QueueName   string             `json:"queue_name"` // "incoming", "active", "deferred" or "hold"
	QueueID     string             `json:"queue_id"`
	ArrivalTime int64              `json:"arrival_time"` // Unix seconds
	MessageSize int64              `json:"message_size"` // bytes
	Sender      string             `json:"sender"`
	Recipients  []SummaryRecipient `json:"recipients"`
	NextAttempt int64              `json:"next_attempt,omitempty"` // Unix seconds of the earliest; 0 when none is due ever (all held)
	Attempts    int                `json:"attempts"`               // of the recipient tried most often
	UID         uint32             `json:"uid"`
}

// SummaryRecipient is one recipient that has not ended.
type SummaryRecipient struct {
	Address     string `json:"address"`
	DelayReason string `json:"delay_reason,omitempty"` // why it is late or held
	State       string `json:"state"`                  // "ready", "running", "waiting" or "held"
	Attempts    int    `json:"attempts"`
	NextAttempt int64  `json:"next_attempt,omitempty"` // Unix seconds
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
	Attempts []Attempt
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
func (q *Queue) List(ctx context.Context, f Filter) ([]Summary, error) { return nil, ErrClosed }

// Show returns everything about one message, or ErrNotFound.
func (q *Queue) Show(id string) (*Detail, error) { return nil, ErrClosed }

// Cat writes the content of a message, or fails with ErrNotFound or ErrContent.
func (q *Queue) Cat(id string, w io.Writer) error { return ErrClosed }

// Retry makes the selected waiting recipients due now; held ones stay held.
func (q *Queue) Retry(f Filter) ([]Done, error) { return nil, ErrClosed }

// Kick is Retry where a zero filter means everything: `sendmail -q`.
func (q *Queue) Kick(f Filter) ([]Done, error) { return nil, ErrClosed }

// Hold keeps the selected recipients from being attempted until released. An
// attempt that is under way is not interrupted; if it succeeds it counts.
func (q *Queue) Hold(f Filter) ([]Done, error) { return nil, ErrClosed }

// Release makes the selected held recipients due now, with a fresh lifetime.
func (q *Queue) Release(f Filter) ([]Done, error) { return nil, ErrClosed }

// Remove takes the selected recipients out of the queue without a bounce.
func (q *Queue) Remove(f Filter) ([]Done, error) { return nil, ErrClosed }
