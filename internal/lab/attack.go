package lab

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The attackers on the way to a name server are wrappers of a Handler.

// Forge puts lie in the place of every record set of its owner and type in
// what a server says: an attacker on the path who rewrites answers. With
// keepSigs the signatures of the true set stay (and no longer fit); else they
// go, and with them the denial of what was forged.
func Forge(keepSigs bool, lie ...string) func(Handler) Handler {
	var rrs []dns.RR
	for _, l := range lie {
		rr, err := dns.NewRR(l)
		if err != nil || rr == nil {
			panic("lab: forged record " + l)
		}
		rrs = append(rrs, rr)
	}
	owner, typ := canonicalName(rrs[0].Header().Name), rrs[0].Header().Rrtype
	return func(next Handler) Handler {
		return func(q Query) *dns.Msg {
			m := next(q)
			if m == nil || q.Name() != owner || q.Type() != typ {
				return m
			}
			m.Rcode, m.Ns = dns.RcodeSuccess, nil
			var sigs []dns.RR
			if keepSigs {
				sigs = only(m.Answer, dns.TypeRRSIG)
			}
			m.Answer = append(append([]dns.RR(nil), rrs...), sigs...)
			return m
		}
	}
}

// ForgePort is Forge for records in which {port} stands for the receivers'
// port, known once the lab runs.
func (l *Lab) ForgePort(keepSigs bool, lie string) func(Handler) Handler {
	return func(next Handler) Handler {
		return func(q Query) *dns.Msg {
			forged := strings.ReplaceAll(lie, "{port}", strconv.Itoa(l.SMTPPort()))
			return Forge(keepSigs, forged)(next)(q)
		}
	}
}

// StripSignatures takes all of DNSSEC out of a server's replies: signatures,
// denial, and DS, so that the zone and all below it looks unsigned.
func StripSignatures(next Handler) Handler {
	return func(q Query) *dns.Msg {
		m := next(q)
		if m == nil {
			return nil
		}
		for _, section := range []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
			*section = without(*section, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeDS)
		}
		return m
	}
}

// At lets an attack happen only to questions about names at or below name.
func At(name string, attack func(Handler) Handler) func(Handler) Handler {
	name = canonicalName(name)
	return func(next Handler) Handler {
		attacked := attack(next)
		return func(q Query) *dns.Msg {
			if dns.IsSubDomain(name, q.Name()) {
				return attacked(q)
			}
			return next(q)
		}
	}
}

// Deny answers questions of the given types with NXDOMAIN. The proof is that
// of another name of the zone, true and signed, so that only a reader who
// looks at what it proves is not deceived; with "" there is none.
func Deny(provedFor string, types ...uint16) func(Handler) Handler {
	return func(next Handler) Handler {
		return func(q Query) *dns.Msg {
			if !contains(types, q.Type()) {
				return next(q)
			}
			m := new(dns.Msg).SetRcode(q.Msg, dns.RcodeNameError)
			m.Authoritative = true
			if opt := q.Msg.IsEdns0(); opt != nil {
				m.SetEdns0(udpSize, opt.Do())
			}
			if provedFor != "" {
				other := q
				other.Msg = q.Msg.Copy()
				other.Msg.Question[0].Name = canonicalName(provedFor)
				if proof := next(other); proof != nil {
					m.Ns = proof.Ns
				}
			}
			return m
		}
	}
}

// Fail answers questions of the given types (all if none is given) with rcode.
func Fail(rcode int, types ...uint16) func(Handler) Handler {
	return func(next Handler) Handler {
		return func(q Query) *dns.Msg {
			if len(types) > 0 && !contains(types, q.Type()) {
				return next(q)
			}
			return new(dns.Msg).SetRcode(q.Msg, rcode)
		}
	}
}

// Silence never answers questions of the given types (all if none is given).
func Silence(types ...uint16) func(Handler) Handler {
	return func(next Handler) Handler {
		return func(q Query) *dns.Msg {
			if len(types) > 0 && !contains(types, q.Type()) {
				return next(q)
			}
			return nil
		}
	}
}

func contains(types []uint16, t uint16) bool {
	for _, x := range types {
		if x == t {
			return true
		}
	}
	return false
}

func only(rrs []dns.RR, types ...uint16) (out []dns.RR) {
	for _, rr := range rrs {
		if contains(types, rr.Header().Rrtype) {
			out = append(out, rr)
		}
	}
	return out
}

func without(rrs []dns.RR, types ...uint16) (out []dns.RR) {
	for _, rr := range rrs {
		if !contains(types, rr.Header().Rrtype) {
			out = append(out, rr)
		}
	}
	return out
}

// Path is an attacker in front of a receiver, on an address of its own that
// DNS shows as the receiver's (as one who owns a router, or the route, has it).
type Path struct {
	lab   *Lab
	addr  netip.Addr
	to    *Receiver
	relay func(p *Path, client, server net.Conn)

	mu       sync.Mutex
	sessions int
	ceased   bool
	seen     bytes.Buffer
}

func (l *Lab) path(to *Receiver, relay func(*Path, net.Conn, net.Conn)) *Path {
	l.configuring()
	p := &Path{lab: l, addr: nthAddr(smtpNetwork, len(l.hosts)), to: to, relay: relay}
	l.hosts = append(l.hosts, p)
	return p
}

