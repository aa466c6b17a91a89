package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// listen serves the internet on real sockets, all servers on one port.
func (n *internet) listen(addrs ...string) uint16 {
	n.t.Helper()
	port := uint16(0)
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		pc, err := net.ListenPacket("udp", netip.AddrPortFrom(ip, port).String())
		if err != nil {
			n.t.Skipf("no loopback address %s: %v", a, err)
		}
		port = netip.MustParseAddrPort(pc.LocalAddr().String()).Port()
		l, err := net.Listen("tcp", netip.AddrPortFrom(ip, port).String())
		if err != nil {
			n.t.Fatal(err)
		}
		server := netip.AddrPortFrom(ip, port)
		handler := func(tcp bool) dns.HandlerFunc {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if b, err := n.Exchange(context.Background(), Exchange{
					Server: server, TCP: tcp, Message: pack(q),
					Accept: func([]byte) bool { return true },
				}); err == nil {
					w.Write(b)
				}
			}
		}
		n.serveOn(&dns.Server{PacketConn: pc, Handler: handler(false)})
		n.serveOn(&dns.Server{Listener: l, Handler: handler(true)})
	}
	return port
}

func (n *internet) serveOn(s *dns.Server) {
	done, up := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(up) }
	go func() {
		defer close(done)
		s.ActivateAndServe()
	}()
	<-up
	n.t.Cleanup(func() { s.Shutdown(); <-done })
}

func pack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func TestSockets(t *testing.T) {
	big := "big TXT" + strings.Repeat(` "0123456789012345678901234567890123456789012345678901234567890123456789"`, 30) + "\n"
	n := newInternet(t,
		zoneSpec{name: ".", servers: "127.0.10.1"},
		zoneSpec{name: "example.", servers: "127.0.10.2 127.0.10.3", records: "@ MX 10 mx\nmx A 192.0.2.1\n" + big},
	)
	port := n.listen("127.0.10.1", "127.0.10.2") // nobody listens on .3
	r := n.resolver(func(c *Config) { c.Transport, c.Port, c.AskLoopback = nil, port, true })
	ctx := context.Background()
	if a := r.Lookup(ctx, "example.", TypeMX); summary(a) != "secure NOERROR mx.example." {
		t.Errorf("MX: %s (%s)", summary(a), a.Text)
	}
	if a := r.Lookup(ctx, "big.example.", 16); summary(a) != "secure NOERROR 1 record" {
		t.Errorf("TXT over TCP: %s (%s)", summary(a), a.Text)
	}
	if q := n.drain(); !strings.Contains(strings.Join(q, "\n"), "TCP") {
		t.Errorf("TCP was not used: %q", q)
	}
}

// A forger sends first, from the right address but with a wrong id: the wait goes on.
func TestForgeryIgnored(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.10.4:0")
	if err != nil {
		t.Skip(err)
	}
	defer pc.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		_, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		pc.WriteTo([]byte("forged"), from)
		pc.WriteTo([]byte("true"), from)
	}()
	lim := DefaultLimits()
	tr := newNetTransport(&lim)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	x := Exchange{Server: netip.MustParseAddrPort(pc.LocalAddr().String()), Message: []byte("?"),
		Accept: func(b []byte) bool { return string(b) == "true" }}
	if b, err := tr.Exchange(ctx, x); string(b) != "true" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	<-done
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := tr.Exchange(short, x); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence gave %v", err)
	}
}
