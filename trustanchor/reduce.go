package trustanchor

import (
	"errors"
	"slices"
	"time"
)

var (
	errUnknownState = errors.New("unknown state of a key")
	errUnverified   = errors.New("no answer was signed by a trusted key")
)

// Times of RFC 5011, and two of our own.
const (
	addHoldDown    = 30 * 24 * time.Hour // RFC 5011 §2.4.1
	removeHoldDown = 30 * 24 * time.Hour // RFC 5011 §2.4.2
	minSightings   = 2                   // RFC 5011 §2.4.1 asks for the set at the end of the hold-down; one more makes a replay harder
	// A key that is missing for longer than this, while another is valid, is
	// removed. RFC 5011 §4.2 would keep it for ever: a key that the zone has
	// dropped without revoking it would be trusted until the end of the host.
	keepMissing = 366 * 24 * time.Hour
	// Successes further apart than this say nothing about what happened in
	// between, or the clock jumped: hold-downs start again, so that nothing is
	// removed or accepted in one step.
	maxGap = 400 * 24 * time.Hour

	minInterval = time.Hour           // RFC 5011 §2.3, both intervals
	maxInterval = 15 * 24 * time.Hour // RFC 5011 §2.3
	maxRetry    = 24 * time.Hour      // RFC 5011 §2.3
)

// event is one of the events of RFC 5011 §4.1.
type event uint8

const (
	evNewKey event = iota
	evKeyPres
	evKeyRem
	evAddTime
	evRemTime
	evRevBit
	evExpire // ours: Missing for longer than keepMissing
)

// transitions is the table of RFC 5011 §4.2, plus what is confessed above. A
// pair that is absent changes nothing.
var transitions = map[State]map[event]State{
	Start:   {evNewKey: AddPend},
	AddPend: {evKeyRem: Start, evAddTime: Valid, evRevBit: Start},
	Valid:   {evKeyRem: Missing, evRevBit: Revoked},
	Missing: {evKeyPres: Valid, evRevBit: Revoked, evExpire: Removed},
	Revoked: {evRemTime: Removed},
	Removed: {},
}

// reduction is one call of Observe.
type reduction struct {
	set    Set
	o      *Observation
	now    time.Time
	events []Event
	stale  bool // the last success is too long ago for hold-downs to have run
}

// Observe applies one answer to the set and says what changed. It does not
// choose the time of the next query: see Set.Schedule.
func Observe(set Set, o Observation, now time.Time) (Set, []Event) {
	r := &reduction{set: set.clone(), o: &o, now: now}
	r.stale = !set.Succeeded.IsZero() && now.Sub(set.Succeeded) > maxGap
	r.set.Queried = now
	r.settleClock()
	r.adopt()
	revoked := r.revocations()
	// The last trusted key may go by its own word: then nothing is left that
	// could verify the set, and the answer has still told all there is.
	withdrawn := revoked && r.set.AllRevoked()
	if !r.verified() && !withdrawn {
		r.set.Failures++
		r.add(Event{Kind: Unverified})
		return r.set, r.events
	}
	r.bootstrap()
	for i := range r.set.Keys {
		r.known(&r.set.Keys[i])
	}
	if !withdrawn {
		r.candidates()
	}
	r.set.Keys = slices.DeleteFunc(r.set.Keys, func(k Key) bool { return k.State == Start })
	r.set.Succeeded, r.set.Failures = now, 0
	if o.SignatureEnd.After(r.set.SignatureEnd) {
		r.set.SignatureEnd = o.SignatureEnd
	}
	r.set.Interval, r.set.Retry = intervals(&o)
	return r.set, r.events
}

// settleClock undoes times that lie in the future: the clock was wrong when
// they were written, and a hold-down must not last for years because of it.
func (r *reduction) settleClock() {
	for i := range r.set.Keys {
		k := &r.set.Keys[i]
		if k.Since.After(r.now) || r.stale && k.State != Valid && k.State != Removed {
			k.Since, k.Seen = r.now, min(k.Seen, 1)
		}
	}
}

