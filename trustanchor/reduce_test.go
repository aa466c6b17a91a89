package trustanchor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"danepost/resolver/dnssec"
)

// testKey makes the RDATA of a key that is told by one letter. No signature is checked
// in the tests of the reducer.
func testKey(letter byte, flags uint16) []byte {
	return append([]byte{byte(flags >> 8), byte(flags), 3, 15}, strings.Repeat(string(letter), 32)...)
}

// look makes an Observation from words: "A" a key in the set, "A*" one that
// signs it, "-A*" one that signs from outside, "rA*" a revoked one, "zA" a
// zone signing key.
func look(words string, ttl uint32, end time.Time) Observation {
	o := Observation{TTL: ttl, SignatureEnd: end, Lifetime: 20 * 24 * time.Hour}
	for _, w := range strings.Fields(words) {
		seen := SeenKey{InSet: true}
		flags := uint16(257)
		if rest, out := strings.CutPrefix(w, "-"); out {
			seen.InSet, w = false, rest
		}
		if rest, revoked := strings.CutPrefix(w, "r"); revoked {
			flags, w = 385, rest
		}
		if rest, zone := strings.CutPrefix(w, "z"); zone {
			flags, w = 256, rest
		}
		w, seen.Signs = strings.CutSuffix(w, "*")
		seen.RDATA = testKey(w[0], flags)
		o.Keys = append(o.Keys, seen)
	}
	return o
}

