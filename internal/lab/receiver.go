package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Receiver is a mail server alone on its address. It takes all mail for
// anybody, unless a Responder says otherwise, and remembers it.
type Receiver struct {
	lab  *Lab
	name string
	addr netip.Addr
	id   *Identity // nil: it has no TLS
	caps []string
	resp Responder

	mu       sync.Mutex
	healed   bool
	sessions int
	messages []Message
	arrived  chan struct{} // closed and replaced at each message
}

// Message is one delivery as the receiver got it.
type Message struct {
	From   string // reverse-path without brackets
	To     []string
	Params []string // of MAIL and RCPT, as given
	Data   string   // CRLF line ends, dots unstuffed
	Helo   string
	TLS    *tls.ConnectionState // nil: it came in the clear
	At     time.Time
}

// Step is one thing a client did in a session, before it is answered.
type Step struct {
	Session int    // counts the connections to the receiver, from 1
	Verb    string // "CONNECT", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "BODY" (after the last octet), ...
	Arg     string // the rest of the line
	TLS     bool
}

// Reply is what the server says. Code 0 closes the connection without a word.
type Reply struct {
	Code  int
	Text  string // lines split at "\n"
	After time.Duration
	Then  string // bytes sent right behind the reply, in the same segment
}

// Responder decides the reply to a step.
type Responder func(Step) Reply

// Receiver declares a mail server; name is what it calls itself. A nil
// identity makes one without STARTTLS.
func (l *Lab) Receiver(name string, id *Identity) *Receiver {
	l.configuring()
	return l.receiverAt(nthAddr(smtpNetwork, len(l.hosts)), name, id)
}

// Receiver6 is Receiver at ::1, the one IPv6 address that every host has.
// There can be one in a lab.
func (l *Lab) Receiver6(name string, id *Identity) *Receiver {
	l.configuring()
	return l.receiverAt(netip.IPv6Loopback(), name, id)
}

func (l *Lab) receiverAt(addr netip.Addr, name string, id *Identity) *Receiver {
	r := &Receiver{
		lab: l, name: strings.TrimSuffix(name, "."), addr: addr, id: id,
		caps:    []string{"PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN", "CHUNKING"},
		arrived: make(chan struct{}),
	}
	r.resp = r.usual
	l.hosts = append(l.hosts, r)
	return r
}

// Addr returns the receiver's address.
func (r *Receiver) Addr() string { return r.addr.String() }

// Name returns what the receiver calls itself.
func (r *Receiver) Name() string { return r.name }

// Without takes extensions (by EHLO keyword) out of the offer. It configures.
func (r *Receiver) Without(keywords ...string) *Receiver {
	r.lab.configuring()
	r.caps = slices.DeleteFunc(r.caps, func(c string) bool {
		return slices.Contains(keywords, strings.Fields(c)[0])
	})
	return r
}

// Wrap puts a fault around the receiver's replies. The last one given decides
// first. It configures.
func (r *Receiver) Wrap(w func(Responder) Responder) *Receiver {
	r.lab.configuring()
	r.resp = w(r.resp)
	return r
}

// Heal ends all faults given to Wrap.
func (r *Receiver) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healed = true
}

// reply is what the server says to a step now.
func (r *Receiver) reply(s Step) Reply {
	r.mu.Lock()
	healed := r.healed
	r.mu.Unlock()
	if healed {
		return r.usual(s)
	}
	return r.resp(s)
}

// Messages returns what has arrived so far.
func (r *Receiver) Messages() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// Sessions returns how many connections there have been.
func (r *Receiver) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions
}

// Wait returns the first message for which ok is true, once it has arrived.
func (r *Receiver) Wait(ctx context.Context, ok func(Message) bool) (Message, error) {
	for {
		r.mu.Lock()
		i, changed := slices.IndexFunc(r.messages, ok), r.arrived
		var m Message
		if i >= 0 {
			m = r.messages[i]
		}
		r.mu.Unlock()
		if i >= 0 {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("%s: waiting for a message: %w", r.name, ctx.Err())
		}
	}
}

func (r *Receiver) address() netip.Addr { return r.addr }

func (r *Receiver) keep(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
	close(r.arrived)
	r.arrived = make(chan struct{})
	r.lab.opts.Log.Info("received", "host", r.name, "from", m.From, "to", strings.Join(m.To, ","), "bytes", len(m.Data), "tls", m.TLS != nil)
}

// usual is the Responder of a server in good health.
func (r *Receiver) usual(s Step) Reply {
	switch s.Verb {
	case "CONNECT":
		return Reply{Code: 220, Text: r.name + " ESMTP danepost test internet"}
	case "EHLO":
		lines := append([]string{r.name + " greets " + s.Arg}, r.caps...)
		switch {
		case s.TLS:
			lines = append(lines, "REQUIRETLS")
		case r.id != nil:
			lines = append(lines, "STARTTLS")
		}
		return Reply{Code: 250, Text: strings.Join(lines, "\n")}
	case "HELO":
		return Reply{Code: 250, Text: r.name}
	case "STARTTLS":
		if r.id == nil || s.TLS {
			return Reply{Code: 502, Text: "5.5.1 not here"}
		}
		return Reply{Code: 220, Text: "2.0.0 go ahead"}
	case "MAIL", "RSET", "NOOP":
		return Reply{Code: 250, Text: "2.1.0 ok"}
	case "RCPT":
		return Reply{Code: 250, Text: "2.1.5 ok"}
	case "DATA":
		return Reply{Code: 354, Text: "end with <CRLF>.<CRLF>"}
	case "BODY", "BDAT":
		return Reply{Code: 250, Text: "2.0.0 taken"}
	case "QUIT":
		return Reply{Code: 221, Text: "2.0.0 bye"}
	}
	return Reply{Code: 500, Text: "5.5.1 what is that"}
}

// Answer replies code and text (an enhanced status code first) to each verb
// step; code 0 hangs up.
func Answer(verb string, code int, text string) func(Responder) Responder {
	return func(next Responder) Responder {
		return func(s Step) Reply {
			if s.Verb == verb {
				return Reply{Code: code, Text: text}
			}
			return next(s)
		}
	}
}

// Greylist refuses each address at RCPT for d after it was first seen.
func Greylist(d time.Duration) func(Responder) Responder {
	var mu sync.Mutex
	first := map[string]time.Time{}
	return func(next Responder) Responder {
		return func(s Step) Reply {
			if s.Verb != "RCPT" {
				return next(s)
			}
			mu.Lock()
			defer mu.Unlock()
			t, seen := first[s.Arg]
			if !seen {
				t = time.Now()
				first[s.Arg] = t
			}
			if !seen || time.Since(t) < d {
				return Reply{Code: 450, Text: "4.7.1 greylisted, come again"}
			}
			return next(s)
		}
	}
}

// Slow answers verb after d.
func Slow(verb string, d time.Duration) func(Responder) Responder {
	return func(next Responder) Responder {
		return func(s Step) Reply {
			r := next(s)
			if s.Verb == verb {
				r.After = d
			}
			return r
		}
	}
}

// Times lets a fault happen in the first n steps of verb only.
func Times(n int, verb string, fault func(Responder) Responder) func(Responder) Responder {
	var mu sync.Mutex
	return func(next Responder) Responder {
		faulty := fault(next)
		return func(s Step) Reply {
			mu.Lock()
			use := s.Verb == verb && n > 0
			if use {
				n--
			}
			mu.Unlock()
			if use {
				return faulty(s)
			}
			return next(s)
		}
	}
}

// Identity returns what the receiver shows in TLS.
func (r *Receiver) Identity() *Identity { return r.id }
