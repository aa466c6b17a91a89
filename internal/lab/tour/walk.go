package tour

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"danepost/internal/lab"
)

// Visit is one message of the tour and what became of it.
type Visit struct {
	Stop  *Stop
	Line  Line // what danepost said
	Took  time.Duration
	Wrong []string // what should not be, in words; empty when all is right
	Loot  string   // what the attacker got, in words; "" where there is none

	marker string // in the message's body and nowhere else
}

// Walk sends one message to every Stop and judges each by the daemon's log
// and by what receivers and attackers really got. seen is called, one call at
// a time, as each outcome is known, with the number of outcomes so far. The
// result has the order of Stops.
func (w *World) Walk(ctx context.Context, p *Program, d *Daemon, seen func(n int, v *Visit)) []*Visit {
	visits := make([]*Visit, len(w.Stops))
	for i, s := range w.Stops {
		visits[i] = &Visit{Stop: s, marker: rand.Text()}
	}
	var mu sync.Mutex
	n := 0
	var wg sync.WaitGroup
	for _, v := range visits {
		start := time.Now()
		if err := p.Send(ctx, v.Stop.Address(), "a message to "+v.Stop.Domain, "The body says "+v.marker+"."); err != nil {
			v.wrong("not accepted: %v", err)
			continue
		}
		wg.Go(func() {
			w.judge(ctx, d, v)
			v.Took = time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			n++
			seen(n, v)
		})
	}
	wg.Wait()
	for _, v := range visits {
		w.groundTruth(v)
	}
	return visits
}

func (v *Visit) wrong(format string, args ...any) {
	v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
}

// judge waits for the log line of a visit, and for the bounce if there is to
// be one, and compares the line with what is wanted.
func (w *World) judge(ctx context.Context, d *Daemon, v *Visit) {
	var err error
	if v.Line, err = d.Wait(ctx, func(l Line) bool { return l.To == v.Stop.Address() }); err != nil {
		v.wrong("danepost logged no outcome: %v", err)
		return
	}
	want := v.Stop.Want
	for _, c := range []struct{ key, got, want string }{
		{"msg", v.Line.Msg, want.Did},
		{"security", v.Line.Security, want.Security},
		{"mx_status", v.Line.MXStatus, want.MXStatus},
		{"dsn", v.Line.DSN, want.DSN},
	} {
		if c.want != "" && c.got != c.want {
			v.wrong("the log says %s=%q, not %q", c.key, c.got, c.want)
		}
	}
	if want.Did == "bounced" {
		if _, err := w.Home.Wait(ctx, v.isBounce); err != nil {
			v.wrong("no bounce came home: %v", err)
		}
	}
}

func (v *Visit) isBounce(m lab.Message) bool {
	return m.From == "" && strings.Contains(m.Data, v.Stop.Address())
}

// groundTruth compares what receivers and attackers got with what is wanted.
func (w *World) groundTruth(v *Visit) {
	want := v.Stop.Want
	var arrived []lab.Message
	for _, r := range v.Stop.Receivers {
		for _, m := range r.Messages() {
			if strings.Contains(m.Data, v.marker) {
				arrived = append(arrived, m)
			}
		}
	}
	copies := 0
	if want.Did == "delivered" {
		copies = 1
	}
	if len(arrived) != copies {
		v.wrong("the receivers got %d copies, not %d", len(arrived), copies)
	}
	for _, m := range arrived {
		if clear := m.TLS == nil; clear != (want.Security == "plaintext") {
			v.wrong("it arrived in the clear: %v", clear)
		}
	}
	bounces := 0
	for _, m := range w.Home.Messages() {
		if v.isBounce(m) {
			bounces++
		}
	}
	if due := want.Did == "bounced"; (bounces == 1) != due || bounces > 1 {
		v.wrong("%d bounces came home", bounces)
	}
	v.attackers(w)
}

// loot says what the attacker on a path has, when all is as wanted.
func loot(p *lab.Path, want Want) string {
	switch {
	case want.Readable:
		return "the attacker read it all"
	case want.Unasked:
		return "the attacker was not even connected to"
	}
	return fmt.Sprintf("the attacker saw %d bytes and no word of the message", len(p.Seen()))
}

// attackers says what those on the way got to see.
func (v *Visit) attackers(w *World) {
	if v.Stop.Attack != "" {
		v.Loot = "mx.evil.demo got nothing"
	}
	for _, p := range v.Stop.Paths {
		v.Loot = loot(p, v.Stop.Want)
		seen := bytes.ToUpper(p.Seen())
		if got := bytes.Contains(seen, []byte(strings.ToUpper(v.marker))); got != v.Stop.Want.Readable {
			v.wrong("the attacker read the message: %v", got)
		}
		if !v.Stop.Want.Readable && (bytes.Contains(seen, []byte("MAIL FROM")) || bytes.Contains(seen, []byte("RCPT TO"))) {
			v.wrong("the attacker read the envelope")
		}
		if unasked := p.Sessions() == 0; unasked != v.Stop.Want.Unasked {
			v.wrong("the attacker was connected to %d times", p.Sessions())
		}
	}
	for _, m := range w.Evil.Messages() {
		if strings.Contains(m.Data, v.marker) {
			v.wrong("the attacker's server mx.evil.demo got the message")
		}
	}
}
