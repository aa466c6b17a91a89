package trustanchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"danepost/resolver/dnssec"
)

// TestEitherKeyAlone: a root that is signed by only one of two configured
// keys validates out of the box, whichever it is, with a state and without.
func TestEitherKeyAlone(t *testing.T) {
	for only := range 2 {
		r := newRoot(t, 2)
		r.keys[only].published, r.keys[only].signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
		now := released
		k := r.keeper(filepath.Join(t.TempDir(), "anchors"), func() time.Time { return now }, r.keys[0].anchor(t), r.keys[1].anchor(t))
		if err := r.validates(k, now); err != nil {
			t.Errorf("key %d alone, before the first query: %v", only, err)
		}
		if err := k.Refresh(t.Context()); err != nil {
			t.Errorf("key %d alone: %v", only, err)
		}
		if err := r.validates(k, now); err != nil {
			t.Errorf("key %d alone, after the first query: %v", only, err)
		}
	}
}

// TestBuiltInKeys: the built-in digests are those of the root's real keys.
func TestBuiltInKeys(t *testing.T) {
	xml := readFile(t, "testdata/iana/root-anchors.xml")
	for _, part := range strings.Split(string(xml), "<PublicKey>")[1:] {
		public, _, _ := strings.Cut(part, "<")
		rdata, err := dnskeyRDATA(257, 3, 8, public)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(BuiltIn(), func(a dnssec.Anchor) bool { return matchesDS(dnssec.Root, rdata, a.DS) }) {
			t.Errorf("no built-in digest for key %d", dnssec.KeyTag(rdata))
		}
	}
}

// memoryDir is a folder on a file system in memory where there is one: what is
// written ten thousand times need not reach a disk.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "anchors")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestDecade runs the keeper for ten years in fake time: a root that rolls
// its key every few years and revokes the old one, reboots, queries that get
// lost, forged answers, and a month offline just when a new key appears.
func TestDecade(t *testing.T) {
	path := filepath.Join(memoryDir(t), "anchors")
	r := newRoot(t, 4)
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of the bubble's clock
	year := func(y int, d int) time.Time { return start.AddDate(y, 0, d) }
	r.keys[0].published, r.keys[0].signing = year(-1, 0), year(-1, 0)
	for i, k := range r.keys[1:] {
		y := 1 + 3*i
		k.published, k.signing = year(y, 0), year(y, 120)
		r.keys[i].revoked, r.keys[i].gone = year(y, 200), year(y, 290)
	}
	stranger := newKey(t)
	stranger.published, stranger.signing = start, start
	synctest.Test(t, func(t *testing.T) {
		k := r.keeper(path, time.Now, r.keys[0].anchor(t))
		stop := run(k)
		for day := range 3650 {
			now := time.Now()
			offline := now.After(year(4, -5)) && now.Before(year(4, 25)) || day%50 == 7
			r.change(offline)
			if day%90 == 11 {
				r.change(offline, stranger)
			}
			if day%200 == 199 { // reboot
				stop()
				k = r.keeper(path, time.Now, r.keys[0].anchor(t))
				stop = run(k)
			}
			time.Sleep(24 * time.Hour)
			if day%5 == 0 {
				if err := r.validates(k, time.Now()); err != nil {
					t.Fatalf("day %d: %v; %+v", day, err, k.Status())
				}
			}
			for _, a := range k.Anchors() {
				if a.Key != nil && sameMaterial(a.Key, stranger.rdata(t, 257)) {
					t.Fatalf("day %d: a stranger is trusted", day)
				}
			}
		}
		stop()
		status := k.Status()
		t.Logf("%d queries in ten years; %d keys known at the end", r.queries(), len(status.TrustPoint[0].Keys))
		if r.queries() > 3650*2 {
			t.Errorf("%d queries in ten years are too many", r.queries())
		}
	})
}

