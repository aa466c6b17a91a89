package replay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Subject is the resolver under test. Its methods are called from the
// player's goroutine, except Resolve, which runs on one of its own.
type Subject interface {
	// Resolve answers one question and may block in Network.Exchange.
	Resolve(ctx context.Context, q Question) *Answer
	// ClockMoved is called after time passed; work that is due is started on
	// other goroutines and not waited for.
	ClockMoved()
	// NextTimer is the time until the subject acts by itself; 0 for never.
	NextTimer() time.Duration
	// AnchorState is the persisted state of a zone's trust anchors.
	AnchorState(zone string) (*AnchorState, error)
}

// Player plays one scenario. Make one per run.
type Player struct {
	Scenario *Scenario
	Network  *Network
	Subject  Subject
	// Settle returns when every goroutine of the subject waits for the
	// script or has ended. Pause lets the machine's clock go on, for a subject
	// that waits for a timer.
	Settle func()
	Pause  func(time.Duration)

	elapsed time.Duration // the scenario's clock
	asked   []*asked
	used    map[*Entry]bool
	macros  macros
}

// asked is a question of a client that has not been checked yet.
type asked struct {
	question Question
	answer   chan *Answer
	got      *Answer
}

// patience bounds how long a step waits for an answer when nothing is asked
// of the network any more, on the machine's clock.
const patience = 2 * time.Minute

// Elapsed is the scenario's time since its start.
func (p *Player) Elapsed() time.Duration { return p.elapsed }

// Run plays all steps. The error says which step failed and how.
func (p *Player) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.Settle()
	defer cancel()
	p.used = map[*Entry]bool{}
	p.macros = macros{
		vars:    map[string]string{},
		now:     func() int64 { return int64(p.elapsed / time.Second) },
		timeout: func() int64 { return int64(p.Subject.NextTimer() / time.Second) },
	}
	for i := 0; i < len(p.Scenario.Steps); {
		step := &p.Scenario.Steps[i]
		p.Settle()
		busy, done, err := p.serve(i)
		if err == nil && !busy && !done {
			p.Network.Note("-- step %d %s", step.Number, step.Kind)
			done, err = p.act(ctx, step)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: step %d %s: %w", p.Scenario.File, step.Line, step.Number, step.Kind, err)
		}
		if done {
			i++
		}
	}
	return p.unused()
}

// unused complains about MANDATORY entries that were never sent.
func (p *Player) unused() error {
	for _, r := range p.Scenario.Ranges {
		for _, e := range r.Entries {
			if e.Mandatory && !p.used[e] {
				return fmt.Errorf("%s:%d: mandatory entry was never used", p.Scenario.File, e.Line)
			}
		}
	}
	return nil
}

// serve looks at what waits in the network while step i is next. busy: an
// exchange was ended, look again; done: step i itself was played by that.
func (p *Player) serve(i int) (busy, done bool, err error) {
	step := &p.Scenario.Steps[i]
	waiting, broken := p.Network.snapshot()
	if broken != nil {
		return false, false, broken
	}
	for _, w := range waiting {
		switch {
		case step.Kind == CheckOutQuery && toServer(step, w) && step.Entry.matches(w.query):
			return false, false, nil // act sees it
		case step.Kind == Reply && p.Scenario.Dialect == Unbound && toServer(step, w) && step.Entry.matches(w.query):
			p.send(w, step.Entry)
			return true, true, nil
		}
	}
	for _, w := range waiting {
		if e := p.find(step.Number, w); e != nil {
			p.send(w, e)
			return true, false, nil
		}
		if p.Scenario.Dialect == Deckard {
			p.oneShot(i, w)
			return true, false, nil
		}
	}
	// In Deckard's dialect the replies were there for the taking.
	return false, step.Kind == Reply && p.Scenario.Dialect == Deckard, nil
}

func toServer(step *Step, w *pending) bool {
	return !step.Address.IsValid() || step.Address.Unmap() == w.server
}

// find returns the first entry of the first range that fits. In Deckard's
// dialect a referral is a second choice.
func (p *Player) find(step int, w *pending) *Entry {
	var referral *Entry
	for _, r := range p.Scenario.Ranges {
		if step < r.From || step > r.To || len(r.Addresses) > 0 && !slices.Contains(r.Addresses, w.server) {
			continue
		}
		for _, e := range r.Entries {
			if e.matches(w.query) {
				return e
			}
			if referral == nil && p.Scenario.Dialect == Deckard && e.refers(w.query) {
				referral = e
			}
		}
	}
	return referral
}

// oneShot answers with the first REPLY step from i on that fits and has not
// been used, else with SERVFAIL.
func (p *Player) oneShot(i int, w *pending) {
	for j := i; j < len(p.Scenario.Steps); j++ {
		step := &p.Scenario.Steps[j]
		if step.Kind == Reply && !p.used[step.Entry] && toServer(step, w) && step.Entry.matches(w.query) {
			p.send(w, step.Entry)
			return
		}
	}
	servfail := &Entry{CopyID: true, CopyQuery: true, QR: true, RD: w.query.msg.RecursionDesired, Rcode: dns.RcodeServerFailure}
	p.send(w, servfail)
}

