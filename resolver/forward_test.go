package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

var forwarderAddr = netip.MustParseAddrPort("198.51.100.53:5353")

// network is an internet behind a path that may be bad, and a recursive server before it.
type network struct {
	*internet
	recursive *Resolver
	blocked   atomic.Bool // nothing comes back from port 53
	caught    atomic.Bool // something in the way answers for every server
	strips    bool        // the recursive server leaves DNSSEC records out
}

func newNetwork(t *testing.T) *network {
	n := &network{internet: small(t)}
	n.recursive = n.internet.resolver(nil)
	return n
}

// Exchange implements Transport.
func (n *network) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	if x.Server != forwarderAddr && !n.caught.Load() {
		if n.blocked.Load() {
			<-ctx.Done()
			return nil, os.ErrDeadlineExceeded
		}
		return n.internet.Exchange(ctx, x)
	}
	q := new(dns.Msg)
	if err := q.Unpack(x.Message); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.queries = append(n.queries, "forwarder "+q.Question[0].Name)
	n.mu.Unlock()
	if x.Server == forwarderAddr && (!q.RecursionDesired || !q.CheckingDisabled || !q.IsEdns0().Do()) {
		n.t.Errorf("question to the forwarder without RD, CD or DO: %v", q)
	}
	l := &Listener{r: n.recursive, done: ctx}
	flags := x.Message[2] | 1 // whatever is in the way recurses
	msg := append([]byte(nil), x.Message...)
	msg[2] = flags
	reply := l.answer(context.WithoutCancel(ctx), msg, netip.MustParseAddrPort("127.0.0.1:1"), x.TCP)
	if n.strips {
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil {
			return nil, err
		}
		m.Answer, m.Ns = unsigned(m.Answer), unsigned(m.Ns)
		reply = pack(m)
	}
	if !x.Accept(reply) {
		return nil, errors.New("reply refused")
	}
	return reply, nil
}

func TestForwardAlways(t *testing.T) {
	n := newNetwork(t)
	use := func(c *Config) {
		c.Transport, c.Forward, c.ForwardTo = n, ForwardAlways, []netip.AddrPort{forwarderAddr}
	}
	r := n.resolver(use)
	for _, tt := range []struct{ name, qtype, want string }{
		{"mx.signed.example.", "A", "secure NOERROR 192.0.2.80"},
		{"none.signed.example.", "A", "secure NXDOMAIN"},
		{"mail.unsigned.example.", "A", "insecure NOERROR 192.0.2.82"},
		{"away.signed.example.", "A", "insecure NOERROR 192.0.2.82 via mail.unsigned.example.:secure"},
		{"mx.child.both.example.", "A", "secure NOERROR 192.0.2.86"},
	} {
		if a := r.Lookup(context.Background(), tt.name, dns.StringToType[tt.qtype]); summary(a) != tt.want {
			t.Errorf("%s: %s, want %s (%s)", tt.name, summary(a), tt.want, a.Text)
		}
	}
	n.strips = true
	a := n.resolver(use).Lookup(context.Background(), "mx.signed.example.", TypeA)
	if a.Status != dnssec.Bogus || a.Reason != "forwarder-strips-dnssec" || !strings.Contains(a.Text, "198.51.100.53") {
		t.Errorf("stripping forwarder: %s %s: %s", summary(a), a.Reason, a.Text)
	}
}

// Port 53 is blocked, or something answers in the servers' place: the configured
// resolvers carry the questions, until the way is free again.
func TestForwardAuto(t *testing.T) {
	for _, what := range []string{"blocked", "intercepted"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.blocked.Store(what == "blocked")
				n.caught.Store(what == "intercepted")
				var log bytes.Buffer
				now := testNow
				r := n.resolver(func(c *Config) {
					c.Transport, c.Forward, c.ForwardTo = n, ForwardAuto, []netip.AddrPort{forwarderAddr}
					c.Now = func() time.Time { return now }
					c.Log = slog.New(slog.NewTextHandler(&log, nil))
				})
				if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.80" {
					t.Errorf("%s: %s", summary(a), a.Text)
				}
				if on, why := r.Forwarding(); !on || !strings.HasPrefix(why, what) {
					t.Errorf("forwarding %v: %s", on, why)
				}
				r.Lookup(context.Background(), "signed.example.", TypeMX)
				if got := strings.Count(log.String(), "\n"); got != 1 {
					t.Errorf("%d lines in the log:\n%s", got, log.String())
				}
				n.blocked.Store(false)
				n.caught.Store(false)
				now = now.Add(11 * time.Minute)
				r.Lookup(context.Background(), "www.signed.example.", TypeA)
				synctest.Wait()
				if on, _ := r.Forwarding(); on {
					t.Error("still forwarding")
				}
				if got := strings.Count(log.String(), "\n"); got != 2 {
					t.Errorf("%d lines in the log:\n%s", got, log.String())
				}
				n.drain()
				r.Lookup(context.Background(), "mail.unsigned.example.", TypeA)
				if q := strings.Join(n.drain(), "\n"); strings.Contains(q, "forwarder") {
					t.Error("the forwarder was asked again")
				}
				r.Close()
			})
		})
	}
}

