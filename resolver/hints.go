package resolver

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// Nameserver is a server's name and the addresses known for it.
type Nameserver struct {
	Name  dnssec.Name
	Addrs []netip.Addr
}

// rootHints lists the root servers as of the year 2026; priming (RFC 9609) replaces them by what the
// root itself says.
var rootHints = [...]struct {
	letter byte
	v4, v6 string
}{
	{'a', "198.41.0.4", "2001:503:ba3e::2:30"},
	{'b', "170.247.170.2", "2801:1b8:10::b"},
	{'c', "192.33.4.12", "2001:500:2::c"},
	{'d', "199.7.91.13", "2001:500:2d::d"},
	{'e', "192.203.230.10", "2001:500:a8::e"},
	{'f', "192.5.5.241", "2001:500:2f::f"},
	{'g', "192.112.36.4", "2001:500:12::d0d"},
	{'h', "198.97.190.53", "2001:500:1::53"},
	{'i', "192.36.148.17", "2001:7fe::53"},
	{'j', "192.58.128.30", "2001:503:c27::2:30"},
	{'k', "193.0.14.129", "2001:7fd::1"},
	{'l', "199.7.83.42", "2001:500:9f::42"},
	{'m', "202.12.27.33", "2001:dc3::35"},
}

// DefaultHints returns the names and addresses of the root servers.
func DefaultHints() []Nameserver {
	var out []Nameserver
	for _, h := range rootHints {
		name := dnssec.Name("\x01" + string(h.letter) + "\x0croot-servers\x03net\x00")
		out = append(out, Nameserver{name, []netip.Addr{netip.MustParseAddr(h.v4), netip.MustParseAddr(h.v6)}})
	}
	return out
}

// ParseHints reads root hints in zone-file form: NS records of the root and the
// addresses of the servers they name. file is named in errors.
func ParseHints(data []byte, file string) ([]Nameserver, error) {
	p := dns.NewZoneParser(bytes.NewReader(data), ".", file)
	p.SetDefaultTTL(3600)
	var order []dnssec.Name
	addrs := map[dnssec.Name][]netip.Addr{}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		owner, err := dnssec.ParseName(rr.Header().Name)
		if err != nil {
			return nil, fmt.Errorf("root hints %s: %w", file, err)
		}
		switch rr := rr.(type) {
		case *dns.NS:
			ns, err := dnssec.ParseName(rr.Ns)
			if err != nil || owner != dnssec.Root {
				return nil, fmt.Errorf("root hints %s: %q: expected NS records of the root", file, rr.String())
			}
			order = append(order, ns)
		case *dns.A:
			ip, _ := netip.AddrFromSlice(rr.A.To4())
			addrs[owner] = append(addrs[owner], ip)
		case *dns.AAAA:
			ip, _ := netip.AddrFromSlice(rr.AAAA.To16())
			addrs[owner] = append(addrs[owner], ip)
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("root hints: %w (expected NS, A and AAAA records)", err)
	}
	var out []Nameserver
	for _, name := range order {
		if len(addrs[name]) > 0 {
			out = append(out, Nameserver{name, addrs[name]})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("root hints %s: no root server with an address; expected NS records of \".\" and their A or AAAA", file)
	}
	return out, nil
}
