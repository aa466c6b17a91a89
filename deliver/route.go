package deliver

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// findRoute looks up where mail for a hop may go.
func (d *Deliverer) findRoute(ctx context.Context, h hop) route {
	if h.domain == "" {
		return route{hop: h, mxStatus: "none", problem: never("5.1.3", "the address has no domain")}
	}
	_, literal, _ := parseLiteral(h.domain)
	if h.fixed || literal {
		return planRoute(h, nil, d.cfg.Hostname)
	}
	return planRoute(h, d.resolver.Lookup(ctx, h.domain, resolver.TypeMX), d.cfg.Hostname)
}

// findGroup looks up the addresses of all hosts of group i, at once, and cuts
// the route if one of them is ourselves.
func (d *Deliverer) findGroup(ctx context.Context, r *route, i int) []*hostFacts {
	facts := make([]*hostFacts, len(r.groups[i]))
	var wg sync.WaitGroup
	for k, c := range r.groups[i] {
		f := &hostFacts{candidate: c, tlsa: map[string]*resolver.Answer{}}
		facts[k] = f
		switch {
		case r.literal.IsValid():
		case k < len(facts)-1:
			wg.Go(func() { d.findAddresses(ctx, f) })
		default:
			d.findAddresses(ctx, f) // one goroutine less for the usual single host
		}
	}
	wg.Wait()
	if r.mx && slices.ContainsFunc(facts, func(f *hostFacts) bool { return d.isOwn(f, r.hop.port) }) {
		r.cut(i)
		return nil
	}
	return facts
}

// findAddresses looks up both families at once. Where this host has no IPv6, proved IPv4
// addresses make the question for AAAA idle: it could add no way to the host,
// and no base domain of TLSA records (tlsaBases asks A first).
func (d *Deliverer) findAddresses(ctx context.Context, f *hostFacts) {
	a := func() { f.a = d.resolver.Lookup(ctx, f.host, resolver.TypeA) }
	if d.cfg.IPv6 != nil && !d.cfg.IPv6() {
		a()
		if failed(f.a) || f.a.Status != dnssec.Secure || len(f.a.Addrs()) == 0 {
			f.aaaa = d.resolver.Lookup(ctx, f.host, resolver.TypeAAAA)
		}
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.aaaa = d.resolver.Lookup(ctx, f.host, resolver.TypeAAAA) })
	a()
	wg.Wait()
}

// isOwn: a connection to this host would come back to this program.
func (d *Deliverer) isOwn(f *hostFacts, port uint16) bool {
	for _, a := range []*resolver.Answer{f.a, f.aaaa} {
		if failed(a) {
			continue
		}
		for _, ip := range a.Addrs() {
			if d.ownAddr(netip.AddrPortFrom(ip.Unmap(), port)) {
				return true
			}
		}
	}
	return false
}

func (d *Deliverer) ownAddr(to netip.AddrPort) bool {
	return slices.ContainsFunc(d.cfg.Own, func(own netip.AddrPort) bool {
		return own.Addr().Unmap() == to.Addr() && (own.Port() == 0 || own.Port() == to.Port())
	})
}

// findPlan looks up the TLSA records that a plan needs, one set after the
// other: whether a second is asked for depends on the first.
func (d *Deliverer) findPlan(ctx context.Context, r *route, f *hostFacts) hostPlan {
	for {
		p, ask := planHost(r, f)
		if ask == "" {
			return p
		}
		f.tlsa[ask] = d.resolver.Lookup(ctx, tlsaOwner(r.hop.port, ask), resolver.TypeTLSA)
		if f.tlsa[ask] == nil {
			f.tlsa[ask] = &resolver.Answer{}
		}
	}
}
