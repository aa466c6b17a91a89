// Package submit brings a caller's message to the queue.
//
// Whatever the way in (a sendmail(1) command line, the daemon's Unix socket,
// a file in the maildrop, SMTP on standard input or on a local port), a
// message is described by a [Request] and a stream of bytes, and one gate,
// [Gate.Accept], checks, completes and rewrites it and puts it into the queue.
// Nothing a client did before counts: the gate does it all again.
//
// # The socket
//
// A connection carries one request after the other, mostly one. Either side
// may close it between two, and a server does when a refusal came before the
// end of the content. Both sides send frames: one byte of kind, four bytes of
// length (big endian), then that many bytes, at most 64 KiB, or 2 MiB in a
// frame of JSON.
//
//	client                          server
//	C  {"version":1,"verb":...}
//	D  content, any number          (verb submit only)
//	E  end of content
//	                                L  one queue entry as JSON, any number (list, show)
//	                                D  content, any number (cat)
//	                                R  {"id":...} or {"code":75,"text":"..."}
//
// The caller is who the kernel says it is (SO_PEERCRED), never what a frame
// claims. A server that is asked for a version it does not know says so in R
// with EX_UNAVAILABLE, and clients then use the maildrop.
package submit

import (
	"context"
	"io"

	"danepost/queue"
)

// Request is what comes with a message: the envelope as the caller gave it.
// It is what the socket and the maildrop carry, in JSON.
type Request struct {
	// Sender is the reverse-path as given; nil stands for the caller's own
	// address, "" and "<>" for the null sender.
	Sender *string `json:"sender,omitempty"`
	// FullName names the sender in a From field that has to be made.
	FullName   string      `json:"full_name,omitempty"`
	Recipients []Recipient `json:"recipients,omitempty"`
	// FromHeaders takes recipients from To, Cc and Bcc as well (-t); Notify
	// then holds for these.
	FromHeaders bool   `json:"from_headers,omitempty"`
	Notify      string `json:"notify,omitempty"`
	Body        string `json:"body,omitempty"`
	Ret         string `json:"ret,omitempty"`
	EnvID       string `json:"envid,omitempty"`
	RequireTLS  bool   `json:"require_tls,omitempty"`
	SMTPUTF8    bool   `json:"smtputf8,omitempty"`
	// Wait asks for the answer only after the first attempt (-odi).
	Wait bool `json:"wait,omitempty"`
	// Key makes handing over safe to repeat: of two requests of one user
	// with one key, one is queued.
	Key string `json:"key,omitempty"`
}

// Recipient is a word that may name several addresses, with the RFC 3461
// parameters for all of them.
type Recipient struct {
	Text   string `json:"text"`
	Notify string `json:"notify,omitempty"`
	ORcpt  string `json:"orcpt,omitempty"`
}

// Source is who hands a message in and how, as the accepting side knows it;
// nothing in it comes from the message or the request.
type Source struct {
	UID uint32
	// User is the caller's login name, or its number where it has no name.
	User string
	// Gecos is the caller's full name, if known.
	Gecos string
	// Received is what its trace line says of an SMTP client, e.g. "from
	// scanner ([192.0.2.7])" and "ESMTPSA"; empty for a local caller, whose
	// user id is given instead.
	ReceivedFrom, ReceivedWith string
}

// Receipt is what an accepted message is known by.
type Receipt struct {
	ID string `json:"id"`
}

// Queue is where accepted messages go.
type Queue interface {
	// NewID gives out the id to put a message under (Envelope.ID).
	NewID() string
	// Put returns when the message is durable. It reads content to its end;
	// when that fails, nothing is queued.
	Put(ctx context.Context, env queue.Envelope, content io.Reader) (id string, err error)
}

// Request is the request a command line makes. full is the caller's full name
// from its environment ($NAME), used where -F is absent.
func (a *Args) Request(full string) *Request {
	r := &Request{
		Sender: a.Sender, FullName: a.FullName, FromHeaders: a.FromHeaders,
		Notify: a.Notify, Body: a.Body, Ret: a.Ret, EnvID: a.EnvID,
		RequireTLS: a.RequireTLS, SMTPUTF8: a.SMTPUTF8, Wait: a.Attempt == AttemptWait,
	}
	if r.FullName == "" {
		r.FullName = full
	}
	for _, word := range a.Recipients {
		r.Recipients = append(r.Recipients, Recipient{Text: word, Notify: a.Notify})
	}
	return r
}
