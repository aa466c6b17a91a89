package queue

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// settlement is what came of an item's recipients.
type settlement struct {
	item    *Item
	results []Result
	shared  bool // it was not attempted: another message found the destination unreachable
}

// plan is one transaction that settles: records and notices.
type plan struct {
	updates           []update
	notices           []*entry
	staged            []*staged
	delivered, failed int64
	lines             []logLine
}

// logLine is written once the transaction is durable. The handler logs what
// it attempted; these are the outcomes that are the queue's own decision.
type logLine struct {
	message string
	attrs   []slog.Attr
}

// settle commits what came of attempts, with the notices that tell of it. It
// does not give up while the disk may recover and the run goes on: what was
// delivered and is not recorded would be sent again.
func (r *runner) settle(list []settlement) error {
	wait := time.Second
	err := r.trySettle(list)
	for stuck := false; err != nil; err = r.trySettle(list) {
		if errors.Is(err, errChanged) {
			continue
		}
		if fatal := r.q.store.commit.health(); fatal != nil {
			return fatal
		}
		if !stuck {
			stuck = true
			r.events <- event{stuck: 1}
			defer func() { r.events <- event{stuck: -1} }()
			r.q.o.Log.Error("outcomes cannot be recorded; nothing new is sent until they are", "error", err)
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, 30*time.Second)
		case <-r.work.Done():
			return err
		}
	}
	return nil
}

func (r *runner) trySettle(list []settlement) error {
	p, err := r.plan(list)
	if err == nil && len(p.updates) == 0 {
		return nil // an operator removed them all meanwhile
	}
	if err == nil {
		var files []string
		files, err = r.q.store.settle(p.updates, p.notices, func(run *RunRecord) {
			run.Delivered += p.delivered
			run.Failed += p.failed
			run.Accepted += int64(len(p.notices))
		})
		r.q.unlink(files)
	}
	if err != nil {
		for _, s := range p.staged {
			r.q.discard(s)
		}
		return err
	}
	for _, n := range p.notices {
		r.q.changed(false, n.id)
	}
	for _, l := range p.lines {
		r.q.o.Log.LogAttrs(r.work, slog.LevelWarn, l.message, l.attrs...)
	}
	return nil
}

