package deliver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// wire is one connection seen as SMTP: lines out, replies in, each with a
// deadline. It is used by one goroutine at a time.
type wire struct {
	conn  net.Conn
	br    *bufio.Reader
	bw    *bufio.Writer
	end   time.Time // when all talk must be over, however slowly replies drip
	block time.Duration

	// failed: it is not known any more what the other side has read or will
	// say, so not even QUIT makes sense.
	failed bool
}

func newWire(conn net.Conn, d *Deliverer) *wire {
	w := &wire{block: d.cfg.Timeouts.Block}
	w.attach(conn)
	w.renew()
	return w
}

// attach continues on conn, which is the same one or TLS over it. Nothing
// that was read or written before is carried over.
func (w *wire) attach(conn net.Conn) {
	w.conn = conn
	if w.br == nil {
		w.br = bufio.NewReaderSize(conn, maxReplyLine)
		w.bw = bufio.NewWriterSize(blockWriter{w}, 16<<10)
		return
	}
	w.br.Reset(conn)
	w.bw.Reset(blockWriter{w})
}

// allow sets when all talk must be over. It asks the system's clock, because
// that, with its monotonic reading, is what deadlines are compared with.
func (w *wire) allow(d time.Duration) { w.end = time.Now().Add(d) }

// renew gives a new transaction its own time.
func (w *wire) renew() { w.allow(maxTalk) }

// blockWriter gives each write of a block a time of its own (RFC 5321
// §4.5.3.2.5), within the end of the talk.
type blockWriter struct{ w *wire }

func (b blockWriter) Write(p []byte) (int, error) {
	b.w.conn.SetWriteDeadline(b.w.deadline(b.w.block))
	n, err := b.w.conn.Write(p)
	b.w.failed = b.w.failed || err != nil
	return n, err
}

func (w *wire) deadline(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if t.After(w.end) {
		return w.end
	}
	return t
}

// send buffers one command line.
func (w *wire) send(line string) error {
	_, err := w.bw.WriteString(line)
	if err == nil {
		_, err = w.bw.WriteString("\r\n")
	}
	return err
}

// flush puts on the network what send has buffered.
func (w *wire) flush() error { return w.bw.Flush() }

// receive reads one reply. The time counts for the whole reply, so that a
// drip of bytes does not renew it.
func (w *wire) receive(timeout time.Duration) (reply, error) {
	w.conn.SetReadDeadline(w.deadline(timeout))
	r, err := readReply(w.br)
	w.failed = w.failed || err != nil
	return r, err
}

// command sends a line and reads its reply.
func (w *wire) command(timeout time.Duration, line string) (reply, error) {
	if err := w.send(line); err != nil {
		return reply{}, err
	}
	if err := w.flush(); err != nil {
		return reply{}, err
	}
	return w.receive(timeout)
}

// why puts a network error in words.
func why(err error) string {
	var alert tls.AlertError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return "the attempt was cut short"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &alert):
		return fmt.Sprintf("the other side ended TLS: %s", alert.Error())
	}
	return oneLine(err.Error())
}
