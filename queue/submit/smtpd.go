package submit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"danepost/queue"
)

const (
	smtpIdle  = 5 * time.Minute // RFC 5321 §4.5.3.2.7
	smtpWrite = time.Minute
	smtpDrain = 10 * time.Second
	// A client that begins TLS has this long to finish the handshake.
	smtpHandshake = time.Minute
	smtpRcpts     = 1000
	maxSMTPLine   = 1 << 20 // content lines of a TCP client; they are shortened by the gate
)

// SMTP speaks the server's side of SMTP: ServeStdio for -bs, Serve for the
// local listener, which takes mail from loopback and the networks allowed, and
// from anywhere else only from users who authenticate over TLS. It relays for
// nobody else.
type SMTP struct {
	// Submit takes each message; Gate.Accept in the daemon, Handover.Do in
	// a program.
	Submit func(ctx context.Context, r *Request, src Source, content io.Reader) (Receipt, error)
	// Hostname is said in the greeting.
	Hostname string
	// MaxSize is the limit on a message in bytes, 0 for none.
	MaxSize int64
	// Allow are the networks besides loopback whose clients may send.
	Allow []netip.Prefix
	// UsersFile holds names and bcrypt hashes; "" for no AUTH.
	UsersFile string
	// TLS is offered with STARTTLS when set. AUTH needs it.
	TLS *tls.Config
	Now func() time.Time
	Log *slog.Logger
}

// ServeStdio serves one session of src on in and out (-bs).
func (s *SMTP) ServeStdio(ctx context.Context, src Source, in io.Reader, out io.Writer) error {
	c := &stdioConn{Reader: &lineEnds{r: in}, Writer: out, closed: make(chan struct{})}
	b := &backend{smtp: s, ctx: ctx, local: &src}
	server := b.server()
	// The caller has his own memory to spend on long lines.
	server.MaxLineLength = 0
	server.TLSConfig = nil
	server.Serve(newOneListener(newLineConn(c, 0), c.closed))
	err := server.Shutdown(ctx)
	b.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// Serve serves clients on ln until ctx ends; sessions then have a moment to
// finish.
func (s *SMTP) Serve(ctx context.Context, ln net.Listener) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	b := &backend{smtp: s, ctx: work, limits: newSMTPLimits()}
	server := b.server()
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-stopped:
		}
		drain, cancelDrain := context.WithTimeout(context.WithoutCancel(ctx), smtpDrain)
		defer cancelDrain()
		if server.Shutdown(drain) != nil {
			cancel()
			b.closeAll()
		}
	})
	err := server.Serve(&smtpListener{Listener: ln, b: b})
	close(stopped)
	wg.Wait()
	b.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// backend makes sessions; it is what they share.
type backend struct {
	smtp   *SMTP
	ctx    context.Context
	local  *Source     // of -bs
	limits *smtpLimits // of the listener
	wg     sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]struct{}
}

func (b *backend) server() *smtp.Server {
	s := smtp.NewServer(b)
	s.Domain = oneLine(b.smtp.Hostname)
	if s.Domain == "" {
		s.Domain = "localhost"
	}
	s.MaxRecipients = smtpRcpts
	if b.smtp.MaxSize > 0 {
		s.MaxMessageBytes = b.smtp.MaxSize + maxHeader
	}
	s.MaxLineLength = maxSMTPLine
	s.ReadTimeout, s.WriteTimeout = smtpIdle, smtpWrite
	// TLS is begun below the library (see lineConn), which announces it and
	// never sees it: whether AUTH is allowed is the session's to say.
	s.TLSConfig, s.AllowInsecureAuth = b.smtp.TLS, true
	s.EnableSMTPUTF8, s.EnableDSN, s.EnableREQUIRETLS = true, true, true
	s.ErrorLog = smtpLog{b.log()}
	return s
}

func (b *backend) log() *slog.Logger {
	if b.smtp.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return b.smtp.Log
}

