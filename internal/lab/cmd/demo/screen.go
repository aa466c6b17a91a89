package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"danepost/internal/lab/tour"
)

// screen writes for people: colour and a moving progress line only where
// standard output is a terminal.
type screen struct {
	out      *os.File
	terminal bool
	width    int
}

const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	green  = "32"
	yellow = "33"
)

func newScreen(out *os.File) *screen {
	s := &screen{out: out, width: 140}
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil {
		s.terminal = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if size.Col > 0 {
			s.width = min(max(int(size.Col), 100), 170)
		}
	}
	return s
}

func (s *screen) paint(colour, text string) string {
	if !s.terminal || colour == plain {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) step(format string, args ...any) {
	fmt.Fprintf(s.out, "%s %s\n", s.paint(bold, "==>"), fmt.Sprintf(format, args...))
}

// progress shows the outcome just known; where lines cannot be rewritten, a dot.
func (s *screen) progress(n, of int, what string) {
	if s.terminal {
		fmt.Fprintf(s.out, "\r\x1b[K    %d/%d %s", n, of, what)
		return
	}
	fmt.Fprint(s.out, ".")
}

func (s *screen) progressDone() {
	if s.terminal {
		fmt.Fprint(s.out, "\r\x1b[K")
		return
	}
	fmt.Fprintln(s.out)
}

// row is one visit in the words of the table.
type row struct {
	cells  [4]string
	colour string
}

func describe(v *tour.Visit) row {
	r := row{cells: [4]string{v.Stop.Domain, v.Stop.Shows, did(v.Line), proof(v)}, colour: green}
	if v.Stop.Attack != "" {
		r.cells[1] = v.Stop.Attack
	}
	switch {
	case len(v.Wrong) > 0:
		r.colour = red
		r.cells[2] = "WRONG: " + r.cells[2]
	case v.Line.Security == "encrypted" || v.Line.Security == "dane-unauthenticated" || v.Line.Security == "plaintext":
		r.colour = yellow
	case v.Stop.Want.Did == "bounced":
		r.colour = plain
	}
	return r
}

func did(l tour.Line) string {
	switch l.Msg {
	case "delivered":
		return "delivered, " + l.Security
	case "deferred":
		return "kept back, will try again"
	case "bounced":
		return "returned to sender " + l.DSN
	case "":
		return "nothing"
	}
	return l.Msg
}

// proof is what danepost gave as its grounds, and what an attacker got.
func proof(v *tour.Visit) string {
	l := v.Line
	text := shortHex(l.Reason)
	if l.Msg == "delivered" {
		text = "no key to check at " + l.Host
		if l.Match != "" {
			text = "key " + shortHex(l.Match) + " at " + l.Host
		}
		text += ", MX " + l.MXStatus
	}
	if v.Loot != "" && len(v.Wrong) == 0 {
		text += " — " + v.Loot
	}
	return text
}

// shortHex cuts digests to what the eye can compare.
func shortHex(text string) string {
	return regexp.MustCompile(`\b([0-9a-f]{8})[0-9a-f]{24,}\b`).ReplaceAllString(text, "$1…")
}

// table prints the visits; cells wrap inside their column.
func (s *screen) table(visits []*tour.Visit) {
	widths := [4]int{18, 34, 26, 0}
	widths[3] = s.width - widths[0] - widths[1] - widths[2] - 6
	head := row{[4]string{"DESTINATION", "WHAT IS THERE, OR THE ATTACK", "WHAT DANEPOST DID", "THE PROOF OR THE REASON"}, bold}
	fmt.Fprintln(s.out)
	s.row(head, widths)
	part := ""
	for _, v := range visits {
		if v.Stop.Part != part {
			part = v.Stop.Part
			fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, "— "+part))
		}
		s.row(describe(v), widths)
	}
	fmt.Fprintln(s.out)
}

func (s *screen) row(r row, widths [4]int) {
	var cols [4][]string
	height := 0
	for i, c := range r.cells {
		cols[i] = wrap(c, widths[i])
		height = max(height, len(cols[i]))
	}
	for y := range height {
		var b strings.Builder
		for x, col := range cols {
			text := ""
			if y < len(col) {
				text = col[y]
			}
			pad := strings.Repeat(" ", max(0, widths[x]-utf8.RuneCountInString(text)))
			if text != "" && (x == 2 || r.colour == bold) {
				text = s.paint(r.colour, text)
			}
			if x > 0 {
				b.WriteString("  ")
			}
			b.WriteString(text + pad)
		}
		fmt.Fprintln(s.out, strings.TrimRight(b.String(), " "))
	}
}

// wrap breaks text into lines of at most width, at spaces where it can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:width])), string(r[width:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// failures lists what was wrong, with all that the daemon logged about it,
// and returns how many visits went wrong.
func (s *screen) failures(visits []*tour.Visit, log string) int {
	n := 0
	for _, v := range visits {
		if len(v.Wrong) == 0 {
			continue
		}
		n++
		fmt.Fprintln(s.out, s.paint(red, "WRONG "+v.Stop.Domain))
		for _, w := range v.Wrong {
			fmt.Fprintln(s.out, "  "+w)
		}
		for line := range strings.Lines(log) {
			if strings.Contains(line, v.Stop.Domain) {
				fmt.Fprint(s.out, s.paint(dim, "  log: "+line))
			}
		}
		fmt.Fprintln(s.out)
	}
	return n
}

func (s *screen) summary(visits []*tour.Visit, wrong, queries int, took time.Duration) {
	attacks, delivered := 0, 0
	for _, v := range visits {
		if v.Stop.Attack != "" {
			attacks++
		}
		if v.Line.Msg == "delivered" {
			delivered++
		}
	}
	fmt.Fprintf(s.out, "%d messages, %d attacks, %d delivered; %d DNS queries, %.1f s.\n", len(visits), attacks, delivered, queries, took.Seconds())
	if wrong > 0 {
		fmt.Fprintln(s.out, s.paint(red, fmt.Sprintf("%d of %d outcomes are wrong.", wrong, len(visits))))
		return
	}
	fmt.Fprintln(s.out, s.paint(green, fmt.Sprintf("All %d outcomes are right, by danepost's log and by what receivers and attackers really got.", len(visits))))
}
