package resolver_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"danepost/internal/lab/replay"
)

// spoilers change one thing that a scenario expects. They return false where
// it expects no such thing.
var spoilers = map[string]func(*replay.Scenario) bool{
	"rcode": func(s *replay.Scenario) bool {
		return spoil(s, replay.MatchRcode, func(e *replay.Entry) bool {
			e.Rcode = map[bool]int{true: dns.RcodeNotImplemented, false: dns.RcodeRefused}[e.Rcode == dns.RcodeRefused]
			return true
		})
	},
	"AD": func(s *replay.Scenario) bool {
		return spoil(s, replay.MatchFlags, func(e *replay.Entry) bool {
			e.AD = !e.AD
			return true
		})
	},
	"record": func(s *replay.Scenario) bool {
		return spoil(s, replay.MatchAnswer, func(e *replay.Entry) bool {
			if e.TC || len(e.Answer) == 0 {
				return false
			}
			rr := &e.Answer[0]
			rr.Data = slices.Clone(rr.Data)
			rr.Data[len(rr.Data)-1] ^= 1
			return true
		})
	},
	"record missing": func(s *replay.Scenario) bool {
		return spoil(s, replay.MatchAnswer, func(e *replay.Entry) bool {
			if e.TC || len(e.Answer) == 0 {
				return false
			}
			e.Answer = e.Answer[1:]
			return true
		})
	},
}

// spoil applies change to the last checked answer that MATCH compares by what.
func spoil(s *replay.Scenario, what replay.Match, change func(*replay.Entry) bool) bool {
	for i := len(s.Steps) - 1; i >= 0; i-- {
		step := &s.Steps[i]
		if step.Kind == replay.CheckAnswer && step.Entry.Match&what != 0 {
			e := *step.Entry
			if change(&e) {
				step.Entry = &e
				return true
			}
		}
	}
	return false
}

// TestReplayBites shows that the runner can fail: in scenarios that pass,
// whatever is expected wrongly makes them fail.
func TestReplayBites(t *testing.T) {
	own, err := filepath.Glob("testdata/replay/*.rpl")
	if err != nil || len(own) == 0 {
		t.Fatal("no scenarios in testdata/replay", err)
	}
	recorded, err := filepath.Glob(filepath.Join(recordedFolder(), "*", "*.rpl"))
	if err != nil {
		t.Fatal(err)
	}
	sample := own
	for i := 0; i < len(recorded); i += 4 { // each is played five times
		sample = append(sample, recorded[i])
	}
	for _, file := range sample {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parse := func() *replay.Scenario {
				s, err := replay.Parse(filepath.Base(file), text)
				if err != nil {
					t.Skip("does not parse; TestReplay says so")
				}
				return s
			}
			if err := playScenario(t, parse()); err != nil {
				t.Skip("does not pass; TestReplay says why")
			}
			for name, change := range spoilers {
				s := parse()
				if !change(s) {
					if slices.Contains(own, file) {
						t.Errorf("nothing in it can be spoiled by %s", name)
					}
					continue
				}
				if err := playScenario(t, s); err == nil {
					t.Errorf("passes although the expected %s is wrong", name)
				} else if !strings.Contains(err.Error(), "CHECK_ANSWER") {
					t.Errorf("%s: fails for another reason: %v", name, err)
				}
			}
		})
	}
}

// TestReplayOwn plays the project's own scenarios.
func TestReplayOwn(t *testing.T) {
	files, err := filepath.Glob("testdata/replay/*.rpl")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios in testdata/replay", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if err := playScenario(t, readScenario(t, file)); err != nil {
				t.Error(err)
			}
		})
	}
}
