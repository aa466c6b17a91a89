package deliver

import (
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bufio"

	"danepost/queue"
)

// goodRig is a signed domain whose receiver is rec.
func goodRig(t testing.TB, rec *receiver, change ...func(*Config)) *rig {
	p := thePKI()
	if rec.cert.Certificate == nil {
		rec.cert = p.self.chain()
	}
	r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)), change...)
	r.at("192.0.2.1", rec)
	return r
}

// commandsWith returns the commands that start with verb, behind it.
func commandsWith(rec *receiver, verb string) []string {
	var out []string
	for _, l := range rec.commands() {
		if rest, ok := strings.CutPrefix(l, verb); ok {
			out = append(out, rest)
		}
	}
	return out
}

func TestExtensions(t *testing.T) {
	const wide = "From: a@sender.example\r\nSubject: hi\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
	const wideSubject = "From: a@sender.example\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n\r\nhello\r\n"
	all := []string{"SIZE 0", "8BITMIME", "SMTPUTF8", "DSN"}
	for _, tc := range []struct {
		name    string
		ext     []string
		content string
		to      string
		env     func(*queue.Envelope)
		rcpt    func(*queue.Recipient)
		mail    string // what follows MAIL FROM:
		rcptTo  string // what follows RCPT TO:
		code    string // when it fails for good
	}{
		{name: "nothing offered", content: testMessage, mail: "<a@sender.example>", rcptTo: "<b@good.example>"},
		{name: "all offered, nothing needed", ext: all, content: testMessage,
			mail: fmt.Sprintf("<a@sender.example> SIZE=%d", len(testMessage)), rcptTo: "<b@good.example>"},
		{name: "null sender", content: testMessage, env: func(e *queue.Envelope) { e.Sender = "" }, mail: "<>", rcptTo: "<b@good.example>"},
		{name: "SIZE is enough", ext: []string{"SIZE 1000"}, content: testMessage, mail: fmt.Sprintf("<a@sender.example> SIZE=%d", len(testMessage)), rcptTo: "<b@good.example>"},
		{name: "SIZE is too small", ext: []string{"SIZE 50"}, content: testMessage, code: "5.3.4"},
		{name: "SIZE without a number", ext: []string{"SIZE"}, content: testMessage, mail: fmt.Sprintf("<a@sender.example> SIZE=%d", len(testMessage)), rcptTo: "<b@good.example>"},
		{name: "8-bit content, as said", ext: []string{"8BITMIME"}, content: wide, env: func(e *queue.Envelope) { e.Body = "8BITMIME" },
			mail: "<a@sender.example> BODY=8BITMIME", rcptTo: "<b@good.example>"},
		{name: "8-bit content, not said", ext: []string{"8BITMIME"}, content: wide, mail: "<a@sender.example> BODY=8BITMIME", rcptTo: "<b@good.example>"},
		{name: "8-bit content for a 7-bit receiver", content: wide, mail: "<a@sender.example>", rcptTo: "<b@good.example>"},
		{name: "8-bit header field that is no free text", content: "From: J\xc3\xb6rg <a@sender.example>\r\n\r\nx\r\n", code: "5.6.3"},
		{name: "international sender", ext: all, content: testMessage, env: func(e *queue.Envelope) { e.Sender = "jörg@sender.example" },
			mail: fmt.Sprintf("<jörg@sender.example> SIZE=%d SMTPUTF8", len(testMessage)), rcptTo: "<b@good.example>"},
		{name: "international sender, not taken", ext: []string{"8BITMIME"}, content: testMessage, env: func(e *queue.Envelope) { e.Sender = "jörg@sender.example" }, code: "5.6.7"},
		{name: "international recipient, not taken", ext: []string{"8BITMIME"}, content: testMessage, to: "jörg@good.example", code: "5.6.7"},
		{name: "SMTPUTF8 asked for and not needed", ext: []string{"8BITMIME"}, content: testMessage, env: func(e *queue.Envelope) { e.SMTPUTF8 = true },
			mail: "<a@sender.example>", rcptTo: "<b@good.example>"},
		{name: "SMTPUTF8 needed for the header", ext: []string{"8BITMIME"}, content: wideSubject, env: func(e *queue.Envelope) { e.SMTPUTF8 = true }, code: "5.6.7"},
		{name: "DSN", ext: []string{"DSN"}, content: testMessage, env: func(e *queue.Envelope) { e.Ret, e.EnvID = "HDRS", "id+1=x" },
			rcpt: func(r *queue.Recipient) { r.Notify, r.ORcpt = "SUCCESS,FAILURE", "rfc822;b+tag@good.example" },
			mail: "<a@sender.example> RET=HDRS ENVID=id+2B1+3Dx", rcptTo: "<b@good.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Btag@good.example"},
		{name: "DSN, ORCPT in xtext already", ext: []string{"DSN"}, content: testMessage,
			rcpt: func(r *queue.Recipient) { r.Notify, r.ORcpt = "NEVER", "rfc822;b+2Btag@good.example" },
			mail: "<a@sender.example>", rcptTo: "<b@good.example> NOTIFY=NEVER ORCPT=rfc822;b+2Btag@good.example"},
		{name: "DSN wanted and not offered", content: testMessage, env: func(e *queue.Envelope) { e.Ret, e.EnvID = "FULL", "x" },
			rcpt: func(r *queue.Recipient) { r.Notify = "SUCCESS" }, mail: "<a@sender.example>", rcptTo: "<b@good.example>"},
		{name: "REQUIRETLS", ext: []string{"REQUIRETLS"}, content: testMessage, env: func(e *queue.Envelope) { e.RequireTLS = true },
			mail: "<a@sender.example> REQUIRETLS", rcptTo: "<b@good.example>"},
		{name: "REQUIRETLS, not offered", content: testMessage, env: func(e *queue.Envelope) { e.RequireTLS = true }, code: "5.7.30"},
		{name: "an address that ends the line", content: testMessage, env: func(e *queue.Envelope) { e.Sender = "a@x\r\nRCPT TO:<evil@x>" }, code: "5.1.7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := &receiver{ext: tc.ext}
			r := goodRig(t, rec)
			if tc.to == "" {
				tc.to = "b@good.example"
			}
			it := item(tc.content, tc.to)
			if tc.env != nil {
				tc.env(&it.Envelope)
			}
			if tc.rcpt != nil {
				tc.rcpt(&it.Recipients[0].Recipient)
			}
			res := r.send(it)[tc.to]
			if tc.code != "" {
				if res.Outcome != queue.Failed || res.DSN != tc.code || len(rec.messages()) > 0 {
					t.Errorf("got %+v", res)
				}
				return
			}
			if res.Outcome != queue.Delivered || res.NotifiesNext != slices.Contains(tc.ext, "DSN") {
				t.Fatalf("got %+v", res)
			}
			if diff := cmp.Diff([]string{tc.mail, tc.rcptTo}, []string{rec.messages()[0].from, rec.messages()[0].to[0]}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestChunking(t *testing.T) {
	big := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n.\r\n", 20_000)
	for _, content := range []string{testMessage, big} {
		for _, noPipelining := range []bool{false, true} {
			rec := &receiver{ext: []string{"CHUNKING"}, noPipelining: noPipelining}
			r := goodRig(t, rec)
			it := item(content, "b@good.example")
			if res := r.send(it)["b@good.example"]; res.Outcome != queue.Delivered {
				t.Fatalf("%+v", res)
			}
			if got := rec.messages(); len(got) != 1 || got[0].content != content {
				t.Errorf("content differs, %d bytes", len(got[0].content))
			}
			if len(commandsWith(rec, "DATA")) > 0 {
				t.Error("DATA beside BDAT")
			}
		}
	}
	for reply, want := range map[string]queue.Outcome{"552 5.3.4 too big": queue.Failed, "452 4.3.1 full": queue.Later, "drop": queue.Later} {
		rec := &receiver{ext: []string{"CHUNKING"}, say: map[string]string{"BDAT": reply}}
		if res := goodRig(t, rec).send(item(big, "b@good.example"))["b@good.example"]; res.Outcome != want {
			t.Errorf("%s: %+v", reply, res)
		}
	}
}

// TestLines: whatever the queue holds, CR and LF are on the wire together or
// not at all, lines are short, and a dot alone is never the message's.
func TestLines(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"a":                       "a\r\n",
		"a\r\n":                   "a\r\n",
		"a\nb\n":                  "a\r\nb\r\n",
		"a\rb":                    "a\r\nb\r\n",
		"a\r\r\nb":                "a\r\n\r\nb\r\n",
		"a\n\r\nb":                "a\r\n\r\nb\r\n",
		".\r\n..\r\na.\r\n":       "..\r\n...\r\na.\r\n",
		"a\r\n.\r":                "a\r\n..\r\n",
		strings.Repeat("x", 998):  strings.Repeat("x", 998) + "\r\n",
		strings.Repeat("x", 1000): strings.Repeat("x", 998) + "\r\n xx\r\n",
	} {
		for _, size := range []int{1, 3, 4096} {
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			if err := copyLines(w, onlyReader{strings.NewReader(in), size}, true); err != nil {
				t.Fatal(err)
			}
			w.Flush()
			if b.String() != want {
				t.Errorf("%q in pieces of %d: got %q, want %q", in, size, b.String(), want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOfN(rapid.SampledFrom([]rune("\r\n.a ")), 0, 40, -1).Draw(t, "in")
		long := strings.Repeat("y", rapid.IntRange(0, 2100).Draw(t, "long"))
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		copyLines(w, strings.NewReader(in+long+in), true)
		w.Flush()
		for _, l := range strings.SplitAfter(b.String(), "\r\n") {
			body := strings.TrimSuffix(l, "\r\n")
			if strings.ContainsAny(body, "\r\n") || body == "." || len(body) > maxLine+1 {
				t.Fatalf("line %q", l)
			}
		}
	})
}

type onlyReader struct {
	r    io.Reader
	size int
}

func (o onlyReader) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.size)]) }

func TestSevenBit(t *testing.T) {
	const wide = "gr\xc3\xbc\xc3\x9fe = ok \r\n.\r\n"
	for _, tc := range []struct{ name, in, want string }{
		{"ascii stays", "Subject: x\r\n\r\nhello\r\n", "Subject: x\r\n\r\nhello\r\n"},
		{"no MIME at all", "Subject: x\r\n\r\n" + wide,
			"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe =3D ok=20\r\n=2E\r\n"},
		{"subject", "Subject: gr\xc3\xbc\xc3\x9fe\r\n\r\nx\r\n", "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n"},
		{"only the part that needs it", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\npre\r\n--b\r\n\r\nplain = x\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc\r\n--b--\r\n",
			"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\nplain = x\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n--b--\r\n"},
		{"not text", "MIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\xfe\r\n",
			"MIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n//4NCg==\r\n"},
		{"message inside", "MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc\r\n",
			"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n"},
		{"nested multiparts", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/alternative; boundary=aa\r\n\r\n--aa\r\nContent-Type: text/plain\r\n\r\n\xc3\xbc\r\n--a\r\nContent-Type: text/plain\r\n\r\nx\r\n--a--\r\n",
			"Content-Type: multipart/mixed; boundary=a\r\nMIME-Version: 1.0\r\n\r\n--a\r\nContent-Type: multipart/alternative; boundary=aa\r\n\r\n--aa\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n--a\r\nContent-Type: text/plain\r\n\r\nx\r\n--a--\r\n"},
		{"signed", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\xc3\xbc\r\n--b--\r\n", errFixed.Error()},
		{"said to be encoded", "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\xc3\xbc\r\n", errFixed.Error()},
		{"8-bit From", "From: \xc3\xbc <a@b>\r\n\r\nx\r\n", errHeader8Bit.Error()},
		{"too deep", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", maxMIMEDepth+2), errDepth.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			need, err := plan7Bit(strings.NewReader(tc.in))
			if err != nil {
				if err.Error() != tc.want {
					t.Fatal(err)
				}
				return
			}
			var b bytes.Buffer
			w := bufio.NewWriter(&b)
			if err := to7Bit(w, strings.NewReader(tc.in), need); err != nil {
				t.Fatal(err)
			}
			w.Flush()
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.StringOfN(rapid.SampledFrom([]rune("aä =.\t")), 1, 400, -1).Draw(t, "body") + "ü\r\n"
		in := "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body
		need, err := plan7Bit(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		to7Bit(w, strings.NewReader(in), need)
		w.Flush()
		if beyondASCII(b.Bytes()) {
			t.Fatal("not ASCII")
		}
		_, enc, _ := strings.Cut(b.String(), "\r\n\r\n")
		for _, l := range strings.Split(enc, "\r\n") {
			if len(l) > 76 {
				t.Fatalf("line of %d: %q", len(l), l)
			}
		}
		back, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(enc)))
		if err != nil || string(back) != body {
			t.Fatalf("%v: %q became %q", err, body, back)
		}
	})
}

func TestDateAtFirstAttempt(t *testing.T) {
	rec := &receiver{}
	r := goodRig(t, rec)
	it := item("From: a@sender.example\r\n\r\nhello\r\n", "b@good.example")
	it.Envelope.DateUnset = true
	if res := r.send(it)["b@good.example"]; res.Outcome != queue.Delivered {
		t.Fatalf("%+v", res)
	}
	got := rec.messages()[0].content
	if !strings.HasPrefix(got, "Received: by out.sender.example id 4rtest;\r\n\tSun, 22 Nov 2026 12:00:00 +0000\r\nDate: Sun, 22 Nov 2026") {
		t.Errorf("%q", got)
	}
}

func TestMailLoop(t *testing.T) {
	for n, want := range map[int]queue.Outcome{100: queue.Delivered, 101: queue.Failed} {
		r := goodRig(t, &receiver{})
		res := r.send(item(strings.Repeat("Received: from a\r\n\tby b; date\r\n", n)+testMessage, "b@good.example"))["b@good.example"]
		if res.Outcome != want || (want == queue.Failed && res.DSN != "5.4.6") {
			t.Errorf("%d: %+v", n, res)
		}
	}
}

func FuzzSevenBit(f *testing.F) {
	f.Add([]byte("Subject: gr\xc3\xbc\xc3\x9fe\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xbc\r\n--b--\r\n"))
	f.Add([]byte("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\xff\xfe\r\n"))
	f.Add([]byte("Content-Type: application/pdf\r\n\r\n\xff\n\xfe"))
	f.Fuzz(func(t *testing.T, in []byte) {
		need, err := plan7Bit(bytes.NewReader(in))
		if err != nil {
			return
		}
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := to7Bit(w, bytes.NewReader(in), need); err != nil {
			t.Fatalf("planned, and then: %v", err)
		}
		w.Flush()
		if beyondASCII(b.Bytes()) {
			t.Fatalf("%q became %q", in, b.Bytes())
		}
	})
}