func (b *backend) now() time.Time {
	if b.smtp.Now == nil {
		return time.Now()
	}
	return b.smtp.Now()
}

// smtpLog carries the library's complaints to the log.
type smtpLog struct{ log *slog.Logger }

func (l smtpLog) Printf(format string, v ...any) {
	l.log.Warn("smtp", "reason", oneLine(fmt.Sprintf(format, v...)))
}
func (l smtpLog) Println(v ...any) { l.log.Warn("smtp", "reason", oneLine(fmt.Sprint(v...))) }

// smtpListener turns strangers away before a session begins.
type smtpListener struct {
	net.Listener
	b *backend
}

func (l *smtpListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := remoteAddr(c)
		switch {
		case !l.b.trusted(addr) && (l.b.smtp.UsersFile == "" || l.b.smtp.TLS == nil):
			l.refuse(c, "554 5.7.1 this host takes mail from its own programs and networks only\r\n")
		case !l.b.limits.enter(addr):
			l.refuse(c, "421 4.7.0 too many connections, try again later\r\n")
		default:
			counted := &countedConn{Conn: c, left: func() { l.b.limits.leave(addr); l.b.forget(c) }}
			l.b.remember(c)
			lc := newLineConn(counted, smtpIdle)
			lc.tls = l.b.smtp.TLS
			return lc, nil
		}
	}
}

func (l *smtpListener) refuse(c net.Conn, reply string) {
	l.b.log().Warn("smtp client refused", "client", c.RemoteAddr().String(), "reply", strings.TrimSpace(reply))
	c.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(c, reply)
	c.Close()
}

func (b *backend) remember(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		b.open = map[net.Conn]struct{}{}
	}
	b.open[c] = struct{}{}
}

func (b *backend) forget(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}

func (b *backend) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		c.Close()
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	once sync.Once
	left func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.left)
	return err
}

func remoteAddr(c net.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// trusted reports whether clients at addr may send without authentication.
func (b *backend) trusted(addr netip.Addr) bool {
	if b.local != nil || addr.IsLoopback() {
		return true
	}
	for _, p := range b.smtp.Allow {
		if p.Contains(addr.WithZone("")) {
			return true
		}
	}
	return false
}

// NewSession implements smtp.Backend.
func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	s := &session{b: b, conn: c}
	if b.local == nil {
		s.addr = remoteAddr(c.Conn())
		s.source.UID = uint32(os.Geteuid())
	} else {
		s.source = *b.local
	}
	return s, nil
}

// session is one client's state between EHLO and QUIT.
type session struct {
	b      *backend
	conn   *smtp.Conn
	addr   netip.Addr
	source Source // User is who authenticated

	mu  sync.Mutex // a BDAT message is read beside the session's commands
	req *Request
}

func (s *session) setRequest(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.req = r
}

func (s *session) allowed() bool { return s.b.trusted(s.addr) || s.source.User != "" }

