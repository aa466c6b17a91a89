package resolver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

var (
	good   = netip.MustParseAddr("192.0.2.21") // both serve signed.example.
	broken = netip.MustParseAddr("192.0.2.22")
	lonely = netip.MustParseAddr("192.0.2.31") // the only one of unsigned.example.
)

// lookups resolves with several seeds, so that each server is asked first at times.
func lookups(t *testing.T, n *internet, name string, qtype uint16, want string) {
	t.Helper()
	for range 8 {
		r := n.resolver(nil)
		a := r.Lookup(context.Background(), name, qtype)
		if got := summary(a); got != want {
			t.Fatalf("got  %s\nwant %s\n%s\n%s", got, want, a.Text, strings.Join(n.drain(), "\n"))
		}
		n.drain()
	}
}

// One server of two does what servers do wrong. The domain must work.
func TestOneBrokenServer(t *testing.T) {
	for what, wrong := range map[string]func(x Exchange, q, r *dns.Msg) *dns.Msg{
		"silent":   func(Exchange, *dns.Msg, *dns.Msg) *dns.Msg { return nil },
		"REFUSED":  func(_ Exchange, _, r *dns.Msg) *dns.Msg { return empty(r, dns.RcodeRefused) },
		"SERVFAIL": func(_ Exchange, _, r *dns.Msg) *dns.Msg { return empty(r, dns.RcodeServerFailure) },
		"FORMERR":  func(_ Exchange, _, r *dns.Msg) *dns.Msg { return empty(r, dns.RcodeFormatError) },
		"NXDOMAIN": func(_ Exchange, _, r *dns.Msg) *dns.Msg { return empty(r, dns.RcodeNameError) },
		"no data":  func(_ Exchange, _, r *dns.Msg) *dns.Msg { return empty(r, dns.RcodeSuccess) },
		"upward referral": func(_ Exchange, _, r *dns.Msg) *dns.Msg {
			r = empty(r, dns.RcodeSuccess)
			r.Authoritative = false
			r.Ns = []dns.RR{mustRR("example. NS ns1.example.")}
			return r
		},
		"wrong data": func(_ Exchange, _, r *dns.Msg) *dns.Msg {
			for i, rr := range r.Answer {
				if a, ok := rr.(*dns.A); ok {
					c := *a
					c.A = net.IPv4(192, 0, 2, 99)
					r.Answer[i] = &c
				}
			}
			return r
		},
		"no signatures": func(_ Exchange, _, r *dns.Msg) *dns.Msg {
			r.Answer, r.Ns = unsigned(r.Answer), unsigned(r.Ns)
			return r
		},
		"no EDNS": func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				r = empty(r, dns.RcodeFormatError)
			}
			r.Extra = nil
			r.Answer, r.Ns = unsigned(r.Answer), unsigned(r.Ns)
			return r
		},
		"cut, and no TCP": func(x Exchange, _, r *dns.Msg) *dns.Msg {
			if x.TCP {
				return nil
			}
			r = empty(r, dns.RcodeSuccess)
			r.Truncated = true
			return r
		},
		"another question": func(_ Exchange, _, r *dns.Msg) *dns.Msg {
			r.Question = []dns.Question{{Name: "www.evil.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
			return r
		},
		"another id":   func(_ Exchange, _, r *dns.Msg) *dns.Msg { r.Id++; return r },
		"no question":  func(_ Exchange, _, r *dns.Msg) *dns.Msg { r.Question = nil; return r },
		"not a reply":  func(_ Exchange, _, r *dns.Msg) *dns.Msg { r.Response = false; return r },
		"wrong cookie": func(_ Exchange, _, r *dns.Msg) *dns.Msg { return withCookie(r, "ffffffffffffffff0102030405060708") },
	} {
		t.Run(what, func(t *testing.T) {
			n := small(t)
			n.tamper = func(server netip.Addr, x Exchange, q, r *dns.Msg) *dns.Msg {
				if server == broken {
					return wrong(x, q, r)
				}
				return r
			}
			lookups(t, n, "mx.signed.example.", TypeA, "secure NOERROR 192.0.2.80")
		})
	}
}

func empty(r *dns.Msg, rcode int) *dns.Msg {
	out := &dns.Msg{MsgHdr: r.MsgHdr, Question: r.Question}
	out.Rcode = rcode
	return out
}

func unsigned(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		switch rr.Header().Rrtype {
		case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeDS:
		default:
			out = append(out, rr)
		}
	}
	return out
}

func mustRR(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}

func withCookie(r *dns.Msg, cookie string) *dns.Msg {
	if o := r.IsEdns0(); o != nil {
		o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	}
	return r
}

