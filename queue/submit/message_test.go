package submit

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMessages sends each testdata/messages/*.in and compares what is queued
// with *.out. The first line of an .in file is a sendmail command line; \r,
// \0 and \x.. in the rest stand for the bytes they name, {n*c} for n times c.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/messages/*.in")
	if err != nil || len(files) == 0 {
		t.Fatal("no messages: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".in"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			line, in, _ := strings.Cut(string(b), "\n")
			got := render(t, strings.Fields(line), unescape(in))
			golden := strings.TrimSuffix(file, ".in") + ".out"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func unescape(s string) string {
	s = strings.NewReplacer(`\r`, "\r", `\0`, "\x00", `\xe4`, "\xe4", "\\\n", "").Replace(s)
	return regexp.MustCompile(`\{(\d+)\*([^}]*)\}`).ReplaceAllStringFunc(s, func(m string) string {
		var n int
		var word string
		fmt.Sscanf(m, "{%d*", &n)
		_, word, _ = strings.Cut(m[:len(m)-1], "*")
		return strings.Repeat(word, n)
	})
}

// render is what became of a message, as people read it.
func render(t *testing.T, argv []string, in string) string {
	gate, q := testGate(t, testPolicy(t))
	args, err := ParseArgs(argv)
	if err != nil {
		return fmt.Sprintf("exit %d: %v\n", ExitCode(err), err)
	}
	var r io.Reader = strings.NewReader(in)
	if !args.IgnoreDots {
		r = NewDotReader(r)
	}
	if _, err := gate.Accept(context.Background(), args.Request(""), alice, r); err != nil {
		if len(q.all()) > 0 {
			t.Error("refused, but queued")
		}
		return fmt.Sprintf("exit %d: %v\n", ExitCode(err), err)
	}
	m := q.last(t)
	checkWire(t, m.body)
	var b strings.Builder
	fmt.Fprintf(&b, "from <%s>\n", m.env.Sender)
	for _, rc := range m.env.Recipients {
		fmt.Fprintf(&b, "to <%s>%s%s%s\n", rc.Address, label(" notify=", rc.Notify), label(" orcpt=", rc.ORcpt), label(" held: ", rc.Hold))
	}
	fmt.Fprintf(&b, "body=%s%s%s utf8=%v requiretls=%v\n\n", m.env.Body, label(" ret=", m.env.Ret), label(" envid=", m.env.EnvID), m.env.SMTPUTF8, m.env.RequireTLS)
	body := regexp.MustCompile(`<[0-9a-f]{32}@`).ReplaceAllString(m.body, "<RANDOM@")
	b.WriteString(strings.ReplaceAll(body, "\r\n", "\n"))
	return b.String()
}

func label(l, s string) string {
	if s == "" {
		return ""
	}
	return l + s
}

// checkWire checks what must hold for every message that is queued.
func checkWire(t *testing.T, body string) {
	t.Helper()
	for _, line := range strings.SplitAfter(body, "\r\n") {
		if text, ok := strings.CutSuffix(line, "\r\n"); !ok && line != "" || strings.ContainsAny(text, "\r\n\x00") {
			t.Errorf("a line with a bare CR, LF or NUL, or without an end: %q", clip(line))
		} else if len(text) > maxLine {
			t.Errorf("a line of %d bytes", len(text))
		}
	}
	head, _, ok := strings.Cut(body, "\r\n\r\n")
	if !ok {
		t.Error("no end of the header")
	}
	count := map[string]int{}
	for line := range strings.SplitSeq(head, "\r\n") {
		name, _, found := strings.Cut(line, ":")
		if !found || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			continue
		}
		count[strings.ToLower(strings.TrimRight(name, " \t"))]++
	}
	for _, name := range []string{"bcc", "resent-bcc", "return-path", "content-length"} {
		if count[name] > 0 {
			t.Errorf("%s is still there", name)
		}
	}
	if count["from"] != 1 || count["date"] == 0 || count["message-id"] == 0 || count["received"] == 0 {
		t.Errorf("%d times From, fields %v", count["from"], count)
	}
}

// TestLongLinesKeepContent: quoted-printable and base64 parts decode to what
// went in, for lines of many lengths.
func TestLongLinesKeepContent(t *testing.T) {
	for _, n := range []int{997, 998, 999, 5000, 16<<10 - 1, 16 << 10, 16<<10 + 1, 100000} {
		text := strings.Repeat("ab=cö ", n/7+1)[:n] + "\r\nshort\r\n"
		if !strings.HasSuffix(text, "\r\nshort\r\n") {
			t.Fatal("bad test")
		}
		var qp bytes.Buffer
		w := quotedprintable.NewWriter(&qp)
		io.WriteString(w, text)
		w.Close()
		// One line: soft breaks taken out again.
		oneLine := strings.ReplaceAll(qp.String(), "=\r\n", "")
		for name, in := range map[string]string{
			"plain": "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n" + text,
			"qp":    "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n" + oneLine,
		} {
			gate, q := testGate(t, testPolicy(t))
			if _, err := gate.Accept(context.Background(), &Request{Recipients: to("b@example.net")}, alice, strings.NewReader(in)); err != nil {
				t.Fatal(err)
			}
			m := q.last(t)
			checkWire(t, m.body)
			_, body, _ := strings.Cut(m.body, "\r\n\r\n")
			if n > maxLine || name == "qp" {
				b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
				if err != nil {
					t.Fatal(err)
				}
				body = string(b)
			}
			if body != text {
				t.Errorf("%s, %d bytes: content changed", name, n)
			}
		}
	}
}

// TestBigMessageStreams: what is read is much more than what is allocated.
func TestBigMessageStreams(t *testing.T) {
	p := testPolicy(t)
	gate := NewGate(p, Deps{Queue: discardQueue{}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	line := strings.Repeat("x", 2000) + "\n"
	in := io.MultiReader(strings.NewReader("To: b@example.net\n\n"), io.LimitReader(&repeater{line: line}, 16<<20))
	if _, err := gate.Accept(context.Background(), &Request{FromHeaders: true}, alice, in); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d KiB were allocated for a message of 16 MB", used>>10)
	}
}

type discardQueue struct{}

type repeater struct {
	line string
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.line[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.line)
	}
	return n, nil
}
