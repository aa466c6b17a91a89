//go:build interop

package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"danepost/internal/lab/tour"
)

// letter is a message as a program hands it over, complete, so that nothing
// need be added to its header.
type letter struct {
	name string
	head string // further header lines
	body string
}

// letters are what damages mail on its way, if anything does.
func letters() []letter {
	var all strings.Builder
	for c := 32; c < 127; c++ {
		all.WriteByte(byte(c))
	}
	big := strings.Builder{}
	rng := rand.New(rand.NewPCG(25, 7672))
	for big.Len() < 3<<20 {
		line := make([]byte, rng.IntN(76))
		for i := range line {
			line[i] = byte(32 + rng.IntN(95))
		}
		big.Write(append(line, '\n'))
	}
	utf8 := "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
	return []letter{
		{"plain", "", "Hello.\n"},
		{"no body", "", ""},
		{"only newlines", "", "\n\n\n"},
		{"no newline at the end", "", "last words"},
		{"dots", "", ".\n..\n...\n.x\n. \n\n.\n"},
		{"looks like SMTP", "", "DATA\nQUIT\nRSET\n.\nMAIL FROM:<a@b>\n"},
		{"From lines", "", "From here on\n>From there\n\nFrom again\n"},
		{"all of ASCII", "", all.String() + "\ttab\n"},
		{"white space at line ends", "", "one \ntwo\t\n  \n\t\nthree   \n"},
		{"UTF-8", utf8, "Grüße, 你好, 👋\n"},
		{"Latin-1", strings.Replace(utf8, "utf-8", "iso-8859-1", 1), "Gr\xfc\xdfe, na\xefve \xff\xfe\n"},
		{"998 octets", "", strings.Repeat("x", 998) + "\nend\n"},
		{"998 octets behind a dot", "", "." + strings.Repeat("y", 997) + "\n"},
		{"folded header", "X-Folded: one\n two\n\tthree\nX-Empty:\nX-Long: " + strings.Repeat("word ", 150) + "end\n", "body\n"},
		{"header order and case", "x-LOWER: a\nX-Twice: 1\nX-Twice: 2\nReceived: from elsewhere by here; Sun, 22 Nov 2026 01:02:03 +0000\n", "body\n"},
		{"multipart", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n",
			"preamble\n--b\nContent-Type: text/plain\n\npart one\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\nAAECAw==\n--b--\nepilogue\n"},
		{"3 MB", "", big.String()},
	}
}

// text is the whole of the letter.
func (m letter) text(to, marker string) string {
	return fmt.Sprintf("From: Alice <%s>\nTo: <%s>\nSubject: %s\nDate: Sun, 22 Nov 2026 03:04:05 +0000\nMessage-ID: <%s@home.demo>\n%s\n%s",
		tour.Sender, to, m.name, marker, m.head, m.body)
}

// withoutTrace cuts off what the way here put on top of a message (RFC 5321
// §4.4): everything up to the first field that is none of a mail server's.
func withoutTrace(stored string) (trace, rest string) {
	rest = stored
	for {
		line, _, _ := strings.Cut(rest, "\n")
		name, _, ok := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "received", "return-path", "delivered-to", "x-original-to", "envelope-to", "delivery-date":
		default:
			ok = false
		}
		if !ok {
			return stored[:len(stored)-len(rest)], rest
		}
		rest = strings.TrimPrefix(rest[len(line):], "\n")
		for strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t") {
			line, after, _ := strings.Cut(rest, "\n")
			_ = line
			rest = after
		}
	}
}

// testContent compares what lies in the mailbox with what sendmail -t was
// given, byte by byte.
func (v *receiver) testContent(t *testing.T, ctx context.Context, p *tour.Program) {
	to := "box@" + v.domain("ee311")
	for i, m := range letters() {
		text := m.text(to, fmt.Sprintf("content-%d", i))
		out, err := p.Run(ctx, text, "sendmail", "-t", "-i", "-f", tour.Sender)
		if err != nil || out.Code != 0 {
			t.Errorf("%s: sendmail: %v, %+v", m.name, err, out)
		}
	}
	for i, m := range letters() {
		stored, err := v.wait(fmt.Sprintf("<content-%d@home.demo>", i), 20*time.Second)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		trace, got := withoutTrace(stored)
		want := m.text(to, fmt.Sprintf("content-%d", i))
		if !strings.HasSuffix(want, "\n") {
			want += "\n" // SMTP knows only whole lines
		}
		if got != want {
			t.Errorf("%s: %s", m.name, firstDifference(got, want))
		}
		if n := strings.Count(strings.ToLower("\n"+trace), "\nreceived:"); n != 2 {
			t.Errorf("%s: %d Received lines on top, want one of danepost and one of %s:\n%s", m.name, n, v.software, trace)
		}
		if !strings.Contains(strings.ToLower(trace), "return-path: <"+tour.Sender+">") {
			t.Errorf("%s: no Return-Path with the envelope sender:\n%s", m.name, trace)
		}
	}
}

func firstDifference(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	from := max(0, i-40)
	return fmt.Sprintf("differs at octet %d of %d (sent %d): stored %.120q, sent %.120q", i, len(got), len(want), got[from:], want[from:])
}
