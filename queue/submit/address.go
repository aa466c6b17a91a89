package submit

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits on what an address list may hold. The lengths are RFC 5321 §4.5.3.1
// with room for the local parts that list managers write.
const (
	maxAddress     = 320
	maxDomain      = 253
	maxCommentNest = 32
)

// Mailbox is an address as the grammar gives it: quotes, comments, routes and
// display name taken off. Local is the bytes of the local part, case kept;
// Domain is ASCII (A-labels, or a literal in brackets), "" when there was
// none.
type Mailbox struct {
	Local, Domain string

	// start and end enclose the addr-spec in the text that was parsed, for
	// rewriting it in place.
	start, end int
}

// String is the address as SMTP writes it, the local part quoted when it must
// be. The zero Mailbox is the null sender, "".
func (m Mailbox) String() string {
	if m.Local == "" && m.Domain == "" {
		return ""
	}
	local := m.Local
	if !isDotString(local) {
		local = quoteLocal(local)
	}
	if m.Domain == "" {
		return local
	}
	return local + "@" + m.Domain
}

// IsUTF8 reports whether the address can only travel with SMTPUTF8 (RFC 6531).
func (m Mailbox) IsUTF8() bool { return !isASCII(m.Local) }

// ParseRecipients reads an address list as users write it: mailboxes, names
// with bracketed addresses, groups, nested comments, quoted local parts,
// source routes, unqualified names. The whole list is refused when one member
// cannot be read, as a mail to half of the readers is a mail lost. net/mail
// is not used: it refuses unqualified names, unquoted dots and at-signs in
// display names, and says nothing about where an address stood.
func ParseRecipients(list string) ([]Mailbox, error) {
	p := addressParser{text: list}
	return p.list()
}

// ParseSender reads a reverse-path: one address, or "" or "<>" for the null
// sender.
func ParseSender(text string) (Mailbox, error) {
	trimmed := strings.Trim(text, " \t")
	if trimmed == "" || trimmed == "<>" {
		return Mailbox{}, nil
	}
	boxes, err := ParseRecipients(text)
	if err != nil {
		return Mailbox{}, err
	}
	if len(boxes) != 1 {
		return Mailbox{}, dataf("sender %q is not one address", clip(text))
	}
	return boxes[0], nil
}

// parsePath makes a Mailbox of an address whose parts a protocol has already
// separated, the local part unquoted (the SMTP server's way in).
func parsePath(local, domain string, hasDomain bool) (Mailbox, error) {
	m := Mailbox{Local: local}
	if err := checkLocal(local); err != nil {
		return Mailbox{}, err
	}
	if hasDomain {
		d, err := ASCIIDomain(domain)
		if err != nil {
			return Mailbox{}, err
		}
		m.Domain = d
	}
	if len(m.String()) > maxAddress {
		return Mailbox{}, dataf("address %q is longer than %d bytes", clip(local), maxAddress)
	}
	return m, nil
}

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokAtom
	tokQuoted
	tokLiteral
	tokSpecial // one of < > , ; : @ .
)

type token struct {
	kind       tokenKind
	text       string // unquoted; a special's one character
	start, end int
}

func (t token) is(c string) bool { return t.kind == tokSpecial && t.text == c }

type addressParser struct {
	text string
	pos  int
}

func (p *addressParser) fail(why string) error {
	return dataf("cannot read the address list %q: %s", clip(strings.TrimSpace(p.text)), why)
}

// list reads everything: members end at a comma, a semicolon (the end of a
// group, and a separator in lists typed by hand) or the end of the text.
func (p *addressParser) list() ([]Mailbox, error) {
	var boxes []Mailbox
	inGroup := false
	var room [8]token // most have fewer
	words := room[:0] // of the member being read, before any bracket
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch {
		case t.is("<"):
			m, null, err := p.angle()
			if err != nil {
				return nil, err
			}
			if err := p.endOfMember(); err != nil {
				return nil, err
			}
			if !null {
				boxes = append(boxes, m)
			}
			words = words[:0]
		case t.is(":"):
			// RFC 5322 §3.4: what stood before the colon names a group.
			if inGroup || len(words) == 0 || hasSpecial(words, "@") {
				return nil, p.fail("a colon stands where no group begins")
			}
			inGroup, words = true, words[:0]
		case t.is(","), t.is(";"), t.kind == tokEnd:
			if len(words) > 0 {
				m, err := p.bare(words)
				if err != nil {
					return nil, err
				}
				boxes, words = append(boxes, m), words[:0]
			}
			if t.is(";") {
				inGroup = false
			}
			if t.kind == tokEnd {
				// A group that was never closed is read as if it were.
				return boxes, nil
			}
		case t.is(">"):
			return nil, p.fail("a > without its <")
		default:
			words = append(words, t)
		}
	}
}

