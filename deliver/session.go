package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"time"
)

// session is one SMTP connection, brought up to EHLO over whatever TLS its
// plan demands. It is used by one goroutine at a time.
type session struct {
	d     *Deliverer
	plan  *hostPlan
	addr  netip.Addr
	wire  *wire
	ext   extensions
	tls   *tls.ConnectionState // nil in the clear
	chain []*x509.Certificate  // what the server showed, also when it did not do
	proof proof

	born   time.Time
	uses   int  // messages sent
	dirty  bool // a transaction was left open: RSET first
	reused bool // came from the pool
	manner manner
	before *failure // why a bolder manner did not work
	unhook func() bool
}

// manner is how TLS is begun; each is tried where the ones before have failed.
type manner uint8

const (
	// The ClientHello offers a hybrid post-quantum key exchange first: what an
	// eavesdropper stores today stays sealed. It costs less than 0.2 ms of CPU
	// (BenchmarkHandshake, both ends together) and a second packet, which a
	// few old middleboxes do not let through.
	mannerHybrid manner = iota
	mannerClassic
	mannerClear // no TLS at all, under level may only (RFC 7435 §3)
)

func (h *hostPlan) manners() []manner {
	switch h.level {
	case LevelNone:
		return []manner{mannerClear}
	case LevelMay:
		return []manner{mannerHybrid, mannerClassic, mannerClear}
	}
	return []manner{mannerHybrid, mannerClassic}
}

// bring brings up a session with one address, on the connection that got
// holds. When the handshake fails, a new connection to the same address has
// the next manner; left says how many may be opened.
func (d *Deliverer) bring(ctx context.Context, h *hostPlan, got dialed, left *int) (*session, *failure) {
	var s *session
	var first *failure
	for i, m := range h.manners() {
		if i > 0 {
			if *left <= 0 {
				break
			}
			*left--
			again, f := d.race(ctx, []netip.Addr{got.addr}, h.port)
			if f != nil {
				break
			}
			got.conn = again.conn
		}
		s = &session{plan: h, addr: got.addr, manner: m, before: first}
		f := d.open(ctx, got.conn, s)
		if f == nil || !f.handshake {
			return s, f
		}
		if first == nil {
			first = f
		}
	}
	return s, first
}

// open brings up a session on conn, in protocol order. After a failure the
// connection is gone, and s is good only for what it has seen.
func (d *Deliverer) open(ctx context.Context, conn net.Conn, s *session) *failure {
	s.d, s.born, s.wire = d, time.Now(), newWire(conn, d)
	s.proof = proof{security: plaintext}
	s.bind(ctx)
	f := s.handshake(ctx)
	if f != nil {
		s.end()
	}
	return f
}

// end is for a session that is of no further use: goodbye, if the other side
// can still follow.
func (s *session) end() {
	if s.wire.failed {
		s.close()
		return
	}
	s.d.pool.end(s)
}

// bind lets ctx cut the session short, until release.
func (s *session) bind(ctx context.Context) {
	conn := s.wire.conn
	s.unhook = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)); conn.Close() })
}

func (s *session) release() bool { return s.unhook == nil || s.unhook() }

// handshake is the list of steps.
func (s *session) handshake(ctx context.Context) *failure {
	if s.plan.hop.implicitTLS() && s.manner != mannerClear {
		if f := s.upgrade(ctx); f != nil { // RFC 8314 §3.3
			return f
		}
	}
	if f := s.greeting(); f != nil {
		return s.unproved(f)
	}
	if f := s.ehlo(); f != nil {
		return s.unproved(f)
	}
	if f := s.startTLS(ctx); f != nil {
		return f
	}
	if !s.plan.satisfiedBy(s.proof) {
		return later("4.7.5", "the connection is %s, which does not meet level %s; %s", s.proof.security, s.plan.level, protection)
	}
	if s.plan.requireTLS && !s.ext.has("REQUIRETLS") {
		// RFC 8689 §4.2.1 step 5: no receiver that would forget the demand.
		return never("5.7.30", "the host does not support REQUIRETLS, which the sender asked for; %s", protection)
	}
	return s.auth()
}

// unproved: where TLS is mandatory, no refusal counts as the receiver's own
// before TLS has shown who says it.
func (s *session) unproved(f *failure) *failure {
	if f.permanent && s.tls == nil && s.plan.demandsTLS() {
		return f.softened()
	}
	return f
}

func (s *session) greeting() *failure {
	r, err := s.wire.receive(s.d.cfg.Timeouts.Greeting)
	switch {
	case err != nil:
		return later("4.4.2", "waiting for the greeting: %s", why(err))
	case r.code == 220:
		return nil
	}
	return refused("greeting", r)
}

// refused makes a failure of a reply that says no, or says what it should not.
func refused(step string, r reply) *failure {
	f := &failure{code: r.enhanced(), reply: r.String(), replied: r.code}
	switch r.class() {
	case 4:
	case 5:
		f.permanent = true
	default:
		return later("4.5.0", "unexpected reply to %s: %s", step, r)
	}
	f.reason = oneLine("the receiver answered " + step + " with: " + r.String())
	return f
}