// secure reports whether the client came over TLS.
func (s *session) secure() bool {
	c, ok := s.conn.Conn().(*lineConn)
	return ok && c.secure.Load()
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	s.setRequest(nil)
	if !s.allowed() {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "authenticate over TLS first"}
	}
	if s.b.limits != nil && !s.b.limits.message(s.addr, s.b.now()) {
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "too many messages, try again in a minute"}
	}
	sender := ""
	if from != "" {
		m, err := pathMailbox(from)
		if err != nil {
			return smtpError(err, smtp.EnhancedCode{5, 1, 7})
		}
		sender = m.String()
	}
	s.setRequest(&Request{
		Sender: &sender, Body: string(o.Body), Ret: string(o.Return), EnvID: o.EnvelopeID,
		RequireTLS: o.RequireTLS, SMTPUTF8: o.UTF8,
	})
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, o *smtp.RcptOptions) error {
	m, err := pathMailbox(to)
	if err != nil {
		return smtpError(err, smtp.EnhancedCode{5, 1, 3})
	}
	r := Recipient{Text: m.String()}
	var notify []string
	for _, n := range o.Notify {
		notify = append(notify, string(n))
	}
	r.Notify = strings.Join(notify, ",")
	if o.OriginalRecipient != "" {
		r.ORcpt = strings.ToLower(string(o.OriginalRecipientType)) + ";" + xtext(o.OriginalRecipient, o.OriginalRecipientType == smtp.DSNAddressTypeUTF8)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.req.Recipients = append(s.req.Recipients, r)
	return nil
}

// pathMailbox takes apart what the library made of a path: local part
// unquoted, "@", domain.
func pathMailbox(path string) (Mailbox, error) {
	local, domain, ok := cutLast(path, '@')
	if domain == unqualified {
		ok = false
	}
	return parsePath(local, domain, ok)
}

// xtext encodes as RFC 3461 §4, or RFC 6533 §3 for a UTF-8 address.
func xtext(s string, utf8 bool) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c > ' ' && c < 0x7f && c != '+' && c != '=' && (c != '\\' || !utf8):
			b.WriteRune(c)
		case utf8:
			fmt.Fprintf(&b, `\x{%02X}`, c)
		default:
			fmt.Fprintf(&b, "+%02X", c)
		}
	}
	return b.String()
}

// Data implements smtp.Session. The reply names the queue id.
func (s *session) Data(r io.Reader) error {
	s.b.wg.Add(1)
	defer s.b.wg.Done()
	s.mu.Lock()
	req := s.req
	s.mu.Unlock()
	if req == nil {
		return smtp.ErrDataReset
	}
	src := s.source
	if s.b.local == nil {
		src.ReceivedFrom = fmt.Sprintf("from %s ([%s])", heloName(s.conn.Hostname()), literal(s.addr))
		src.ReceivedWith = "ESMTP"
		if s.secure() {
			src.ReceivedWith += "S"
		}
		if src.User != "" {
			src.ReceivedWith += "A"
		}
	}
	receipt, err := s.b.smtp.Submit(s.b.ctx, req, src, r)
	if err != nil {
		return smtpError(err, smtp.EnhancedCode{})
	}
	if receipt.ID == "" {
		return nil
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "queued as " + receipt.ID}
}

// Reset implements smtp.Session.
func (s *session) Reset() { s.setRequest(nil) }

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }

// heloName is what a client calls itself, as far as it can stand in a header.
func heloName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && (isLabelByte(byte(r)) || strings.ContainsRune(".[]:", r)) {
			return r
		}
		return -1
	}, name)
	if clean == "" {
		return "unknown"
	}
	return clean[:min(len(clean), maxDomain)]
}

// literal is an address as RFC 5321 §4.1.3 writes it, without the brackets.
func literal(a netip.Addr) string {
	if a.Is6() {
		return "IPv6:" + a.WithZone("").String()
	}
	return a.String()
}

// smtpError turns an exit code into a reply (RFC 3463).
func smtpError(err error, enhanced smtp.EnhancedCode) error {
	var reply *smtp.SMTPError
	if errors.As(err, &reply) {
		return reply
	}
	code, dflt := 451, smtp.EnhancedCode{4, 3, 0}
	switch ExitCode(err) {
	case ExitUsage, ExitDataErr:
		code, dflt = 554, smtp.EnhancedCode{5, 6, 0}
		if enhanced[0] != 0 {
			code = 553
		}
	case ExitNoPerm:
		code, dflt = 550, smtp.EnhancedCode{5, 7, 1}
	}
	if errors.Is(err, queue.ErrTooLarge) {
		code, dflt, enhanced = 552, smtp.EnhancedCode{5, 3, 4}, smtp.EnhancedCode{}
	}
	if enhanced[0] == 0 || code == 451 {
		enhanced = dflt
	}
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: oneLine(err.Error())}
}