// angle reads the rest of <route:addr-spec>; null reports "<>".
func (p *addressParser) angle() (m Mailbox, null bool, err error) {
	var room [8]token
	words := room[:0]
	for {
		t, err := p.next()
		if err != nil {
			return Mailbox{}, false, err
		}
		switch {
		case t.is(">"):
			if len(words) == 0 {
				return Mailbox{}, true, nil
			}
			m, err := p.bare(words)
			return m, false, err
		case t.is(":"):
			// RFC 5321 §4.1.2: a source route ("@a,@b:") is read and dropped.
			if len(words) == 0 || !words[0].is("@") {
				return Mailbox{}, false, p.fail("a colon inside < > that ends no route")
			}
			words = words[:0]
		case t.is(",") && len(words) > 0 && words[0].is("@"):
			words = append(words, t)
		case t.is(","), t.is(";"), t.is("<"), t.kind == tokEnd:
			return Mailbox{}, false, p.fail("a < without its >")
		default:
			words = append(words, t)
		}
	}
}

// endOfMember checks that nothing but a separator follows a bracketed address.
func (p *addressParser) endOfMember() error {
	at := p.pos
	t, err := p.next()
	if err != nil {
		return err
	}
	if t.kind != tokEnd && !t.is(",") && !t.is(";") {
		return p.fail("text follows the address in < >")
	}
	p.pos = at
	return nil
}

// bare reads words as local-part ["@" domain].
func (p *addressParser) bare(words []token) (Mailbox, error) {
	at := len(words)
	for i, t := range words {
		if t.is("@") {
			at = i
			break
		}
	}
	local, err := p.dotted(words[:at])
	if err != nil {
		return Mailbox{}, err
	}
	if err := checkLocal(local); err != nil {
		return Mailbox{}, err
	}
	m := Mailbox{Local: local, start: words[0].start, end: words[len(words)-1].end}
	if at < len(words) {
		m.Domain, err = p.domain(words[at+1:])
		if err != nil {
			return Mailbox{}, err
		}
	}
	if len(m.String()) > maxAddress {
		return Mailbox{}, p.fail("an address is longer than 320 bytes")
	}
	return m, nil
}

// dotted joins the words of a local part. Two words side by side are a name
// without an address. Dots may stand anywhere, as some old mobile networks
// gave out such names; String quotes them.
func (p *addressParser) dotted(words []token) (string, error) {
	var b strings.Builder
	wasWord := false
	for _, t := range words {
		word := t.kind == tokAtom || t.kind == tokQuoted
		if !word && !t.is(".") {
			return "", p.fail("unexpected " + t.text + " in an address")
		}
		if word && wasWord {
			return "", p.fail("words without an address in < >")
		}
		wasWord = word
		b.WriteString(t.text)
	}
	if b.Len() == 0 {
		return "", p.fail("an address without a local part")
	}
	return b.String(), nil
}

func (p *addressParser) domain(words []token) (string, error) {
	var b strings.Builder
	for i, t := range words {
		switch {
		case t.kind == tokLiteral && len(words) == 1:
			return ASCIIDomain("[" + t.text + "]")
		case t.kind == tokAtom && (i == 0 || words[i-1].is(".")), t.is("."):
			b.WriteString(t.text)
		default:
			return "", p.fail("a domain that is none")
		}
	}
	return ASCIIDomain(b.String())
}

// next is the next token, white space and comments skipped.
func (p *addressParser) next() (token, error) {
	if err := p.skip(); err != nil {
		return token{}, err
	}
	if p.pos >= len(p.text) {
		return token{kind: tokEnd, start: p.pos, end: p.pos}, nil
	}
	start := p.pos
	switch c := p.text[p.pos]; {
	case strings.IndexByte("<>,;:@.", c) >= 0:
		p.pos++
		return token{tokSpecial, string(c), start, p.pos}, nil
	case c == '"':
		text, err := p.enclosed('"')
		return token{tokQuoted, text, start, p.pos}, err
	case c == '[':
		text, err := p.enclosed(']')
		return token{tokLiteral, text, start, p.pos}, err
	case c == ')' || c == ']' || c == '\\':
		return token{}, p.fail("unexpected " + string(c))
	}
	for p.pos < len(p.text) && isAtomByte(p.text[p.pos]) {
		p.pos++
	}
	if p.pos == start {
		return token{}, p.fail("a control character")
	}
	return token{tokAtom, p.text[start:p.pos], start, p.pos}, nil
}

