package submit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestStdioLineEnds: a dialogue in LF alone is understood on standard input;
// in one that began with CRLF a lone LF ends neither line nor message.
func TestStdioLineEnds(t *testing.T) {
	const dialogue = "EHLO x\nMAIL FROM:<a@example.org>\nRCPT TO:<b@example.net>\nDATA\nSubject: x\n\n..dot\n\n.\nQUIT\n"
	replies, q := stdio(t, testPolicy(t), dialogue)
	if got := q.all(); len(got) != 1 || !strings.HasSuffix(got[0].body, "\r\n\r\n.dot\r\n\r\n") || !strings.Contains(replies, "221 ") {
		t.Errorf("queued %+v\n%s", got, replies)
	}
	smuggled := "x\n.\nMAIL FROM:<evil@example.org>\nRCPT TO:<c@example.net>\nDATA\nevil"
	_, q = stdio(t, testPolicy(t), crlf("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA", "", smuggled, ".", "QUIT"))
	if got := q.all(); len(got) != 1 || got[0].env.Sender != "a@example.org" || !strings.Contains(got[0].body, "evil@") {
		t.Errorf("queued %+v", got)
	}
}

// stdio runs one -bs session on a script and returns its replies.
func stdio(t *testing.T, p Policy, script string) (replies string, q *memQueue) {
	t.Helper()
	gate, q := testGate(t, p)
	s := &SMTP{Submit: gate.Accept, Hostname: p.Hostname, MaxSize: p.MaxSize}
	var out bytes.Buffer
	if err := s.ServeStdio(context.Background(), alice, strings.NewReader(script), &out); err != nil {
		t.Fatal(err)
	}
	return out.String(), q
}

func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

func TestStdioSession(t *testing.T) {
	replies, q := stdio(t, testPolicy(t), crlf(
		"EHLO localhost", "MAIL FROM:<a@example.org> BODY=8BITMIME RET=HDRS ENVID=q+2B1 SMTPUTF8",
		"RCPT TO:<b@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b+2Bx@example.net", `RCPT TO:<"john doe"@example.net>`,
		"DATA", "From: a@example.org", "Bcc: hidden@example.net", "Subject: x", "", "..dot", "é", ".", "QUIT"))
	m := q.last(t)
	for _, want := range []string{"220 host.example.com ESMTP", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "354 ", "250 2.0.0 queued as Q1", "221 "} {
		if !strings.Contains(replies, want) {
			t.Errorf("no %q in the replies:\n%s", want, replies)
		}
	}
	for _, not := range []string{"STARTTLS", "AUTH"} {
		if strings.Contains(replies, not) {
			t.Errorf("-bs offers %s", not)
		}
	}
	checkWire(t, m.body)
	e := m.env
	if e.Sender != "a@example.org" || addresses(e) != `b@example.net "john doe"@example.net` || e.Ret != "HDRS" || e.EnvID != "q+1" || e.Body != "8BITMIME" {
		t.Errorf("envelope %+v", e)
	}
	if r := e.Recipients[0]; r.Notify != "FAILURE,DELAY" || r.ORcpt != "rfc822;b+2Bx@example.net" {
		t.Errorf("recipient %+v", r)
	}
	if !strings.HasSuffix(m.body, "\r\n\r\n.dot\r\né\r\n") || strings.Contains(m.body, "hidden") {
		t.Errorf("content %q", m.body)
	}
	if !strings.Contains(m.body, "userid 1000") {
		t.Errorf("trace %q", m.body)
	}
}

func TestStdioLocalNames(t *testing.T) {
	replies, q := stdio(t, testPolicy(t), crlf("HELO x", "MAIL FROM:<root>", "RCPT TO:<root>", "RCPT TO: postmaster", "rcpt to:<Bob> NOTIFY=NEVER", "DATA", "", "x", ".", "QUIT"))
	if m := q.last(t); m.env.Sender != "root@host.example.com" || addresses(m.env) != "admin@example.net" {
		t.Errorf("envelope %+v\n%s", m.env, replies)
	}
	if strings.Contains(replies, "@.") {
		t.Errorf("replies show the stand-in:\n%s", replies)
	}
}