// The way gets blocked later: the look-up that finds out is answered all the same.
func TestForwardLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		now := testNow
		r := n.resolver(func(c *Config) {
			c.Transport, c.Forward, c.ForwardTo = n, ForwardAuto, []netip.AddrPort{forwarderAddr}
			c.Now = func() time.Time { return now }
		})
		if a := r.Lookup(context.Background(), "signed.example.", TypeMX); a.Status != dnssec.Secure {
			t.Errorf("%s: %s", summary(a), a.Text)
		}
		n.blocked.Store(true)
		now = now.Add(time.Minute)
		if a := r.Lookup(context.Background(), "mx.child.both.example.", TypeA); a.Status != dnssec.Secure {
			t.Errorf("%s: %s", summary(a), a.Text)
		}
		r.Close()
	})
}

// A resolver never forwards to itself.
func TestForwardNoLoop(t *testing.T) {
	self := netip.MustParseAddrPort("127.0.0.1:53")
	f := newForwarder(&Config{Forward: ForwardAuto, Listen: self, ForwardTo: []netip.AddrPort{self, forwarderAddr}})
	if len(f.zone.servers) != 1 || f.zone.servers[0].Addrs[0] != forwarderAddr.Addr() {
		t.Errorf("%+v", f.zone.servers)
	}
	got := ParseResolvConf([]byte("# c\nsearch lan\nnameserver 127.0.0.1\nnameserver fe80::1%eth0\noptions edns0\nnameserver x\n"))
	if fmt.Sprint(got) != "[127.0.0.1:53 [fe80::1%eth0]:53]" {
		t.Error(got)
	}
}

// A clock that is not set makes all answers wait, but those by which it can be set.
func TestNotReady(t *testing.T) {
	n := small(t)
	unset := errors.New("clock not set")
	r := n.resolver(func(c *Config) {
		c.Ready = func() error { return unset }
		c.ClockNames = []dnssec.Name{mustName("mx.signed.example.")}
	})
	a := r.Lookup(context.Background(), "mx.signed.example.", TypeA)
	if a.Status != dnssec.Indeterminate || a.Reason != "not-ready" || len(n.drain()) != 0 {
		t.Errorf("%s %s", summary(a), a.Reason)
	}
	ask := func(name string) *Response {
		return r.Query(context.Background(), Question{Name: mustName(name), Type: TypeA})
	}
	if resp := ask("mx.signed.example."); resp.Rcode != 0 || resp.AD || len(resp.Answer) == 0 {
		t.Errorf("time server: %+v", resp)
	}
	if resp := ask("signed.example."); resp.Rcode != rcodeServFail || len(resp.EDE) != 1 || resp.EDE[0].Code != edeNotReady {
		t.Errorf("another name: %+v", resp)
	}
	unset = nil
	if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
		t.Errorf("set: %s", summary(a))
	}
}

// Names by which operators see who trusts a root key (RFC 8509).
func TestSentinel(t *testing.T) {
	var records strings.Builder
	n := newInternet(t, zoneSpec{name: ".", servers: "192.0.2.1"})
	tag := n.zones["."].key.KeyTag()
	for _, form := range []string{"is", "not"} {
		for _, k := range []uint16{tag, tag + 1} {
			fmt.Fprintf(&records, "root-key-sentinel-%s-ta-%05d A 192.0.2.80\n", form, k)
		}
	}
	key, priv := n.zones["."].key, n.zones["."].priv
	n.add(zoneSpec{name: ".", servers: "192.0.2.1", records: records.String()})
	z := n.zones["."]
	z.rrs["."][dns.TypeDNSKEY] = []dns.RR{key}
	z.key, z.priv, z.signing, z.signer = key, priv, key, priv
	z.finish(t)
	r := n.resolver(nil)
	for name, want := range map[string]int{
		fmt.Sprintf("root-key-sentinel-is-ta-%05d.", tag):    0,
		fmt.Sprintf("root-key-sentinel-not-ta-%05d.", tag):   rcodeServFail,
		fmt.Sprintf("root-key-sentinel-is-ta-%05d.", tag+1):  rcodeServFail,
		fmt.Sprintf("root-key-sentinel-not-ta-%05d.", tag+1): 0,
	} {
		if resp := r.Query(context.Background(), Question{Name: mustName(name), Type: TypeA}); resp.Rcode != want {
			t.Errorf("%s: rcode %d, want %d", name, resp.Rcode, want)
		}
	}
}

// Special names never leave the host.
func TestSpecialNames(t *testing.T) {
	n := small(t)
	r := n.resolver(nil)
	for _, name := range []string{"localhost.", "a.localhost.", "x.invalid.", "printer.local.", "abc.onion.", "a.alt.",
		"192.0.2.1.", "1.0.0.127.in-addr.arpa.", "4.3.2.10.in-addr.arpa."} {
		if a := r.Lookup(context.Background(), name, TypeA); a.Status != dnssec.Insecure {
			t.Errorf("%s: %s", name, summary(a))
		}
	}
	if q := n.drain(); len(q) != 0 {
		t.Errorf("asked %q", q)
	}
}

func TestHints(t *testing.T) {
	if h := DefaultHints(); len(h) != 13 || h[12].Name.String() != "m.root-servers.net." || len(h[12].Addrs) != 2 {
		t.Error(h)
	}
	h, err := ParseHints([]byte(". 3600 NS ns1.\nns1. A 127.0.0.1\nns1. AAAA ::1\n"), "hints")
	if err != nil || len(h) != 1 || len(h[0].Addrs) != 2 {
		t.Error(h, err)
	}
	for _, bad := range []string{"", "garbage", "example. NS ns1.\n", ". NS ns1.\n"} {
		if _, err := ParseHints([]byte(bad), "file.hints"); err == nil || !strings.Contains(err.Error(), "hints") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