// The only server of an unsigned zone has a quirk. The domain must work, and
// the quirk be remembered where that saves queries.
func TestQuirks(t *testing.T) {
	for what, quirk := range map[string]struct {
		tamper  func(x Exchange, q, r *dns.Msg) *dns.Msg
		raw     func(x Exchange, reply []byte) ([]byte, error)
		queries int // to it, for a second name
	}{
		"FORMERR to EDNS": {tamper: func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				return empty(r, dns.RcodeFormatError)
			}
			return r
		}, queries: 1},
		"bare FORMERR to EDNS": {tamper: func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				r = empty(r, dns.RcodeFormatError)
				r.Question = nil
			}
			return r
		}, queries: 1},
		"drops EDNS": {tamper: func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				return nil
			}
			return r
		}, queries: 3},
		"BADVERS": {tamper: func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			if q.IsEdns0() != nil {
				r = empty(r, dns.RcodeSuccess)
				r.SetEdns0(1232, true)
				r.Rcode = dns.RcodeBadVers
			}
			return r
		}, queries: 1},
		"BADCOOKIE until shown its own": {tamper: func(_ Exchange, q, r *dns.Msg) *dns.Msg {
			c := clientCookieOf(q)
			if len(c) < 32 {
				r = empty(r, dns.RcodeSuccess)
				r.SetEdns0(1232, true)
				r.Rcode = dns.RcodeBadCookie
			}
			return withCookie(r, c[:16]+"a0a1a2a3a4a5a6a7")
		}, queries: 1},
		"name in lower case": {raw: func(_ Exchange, reply []byte) ([]byte, error) {
			for i := 12; reply[i] != 0; i++ {
				reply[i] = bytes.ToLower(reply[i : i+1])[0]
			}
			return reply, nil
		}, queries: 1},
		"name in lower case, and no TCP": {raw: func(x Exchange, reply []byte) ([]byte, error) {
			if x.TCP {
				return nil, syscall.ECONNREFUSED
			}
			for i := 12; reply[i] != 0; i++ {
				reply[i] = bytes.ToLower(reply[i : i+1])[0]
			}
			return reply, nil
		}, queries: 3},
		"everything over TCP": {tamper: func(x Exchange, _, r *dns.Msg) *dns.Msg {
			if !x.TCP {
				r = empty(r, dns.RcodeSuccess)
				r.Truncated = true
			}
			return r
		}, queries: 2},
	} {
		t.Run(what, func(t *testing.T) {
			n := small(t)
			n.tamper = func(server netip.Addr, x Exchange, q, r *dns.Msg) *dns.Msg {
				if server == lonely && quirk.tamper != nil {
					return quirk.tamper(x, q, r)
				}
				return r
			}
			n.raw = func(x Exchange, reply []byte) ([]byte, error) {
				if x.Server.Addr() == lonely && quirk.raw != nil {
					return quirk.raw(x, reply)
				}
				return reply, nil
			}
			r := n.resolver(nil)
			if a := r.Lookup(context.Background(), "mail.unsigned.example.", TypeA); summary(a) != "insecure NOERROR 192.0.2.82" {
				t.Fatalf("%s: %s\n%s", summary(a), a.Text, strings.Join(n.drain(), "\n"))
			}
			n.drain()
			r.Lookup(context.Background(), "unsigned.example.", TypeMX)
			if q := n.drain(); len(q) != quirk.queries {
				t.Errorf("%d queries, want %d:\n%s", len(q), quirk.queries, strings.Join(q, "\n"))
			}
		})
	}
}

func clientCookieOf(q *dns.Msg) string {
	for _, o := range q.IsEdns0().Option {
		if o, ok := o.(*dns.EDNS0_COOKIE); ok {
			return o.Cookie
		}
	}
	return ""
}

// A host without working IPv6 learns it once.
func TestNoIPv6(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1 2001:db8::1 2001:db8::2 2001:db8::3"},
		zoneSpec{name: "example.", servers: "192.0.2.2 2001:db8::4 2001:db8::5", records: "@ MX 10 mx\nmx A 192.0.2.80\n"},
	)
	tried := 0
	n.raw = func(x Exchange, reply []byte) ([]byte, error) {
		if x.Server.Addr().Is6() {
			tried++
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		return reply, nil
	}
	for range 8 {
		tried = 0
		r := n.resolver(nil)
		for i := range 10 {
			r.Lookup(context.Background(), fmt.Sprintf("h%d.example.", i), TypeA)
		}
		if tried > 1 {
			t.Fatalf("%d attempts over IPv6", tried)
		}
	}
}

// Servers that are slow for a moment are not servers that refuse EDNS, nor are
// they gone: the domain stays what it is.
func TestSlowForAMoment(t *testing.T) {
	for warm, silences := range map[bool]int{false: 2, true: 5} {
		t.Run(fmt.Sprintf("known=%v", warm), func(t *testing.T) {
			n := small(t)
			silent := map[netip.Addr]int{}
			n.tamper = func(server netip.Addr, _ Exchange, _, r *dns.Msg) *dns.Msg {
				if silent[server] > 0 {
					silent[server]--
					return nil
				}
				return r
			}
			r := n.resolver(nil)
			if warm {
				for range 8 { // until both servers are known to be quick
					r.Query(context.Background(), Question{Name: "\x04none\x06signed\x07example\x00", Type: TypeMX, CD: true})
				}
			}
			silent[broken], silent[good] = silences, silences
			if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.80" {
				t.Fatalf("%s: %s\n%s", summary(a), a.Text, strings.Join(n.drain(), "\n"))
			}
		})
	}
}
