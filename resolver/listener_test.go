package resolver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// listening starts a listener on a small internet whose bogus.example. is bogus.
func listening(t *testing.T) (*Listener, *internet) {
	n := small(t)
	n.tamper = spoilMX
	r := n.resolver(nil)
	l, err := r.Listen(ListenConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, n
}

// spoilMX changes the MX records of bogus.example.
func spoilMX(server netip.Addr, _ Exchange, _, reply *dns.Msg) *dns.Msg {
	if server != netip.MustParseAddr("192.0.2.41") {
		return reply
	}
	for i, rr := range reply.Answer {
		if mx, ok := rr.(*dns.MX); ok {
			c := *mx
			c.Mx = "evil.example."
			reply.Answer[i] = &c
		}
	}
	return reply
}

func clientQuery(name string, qtype uint16, change func(*dns.Msg)) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if change != nil {
		change(m)
	}
	return m
}

func withDO(m *dns.Msg) { m.SetEdns0(1232, true) }

func TestListener(t *testing.T) {
	l, _ := listening(t)
	for _, tt := range []struct {
		what   string
		query  *dns.Msg
		rcode  int
		ad     bool
		answer int // records
		sigs   bool
		ede    string // codes
	}{
		{"plain", clientQuery("mx.signed.example.", dns.TypeA, nil), 0, false, 1, false, ""},
		{"AD asked for", clientQuery("mx.signed.example.", dns.TypeA, func(m *dns.Msg) { m.AuthenticatedData = true }), 0, true, 1, false, ""},
		{"DO", clientQuery("mx.signed.example.", dns.TypeA, withDO), 0, true, 2, true, ""},
		{"insecure", clientQuery("mail.unsigned.example.", dns.TypeA, withDO), 0, false, 1, false, ""},
		{"alias out of the signed part", clientQuery("away.signed.example.", dns.TypeA, withDO), 0, false, 3, true, ""},
		{"bogus", clientQuery("bogus.example.", dns.TypeMX, withDO), dns.RcodeServerFailure, false, 0, false, "6"},
		{"bogus with CD", clientQuery("bogus.example.", dns.TypeMX, func(m *dns.Msg) { withDO(m); m.CheckingDisabled = true }), 0, false, 2, true, ""},
		{"letter case", clientQuery("Mx.SIGNED.example.", dns.TypeA, nil), 0, false, 1, false, ""},
		{"no such name", clientQuery("none.signed.example.", dns.TypeA, withDO), dns.RcodeNameError, true, 0, false, ""},
		{"wrong class", clientQuery("version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused, false, 0, false, ""},
		{"update", clientQuery("signed.example.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented, false, 0, false, ""},
		{"zone transfer", clientQuery("signed.example.", dns.TypeAXFR, nil), dns.RcodeNotImplemented, false, 0, false, ""},
		{"unknown EDNS version", clientQuery("signed.example.", dns.TypeMX, func(m *dns.Msg) { withDO(m); m.IsEdns0().SetVersion(1) }), dns.RcodeBadVers, false, 0, false, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			c := dns.Client{Net: network}
			m, _, err := c.Exchange(tt.query, l.Addr().String())
			if err != nil {
				t.Errorf("%s over %s: %v", tt.what, network, err)
				continue
			}
			sigs := false
			for _, rr := range m.Answer {
				sigs = sigs || rr.Header().Rrtype == dns.TypeRRSIG
			}
			if m.Rcode != tt.rcode || m.AuthenticatedData != tt.ad || len(m.Answer) != tt.answer || sigs != tt.sigs || edeCodes(m) != tt.ede {
				t.Errorf("%s over %s:\n%v", tt.what, network, m)
			}
			if !m.RecursionAvailable || m.Authoritative || m.Question[0].Name != tt.query.Question[0].Name {
				t.Errorf("%s over %s: header or question:\n%v", tt.what, network, m)
			}
		}
	}
}

func edeCodes(m *dns.Msg) string {
	var out []string
	if o := m.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if e, ok := e.(*dns.EDNS0_EDE); ok {
				out = append(out, string(rune('0'+e.InfoCode)))
			}
		}
	}
	return strings.Join(out, " ")
}

// Without RD nobody is asked: the cache answers, or refers.
func TestListenerWithoutRecursion(t *testing.T) {
	l, n := listening(t)
	c := dns.Client{}
	ask := func(name string, rd bool) *dns.Msg {
		m, _, err := c.Exchange(clientQuery(name, dns.TypeA, func(m *dns.Msg) { m.RecursionDesired = rd }), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ask("mx.signed.example.", true)
	n.drain()
	if m := ask("mx.signed.example.", false); len(m.Answer) != 1 {
		t.Errorf("what is cached: %v", m)
	}
	if m := ask("www.signed.example.", false); len(m.Answer) != 0 || len(m.Ns) != 2 || m.Ns[0].Header().Name != "signed.example." {
		t.Errorf("what is not: %v", m)
	}
	if q := n.drain(); len(q) != 0 {
		t.Errorf("asked %q", q)
	}
}

func TestListenerCookies(t *testing.T) {
	l, _ := listening(t)
	c := dns.Client{}
	ask := func(cookie string) (string, int) {
		m, _, err := c.Exchange(clientQuery("mx.signed.example.", dns.TypeA, func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
		}), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range m.IsEdns0().Option {
			if o, ok := o.(*dns.EDNS0_COOKIE); ok {
				return o.Cookie, m.Rcode
			}
		}
		return "", m.Rcode
	}
	const mine = "0102030405060708"
	first, _ := ask(mine)
	if len(first) != 48 || !strings.HasPrefix(first, mine) {
		t.Fatalf("cookie %q", first)
	}
	if again, _ := ask(first); again != first {
		t.Errorf("a good cookie was replaced: %q, %q", first, again)
	}
	if forged, _ := ask(first[:46] + "00"); forged == first[:46]+"00" {
		t.Error("a forged cookie was returned")
	}
	if _, rcode := ask("0102"); rcode != dns.RcodeFormatError {
		t.Errorf("short cookie: rcode %d", rcode)
	}
}

// A stranger is refused, an allowed network is not.
func TestListenerClients(t *testing.T) {
	l, _ := listening(t)
	q := pack(clientQuery("mx.signed.example.", dns.TypeA, withDO))
	rcode := func(from string) int {
		m := new(dns.Msg)
		if err := m.Unpack(l.answer(context.Background(), q, netip.MustParseAddrPort(from), false)); err != nil {
			t.Fatal(err)
		}
		return m.Rcode
	}
	if got := rcode("192.0.2.200:1234"); got != dns.RcodeRefused {
		t.Errorf("stranger: rcode %d", got)
	}
	if got := rcode("[::ffff:127.0.0.1]:1234"); got != 0 {
		t.Errorf("mapped loopback: rcode %d", got)
	}
	l.config.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.192/26")}
	if got := rcode("192.0.2.200:1234"); got != 0 {
		t.Errorf("allowed network: rcode %d", got)
	}
}

// An answer that does not fit is sent cut, and whole over TCP.
func TestListenerTruncates(t *testing.T) {
	n := newInternet(t, zoneSpec{name: ".", servers: "192.0.2.1", records: "big TXT" +
		strings.Repeat(` "0123456789012345678901234567890123456789012345678901234567890123456789"`, 30) + "\n"})
	l, err := n.resolver(nil).Listen(ListenConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := clientQuery("big.", dns.TypeTXT, nil)
	m, _, err := new(dns.Client).Exchange(q, l.Addr().String())
	if err != nil || !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("over UDP: %v, %v", m, err)
	}
	c := dns.Client{Net: "tcp"}
	if m, _, err = c.Exchange(q, l.Addr().String()); err != nil || m.Truncated || len(m.Answer) != 1 {
		t.Errorf("over TCP: %v, %v", m, err)
	}
}

// A TCP client that sends slowly, or nothing, does not hold a connection for ever, and
// Close does not wait for one.
func TestListenerSlowClient(t *testing.T) {
	n := small(t)
	lim := DefaultLimits()
	lim.ClientIdle, lim.ClientConns = 50*time.Millisecond, 1
	l, err := n.resolver(func(c *Config) { c.Limits = &lim }).Listen(ListenConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte{0})
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection was kept: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzListener(f *testing.F) {
	n := small(f)
	n.tamper = spoilMX
	r := n.resolver(nil)
	l := &Listener{r: r, done: context.Background()}
	f.Add(pack(clientQuery("mx.signed.example.", dns.TypeA, withDO)))
	f.Add(pack(clientQuery("bogus.example.", dns.TypeMX, nil)))
	f.Fuzz(func(t *testing.T, query []byte) {
		reply := l.answer(context.Background(), query, netip.MustParseAddrPort("127.0.0.1:1"), false)
		if reply == nil {
			return
		}
		if binary.BigEndian.Uint16(reply) != binary.BigEndian.Uint16(query) || len(reply) > 1232 {
			t.Errorf("%x: reply %x", query, reply)
		}
		if m := new(dns.Msg); m.Unpack(reply) != nil {
			if _, err := parseMessage(reply, &r.lim); err != nil {
				t.Errorf("%x: reply %x does not parse: %v", query, reply, err)
			}
		}
	})
}