// adopt gives keys that are known by DS alone their material. The digest
// proves it, whoever sent it.
func (r *reduction) adopt() {
	for _, seen := range r.o.Keys {
		rdata := unrevoked(seen.RDATA)
		var first *Key
		for i := range r.set.Keys {
			k := &r.set.Keys[i]
			switch {
			case sameMaterial(k.RDATA, rdata):
				first = k
			case k.RDATA == nil && k.DS != nil && matchesDS(r.set.Zone, rdata, k.DS) && first == nil:
				k.RDATA, k.TTL, first = rdata, r.o.TTL, k
			case k.RDATA == nil && k.DS != nil && matchesDS(r.set.Zone, rdata, k.DS):
				k.State = Start // a second digest of the same key
			}
		}
	}
	r.set.Keys = slices.DeleteFunc(r.set.Keys, func(k Key) bool { return k.State == Start })
}

// revocations applies the REVOKE bits (RFC 5011 §2.1): a key that signed the
// set with the bit on is revoked, whoever else signed or did not.
func (r *reduction) revocations() bool {
	any := false
	for _, seen := range r.o.Keys {
		if !seen.InSet || !seen.Signs || flagsOf(seen.RDATA)&flagRevoke == 0 {
			continue
		}
		if k := r.set.find(seen.RDATA); k != nil && !k.pinned() {
			before := k.State
			r.revBit(k)
			if k.State == Revoked && before != Revoked {
				k.RDATA = slices.Clone(seen.RDATA)
				any = true
			}
		}
	}
	return any
}

// verified reports whether a key that is trusted signed the set.
func (r *reduction) verified() bool {
	for _, seen := range r.o.Keys {
		if !seen.Signs || flagsOf(seen.RDATA)&flagRevoke != 0 {
			continue
		}
		if k := r.set.find(seen.RDATA); k != nil && k.State.trusted() {
			return true
		}
	}
	return false
}

// bootstrap replaces anchors without the SEP bit, which RFC 5011 does not
// manage: the first set that such a key verifies brings secure entry points that sign it
// too, and these take its place. There is no hold-down, as there is none for
// the configured key itself.
func (r *reduction) bootstrap() {
	for i := range r.set.Keys {
		if !r.set.Keys[i].pinned() {
			return
		}
	}
	var entries []Key
	for _, seen := range r.o.Keys {
		if flags := flagsOf(seen.RDATA); seen.InSet && seen.Signs && flags&flagSEP != 0 && flags&flagRevoke == 0 {
			entries = append(entries, Key{RDATA: slices.Clone(seen.RDATA), State: Valid, Since: r.now, TTL: r.o.TTL})
		}
	}
	if len(entries) > 0 {
		r.set.Keys = entries
	}
}

// known raises the events of one key that the set has already.
func (r *reduction) known(k *Key) {
	if k.Since.IsZero() {
		k.Since, k.TTL = r.now, r.o.TTL // trusted by configuration; the first verified set
	}
	if k.pinned() {
		return
	}
	if r.present(k) {
		r.keyPres(k)
		r.addTime(k)
		return
	}
	r.expire(k)
	r.keyRem(k)
	r.remTime(k)
}

func (r *reduction) present(k *Key) bool {
	for _, seen := range r.o.Keys {
		if seen.InSet && sameMaterial(seen.RDATA, k.RDATA) {
			return true
		}
	}
	return false
}

// candidates raises NewKey for keys never seen before.
func (r *reduction) candidates() {
	pending := 0
	for i := range r.set.Keys {
		if r.set.Keys[i].State == AddPend {
			pending++
		}
	}
	for _, seen := range r.o.Keys {
		flags := flagsOf(seen.RDATA)
		if seen.InSet && flags&flagSEP != 0 && flags&flagRevoke == 0 && r.set.find(seen.RDATA) == nil && pending < maxPendingKeys {
			r.newKey(seen.RDATA)
			pending++
		}
	}
}

// newKey: "the resolver sees a valid DNSKEY RRSet with a new SEP key"
// (RFC 5011 §4.1). Until the hold-down ends it is not trusted.
func (r *reduction) newKey(rdata []byte) {
	k := Key{RDATA: slices.Clone(rdata), Seen: 1, TTL: r.o.TTL}
	r.move(&k, evNewKey)
	r.set.Keys = append(r.set.Keys, k)
}

