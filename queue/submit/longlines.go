package submit

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
)

// Lines over 998 bytes cannot be sent (RFC 5321 §4.5.3.1.6), and a message
// with such lines is not refused: sendmail's callers do not know the limit.
// A first walk finds the parts with long lines, a second rewrites them, so
// that nothing but the current line's piece is in memory.

// survey is what the first walk found, by part.
type survey struct {
	long      map[int]bool
	eightLeft bool // 8-bit text will be left when the long parts are encoded
}

func surveyLines(r io.Reader, top *header) (survey, error) {
	s := survey{long: map[int]bool{}}
	eight := map[int]bool{}
	qp := map[int]bool{}
	w := newWalker(r, top)
	length := 0
	for {
		p, err := w.step()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
		qp[p.part] = p.enc == toQP
		if p.header != nil {
			length = 0
			continue
		}
		if p.bol {
			length = 0
		}
		length += len(p.data)
		if p.eol {
			length -= len("\r\n")
		}
		if length > maxLine {
			s.long[p.part] = true
		}
		if !isASCII(p.data) {
			eight[p.part] = true
		}
	}
	for part := range eight {
		if !s.long[part] || !qp[part] {
			s.eightLeft = true
		}
	}
	return s, nil
}

// shortenLines returns body with no line over maxLine. top is changed where
// the whole message is one part.
func shortenLines(body io.Reader, top *header, s survey, eight bool) io.Reader {
	l := &lineFixer{w: newWalker(body, top), survey: s}
	if s.long[l.w.part] && l.w.enc == toQP {
		markQP(top)
		if !top.has("mime-version") {
			top.add(false, "MIME-Version", "1.0")
		}
		if !top.has("content-type") {
			charset := "us-ascii"
			if eight {
				charset = "utf-8"
			}
			top.add(false, "Content-Type", "text/plain; charset="+charset)
		}
	}
	return l
}

// markQP says in a part's header that it is quoted-printable now.
func markQP(h *header) {
	h.remove(func(f field) bool { return f.name == "content-transfer-encoding" })
	h.add(false, "Content-Transfer-Encoding", "quoted-printable")
}

type lineFixer struct {
	w      *walker
	survey survey
	out    bytes.Buffer
	qp     *quotedprintable.Writer // open while a part is encoded
	qpPart int
	column int    // bytes written on the current line
	before string // the last of them
	ended  bool
}

func (l *lineFixer) Read(p []byte) (int, error) {
	for l.out.Len() == 0 {
		if l.ended {
			return 0, io.EOF
		}
		if err := l.fix(); err != nil {
			return 0, err
		}
	}
	return l.out.Read(p)
}

func (l *lineFixer) fix() error {
	p, err := l.w.step()
	l.ended = errors.Is(err, io.EOF)
	if err != nil && !l.ended {
		return err
	}
	if l.qp != nil && (l.ended || p.part != l.qpPart) {
		if err := l.qp.Close(); err != nil {
			return err
		}
		l.qp = nil
	}
	if l.ended {
		return nil
	}
	long := l.survey.long[p.part]
	switch {
	case p.header != nil:
		if long && p.enc == toQP {
			markQP(p.header)
		}
		p.header.write(&l.out)
		l.out.WriteString("\r\n")
		l.column = 0
	case !long:
		l.out.Write(p.data)
	case p.enc == toQP:
		if l.qp == nil {
			l.qp, l.qpPart = quotedprintable.NewWriter(&l.out), p.part
		}
		_, err := l.qp.Write(p.data)
		return err
	default:
		l.wrap(p)
	}
	return nil
}

// wrap breaks the lines of a part that stays in its encoding.
func (l *lineFixer) wrap(p piece) {
	breaks := map[encoding]string{wrapFold: "\r\n ", wrapBase64: "\r\n", wrapQP: "=\r\n"}[p.enc]
	if p.bol {
		l.column, l.before = 0, ""
	}
	data, end := p.data, []byte(nil)
	if p.eol {
		data, end = bytes.TrimSuffix(data, []byte("\r\n")), []byte("\r\n")
	}
	for room := maxLine - slack - l.column; len(data) > room; room = maxLine - slack - l.column {
		at := breakPoint(l.before, data, room, p.enc)
		l.put(data[:at])
		data = data[at:]
		if len(data) == 0 {
			break
		}
		l.out.WriteString(breaks)
		l.column = len(breaks) - 1 - strings.LastIndexByte(breaks, '\n')
	}
	l.put(data)
	l.out.Write(end)
}

func (l *lineFixer) put(data []byte) {
	l.out.Write(data)
	l.column += len(data)
	if len(data) > 0 {
		l.before = string(data[max(0, len(data)-2):])
	}
}

// slack is what a line may grow beyond a break point to keep together what
// must not be parted, with room for the "=" of a soft line break.
const slack = 5

// breakPoint is where to cut data at or before room, or a little behind it:
// not inside a UTF-8 sequence, nor inside =XX of quoted-printable. before is
// what stands in front of data on its line.
func breakPoint(before string, data []byte, room int, enc encoding) int {
	at := max(room, 0)
	if enc != wrapQP {
		for i := 0; i < 3 && at < len(data) && data[at]&0xC0 == 0x80; i++ {
			at++
		}
		return at
	}
	for i := 1; i <= 2; i++ {
		c := byte(0)
		switch {
		case at-i >= 0:
			c = data[at-i]
		case len(before)+at-i >= 0:
			c = before[len(before)+at-i]
		}
		if c == '=' {
			return min(at+3-i, len(data))
		}
	}
	return at
}
