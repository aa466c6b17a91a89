package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// What would cost without end stops at a limit: never Insecure, with the name
// of the limit, within the packets allowed; and other names go on being resolved.
func TestLimits(t *testing.T) {
	var fan, loop, chain strings.Builder
	for i := range 50 {
		fmt.Fprintf(&fan, "fan NS ns%d.victim.example.\n", i)
	}
	for i := range 20 {
		fmt.Fprintf(&chain, "c%d CNAME c%d\n", i, i+1)
	}
	for i := range 150 {
		fmt.Fprintf(&chain, "wide TXT r%d\n", i)
	}
	loop.WriteString("l1 CNAME l2\nl2 CNAME l1\nself CNAME self\n")
	for _, tt := range []struct {
		name    string
		qtype   uint16
		tighten func(*Limits)
		reason  dnssec.Reason
		packets int // at most
	}{
		{name: "mx.fan.attacker.example.", qtype: TypeA, packets: 30, reason: "limit-missing-glue"},
		{name: "wide.attacker.example.", qtype: 16, packets: 12, reason: "limit-rrs-per-rrset"},
		{name: "l1.attacker.example.", qtype: TypeA, reason: "limit-aliases", packets: 12},
		{name: "self.attacker.example.", qtype: TypeA, reason: "limit-aliases", packets: 12},
		{name: "c0.attacker.example.", qtype: TypeMX, reason: "limit-aliases", packets: 20},
		{name: "mx.signed.example.", qtype: TypeA, tighten: func(l *Limits) { l.Packets = 3 }, reason: "limit-packets", packets: 3},
		{name: "mx.signed.example.", qtype: TypeA, tighten: func(l *Limits) { l.SignatureChecks = 2 }, reason: dnssec.ReasonLimitChecks, packets: 20},
		{name: "mx.signed.example.", qtype: TypeA, tighten: func(l *Limits) { l.Referrals = 1 }, reason: "limit-referrals", packets: 20},
		{name: "mx.bogus.example.", qtype: TypeMX, tighten: func(l *Limits) { l.FailedChecks = 0 }, packets: 20},
	} {
		t.Run(tt.name+string(tt.reason), func(t *testing.T) {
			n := small(t)
			n.add(zoneSpec{name: "attacker.example.", servers: "192.0.2.71", unsigned: true,
				records: fan.String() + loop.String() + chain.String()})
			n.add(zoneSpec{name: "victim.example.", servers: "192.0.2.72", unsigned: true})
			for _, z := range []string{"attacker.example.", "victim.example."} {
				n.zones[z].finish(t)
				n.rejoin(z)
			}
			lim := DefaultLimits()
			if tt.tighten != nil {
				tt.tighten(&lim)
			}
			r := n.resolver(func(c *Config) { c.Limits = &lim })
			a := r.Lookup(context.Background(), tt.name, tt.qtype)
			q := n.drain()
			if a.Status == dnssec.Insecure || a.Status == dnssec.Secure && tt.reason != "" || tt.reason != "" && a.Reason != tt.reason {
				t.Errorf("%s %s: %s", summary(a), a.Reason, a.Text)
			}
			if len(q) > tt.packets || a.Queries != len(q) {
				t.Errorf("%d packets, told as %d:\n%s", len(q), a.Queries, strings.Join(q, "\n"))
			}
			if tt.tighten == nil {
				if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
					t.Errorf("another name: %s: %s", summary(a), a.Text)
				}
			}
		})
	}
}

// rejoin adds an unsigned zone to its signed parent after that was made.
func (n *internet) rejoin(zone string) {
	z, up := n.zones[zone], n.zones[parentOf(zone)]
	n.delegate(z)
	up.names, up.sigs = nil, map[string]map[uint16][]dns.RR{}
	for _, sets := range up.rrs {
		delete(sets, dns.TypeNSEC)
	}
	up.finish(n.t)
}