// run starts the keeper's loop and returns what stops it and waits.
func run(k *Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

// plan is when a key is in the set, signs it, is revoked and gone, in days.
type plan struct{ published, signing, revoked, gone int }

const never = 1 << 30

// drawPlans makes ten years of roll-overs. Each key is in the set for 250
// days before it signs, and the old one stays for some time after that.
func drawPlans(t *rapid.T) []plan {
	plans := []plan{{-400, -400, never, never}}
	for day := rapid.IntRange(200, 1500).Draw(t, "first"); day < 3000; {
		p := plan{published: day, signing: day + 250 + rapid.IntRange(0, 300).Draw(t, "wait"), revoked: never, gone: never}
		old := &plans[len(plans)-1]
		old.gone = p.signing + 50 + rapid.IntRange(1, 60).Draw(t, "gone")
		if rapid.Bool().Draw(t, "revoke") {
			old.revoked = p.signing + rapid.IntRange(1, 50).Draw(t, "revoked")
		}
		plans = append(plans, p)
		day = p.signing + 120 + rapid.IntRange(200, 1500).Draw(t, "period")
	}
	return plans
}

// published is the root's answer on a day, in the words of look, with the
// letter of the key that signs.
func published(plans []plan, day int) (words []string, signing byte) {
	for i, p := range plans {
		letter := byte('A' + i)
		switch {
		case day < p.published || day >= p.gone:
		case day >= p.revoked:
			words = append(words, "r"+string(letter)+"*")
		case day >= p.signing:
			words = append(words, string(letter)+"*")
			signing = letter
		default:
			words = append(words, string(letter))
		}
	}
	return words, signing
}

// TestSchedules is TestDecade with random plans, on the reducer alone: as
// long as the root keeps its keys for some time and the host is not away for
// longer than that, it always knows a key that signs; never one that is not
// the root's, never one that it has seen revoked.
func TestSchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plans := drawPlans(t)
		set := trust("A")
		inARow := 0 // forged answers
		revoked := map[byte]bool{}
		for day := 0; day < 3600; day += rapid.SampledFrom([]int{1, 1, 1, 2, 15, 31}).Draw(t, "away") {
			now := released.AddDate(0, 0, day)
			words, signing := published(plans, day)
			answer := strings.Join(words, " ")
			if inARow < 2 && rapid.IntRange(0, 9).Draw(t, "forged") == 0 {
				answer = rapid.SampledFrom([]string{"X*", "X", "A X*", strings.ReplaceAll(answer, "*", "") + " X*"}).Draw(t, "forgery")
				inARow++
			} else {
				inARow = 0
				for _, w := range words {
					if letter, is := strings.CutPrefix(w, "r"); is {
						revoked[letter[0]] = true
					}
				}
			}
			set, _ = Observe(set, look(answer, 172800, now.AddDate(0, 0, 11)), now)
			knows := signing == 0
			for i := range set.Keys {
				k := &set.Keys[i]
				letter := k.RDATA[4]
				if k.State.trusted() && (letter == 'X' || revoked[letter]) {
					t.Fatalf("day %d: %c is trusted: %s", day, letter, states(&set))
				}
				knows = knows || k.State.trusted() && letter == signing
			}
			if !knows {
				t.Fatalf("day %d: no trusted key signs: %s, published %v", day, states(&set), words)
			}
			set = reboot(t, set)
		}
	})
}

// reboot writes a set down and reads it again.
func reboot(t *rapid.T, set Set) Set {
	frozen := freeze(&set)
	thawed, err := thaw(&frozen)
	if err != nil {
		t.Fatal(err)
	}
	return thawed
}

// logged collects what a keeper says.
func logged(c *Config) *bytes.Buffer {
	var b bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&b, nil))
	return &b
}

