package cli

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// familiesFor is how long an answer about the host's addresses is believed:
// networks come and go under a running daemon.
const familiesFor = 10 * time.Second

// families knows whether the host has IPv6. It is safe for concurrent use.
type families struct {
	mu    sync.Mutex
	until time.Time
	six   bool
}

// ipv6 reports whether any interface has an IPv6 address that reaches beyond
// its link and the host. If that cannot be told, it has.
func (f *families) ipv6() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.until) {
		return f.six
	}
	addrs, err := net.InterfaceAddrs()
	f.until, f.six = now.Add(familiesFor), err != nil
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() && !p.Addr().Is4In6() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			f.six = true
		}
	}
	return f.six
}
