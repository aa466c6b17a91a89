package submit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"danepost/queue"
)

// spoolMemory is how much of a body is kept in memory before a file takes it.
const spoolMemory = 128 << 10

// spool holds a body while it is checked: normalised to CRLF line ends, in
// memory when small, else in a file without a name, which dies with the
// process. The zero value with a dir is ready.
type spool struct {
	dir     string
	discard bool // only check and measure
	mem     bytes.Buffer
	file    *os.File
	w       *bufio.Writer
	size    int64
	longest int  // the longest line without its CRLF
	eight   bool // a byte above 127 was seen
}

func (s *spool) write(p []byte) error {
	s.size += int64(len(p))
	if s.discard {
		return nil
	}
	if s.file == nil && s.mem.Len()+len(p) <= spoolMemory {
		s.mem.Write(p)
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "spool-")
		if err != nil {
			return &Error{Code: ExitTempFail, Text: "cannot make a temporary file for the message", Err: err}
		}
		if err := os.Remove(f.Name()); err != nil {
			f.Close()
			return &Error{Code: ExitTempFail, Text: "cannot make a temporary file for the message", Err: err}
		}
		s.file, s.w = f, bufio.NewWriterSize(f, 64<<10)
		if _, err := s.w.Write(s.mem.Bytes()); err != nil {
			return tempf(err, "cannot store the message")
		}
		s.mem = bytes.Buffer{}
	}
	if _, err := s.w.Write(p); err != nil {
		return tempf(err, "cannot store the message")
	}
	return nil
}

// open reads the body from its start. One reader at a time.
func (s *spool) open() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.mem.Bytes()), nil
	}
	if err := s.w.Flush(); err != nil {
		return nil, tempf(err, "cannot store the message")
	}
	return io.NewSectionReader(s.file, 0, s.size), nil
}

// Close frees what the spool holds.
func (s *spool) Close() {
	if s.file != nil {
		s.file.Close()
	}
}

// reset makes a closed spool ready for another body, in the same memory.
func (s *spool) reset() {
	s.mem.Reset()
	*s = spool{mem: s.mem}
}

// fill reads the body from r to its end: CRLF, bare LF and bare CR all become
// CRLF, and a last line without an end gets one. NUL is refused, and so is a
// body that makes the message larger than limit bytes (0: no limit).
func (s *spool) fill(r io.Reader, limit int64, with *fillBuffers) error {
	l := lines{out: with.out[:0]}
	for {
		n, err := r.Read(with.in)
		if perr := l.pass(with.in[:n]); perr != nil {
			return perr
		}
		if errors.Is(err, io.EOF) && (l.length > 0 || l.cr) {
			l.end()
		}
		if werr := s.write(l.out); werr != nil {
			return werr
		}
		s.longest, s.eight = max(s.longest, l.longest), s.eight || l.eight
		l.out = l.out[:0]
		if limit > 0 && s.size > limit {
			return errTooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fillBuffers are what fill works with. They may be used again.
type fillBuffers struct{ in, out []byte }

func newFillBuffers() *fillBuffers {
	in := make([]byte, 8<<10)
	return &fillBuffers{in, make([]byte, 0, 2*len(in)+2)} // a CR alone becomes two bytes
}

// isASCIIBody is isASCII, eight bytes at a time.
func isASCIIBody(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.NativeEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
	}
	return isASCII(b)
}

// lines makes every line end CRLF.
type lines struct {
	out     []byte
	length  int // of the current line
	longest int
	cr      bool // CRs were seen, and what they end is open
	eight   bool
}

func (l *lines) end() {
	l.out = append(l.out, '\r', '\n')
	l.longest = max(l.longest, l.length)
	l.length, l.cr = 0, false
}

// pass takes in some bytes of the body.
func (l *lines) pass(b []byte) error {
	if bytes.IndexByte(b, 0) >= 0 {
		return errNUL()
	}
	l.eight = l.eight || !isASCIIBody(b)
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		for len(line) > 0 {
			if line[0] == '\r' {
				l.cr, line = true, line[1:]
				continue
			}
			if l.cr {
				l.end()
			}
			run, _, _ := bytes.Cut(line, []byte{'\r'})
			l.out = append(l.out, run...)
			l.length += len(run)
			line = line[len(run):]
		}
		if ended {
			l.end() // however many CRs stood before it
		}
		b = rest
	}
	return nil
}

func errTooLarge(limit int64) error {
	return &Error{Code: ExitDataErr, Err: queue.ErrTooLarge,
		Text: fmt.Sprintf("the limit is %d MB (max_message_mb under [queue])", limit>>20)}
}
