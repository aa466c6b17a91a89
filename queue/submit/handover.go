package submit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// replayable is how much of a message is read before anybody is called: a
// program that writes slowly then keeps no connection open, and a message
// this small can be handed over again when the daemon dies under it.
const replayable = 64 << 10

// Handover hands a message over by the first way that is open. Its functions
// are the effects; nil means that the way does not exist for this caller.
type Handover struct {
	Source Source
	Now    func() time.Time

	// Socket hands to a daemon; ErrNoDaemon when there is none.
	Socket func(ctx context.Context, r *Request, content io.Reader) (Submission, error)
	// Drop stores the message in the maildrop.
	Drop func(r *Request, content io.Reader) error
	// Detach starts, for a caller that owns the queue, a run in the
	// background which takes the lock, imports and delivers. Where another
	// process holds the lock it does nothing: that one rescans the maildrop
	// after it let go.
	Detach func() error
	// Attempt does the same in the foreground and returns a line for every
	// recipient of the message with this key that is still queued (-odi). A
	// signal brings it to an end in order; the message is kept then.
	Attempt func(key string) ([]string, error)
}

// Handed is what became of a message.
type Handed struct {
	Submission
	Key     string // its name in the maildrop, when Dropped
	Dropped bool
	Warning error // the message is safe, but no run could be started for it
}

// Do walks down the ladder:
//
//  1. A daemon answers on the socket: it checks, commits and answers. A
//     refusal is final.
//  2. No daemon: the message goes to the maildrop. It does so too when the
//     daemon died before it answered, under the same key, so that it is
//     queued once whether or not the daemon had committed it.
//  3. The caller owns the queue: a run in the background imports it and
//     delivers, or with -odi one in the foreground.
//  4. It does not: the daemon imports it when it starts.
func (h *Handover) Do(ctx context.Context, r *Request, attempt Attempt, content io.Reader) (Handed, error) {
	if r.Key == "" {
		r.Key = NewKey(h.Now(), h.Source.UID)
	}
	head, whole, err := readHead(content)
	if err != nil {
		return Handed{}, &Error{Code: ExitOSErr, Text: "cannot read the message", Err: err}
	}
	rest := content
	if whole {
		rest = bytes.NewReader(nil)
	}
	if h.Socket != nil {
		sub, err := h.Socket(ctx, r, io.MultiReader(bytes.NewReader(head), rest))
		switch {
		case err == nil:
			return Handed{Submission: sub}, nil
		case errors.Is(err, ErrNoDaemon):
			// nothing of the message was read
		case !whole || !mayFallBack(err):
			return Handed{}, err
		}
	}
	if h.Drop == nil {
		return Handed{}, &Error{Code: ExitUnavailable, Text: "no daemon answers and there is no maildrop: start danepost serve"}
	}
	if err := h.Drop(r, io.MultiReader(bytes.NewReader(head), rest)); err != nil {
		return Handed{}, err
	}
	handed := Handed{Key: r.Key, Dropped: true}
	switch {
	case attempt == AttemptWait && h.Attempt != nil:
		handed.Waited, handed.Warning = h.Attempt(r.Key)
	case attempt != AttemptNone && h.Detach != nil:
		handed.Warning = h.Detach()
	}
	if handed.Warning != nil {
		handed.Warning = fmt.Errorf("the message is kept in the maildrop, but no delivery could be started: %w", handed.Warning)
	}
	return handed, nil
}

// mayFallBack tells whether the daemon's failure says nothing about the
// message: it went away, or is too old or too new to talk to.
func mayFallBack(err error) bool {
	return errors.Is(err, ErrBroken) || ExitCode(err) == ExitUnavailable
}

// readHead reads up to replayable bytes; whole reports that this is all.
func readHead(r io.Reader) (head []byte, whole bool, err error) {
	head, err = io.ReadAll(io.LimitReader(r, replayable))
	return head, len(head) < replayable, err
}