// More signatures than are looked at, none of them good, cost a bounded number of checks (KeyTrap).
func TestManySignatures(t *testing.T) {
	n := small(t)
	n.tamper = func(server netip.Addr, _ Exchange, q, r *dns.Msg) *dns.Msg {
		r = copyMsg(r)
		var more []dns.RR
		for _, rr := range r.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok && q.Question[0].Qtype == dns.TypeA {
				for i := range 60 {
					c := *sig
					c.Expiration += uint32(i + 1)
					more = append(more, &c)
				}
			}
		}
		r.Answer = append(more, r.Answer...)
		return r
	}
	r := n.resolver(nil)
	a := r.Lookup(context.Background(), "mx.signed.example.", TypeA)
	if a.Status == dnssec.Secure || a.Status == dnssec.Insecure {
		t.Errorf("%s: %s", summary(a), a.Text)
	}
}

// Time, and the caller's patience.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := small(t)
		silent := transportFunc(func(ctx context.Context, x Exchange) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		r := n.resolver(func(c *Config) { c.Transport = silent })
		start := time.Now()
		a := r.Lookup(context.Background(), "mx.signed.example.", TypeA)
		if took := time.Since(start); a.Status != dnssec.Indeterminate || took > 20*time.Second || a.Elapsed != took {
			t.Errorf("%s after %v (%v)", summary(a), took, a.Elapsed)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start = time.Now()
		a = n.resolver(func(c *Config) { c.Transport = silent }).Lookup(ctx, "mx.signed.example.", TypeA)
		if took := time.Since(start); a.Status != dnssec.Indeterminate || took != time.Second {
			t.Errorf("%s after %v", summary(a), took)
		}
	})
}

type transportFunc func(ctx context.Context, x Exchange) ([]byte, error)

func (f transportFunc) Exchange(ctx context.Context, x Exchange) ([]byte, error) { return f(ctx, x) }

// Failures are remembered for longer and longer, but not for ever.
func TestFailureMemory(t *testing.T) {
	n := small(t)
	now := testNow
	down := true
	n.raw = func(x Exchange, reply []byte) ([]byte, error) {
		if down && x.Server.Addr() == lonely {
			return nil, os.ErrDeadlineExceeded
		}
		return reply, nil
	}
	r := n.resolver(func(c *Config) { c.Now = func() time.Time { return now } })
	asked := func() int {
		n.drain()
		r.Lookup(context.Background(), "unsigned.example.", TypeMX)
		return len(n.drain())
	}
	asked()
	for i, step := range []struct {
		wait time.Duration
		asks bool
	}{{4 * time.Second, false}, {2 * time.Second, true}, {6 * time.Second, false}, {5 * time.Second, true}, {15 * time.Second, false}} {
		now = now.Add(step.wait)
		if got := asked() > 0; got != step.asks {
			t.Errorf("step %d: asked %v", i, got)
		}
	}
	now, down = now.Add(5*time.Minute), false
	if a := r.Lookup(context.Background(), "unsigned.example.", TypeMX); a.Rcode != 0 {
		t.Errorf("recovered: %s (%s)", summary(a), a.Text)
	}
}

// A name that its parent deleted dies with the delegation's TTL, however
// much its servers are asked, and whatever they delegate further down.
func TestGhostDomain(t *testing.T) {
	n := newInternet(t,
		zoneSpec{name: ".", servers: "192.0.2.1"},
		zoneSpec{name: "example.", servers: "192.0.2.2", unsigned: true},
		zoneSpec{name: "ghost.example.", servers: "192.0.2.3", unsigned: true, records: "h A 192.0.2.80\n"},
		zoneSpec{name: "deep.ghost.example.", servers: "192.0.2.4", unsigned: true, records: "h A 192.0.2.80\n"},
	)
	now := testNow
	r := n.resolver(func(c *Config) { c.Now = func() time.Time { return now } })
	keep := func(name string) *Answer {
		r.cache.drop(cacheKey{mustName(name), TypeA, kindOutcome})
		r.cache.drop(cacheKey{mustName(name), TypeA, kindFact})
		return r.Lookup(context.Background(), name, TypeA)
	}
	keep("h.ghost.example.")
	keep("h.deep.ghost.example.")
	delete(n.zones["example."].rrs, "ghost.example.")
	n.zones["example."].names = slices.DeleteFunc(n.zones["example."].names, func(name string) bool { return name == "ghost.example." })
	for range 7 {
		now = now.Add(9 * time.Minute)
		if now.Sub(testNow) > time.Hour {
			break
		}
		keep("h.ghost.example.")
		keep("h.deep.ghost.example.")
	}
	now = testNow.Add(61 * time.Minute)
	for _, name := range []string{"h.ghost.example.", "h.deep.ghost.example."} {
		if a := keep(name); a.Rcode != rcodeNXDomain {
			t.Errorf("%s: %s\n%s", name, summary(a), strings.Join(n.drain(), "\n"))
		}
	}
}

