package submit

import (
	"bufio"
	"bytes"
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
// process.
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

// fill reads the body from r to its end: CRLF, bare LF and bare CR all become
// CRLF, and a last line without an end gets one. NUL is refused, and so is a
// body that makes the message larger than limit bytes (0: no limit).
func (s *spool) fill(r io.Reader, limit int64) error {
	in := make([]byte, 8<<10)
	out := make([]byte, 0, 2*len(in)) // a bare CR becomes two bytes
	line, cr := 0, 0                  // length of the current line, CRs seen at its end
	endLine := func() {
		out = append(out, '\r', '\n')
		s.longest = max(s.longest, line)
		line, cr = 0, 0
	}
	for {
		n, err := r.Read(in)
		for _, c := range in[:n] {
			switch {
			case c == 0:
				return errNUL()
			case c == '\n':
				endLine() // however many CRs stood before it
				continue
			case c == '\r':
				cr++
				continue
			case cr > 0:
				endLine()
			}
			if c >= 0x80 {
				s.eight = true
			}
			out = append(out, c)
			line++
		}
		if err != nil && (line > 0 || cr > 0) && errors.Is(err, io.EOF) {
			endLine()
		}
		if werr := s.write(out); werr != nil {
			return werr
		}
		out = out[:0]
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

func errTooLarge(limit int64) error {
	return &Error{Code: ExitDataErr, Err: queue.ErrTooLarge,
		Text: fmt.Sprintf("the limit is %d MB (max_message_mb under [queue])", limit>>20)}
}
