package submit

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxCommand  = 4096 // bytes of an SMTP command line, AUTH responses included
	unqualified = "."  // stands in for the domain that a path does not have
)

// lineConn is the plain connection below the SMTP server library. The library
// knows one limit for lines of commands and of content, one deadline for a
// whole message, and no address without a domain; this layer bounds commands,
// lets content lines be of any length, renews the deadline with each read,
// and gives `RCPT TO:<root>`, which programs on the host do send, a domain
// that the session takes off again. To do the same under TLS it answers
// STARTTLS itself: the library only ever sees the text.
//
// It never decides where a message ends; the library does that, and a message
// that it sees differently only has its lines handed on unchanged.
type lineConn struct {
	net.Conn
	r    *bufio.Reader
	idle time.Duration // longest wait for a byte; 0: forever
	rest []byte        // read and not handed on yet

	tls    *tls.Config // what STARTTLS begins; nil: it is the library's to refuse
	secure atomic.Bool // TLS has begun
	fresh  bool        // and since then nobody said EHLO
	mute   bool        // the client can be told nothing more: TLS did not begin

	state lineState
	chunk int64 // bytes left of a BDAT chunk
	bol   bool  // in content: a line begins
}

type lineState uint8

const (
	inCommands lineState = iota
	inData               // between 354 and the final dot
	inChunk              // of BDAT
)

func newLineConn(c net.Conn, idle time.Duration) *lineConn {
	l := &lineConn{Conn: c, idle: idle}
	l.r = bufio.NewReaderSize(idleReader{c, idle}, 8<<10)
	return l
}

// idleReader renews the deadline with each read.
type idleReader struct {
	c    net.Conn
	idle time.Duration
}

func (r idleReader) Read(p []byte) (int, error) {
	if r.idle > 0 {
		if err := r.c.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
			return 0, err
		}
	}
	return r.c.Read(p)
}

// SetReadDeadline does nothing: the library would limit a whole message.
func (l *lineConn) SetReadDeadline(time.Time) error { return nil }

// Write watches the replies that change what is read next.
func (l *lineConn) Write(p []byte) (int, error) {
	if l.mute {
		return len(p), nil
	}
	if l.state != inCommands {
		return l.Conn.Write(p)
	}
	if bytes.HasPrefix(p, []byte("354 ")) {
		l.state, l.bol = inData, true
	}
	out := bytes.ReplaceAll(p, []byte("@"+unqualified+">"), []byte(">"))
	if l.secure.Load() {
		// What may be asked for under TLS differs (RFC 3207 §4.2, RFC 8689 §2).
		out = bytes.Replace(out, []byte("250-STARTTLS\r\n"), []byte("250-REQUIRETLS\r\n"), 1)
	}
	if !bytes.Equal(out, p) {
		if _, err := l.Conn.Write(out); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *lineConn) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		var err error
		switch l.state {
		case inChunk:
			return l.readChunk(p)
		case inData:
			err = l.readData()
		default:
			err = l.readCommand()
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// readCommand hands on one line, so that a reply is written before the next
// command is looked at.
func (l *lineConn) readCommand() error {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxCommand {
		return fmt.Errorf("a command line is longer than %d bytes", maxCommand)
	}
	if len(line) == 0 {
		return err
	}
	if own, err := l.secureCommand(line); own || err != nil {
		return err
	}
	l.rest = completePath(bytes.Clone(line))
	if n, ok := chunkSize(line); ok {
		l.chunk, l.state = n, inChunk
		if n == 0 {
			l.state = inCommands
		}
	}
	return nil
}

// secureCommand answers the commands that are about TLS, and says whether it
// did. After the handshake the client begins anew: until it says EHLO, the
// library must not act on what it heard before (RFC 3207 §4.2).
func (l *lineConn) secureCommand(line []byte) (own bool, err error) {
	if l.tls == nil {
		return false, nil
	}
	command := strings.ToUpper(string(line))
	verb, _, _ := strings.Cut(strings.TrimRight(command, "\r\n"), " ")
	switch {
	case !strings.HasPrefix(command, "STARTTLS"):
	case l.secure.Load():
		return true, l.reply("502 5.5.1 TLS has begun already")
	case l.r.Buffered() > 0:
		// Sent in the clear, it would be obeyed under TLS.
		err := l.reply("501 5.5.4 nothing may follow STARTTLS before its reply")
		l.mute = true
		return true, errors.Join(errors.New("commands were sent behind STARTTLS"), err)
	default:
		return true, l.startTLS()
	}
	switch verb {
	case "EHLO", "HELO":
		l.fresh = false
	case "QUIT", "NOOP", "RSET":
	default:
		if l.fresh {
			return true, l.reply("503 5.5.1 say EHLO again, now that TLS has begun")
		}
	}
	return false, nil
}

func (l *lineConn) reply(line string) error {
	_, err := io.WriteString(l.Conn, line+"\r\n")
	return err
}

// startTLS puts TLS between this layer and the client.
func (l *lineConn) startTLS() error {
	if err := l.reply("220 2.0.0 ready to start TLS"); err != nil {
		return err
	}
	under := tls.Server(l.Conn, l.tls)
	l.Conn.SetDeadline(time.Now().Add(smtpHandshake))
	if err := under.Handshake(); err != nil {
		l.mute = true
		return fmt.Errorf("TLS handshake: %w", err)
	}
	l.Conn.SetDeadline(time.Time{})
	l.Conn = under
	l.r.Reset(idleReader{under, l.idle})
	l.secure.Store(true)
	l.fresh = true
	return nil
}

// readData hands on a line of content, or a piece of a long one.
func (l *lineConn) readData() error {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
		if line[len(line)-1] == '\r' {
			line, err = line[:len(line)-1], l.r.UnreadByte()
		}
	}
	if len(line) == 0 && err != nil {
		return err
	}
	bol := l.bol
	l.bol = bytes.HasSuffix(line, []byte("\r\n"))
	text := bytes.TrimRight(line, "\r\n")
	switch {
	case bol && string(line) == ".\r\n":
		l.state = inCommands
	case bol && string(text) == ".":
		l.bol = false // ".\r\r\n" ends nothing, and what follows begins no line
	case l.bol && len(line) > len(text)+2:
		// The library would not see the line's end behind a second CR, and
		// wait for a dot that has come.
		line = append(text, "\r\n"...)
	}
	l.rest = line
	return nil
}

func (l *lineConn) readChunk(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(int64(len(p)), l.chunk)])
	if l.chunk -= int64(n); l.chunk <= 0 {
		l.state = inCommands
	}
	return n, err
}

