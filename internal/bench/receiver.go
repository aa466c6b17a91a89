package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Received is what the receiver counted.
type Received struct {
	Messages, Plain            int64 // all, and those without TLS
	Connections, Open, MaxOpen int64
	Handshakes, Resumed        int64 // Resumed are among the Handshakes
	Failed                     int64 // handshakes that failed
	LastNano                   int64 // when the last message was accepted, Unix time
}

// receiver is the SMTP server of all domains: STARTTLS with one certificate,
// and every message is taken and thrown away.
type receiver struct {
	tls *tls.Config

	messages, plain, connections, open, maxOpen, handshakes, resumed, failed, last atomic.Int64
}

// runReceiver serves SMTP on port 25 of all addresses and its counters on the
// Unix socket, until it is killed.
func runReceiver(certificate, socket string) error {
	pair, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return err
	}
	r := &receiver{tls: &tls.Config{Certificates: []tls.Certificate{pair}}}
	ln, err := net.Listen("tcp", "0.0.0.0:25")
	if err != nil {
		return err
	}
	os.Remove(socket) // of a receiver that was killed
	control, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := control.Accept()
			if err != nil {
				return
			}
			json.NewEncoder(c).Encode(r.counted())
			c.Close()
		}
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go r.serve(c)
	}
}

func (r *receiver) counted() Received {
	return Received{
		Messages: r.messages.Load(), Plain: r.plain.Load(), Connections: r.connections.Load(), Open: r.open.Load(), MaxOpen: r.maxOpen.Load(),
		Handshakes: r.handshakes.Load(), Resumed: r.resumed.Load(), Failed: r.failed.Load(), LastNano: r.last.Load(),
	}
}

func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	r.connections.Add(1)
	if n := r.open.Add(1); n > r.maxOpen.Load() {
		r.maxOpen.Store(n)
	}
	defer r.open.Add(-1)
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	s := &smtpSession{receiver: r}
	s.use(c)
	s.say("220 mx.bench ESMTP")
	for s.step() {
	}
}

type smtpSession struct {
	receiver *receiver
	conn     net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	secure   bool
}

func (s *smtpSession) use(c net.Conn) {
	s.conn, s.r, s.w = c, bufio.NewReaderSize(c, 16<<10), bufio.NewWriter(c)
}

// say answers; replies to commands that came together leave together.
func (s *smtpSession) say(reply string) bool {
	s.w.WriteString(reply + "\r\n")
	return s.r.Buffered() > 0 || s.w.Flush() == nil
}

// step handles one command and reports whether to go on.
func (s *smtpSession) step() bool {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return false
	}
	verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
	switch {
	case verb == "EHLO":
		offers := []string{"mx.bench", "PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8"}
		if !s.secure {
			offers = append(offers, "STARTTLS")
		}
		for _, o := range offers[:len(offers)-1] {
			s.w.WriteString("250-" + o + "\r\n")
		}
		return s.say("250 " + offers[len(offers)-1])
	case verb == "STARTTLS" && !s.secure:
		return s.say("220 go ahead") && s.handshake()
	case verb == "DATA":
		return s.say("354 go ahead") && s.data() == nil && s.say("250 2.0.0 taken")
	case verb == "QUIT":
		s.say("221 2.0.0 bye")
		return false
	}
	return s.say("250 2.0.0 ok")
}

func (s *smtpSession) handshake() bool {
	t := tls.Server(s.conn, s.receiver.tls)
	if err := t.Handshake(); err != nil {
		s.receiver.failed.Add(1)
		fmt.Println("handshake:", err)
		return false
	}
	s.receiver.handshakes.Add(1)
	if t.ConnectionState().DidResume {
		s.receiver.resumed.Add(1)
	}
	s.use(t)
	s.secure = true
	return true
}

// data reads up to the line with the dot alone.
func (s *smtpSession) data() error {
	for whole := true; ; {
		line, err := s.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if whole && bytes.Equal(line, []byte(".\r\n")) {
			break
		}
		whole = err == nil
	}
	s.receiver.messages.Add(1)
	if !s.secure {
		s.receiver.plain.Add(1)
	}
	s.receiver.last.Store(time.Now().UnixNano())
	return nil
}

// startReceiver starts the receiver as a process of its own.
func (l *lab) startReceiver() (*daemon, error) {
	socket := l.receiverSocket()
	d, err := start(l.scratch, "receiver", l.self, roleReceiver, l.world.path("receiver.pem"), socket)
	if err != nil {
		return nil, err
	}
	err = d.await(10*time.Second, func() bool { _, err := l.received(); return err == nil })
	return d, err
}

func (l *lab) receiverSocket() string { return filepath.Join(l.scratch, "receiver.ctl") }

// received asks the receiver for its counters.
func (l *lab) received() (Received, error) {
	var n Received
	c, err := net.Dial("unix", l.receiverSocket())
	if err != nil {
		return n, err
	}
	defer c.Close()
	data, err := io.ReadAll(c)
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

// awaitMessages waits until the receiver has had n messages.
func (l *lab) awaitMessages(n int, limit time.Duration) (Received, error) {
	var got Received
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var err error
		if got, err = l.received(); err != nil {
			return got, err
		}
		if got.Messages >= int64(n) {
			return got, nil
		}
	}
	return got, fmt.Errorf("the receiver has %d of %d messages after %v", got.Messages, n, limit)
}
