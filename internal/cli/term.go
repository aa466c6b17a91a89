package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// tone is how a word on a terminal is meant.
type tone uint8

const (
	plain tone = iota
	good
	warn
	bad
	faint
	strong
)

// screen writes for people: aligned columns, and colour where a terminal
// shows it. Files and pipes get plain text.
type screen struct {
	io.Writer
	colour bool
}

// newScreen looks at what w is. NO_COLOR and TERM=dumb are respected.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: w}
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		s.colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// paint colours text that is printed as it is.
func (s *screen) paint(t tone, text string) string {
	codes := [...]string{good: "32", warn: "33", bad: "31", faint: "2", strong: "1"}
	if !s.colour || t == plain || text == "" {
		return text
	}
	return "\x1b[" + codes[t] + "m" + text + "\x1b[0m"
}

// line prints one line.
func (s *screen) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// cell is one field of a table.
type cell struct {
	text string
	tone tone
}

func text(s string) cell          { return cell{text: s} }
func toned(t tone, s string) cell { return cell{s, t} }

// lineWidth is where long texts are broken into lines, in characters.
const lineWidth = 100

// table prints rows with aligned columns, two spaces between them. Rows may
// differ in length; the last field of a row does not widen its column for
// others, and is broken into lines where it is long.
func (s *screen) table(indent string, rows [][]cell) {
	var width []int
	for _, row := range rows {
		for i, c := range row[:max(len(row)-1, 0)] {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		head, at := indent, utf8.RuneCountInString(indent)
		for i, c := range row[:max(len(row)-1, 0)] {
			head += s.paint(c.tone, c.text) + strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)+2)
			at += width[i] + 2
		}
		last := row[len(row)-1]
		for i, part := range wrap(last.text, max(lineWidth-at, 40)) {
			if i > 0 {
				head = indent + strings.Repeat(" ", at-utf8.RuneCountInString(indent))
			}
			s.line("%s", strings.TrimRight(head+s.paint(last.tone, part), " "))
		}
	}
}

// wrap breaks text at spaces into lines of at most width characters; a word
// that is longer stands alone.
func wrap(text string, width int) []string {
	var lines []string
	line, used := "", 0
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
			line, used = word, n
		case used+1+n > width:
			lines = append(lines, line)
			line, used = word, n
		default:
			line, used = line+" "+word, used+1+n
		}
	}
	return append(lines, line)
}

// clean makes text from the network safe to print: one line, no control bytes.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
