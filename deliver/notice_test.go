package deliver

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"danepost/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestNotices compares whole notices with golden files, which are what people
// read, and reads them back as MIME.
func TestNotices(t *testing.T) {
	mismatch := queue.Result{Address: "b@good.example", Outcome: queue.Failed, DSN: "4.7.5", Host: "mx.good.example",
		Reason: "given up after 5 days: mx.good.example[192.0.2.1]: the receiver's certificate does not match its published TLSA record (no TLSA record is that of the server's certificate); the message was not sent, to protect it"}
	refusal := queue.Result{Index: 1, Address: "gone@good.example", Outcome: queue.Failed, DSN: "5.1.1", Host: "mx.good.example",
		Reason: "mx.good.example[192.0.2.1]: the receiver answered RCPT with: 550 5.1.1 no such user", Reply: "550 5.1.1 no such user"}
	late := queue.Result{Address: "b@good.example", Outcome: queue.Later, DSN: "4.7.4", Host: "mx.good.example",
		Reason: "mx.good.example[192.0.2.1]: the host does not offer STARTTLS, which its TLSA records make mandatory (RFC 7672 section 2.2); the message was not sent, to protect it"}
	handed := queue.Result{Address: "b@good.example", Outcome: queue.Delivered, DSN: "2.0.0", Host: "mx.good.example", Reply: "250 2.0.0 queued", Security: "dane-verified"}
	for _, tc := range []struct {
		name  string
		kind  queue.NoticeKind
		about []queue.Result
		item  func(*queue.Item)
		to    string
		utf8  bool
	}{
		{name: "failure", kind: queue.NoticeFailure, about: []queue.Result{mismatch, refusal}, to: "a@sender.example"},
		{name: "failure-full", kind: queue.NoticeFailure, about: []queue.Result{refusal}, to: "a@sender.example", item: func(it *queue.Item) {
			it.Envelope.Ret, it.Envelope.EnvID = "FULL", "job 17"
			it.Recipients[1].ORcpt = "rfc822;gone+2Btag@old.example"
		}},
		{name: "delay", kind: queue.NoticeDelay, about: []queue.Result{late}, to: "a@sender.example"},
		{name: "success", kind: queue.NoticeSuccess, about: []queue.Result{handed}, to: "a@sender.example", item: func(it *queue.Item) { it.Recipients[0].Notify = "SUCCESS" }},
		{name: "double", kind: queue.NoticeFailure, about: []queue.Result{refusal}, to: "post@sender.example", item: func(it *queue.Item) { it.Envelope.Sender = "" }},
		{name: "requiretls", kind: queue.NoticeFailure, about: []queue.Result{refusal}, to: "a@sender.example", item: func(it *queue.Item) { it.Envelope.RequireTLS, it.Envelope.Ret = true, "FULL" }},
		{name: "international", kind: queue.NoticeFailure, about: []queue.Result{{Address: "jörg@good.example", Outcome: queue.Failed, DSN: "5.6.7", Reason: "the receiver does not take internationalized addresses (SMTPUTF8)"}},
			to: "dörte@sender.example", utf8: true, item: func(it *queue.Item) {
				it.Envelope.Sender, it.Envelope.SMTPUTF8 = "dörte@sender.example", true
				it.Recipients[0].Address = "jörg@good.example"
			}},
		{name: "international-recipient", kind: queue.NoticeFailure, about: []queue.Result{{Address: "jörg@good.example", Outcome: queue.Failed, DSN: "5.6.7", Reason: "the receiver does not take internationalized addresses (SMTPUTF8)"}},
			to: "a@sender.example", item: func(it *queue.Item) {
				it.Envelope.SMTPUTF8 = true
				it.Recipients[0].Address = "jörg@good.example"
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, "", func(c *Config) { c.Postmaster, c.MaxAge = "post@sender.example", 5*24*time.Hour })
			it := item(testMessage, "b@good.example", "gone@good.example")
			if tc.item != nil {
				tc.item(it)
			}
			n := r.Notice(it, tc.kind, tc.about)
			if n == nil {
				t.Fatal("no notice")
			}
			if n.Envelope.Sender != "" || len(n.Envelope.Recipients) != 1 || n.Envelope.Recipients[0].Address != tc.to || n.Envelope.SMTPUTF8 != tc.utf8 {
				t.Errorf("envelope %+v", n.Envelope)
			}
			if (n.Envelope.Body == "8BITMIME") != beyondASCII(n.Content) {
				t.Errorf("body type %q", n.Envelope.Body)
			}
			golden(t, "testdata/notice/"+tc.name+".eml", n.Content)
			checkReport(t, n.Content)
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

// checkReport reads a notice as a stranger's program would.
func checkReport(t *testing.T, content []byte) {
	t.Helper()
	for _, l := range strings.SplitAfter(string(content), "\n") {
		if l != "" && !strings.HasSuffix(l, "\r\n") || len(l) > 1000 {
			t.Errorf("line %q", l)
		}
	}
	m, err := netmail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("Auto-Submitted") != "auto-replied" {
		t.Error("not marked as automatic")
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	mr := multipart.NewReader(m.Body, params["boundary"])
	parts := 0
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(p)
		if parts == 1 && (!bytes.Contains(body, []byte("Final-Recipient: ")) || !bytes.Contains(body, []byte("\r\nAction: "))) {
			t.Errorf("status part: %q", body)
		}
		if p.Header.Get("Content-Transfer-Encoding") == "7bit" && beyondASCII(body) {
			t.Errorf("part %d is not 7-bit", parts)
		}
		parts++
	}
	if parts != 3 {
		t.Errorf("%d parts", parts)
	}
}

// TestNobodyToTell: when there is no notice, and when that must not end the
// matter.
func TestNobodyToTell(t *testing.T) {
	res := []queue.Result{{Address: "b@good.example", Outcome: queue.Failed, DSN: "5.0.0", Reason: "x"}}
	for _, tc := range []struct {
		name   string
		kind   queue.NoticeKind
		sender string
		notify string
		pm     string
		next   bool
		want   bool // a notice is sent
		held   bool // the recipients are kept instead
	}{
		{"failure by default", queue.NoticeFailure, "a@b", "", "", false, true, false},
		{"failure wanted", queue.NoticeFailure, "a@b", "SUCCESS,FAILURE", "", false, true, false},
		{"failure not wanted", queue.NoticeFailure, "a@b", "SUCCESS,DELAY", "", false, false, false},
		{"never", queue.NoticeFailure, "a@b", "NEVER", "", false, false, false},
		{"delay by default", queue.NoticeDelay, "a@b", "", "", false, true, false},
		{"delay wanted", queue.NoticeDelay, "a@b", "delay", "", false, true, false},
		{"delay not wanted", queue.NoticeDelay, "a@b", "FAILURE", "", false, false, false},
		{"success not by default", queue.NoticeSuccess, "a@b", "", "", false, false, false},
		{"success wanted", queue.NoticeSuccess, "a@b", "SUCCESS", "", false, true, false},
		{"success, the next host's business", queue.NoticeSuccess, "a@b", "SUCCESS", "", true, false, false},
		{"bounce of a bounce without postmaster", queue.NoticeFailure, "", "", "", false, false, true},
		{"bounce of a bounce", queue.NoticeFailure, "", "", "p@b", false, true, false},
		{"bounce of a bounce to the postmaster", queue.NoticeFailure, "", "", "B@good.example", false, false, true},
		{"late bounce", queue.NoticeDelay, "", "", "p@b", false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, "", func(c *Config) { c.Postmaster = tc.pm })
			it := item(testMessage, "b@good.example")
			it.Envelope.Sender, it.Recipients[0].Notify = tc.sender, tc.notify
			res := []queue.Result{res[0]}
			res[0].NotifiesNext = tc.next
			n := r.Notice(it, tc.kind, res)
			if sent, held := n != nil && n.Hold == "", n != nil && n.Hold != ""; sent != tc.want || held != tc.held {
				t.Errorf("got %+v", n)
			}
		})
	}
}

// TestNoticeIsBounded: a huge header, a huge body, an original that cannot be
// read, many recipients with long reasons.
func TestNoticeIsBounded(t *testing.T) {
	r := newRig(t, "")
	it := item("Subject: "+strings.Repeat("x\r\n ", 1<<20)+"\r\n\r\nbody\r\n", "b@good.example")
	var about []queue.Result
	for i := range 100 {
		about = append(about, queue.Result{Index: i, Address: fmt.Sprintf("r%d@good.example", i), Reason: strings.Repeat("y", 5000), DSN: "5.0.0"})
	}
	if n := r.Notice(it, queue.NoticeFailure, about); len(n.Content) > 400_000 {
		t.Errorf("%d bytes", len(n.Content))
	}
	it.Open = func() (io.ReadSeekCloser, error) { return nil, errors.New("gone") }
	n := r.Notice(it, queue.NoticeFailure, about[:1])
	if n == nil || bytes.Contains(n.Content, []byte("rfc822-headers")) {
		t.Error("no notice without the original")
	}
}

// TestUnreturnable: what fails for good and has no sender waits visibly.
func TestUnreturnable(t *testing.T) {
	for pm, want := range map[string]queue.Outcome{"": queue.Held, "p@sender.example": queue.Failed, "b@good.example": queue.Held} {
		rec := &receiver{say: map[string]string{"RCPT": "550 5.1.1 no such user"}}
		r := goodRig(t, rec, func(c *Config) { c.Postmaster = pm })
		it := item(testMessage, "b@good.example")
		it.Envelope.Sender = ""
		if res := r.send(it)["b@good.example"]; res.Outcome != want {
			t.Errorf("postmaster %q: %+v", pm, res)
		}
		// What the queue gives up for its age comes straight to Notice.
		n := r.Notice(it, queue.NoticeFailure, []queue.Result{{Address: "b@good.example", Outcome: queue.Failed, Reason: "given up"}})
		if held := n != nil && n.Hold != ""; held != (want == queue.Held) {
			t.Errorf("postmaster %q: expired notice %+v", pm, n)
		}
	}
}
