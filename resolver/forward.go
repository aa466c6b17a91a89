package resolver

import (
	"bufio"
	"bytes"
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"danepost/resolver/dnssec"
)

// ForwardMode says whether recursive servers are used as transport. What they
// send is validated here all the same.
type ForwardMode uint8

const (
	// ForwardOff iterates from the root.
	ForwardOff ForwardMode = iota
	// ForwardAlways sends every question to Config.ForwardTo.
	ForwardAlways
	// ForwardAuto iterates, and forwards while port 53 is blocked or intercepted.
	ForwardAuto
)

// forwarder is the transport by recursive servers, and the decision to use it.
type forwarder struct {
	mode   ForwardMode
	zone   *delegation
	ports  map[netip.Addr]uint16
	active atomic.Bool // questions are forwarded now

	mu      sync.Mutex
	checked time.Time // when the way to the root was last looked at
	why     string    // what was wrong with it
	probing bool
	probes  sync.WaitGroup
}

func newForwarder(c *Config) *forwarder {
	f := &forwarder{mode: c.Forward, ports: make(map[netip.Addr]uint16)}
	f.zone = &delegation{zone: dnssec.Root, forward: true, fixed: true}
	for _, a := range c.ForwardTo {
		if a == c.Listen {
			continue // this resolver's own listener: it would ask itself
		}
		ip := a.Addr().Unmap()
		f.zone.servers = append(f.zone.servers, Nameserver{Name: dnssec.Root, Addrs: []netip.Addr{ip}})
		f.ports[ip] = a.Port()
	}
	f.active.Store(f.mode == ForwardAlways)
	return f
}

// mayForward reports whether there is a choice to make.
func (f *forwarder) mayForward() bool {
	return f.mode == ForwardAuto && len(f.zone.servers) > 0
}

// Forwarding reports whether questions go to recursive servers at present,
// and for ForwardAuto why: what is wrong with port 53.
func (r *Resolver) Forwarding() (active bool, why string) {
	r.forward.mu.Lock()
	defer r.forward.mu.Unlock()
	return r.forward.active.Load(), r.forward.why
}

// ParseResolvConf returns the servers that a resolv.conf(5) names, on port 53.
func ParseResolvConf(data []byte) []netip.AddrPort {
	var out []netip.AddrPort
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if ip, err := netip.ParseAddr(words[1]); err == nil {
			out = append(out, netip.AddrPortFrom(ip, 53))
		}
	}
	return out
}

// chooseWay decides in ForwardAuto which way a resolution goes. The first one
// looks whether the root servers can be asked; while forwarding, that is looked at
// again from time to time, beside the resolutions.
func (r *Resolver) chooseWay(ctx context.Context) {
	f := r.forward
	if !f.mayForward() {
		return
	}
	now := r.now()
	f.mu.Lock()
	first := f.checked.IsZero()
	again := f.active.Load() && !f.probing && now.Sub(f.checked) >= r.lim.ForwardRecheck
	if first || again {
		f.checked = now
	}
	if again {
		f.probing = true
		f.probes.Add(1)
	}
	f.mu.Unlock()
	switch {
	case first:
		r.checkWay(ctx)
	case again:
		go func() {
			defer f.probes.Done()
			ctx, cancel := context.WithTimeout(r.life, r.lim.Time)
			defer cancel()
			r.checkWay(ctx)
			f.mu.Lock()
			f.probing = false
			f.mu.Unlock()
		}()
	}
}

// reconsider looks at the way to the root after a resolution found no server
// that answers, and reports whether it should be tried again by forwarding.
func (r *Resolver) reconsider(ctx context.Context, v dnssec.Verdict) bool {
	f := r.forward
	if !f.mayForward() || f.active.Load() || v.Reason != reasonUnreachable || ctx.Err() != nil {
		return false
	}
	now := r.now()
	f.mu.Lock()
	soon := now.Sub(f.checked) < r.lim.FailTTL
	if !soon {
		f.checked = now
	}
	f.mu.Unlock()
	if !soon {
		r.checkWay(ctx)
	}
	return f.active.Load()
}

// deserted reports whether a resolution found that no recursive server answers: whatever is
// wrong with port 53, it cannot be worse to try it.
func (f *forwarder) deserted(x *resolution, v dnssec.Verdict) bool {
	return f.mayForward() && x.forward && v.Reason == reasonUnreachable && x.ctx.Err() == nil
}

// iterateAgain ends forwarding, if it is not over yet, and says why.
func (r *Resolver) iterateAgain(why string) {
	f := r.forward
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = ""
	if f.active.Swap(false) {
		r.log.Info(why)
	}
}

// checkWay probes and sets the way, with one line in the log when it changes.
func (r *Resolver) checkWay(ctx context.Context) {
	why := r.probe(ctx)
	if ctx.Err() != nil {
		return
	}
	if why == "" {
		r.iterateAgain("port 53 reaches the root servers again; iterating")
		return
	}
	f := r.forward
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = why
	if !f.active.Swap(true) {
		r.log.Warn("port 53 does not reach the root servers; the configured resolvers carry the questions, answers are validated here",
			"why", why)
	}
}

// probe asks a few root servers for the root's NS records and returns what is
// wrong with the way there, "" if nothing. A root server answers with AA and
// offers no recursion; something in the way that answers in its place does not. Where there
// are few servers one is asked again, as patiently as any: a slow moment is no block.
func (r *Resolver) probe(ctx context.Context) string {
	x := r.newResolution(ctx)
	x.forward = false
	a := asking{x: x, d: r.hints}
	a.addGlue()
	last := "no root server has an address that this host may ask"
	for range r.lim.ForwardProbes {
		c := r.servers.pick(a.choices, dnssec.Root, x.now, r.random)
		if c == nil {
			break
		}
		m, err := x.exchange(c, question{dnssec.Root, TypeNS}, r.hints)
		switch {
		case err != nil:
			last = "blocked: " + err.Error()
		case m.rcode == rcodeNoError && m.has(flagAA) && findSet(m.answer, dnssec.Root, TypeNS) != nil:
			return ""
		default:
			return "intercepted: " + c.addr.String() + " is a root server, but what answers there is not"
		}
	}
	return last
}

// stripped explains a Bogus verdict that is due to a forwarder which does not pass DNSSEC records on.
func (x *resolution) stripped(v dnssec.Verdict, from netip.AddrPort) dnssec.Verdict {
	if !x.forward || v.Status != dnssec.Bogus {
		return v
	}
	switch v.Reason {
	case dnssec.ReasonDNSKEYMissing, dnssec.ReasonSignatureMissing, dnssec.ReasonNSECMissing:
		v.Text = "the forwarder " + from.String() + " leaves out DNSSEC records: " + v.Text
		v.Reason = "forwarder-strips-dnssec"
	}
	return v
}
