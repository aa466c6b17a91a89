package queue

import (
	"fmt"
	"time"
)

// policy is what decides the fate of a recipient after an attempt.
type policy struct {
	maxAge, warnAfter    time.Duration
	retryFirst, retryMax time.Duration
}

// attempted is one attempt's outcome for one recipient, and when.
type attempted struct {
	result Result
	now    time.Duration // queue time
	wall   time.Time
	jitter float64 // in [0,1)
}

// fate is what follows from an attempt.
type fate struct {
	ended  bool
	next   recipient // when it has not ended
	tell   bool      // the sender is told
	kind   NoticeKind
	result Result // as the sender is told it
}

// judge decides what an attempt's result means for a recipient.
func (p policy) judge(r recipient, a attempted) fate {
	f := fate{next: r, result: a.result, tell: true}
	f.next.Attempts++
	f.next.remember(Attempt{At: a.wall, Reason: a.result.Reason, DSN: a.result.DSN, Reply: a.result.Reply, Host: a.result.Host})
	switch a.result.Outcome {
	case Delivered:
		f.ended, f.kind = true, NoticeSuccess
	case Failed:
		f.ended, f.kind = true, NoticeFailure
	case Held:
		f.tell = false
		f.next.Hold = a.result.Reason
		if f.next.Hold == "" {
			f.next.Hold = "held at delivery"
		}
	default:
		p.later(&f, r, a)
	}
	return f
}

// later is judge's arm for a temporary failure.
func (p policy) later(f *fate, r recipient, a attempted) {
	age := a.now - r.Since
	switch {
	case r.Hold != "": // an operator held it meanwhile: what is held does not expire
		f.next.Hold, f.tell = r.Hold, false
	case age >= p.maxAge:
		// RFC 5321 §4.5.4.1: the client gives up after days of trying.
		// RFC 3463 §3.5: 4.4.7 is a message that grew too old.
		f.ended, f.kind = true, NoticeFailure
		f.result.Outcome, f.result.DSN = Failed, "4.4.7"
		f.result.Reason = fmt.Sprintf("given up after %s; the last attempt: %s", inWords(age), a.result.Reason)
	case p.warnAfter > 0 && age >= p.warnAfter && !r.Warned:
		f.kind, f.next.Warned = NoticeDelay, true
	default:
		f.tell = false
	}
	f.next.Next = a.now + backoff(f.next.Attempts, a.result.Greylisted, p.retryFirst, p.retryMax, a.jitter)
}

// inWords writes a lifetime as people say it.
func inWords(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}
