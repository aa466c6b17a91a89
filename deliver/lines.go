package deliver

import (
	"bufio"
	"bytes"
	"io"
)

// lineWriter puts content on the wire as SMTP wants it, whatever the queue
// holds: every line ends in CRLF and no CR or LF stands alone, so that no two
// receivers can disagree where the message ends (RFC 5321 §2.3.8); no line is
// longer than 998 bytes; with stuff, leading dots are doubled (RFC 5321
// §4.5.2). Errors stick in w and come out at its Flush.
type lineWriter struct {
	w     *bufio.Writer
	stuff bool
	col   int  // bytes of the current line written so far
	cr    bool // a CR was read and its line is not ended yet
}

// Write never fails; see the type.
func (l *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if l.cr {
			if p[0] == '\n' {
				p = p[1:]
			}
			l.endLine()
			continue
		}
		text := p
		lf := bytes.IndexByte(p, '\n')
		if lf >= 0 {
			text = p[:lf]
		}
		if cr := bytes.IndexByte(text, '\r'); cr >= 0 {
			l.text(text[:cr])
			l.cr, p = true, p[cr+1:]
			continue
		}
		l.text(text)
		p = p[len(text):]
		if lf >= 0 {
			l.endLine()
			p = p[1:]
		}
	}
	return n, nil
}

// text writes bytes without line ends. A line that is too long is broken; the
// space that then starts the next one keeps a header a header.
func (l *lineWriter) text(b []byte) {
	for len(b) > 0 {
		if l.col == 0 && l.stuff && b[0] == '.' {
			l.w.WriteByte('.')
		}
		n := min(len(b), maxLine-l.col)
		l.w.Write(b[:n])
		l.col += n
		b = b[n:]
		if len(b) > 0 {
			l.endLine()
			l.w.WriteByte(' ')
			l.col = 1
		}
	}
}

func (l *lineWriter) endLine() {
	l.w.WriteString("\r\n")
	l.col, l.cr = 0, false
}

// finish ends the last line.
func (l *lineWriter) finish() {
	if l.cr || l.col > 0 {
		l.endLine()
	}
}

// copyLines runs content through a lineWriter. Most messages are short, so the
// buffer is smaller than io.Copy's.
func copyLines(w *bufio.Writer, r io.Reader, stuff bool) error {
	l := &lineWriter{w: w, stuff: stuff}
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Read(buf)
		l.Write(buf[:n])
		if err == io.EOF {
			l.finish()
			return nil
		}
		if err != nil {
			return err
		}
	}
}