// send ends an exchange with an entry's reply.
func (p *Player) send(w *pending, e *Entry) {
	p.used[e] = true
	if e.Silent {
		p.Network.finish(w, result{err: os.ErrDeadlineExceeded}, "drop ")
		return
	}
	p.elapsed += time.Duration(e.Sleep) * time.Second
	edns := w.query.edns && p.Scenario.Dialect == Deckard
	p.Network.finish(w, result{reply: e.reply(w.query, edns)}, fmt.Sprintf("reply (line %d)", e.Line))
}

// act plays a step; done is false when it must be looked at again.
func (p *Player) act(ctx context.Context, step *Step) (done bool, err error) {
	switch step.Kind {
	case Query:
		p.ask(ctx, step.Entry)
	case CheckAnswer:
		return p.checkAnswer(step)
	case CheckOutQuery:
		return p.checkOutQuery(step)
	case Reply:
		return p.missedReply()
	case Timeout:
		p.endOne(step, os.ErrDeadlineExceeded)
	case NetworkError:
		p.endOne(step, ErrNetwork)
	case Nothing, Traffic:
	case Assign:
		var v string
		if v, err = p.macros.expand(step.Expr); err == nil {
			p.macros.vars[step.Name] = v
		}
	case TimePasses:
		err = p.timePasses(step)
	case CheckAutotrust:
		err = p.checkAutotrust(step)
	default:
		err = errors.New("this step cannot be played")
	}
	return true, err
}

// ask starts a resolution on a goroutine of its own.
func (p *Player) ask(ctx context.Context, e *Entry) {
	q := Question{Name: e.Question[0].Name, Type: e.Question[0].Qtype, Class: e.Question[0].Qclass, RD: e.RD, CD: e.CD, DO: e.DO, AD: e.AD}
	a := &asked{question: q, answer: make(chan *Answer, 1)}
	p.asked = append(p.asked, a)
	go func() {
		got := p.Subject.Resolve(ctx, q)
		p.Network.Note("answer %s %s: %s %s", q.Name, dns.TypeToString[q.Type], dns.RcodeToString[got.Rcode], got.Note)
		a.answer <- got
	}()
}

// checkAnswer compares the answer to the question that the entry names.
func (p *Player) checkAnswer(step *Step) (done bool, err error) {
	want := step.Entry.Question[0]
	var failed error
	for i, a := range p.asked {
		any := step.Entry.Match == 0
		if !any && (!strings.EqualFold(a.question.Name, want.Name) || a.question.Type != want.Qtype) {
			continue
		}
		if a.got == nil {
			select {
			case a.got = <-a.answer:
			default:
				return false, p.hurry()
			}
		}
		if err := step.Entry.check(a.got); err != nil {
			failed = err
			continue
		}
		p.asked = slices.Delete(p.asked, i, i+1)
		return true, nil
	}
	if failed == nil {
		failed = fmt.Errorf("no question %s %s waits for an answer", want.Name, dns.TypeToString[want.Qtype])
	}
	return false, failed
}

// hurry lets whatever the resolver still waits for fail, so that it answers.
func (p *Player) hurry() error {
	waiting, _ := p.Network.snapshot()
	if len(waiting) > 0 {
		for _, w := range waiting {
			p.Network.finish(w, result{err: os.ErrDeadlineExceeded}, "silence")
		}
		return nil
	}
	for waited := time.Duration(0); waited < patience; waited += time.Second {
		p.Pause(time.Second)
		p.Settle()
		for _, a := range p.asked {
			if a.got == nil && len(a.answer) > 0 {
				return nil
			}
		}
		if waiting, _ := p.Network.snapshot(); len(waiting) > 0 {
			return nil
		}
	}
	return errors.New("the resolver neither asks nor answers")
}

// checkOutQuery is called when a matching exchange waits, or when nothing
// that waits can be answered.
func (p *Player) checkOutQuery(step *Step) (bool, error) {
	waiting, _ := p.Network.snapshot()
	var seen []string
	for _, w := range waiting {
		if toServer(step, w) && step.Entry.matches(w.query) {
			return true, nil
		}
		seen = append(seen, w.server.String()+" "+describe(w.query))
	}
	return false, fmt.Errorf("the resolver does not ask this; it waits for %q", seen)
}

// missedReply is called when a REPLY step of testbound finds nobody to send
// its reply to: the resolver asked less than the recorded one did, which is
// its right as long as the checks hold. Whatever else waits hears nothing.
func (p *Player) missedReply() (bool, error) { return true, nil }

// endOne ends the oldest exchange to the step's server with err. A resolver
// that asked less often than the recorded one has nothing left to time out.
func (p *Player) endOne(step *Step, err error) {
	waiting, _ := p.Network.snapshot()
	for _, w := range waiting {
		if toServer(step, w) {
			p.Network.finish(w, result{err: err}, "silence")
			return
		}
	}
}

func (p *Player) timePasses(step *Step) error {
	expr, err := p.macros.expand(step.Expr)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(expr), 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("%q is not a number of seconds", expr)
	}
	p.elapsed += time.Duration(seconds * float64(time.Second))
	p.Subject.ClockMoved()
	return nil
}