// enclosed reads a quoted string or a domain literal up to its closing byte.
func (p *addressParser) enclosed(closing byte) (string, error) {
	var b strings.Builder
	for p.pos++; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		switch {
		case c == closing:
			p.pos++
			return b.String(), nil
		case c == '\\' && p.pos+1 < len(p.text):
			p.pos++
			b.WriteByte(p.text[p.pos])
		case c == '\r' || c == '\n':
			// Folding inside quotes: only the line break goes (RFC 5322 §3.2.4).
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("a quote or bracket is never closed")
}

// skip passes white space, line breaks of folding, and comments.
func (p *addressParser) skip() error {
	depth := 0
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '(':
			if depth++; depth > maxCommentNest {
				return p.fail("comments nested too deep")
			}
		case depth > 0 && c == '\\':
			p.pos++
		case depth > 0 && c == ')':
			depth--
		case depth > 0:
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		default:
			return nil
		}
	}
	if depth > 0 {
		return p.fail("a comment is never closed")
	}
	return nil
}

func hasSpecial(words []token, c string) bool {
	for _, t := range words {
		if t.is(c) {
			return true
		}
	}
	return false
}

// isAtomByte accepts atext of RFC 5322 §3.2.3, bytes of UTF-8, and nothing
// that has a meaning of its own.
func isAtomByte(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>[]:;@\,."`, c) < 0
}

// isDotString reports whether local may stand unquoted (RFC 5321 §4.1.2).
func isDotString(local string) bool {
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			if !isAtomByte(atom[i]) {
				return false
			}
		}
	}
	return true
}

func quoteLocal(local string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// checkLocal refuses bytes that no envelope may carry: they could end an SMTP
// command or a header line.
func checkLocal(local string) error {
	if local == "" {
		return dataf("an address has no local part")
	}
	if !utf8.ValidString(local) {
		return dataf("local part %q is not UTF-8", clip(local))
	}
	for i := 0; i < len(local); i++ {
		if local[i] < ' ' || local[i] == 0x7f {
			return dataf("local part %q holds a control character", clip(local))
		}
	}
	return nil
}

// ASCIIDomain checks a domain and returns it in A-labels, as DNS and SMTP
// carry it (RFC 5891). One dot at the end is dropped; case is kept.
func ASCIIDomain(d string) (string, error) {
	if strings.HasPrefix(d, "[") {
		return addressLiteral(d)
	}
	d = strings.TrimSuffix(d, ".")
	if !utf8.ValidString(d) {
		return "", dataf("domain %q is not UTF-8", clip(d))
	}
	if !isASCII(d) {
		a, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(d)
		if err != nil {
			return "", dataf("domain %q is no internationalised domain name", clip(d))
		}
		d = a
	}
	if d == "" || len(d) > maxDomain {
		return "", dataf("domain %q is empty or longer than %d bytes", clip(d), maxDomain)
	}
	for label := range strings.SplitSeq(d, ".") {
		if label == "" || len(label) > 63 {
			return "", dataf("domain %q has an empty or too long label", clip(d))
		}
		for i := 0; i < len(label); i++ {
			if !isLabelByte(label[i]) {
				return "", dataf("domain %q holds the character %q", clip(d), label[i])
			}
		}
	}
	return d, nil
}

// isLabelByte is letters, digits and hyphen (RFC 5321 §2.3.5), and the
// underscore, which real hosts have in their names.
func isLabelByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// addressLiteral checks [192.0.2.1] and [IPv6:2001:db8::1] (RFC 5321 §4.1.3).
func addressLiteral(d string) (string, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(d, "["), "]")
	bare, is6 := text, false
	if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
		bare, is6 = text[5:], true
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Is6() != is6 || ip.Zone() != "" {
		return "", dataf("%q is no address literal", clip(d))
	}
	return "[" + text + "]", nil
}

func isASCII[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clip shortens untrusted text for a diagnostic.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