// states writes a set as "A:valid B:add-pending".
func states(s *Set) string {
	var out []string
	for i := range s.Keys {
		k := &s.Keys[i]
		name := "?"
		if k.RDATA != nil {
			name = string(k.RDATA[4])
		} else if k.DS != nil {
			name = fmt.Sprint("DS", k.DS.KeyTag)
		}
		out = append(out, name+":"+k.State.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func dsOf(letter byte) *dnssec.DS {
	rdata := testKey(letter, 257)
	return &dnssec.DS{KeyTag: dnssec.KeyTag(rdata), Algorithm: 15, DigestType: digestSHA256, Digest: digestOf(dnssec.Root, rdata, digestSHA256)}
}

func trust(letters string) Set {
	var anchors []dnssec.Anchor
	for _, l := range letters {
		anchors = append(anchors, dnssec.Anchor{Zone: dnssec.Root, Key: testKey(byte(l), 257)})
	}
	return NewSet(dnssec.Root, anchors)
}

// TestObserve plays scripts of "day: words -> states".
func TestObserve(t *testing.T) {
	withDS := func(letters string) Set {
		s := Set{Zone: dnssec.Root}
		for _, l := range letters {
			s.Keys = append(s.Keys, Key{DS: dsOf(byte(l)), State: Valid})
		}
		return s
	}
	for _, c := range []struct {
		name   string
		set    Set
		script string
	}{
		{"nothing changes", trust("A"), "0: A* -> A:valid; 1: A* zZ -> A:valid"},
		{"NewKey and AddTime", trust("A"), "0: A* -> A:valid; 1: A* B -> A:valid B:add-pending; 20: A* B -> A:valid B:add-pending; 30: A* B -> A:valid B:add-pending; 31: A* B -> A:valid B:valid"},
		{"hold-down without a second sighting until its end", trust("A"), "0: A* B -> A:valid B:add-pending; 40: A* B -> A:valid B:valid"},
		{"a longer TTL holds down longer", trust("A"), "0: A* B ttl=4000000 -> A:valid B:add-pending; 31: A* B -> A:valid B:add-pending; 47: A* B -> A:valid B:valid"},
		{"KeyRem while waiting starts anew", trust("A"), "0: A* B -> A:valid B:add-pending; 20: A* -> A:valid; 25: A* B -> A:valid B:add-pending; 40: A* B -> A:valid B:add-pending; 56: A* B -> A:valid B:valid"},
		{"KeyRem and KeyPres", trust("AB"), "0: A* B -> A:valid B:valid; 1: A* -> A:valid B:missing; 2: A B* -> A:valid B:valid"},
		{"a missing key still verifies", trust("AB"), "0: A* B -> A:valid B:valid; 1: A* -> A:valid B:missing; 2: B* -> A:missing B:valid"},
		{"signed from outside of the set", trust("AB"), "0: A* B -> A:valid B:valid; 1: zZ -A* -> A:missing B:missing"},
		{"missing for long, another valid", trust("AB"), "0: A* B* -> A:valid B:valid; 1: A* -> A:valid B:missing; 300: A* -> A:valid B:missing; 368: A* -> A:valid B:removed; 369: A* B* -> A:valid B:removed"},
		{"missing for long, none valid", trust("AB"), "0: A* B -> A:valid B:valid; 1: zZ -A* -> A:missing B:missing; 300: zZ -A* -> A:missing B:missing; 600: zZ -A* -> A:missing B:missing"},
		{"RevBit and RemTime", trust("AB"), "0: A* B -> A:valid B:valid; 1: A* rB* -> A:valid B:revoked; 20: A* rB* -> A:valid B:revoked; 40: A* -> A:valid B:revoked; 51: A* -> A:valid B:removed"},
		{"RevBit without its own signature", trust("AB"), "0: A* rB -> A:valid B:valid"},
		{"RevBit needs nobody else", trust("AB"), "0: A B -> A:valid B:valid; 1: A rB* -> A:valid B:revoked"},
		{"a revoked key never comes back", trust("AB"), "0: A* rB* -> A:valid B:revoked; 5: A* B* -> A:valid B:revoked; 6: A B* -> A:valid B:revoked; 40: A* -> A:valid B:removed; 50: A* B* -> A:valid B:removed; 90: A* B* -> A:valid B:removed"},
		{"a waiting key that is revoked is forgotten", trust("A"), "0: A* B -> A:valid B:add-pending; 1: A* rB* -> A:valid; 2: A* B -> A:valid B:add-pending"},
		{"all revoked", trust("A"), "0: rA* B -> A:revoked; 1: B* -> A:revoked"},
		{"all revoked at once", trust("AB"), "0: rA* rB* -> A:revoked B:revoked"},
		{"unsigned answers change nothing", trust("A"), "0: A* -> A:valid; 1: B -> A:valid; 2: B* -> A:valid; 3: A B* -> A:valid"},
		{"an unverified sighting does not count", trust("A"), "0: A* B -> A:valid B:add-pending; 31: A B* -> A:valid B:add-pending"},
		{"DS becomes a key", withDS("A"), "0: A* -> A:valid"},
		{"two DS, one key published", withDS("AB"), fmt.Sprintf("0: A* -> A:valid DS%d:missing; 1: A* B* -> A:valid B:valid", dsOf('B').KeyTag)},
		{"DS of a key that is revoked", withDS("AB"), "0: rA* B* -> A:revoked B:valid"},
		{"a zone signing key vouches for entry points", Set{Zone: dnssec.Root, Keys: []Key{{RDATA: testKey('Z', 256), State: Valid}}}, "0: zZ* B* -> B:valid; 1: zZ* B* -> B:valid"},
		{"years between two looks add and remove nothing", trust("AB"), "0: A* B C -> A:valid B:valid C:add-pending; 1: A* C -> A:valid B:missing C:add-pending; 2000: A* C -> A:valid B:missing C:add-pending; 2020: A* C -> A:valid B:missing C:add-pending; 2031: A* C -> A:valid B:missing C:valid"},
		{"a clock that went back", trust("A"), "1000: A* B -> A:valid B:add-pending; 10: A* B -> A:valid B:add-pending; 41: A* B -> A:valid B:valid"},
	} {
		t.Run(c.name, func(t *testing.T) { playScript(t, c.set, c.script) })
	}
}

func playScript(t *testing.T, s Set, script string) {
	t.Helper()
	for _, line := range strings.Split(script, ";") {
		var d int
		if _, err := fmt.Sscanf(line, "%d:", &d); err != nil {
			t.Fatal(line, err)
		}
		_, rest, _ := strings.Cut(line, ":")
		words, want, _ := strings.Cut(rest, "->")
		ttl := uint32(172800)
		if before, number, found := strings.Cut(words, "ttl="); found {
			fmt.Sscan(number, &ttl)
			words = before
		}
		now := released.AddDate(0, 0, d)
		before := fmt.Sprintf("%+v", s)
		next, _ := Observe(s, look(words, ttl, now.AddDate(0, 0, 20)), now)
		if fmt.Sprintf("%+v", s) != before {
			t.Fatal("Observe changed its argument")
		}
		s = next
		if got := states(&s); got != strings.TrimSpace(want) {
			t.Fatalf("day %d, %s: %s, want %s", d, words, got, want)
		}
		if len(s.Anchors()) == 0 {
			t.Fatalf("day %d: no anchors at all", d)
		}
	}
}

// TestTransitions compares the table with RFC 5011 §4.2 and pins what was
// added to it.
func TestTransitions(t *testing.T) {
	want := map[string]State{
		"start/new": AddPend, "add-pending/rem": Start, "add-pending/addtime": Valid, "valid/rem": Missing, "valid/rev": Revoked,
		"missing/pres": Valid, "missing/rev": Revoked, "revoked/remtime": Removed,
		"add-pending/rev": Start, "missing/expire": Removed, // ours
	}
	names := map[event]string{evNewKey: "new", evKeyPres: "pres", evKeyRem: "rem", evAddTime: "addtime", evRemTime: "remtime", evRevBit: "rev", evExpire: "expire"}
	got := 0
	for from, row := range transitions {
		for e, to := range row {
			got++
			if want[from.String()+"/"+names[e]] != to {
				t.Errorf("%s on %s goes to %s", from, names[e], to)
			}
		}
	}
	if got != len(want) {
		t.Errorf("%d transitions, want %d", got, len(want))
	}
}

func TestIntervals(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		ttl             uint32
		lifetime        time.Duration
		interval, retry time.Duration
	}{
		{172800, 21 * day, day, 4*time.Hour + 48*time.Minute},
		{60, 21 * day, time.Hour, time.Hour},
		{10800, 21 * day, 90 * time.Minute, time.Hour},
		{90 * 86400, 365 * day, 15 * day, day},
		{90 * 86400, 4 * day, 2 * day, 9*time.Hour + 36*time.Minute},
		{172800, 0, day, 4*time.Hour + 48*time.Minute},
	} {
		interval, retry := intervals(&Observation{TTL: c.ttl, Lifetime: c.lifetime})
		if interval != c.interval || retry != c.retry {
			t.Errorf("TTL %d, lifetime %v: %v and %v, want %v and %v", c.ttl, c.lifetime, interval, retry, c.interval, c.retry)
		}
	}
}

func TestSchedule(t *testing.T) {
	s := trust("A")
	now := released
	s, _ = Observe(s, look("A*", 172800, now.AddDate(0, 0, 20)), now)
	for random, want := range map[float64]time.Duration{0: 24 * time.Hour, 0.5: 24*time.Hour - 72*time.Minute} {
		s.Schedule(now, random, true)
		if got := s.Next.Sub(now); got != want || s.Due(now) || !s.Due(s.Next) {
			t.Errorf("next query after %v, want %v", got, want)
		}
	}
	s.Schedule(now, 0, false)
	if got := s.Next.Sub(now); got != 4*time.Hour+48*time.Minute {
		t.Errorf("retry after %v", got)
	}
	if s.Next = now.AddDate(3, 0, 0); !s.Due(now) {
		t.Error("a query that a wrong clock put off by years is not due")
	}
	s, _ = Observe(s, look("rA*", 172800, now), now)
	if s.Schedule(now, 0, true); !s.Next.IsZero() || s.Due(now) {
		t.Error("a set without trusted keys is still asked for")
	}
}

// TestAllRevoked: the anchors handed on are there, and validate nothing.
func TestAllRevoked(t *testing.T) {
	s, events := Observe(trust("A"), look("rA* B*", 172800, released), released)
	anchors := s.Anchors()
	if len(anchors) != 1 || flagsOf(anchors[0].Key)&flagRevoke == 0 || !s.AllRevoked() {
		t.Errorf("anchors %v", anchors)
	}
	if len(events) != 1 || !strings.Contains(events[0].String(), "no trusted key is left") {
		t.Errorf("events %v", events)
	}
}

func TestEventWords(t *testing.T) {
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	s, events := Observe(trust("A"), look("A* B", 172800, at), at)
	tag := dnssec.KeyTag(testKey('B', 257))
	if want := fmt.Sprintf("new root key %d seen, trusted from 2026-12-21 unless withdrawn", tag); len(events) != 1 || events[0].String() != want {
		t.Errorf("events %v, want %q", events, want)
	}
	s, events = Observe(s, look("A* B", 172800, at), at.AddDate(0, 0, 31))
	if want := fmt.Sprintf("root key %d is trusted now", tag); len(events) != 1 || events[0].String() != want {
		t.Errorf("events %v, want %q", events, want)
	}
	_, events = Observe(s, look("C*", 172800, at), at.AddDate(0, 0, 32))
	if len(events) != 1 || !strings.Contains(events[0].String(), "not signed by a trusted key") {
		t.Errorf("events %v", events)
	}
}
