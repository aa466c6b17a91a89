package submit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

const (
	// maxHeader bounds the header section as read, in bytes.
	maxHeader = 100 << 10
	// maxLine is the longest line SMTP carries, without its CRLF (RFC 5321
	// §4.5.3.1.6).
	maxLine = 998
)

// field is one header field. raw is "Name: value" with its folding, every line
// ended by CRLF, free of NUL and bare CR or LF; name is in lower case.
type field struct {
	name string
	raw  []byte
}

// value is what stands behind the colon, folding and final CRLF included.
func (f field) value() string {
	_, v, _ := bytes.Cut(f.raw, []byte(":"))
	return string(v)
}

// text is the value on one line.
func (f field) text() string {
	return strings.TrimSpace(strings.ReplaceAll(f.value(), "\r\n", ""))
}

// setValue replaces the value; v must be clean of line breaks that are not
// folding.
func (f *field) setValue(v string) {
	name, _, _ := bytes.Cut(f.raw, []byte(":"))
	f.raw = append(append(bytes.Clone(name), ':'), v...)
}

// header is a message's header section.
type header struct {
	fields []field
}

func (h *header) has(names ...string) bool {
	for _, f := range h.fields {
		for _, n := range names {
			if f.name == n {
				return true
			}
		}
	}
	return false
}

// first is the value of the first field called name on one line, or "".
func (h *header) first(name string) string {
	for _, f := range h.fields {
		if f.name == name {
			return f.text()
		}
	}
	return ""
}

func (h *header) remove(drop func(field) bool) {
	kept := h.fields[:0]
	for _, f := range h.fields {
		if !drop(f) {
			kept = append(kept, f)
		}
	}
	h.fields = kept
}

// add puts a field at the end, or with top before all others. value is one
// line, or has its folding in it.
func (h *header) add(top bool, name, value string) {
	f := field{strings.ToLower(name), []byte(name + ": " + value + "\r\n")}
	if top {
		h.fields = append([]field{f}, h.fields...)
		return
	}
	h.fields = append(h.fields, f)
}

// write writes the header as it is sent, without the empty line: lines that
// are too long for SMTP folded.
func (h *header) write(b *bytes.Buffer) {
	for _, f := range h.fields {
		writeFolded(b, f.raw)
	}
}

// writeFolded writes CRLF-ended lines of a field, folding those over maxLine:
// at white space, which changes nothing (RFC 5322 §2.2.3), or, where there is
// none, in the middle of a word.
func writeFolded(b *bytes.Buffer, raw []byte) {
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
		raw = rest
		for len(line) > maxLine {
			at := bytes.LastIndexAny(line[1:maxLine], " \t") + 1
			// A fold that leaves only white space on the first line would end
			// the header for some readers.
			if at < 1 || len(bytes.TrimLeft(line[:at], " \t")) == 0 {
				at = foldPoint(line, maxLine)
			}
			b.Write(line[:at])
			b.WriteString("\r\n")
			line = line[at:]
			if line[0] != ' ' && line[0] != '\t' {
				line = append([]byte{' '}, line...)
			}
		}
		b.Write(line)
		b.WriteString("\r\n")
	}
}

// foldPoint is the largest cut at or below most that splits no UTF-8 sequence.
func foldPoint(line []byte, most int) int {
	for at := most; at > most-4 && at > 0; at-- {
		if line[at]&0xC0 != 0x80 {
			return at
		}
	}
	return most
}

// readHeader reads the header section from br and leaves br at the first byte
// of the body; lead is what it had to read of a body that follows without an
// empty line. Leading "From " lines of mailboxes are dropped. Errors are
// *Error with EX_DATAERR, or the reader's.
func readHeader(br *bufio.Reader) (h header, lead []byte, err error) {
	total := 0
	var cur []byte // the field being read
	flush := func() {
		if cur != nil {
			name, _, _ := bytes.Cut(cur, []byte(":"))
			h.fields = append(h.fields, field{strings.ToLower(string(bytes.TrimRight(name, " \t"))), cur})
			cur = nil
		}
	}
	for {
		part, readErr := br.ReadSlice('\n')
		if readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, bufio.ErrBufferFull) {
			return header{}, nil, readErr
		}
		kind := classify(part, cur != nil)
		if kind == lineMbox && len(h.fields) > 0 || kind == lineMbox && cur != nil {
			kind = lineBody
		}
		if kind == lineEmpty || kind == lineBody {
			flush()
			if kind == lineBody {
				lead = bytes.Clone(part)
			}
			return h, lead, nil
		}
		line := bytes.Clone(part)
		for errors.Is(readErr, bufio.ErrBufferFull) && total+len(line) <= maxHeader {
			part, readErr = br.ReadSlice('\n')
			line = append(line, part...)
		}
		if total += len(line); total > maxHeader {
			return header{}, nil, dataf("the message header is larger than %d KiB", maxHeader>>10)
		}
		if kind != lineMbox {
			line, err = cleanLine(line)
			if err != nil {
				return header{}, nil, err
			}
			switch {
			case kind == lineField:
				flush()
				cur = line
			case len(bytes.TrimSpace(line)) > 0: // a folded line of blanks says nothing
				cur = append(cur, line...)
			}
		}
		if readErr != nil {
			flush()
			if errors.Is(readErr, io.EOF) {
				readErr = nil
			}
			return h, nil, readErr
		}
	}
}

type lineKind uint8

const (
	lineBody  lineKind = iota // no header line: the body begins without an empty line
	lineEmpty                 // the empty line, or the end of the input
	lineField                 // the first line of a field
	lineFold                  // a continuation
	lineMbox                  // "From " or ">From " of a mailbox file
)

// classify tells what a line, or the beginning of a long one, is in a header.
func classify(line []byte, inField bool) lineKind {
	trimmed := bytes.TrimRight(line, "\r\n")
	switch {
	case len(trimmed) == 0:
		return lineEmpty
	case trimmed[0] == ' ' || trimmed[0] == '\t':
		if inField {
			return lineFold
		}
		return lineBody
	case bytes.HasPrefix(trimmed, []byte("From ")), bytes.HasPrefix(trimmed, []byte(">From ")):
		// "From : a@b" is a field in old syntax, not a mailbox line.
		if rest := bytes.TrimLeft(trimmed[5:], " \t"); trimmed[0] == 'F' && len(rest) > 0 && rest[0] == ':' {
			return lineField
		}
		return lineMbox
	}
	name, _, found := bytes.Cut(trimmed, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	if !found || len(name) == 0 {
		return lineBody
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return lineBody
		}
	}
	return lineField
}

// cleanLine ends a header line with CRLF. A bare CR becomes a space: made a
// line break it could begin a field of its own, such as a hidden Bcc.
func cleanLine(line []byte) ([]byte, error) {
	line = bytes.TrimRight(line, "\r\n")
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, errNUL()
	}
	for i, c := range line {
		if c == '\r' {
			line[i] = ' '
		}
	}
	return append(line, "\r\n"...), nil
}

func errNUL() error {
	return dataf("the message holds a NUL byte; encode binary data (base64)")
}