// chunkSize reads a BDAT command (RFC 3030 §2) as the library will.
func chunkSize(line []byte) (int64, bool) {
	part := strings.Fields(string(line))
	if len(part) < 2 || len(part) > 3 || !strings.EqualFold(part[0], "BDAT") || len(part) == 3 && !strings.EqualFold(part[2], "LAST") {
		return 0, false
	}
	n, err := strconv.ParseUint(part[1], 10, 32)
	return int64(n), err == nil
}

// completePath gives a path without a domain one that the library accepts.
func completePath(line []byte) []byte {
	verb, rest, ok := bytes.Cut(line, []byte(":"))
	v := strings.ToUpper(strings.Join(strings.Fields(string(verb)), " "))
	if !ok || v != "RCPT TO" && v != "MAIL FROM" {
		return line
	}
	rest = bytes.TrimLeft(rest, " \t")
	var path, tail []byte
	if after, bracket := bytes.CutPrefix(rest, []byte("<")); bracket {
		if path, tail, ok = bytes.Cut(after, []byte(">")); !ok {
			return line
		}
	} else {
		end := bytes.IndexAny(rest, " \t\r\n")
		if end < 0 {
			return line
		}
		path, tail = rest[:end], rest[end:]
	}
	if len(path) == 0 || bytes.ContainsAny(path, "@\" \t") {
		return line
	}
	return fmt.Appendf(nil, "%s:<%s@%s>%s", verb, path, unqualified, tail)
}

// stdioConn makes a connection of standard input and output.
type stdioConn struct {
	io.Reader
	io.Writer
	closed chan struct{}
}

type stdioAddr struct{}

func (stdioAddr) Network() string { return "stdio" }
func (stdioAddr) String() string  { return "stdio" }

// Close ends the session, once; the streams stay their owner's.
func (c *stdioConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

func (c *stdioConn) Read(p []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
		return c.Reader.Read(p)
	}
}

func (c *stdioConn) LocalAddr() net.Addr              { return stdioAddr{} }
func (c *stdioConn) RemoteAddr() net.Addr             { return stdioAddr{} }
func (c *stdioConn) SetDeadline(time.Time) error      { return nil }
func (c *stdioConn) SetReadDeadline(time.Time) error  { return nil }
func (c *stdioConn) SetWriteDeadline(time.Time) error { return nil }

// oneListener serves a single connection.
type oneListener struct {
	conn net.Conn
	next chan net.Conn
	done <-chan struct{}
}

func newOneListener(c net.Conn, done <-chan struct{}) *oneListener {
	l := &oneListener{conn: c, next: make(chan net.Conn, 1), done: done}
	l.next <- c
	return l
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneListener) Close() error   { return l.conn.Close() }
func (l *oneListener) Addr() net.Addr { return stdioAddr{} }