// Hundreds ask the same: it is asked once. One who gives up does not take the others along.
func TestOneFlight(t *testing.T) {
	n := small(t)
	gate := make(chan struct{})
	var once sync.Once
	started := make(chan struct{})
	slow := transportFunc(func(ctx context.Context, x Exchange) ([]byte, error) {
		once.Do(func() { close(started) })
		select {
		case <-gate:
			return n.Exchange(ctx, x)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	r := n.resolver(func(c *Config) { c.Transport = slow })
	ctx, giveUp := context.WithCancel(context.Background())
	first := make(chan *Answer, 1)
	go func() { first <- r.Lookup(ctx, "mx.signed.example.", TypeA) }()
	<-started
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			name := []string{"mx.signed.example.", "signed.example.", "www.signed.example."}[i%3]
			if a := r.Lookup(context.Background(), name, TypeA); a.Status != dnssec.Secure {
				t.Errorf("%s: %s", summary(a), a.Text)
			}
		})
	}
	giveUp()
	if a := <-first; a.Status != dnssec.Indeterminate || a.Reason != "cancelled" {
		t.Errorf("who gave up: %s %s", summary(a), a.Reason)
	}
	close(gate)
	wg.Wait()
	seen := map[string]int{}
	for _, q := range n.drain() {
		q = strings.Replace(q, good.String(), broken.String(), 1) // two servers of one zone
		q = strings.Replace(q, "192.0.2.1 ", "192.0.2.2 ", 1)
		if seen[q]++; seen[q] > 1 {
			t.Errorf("asked twice: %s", q)
		}
	}
}

// The cache keeps its bound, and throws out what was not used for longest.
func TestCacheBound(t *testing.T) {
	c := newCache(100_000)
	for i := range 5000 {
		name := dnssec.Name(fmt.Sprintf("\x06n%05d\x00", i))
		c.put(cacheKey{name, TypeA, kindFact}, &fact{name: name}, testNow.Add(time.Hour))
		c.get(cacheKey{"\x06n00000\x00", TypeA, kindFact}, testNow)
		if c.size > c.max {
			t.Fatalf("%d bytes", c.size)
		}
	}
	if c.get(cacheKey{"\x06n00000\x00", TypeA, kindFact}, testNow) == nil {
		t.Error("what is in use was thrown out")
	}
	if c.get(cacheKey{"\x06n00001\x00", TypeA, kindFact}, testNow) != nil {
		t.Error("what is not in use was kept")
	}
	if c.get(cacheKey{"\x06n04999\x00", TypeA, kindFact}, testNow.Add(time.Hour)) != nil {
		t.Error("an expired entry was returned")
	}
}

// Secure denials answer for names that were never asked (RFC 8020, RFC 8198).
func TestDenialsReused(t *testing.T) {
	n := small(t)
	r := n.resolver(nil)
	r.Lookup(context.Background(), "nothing.signed.example.", TypeA)
	n.drain()
	for _, name := range []string{"a.nothing.signed.example.", "nothing2.signed.example.", "nothing.signed.example."} {
		if a := r.Lookup(context.Background(), name, TypeMX); a.Status != dnssec.Secure || a.Rcode != rcodeNXDomain {
			t.Errorf("%s: %s", name, summary(a))
		}
	}
	if q := n.drain(); len(q) != 0 {
		t.Errorf("asked %q", q)
	}
	if a := r.Lookup(context.Background(), "a.wild.signed.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.81" {
		t.Errorf("wildcard: %s", summary(a))
	}
	n.drain()
	if a := r.Lookup(context.Background(), "b.wild.signed.example.", TypeA); summary(a) != "secure NOERROR 192.0.2.81" || len(n.drain()) != 0 {
		t.Errorf("wildcard from the cache: %s", summary(a))
	}
}
