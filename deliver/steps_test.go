package deliver

import (
	"fmt"
	"strings"
	"testing"

	"danepost/queue"
)

// TestSteps walks every SMTP step with every class of reply, under DANE and
// without. Under DANE whatever goes wrong before the receiver has proved
// itself is a deferral, whatever it said.
func TestSteps(t *testing.T) {
	p := thePKI()
	type want struct {
		outcome queue.Outcome
		code    string
	}
	ok := want{queue.Delivered, ""}
	defer4 := func(code string) want { return want{queue.Later, code} }
	fail := func(code string) want { return want{queue.Failed, code} }
	for _, step := range []struct {
		verb, reply string
		dane, may   want
	}{
		{"greeting", "220-mx.test\r\n220 two lines", ok, ok},
		{"greeting", "220", ok, ok},
		{"greeting", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"greeting", "450 busy", defer4("4.0.0"), defer4("4.0.0")},
		{"greeting", "554 5.7.1 no service", defer4("4.7.1"), fail("5.7.1")},
		{"greeting", "250 what?", defer4("4.5.0"), defer4("4.5.0")},
		{"greeting", "HTTP/1.1 400 Bad Request", defer4("4.4.2"), defer4("4.4.2")},
		{"greeting", "drop", defer4("4.4.2"), defer4("4.4.2")},

		{"EHLO", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"EHLO", "450 busy", defer4("4.0.0"), defer4("4.0.0")},
		{"EHLO", "500 what is EHLO?", defer4("4.7.4"), ok}, // HELO: no STARTTLS
		{"EHLO", "354 go on", defer4("4.5.0"), defer4("4.5.0")},
		{"EHLO", "drop", defer4("4.4.2"), defer4("4.4.2")},
		{"EHLO", "250-mx.test\r\n251 PIPELINING", defer4("4.4.2"), defer4("4.4.2")},

		{"STARTTLS", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"STARTTLS", "454 4.7.0 not now", defer4("4.7.4"), ok},
		{"STARTTLS", "554 5.7.0 never", defer4("4.7.4"), ok},
		{"STARTTLS", "drop", defer4("4.4.2"), ok}, // in the clear, over a new connection

		{"EHLO/tls", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"EHLO/tls", "450 busy", defer4("4.0.0"), defer4("4.0.0")},
		{"EHLO/tls", "550 5.7.1 not you", ok, ok}, // HELO will do

		{"MAIL", "250 ok", ok, ok},
		{"MAIL", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"MAIL", "451 4.3.0 busy", defer4("4.3.0"), defer4("4.3.0")},
		{"MAIL", "550 5.1.8 bad sender", fail("5.1.8"), fail("5.1.8")},
		{"MAIL", "550 5.7.1 policy", fail("5.7.1"), fail("5.7.1")},
		{"MAIL", "354 go on", defer4("4.5.0"), defer4("4.5.0")},
		{"MAIL", "drop", defer4("4.4.2"), defer4("4.4.2")},
		{"MAIL", "nonsense", defer4("4.4.2"), defer4("4.4.2")},

		{"RCPT", "251 will forward", ok, ok},
		{"RCPT", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"RCPT", "450 4.2.0 greylisted", defer4("4.2.0"), defer4("4.2.0")},
		{"RCPT", "452 4.5.3 too many", defer4("4.5.3"), defer4("4.5.3")},
		{"RCPT", "550 5.1.1 no such user", fail("5.1.1"), fail("5.1.1")},
		{"RCPT", "550 no such user", fail("5.0.0"), fail("5.0.0")},
		{"RCPT", "550 4.1.1 contradictory", fail("5.0.0"), fail("5.0.0")},
		{"RCPT", "drop", defer4("4.4.2"), defer4("4.4.2")},

		{"DATA", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{"DATA", "451 4.3.0 busy", defer4("4.3.0"), defer4("4.3.0")},
		{"DATA", "554 5.5.1 no", fail("5.5.1"), fail("5.5.1")},
		{"DATA", "250 what?", defer4("4.5.0"), defer4("4.5.0")},
		{"DATA", "drop", defer4("4.4.2"), defer4("4.4.2")},

		{".", "250", ok, ok},
		{".", "421 4.3.2 closing", defer4("4.3.2"), defer4("4.3.2")},
		{".", "452 4.3.1 disk full", defer4("4.3.1"), defer4("4.3.1")},
		{".", "550 5.7.1 spam", fail("5.7.1"), fail("5.7.1")},
		{".", "354 more?", defer4("4.5.0"), defer4("4.5.0")},
		{".", "drop", defer4("4.4.2"), defer4("4.4.2")},
	} {
		for _, pipelining := range []bool{true, false} {
			for level, w := range map[string]want{"dane": step.dane, "may": step.may} {
				name := fmt.Sprintf("%s/%s/%s/pipelining=%v", level, step.verb, strings.ReplaceAll(step.reply, "\r\n", `\n`), pipelining)
				t.Run(name, func(t *testing.T) {
					facts := goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1))
					if level == "may" {
						facts = strings.ReplaceAll(facts, "TLSA secure", "TLSA insecure")
					}
					r := newRig(t, facts)
					rec := r.at("192.0.2.1", &receiver{cert: p.self.chain(), noPipelining: !pipelining,
						say: map[string]string{step.verb: step.reply}})
					res := r.one()
					if res.Outcome != w.outcome || (w.code != "" && res.DSN != w.code) {
						t.Errorf("got %+v\nwant %+v", res, w)
					}
					if res.Outcome != queue.Delivered && res.Reason == "" {
						t.Error("no reason")
					}
					for _, m := range rec.messages() {
						if level == "dane" && !m.tls {
							t.Error("in the clear")
						}
					}
					if level == "dane" && w.code == "4.7.4" && !strings.Contains(res.Reason, "RFC 7672") {
						t.Errorf("the reason does not name the rule: %s", res.Reason)
					}
				})
			}
		}
	}
}

