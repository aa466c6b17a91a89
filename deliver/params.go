package deliver

import (
	"fmt"
	"strconv"
	"strings"
)

// prepare works out the parameters of MAIL, and what the receiver lacks for
// this message. Recipients that it can never take are settled and left out.
func (t *transaction) prepare() (params string, refusal *failure) {
	env, ext, c := &t.a.item.Envelope, t.s.ext, t.a.content
	var b strings.Builder
	if ext.has("SIZE") {
		if limit, err := strconv.ParseInt(ext["SIZE"], 10, 64); err == nil && limit > 0 && c.size > limit {
			// RFC 1870 §6.1; a limit of 0 is none (§4).
			return "", never("5.3.4", "the message has %d bytes, the receiver takes %d", c.size, limit)
		}
		fmt.Fprintf(&b, " SIZE=%d", c.size)
	}
	if f := t.eightBit(&b); f != nil {
		return "", f
	}
	if f := t.international(&b); f != nil {
		return "", f
	}
	if ext.has("DSN") { // RFC 3461 §4.3, §4.4
		if env.Ret != "" {
			b.WriteString(" RET=" + env.Ret)
		}
		if env.EnvID != "" {
			b.WriteString(" ENVID=" + xtext(env.EnvID))
		}
	}
	if t.s.plan.requireTLS {
		b.WriteString(" REQUIRETLS") // RFC 8689 §2
	}
	return b.String(), nil
}

// eightBit: content beyond ASCII goes as it is to receivers that take it, and
// is re-encoded for others (RFC 6152 §3).
func (t *transaction) eightBit(b *strings.Builder) *failure {
	env, c := &t.a.item.Envelope, t.a.content
	if t.s.ext.has("8BITMIME") && env.Body == "8BITMIME" {
		b.WriteString(" BODY=8BITMIME")
		return nil
	}
	if env.Body == "7BIT" && t.s.ext.has("8BITMIME") {
		return nil
	}
	found, err := c.scan()
	switch {
	case err != nil:
		return later("4.3.0", "the message could not be read from the queue: %v", err)
	case !found.body && !found.header:
		return nil
	case t.s.ext.has("8BITMIME"):
		b.WriteString(" BODY=8BITMIME")
		return nil
	}
	src, err := c.rewind()
	if err == nil {
		t.need, err = plan7Bit(src)
	}
	if err != nil {
		return never("5.6.3", "the receiver takes 7-bit mail only, and the message cannot be re-encoded: %v", err)
	}
	t.convert = true
	return nil
}

// international: addresses or header fields beyond ASCII need SMTPUTF8
// (RFC 6531 §3.4).
func (t *transaction) international(b *strings.Builder) *failure {
	env := &t.a.item.Envelope
	all := !isASCII(env.Sender)
	if env.SMTPUTF8 && !all {
		found, err := t.a.content.scan()
		if err != nil {
			return later("4.3.0", "the message could not be read from the queue: %v", err)
		}
		all = found.header
	}
	some := all
	for _, r := range t.rcpts {
		some = some || !isASCII(r.Address)
	}
	switch {
	case !some:
		return nil
	case t.s.ext.has("SMTPUTF8"):
		b.WriteString(" SMTPUTF8")
		return nil
	}
	f := never("5.6.7", "the receiver does not take internationalized addresses (SMTPUTF8)")
	if all {
		return f
	}
	var plain []*recipient
	for _, r := range t.rcpts {
		if isASCII(r.Address) {
			plain = append(plain, r)
		} else {
			t.a.settle(r, t.place(), f)
		}
	}
	t.rcpts = plain
	return nil
}

// rcptParams are the parameters of RCPT (RFC 3461 §4.1, §4.2).
func (t *transaction) rcptParams(r *recipient) string {
	if !t.s.ext.has("DSN") {
		return ""
	}
	s := ""
	if r.Notify != "" {
		s += " NOTIFY=" + r.Notify
	}
	if kind, addr, ok := strings.Cut(r.ORcpt, ";"); ok {
		if !isXtext(addr) {
			addr = xtext(addr)
		}
		s += " ORCPT=" + kind + ";" + addr
	}
	return s
}

// xtext encodes as RFC 3461 §4 does.
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > 32 && c < 127 && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

func isXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]) {
				return false
			}
			i += 2
		case c <= 32 || c >= 127 || c == '=':
			return false
		}
	}
	return true
}

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }
