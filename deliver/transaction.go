package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"danepost/queue"
)

// use sends the item over a session, in as many transactions as its
// recipients need. A failure concerns the host: the recipients that are still
// pending go to the next one. nil: all that are left wait for the other family.
func (a *attempt) use(s *session) *failure {
	for {
		var batch []*recipient
		for _, r := range a.pending {
			if !r.waiting && len(batch) < maxRecipients {
				batch = append(batch, r)
			}
		}
		if len(batch) == 0 {
			break
		}
		t := &transaction{a: a, s: s, rcpts: batch}
		f := t.run()
		s.wire.failed = s.wire.failed || t.broken
		if f != nil || t.broken {
			s.end()
			return f
		}
	}
	switch {
	case !s.release():
		s.wire.conn.Close()
	case s.manner == mannerClear && s.ext.has("STARTTLS"):
		s.end() // the next message is to have its own chance of TLS
	default:
		a.d.pool.put(s)
	}
	return nil
}

// transaction is one message over one session: MAIL, RCPT, DATA or BDAT
// (RFC 5321 §3.3).
type transaction struct {
	a     *attempt
	s     *session
	rcpts []*recipient

	accepted []*recipient
	data     reply    // the reply to DATA
	host     *failure // concerns the host, not a recipient
	mail     *failure // the message was refused at MAIL
	replies  int      // read so far
	convert  bool     // the receiver takes 7-bit content only
	need     []bool   // and these parts must be re-encoded for it
	broken   bool     // the connection is of no further use
}

func (t *transaction) run() *failure {
	t.s.wire.renew()
	if !t.s.plan.satisfiedBy(t.s.proof) {
		// Cannot happen; it is checked where it matters most all the same.
		return later("4.7.5", "the connection does not meet level %s; %s", t.s.plan.level, protection)
	}
	params, refusal := t.prepare()
	if refusal != nil {
		t.settle(t.rcpts, refusal)
		return nil
	}
	if len(t.rcpts) == 0 {
		return nil
	}
	chunking := t.s.ext.has("CHUNKING")
	if err := t.envelope(params, !chunking); err != nil {
		t.broken = true
		f := later("4.4.2", "the conversation ended early: %s", why(err))
		f.stale = t.s.reused && t.replies == 0
		return f
	}
	switch {
	case t.host != nil:
		return t.host
	case t.mail != nil:
		return t.mailRefused()
	case len(t.accepted) == 0:
		return t.nobodyAccepted()
	case chunking:
		t.sendChunks()
	default:
		t.sendData()
	}
	return t.host
}

// settle gives recipients one outcome at this session.
func (t *transaction) settle(rs []*recipient, f *failure) {
	for _, r := range slices.Clone(rs) {
		t.a.settle(r, t.place(), f)
	}
}

func (t *transaction) place() place { return place{t.s.plan.host, t.s.addr, t.s} }

// step is one command and what its reply does.
type step struct {
	line    string
	timeout time.Duration
	take    func(reply)
}

// envelope sends everything up to the content: in one go where the receiver
// allows it (RFC 2920 §3.1), else step by step.
func (t *transaction) envelope(params string, data bool) error {
	times := &t.s.d.cfg.Timeouts
	var steps []step
	if t.s.dirty {
		steps = append(steps, step{"RSET", times.Mail, t.takeReset})
	}
	steps = append(steps, step{"MAIL FROM:<" + t.a.item.Envelope.Sender + ">" + params, times.Mail, t.takeMail})
	for _, r := range t.rcpts {
		steps = append(steps, step{"RCPT TO:<" + r.Address + ">" + t.rcptParams(r), times.RCPT,
			func(rep reply) { t.takeRecipient(r, rep) }})
	}
	if data {
		steps = append(steps, step{"DATA", times.Data, func(rep reply) { t.data = rep }})
	}
	if t.s.reused {
		// The path may have died unnoticed. Nothing was handed over yet, so a new
		// connection does no harm, and it has the whole time (RFC 5321 §4.5.3.2.2).
		steps[0].timeout = min(steps[0].timeout, againTime)
	}
	t.s.dirty = true
	if t.s.ext.has("PIPELINING") {
		return t.pipeline(steps)
	}
	for i, st := range steps {
		if t.host != nil || t.mail != nil || (data && i == len(steps)-1 && len(t.accepted) == 0) {
			return nil
		}
		rep, err := t.s.wire.command(st.timeout, st.line)
		if err != nil {
			return err
		}
		t.take(st, rep)
	}
	return nil
}

func (t *transaction) pipeline(steps []step) error {
	w := t.s.wire
	for _, st := range steps {
		w.send(st.line) // an error sticks until flush
	}
	if err := w.flush(); err != nil {
		return t.lastWords(err)
	}
	for _, st := range steps {
		rep, err := w.receive(st.timeout)
		if err != nil {
			return err
		}
		t.take(st, rep)
		if rep.code == 421 {
			return nil
		}
	}
	return nil
}

// lastWords reads what a receiver said before it closed on us.
func (t *transaction) lastWords(err error) error {
	rep, e := t.s.wire.receive(quitTime)
	if e != nil || rep.class() < 4 {
		return err
	}
	return fmt.Errorf("%w, after: %s", err, rep)
}

// take handles what any step may be answered with before its own meaning.
func (t *transaction) take(st step, rep reply) {
	t.replies++
	if rep.code == 421 && t.host == nil {
		// RFC 5321 §3.8: the receiver is closing down. Nothing was accepted.
		t.host = refused(verbOf(st.line), rep)
		t.host.stale = t.s.reused && t.replies == 1
		t.broken = true
		return
	}
	if t.host == nil {
		st.take(rep)
	}
}