// Eavesdrop makes a path that changes nothing and records every byte.
func (l *Lab) Eavesdrop(to *Receiver) *Path {
	return l.path(to, func(p *Path, client, server net.Conn) {
		p.both(client, server, p.copyRecorded)
	})
}

// StripSTARTTLS makes a path that takes STARTTLS out of the server's offer,
// refuses the command, and records every byte.
func (l *Lab) StripSTARTTLS(to *Receiver) *Path {
	return l.path(to, func(p *Path, client, server net.Conn) {
		p.both(client, server, p.copyStripped)
	})
}

// Swap makes a path that speaks TLS with the client under its own identity,
// and with the receiver as a client would; it records all it can read.
func (l *Lab) Swap(to *Receiver, own *Identity) *Path {
	return l.path(to, func(p *Path, client, server net.Conn) {
		p.intercept(client, server, own)
	})
}

// Addr returns the address to publish in the receiver's place.
func (p *Path) Addr() string { return p.addr.String() }

// Sessions returns how many connections the attacker has had.
func (p *Path) Sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions
}

// Seen returns all bytes that the attacker could read, both directions.
func (p *Path) Seen() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.seen.Bytes())
}

// Cease ends the attack: from now on the path carries bytes and no more.
func (p *Path) Cease() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ceased = true
}

func (p *Path) address() netip.Addr { return p.addr }

func (p *Path) serve(client net.Conn) {
	p.mu.Lock()
	p.sessions++
	honest := p.ceased
	p.mu.Unlock()
	server, err := net.DialTimeout("tcp", net.JoinHostPort(p.to.Addr(), strconv.Itoa(p.lab.SMTPPort())), 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	if honest {
		p.both(client, server, func(dst, src net.Conn, _ bool) { io.Copy(dst, src) }) //nolint:errcheck // either end may go at any time
		return
	}
	p.relay(p, client, server)
}

// Write records.
func (p *Path) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

// both copies each way until both ends are done; the way that ends first
// closes what it wrote to.
func (p *Path) both(client, server net.Conn, dir func(dst, src net.Conn, fromServer bool)) {
	var wg sync.WaitGroup
	wg.Go(func() { dir(server, client, false); server.Close() })
	wg.Go(func() { dir(client, server, true); client.Close() })
	wg.Wait()
}

func (p *Path) copyRecorded(dst, src net.Conn, _ bool) {
	io.Copy(io.MultiWriter(dst, p), src) //nolint:errcheck // either end may go at any time
}

// copyStripped works line by line: SMTP without TLS is lines.
func (p *Path) copyStripped(dst, src net.Conn, fromServer bool) {
	in := bufio.NewReader(src)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		p.Write([]byte(line)) //nolint:errcheck // memory
		word := strings.ToUpper(strings.TrimRight(line, "\r\n"))
		switch {
		case fromServer && word == "250-STARTTLS":
			continue
		case fromServer && word == "250 STARTTLS":
			line = "250 NOOP\r\n" // something must end the reply
		case !fromServer && word == "STARTTLS":
			if _, err := io.WriteString(src, "502 5.5.1 command not implemented\r\n"); err != nil {
				return
			}
			continue
		}
		if _, err := io.WriteString(dst, line); err != nil {
			return
		}
	}
}

// intercept lets the sessions run up to STARTTLS by itself, then sits between
// two TLS connections.
func (p *Path) intercept(client, server net.Conn, own *Identity) {
	out, err := tlsClient(server)
	if err != nil {
		return
	}
	defer out.Close()
	in := bufio.NewReader(client)
	io.WriteString(client, "220 "+p.to.name+" ESMTP\r\n") //nolint:errcheck // the read finds out
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		p.Write([]byte(line)) //nolint:errcheck // memory
		reply := "503 5.7.0 STARTTLS first\r\n"
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO", "HELO":
			reply = "250-" + p.to.name + "\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 STARTTLS\r\n"
		case "STARTTLS":
			io.WriteString(client, "220 2.0.0 go ahead\r\n") //nolint:errcheck // the handshake finds out
			c := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{own.Certificate()}, MinVersion: tls.VersionTLS12})
			if c.Handshake() == nil {
				p.both(c, out, p.copyRecorded)
			}
			return
		case "QUIT":
			io.WriteString(client, "221 2.0.0 bye\r\n") //nolint:errcheck // it is over
			return
		}
		if _, err := io.WriteString(client, reply); err != nil {
			return
		}
	}
}

// tlsClient takes a fresh SMTP connection to just after STARTTLS, trusting
// whoever answers: it is the attacker's own.
func tlsClient(c net.Conn) (net.Conn, error) {
	in := bufio.NewReader(c)
	for _, send := range []string{"", "EHLO attacker.invalid\r\n", "STARTTLS\r\n"} {
		if _, err := io.WriteString(c, send); err != nil {
			return nil, err
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return nil, err
			}
			if len(line) < 4 || line[3] != '-' {
				break
			}
		}
	}
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // an attacker does not care
	return t, t.Handshake()
}
