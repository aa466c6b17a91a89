//go:build interop

package interop

import (
	"fmt"
	"strings"
)

// input is one call of sendmail and what must come of it. In its texts {a},
// {b}, {c} are addresses of its own and {n} is a word of its own.
type input struct {
	name   string
	argv   []string
	stdin  string
	code   int      // exit status
	to     []string // who gets it: one copy each; none when code is not 0
	from   string   // envelope sender, "" for the user's
	body   string   // exactly, with LF line ends; "" when it is not looked at
	has    []string // in the message
	hasNot []string
	params string // of MAIL or RCPT, as the next server must see it
}

// The envelope sender where none is given, and the null one.
const (
	caller = "www-data@host.home.demo"
	nobody = "<>"
)

// fields begins a message that lacks nothing.
const fields = "From: Robot <robot@home.demo>\nDate: Sun, 22 Nov 2026 01:02:03 +0000\nMessage-ID: <{n}@home.demo>\nSubject: {n}\n"

// inputs is the table: flags, headers, bodies.
func inputs() []input {
	const robot = "robot@home.demo"
	text := fields + "To: {a}\n\nhello {n}\n"
	one := []string{"{a}"}
	long := strings.Repeat("word ", 400)
	many, manyTo := "", []string{}
	for i := range 300 {
		manyTo = append(manyTo, fmt.Sprintf("r%d-{n}@inbox.demo", i))
	}
	many = strings.Join(manyTo, ",\n ")
	big := strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\n", 80_000)
	return []input{
		// Who gets it.
		{name: "-t: To, Cc and Bcc", argv: []string{"-t"}, stdin: fields + "To: {a}\nCc: Carl <{b}>\nBcc: {c}\n\nhello {n}\n", to: []string{"{a}", "{b}", "{c}"},
			body: "hello {n}\n", has: []string{"To: ", "Cc: "}, hasNot: []string{"Bcc", "{c}"}},
		{name: "-t with one more in argv", argv: []string{"-t", "-i", "{b}"}, stdin: text, to: []string{"{a}", "{b}"}},
		{name: "-t and Resent-To: a resent message", argv: []string{"-t", "-i"}, stdin: "Resent-From: robot@home.demo\nResent-To: {b}\nResent-Bcc: {c}\n" + text,
			to: []string{"{b}", "{c}"}, has: []string{"Resent-To: "}, hasNot: []string{"Resent-Bcc", "{c}"}},
		{name: "-t: groups, comments, folding", argv: []string{"-t", "-i"}, to: []string{"{a}", "{b}", "{c}"},
			stdin: fields + "To: \"Last, First\" <{a}> (a (nested, comment)),\n friends: {b} (Bob),\n\t{c};, undisclosed-recipients:;\n\nhello {n}\n"},
		{name: "-t: the same address in To and Cc", argv: []string{"-t", "-i"}, stdin: fields + "To: {a}, {a}\nCc: {a}\n\nhello {n}\n", to: one},
		{name: "-t: 300 recipients", argv: []string{"-t", "-i"}, stdin: fields + "To: " + many + "\n\nhello {n}\n", to: manyTo},
		{name: "-t without recipients", argv: []string{"-t", "-i"}, stdin: fields + "\nhello {n}\n", code: 64},
		{name: "-t: an address that does not parse", argv: []string{"-t", "-i"}, stdin: fields + "To: <{a}\n\nhello {n}\n", code: 65},
		{name: "no recipients at all", argv: nil, stdin: text, code: 64},
		{name: "two in one word", argv: []string{"-i", "{a}, Bob <{b}>"}, stdin: text, to: []string{"{a}", "{b}"}},
		{name: "source route", argv: []string{"-i", "<@relay.demo:{a}>"}, stdin: text, to: one},
		{name: "quoted local part", argv: []string{"-i", `"a b {n}"@inbox.demo`}, stdin: text, to: []string{`"a b {n}"@inbox.demo`}},
		{name: "recipient behind -- that begins with a dash", argv: []string{"-i", "--", "-C{n}@inbox.demo"}, stdin: text, to: []string{"-C{n}@inbox.demo"}},
		{name: "cron: -i -FCronDaemon -B8BITMIME -oem root", argv: []string{"-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"},
			stdin: "From: root (Cron Daemon)\nTo: root\nSubject: Cron {n}\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\nGrüße {n}\n",
			to:    []string{"admin@inbox.demo"}, body: "Grüße {n}\n"},
		{name: "Bcc in the header, recipients in argv", argv: []string{"-i", "{a}"}, stdin: fields + "To: {a}\nBcc: {b}\n\nhello {n}\n", to: one, hasNot: []string{"Bcc", "{b}"}},

		// Flags.
		{name: "mutt: -oem -oi -f A -- rcpt", argv: []string{"-oem", "-oi", "-f", robot, "--", "{a}"}, stdin: text, to: one, from: robot},
		{name: "PHP: -t -i -fA", argv: []string{"-t", "-i", "-f" + robot}, stdin: text, to: one, from: robot},
		{name: "s-nail: -i -r A", argv: []string{"-i", "-r", robot, "{a}"}, stdin: text, to: one, from: robot},
		{name: "-f with an empty word: the null sender", argv: []string{"-i", "-f", "", "{a}"}, stdin: text, to: one, from: nobody},
		{name: "-f with a line break in it", argv: []string{"-i", "-f", "x\nBcc: {b}@home.demo", "{a}"}, stdin: text, code: 65},
		{name: "-F without a From field", argv: []string{"-i", "-F", "Cron Daemon", "{a}"}, stdin: "To: {a}\nSubject: {n}\n\nhello {n}\n", to: one, has: []string{"From: ", "Cron Daemon"}},
		{name: "-F with a line break in it", argv: []string{"-i", "-F", "x\nX-Injected: {b}", "{a}"}, stdin: "To: {a}\nSubject: {n}\n\nhello {n}\n", to: one, hasNot: []string{"\nX-Injected"}},
		{name: "-bs: Symfony's dialogue", argv: []string{"-bs"}, to: one, from: robot, body: "hello {n}\n",
			stdin: "EHLO localhost\r\nMAIL FROM:<" + robot + ">\r\nRCPT TO:<{a}>\r\nDATA\r\n" + strings.ReplaceAll(text, "\n", "\r\n") + ".\r\nQUIT\r\n"},
		{name: "-N, -R and -V", argv: []string{"-i", "-N", "failure,delay", "-R", "hdrs", "-V", "id-{n}", "{a}"}, stdin: text, to: one, params: "ENVID=id-{n}"},
		{name: "options with words of their own", argv: []string{"-i", "-X", "/tmp/log-{n}", "-L", "tag", "-h", "3", "-O", "Timeout.queuereturn=1d", "-oQ/tmp", "{a}"}, stdin: text, to: one},
		{name: "an unknown option", argv: []string{"-Z", "{a}"}, stdin: text, code: 64},
		{name: "an unknown mode: -bz", argv: []string{"-bz", "{a}"}, stdin: text, code: 64},

		// Headers.
		{name: "nothing but a To field", argv: []string{"-t"}, stdin: "To: {a}\n\nhello {n}\n", to: one, body: "hello {n}\n", has: []string{"From: ", "Date: ", "Message-I"}},
		{name: "mbox's From line", argv: []string{"-i", "{a}"}, stdin: "From alice Sun Nov 22 01:02:03 2026\n>From bob\n" + text, to: one, body: "hello {n}\n",
			has: []string{"Subject: {n}"}, hasNot: []string{"From alice", ">From bob"}},
		{name: "Return-Path and Content-Length", argv: []string{"-i", "{a}"}, stdin: "Return-Path: <x@home.demo>\nContent-Length: 3\n" + text, to: one,
			body: "hello {n}\n", hasNot: []string{"Return-Path", "Content-Length"}},
		{name: "no header, only text", argv: []string{"-i", "{a}"}, stdin: "hello {n}\nsecond line\n", to: one, body: "hello {n}\nsecond line\n"},
		{name: "a header and no body", argv: []string{"-t", "-i"}, stdin: fields + "To: {a}\n", to: one, has: []string{"Subject: {n}"}},

		// Bodies.
		{name: "-i and a lone dot", argv: []string{"-i", "{a}"}, stdin: text + ".\n..\n.x\nlast\n", to: one, body: "hello {n}\n.\n..\n.x\nlast\n"},
		{name: "a lone dot without -i", argv: []string{"{a}"}, stdin: text + ".\nnot sent\n", to: one, body: "hello {n}\n"},
		{name: "CRLF line ends", argv: []string{"-t", "-i"}, stdin: strings.ReplaceAll(text+"two\n\nthree\n", "\n", "\r\n"), to: one, body: "hello {n}\ntwo\n\nthree\n"},
		{name: "bare CR, and an end of data smuggled in", argv: []string{"-i", "{a}"}, to: one, hasNot: []string{"\rb"},
			stdin: text + "a\rb\n.\r\nMAIL FROM:<x@home.demo>\r\nRCPT TO:<{b}>\r\nDATA\r\nsmuggled\r\n.\r\n"},
		{name: "a line of 2,000 octets", argv: []string{"-i", "{a}"}, stdin: text + long + "\n", to: one},
		{name: "8-bit text, white space at line ends, no last newline", argv: []string{"-i", "{a}"}, to: one,
			stdin: fields + "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße \n\t\n\n\nend", body: "Grüße \n\t\n\n\nend\n"},
		{name: "a NUL", argv: []string{"-i", "{a}"}, stdin: text + "a\x00b\n", code: 65},
		{name: "5 MB", argv: []string{"-i", "{a}"}, stdin: fields + "To: {a}\n\n" + big, to: one, body: big},
	}
}