// TestSmuggling: only CR LF . CR LF ends a message (RFC 5321 §4.1.1.4).
func TestSmuggling(t *testing.T) {
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n.\r\r\n", "\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n..\r\n"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			smuggled := "MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
			replies, q := stdio(t, testPolicy(t), crlf("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA")+
				"Subject: one\r\n\r\nbody"+end+smuggled+"QUIT\r\n")
			all := q.all()
			if len(all) > 1 || len(all) == 1 && addresses(all[0].env) != "b@example.net" {
				t.Errorf("%d messages queued\n%s", len(all), replies)
			}
			for _, m := range all {
				checkWire(t, m.body)
			}
		})
	}
}

// TestDataEnds: a message whose last line ends in a second CR has ended.
func TestDataEnds(t *testing.T) {
	_, q := stdio(t, testPolicy(t), crlf("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA", "", "a\r", "..b\r", ".",
		"MAIL FROM:<a@example.org>", "RCPT TO:<c@example.net>", "DATA", "", "second", ".", "QUIT"))
	all := q.all()
	if len(all) != 2 || !strings.HasSuffix(all[0].body, "\r\n\r\na\r\n.b\r\n") {
		t.Fatalf("queued %+v", all)
	}
}

func TestStdioBDAT(t *testing.T) {
	_, q := stdio(t, testPolicy(t), crlf("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "BDAT 20")+
		"Subject: x\r\n\r\nRCPT T"+"BDAT 9 LAST\r\nO:<root>\n"+crlf("MAIL FROM:<a@example.org>", "RCPT TO:<c@example.net>", "BDAT 5")+"abcde"+crlf("RSET", "QUIT"))
	all := q.all()
	if len(all) != 1 || !strings.HasSuffix(all[0].body, "\r\n\r\nRCPT TO:<root>\r\n") {
		t.Fatalf("queued %+v", all)
	}
}

func TestStdioRefuses(t *testing.T) {
	p := testPolicy(t)
	p.MaxSize = 1 << 20
	long := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20000)
	tests := []struct{ name, script, want string }{
		{"size announced", crlf("EHLO x", "MAIL FROM:<a@b.example> SIZE=99999999", "QUIT"), "552 5.3.4"},
		{"size sent", crlf("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<b@example.net>", "DATA") + "\r\n" + long + crlf(".", "NOOP", "QUIT"), "552 5.3.4"},
		{"NUL", crlf("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<b@example.net>", "DATA", "", "a\x00b", ".", "QUIT"), "554 5.6.0"},
		{"bad domain", crlf("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<b@exa!mple.net>", "QUIT"), "553 5.1.3"},
		{"bad sender", crlf("EHLO x", "MAIL FROM:<a@b..example>", "QUIT"), "553 5.1.7"},
		{"no MAIL", crlf("EHLO x", "RCPT TO:<b@example.net>", "QUIT"), "502 5.5.1"},
		{"command line without end", "EHLO " + strings.Repeat("x", 20000) + "\r\n", "421 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			replies, q := stdio(t, p, tt.script)
			if !strings.Contains(replies, tt.want) || len(q.all()) > 0 {
				t.Errorf("want %s and nothing queued, have %d messages and\n%s", tt.want, len(q.all()), replies)
			}
		})
	}
}

// fromConn is a connection that says it comes from somewhere else.
type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }

type fromListener struct {
	net.Listener
	from net.Addr
}

func (l fromListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return fromConn{c, l.from}, err
}

// listen serves a listener whose clients seem to come from ip.
func listen(t *testing.T, s *SMTP, ip string) (dial func() *smtpClient) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, fromListener{ln, &net.TCPAddr{IP: net.ParseIP(ip), Port: 4242}}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() *smtpClient {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		cl := &smtpClient{t: t, c: c, r: bufio.NewReader(c)}
		t.Cleanup(func() { cl.c.Close() })
		return cl
	}
}

type smtpClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

// reply reads one reply, all its lines.
func (c *smtpClient) reply() string {
	c.t.Helper()
	var all strings.Builder
	for {
		c.c.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil || len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

func (c *smtpClient) cmd(line string) string {
	io.WriteString(c.c, line+"\r\n")
	return c.reply()
}

// startTLS upgrades the connection.
func (c *smtpClient) startTLS() {
	c.t.Helper()
	if r := c.cmd("STARTTLS"); !strings.HasPrefix(r, "220") {
		c.t.Fatalf("STARTTLS: %s", r)
	}
	tc := tls.Client(c.c, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.c, c.r = tc, bufio.NewReader(tc)
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// login is the dialogue of AUTH LOGIN, the first answer on the command's line.
func login(first string, rest ...string) string {
	line := "AUTH LOGIN"
	if first != "" {
		line += " " + base64.StdEncoding.EncodeToString([]byte(first))
	}
	for _, s := range rest {
		line += "\n" + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return line
}

func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func testUsers(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, fmt.Appendf(nil, "# devices\nscanner:%s\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestOpenRelay tries to send through the listener as everybody who may not,
// and as those who may.
func TestOpenRelay(t *testing.T) {
	users := testUsers(t)
	cert := testTLS(t)
	tests := []struct {
		name  string
		from  string
		allow []string
		users bool // users_file and a certificate are set
		tls   bool // the client does STARTTLS
		auth  string
		want  string // the first reply that is not 2xx or 3xx, "" when the mail is taken
	}{
		{name: "loopback", from: "127.0.0.1"},
		{name: "loopback IPv6", from: "::1"},
		{name: "mapped loopback", from: "::ffff:127.0.0.1"},
		{name: "loopback over TLS", from: "127.0.0.1", users: true, tls: true},
		{name: "stranger", from: "192.0.2.7", want: "554 5.7.1"},
		{name: "private network not allowed", from: "10.0.0.7", want: "554 5.7.1"},
		{name: "link local", from: "fe80::1", want: "554 5.7.1"},
		{name: "allowed network", from: "192.0.2.7", allow: []string{"192.0.2.0/24"}},
		{name: "mapped allowed network", from: "::ffff:192.0.2.7", allow: []string{"192.0.2.0/24"}},
		{name: "beside the allowed network", from: "192.0.3.7", allow: []string{"192.0.2.0/24"}, want: "554 5.7.1"},
		{name: "other family", from: "2001:db8::7", allow: []string{"192.0.2.0/24"}, want: "554 5.7.1"},
		{name: "stranger without AUTH", from: "192.0.2.7", users: true, want: "530 5.7.0"},
		{name: "stranger over TLS without AUTH", from: "192.0.2.7", users: true, tls: true, want: "530 5.7.0"},
		{name: "AUTH in the clear", from: "192.0.2.7", users: true, auth: plain("scanner", "secret"), want: "523 5.7.10"},
		{name: "wrong password", from: "192.0.2.7", users: true, tls: true, auth: plain("scanner", "guess"), want: "535 5.7.8"},
		{name: "unknown user", from: "192.0.2.7", users: true, tls: true, auth: plain("nobody", "secret"), want: "535 5.7.8"},
		{name: "empty user", from: "192.0.2.7", users: true, tls: true, auth: plain("", ""), want: "535 5.7.8"},
		{name: "comment as user", from: "192.0.2.7", users: true, tls: true, auth: plain("# devices", "x"), want: "535 5.7.8"},
		{name: "other mechanism", from: "192.0.2.7", users: true, tls: true, auth: "AUTH CRAM-MD5", want: "504 5.7.4"},
		{name: "LOGIN in the clear", from: "192.0.2.7", users: true, auth: "AUTH LOGIN", want: "523 5.7.10"},
		{name: "LOGIN", from: "192.0.2.7", users: true, tls: true, auth: login("", "scanner", "secret")},
		{name: "LOGIN with the name at once", from: "192.0.2.7", users: true, tls: true, auth: login("scanner", "secret")},
		{name: "LOGIN, wrong password", from: "192.0.2.7", users: true, tls: true, auth: login("", "scanner", "guess"), want: "535 5.7.8"},
		{name: "LOGIN, unknown user", from: "192.0.2.7", users: true, tls: true, auth: login("nobody", "secret"), want: "535 5.7.8"},
		{name: "LOGIN cancelled", from: "192.0.2.7", users: true, tls: true, auth: "AUTH LOGIN\n*", want: "501"},
		{name: "AUTH over TLS", from: "192.0.2.7", users: true, tls: true, auth: plain("scanner", "secret")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gate, q := testGate(t, testPolicy(t))
			s := &SMTP{Submit: gate.Accept, Hostname: "host.example.com"}
			for _, a := range tt.allow {
				s.Allow = append(s.Allow, netip.MustParsePrefix(a))
			}
			if tt.users {
				s.UsersFile, s.TLS = users, cert
			}
			c := listen(t, s, tt.from)()
			got := trySend(c, tt.tls, tt.auth)
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("refused with %q, want %q", got, tt.want)
			}
			if taken := len(q.all()) > 0; taken != (tt.want == "") {
				t.Errorf("mail taken: %v", taken)
			}
			if tt.want == "" {
				m := q.last(t)
				if !strings.Contains(m.body, "Received: from client.example.org ([") {
					t.Errorf("trace: %q", m.body)
				}
			}
		})
	}
}

// trySend sends one message and returns the first refusal.
func trySend(c *smtpClient, startTLS bool, auth string) string {
	refused := func(r string) bool { return r == "" || r[0] != '2' && r[0] != '3' }
	if r := c.reply(); refused(r) {
		return r
	}
	if r := c.cmd("EHLO client.example.org"); refused(r) {
		return r
	}
	if startTLS {
		c.startTLS()
		if r := c.cmd("EHLO client.example.org"); refused(r) {
			return r
		}
	}
	if auth != "" {
		for line := range strings.SplitSeq(auth, "\n") {
			if r := c.cmd(line); refused(r) {
				return r
			}
		}
	}
	for _, line := range []string{"MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA", "Subject: x\r\n\r\nx\r\n."} {
		if r := c.cmd(line); refused(r) {
			return r
		}
	}
	return ""
}

func TestSMTPLimits(t *testing.T) {
	users := testUsers(t)
	gate, _ := testGate(t, testPolicy(t))
	dial := listen(t, &SMTP{Submit: gate.Accept, UsersFile: users, TLS: testTLS(t), Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "192.0.2.7")
	c := dial()
	c.reply()
	c.cmd("EHLO x")
	c.startTLS()
	c.cmd("EHLO x")
	for range maxAuthFailures {
		if r := c.cmd(plain("scanner", "guess")); !strings.HasPrefix(r, "535") {
			t.Fatal(r)
		}
	}
	if r := c.cmd(plain("scanner", "secret")); !strings.HasPrefix(r, "454 4.7.0") {
		t.Errorf("after too many failures: %s", r)
	}
	for range maxSMTPMessages {
		if r := c.cmd("MAIL FROM:<a@example.org>"); !strings.HasPrefix(r, "250") {
			t.Fatal(r)
		}
		c.cmd("RSET")
	}
	if r := c.cmd("MAIL FROM:<a@example.org>"); !strings.HasPrefix(r, "450 4.7.1") {
		t.Errorf("after too many messages: %s", r)
	}
	for range maxSMTPPerClient - 1 {
		if r := dial().reply(); !strings.HasPrefix(r, "220") {
			t.Fatal(r)
		}
	}
	if r := dial().reply(); !strings.HasPrefix(r, "421 4.7.0") {
		t.Errorf("one connection too many: %s", r)
	}
}
