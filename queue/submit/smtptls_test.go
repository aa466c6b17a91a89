package submit

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestUnderTLS: what is taken in the clear is taken under TLS as well, and
// nothing that was said in the clear counts any more.
func TestUnderTLS(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	c := listen(t, &SMTP{Submit: gate.Accept, TLS: testTLS(t), MaxSize: 8 << 20}, "127.0.0.1")()
	c.reply()
	if r := c.cmd("EHLO x"); !strings.Contains(r, "250-STARTTLS\r\n") || strings.Contains(r, "REQUIRETLS") {
		t.Errorf("in the clear: %s", r)
	}
	c.cmd("MAIL FROM:<before@example.org>")
	c.cmd("RCPT TO:<before@example.net>")
	c.startTLS()
	for _, early := range []string{"MAIL FROM:<a@example.org>", "DATA", "AUTH PLAIN x"} {
		if r := c.cmd(early); !strings.HasPrefix(r, "503 5.5.1") {
			t.Errorf("%s before EHLO: %s", early, r)
		}
	}
	if r := c.cmd("EHLO y"); strings.Contains(r, "STARTTLS") || !strings.Contains(r, "250-REQUIRETLS\r\n") {
		t.Errorf("under TLS: %s", r)
	}
	if r := c.cmd("STARTTLS"); !strings.HasPrefix(r, "502 5.5.1") {
		t.Errorf("TLS in TLS: %s", r)
	}
	if r := c.cmd("DATA"); !strings.HasPrefix(r, "502") {
		t.Errorf("the transaction in the clear goes on: %s", r)
	}
	long := strings.Repeat("x", 20<<10)
	for _, line := range []string{"MAIL FROM:<alice>", "RCPT TO:<root>", "DATA", "Subject: x\r\n\r\n" + long + "\r\n."} {
		if r := c.cmd(line); r == "" || r[0] > '3' {
			t.Errorf("%.40s: %s", line, r)
		}
	}
	m := q.last(t)
	if m.env.Sender != "alice@host.example.com" || addresses(m.env) != "admin@example.net" {
		t.Errorf("envelope %+v", m.env)
	}
	if !strings.Contains(m.body, "from y ([") || !strings.Contains(m.body, "with ESMTPS id "+m.id+";") {
		t.Errorf("trace: %.200q", m.body)
	}
}

// TestStartTLSInjection: what a stranger puts behind STARTTLS in the clear is
// not obeyed under TLS.
func TestStartTLSInjection(t *testing.T) {
	gate, q := testGate(t, testPolicy(t))
	var log lockedBuffer
	dial := listen(t, &SMTP{Submit: gate.Accept, TLS: testTLS(t), Log: slog.New(slog.NewTextHandler(&log, nil))}, "127.0.0.1")
	c := dial()
	c.reply()
	c.cmd("EHLO x")
	io.WriteString(c.c, "STARTTLS\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n\r\nx\r\n.\r\n")
	c.reply()
	tc := tls.Client(c.c, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	tc.SetDeadline(time.Now().Add(5 * time.Second))
	if err := tc.Handshake(); err == nil {
		t.Error("the handshake went over bytes that were sent before it")
	}
	if len(q.all()) > 0 {
		t.Error("the injected message was taken")
	}

	// A client that does not get through the handshake is told nothing in
	// the clear, and the log says why.
	c = dial()
	c.reply()
	c.cmd("EHLO x")
	c.cmd("STARTTLS")
	if r := c.cmd("MAIL FROM:<a@example.org>"); strings.Contains(r, "421") || strings.Contains(r, "250") {
		t.Errorf("instead of a handshake: %q", r)
	}
	for range 100 {
		if strings.Contains(log.String(), "TLS handshake") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := log.String(); !strings.Contains(s, "TLS handshake") || !strings.Contains(s, "behind STARTTLS") {
		t.Errorf("log: %s", s)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
