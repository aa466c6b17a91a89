package queue

import (
	"context"
	"io"
	"time"
)

// Envelope is what a message is handed over with. The queue carries it and
// looks at addresses only to group and select; their meaning is its users'.
type Envelope struct {
	Sender     string // reverse-path without brackets; "" is the null sender
	Recipients []Recipient

	// Parameters of RFC 3461, 6152, 6531 and 8689, kept for the way out.
	Body       string // "", "7BIT" or "8BITMIME"
	SMTPUTF8   bool
	RequireTLS bool
	Ret        string // "", "FULL" or "HDRS"
	EnvID      string // decoded ENVID

	ID      string // what to queue it as, from NewID; "" for a new id
	UID     uint32 // who handed it in
	DropKey string // name of the maildrop file it came from: put twice, it is queued once
	// DateUnset says that the clock was not set at acceptance: Date and
	// Received are added at the first attempt.
	DateUnset bool
}

// Recipient is one forward-path.
type Recipient struct {
	Address string `json:"address"`
	Notify  string `json:"notify,omitempty"` // RFC 3461 NOTIFY: "", "NEVER" or a comma list of SUCCESS, FAILURE, DELAY
	ORcpt   string `json:"orcpt,omitempty"`  // RFC 3461 ORCPT as given, e.g. "rfc822;a@b"
	Hold    string `json:"hold,omitempty"`   // not empty: it enters the queue held, for this reason
}

// Handler does the queue's outward work. The queue calls its methods from
// many goroutines.
type Handler interface {
	// Destination names the place a recipient's mail goes to next: a domain
	// in lower case, or one name for a whole relay. It must be quick and
	// without side effects.
	Destination(recipient string) string
	// Deliver attempts every recipient of the item, all of one destination,
	// and calls report as each one's outcome is known, from this goroutine.
	// Recipients without a report when it returns are tried again later.
	Deliver(ctx context.Context, item *Item, report func(Result))
	// Notice composes what the sender is told when recipients ended in
	// failure or are late, or (NOTIFY=SUCCESS) were relayed. It is called before the transaction that commits the results,
	// so that both happen or neither. nil: nobody is to be told.
	Notice(item *Item, kind NoticeKind, about []Result) *Notice
}

// Item is one message on its way to one destination.
type Item struct {
	ID          string
	Destination string
	Envelope    Envelope // Recipients is empty here
	Recipients  []ItemRecipient
	Arrived     time.Time
	Size        int64 // bytes of content
	Attempts    int   // attempts before this one, for this destination
	// Open reads the content from its start (CRLF line ends, no dot
	// stuffing). Each call opens anew; close what it returns.
	Open func() (io.ReadSeekCloser, error)
}

// ItemRecipient is a recipient with its place in the envelope.
type ItemRecipient struct {
	Index int
	Recipient
}

// Outcome is what became of one recipient in one attempt.
type Outcome uint8

const (
	Later     Outcome = iota // temporary failure: try again
	Delivered                // accepted by the next host
	Failed                   // permanent failure: a bounce is due
	Held                     // waits for an operator, visibly
)

// Result is the outcome for one recipient, in words an administrator reads.
type Result struct {
	Index      int // of the recipient in the envelope
	Address    string
	Outcome    Outcome
	Reason     string // one line; why it is late or failed
	DSN        string // RFC 3463 code, e.g. "4.7.5"
	Reply      string // the remote reply if there was one
	Host       string // the remote host that said so
	Security   string // DESIGN's word for how it was sent, when delivered
	Greylisted bool   // 4xx at RCPT: the first retry comes soon and from the same address

	// Unreachable says of a Later that the destination could not be used at
	// all (look-up, connection, TLS), whatever the message: the queue lets
	// it rest and spares its other mail the same wait.
	Unreachable bool
	// NotifiesNext says that the next host speaks DSN and so took over the duty to
	// notify (RFC 3461 §5.2.2): no notice of success is due from here.
	NotifiesNext bool
}

// NoticeKind says what a notice is about.
type NoticeKind uint8

const (
	NoticeFailure NoticeKind = iota
	NoticeDelay
	NoticeSuccess
)

// Notice is a message the queue puts on its own behalf. Content is bounded by
// the composer (headers, or a short original).
type Notice struct {
	Envelope Envelope
	Content  []byte
	// Hold, when not empty, says why nobody can be told of a failure: the
	// recipients then stay in the queue, held, where people see them.
	Hold string
}
