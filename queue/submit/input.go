package submit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// dotReader ends a message at a line that holds a lone dot, as sendmail does
// without -i. A dot at the end of the input without a line break counts.
type dotReader struct {
	r     *bufio.Reader
	rest  []byte // read and not yet handed out
	bol   bool   // the next byte begins a line
	ended bool
}

// NewDotReader wraps the standard input of a sendmail without -i.
func NewDotReader(r io.Reader) io.Reader {
	return &dotReader{r: bufio.NewReaderSize(r, 32<<10), bol: true}
}

func (d *dotReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.ended {
			return 0, io.EOF
		}
		if d.bol && d.loneDot() {
			d.ended = true
			return 0, io.EOF
		}
		line, err := d.r.ReadSlice('\n')
		d.rest = line
		d.bol = err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			d.ended = true
			if len(line) == 0 || !errors.Is(err, io.EOF) {
				return 0, err
			}
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// loneDot looks at the beginning of a line. A program that writes slowly and
// line by line is not waited for longer than the line takes.
func (d *dotReader) loneDot() bool {
	if b, err := d.r.Peek(1); err != nil || b[0] != '.' {
		return false
	}
	b, err := d.r.Peek(2)
	if err != nil {
		return len(b) == 1
	}
	if b[1] == '\n' {
		return true
	}
	if b[1] != '\r' {
		return false
	}
	b, _ = d.r.Peek(3)
	return bytes.Equal(b, []byte(".\r\n")) || bytes.Equal(b, []byte(".\r"))
}

// lineEnds reads the SMTP dialogue of a program that ends its lines with LF
// alone, as many a shell script does. Its first line shows which kind it is,
// and then all of them are: what one who speaks CRLF writes stays as it is.
type lineEnds struct {
	r     io.Reader
	known bool // the first line has ended
	alone bool // with LF alone
	prev  byte
	rest  []byte // read and not yet handed out
	err   error
}

func (l *lineEnds) Read(p []byte) (int, error) {
	for len(l.rest) == 0 && l.err == nil {
		var buf [4096]byte
		var n int
		n, l.err = l.r.Read(buf[:])
		for _, c := range buf[:n] {
			if c == '\n' && !l.known {
				l.known, l.alone = true, l.prev != '\r'
			}
			if c == '\n' && l.alone && l.prev != '\r' {
				l.rest = append(l.rest, '\r')
			}
			l.rest, l.prev = append(l.rest, c), c
		}
	}
	if len(l.rest) == 0 {
		return 0, l.err
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
