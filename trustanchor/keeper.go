package trustanchor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"danepost/resolver/dnssec"
)

// Config says what a Keeper works with.
type Config struct {
	// Path of the state file; "" keeps nothing.
	Path string
	// Configured replaces the built-in anchors where it is not empty.
	Configured []Configured
	Rules      *dnssec.Rules // default: dnssec.DefaultRules(false)
	// Fetch returns a zone's DNSKEY set with its signatures as a server of the
	// zone sends it now, neither cached nor validated.
	Fetch  func(ctx context.Context, zone dnssec.Name) (*dnssec.RRset, error)
	Now    func() time.Time // default: time.Now
	Built  time.Time        // when the program was built; default: a time shortly before its release
	Random func() float64   // in [0,1), for jitter; default: math/rand
	Log    *slog.Logger     // default: none
}

// Keeper holds the trust anchors of a process: it starts from the configured
// or built-in ones and what the state file knows, and follows RFC 5011 from
// there. It is safe for concurrent use.
type Keeper struct {
	c      Config
	store  store
	source string

	mu      sync.Mutex
	sets    []Set
	foreign bool      // the file holds the state of another configuration; it is kept at the first write
	clock   time.Time // certainly past
	written time.Time // when the state was last written, by our clock
}

const (
	attempts      = 6               // fetches in one query while answers do not verify: another server may be sound
	clockInterval = 24 * time.Hour  // between writes that only note the time: flash wears out
	clockPoll     = 5 * time.Second // while the clock is not set
	maxSleep      = time.Hour       // so that a clock that was set is noticed
)

// Open reads the state file and merges it with the anchors. A file that
// cannot be used is set aside and said so in the log, never in the way. Nothing is
// fetched or written until Run or Refresh.
func Open(c Config) (*Keeper, error) {
	c = c.withDefaults()
	k := &Keeper{c: c, store: store{c.Path}, source: sourceOf(c.Configured)}
	if err := k.c.anyUsable(); err != nil {
		return nil, err
	}
	k.sets = k.fresh()
	if c.Path == "" {
		return k, nil
	}
	state, err := k.store.load()
	switch {
	case errors.Is(err, errDamaged):
		k.setAside(fmt.Sprintf("the trust anchor state is %v", err))
	case err != nil:
		c.Log.Error("the trust anchor state cannot be read; going on with the configured trust anchors", "file", c.Path, "error", err)
	case state != nil && state.Source != k.source:
		c.Log.Warn("the trust anchor state belongs to other configured trust anchors; going on with these alone", "file", c.Path)
		k.clock, k.foreign = state.Clock, true
	case state != nil:
		k.adoptState(state)
	}
	return k, nil
}