// plan computes the transaction from the records as they are now, and lets
// the handler compose the notices.
func (r *runner) plan(list []settlement) (*plan, error) {
	p := &plan{}
	for _, s := range list {
		fates, err := r.fates(p, s)
		if err != nil {
			return p, err
		}
		for _, kind := range []NoticeKind{NoticeFailure, NoticeDelay, NoticeSuccess} {
			if len(fates[kind]) == 0 {
				continue
			}
			if err := r.compose(p, s.item, kind, fates[kind]); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// due is something that the sender is to be told: the result, the plan's
// update for its recipient, and the recipient as it is should nobody be there to tell.
type due struct {
	result Result
	update int
	line   int // in the plan's lines, -1 for none
	next   recipient
}

// fates judges a settlement's results, adds the updates to the plan, and
// returns what the sender is to be told.
func (r *runner) fates(p *plan, s settlement) (map[NoticeKind][]due, error) {
	indexes := make([]int, len(s.results))
	byIndex := make(map[int]Result, len(s.results))
	for i, res := range s.results {
		indexes[i], byIndex[res.Index] = res.Index, res
	}
	list, err := r.q.store.recipients(s.item.ID, indexes)
	if err != nil {
		return nil, err
	}
	a := attempted{now: r.q.store.clock.now(), wall: r.q.o.Now(), jitter: rand.Float64()}
	tell := map[NoticeKind][]due{}
	for _, n := range list {
		if n.err != nil {
			continue // held as it is
		}
		a.result = byIndex[n.index]
		f := r.policy.judge(n.recipient, a)
		u := update{id: s.item.ID, index: n.index, was: n.record}
		if !f.ended {
			u.now = f.next.encode()
		}
		p.updates = append(p.updates, u)
		line := p.note(s, n.recipient, f, a)
		if f.tell {
			tell[f.kind] = append(tell[f.kind], due{f.result, len(p.updates) - 1, line, f.next})
		}
	}
	return tell, nil
}

// note counts a fate and logs what the handler did not. It returns the number
// of the line, -1 if there is none.
func (p *plan) note(s settlement, r recipient, f fate, a attempted) int {
	word := ""
	switch {
	case f.result.Outcome == Delivered:
		p.delivered++
	case f.result.Outcome == Failed:
		p.failed++
		if a.result.Outcome == Later {
			word = "bounced"
		}
	case s.shared:
		word = "deferred"
	}
	if word == "" {
		return -1
	}
	_, domain := cutAddress(r.Address)
	// The keys are those of an attempt's line, so that one search finds both;
	// what only a connection could show is empty.
	p.lines = append(p.lines, logLine{word, []slog.Attr{
		slog.String("id", s.item.ID), slog.String("from", s.item.Envelope.Sender), slog.String("to", r.Address),
		slog.String("domain", domain), slog.String("host", f.result.Host), slog.String("address", ""),
		slog.String("security", ""), slog.String("tls", ""), slog.String("match", ""), slog.String("mx_status", ""),
		slog.String("reply", f.result.Reply), slog.String("dsn", f.result.DSN), slog.Int("attempts", f.next.Attempts),
		slog.Int64("delay_ms", a.wall.Sub(s.item.Arrived).Milliseconds()), slog.String("reason", f.result.Reason),
	}})
	return len(p.lines) - 1
}

// compose asks for a notice and stages it.
func (r *runner) compose(p *plan, item *Item, kind NoticeKind, list []due) error {
	about := make([]Result, len(list))
	for i, d := range list {
		about[i] = d.result
	}
	n := r.h.Notice(item, kind, about)
	switch {
	case n != nil && n.Hold != "" && kind == NoticeFailure:
		for _, d := range list {
			d.next.Hold = n.Hold + ": " + d.result.Reason
			p.updates[d.update].now = d.next.encode()
			p.failed--
			if d.line >= 0 {
				p.lines[d.line].message = "held"
			}
		}
		return nil
	case n == nil || len(n.Envelope.Recipients) == 0:
		return nil
	}
	s, err := r.q.body.stage(bytes.NewReader(n.Content), 0, func() error { return nil })
	if err != nil {
		return err
	}
	p.staged = append(p.staged, s)
	n.Envelope.DropKey = ""
	e, err := r.q.entry(n.Envelope, s)
	if err != nil {
		return err
	}
	p.notices = append(p.notices, e)
	return nil
}

// share settles jobs of an unreachable destination with the outcome of the
// one that found out, in few transactions.
func (r *runner) share(jobs []*job, down Result) {
	const together = 100
	var err error
	for len(jobs) > 0 {
		n := min(len(jobs), together)
		err = errors.Join(err, r.shareSome(jobs[:n], down))
		for _, j := range jobs[:n] {
			left, readErr := r.left(j)
			r.events <- event{job: j, left: left, shared: true, err: errors.Join(err, readErr)}
		}
		jobs = jobs[n:]
	}
}

func (r *runner) shareSome(jobs []*job, down Result) error {
	var list []settlement
	for _, j := range jobs {
		indexes := make([]int, len(j.rcpts))
		for i, rcpt := range j.rcpts {
			indexes[i] = rcpt.index
		}
		item, err := r.item(j, indexes)
		if err != nil {
			continue // gone, or for its own attempt to find out
		}
		s := settlement{item: item, shared: true}
		for _, rcpt := range item.Recipients {
			res := down
			res.Index, res.Address = rcpt.Index, rcpt.Address
			s.results = append(s.results, res)
		}
		list = append(list, s)
	}
	return r.settle(list)
}
