package deliver

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// hop is where mail for a recipient goes next, before any look-up.
type hop struct {
	name   string // the queue's destination
	domain string // the next-hop domain, or the host of a relay or via
	port   uint16
	level  Level // configured; planHost turns it into what a host must prove
	fixed  bool  // relay or via: no MX look-up, the name is the site's own word

	fallbackVerify bool // without TLSA records: verify instead of may
	fingerprints   [][]byte
	username       string
	password       string
}

// implicitTLS: the port on which TLS starts before SMTP does (RFC 8314 §3.3).
func (h *hop) implicitTLS() bool { return h.fixed && h.port == 465 }

// hopFor finds the hop of a recipient's domain.
func (c *Config) hopFor(domain string) hop {
	p := c.policyFor(domain)
	switch {
	case p != nil && p.Via != "":
		host, port, err := splitVia(p.Via)
		if err != nil {
			break // Validate has refused it
		}
		h := hop{name: p.Via + "/" + strings.ToLower(p.Domain), domain: host, port: port, fixed: true,
			username: p.Username, password: p.Password}
		h.setLevel(c, p)
		return h
	case c.Relay != nil:
		return c.relayHop()
	}
	h := hop{name: domain, domain: domain, port: c.port()}
	if p == nil {
		p = &Policy{}
	}
	h.setLevel(c, p)
	return h
}

// relayHop: a relay without a policy of its own is DANE where it has TLSA
// records, else verified by the Web PKI.
func (c *Config) relayHop() hop {
	r := c.Relay
	port := r.Port
	if port == 0 {
		port = 587 // RFC 6409 §3.1
	}
	host := hostOrLiteral(r.Host)
	h := hop{name: net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(int(port))), domain: host, port: port,
		fixed: true, username: r.Username, password: r.Password}
	own := c.policyFor(host)
	if own == nil || own.TLS == LevelDefault {
		own = &Policy{TLS: LevelDANE}
		h.fallbackVerify = true
	}
	h.setLevel(c, own)
	return h
}

func (h *hop) setLevel(c *Config, p *Policy) {
	if p.TLS != LevelDefault {
		h.level = p.TLS
	}
	if h.level == LevelDefault && h.username != "" {
		// A password is shown to nobody but a verified host.
		h.level, h.fallbackVerify = LevelDANE, true
	}
	if h.level == LevelDefault {
		h.level = c.TLS
	}
	if h.level == LevelDefault {
		h.level = LevelDANE
	}
	for _, f := range p.Fingerprints {
		if b, err := parseFingerprint(f); err == nil {
			h.fingerprints = append(h.fingerprints, b)
		}
	}
}

func (c *Config) port() uint16 {
	if c.Port == 0 {
		return 25
	}
	return c.Port
}

// policyFor: the exact domain beats suffixes, a longer suffix a shorter one.
func (c *Config) policyFor(domain string) *Policy {
	var best *Policy
	for i := range c.Policies {
		p := &c.Policies[i]
		name := normalDomain(p.Domain)
		if name == domain {
			return p
		}
		if strings.HasPrefix(name, ".") && strings.HasSuffix(domain, name) &&
			(best == nil || len(name) > len(normalDomain(best.Domain))) {
			best = p
		}
	}
	return best
}

// normalDomain is a domain in lower case without the final dot. Domains come
// as A-labels: queue/submit and the configuration have seen to it.
func normalDomain(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// domainOf returns the domain of an address, or the literal with brackets.
func domainOf(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return normalDomain(address[i+1:])
}

// parseLiteral reads "[192.0.2.1]" and "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3).
func parseLiteral(domain string) (ip netip.Addr, is bool, err error) {
	if !strings.HasPrefix(domain, "[") || !strings.HasSuffix(domain, "]") {
		return ip, false, nil
	}
	s := domain[1 : len(domain)-1]
	if rest, ok := cutPrefixFold(s, "IPv6:"); ok {
		ip, err = netip.ParseAddr(rest)
		if err == nil && (!ip.Is6() || ip.Zone() != "") {
			err = fmt.Errorf("%q is not an IPv6 address", rest)
		}
		return ip, true, err
	}
	ip, err = netip.ParseAddr(s)
	if err == nil && !ip.Is4() {
		err = fmt.Errorf("%q is not an IPv4 address", s)
	}
	return ip, true, err
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// splitVia reads "host", "host:port", "[192.0.2.1]:25" and "192.0.2.1:25". An
// address comes back as a literal.
func splitVia(via string) (host string, port uint16, err error) {
	h, p, err := net.SplitHostPort(via)
	if err != nil {
		h, p = strings.Trim(via, "[]"), "25"
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || h == "" {
		return "", 0, fmt.Errorf("via = %q is not \"host:port\"", via)
	}
	return hostOrLiteral(h), uint16(n), nil
}

func hostOrLiteral(h string) string {
	ip, err := netip.ParseAddr(h)
	switch {
	case err != nil:
		return normalDomain(h)
	case ip.Is4():
		return "[" + h + "]"
	}
	return "[IPv6:" + h + "]"
}

// parseFingerprint reads a SHA-256 or SHA-512 digest in hex.
func parseFingerprint(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || (len(b) != 32 && len(b) != 64) {
		return nil, fmt.Errorf("fingerprint %q is not a SHA-256 or SHA-512 digest in hex", s)
	}
	return b, nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