func verbOf(line string) string {
	verb, _, _ := strings.Cut(line, ":")
	verb, _, _ = strings.Cut(verb, " ")
	return verb
}

func (t *transaction) takeReset(rep reply) {
	if rep.class() != 2 {
		t.host = refused("RSET", rep)
		t.host.stale = true
		t.broken = true
	}
}

func (t *transaction) takeMail(rep reply) {
	if rep.class() != 2 {
		t.mail = refused("MAIL", rep)
	}
}

// takeRecipient: each recipient's reply is its own outcome.
func (t *transaction) takeRecipient(r *recipient, rep reply) {
	switch {
	case t.mail != nil:
	case rep.class() == 2:
		t.accepted = append(t.accepted, r)
	case len(t.accepted) > 0 && (rep.code == 452 || rep.code == 552):
		// RFC 5321 §4.5.3.1.10: too many recipients; the rest goes in the
		// next transaction, at once.
	default:
		f := refused("RCPT", rep)
		if f.permanent && f.policy() && t.a.mayFlip {
			r.refused, r.waiting = &trouble{t.place(), f}, true
			return
		}
		t.a.settleRecipient(r, t.place(), f)
	}
}

// mailRefused: a permanent refusal is the answer for everyone; a temporary
// one is worth asking the next host.
func (t *transaction) mailRefused() *failure {
	f := t.mail
	if t.data.code == 354 {
		t.broken = true // it waits for content of a message that it refused
	}
	switch {
	case !f.permanent:
		return f
	case f.policy() && t.a.mayFlip:
		for _, r := range t.rcpts {
			r.refused, r.waiting = &trouble{t.place(), f}, true
		}
	default:
		t.settle(t.rcpts, f)
	}
	return nil
}

// nobodyAccepted: a DATA that was sent ahead must be ended with an empty
// message, which the receiver refuses or drops (RFC 2920 §3.1).
func (t *transaction) nobodyAccepted() *failure {
	if t.data.code != 354 {
		return nil
	}
	if _, err := t.s.wire.command(t.s.d.cfg.Timeouts.Dot, "."); err != nil {
		t.broken = true
	}
	return nil
}

// sendData sends the content with dot stuffing (RFC 5321 §4.1.1.4).
func (t *transaction) sendData() {
	if t.data.code != 354 {
		f := refused("DATA", t.data)
		t.settle(t.accepted, f)
		return
	}
	w := t.s.wire
	err := t.withContent(func(src io.Reader) error { return copyLines(w.bw, src, true) })
	if err == nil {
		w.bw.WriteString(".\r\n")
		err = w.flush()
	}
	t.conclude(err)
}

// conclude reads the reply that decides, after the last byte. From here on no
// other host is tried: the receiver may have taken the message.
func (t *transaction) conclude(err error) {
	w := t.s.wire
	w.allow(t.s.d.cfg.Timeouts.Dot)
	var local *localError
	if errors.As(err, &local) {
		t.broken = true
		t.settle(t.accepted, later("4.3.0", "the message could not be read from the queue: %v", local.err))
		return
	}
	var rep reply
	if err != nil {
		// The receiver may have said why before it stopped listening.
		t.broken = true
		var e error
		if rep, e = w.receive(quitTime); e != nil || rep.class() < 4 {
			t.settle(t.accepted, later("4.4.2", "the connection failed while the message was sent: %s", why(err)))
			return
		}
	} else if rep, err = w.receive(t.s.d.cfg.Timeouts.Dot); err != nil {
		t.broken = true
		t.settle(t.accepted, later("4.4.2", "no reply to the end of the message: %s", why(err)))
		return
	}
	t.outcome(rep)
}

// outcome is the receiver's last word on the message.
func (t *transaction) outcome(rep reply) {
	t.broken = t.broken || rep.code == 421
	if rep.class() != 2 {
		t.settle(t.accepted, refused("the message", rep))
		return
	}
	t.s.dirty = false
	t.s.uses++
	for _, r := range t.accepted {
		t.a.delivered(r, t.place(), rep)
	}
}

// localError is a failure on our side of the content.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }

// withContent hands the content, as the receiver takes it, to send.
func (t *transaction) withContent(send func(io.Reader) error) error {
	c := t.a.content
	src, err := c.rewind()
	if err != nil {
		return &localError{err}
	}
	w := t.s.wire
	// A receiver that takes the content at a trickle is bounded as a whole.
	w.allow(3*t.s.d.cfg.Timeouts.Block + time.Duration(c.size/minRate)*time.Second)
	src = localReader{src}
	if !t.convert {
		return send(src)
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		bw := bufio.NewWriter(pw)
		err := to7Bit(bw, src, t.need)
		if err == nil {
			err = bw.Flush()
		}
		pw.CloseWithError(err)
	}()
	err = send(pr)
	pr.CloseWithError(io.ErrClosedPipe)
	<-done
	return err
}

// localReader marks errors of the queue's file apart from those of the wire.
type localReader struct{ r io.Reader }

func (l localReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && err != io.EOF {
		err = &localError{err}
	}
	return n, err
}

// delivered reports success.
func (a *attempt) delivered(r *recipient, at place, rep reply) {
	a.conclude(r, at, queue.Result{Index: r.Index, Address: r.Address, Outcome: queue.Delivered, Host: at.host,
		DSN: rep.enhanced(), Reply: rep.String(), Security: at.s.proof.security, NotifiesNext: at.s.ext.has("DSN")})
}
