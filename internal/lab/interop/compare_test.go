//go:build interop

package interop

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asked is one question and what everyone said to it.
type asked struct {
	question
	tags      []string // what is special about the zones in play, for the table of disagreements
	about     string   // more of that, for people
	withDelv  bool
	expecting bool   // want says what must come of it
	truth     *truth // in a broken zone: what it holds; else nil

	mine     result
	afresh   *result // from an empty cache, where that was tried as well
	opinions []opinion

	explained int // disagreements that are listed
}

// opinion is what one oracle said.
type opinion struct {
	who string
	result
}

func (o opinion) String() string { return o.who + ": " + o.result.String() }

// interrogate has danepost and the oracles answer all questions, each of them
// at its own pace, and fills the answers in.
func (o *oracles) interrogate(t *testing.T, all []*asked, danepost func(int, question) result) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	pool := func(name string, atOnce int, ask func(i int, a *asked) error) {
		wg.Go(func() {
			start := time.Now()
			jobs := make([]func() error, len(all))
			for i, a := range all {
				jobs[i] = func() error { return ask(i, a) }
			}
			errs := runAll(jobs, atOnce)
			mu.Lock()
			defer mu.Unlock()
			for _, err := range errs {
				t.Error(err)
			}
			t.Logf("%s: done after %v", name, time.Since(start).Round(time.Second))
		})
	}
	oracle := func(name string, ask func(question) (result, error), want func(*asked) bool) func(int, *asked) error {
		return func(_ int, a *asked) error {
			if !want(a) {
				return nil
			}
			r, err := ask(a.question)
			if err != nil && a.expecting { // who knows better will ask again
				r, err = result{rcode: dns.RcodeServerFailure, status: refused, note: err.Error()}, nil
			}
			if err == nil {
				mu.Lock()
				a.opinions = append(a.opinions, opinion{name, r})
				mu.Unlock()
			}
			return err
		}
	}
	pool("danepost", 8, func(i int, a *asked) error {
		a.mine = danepost(i, a.question)
		return nil
	})
	pool("unbound", 24, oracle("unbound", o.unbound, func(*asked) bool { return true }))
	pool("delv", 8, oracle("delv", o.delv, func(a *asked) bool { return a.withDelv }))
	wg.Wait()
}

// exception is a row of testdata/disagreements.tsv: an oracle that may say
// something else than danepost where all tags (joined by +) are present, and
// the rule that danepost holds to.
type exception struct {
	oracle, tag, mine, theirs string
	section, reason           string
}

func readExceptions(file string) ([]*exception, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []*exception
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("%s:%d: %d columns instead of 6", file, n+1, len(f))
		}
		out = append(out, &exception{oracle: f[0], tag: f[1], mine: f[2], theirs: f[3], section: f[4], reason: f[5]})
	}
	return out, nil
}

// fits reports whether a pattern of the table stands for a result: a status, an
// RCODE and a status, "answered" for all that is not refused, or "*".
func (r result) fits(pattern string) bool {
	return pattern == "*" || pattern == r.status || pattern == "answered" && r.status != refused || r.status != refused && pattern == dns.RcodeToString[r.rcode]+" "+r.status
}

// covers reports whether the exception allows what an oracle said. Where both
// give an answer it must be the same one, whatever they think of it, unless the
// patterns name RCODEs.
func (e *exception) covers(a *asked, o opinion) bool {
	if e.oracle != o.who || !a.mine.fits(e.mine) || !o.fits(e.theirs) {
		return false
	}
	for tag := range strings.SplitSeq(e.tag, "+") {
		if !slices.Contains(a.tags, tag) {
			return false
		}
	}
	named := strings.Contains(e.mine, " ") && strings.Contains(e.theirs, " ")
	return named || a.mine.status == refused || o.status == refused ||
		a.mine.rcode == o.rcode && slices.Equal(a.mine.records, o.records)
}

// insist asks again where a disagreement may come from how the question was
// asked: delv, with patience, where only its verdict lacks, for the machine may
// have been busy; danepost, from an empty cache, where it was right by what it
// had proved before (RFC 8198), which the oracles asked for anew.
func (o *oracles) insist(all []*asked, exceptions []*exception, danepost func(question) result) error {
	var jobs []func() error
	for _, a := range all {
		queued := false
		for i, said := range a.opinions {
			if a.agrees(said, exceptions) {
				continue
			}
			if said.note == noVerdict {
				jobs = append(jobs, func() (err error) {
					a.opinions[i].result, err = o.delvWithin(a.question, 25*time.Second)
					return err
				})
			}
			if a.mine.status == "secure" && !queued {
				queued = true
				jobs = append(jobs, func() error {
					r := danepost(a.question)
					a.afresh = &r
					return nil
				})
			}
		}
	}
	return errors.Join(runAll(jobs, 4)...)
}

// agrees reports whether danepost and an oracle say the same, or an exception
// covers what they say.
func (a *asked) agrees(o opinion, exceptions []*exception) bool {
	answers := []*asked{a}
	if a.afresh != nil {
		again := *a
		again.mine = *a.afresh
		answers = append(answers, &again)
	}
	for _, said := range answers {
		if said.mine.equal(o.result) || slices.ContainsFunc(exceptions, func(e *exception) bool { return e.covers(said, o) }) {
			return true
		}
	}
	return false
}

// compare fails the test for every disagreement that no exception covers, and
// returns how many there were and how many were covered.
func compare(t *testing.T, all []*asked, exceptions []*exception) (wrong, excepted int) {
	t.Helper()
	for _, a := range all {
		bad := a.expecting && !a.want.meets(a.mine) || a.truth != nil && a.truth.violated(a.mine) != "" ||
			a.afresh != nil && a.truth.violated(*a.afresh) != ""
		for _, o := range a.opinions {
			switch {
			case !a.agrees(o, exceptions):
				bad = true
			case !a.mine.equal(o.result):
				excepted++
				a.explained++
			}
		}
		if bad {
			wrong++
			t.Errorf("%s\n    %s", a.question, strings.Join(a.lines(), "\n    "))
		}
	}
	return wrong, excepted
}

// lines shows all that was said.
func (a *asked) lines() []string {
	out := []string{"danepost: " + a.mine.String()}
	if a.afresh != nil {
		out = append(out, "from an empty cache: "+a.afresh.String())
	}
	for _, o := range a.opinions {
		out = append(out, o.String())
		if o.rcode == a.mine.rcode && o.status == a.mine.status {
			out = append(out, fmt.Sprintf("records: danepost %q, %s %q", a.mine.records, o.who, o.records))
		}
	}
	if a.expecting {
		out = append(out, "built as "+a.want.String())
	}
	if a.truth != nil {
		out = append(out, "holds "+a.truth.String())
		if why := a.truth.violated(a.mine); why != "" {
			out = append(out, "MUST NOT BE: "+why)
		}
	}
	if len(a.tags) > 0 {
		out = append(out, "zones: "+strings.Join(a.tags, ", "))
	}
	if a.about != "" {
		out = append(out, a.about)
	}
	return out
}
