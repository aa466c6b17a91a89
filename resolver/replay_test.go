//go:debug rsa1024min=0

package resolver_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"danepost/internal/lab/replay"
)

// replayLine is the count of TestReplay, for the end of the output.
var replayLine atomic.Value

// TestMain looks for goroutines left behind, and has the count of the
// recorded scenarios as the last line.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if line, ok := replayLine.Load().(string); ok {
			fmt.Println(line)
		}
		os.Exit(code)
	}))
}

// recordedFolder is where recorded scenarios are, if there are any.
func recordedFolder() string {
	if dir := os.Getenv("DANEPOST_REPLAY"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared", "replay") // beside the repository
}

func replayFolder(t *testing.T) string {
	dir := recordedFolder()
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no recorded scenarios in %s; set DANEPOST_REPLAY to the folder that holds unbound/ and deckard/", dir)
	}
	return dir
}

// TestReplay plays every recorded scenario against the resolver and ends with
// a line that counts them.
func TestReplay(t *testing.T) {
	dir := replayFolder(t)
	skips := readSkips(t)
	var passed, failed, skipped atomic.Int32
	total := 0
	for _, suite := range []string{"unbound", "deckard"} {
		files, err := filepath.Glob(filepath.Join(dir, suite, "*.rpl"))
		if err != nil {
			t.Fatal(err)
		}
		total += len(files)
		t.Run(suite, func(t *testing.T) {
			for _, file := range files {
				t.Run(filepath.Base(file), func(t *testing.T) {
					t.Cleanup(func() {
						switch {
						case t.Failed():
							failed.Add(1)
						case t.Skipped():
							skipped.Add(1)
						default:
							passed.Add(1)
						}
					})
					t.Parallel()
					scenario := readScenario(t, file)
					if err := playScenario(t, scenario); err != nil {
						skips.apply(t, suite+"/"+filepath.Base(file), scenario)
						t.Error(err)
					}
				})
			}
		})
	}
	if total == 0 {
		t.Skipf("no recorded scenarios in %s", dir)
	}
	replayLine.Store(fmt.Sprintf("replay: %d passed, %d failed, %d skipped of %d", passed.Load(), failed.Load(), skipped.Load(), total))
}

func readScenario(t *testing.T, file string) *replay.Scenario {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	scenario, err := replay.Parse(filepath.Base(file), text)
	if err != nil {
		t.Fatal(err)
	}
	return scenario
}

// playScenario plays a scenario in a bubble of its own. What was exchanged is
// logged when it fails.
func playScenario(t *testing.T, scenario *replay.Scenario) (err error) {
	t.Helper()
	settings, err := scenario.Settings()
	if err != nil {
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		network := &replay.Network{}
		player := &replay.Player{Scenario: scenario, Network: network, Settle: synctest.Wait, Pause: time.Sleep}
		s, setupErr := newSubject(scenario, settings, player)
		if setupErr != nil {
			err = setupErr
			return
		}
		player.Subject = s
		ctx, cancel := context.WithCancel(context.Background())
		err = player.Run(ctx)
		cancel()
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, strings.Join(network.Log(), "\n"))
		}
	})
	return err
}

// skipList says which files are left out and why.
type skipList []struct{ pattern, reason string }

// unproved is the reason that no option tells.
const unproved = "unproved-data"

const skipFile = "testdata/replay-skip.tsv"

func readSkips(t *testing.T) skipList {
	t.Helper()
	f, err := os.Open(skipFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out skipList
	reasons := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if reason, found := strings.CutPrefix(line, "# reason "); found {
			word, _, _ := strings.Cut(reason, ":")
			reasons[word] = true
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, reason, found := strings.Cut(line, "\t")
		if !found || !reasons[reason] {
			t.Fatalf("%s: %q: a file, a tab and one of the reasons listed above were expected", skipFile, line)
		}
		out = append(out, struct{ pattern, reason string }{pattern, reason})
	}
	return out
}

// apply skips a scenario that failed, if it is listed and really is about the
// feature that is given as the reason. For what no option of a scenario tells,
// a line must name one file.
func (l skipList) apply(t *testing.T, name string, scenario *replay.Scenario) {
	t.Helper()
	for _, skip := range l {
		matched, err := path.Match(skip.pattern, name)
		if err != nil {
			t.Fatalf("%s: %q: %v", skipFile, skip.pattern, err)
		}
		if !matched {
			continue
		}
		settings, err := scenario.Settings()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(settings.Wants, replay.Feature(skip.reason)) || skip.reason == unproved && skip.pattern == name {
			t.Skipf("%s: %s", skip.pattern, skip.reason)
		}
	}
}