// TestNextHost: what one host refuses for itself the next one is asked.
func TestNextHost(t *testing.T) {
	p := thePKI()
	const facts = `good.example MX secure 10 mx1.good.example | 20 mx2.good.example
		mx1.good.example A secure 192.0.2.1
		mx1.good.example AAAA secure nodata
		mx2.good.example A secure 192.0.2.2
		mx2.good.example AAAA secure nodata
	`
	for _, tc := range []struct {
		verb, reply string
		second      bool // the second host gets it
		outcome     queue.Outcome
	}{
		{"greeting", "554 5.7.1 no service", true, queue.Delivered},
		{"greeting", "421 closing", true, queue.Delivered},
		{"greeting", "drop", true, queue.Delivered},
		{"EHLO", "421 closing", true, queue.Delivered},
		{"MAIL", "451 busy", true, queue.Delivered},
		{"MAIL", "421 closing", true, queue.Delivered},
		{"MAIL", "drop", true, queue.Delivered},
		{"RCPT", "421 closing", true, queue.Delivered},
		{"DATA", "421 closing", true, queue.Delivered},
		{"MAIL", "550 5.1.8 bad sender", false, queue.Failed},
		{"RCPT", "450 greylisted", false, queue.Later},
		{"RCPT", "550 no such user", false, queue.Failed},
		{".", "451 busy", false, queue.Later},
		{".", "drop", false, queue.Later}, // it may have arrived: no second copy at once
	} {
		t.Run(tc.verb+" "+tc.reply, func(t *testing.T) {
			r := newRig(t, facts)
			r.at("192.0.2.1", &receiver{cert: p.self.chain(), say: map[string]string{tc.verb: tc.reply}})
			second := r.at("192.0.2.2", &receiver{cert: p.self.chain()})
			res := r.one()
			if res.Outcome != tc.outcome || (len(second.messages()) == 1) != tc.second {
				t.Errorf("got %+v, second host got %d", res, len(second.messages()))
			}
			if greylisted := tc.verb == "RCPT" && strings.HasPrefix(tc.reply, "450"); res.Greylisted != greylisted {
				t.Errorf("greylisted = %v", res.Greylisted)
			}
		})
	}
}

