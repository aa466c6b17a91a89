package deliver

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"danepost/queue"
)

// Notice composes what the sender is told: a bounce, a warning that mail is
// late, or the word that it was handed on (RFC 3464). nil: nobody is to be
// told, because nobody wants to know (RFC 3461 §4.1) or nobody is there.
func (d *Deliverer) Notice(item *queue.Item, kind queue.NoticeKind, about []queue.Result) *queue.Notice {
	n := &notice{d: d, item: item, kind: kind, now: d.now(), to: item.Envelope.Sender}
	for _, res := range about {
		if r := findRecipient(item, res); n.wanted(r, res) {
			n.about = append(n.about, told{res, r})
		}
	}
	if len(n.about) == 0 {
		return nil
	}
	if n.to == "" {
		// RFC 5321 §6.1: nothing answers a message without a sender. A bounce
		// that bounces is for the postmaster, unless it is the postmaster's
		// mailbox that does not work.
		switch {
		case kind != queue.NoticeFailure:
			return nil
		case slices.ContainsFunc(n.about, func(t told) bool { return d.unreturnable("", t.res.Address) }):
			return &queue.Notice{Hold: nobodyToTell}
		}
		n.to, n.double = d.cfg.Postmaster, true
	}
	return n.compose()
}

const nobodyToTell = "undeliverable, and there is no sender to tell (set postmaster to a mailbox that works)"

// unreturnable reports whether nobody can be told of a failure: the message
// has no sender, and the postmaster is not set or is who cannot be reached.
func (d *Deliverer) unreturnable(sender, recipient string) bool {
	pm := d.cfg.Postmaster
	return sender == "" && (pm == "" || strings.EqualFold(recipient, pm))
}

// told is one recipient that a notice is about.
type told struct {
	res queue.Result
	r   queue.Recipient
}

// notice is one being composed.
type notice struct {
	d      *Deliverer
	item   *queue.Item
	kind   queue.NoticeKind
	about  []told
	now    time.Time
	to     string
	double bool
	b      bytes.Buffer
}

func findRecipient(item *queue.Item, res queue.Result) queue.Recipient {
	for _, r := range item.Recipients {
		if r.Index == res.Index {
			return r.Recipient
		}
	}
	return queue.Recipient{Address: res.Address}
}

// wanted applies NOTIFY (RFC 3461 §4.1).
func (n *notice) wanted(r queue.Recipient, res queue.Result) bool {
	word := [...]string{queue.NoticeFailure: "FAILURE", queue.NoticeDelay: "DELAY", queue.NoticeSuccess: "SUCCESS"}[n.kind]
	if r.Notify == "" {
		return n.kind != queue.NoticeSuccess
	}
	if n.kind == queue.NoticeSuccess && res.NotifiesNext {
		return false
	}
	return slices.Contains(strings.Split(strings.ToUpper(r.Notify), ","), word)
}

func (n *notice) compose() *queue.Notice {
	env := &n.item.Envelope
	utf8 := !isASCII(n.to)
	original, whole := n.original()
	boundary := n.boundary(original)
	n.header(boundary)
	n.part(boundary, "text/plain; charset=utf-8", n.words(whole))
	n.part(boundary, pick(utf8, "message/global-delivery-status", "message/delivery-status"), n.status(utf8))
	if original != nil {
		kind := pick(env.SMTPUTF8, "message/global-headers", "text/rfc822-headers")
		if whole {
			kind = pick(env.SMTPUTF8, "message/global", "message/rfc822")
		}
		n.part(boundary, kind, original)
	}
	fmt.Fprintf(&n.b, "\r\n--%s--\r\n", boundary)
	out := &queue.Notice{Content: n.b.Bytes(), Envelope: queue.Envelope{
		Recipients: []queue.Recipient{{Address: n.to}},
		SMTPUTF8:   utf8,
		// RFC 8689 §5: news of a protected message is protected likewise.
		RequireTLS: env.RequireTLS,
	}}
	if beyondASCII(out.Content) {
		out.Envelope.Body = "8BITMIME"
	}
	return out
}

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

