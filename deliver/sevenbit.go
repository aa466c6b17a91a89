package deliver

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// A message for a receiver without 8BITMIME is re-encoded (RFC 6152 §3): text
// parts that need it become quoted-printable, others base64, and free text in
// header fields encoded words (RFC 2047 §5). Both passes go line by line, so a
// message of any size takes little memory.

// plan7Bit finds out which leaf parts, counted in order, need re-encoding, or
// why the message cannot be re-encoded.
func plan7Bit(src io.Reader) ([]bool, error) {
	c := &downgrade{in: bufio.NewReaderSize(src, 32<<10), w: bufio.NewWriter(io.Discard), planning: true}
	err := c.entity(nil, 0)
	return c.need, err
}

// to7Bit re-encodes the parts that plan7Bit named.
func to7Bit(w *bufio.Writer, src io.Reader, need []bool) error {
	c := &downgrade{in: bufio.NewReaderSize(src, 32<<10), w: w, need: need}
	return c.entity(nil, 0)
}

// Why a message cannot be re-encoded.
var (
	errHeader8Bit = errors.New("a header field that is not free text has bytes beyond ASCII")
	errHeaderSize = errors.New("a header is too large")
	errDepth      = errors.New("its parts are nested too deep, or too many")
	errFixed      = errors.New("a part that must not be changed has bytes beyond ASCII")
)

// downgrade is one pass over a message.
type downgrade struct {
	in       *bufio.Reader
	w        *bufio.Writer
	planning bool
	need     []bool // by leaf part
	leaf     int    // parts seen
	signed   int    // depth inside multipart/signed and multipart/encrypted
	line     []byte // read ahead: the boundary that ended the last part
}

// next returns the next line, or piece of a very long one.
func (c *downgrade) next() ([]byte, error) {
	if c.line != nil {
		l := c.line
		c.line = nil
		return l, nil
	}
	l, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	if len(l) > 0 && err == io.EOF {
		err = nil
	}
	return l, err
}

// entity copies one MIME entity up to a line of one of boundaries, which is
// left to be read, or to the end of the message.
func (c *downgrade) entity(boundaries []string, depth int) error {
	if depth > maxMIMEDepth {
		return errDepth
	}
	fields, blank, err := c.header(boundaries)
	if err != nil {
		return err
	}
	h := readMIME(fields)
	h.top = depth == 0
	encode := ""
	if !h.container() {
		encode = c.encoding(h)
	}
	if err := c.writeHeader(fields, h, encode); err != nil {
		return err
	}
	if !blank {
		return nil
	}
	c.w.WriteString("\r\n")
	switch {
	case h.boundary != "":
		if h.sealed() {
			c.signed++
			defer func() { c.signed-- }()
		}
		return c.multipart(append(boundaries[:len(boundaries):len(boundaries)], h.boundary), depth)
	case h.message():
		return c.entity(boundaries, depth+1)
	}
	return c.body(boundaries, h, encode)
}

// encoding is the new encoding of a leaf part, "" to leave it.
func (c *downgrade) encoding(h mimeHeader) string {
	i := c.leaf
	c.leaf++
	switch {
	case c.planning || i >= len(c.need) || !c.need[i]:
		return ""
	case h.text():
		return "quoted-printable"
	}
	return "base64"
}