// TestAllHostsRefuse: a greeting of 5xx is a bounce only when no host of the
// domain leaves hope.
func TestAllHostsRefuse(t *testing.T) {
	const facts = `good.example MX secure 10 mx1.good.example | 20 mx2.good.example
		mx1.good.example A secure 192.0.2.1
		mx1.good.example AAAA secure nodata
		mx2.good.example A secure 192.0.2.2
		mx2.good.example AAAA secure nodata
	`
	for second, want := range map[string]queue.Outcome{"554 5.7.1 no": queue.Failed, "421 4.3.2 later": queue.Later, "drop": queue.Later} {
		r := newRig(t, facts)
		r.at("192.0.2.1", &receiver{say: map[string]string{"greeting": "554 5.3.2 no service"}})
		r.at("192.0.2.2", &receiver{say: map[string]string{"greeting": second}})
		res := r.one()
		if res.Outcome != want {
			t.Errorf("%s: got %+v", second, res)
		}
		for _, host := range []string{"mx1.good.example", "mx2.good.example"} {
			if !strings.Contains(res.Reason, host) {
				t.Errorf("%s: the reason does not name %s: %s", second, host, res.Reason)
			}
		}
	}
}

// TestRecipients: each recipient has an outcome of its own.
func TestRecipients(t *testing.T) {
	p := thePKI()
	for _, pipelining := range []bool{true, false} {
		r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)))
		rec := r.at("192.0.2.1", &receiver{cert: p.self.chain(), noPipelining: !pipelining,
			answer: func(verb, line string, _ bool) string {
				switch {
				case verb == "RCPT" && strings.Contains(line, "gone"):
					return "550 5.1.1 no such user"
				case verb == "RCPT" && strings.Contains(line, "grey"):
					return "450 4.2.0 later"
				}
				return ""
			}})
		got := r.send(item(testMessage, "gone@good.example", "one@good.example", "grey@good.example", "two@good.example"))
		for address, want := range map[string]queue.Outcome{"gone@good.example": queue.Failed, "one@good.example": queue.Delivered,
			"grey@good.example": queue.Later, "two@good.example": queue.Delivered} {
			if got[address].Outcome != want {
				t.Errorf("%s: %+v", address, got[address])
			}
		}
		if m := rec.messages(); len(m) != 1 {
			t.Errorf("arrived: %+v", m)
		}
	}
}

// TestNoRecipientLeft: a DATA sent ahead is ended properly, and the
// connection serves the next message.
func TestNoRecipientLeft(t *testing.T) {
	p := thePKI()
	r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)))
	rec := r.at("192.0.2.1", &receiver{cert: p.self.chain(), answer: func(verb, line string, _ bool) string {
		if verb == "RCPT" && strings.Contains(line, "gone") {
			return "550 5.1.1 no such user"
		}
		return ""
	}})
	if got := r.send(item(testMessage, "gone@good.example"))["gone@good.example"]; got.Outcome != queue.Failed {
		t.Fatalf("%+v", got)
	}
	for _, m := range rec.messages() {
		if strings.Contains(m.content, "secret") {
			t.Error("content was sent for nobody")
		}
	}
	if res := r.one(); res.Outcome != queue.Delivered || rec.sessions != 1 {
		t.Errorf("%+v over %d sessions", res, rec.sessions)
	}
}

// TestManyRecipients: 250 of them, a receiver that takes 30 at a time.
func TestManyRecipients(t *testing.T) {
	p := thePKI()
	r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)))
	n := 0
	rec := r.at("192.0.2.1", &receiver{cert: p.self.chain(), answer: func(verb, line string, _ bool) string {
		switch verb {
		case "MAIL":
			n = 0
		case "RCPT":
			if n++; n > 30 {
				return "452 4.5.3 too many recipients"
			}
		}
		return ""
	}})
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprintf("r%d@good.example", i))
	}
	got := r.send(item(testMessage, to...))
	for _, a := range to {
		if got[a].Outcome != queue.Delivered {
			t.Fatalf("%s: %+v", a, got[a])
		}
	}
	if len(rec.messages()) != 9 || rec.sessions != 1 {
		t.Errorf("%d transactions, %d sessions", len(rec.messages()), rec.sessions)
	}
}
