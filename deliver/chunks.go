package deliver

import (
	"bufio"
	"fmt"
	"io"
)

// sendChunks sends the content with BDAT (RFC 3030 §2): its length goes ahead
// of it, so nothing in it can be taken for the end.
func (t *transaction) sendChunks() {
	w := &chunkWriter{t: t, buf: make([]byte, 0, min(int64(chunkSize), t.a.content.size+1024))}
	bw := bufio.NewWriterSize(w, 16<<10)
	err := t.withContent(func(src io.Reader) error {
		if err := copyLines(bw, src, false); err != nil {
			return err
		}
		return bw.Flush()
	})
	if err == nil {
		err = w.send(true)
	}
	for err == nil && w.refusal.code == 0 && w.unanswered > 1 {
		err = w.answer()
	}
	if w.refusal.code != 0 {
		// The chunks behind the refused one are still on their way; a new
		// connection is cheaper than their replies.
		t.broken = true
		t.outcome(w.refusal)
		return
	}
	t.conclude(err)
}

// chunkWriter collects chunks. Some are sent ahead of the replies to earlier
// ones where the receiver allows it.
type chunkWriter struct {
	t          *transaction
	buf        []byte
	unanswered int
	refusal    reply
}

var errRefused = fmt.Errorf("a chunk was refused")

func (c *chunkWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(c.buf) >= chunkSize {
			if err := c.send(false); err != nil {
				return 0, err
			}
		}
		k := min(len(p), chunkSize-len(c.buf))
		c.buf = append(c.buf, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

// send sends what is collected as one chunk.
func (c *chunkWriter) send(last bool) error {
	ahead := 0
	if c.t.s.ext.has("PIPELINING") {
		ahead = chunksUnanswered
	}
	for c.unanswered > ahead {
		if err := c.answer(); err != nil {
			return err
		}
	}
	word := ""
	if last {
		word = " LAST"
	}
	w := c.t.s.wire
	w.send(fmt.Sprintf("BDAT %d%s", len(c.buf), word))
	w.bw.Write(c.buf)
	c.buf = c.buf[:0]
	c.unanswered++
	if err := w.flush(); err != nil {
		return err
	}
	if ahead == 0 && !last {
		return c.answer()
	}
	return nil
}

// answer reads the reply to one chunk that is not the last.
func (c *chunkWriter) answer() error {
	rep, err := c.t.s.wire.receive(c.t.s.d.cfg.Timeouts.Dot)
	if err != nil {
		return err
	}
	c.unanswered--
	if rep.class() != 2 {
		c.refusal = rep
		return errRefused
	}
	return nil
}
