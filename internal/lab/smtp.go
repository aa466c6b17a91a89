package lab

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// session is one connection to a receiver.
type session struct {
	r    *Receiver
	n    int
	conn net.Conn
	in   *bufio.Reader
	tls  *tls.ConnectionState
	mail bool // MAIL was taken
	msg  Message
	bdat strings.Builder
}

const maxMessage = 64 << 20

func (r *Receiver) serve(c net.Conn) {
	r.mu.Lock()
	r.sessions++
	s := &session{r: r, n: r.sessions, conn: c, in: bufio.NewReader(c)}
	r.mu.Unlock()
	if !s.say(r.reply(s.step("CONNECT", ""))) {
		return
	}
	for {
		line, err := s.readLine()
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(line, " ")
		if !s.do(strings.ToUpper(verb), strings.TrimSpace(arg)) {
			return
		}
	}
}

func (s *session) step(verb, arg string) Step {
	return Step{Session: s.n, Verb: verb, Arg: arg, TLS: s.tls != nil}
}

// say sends a reply; false ends the session.
func (s *session) say(r Reply) bool {
	if r.After > 0 {
		select {
		case <-time.After(r.After):
		case <-s.r.lab.closing:
		}
	}
	if r.Code == 0 {
		return false
	}
	lines := strings.Split(r.Text, "\n")
	var b strings.Builder
	for i, l := range lines {
		sep := '-'
		if i == len(lines)-1 {
			sep = ' '
		}
		fmt.Fprintf(&b, "%d%c%s\r\n", r.Code, sep, l)
	}
	_, err := io.WriteString(s.conn, b.String()+r.Then)
	return err == nil && r.Code != 421
}

func (s *session) readLine() (string, error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return "", errors.New("bare LF") // nothing of ours sends one
	}
	return string(line[:len(line)-2]), nil
}

// do answers one command; false ends the session.
func (s *session) do(verb, arg string) bool {
	if verb == "BDAT" {
		return s.chunk(arg)
	}
	r := s.r.reply(s.step(verb, arg))
	if bad := s.sequence(verb); r.Code/100 <= 3 && r.Code != 0 && bad != "" {
		return s.say(Reply{Code: 503, Text: "5.5.1 " + bad})
	}
	if !s.say(r) {
		return false
	}
	if r.Code/100 > 3 {
		return true
	}
	switch verb {
	case "EHLO", "HELO":
		s.reset()
		s.msg.Helo = arg
	case "STARTTLS":
		return s.startTLS()
	case "MAIL":
		s.reset()
		s.mail = true
		s.msg.From = s.path(arg)
	case "RCPT":
		s.msg.To = append(s.msg.To, s.path(arg))
	case "DATA":
		return s.data()
	case "RSET":
		s.reset()
	case "QUIT":
		return false
	}
	return true
}

// sequence says what is out of order about a command (RFC 5321 §4.1.4).
func (s *session) sequence(verb string) string {
	switch {
	case verb == "MAIL" && s.msg.Helo == "":
		return "EHLO first"
	case verb == "RCPT" && !s.mail:
		return "MAIL first"
	case verb == "DATA" && len(s.msg.To) == 0:
		return "no valid recipients"
	}
	return ""
}

func (s *session) reset() {
	s.mail = false
	s.msg = Message{Helo: s.msg.Helo}
	s.bdat.Reset()
}

// path cuts "FROM:<a@b> X=Y" into the address and the parameters.
func (s *session) path(arg string) string {
	_, rest, _ := strings.Cut(arg, ":")
	rest = strings.TrimPrefix(strings.TrimSpace(rest), "<")
	end := strings.LastIndexByte(rest, '>')
	if end < 0 {
		return rest
	}
	s.msg.Params = append(s.msg.Params, strings.Fields(rest[end+1:])...)
	return rest[:end]
}

func (s *session) startTLS() bool {
	if s.in.Buffered() > 0 {
		return false // plaintext behind STARTTLS is an injection (RFC 3207 §4.2)
	}
	c := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{s.r.id.Certificate()}, MinVersion: tls.VersionTLS12})
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the handshake finds out
	if c.Handshake() != nil {
		return false
	}
	c.SetDeadline(time.Time{}) //nolint:errcheck // the next read finds out
	state := c.ConnectionState()
	s.conn, s.in, s.tls = c, bufio.NewReader(c), &state
	s.msg = Message{}
	s.mail = false
	return true
}

// data reads up to the lone dot (RFC 5321 §4.5.2) and keeps the message if
// the Responder takes it.
func (s *session) data() bool {
	var b strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil || b.Len() > maxMessage {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return s.taken(b.String())
}

// chunk is BDAT (RFC 3030 §2).
func (s *session) chunk(arg string) bool {
	size, last, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > maxMessage || s.bdat.Len()+n > maxMessage {
		return false
	}
	if _, err := io.CopyN(&s.bdat, s.in, int64(n)); err != nil {
		return false
	}
	if len(s.msg.To) == 0 {
		return s.say(Reply{Code: 503, Text: "5.5.1 no valid recipients"})
	}
	if !strings.EqualFold(last, "LAST") {
		return s.say(s.r.reply(s.step("BDAT", arg)))
	}
	return s.taken(s.bdat.String())
}

func (s *session) taken(data string) bool {
	s.msg.Data, s.msg.TLS, s.msg.At = data, s.tls, time.Now()
	r := s.r.reply(s.step("BODY", ""))
	if r.Code/100 == 2 {
		s.r.keep(s.msg)
	}
	s.reset()
	return s.say(r)
}