// header reads fields with their continuation lines, and whether a blank line
// followed.
func (c *downgrade) header(boundaries []string) (fields [][]byte, blank bool, err error) {
	size := 0
	for {
		l, err := c.next()
		if err == io.EOF {
			return fields, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		if isBoundary(l, boundaries) {
			c.line = bytes.Clone(l)
			return fields, false, nil
		}
		if size += len(l); size > maxHeader {
			return nil, false, errHeaderSize
		}
		text := bytes.TrimRight(l, "\r\n")
		switch {
		case len(text) == 0:
			return fields, true, nil
		case (l[0] == ' ' || l[0] == '\t') && len(fields) > 0:
			last := &fields[len(fields)-1]
			*last = append(append(*last, "\r\n"...), text...)
		default:
			fields = append(fields, bytes.Clone(text))
		}
	}
}

// writeHeader writes fields, the new encoding instead of the old one.
func (c *downgrade) writeHeader(fields [][]byte, h mimeHeader, encode string) error {
	wide := h.container() && (h.encoding == "8bit" || h.encoding == "binary")
	for _, f := range fields {
		name, value, _ := bytes.Cut(f, []byte(":"))
		if strings.EqualFold(string(bytes.TrimSpace(name)), "Content-Transfer-Encoding") && (encode != "" || wide) {
			continue
		}
		if beyondASCII(f) {
			if !freeText(string(bytes.TrimSpace(name))) || !utf8.Valid(value) || beyondASCII(name) {
				return errHeader8Bit
			}
			unfolded := strings.Join(strings.Fields(string(value)), " ")
			f = fmt.Appendf(nil, "%s: %s", name, strings.ReplaceAll(mime.QEncoding.Encode("utf-8", unfolded), "?= =?", "?=\r\n =?"))
		}
		c.w.Write(f)
		c.w.WriteString("\r\n")
	}
	if h.top && !h.versioned && slices.Contains(c.need, true) {
		c.w.WriteString("MIME-Version: 1.0\r\n")
	}
	if encode != "" {
		if !h.typed {
			c.w.WriteString("Content-Type: text/plain; charset=utf-8\r\n")
		}
		c.w.WriteString("Content-Transfer-Encoding: " + encode + "\r\n")
	}
	return nil
}

// freeText: fields in which encoded words may stand anywhere (RFC 2047 §5 (1)).
func freeText(name string) bool {
	name = strings.ToLower(name)
	return name == "subject" || name == "comments" || name == "content-description" || strings.HasPrefix(name, "x-")
}

// multipart copies parts; what stands before the first and behind the last
// one must be ASCII already.
func (c *downgrade) multipart(boundaries []string, depth int) error {
	own := boundaries[len(boundaries)-1]
	outer := boundaries[:len(boundaries)-1]
	for {
		l, err := c.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if isBoundary(l, outer) {
			c.line = bytes.Clone(l)
			return nil
		}
		if beyondASCII(l) {
			l = bytes.Map(questionMark, l) // nobody is meant to read this
		}
		c.w.Write(l)
		if isBoundary(l, []string{own}) && !bytes.HasPrefix(l, []byte("--"+own+"--")) {
			if err := c.entity(boundaries, depth+1); err != nil {
				return err
			}
		}
	}
}

func questionMark(r rune) rune {
	if r >= 0x80 {
		return '?'
	}
	return r
}

// body copies the body of a leaf part. The line end before a boundary belongs
// to the boundary.
func (c *downgrade) body(boundaries []string, h mimeHeader, encode string) error {
	wide := false
	e := newEncoder(c.w, encode)
	for {
		l, err := c.next()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || isBoundary(l, boundaries) {
			if err == nil {
				c.line = bytes.Clone(l)
			}
			e.close(err == nil)
			return c.note(h, wide)
		}
		wide = wide || beyondASCII(l)
		e.line(l)
	}
}

// note keeps, while planning, whether the leaf part just read needs
// re-encoding. A signature over it would not survive that (RFC 1847 §2.1), and
// what is encoded already, or a message/*, must be ASCII (RFC 2046 §5.2).
func (c *downgrade) note(h mimeHeader, wide bool) error {
	if !c.planning {
		return nil
	}
	if wide && (c.signed > 0 || h.encoded() || strings.HasPrefix(h.kind, "message/")) {
		return errFixed
	}
	if len(c.need) >= maxMIMEParts {
		return errDepth
	}
	c.need = append(c.need, wide)
	return nil
}

func isBoundary(l []byte, boundaries []string) bool {
	if !bytes.HasPrefix(l, []byte("--")) {
		return false
	}
	for _, b := range boundaries {
		rest, ok := bytes.CutPrefix(l[2:], []byte(b))
		rest = bytes.TrimPrefix(rest, []byte("--"))
		if ok && len(bytes.TrimSpace(rest)) == 0 {
			return true
		}
	}
	return false
}

// mimeHeader is what re-encoding needs to know of a header.
type mimeHeader struct {
	top       bool // of the message itself
	typed     bool // it has a Content-Type
	versioned bool // it has a MIME-Version
	kind      string
	boundary  string
	encoding  string
}

func (h mimeHeader) container() bool { return h.boundary != "" || h.message() }
func (h mimeHeader) message() bool   { return h.kind == "message/rfc822" }
func (h mimeHeader) text() bool      { return strings.HasPrefix(h.kind, "text/") }
func (h mimeHeader) encoded() bool   { return h.encoding == "quoted-printable" || h.encoding == "base64" }
func (h mimeHeader) sealed() bool {
	return h.kind == "multipart/signed" || h.kind == "multipart/encrypted"
}

func readMIME(fields [][]byte) mimeHeader {
	h := mimeHeader{kind: "text/plain"}
	for _, f := range fields {
		name, value, _ := strings.Cut(string(f), ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-type":
			h.typed = true
			kind, params, err := mime.ParseMediaType(strings.ReplaceAll(strings.TrimSpace(value), "\r\n", ""))
			if err != nil && kind == "" {
				kind = "application/octet-stream"
			}
			h.kind = kind
			if strings.HasPrefix(kind, "multipart/") {
				h.boundary = params["boundary"]
			}
		case "mime-version":
			h.versioned = true
		case "content-transfer-encoding":
			h.encoding = strings.ToLower(strings.TrimSpace(value))
		}
	}
	return h
}

// encoder writes the lines of a body in its new encoding.
type encoder struct {
	w      *bufio.Writer
	kind   string
	b64    io.WriteCloser
	held   []byte // line end that may belong to a boundary
	column int
}

func newEncoder(w *bufio.Writer, kind string) *encoder {
	e := &encoder{w: w, kind: kind}
	if kind == "base64" {
		e.b64 = base64.NewEncoder(base64.StdEncoding, &wrapper{w: w})
	}
	return e
}

// line takes one line with its end.
func (e *encoder) line(l []byte) {
	text := bytes.TrimRight(l, "\r\n")
	ended := len(text) < len(l)
	switch e.kind {
	case "base64":
		e.b64.Write(e.held)
		e.b64.Write(text)
	case "quoted-printable":
		e.w.Write(e.held)
		e.quoted(text, ended)
	default:
		e.w.Write(e.held)
		e.w.Write(text)
	}
	e.held = nil
	if ended {
		e.held = []byte("\r\n")
		e.column = 0
	}
}

// quoted writes text as quoted-printable (RFC 2045 §6.7).
func (e *encoder) quoted(text []byte, ended bool) {
	for i, b := range text {
		s := string(rune(b))
		blankAtEnd := (b == ' ' || b == '\t') && i == len(text)-1 && ended
		if b >= 0x7f || (b < ' ' && b != '\t') || b == '=' || blankAtEnd || (b == '.' && e.column == 0) {
			s = fmt.Sprintf("=%02X", b)
		}
		if e.column+len(s) > 75 {
			e.w.WriteString("=\r\n")
			e.column = 0
		}
		e.w.WriteString(s)
		e.column += len(s)
	}
}

func (e *encoder) close(boundary bool) {
	if e.b64 != nil {
		if !boundary {
			e.b64.Write(e.held)
		}
		e.b64.Close()
		e.w.WriteString("\r\n")
		return
	}
	e.w.Write(e.held)
	if e.held == nil && e.kind == "quoted-printable" && e.column > 0 {
		e.w.WriteString("\r\n")
	}
}

// wrapper breaks base64 into lines of 76 characters.
type wrapper struct {
	w      *bufio.Writer
	column int
}

func (x *wrapper) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if x.column == 76 {
			x.w.WriteString("\r\n")
			x.column = 0
		}
		k := min(len(p), 76-x.column)
		x.w.Write(p[:k])
		x.column += k
		p = p[k:]
	}
	return n, nil
}