func (n *notice) header(boundary string) {
	host := n.d.cfg.Hostname
	subject := [...]string{
		queue.NoticeFailure: "Your message could not be delivered",
		queue.NoticeDelay:   "Your message is late",
		queue.NoticeSuccess: "Your message was handed on",
	}[n.kind]
	if n.double {
		subject = "A notice of failure could not be delivered"
	}
	word := [...]string{queue.NoticeFailure: "failure", queue.NoticeDelay: "delay", queue.NoticeSuccess: "success"}[n.kind]
	n.line("Date", n.now.Format(time.RFC1123Z))
	n.line("From", fmt.Sprintf("Mail Delivery System <MAILER-DAEMON@%s>", host))
	n.line("To", "<"+n.to+">")
	n.line("Subject", subject)
	n.line("Message-ID", fmt.Sprintf("<%s.%s.%d@%s>", n.item.ID, word, n.now.UnixNano(), host))
	n.line("Auto-Submitted", "auto-replied") // RFC 3834 §5
	n.line("MIME-Version", "1.0")
	n.line("Content-Type", fmt.Sprintf("multipart/report; report-type=delivery-status;\r\n boundary=%q", boundary))
	n.b.WriteString("\r\nThis is a message about another one, in several parts (RFC 3464).\r\n")
}

func (n *notice) line(name, value string) { fmt.Fprintf(&n.b, "%s: %s\r\n", name, value) }

// part adds a part as it is.
func (n *notice) part(boundary, kind string, body []byte) {
	encoding := "7bit"
	if beyondASCII(body) {
		encoding = "8bit"
	}
	fmt.Fprintf(&n.b, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n", boundary, kind, encoding)
	n.b.Write(body)
}

// words is the part for people.
func (n *notice) words(whole bool) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { b.WriteString(wrap(fmt.Sprintf(format, args...), "")) }
	p("This is the mail system at %s.", n.d.cfg.Hostname)
	b.WriteString("\r\n")
	switch {
	case n.double:
		p("The message below could not be delivered. It has no sender, so it is most likely a notice about an earlier message; it comes to you as the postmaster.")
	case n.kind == queue.NoticeFailure:
		p("Your message could not be delivered to the recipients below. No further attempt will be made.")
	case n.kind == queue.NoticeDelay:
		p("Your message could not be delivered yet to the recipients below. You need not send it again.")
		if n.d.cfg.MaxAge > 0 {
			p("Attempts go on until %s.", n.until().Format(time.RFC1123Z))
		}
	default:
		p("Your message was accepted by the next mail system for the recipients below. That system sends no notice of its own when it reaches them.")
	}
	for _, t := range n.about {
		b.WriteString("\r\n" + wrap("<"+t.r.Address+">", "  "))
		reason := t.res.Reason
		if n.kind == queue.NoticeSuccess {
			reason = fmt.Sprintf("handed to %s (%s)", t.res.Host, t.res.Security)
		}
		b.WriteString(wrap(reason, "      "))
	}
	switch {
	case n.kind != queue.NoticeFailure && !n.double:
	case whole:
		b.WriteString("\r\nThe message is attached.\r\n")
	case n.item.Envelope.Ret == "FULL":
		b.WriteString("\r\nThe header of the message is attached; the whole is too large, or protected.\r\n")
	default:
		b.WriteString("\r\nThe header of the message is attached.\r\n")
	}
	return b.Bytes()
}

func (n *notice) until() time.Time { return n.item.Arrived.Add(n.d.cfg.MaxAge) }