// TestTruncation cuts the state file at every octet: the keeper starts with
// the configured anchors and says so, and a crash in the middle of a write
// leaves the previous state.
func TestTruncation(t *testing.T) {
	path := filepath.Join(memoryDir(t), "anchors")
	r := newRoot(t, 2)
	for _, k := range r.keys {
		k.published, k.signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
	}
	now := released
	clock := func() time.Time { return now }
	k := r.keeper(path, clock, r.keys[0].anchor(t))
	fresh := describe(k.Anchors())
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := readFile(t, path)
	want := fmt.Sprint(k.Status().TrustPoint)
	for n := range len(whole) {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		c := Config{Path: path, Configured: []Configured{r.keys[0].anchor(t)}, Now: clock}
		says := logged(&c)
		k, err := Open(c)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if got := describe(k.Anchors()); got != fresh || !strings.Contains(says.String(), "damaged") {
			t.Fatalf("cut at %d: anchors %s; it says %q", n, got, says)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("cut at %d: not set aside: %v", n, err)
		}
		for _, aside := range glob(t, path+".damaged-*") {
			if err := os.Remove(aside); err != nil {
				t.Fatal(err)
			}
		}
		// The same while writing: the old file is still there.
		for name, data := range map[string][]byte{path: whole, path + ".new": whole[:n]} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprint(r.keeper(path, clock, r.keys[0].anchor(t)).Status().TrustPoint); got != want {
			t.Fatalf("cut at %d of a new file: %s, want %s", n, got, want)
		}
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if _, err := decodeState(changed); !errors.Is(err, errDamaged) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestConfigurationChanged: what was learned under other anchors is set aside.
func TestConfigurationChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchors")
	r := newRoot(t, 2)
	for _, k := range r.keys {
		k.published, k.signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
	}
	now := func() time.Time { return released }
	if err := r.keeper(path, now, r.keys[0].anchor(t)).Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := r.keeper(path, now, r.keys[1].anchor(t))
	keys := k.Status().TrustPoint[0].Keys
	if len(keys) != 1 || keys[0].Tag != r.keys[1].dnskey.KeyTag() || len(glob(t, path+".replaced")) != 0 {
		t.Errorf("keys %+v, files %v", keys, glob(t, path+"*"))
	}
	before := readFile(t, path)
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := readFile(t, path+".replaced"); !bytes.Equal(before, after) {
		t.Error("the state of the previous configuration is not kept")
	}
}

// TestRevokedBeatsBuiltIn: what the state says of a built-in key holds, and a
// built-in key that it does not know is trusted.
func TestRevokedBeatsBuiltIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchors")
	xml := string(readFile(t, "testdata/iana/root-anchors.xml"))
	_, public, _ := strings.Cut(xml, "<PublicKey>")
	public, _, _ = strings.Cut(public, "<")
	rdata, err := dnskeyRDATA(257, 3, 8, public)
	if err != nil {
		t.Fatal(err)
	}
	rdata[1] |= byte(flagRevoke)
	state := &saved{Source: "built-in", Zones: []savedZone{{Zone: ".", Keys: []savedKey{{State: Revoked, Since: released, DNSKEY: rdata}}}}}
	if err := (store{path}).save(state); err != nil {
		t.Fatal(err)
	}
	k, err := Open(Config{Path: path, Now: func() time.Time { return released }})
	if err != nil {
		t.Fatal(err)
	}
	anchors := k.Anchors()
	if len(anchors) != 1 || anchors[0].DS == nil || anchors[0].DS.KeyTag != 38696 {
		t.Errorf("anchors: %s", describe(anchors))
	}
}

// TestPeriods: an anchor of root-anchors.xml counts from validFrom to
// validUntil only.
func TestPeriods(t *testing.T) {
	r := newRoot(t, 2)
	a, b := r.keys[0].anchor(t), r.keys[1].anchor(t)
	a.Until = released.AddDate(1, 0, 0)
	b.From = released.AddDate(0, 6, 0)
	now := released
	k := r.keeper("", func() time.Time { return now }, a, b)
	for _, c := range []struct {
		at   time.Time
		want []*rootKey
	}{
		{released, r.keys[:1]}, {released.AddDate(0, 7, 0), r.keys}, {released.AddDate(1, 0, 0), r.keys[1:]},
	} {
		now = c.at
		var got, want []uint16
		for _, anchor := range k.Anchors() {
			got = append(got, anchor.DS.KeyTag)
		}
		for _, key := range c.want {
			want = append(want, key.dnskey.KeyTag())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: anchors %v, want %v", c.at, got, want)
		}
	}
	a.Until = released.AddDate(-1, 0, 0)
	if _, err := Open(Config{Configured: []Configured{a}}); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("all ended: %v", err)
	}
}

// TestTwoProcesses: what one keeper learns the other one has before it writes.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchors")
	r := newRoot(t, 2)
	r.keys[0].published, r.keys[0].signing = released.AddDate(-1, 0, 0), released.AddDate(-1, 0, 0)
	now := released
	clock := func() time.Time { return now }
	a := r.keeper(path, clock, r.keys[0].anchor(t))
	b := r.keeper(path, clock, r.keys[0].anchor(t))
	r.keys[1].published = released
	for day, k := range []*Keeper{a, b, a, b} {
		now = released.AddDate(0, 0, 11*day)
		if err := k.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// B saw the key first on day 11, A on day 0: the state has A's sighting.
	for _, key := range b.Status().TrustPoint[0].Keys {
		if key.State != Valid {
			t.Errorf("key %d is %s since %s", key.Tag, key.State, key.Since)
		}
	}
}

func FuzzState(f *testing.F) {
	state := &saved{Source: "built-in", Clock: released, Zones: []savedZone{{Zone: ".", Keys: []savedKey{{State: Valid, DNSKEY: testKey('A', 257)}}}}}
	good, err := state.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("danepost trust anchors 1 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := decodeState(data)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("unexpected error %v", err)
			}
			return
		}
		for i := range state.Zones {
			if s, err := thaw(&state.Zones[i]); err == nil {
				s.Anchors()
				s.Schedule(released, 0, true)
			}
		}
	})
}