func (c Config) withDefaults() Config {
	if len(c.Configured) == 0 {
		c.Configured = nil
	}
	if c.Rules == nil {
		c.Rules = dnssec.DefaultRules(false)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Built.IsZero() {
		c.Built = released
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Fetch == nil {
		c.Fetch = func(context.Context, dnssec.Name) (*dnssec.RRset, error) {
			return nil, errors.New("this process does not ask for keys")
		}
	}
	return c
}

// anyUsable refuses a configuration whose anchors have all ended.
func (c *Config) anyUsable() error {
	if len(c.Configured) == 0 {
		return nil
	}
	for _, a := range c.Configured {
		if a.Until.IsZero() || a.Until.After(c.Built) {
			return nil
		}
	}
	return errors.New("every configured trust anchor has ended; get a current root-anchors.xml, or leave trust_anchor out to use the built-in ones")
}

// anchors are those that the process starts from.
func (c *Config) anchors() []dnssec.Anchor {
	if c.Configured == nil {
		return BuiltIn()
	}
	var out []dnssec.Anchor
	for _, a := range c.Configured {
		out = append(out, a.Anchor)
	}
	return out
}

// sourceOf identifies the configuration that a state belongs to. The built-in
// set has one identity through all versions of the program: what was
// revoked stays so after an upgrade.
func sourceOf(configured []Configured) string {
	if len(configured) == 0 {
		return "built-in"
	}
	var lines []string
	for _, a := range configured {
		line := fmt.Sprintf("%x %x %d %d", string(a.Zone), a.Key, a.From.Unix(), a.Until.Unix())
		if a.DS != nil {
			line += fmt.Sprintf(" %+v", *a.DS)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintln(h, l)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// fresh returns the sets that the configuration alone makes.
func (k *Keeper) fresh() []Set {
	var out []Set
	anchors := k.c.anchors()
	for _, a := range anchors {
		if !slices.ContainsFunc(out, func(s Set) bool { return s.Zone == a.Zone }) {
			out = append(out, NewSet(a.Zone, anchors))
		}
	}
	return out
}

// setAside gets a damaged state file out of the way, loudly.
func (k *Keeper) setAside(what string) {
	name, err := k.store.setAside(".damaged-" + k.c.Now().UTC().Format("20060102T150405"))
	if err != nil {
		k.c.Log.Error(what+"; going on with the configured trust anchors", "file", k.c.Path, "error", err)
		return
	}
	k.c.Log.Error(what+"; going on with the configured trust anchors", "file", k.c.Path, "kept_as", name)
}

// adoptState takes over what the file knows. What it says of a key beats
// the built-in set; a built-in key that it does not know came with a newer
// version of the program and is trusted. Of a configured set it knows every
// key, being bound to the set. The caller holds k.mu or is alone.
func (k *Keeper) adoptState(state *saved) {
	k.clock = state.Clock
	sets := k.fresh()
	for i := range sets {
		for j := range state.Zones {
			old, err := thaw(&state.Zones[j])
			if err != nil || old.Zone != sets[i].Zone {
				continue
			}
			for _, key := range sets[i].Keys {
				if k.c.Configured == nil && !old.knows(&key) {
					old.Keys = append(old.Keys, key)
				}
			}
			if len(old.Anchors()) == 0 {
				k.c.Log.Error("the trust anchor state holds no anchor; going on with the configured ones", "zone", old.Zone.String(), "file", k.c.Path)
				continue
			}
			sets[i] = old
		}
	}
	k.sets = sets
}

// knows reports whether the set has the key, in whatever state.
func (s *Set) knows(key *Key) bool {
	for i := range s.Keys {
		k := &s.Keys[i]
		switch {
		case key.RDATA != nil && sameMaterial(k.RDATA, key.RDATA),
			key.DS != nil && k.DS != nil && sameDS(k.DS, key.DS),
			key.DS != nil && k.RDATA != nil && matchesDS(s.Zone, unrevoked(k.RDATA), key.DS):
			return true
		}
	}
	return false
}

func sameDS(a, b *dnssec.DS) bool {
	return a.KeyTag == b.KeyTag && a.Algorithm == b.Algorithm && a.DigestType == b.DigestType && bytes.Equal(a.Digest, b.Digest)
}

// Anchors returns what validation may start from now.
func (k *Keeper) Anchors() []dnssec.Anchor {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.c.Now()
	var out []dnssec.Anchor
	for i := range k.sets {
		for _, a := range k.sets[i].Anchors() {
			if k.inPeriod(a, now) {
				out = append(out, a)
			}
		}
	}
	return out
}

// inPeriod applies validFrom and validUntil of root-anchors.xml.
func (k *Keeper) inPeriod(a dnssec.Anchor, now time.Time) bool {
	for _, c := range k.c.Configured {
		same := a.DS != nil && c.DS != nil && sameDS(a.DS, c.DS) ||
			a.Key != nil && (sameMaterial(a.Key, c.Key) || c.DS != nil && matchesDS(a.Zone, unrevoked(a.Key), c.DS))
		if c.Zone == a.Zone && same && !c.usable(now) {
			return false
		}
	}
	return true
}

// Ready returns a *ClockError while the clock is not set, else nil.
func (k *Keeper) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return checkClock(k.c.Now(), k.c.Built, k.clock)
}