// status is the part for programs (RFC 3464 §2).
func (n *notice) status(utf8 bool) []byte {
	var b bytes.Buffer
	field := func(name, value string) {
		if !utf8 {
			value = toASCII(value)
		}
		b.WriteString(fold(name + ": " + value))
	}
	field("Reporting-MTA", "dns; "+n.d.cfg.Hostname)
	if id := n.item.Envelope.EnvID; id != "" {
		field("Original-Envelope-Id", oneLine(id))
	}
	field("X-Queue-ID", n.item.ID)
	field("Arrival-Date", n.item.Arrived.Format(time.RFC1123Z))
	action := [...]string{queue.NoticeFailure: "failed", queue.NoticeDelay: "delayed", queue.NoticeSuccess: "relayed"}[n.kind]
	for _, t := range n.about {
		b.WriteString("\r\n")
		if t.r.ORcpt != "" {
			field("Original-Recipient", oneLine(unxtext(t.r.ORcpt)))
		}
		field("Final-Recipient", recipientField(t.r.Address, utf8))
		field("Action", action)
		field("Status", t.res.DSN)
		if t.res.Host != "" {
			field("Remote-MTA", "dns; "+t.res.Host)
		}
		switch {
		case t.res.Reply != "":
			field("Diagnostic-Code", "smtp; "+t.res.Reply)
		case t.res.Reason != "":
			field("Diagnostic-Code", "x-danepost; "+t.res.Reason)
		}
		field("Last-Attempt-Date", n.now.Format(time.RFC1123Z))
		if n.kind == queue.NoticeDelay && n.d.cfg.MaxAge > 0 {
			field("Will-Retry-Until", n.until().Format(time.RFC1123Z))
		}
	}
	return b.Bytes()
}

// recipientField is a typed address; one beyond ASCII is spelled so that it
// survives a 7-bit notice (RFC 6533 §3).
func recipientField(address string, utf8 bool) string {
	switch {
	case isASCII(address):
		return "rfc822; " + address
	case utf8:
		return "utf-8; " + address
	}
	var b strings.Builder
	for _, r := range address {
		if r < 0x80 && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return "utf-8; " + b.String()
}

// original is what is sent back: the whole message where the sender asked for
// it (RET=FULL) and it is small, else its header. nil: it cannot be read.
func (n *notice) original() (b []byte, whole bool) {
	env := &n.item.Envelope
	f, err := n.item.Open()
	if err != nil {
		return nil, false
	}
	defer f.Close()
	// RFC 8689 §5: the body of a message that needed protection stays here.
	whole = env.Ret == "FULL" && n.kind == queue.NoticeFailure && n.item.Size <= maxReturned && !env.RequireTLS
	b, err = io.ReadAll(io.LimitReader(f, maxReturned))
	if err != nil {
		return nil, false
	}
	if whole {
		return b, true
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		b = b[:i+2]
	} else if i := bytes.LastIndex(b, []byte("\r\n")); i >= 0 {
		b = b[:i+2]
	}
	return b, false
}

// boundary is a line that the original does not contain.
func (n *notice) boundary(original []byte) string {
	for i := 0; ; i++ {
		s := fmt.Sprintf("=_%s.%d.%d", n.item.ID, n.now.Unix(), i)
		if !bytes.Contains(original, []byte(s)) {
			return s
		}
	}
}

// wrap sets words in lines of up to 76 characters, each behind indent.
func wrap(s, indent string) string {
	var b strings.Builder
	line := indent
	for _, w := range strings.Fields(oneLine(s)) {
		if line != indent && len(line)+1+len(w) > 76 {
			b.WriteString(line + "\r\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += w
	}
	b.WriteString(line + "\r\n")
	return b.String()
}

// fold breaks a header field at spaces (RFC 5322 §2.2.3).
func fold(s string) string {
	head, rest, _ := strings.Cut(s, ": ")
	lines := wrap(head+": "+rest, " ")
	return strings.TrimPrefix(lines, " ")
}

// toASCII replaces what a 7-bit status part cannot hold.
func toASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "…", "..."))
}

// unxtext decodes RFC 3461 §4's xtext; what is not xtext stays as it is.
func unxtext(s string) string {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || !isXtext(addr) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(addr); i++ {
		if addr[i] == '+' {
			var c byte
			fmt.Sscanf(addr[i+1:i+3], "%X", &c)
			b.WriteByte(c)
			i += 2
		} else {
			b.WriteByte(addr[i])
		}
	}
	return kind + ";" + b.String()
}
