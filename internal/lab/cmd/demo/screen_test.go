package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"danepost/internal/lab/tour"
)

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"abcdefghij k", 4, []string{"abcd", "efgh", "ij k"}},
		{"häuser bauen", 6, []string{"häuser", "bauen"}},
	} {
		if got := wrap(tt.text, tt.width); !slices.Equal(got, tt.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

// TestScreen shows that a wrong outcome is named, that a file gets no colour,
// and that every line of the table keeps its width.
func TestScreen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newScreen(f)
	visits := []*tour.Visit{
		{Stop: &tour.Stop{Domain: "good.demo", Shows: "TLSA 3 1 1", Want: tour.Want{Did: "delivered"}},
			Line: tour.Line{Msg: "delivered", Security: "dane-verified", MXStatus: "secure", Match: "3 1 1 " + strings.Repeat("0123abcd", 8), Host: "mx.good.demo"}},
		{Stop: &tour.Stop{Domain: "bad.demo", Attack: strings.Repeat("everything ", 20), Want: tour.Want{Did: "deferred"}},
			Line: tour.Line{Msg: "delivered", Security: "plaintext"}, Wrong: []string{"the attacker read the message: true"}},
	}
	s.table(visits)
	wrong := s.failures(visits, "a line about bad.demo\nanother about good.demo\n")
	s.summary(visits, wrong, 7, 0)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	if wrong != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("%d wrong\n%s", wrong, out)
	}
	for _, want := range []string{"delivered, dane-verified", "key 3 1 1 0123abcd… at mx.good.demo", "WRONG bad.demo", "the attacker read the message",
		"log: a line about bad.demo", "1 of 2 outcomes are wrong"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "log: another") {
		t.Error("a log line of another domain is shown")
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > s.width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