// ehlo says who we are. A receiver that knows no EHLO gets HELO (RFC 5321
// §3.2) and has no extensions.
func (s *session) ehlo() *failure {
	name := s.heloName()
	r, err := s.wire.command(s.d.cfg.Timeouts.EHLO, "EHLO "+name)
	switch {
	case err != nil:
		return later("4.4.2", "after EHLO: %s", why(err))
	case r.code == 250:
		s.ext = parseExtensions(r)
		return nil
	case r.class() != 5:
		return refused("EHLO", r)
	}
	s.ext = extensions{}
	r, err = s.wire.command(s.d.cfg.Timeouts.EHLO, "HELO "+name)
	switch {
	case err != nil:
		return later("4.4.2", "after HELO: %s", why(err))
	case r.code == 250:
		return nil
	}
	return refused("HELO", r)
}

// heloName is the host's name, or its address where it has no full name
// (RFC 5321 §4.1.3).
func (s *session) heloName() string {
	if name := s.d.cfg.Hostname; strings.Contains(strings.Trim(name, "."), ".") {
		return strings.TrimSuffix(name, ".")
	}
	local, err := netip.ParseAddrPort(s.wire.conn.LocalAddr().String())
	switch ip := local.Addr().Unmap().WithZone(""); {
	case err != nil:
		return "[127.0.0.1]"
	case ip.Is4():
		return "[" + ip.String() + "]"
	default:
		return "[IPv6:" + ip.String() + "]"
	}
}

// startTLS upgrades the connection where the plan wants TLS (RFC 3207 §4).
func (s *session) startTLS(ctx context.Context) *failure {
	if s.tls != nil || s.manner == mannerClear {
		return nil
	}
	mandatory := s.plan.demandsTLS()
	if !s.ext.has("STARTTLS") {
		if mandatory {
			return later("4.7.4", "the host does not offer STARTTLS, which %s; %s", s.plan.mandate(), protection)
		}
		return nil
	}
	r, err := s.wire.command(s.d.cfg.Timeouts.STARTTLS, "STARTTLS")
	switch {
	case err != nil:
		f := later("4.4.2", "after STARTTLS: %s", why(err))
		f.handshake = true
		return f
	case r.code == 421:
		return refused("STARTTLS", r)
	case r.code != 220 && mandatory:
		f := refused("STARTTLS", r).softened()
		f.code = "4.7.4"
		f.reason = oneLine("the host refused STARTTLS (" + r.String() + "), which " + s.plan.mandate() + "; " + protection)
		return f
	case r.code != 220:
		return nil // level may: go on in the clear, the session is intact
	case s.wire.br.Buffered() > 0:
		// Commands smuggled in before TLS began, CVE-2011-0411's mirror image.
		f := later("4.7.5", "the host sent %d bytes in the clear behind its reply to STARTTLS; %s", s.wire.br.Buffered(), protection)
		f.handshake = true
		return f
	}
	if f := s.upgrade(ctx); f != nil {
		return f
	}
	// RFC 3207 §4.2: what was offered before is forgotten.
	return s.ehlo()
}

// mandate says why TLS is mandatory, for reasons of failure.
func (h *hostPlan) mandate() string {
	switch {
	case h.level == LevelDANE || h.level == LevelDANEOnly || h.unauthenticated:
		return "its TLSA records make mandatory (RFC 7672 section 2.2)"
	case h.requireTLS:
		return "REQUIRETLS makes mandatory"
	}
	return "level " + h.level.String() + " makes mandatory"
}

// upgrade runs the TLS handshake.
func (s *session) upgrade(ctx context.Context) *failure {
	var p peer
	conn := tls.Client(s.wire.conn, s.d.tlsConfig(s.plan, s.manner, &p))
	s.wire.conn.SetDeadline(s.wire.deadline(s.d.cfg.Timeouts.STARTTLS))
	err := conn.HandshakeContext(ctx)
	s.wire.conn.SetDeadline(time.Time{})
	s.chain = p.chain
	s.wire.failed = err != nil
	switch {
	case p.failed != nil:
		return p.failed
	case err != nil:
		f := later("4.7.5", "TLS handshake failed: %s", why(err))
		f.handshake = true
		if s.plan.demandsTLS() {
			f.reason = oneLine(f.reason + "; " + protection)
		}
		return f
	}
	cs := conn.ConnectionState()
	s.tls, s.proof = &cs, p.proof
	s.wire.attach(conn)
	return nil
}

// adopt makes a pooled session serve a new plan: what it showed then must do
// for what is demanded now.
func (s *session) adopt(ctx context.Context, h *hostPlan) bool {
	p := proof{security: plaintext}
	if s.tls != nil {
		var f *failure
		if p, f = h.judge(s.tls.PeerCertificates, s.d.now(), s.d.roots); f != nil {
			return false
		}
	}
	if !h.satisfiedBy(p) {
		return false
	}
	s.plan, s.proof, s.reused = h, p, true
	s.wire.renew()
	s.bind(ctx)
	return true
}

// close drops the connection without a word.
func (s *session) close() {
	s.release()
	s.wire.conn.Close()
}

// quit says goodbye, and waits a little for the answer.
func (s *session) quit() {
	s.wire.allow(quitTime)
	if !s.wire.failed {
		s.wire.command(quitTime, "QUIT")
	}
	s.close()
}
