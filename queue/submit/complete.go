package submit

import (
	"fmt"
	"io"
	"net/mail"
	"strings"
	"time"

	"danepost/queue"
)

// complete makes the header fit to leave the host: what must not be seen is
// removed, addresses are completed and rewritten, what is missing is added.
func (g *Gate) complete(m *message, env *queue.Envelope, r *Request, src Source) error {
	h := &m.header
	hops := 0
	for _, f := range h.fields {
		if f.name == "received" {
			hops++
		}
	}
	if hops > maxHops {
		return dataf("the message passed %d hosts already: it is going in circles", hops)
	}
	resent := h.isResent()
	h.remove(unwanted())
	for i := range h.fields {
		g.rewriteField(&h.fields[i], src)
	}
	g.addMissing(h, env, r, src, resent)
	return nil
}

// unwanted selects the fields that never leave: blind copies and what only a
// mailbox may carry. Of several From fields the first stays: two make a
// message that receivers refuse (RFC 5322 §3.6).
func unwanted() func(field) bool {
	from := 0
	return func(f field) bool {
		switch f.name {
		case "bcc", "resent-bcc", "return-path", "content-length":
			return true
		case "from":
			if strings.Trim(f.text(), " \t<>") == "" {
				return true
			}
			from++
			return from > 1
		}
		return false
	}
}

// rewriteField completes the addresses in a field of addresses, and forces
// the one in From where the configuration says so. A field that cannot be
// read stays as it is.
func (g *Gate) rewriteField(f *field, src Source) {
	switch strings.TrimPrefix(f.name, "resent-") {
	case "from", "sender", "reply-to", "to", "cc":
	default:
		return
	}
	isFrom := f.name == "from"
	value := f.value()
	boxes, err := ParseRecipients(value)
	if err != nil || len(boxes) == 0 {
		if to := rewrite(g.RewriteFrom, src.User, Mailbox{}); isFrom && to != "" {
			f.setValue(" " + oneLine(to) + "\r\n")
		}
		return
	}
	changed := false
	for i := len(boxes) - 1; i >= 0; i-- {
		m := boxes[i]
		text := g.rewriteBox(m, value[m.start:m.end], isFrom, src)
		if text != value[m.start:m.end] {
			value = value[:m.start] + text + value[m.end:]
			changed = true
		}
	}
	if changed {
		f.setValue(value)
	}
}

// rewriteBox is what should stand in place of the address text.
func (g *Gate) rewriteBox(m Mailbox, text string, isFrom bool, src Source) string {
	q := g.qualify(m)
	if isFrom {
		if to := rewrite(g.RewriteFrom, src.User, q); to != "" {
			return oneLine(to)
		}
	}
	// A domain in U-labels would make the whole message need SMTPUTF8; one
	// beside a UTF-8 local part needs it anyway and stays readable.
	if q.Domain != m.Domain || !isASCII(text) && isASCII(m.Local) {
		return q.String()
	}
	return text
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// isResent reports whether the message is one that somebody passes on (RFC
// 5322 §3.6.6).
func (h *header) isResent() bool {
	return h.has("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc", "resent-date", "resent-message-id")
}

// addMissing adds what RFC 5322 §3.6 and RFC 5321 §4.4 want and the caller
// left out, for the message and for the resending of one.
func (g *Gate) addMissing(h *header, env *queue.Envelope, r *Request, src Source, resent bool) {
	now := g.now()
	env.DateUnset = !g.clockSet()
	prefixes := []string{""}
	if resent {
		prefixes = []string{"Resent-", ""}
	}
	for _, p := range prefixes {
		lower := strings.ToLower(p)
		if !h.has(lower+"date") && !env.DateUnset {
			h.add(false, p+"Date", now.Format(time.RFC1123Z))
		}
		if !h.has(lower + "message-id") {
			h.add(false, p+"Message-ID", g.messageID())
		}
		if !h.has(lower + "from") {
			h.add(false, p+"From", g.author(r, src))
		}
	}
	env.ID = g.queue.NewID()
	if !env.DateUnset {
		h.add(true, "Received", g.received(env, src, now))
	}
}

// author is the value of a From field made for the caller.
func (g *Gate) author(r *Request, src Source) string {
	m := Mailbox{Local: src.User}
	if r.Sender != nil {
		if given, err := ParseSender(*r.Sender); err == nil && given.Local != "" {
			m = given
		}
	}
	if m.Local == "" {
		m.Local = "postmaster" // a bounce over SMTP that came without From
	}
	m = g.qualify(m)
	address := m.String()
	if to := rewrite(g.RewriteFrom, src.User, m); to != "" {
		address = oneLine(to)
	}
	name := oneLine(r.FullName)
	if name == "" {
		name = oneLine(src.Gecos)
	}
	if name == "" || !strings.Contains(address, "@") {
		return address
	}
	if len(name) > 200 {
		name = name[:200]
	}
	// net/mail quotes or encodes the name as it needs.
	named := (&mail.Address{Name: strings.ToValidUTF8(name, "?"), Address: "x@y"}).String()
	return strings.TrimSuffix(named, "<x@y>") + "<" + address + ">"
}

// received is the trace line of this hop (RFC 5321 §4.4).
func (g *Gate) received(env *queue.Envelope, src Source, now time.Time) string {
	date := now.Format(time.RFC1123Z)
	host := g.Hostname
	if host == "" {
		host = "localhost"
	}
	if src.ReceivedFrom == "" {
		return fmt.Sprintf("by %s (danepost, from userid %d)\r\n\tid %s; %s", host, src.UID, env.ID, date)
	}
	with := src.ReceivedWith
	if env.SMTPUTF8 {
		with = "UTF8" + strings.TrimPrefix(with, "E") // RFC 6531 §4.3
	}
	return fmt.Sprintf("%s\r\n\tby %s (danepost) with %s id %s;\r\n\t%s", src.ReceivedFrom, host, with, env.ID, date)
}

// reader is the finished message, its lines short enough for SMTP.
func (m *message) reader(env *queue.Envelope) (io.Reader, error) {
	body, err := m.body.open()
	if err != nil {
		return nil, err
	}
	eight := m.body.eight
	if m.body.longest > maxLine {
		s, err := surveyLines(body, &m.header)
		if err != nil {
			return nil, err
		}
		if body, err = m.body.open(); err != nil {
			return nil, err
		}
		body = shortenLines(body, &m.header, s, eight)
		eight = s.eightLeft
	}
	head := &m.desk.head
	m.header.write(head)
	if eight || !isASCII(head.Bytes()) {
		env.Body = "8BITMIME"
	}
	head.WriteString("\r\n")
	return io.MultiReader(head, body), nil
}
