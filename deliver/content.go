package deliver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"danepost/queue"
)

// content is a message on its way out: what the queue holds, with the Date
// that was left out while the clock was unset. Used by one goroutine.
type content struct {
	src      io.ReadSeekCloser
	prefix   []byte // header fields put before src
	size     int64  // bytes, prefix included
	received int    // Received fields
	scanned  bool
	bits     bits
}

// bits is where a message has bytes beyond ASCII.
type bits struct{ header, body bool }

// openContent reads the header for what must be known before sending.
func openContent(item *queue.Item, hostname string, now time.Time) (*content, error) {
	src, err := item.Open()
	if err != nil {
		return nil, err
	}
	c := &content{src: src, size: item.Size}
	hasDate := false
	err = eachHeader(src, func(name string, _ []byte) {
		switch {
		case strings.EqualFold(name, "Received"):
			c.received++
		case strings.EqualFold(name, "Date"):
			hasDate = true
		}
	})
	if err != nil {
		src.Close()
		return nil, err
	}
	if item.Envelope.DateUnset {
		c.addDate(hasDate, hostname, item.ID, now)
	}
	return c, nil
}

// addDate adds what acceptance could not: it had no clock.
func (c *content) addDate(hasDate bool, hostname, id string, now time.Time) {
	date := now.Format(time.RFC1123Z)
	c.prefix = fmt.Appendf(nil, "Received: by %s id %s;\r\n\t%s\r\n", hostname, id, date)
	if !hasDate {
		c.prefix = fmt.Appendf(c.prefix, "Date: %s\r\n", date)
	}
	c.size += int64(len(c.prefix))
}

// rewind returns the message from its start.
func (c *content) rewind() (io.Reader, error) {
	if _, err := c.src.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if len(c.prefix) == 0 {
		return c.src, nil
	}
	return io.MultiReader(bytes.NewReader(c.prefix), c.src), nil
}

// scan finds out, once, where the message has bytes beyond ASCII.
func (c *content) scan() (bits, error) {
	if c.scanned {
		return c.bits, nil
	}
	r, err := c.rewind()
	if err != nil {
		return bits{}, err
	}
	br := bufio.NewReader(r)
	inHeader, lineStart := true, true
	for {
		line, err := br.ReadSlice('\n')
		if inHeader && lineStart && len(bytes.TrimRight(line, "\r\n")) == 0 {
			inHeader = false
		}
		if beyondASCII(line) {
			if inHeader {
				c.bits.header = true
			} else {
				c.bits.body = true
			}
		}
		lineStart = err == nil
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF:
			c.scanned = true
			return c.bits, nil
		default:
			return bits{}, err
		}
	}
}

func beyondASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// eachHeader calls f for every header field with its name and its raw bytes,
// continuation lines included. It looks at maxHeader bytes at most.
func eachHeader(r io.Reader, f func(name string, raw []byte)) error {
	br := bufio.NewReader(io.LimitReader(r, maxHeader))
	var field []byte
	flush := func() {
		if name, _, ok := bytes.Cut(field, []byte(":")); ok {
			f(string(bytes.TrimRight(name, " \t")), field)
		}
		field = nil
	}
	for {
		line, err := br.ReadBytes('\n')
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			flush()
			if err == io.EOF {
				err = nil
			}
			return err
		}
		if line[0] != ' ' && line[0] != '\t' {
			flush()
		}
		field = append(field, line...)
		if err == io.EOF {
			flush()
			return nil
		}
		if err != nil {
			return err
		}
	}
}
