package trustanchor

import (
	"context"
	"fmt"
	"time"

	"danepost/resolver/dnssec"
)

// Run follows the zones' keys until ctx ends: it asks when a query is due,
// waits while the clock is not set, and notes the time. It always returns
// nil after the last write; whatever goes wrong is logged and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	waiting := false
	for ctx.Err() == nil {
		if err := k.Ready(); err != nil {
			if !waiting {
				k.c.Log.Error("look-ups wait for the clock", "error", err)
			}
			waiting = true
			sleep(ctx, clockPoll)
			continue
		}
		if waiting {
			k.c.Log.Info("the clock is set; look-ups go on")
			waiting = false
		}
		for _, zone := range k.due() {
			if err := k.query(ctx, zone); err != nil && ctx.Err() == nil {
				k.c.Log.Warn("the zone's keys could not be fetched", "zone", zone.String(), "error", err, "next", k.next(zone))
			}
		}
		k.noteTime(clockInterval)
		sleep(ctx, min(maxSleep, k.untilDue()))
	}
	k.noteTime(0)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Refresh asks for the keys of every zone now, due or not.
func (k *Keeper) Refresh(ctx context.Context) error {
	if err := k.Ready(); err != nil {
		return err
	}
	for _, zone := range k.zones() {
		if err := k.query(ctx, zone); err != nil {
			return fmt.Errorf("keys of %s: %w", zone, err)
		}
	}
	return nil
}

// RefreshDue is Refresh for the zones whose next query is due, for processes
// that live shortly.
func (k *Keeper) RefreshDue(ctx context.Context) error {
	if err := k.Ready(); err != nil {
		return err
	}
	for _, zone := range k.due() {
		if err := k.query(ctx, zone); err != nil {
			return fmt.Errorf("keys of %s: %w", zone, err)
		}
	}
	return nil
}

// query asks for a zone's keys, again if what comes does not verify.
func (k *Keeper) query(ctx context.Context, zone dnssec.Name) error {
	for range attempts {
		rrset, err := k.c.Fetch(ctx, zone)
		if err != nil {
			// Nothing was learned, so nothing is written: a host that is
			// offline for weeks must not wear out its flash.
			k.retryLater(zone)
			return err
		}
		verified, err := k.observe(zone, rrset)
		if verified || err != nil {
			return err
		}
	}
	return errUnverified
}

// retryLater puts the next query off after a fetch that brought no answer.
func (k *Keeper) retryLater(zone dnssec.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.set(zone); s != nil {
		s.Schedule(k.c.Now(), k.c.Random(), false)
	}
}

// observe applies an answer and writes the state. The file is read again
// first: another process may have learned something.
func (k *Keeper) observe(zone dnssec.Name, rrset *dnssec.RRset) (verified bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c.Path != "" {
		unlock, err := k.store.lock()
		if err != nil {
			k.c.Log.Error("the trust anchor state cannot be locked", "file", k.c.Path, "error", err)
		} else {
			defer unlock() //nolint:errcheck // closing the lock file loses nothing
			k.reload()
		}
	}
	s := k.set(zone)
	if s == nil {
		return false, fmt.Errorf("%s is no trust point", zone)
	}
	now := k.c.Now()
	observation := Examine(k.c.Rules, s, rrset, now)
	changed, events := Observe(*s, observation, now)
	verified = changed.Failures == 0
	changed.Schedule(now, k.c.Random(), verified)
	*s = changed
	for _, e := range events {
		k.c.Log.Log(context.Background(), e.Level(), e.String())
	}
	k.save(now)
	return verified, nil
}

// reload takes over what another process has written meanwhile; the caller
// holds k.mu and the lock of the file.
func (k *Keeper) reload() {
	state, err := k.store.load()
	if err != nil || state == nil {
		return // what this process knows is as good
	}
	if k.foreign = state.Source != k.source; !k.foreign {
		k.adoptState(state)
	}
}

// set returns the set of a zone; the caller holds k.mu.
func (k *Keeper) set(zone dnssec.Name) *Set {
	for i := range k.sets {
		if k.sets[i].Zone == zone {
			return &k.sets[i]
		}
	}
	return nil
}

// save writes the state with the time; the caller holds k.mu.
func (k *Keeper) save(now time.Time) {
	for i := range k.sets {
		if t := witnessed(now, k.sets[i].SignatureEnd); t.After(k.clock) {
			k.clock = t
		}
	}
	k.written = now
	if k.c.Path == "" {
		return
	}
	if k.foreign {
		if _, err := k.store.setAside(".replaced"); err != nil {
			k.c.Log.Error("the trust anchor state of the previous configuration cannot be kept", "file", k.c.Path, "error", err)
		}
		k.foreign = false
	}
	state := &saved{Source: k.source, Clock: k.clock}
	for i := range k.sets {
		state.Zones = append(state.Zones, freeze(&k.sets[i]))
	}
	if err := k.store.save(state); err != nil {
		k.c.Log.Error("the trust anchor state cannot be written; it will be lost at the next start", "file", k.c.Path, "error", err)
	}
}

// noteTime writes the state if only for the time in it, at most every d. A
// host that never saw a valid signature has no time worth noting.
func (k *Keeper) noteTime(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Now()
	if k.written.IsZero() {
		k.written = now // count from the start of the process
	}
	if now.Sub(k.written) < d || checkClock(now, k.c.Built, k.clock) != nil {
		return
	}
	for i := range k.sets {
		if witnessed(now, k.sets[i].SignatureEnd).After(k.clock) {
			k.saveTime(now)
			return
		}
	}
}

// saveTime writes the time with whatever another process has written.
func (k *Keeper) saveTime(now time.Time) {
	if k.c.Path != "" {
		unlock, err := k.store.lock()
		if err != nil {
			k.c.Log.Error("the trust anchor state cannot be locked", "file", k.c.Path, "error", err)
			return
		}
		defer unlock() //nolint:errcheck // closing the lock file loses nothing
		k.reload()
	}
	k.save(now)
}

func (k *Keeper) zones() []dnssec.Name {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []dnssec.Name
	for i := range k.sets {
		out = append(out, k.sets[i].Zone)
	}
	return out
}

func (k *Keeper) due() []dnssec.Name {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Now()
	var out []dnssec.Name
	for i := range k.sets {
		if k.sets[i].Due(now) {
			out = append(out, k.sets[i].Zone)
		}
	}
	return out
}

// untilDue is the time until the next query of any zone.
func (k *Keeper) untilDue() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Now()
	left := maxSleep
	for i := range k.sets {
		if !k.sets[i].AllRevoked() {
			left = min(left, k.sets[i].Next.Sub(now))
		}
	}
	return max(left, time.Second)
}

func (k *Keeper) next(zone dnssec.Name) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.set(zone); s != nil {
		return s.Next
	}
	return time.Time{}
}
