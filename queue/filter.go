package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	DropKey   string   // only what was put with this key (Envelope.DropKey)

	// Substring makes ids, Sender and Recipient match anywhere inside, as
	// sendmail's -qI, -qS and -qR do.
	Substring bool
}

// selects says whether anything narrows the filter down, UID aside.
func (f *Filter) selects() bool {
	return len(f.IDs) > 0 || f.DropKey != "" || f.Sender != "" || f.Recipient != "" || f.Domain != ""
}

// normalID is how an id is written, whichever case it was typed in.
func normalID(id string) string { return strings.ToUpper(strings.TrimSpace(id)) }

// narrow reduces a message to its selected recipients and says whether any
// are left.
func (f *Filter) narrow(s *stored) bool {
	env := &s.message.Envelope
	if f.UID != nil && *f.UID != env.UID || len(f.IDs) > 0 && !f.hasID(s.id) || f.DropKey != "" && f.DropKey != env.DropKey {
		return false
	}
	if f.Sender != "" && !f.same(f.Sender, "<"+env.Sender+">") {
		return false
	}
	if f.Recipient != "" || f.Domain != "" {
		s.recipients = slices.DeleteFunc(s.recipients, func(n numbered) bool { return !f.hasRecipient(n.Address) })
	}
	return len(s.recipients) > 0
}

func (f *Filter) hasID(id string) bool {
	return slices.ContainsFunc(f.IDs, func(want string) bool {
		return f.Substring && strings.Contains(id, normalID(want)) || normalID(want) == id
	})
}

func (f *Filter) hasRecipient(address string) bool {
	_, domain := cutAddress(address)
	return (f.Recipient == "" || f.same(f.Recipient, "<"+address+">")) &&
		(f.Domain == "" || strings.EqualFold(strings.TrimSuffix(f.Domain, "."), domain))
}

// same compares a wanted address, with or without brackets, with one in
// brackets.
func (f *Filter) same(want, bracketed string) bool {
	if f.Substring && want != "<>" {
		return strings.Contains(strings.ToLower(bracketed), strings.ToLower(want))
	}
	if !strings.HasPrefix(want, "<") {
		want = "<" + want + ">"
	}
	return strings.EqualFold(want, bracketed)
}

func cutAddress(address string) (local, domain string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, ""
	}
	return address[:at], address[at+1:]
}

// each calls fn with every selected message, in order of arrival, reduced to
// its selected recipients. Ids that do not exist, or are another user's, are
// an error after all the others were treated.
func (q *Queue) each(ctx context.Context, f Filter, fn func(*stored) error) error {
	if len(f.IDs) > 0 && !f.Substring {
		return q.eachID(f, fn)
	}
	for after := ""; ; {
		list, err := q.store.next(after, editChunk)
		if err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].id
		for i := range list {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if !f.narrow(&list[i]) {
				continue
			}
			if err := fn(&list[i]); err != nil {
				return err
			}
		}
	}
}

func (q *Queue) eachID(f Filter, fn func(*stored) error) error {
	var missing error
	seen := map[string]bool{}
	for _, id := range f.IDs {
		if id = normalID(id); seen[id] {
			continue
		}
		seen[id] = true
		s, err := q.store.one(id)
		if err == nil && f.UID != nil && *f.UID != s.message.Envelope.UID {
			err = fmt.Errorf("%s: %w", id, ErrNotFound)
		}
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		if !f.narrow(s) {
			continue
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	return missing
}