// keyPres: the key is in a valid set (RFC 5011 §4.1). For one that waits it
// is a sighting; for a revoked one, its removal begins anew.
func (r *reduction) keyPres(k *Key) {
	switch k.State {
	case AddPend:
		k.Seen++
	case Revoked:
		k.Since = r.now
	}
	r.move(k, evKeyPres)
}

// keyRem: a valid set lacks the key (RFC 5011 §4.1).
func (r *reduction) keyRem(k *Key) { r.move(k, evKeyRem) }

// addTime: the key has been in every valid set for the add hold-down
// (RFC 5011 §2.4.1, §4.1).
func (r *reduction) addTime(k *Key) {
	if k.State == AddPend && k.Seen >= minSightings && !r.now.Before(k.HoldDownEnd()) {
		r.move(k, evAddTime)
	}
}

// remTime: a revoked key has been gone for the remove hold-down
// (RFC 5011 §2.4.2, §4.1).
func (r *reduction) remTime(k *Key) {
	if k.State == Revoked && r.now.Sub(k.Since) >= removeHoldDown {
		r.move(k, evRemTime)
	}
}

// revBit: the key is in the set with its REVOKE bit on, and signed the set
// itself (RFC 5011 §2.1, §4.1).
func (r *reduction) revBit(k *Key) { r.move(k, evRevBit) }

// expire removes a key that the zone dropped long ago, as long as another
// is valid: the set never becomes empty by it.
func (r *reduction) expire(k *Key) {
	if k.State != Missing || r.now.Sub(k.Since) < keepMissing {
		return
	}
	for i := range r.set.Keys {
		if other := &r.set.Keys[i]; other != k && other.State == Valid && r.present(other) {
			r.move(k, evExpire)
			return
		}
	}
}

// move applies the table.
func (r *reduction) move(k *Key, e event) {
	to, changes := transitions[k.State][e]
	if !changes {
		return
	}
	from := k.State
	k.State, k.Since = to, r.now
	if to != AddPend {
		k.Seen = 0
	}
	r.add(Event{Kind: Changed, Tag: k.Tag(), From: from, To: to, Until: k.HoldDownEnd(), LastValid: to != Valid && !r.anyTrusted(k)})
}

func (r *reduction) anyTrusted(but *Key) bool {
	for i := range r.set.Keys {
		if k := &r.set.Keys[i]; k != but && k.State.trusted() {
			return true
		}
	}
	return but.State.trusted()
}

func (r *reduction) add(e Event) {
	e.Zone, e.At = r.set.Zone, r.now
	r.events = append(r.events, e)
}

// HoldDownEnd is when a waiting key may become trusted, or a revoked one be
// forgotten if it stays away; zero for other states.
func (k *Key) HoldDownEnd() time.Time {
	switch k.State {
	case AddPend: // RFC 5011 §2.4.1: "30 days or the expiration time of the original TTL"
		return k.Since.Add(max(addHoldDown, time.Duration(k.TTL)*time.Second))
	case Revoked:
		return k.Since.Add(removeHoldDown)
	}
	return time.Time{}
}

// intervals computes the time to the next query after a success and after a
// failure (RFC 5011 §2.3).
func intervals(o *Observation) (interval, retry time.Duration) {
	ttl := time.Duration(o.TTL) * time.Second
	clamp := func(d, most time.Duration) time.Duration { return max(minInterval, min(most, d)) }
	half, tenth := ttl/2, ttl/10
	if o.Lifetime > 0 {
		half, tenth = min(half, o.Lifetime/2), min(tenth, o.Lifetime/10)
	}
	return clamp(half, maxInterval), clamp(tenth, maxRetry)
}

// Schedule sets the time of the next query. random in [0,1) takes up to a tenth off, so
// that hosts do not ask in step. A set whose keys are all revoked is not asked for
// any more: nothing could verify the answer.
func (s *Set) Schedule(now time.Time, random float64, success bool) {
	d := s.Interval
	if !success {
		d = s.Retry
	}
	if d == 0 {
		d = minInterval
	}
	s.Next = now.Add(d - time.Duration(random*float64(d/10)))
	if s.AllRevoked() {
		s.Next = time.Time{}
	}
}

// Due reports whether it is time to ask. A time far in the future was written
// by a clock that was wrong.
func (s *Set) Due(now time.Time) bool {
	return !s.AllRevoked() && (!now.Before(s.Next) || s.Next.Sub(now) > maxInterval)
}
