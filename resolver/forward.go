package resolver

import (
	"net/netip"

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

// forwarder is the transport by recursive servers.
type forwarder struct {
	mode  ForwardMode
	zone  *delegation
	ports map[netip.Addr]uint16
}

func newForwarder(mode ForwardMode, to []netip.AddrPort) *forwarder {
	f := &forwarder{mode: mode, ports: make(map[netip.Addr]uint16)}
	f.zone = &delegation{zone: dnssec.Root, forward: true, fixed: true}
	for _, a := range to {
		ip := a.Addr().Unmap()
		f.zone.servers = append(f.zone.servers, Nameserver{Name: dnssec.Root, Addrs: []netip.Addr{ip}})
		f.ports[ip] = a.Port()
	}
	return f
}
