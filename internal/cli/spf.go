package cli

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"danepost/resolver"
)

// spfResult is what a domain's SPF record says of an address (RFC 7208 §2.6),
// by rising trouble.
type spfResult uint8

const (
	spfPass spfResult = iota
	spfUnknown
	spfNone
	spfNeutral
	spfBroken // permerror
	spfSoftFail
	spfFail
)

// spf evaluates a record as a receiver would, as far as an administrator's
// question needs it: macros are not expanded, and what depends on them is
// unknown.
type spf struct {
	lookup func(ctx context.Context, name string, qtype uint16) *resolver.Answer
	ip     netip.Addr
	asked  int // look-ups made
}

// maxSPFLookups is the limit of RFC 7208 §4.6.4.
const maxSPFLookups = 10

// checkSPF returns what domain's record says of ip. With no valid address it
// says only whether there is a record.
func checkSPF(ctx context.Context, lookup func(context.Context, string, uint16) *resolver.Answer, domain string, ip netip.Addr) spfResult {
	s := &spf{lookup: lookup, ip: ip.Unmap()}
	return s.check(ctx, domain)
}

func (s *spf) check(ctx context.Context, domain string) spfResult {
	a := s.lookup(ctx, domain, dns.TypeTXT)
	if !usable(a) {
		return spfUnknown
	}
	var records []string
	for _, rr := range a.RRs {
		if text := txtOf(rr); text == "v=spf1" || strings.HasPrefix(text, "v=spf1 ") {
			records = append(records, text)
		}
	}
	switch {
	case len(records) == 0:
		return spfNone
	case len(records) > 1:
		return spfBroken // RFC 7208 §4.5
	case !s.ip.IsValid():
		return spfUnknown
	}
	return s.evaluate(ctx, domain, strings.Fields(records[0])[1:])
}

// txtOf joins the strings of a TXT record (RFC 7208 §3.3).
func txtOf(rr resolver.RR) string {
	var b strings.Builder
	for data := rr.Data; rr.Type == dns.TypeTXT && len(data) > 0; {
		n := int(data[0])
		if n >= len(data) {
			break
		}
		b.Write(data[1 : 1+n])
		data = data[1+n:]
	}
	return b.String()
}

// evaluate goes through the terms in order: the first mechanism that matches
// decides (RFC 7208 §4.6.2).
func (s *spf) evaluate(ctx context.Context, domain string, terms []string) spfResult {
	redirect := ""
	for _, term := range terms {
		if name, value, ok := strings.Cut(term, "="); ok && !strings.ContainsAny(name, ":/") {
			if strings.EqualFold(name, "redirect") {
				redirect = value
			}
			continue
		}
		verdict := spfPass
		switch term[0] {
		case '+', '-', '~', '?':
			verdict = map[byte]spfResult{'+': spfPass, '-': spfFail, '~': spfSoftFail, '?': spfNeutral}[term[0]]
			term = term[1:]
		}
		switch found := s.mechanism(ctx, domain, term); found {
		case spfPass:
			return verdict
		case spfUnknown, spfBroken:
			return found
		}
	}
	if redirect != "" {
		if !s.spend() || strings.Contains(redirect, "%") {
			return spfUnknown
		}
		if r := s.check(ctx, redirect); r != spfNone {
			return r
		}
		return spfBroken // RFC 7208 §6.1
	}
	return spfNeutral // RFC 7208 §4.7
}

// spend counts a look-up; false: there were too many.
func (s *spf) spend() bool {
	s.asked++
	return s.asked <= maxSPFLookups
}

// mechanism says whether a mechanism matches: spfPass, or spfFail for no.
func (s *spf) mechanism(ctx context.Context, domain, term string) spfResult {
	name, prefixes, _ := strings.Cut(term, "/")
	name, arg, _ := strings.Cut(name, ":")
	name = strings.ToLower(name)
	if name == "ip4" || name == "ip6" {
		_, arg, _ = strings.Cut(term, ":")
		return matched(covers(arg, s.ip))
	}
	if name == "all" {
		return spfPass
	}
	if !slices.Contains([]string{"a", "mx", "include", "exists", "ptr"}, name) {
		return spfBroken
	}
	if !s.spend() {
		return spfBroken
	}
	if strings.Contains(arg, "%") || name == "ptr" {
		return spfUnknown
	}
	if arg == "" {
		arg = domain
	}
	switch name {
	case "include":
		switch r := s.check(ctx, arg); r {
		case spfPass, spfUnknown:
			return r
		case spfNone, spfBroken:
			return spfBroken // RFC 7208 §5.2
		}
		return spfFail
	case "exists":
		a := s.lookup(ctx, arg, resolver.TypeA)
		return matched(len(a.RRs) > 0)
	case "mx":
		return s.exchangers(ctx, arg, prefixes)
	}
	return s.address(ctx, arg, prefixes)
}

func matched(yes bool) spfResult {
	if yes {
		return spfPass
	}
	return spfFail
}

// covers reports whether an ip4 or ip6 argument holds ip.
func covers(arg string, ip netip.Addr) bool {
	if p, err := netip.ParsePrefix(arg); err == nil {
		return p.Contains(ip)
	}
	a, err := netip.ParseAddr(arg)
	return err == nil && a == ip
}

// address matches the addresses of a name, widened by a prefix length "n",
// "n//m" or "/m" (RFC 7208 §5.6).
func (s *spf) address(ctx context.Context, name, prefixes string) spfResult {
	qtype, bits := resolver.TypeA, 32
	four, six, _ := strings.Cut(prefixes, "/")
	own := four
	if s.ip.Is6() {
		qtype, bits, own = resolver.TypeAAAA, 128, strings.TrimPrefix(six, "/")
	}
	if own != "" {
		n, err := strconv.Atoi(own)
		if err != nil || n < 0 || n > bits {
			return spfBroken
		}
		bits = n
	}
	a := s.lookup(ctx, name, qtype)
	if !usable(a) {
		return spfUnknown
	}
	for _, ip := range a.Addrs() {
		if p, err := ip.Prefix(bits); err == nil && p.Contains(s.ip) {
			return spfPass
		}
	}
	return spfFail
}

func (s *spf) exchangers(ctx context.Context, name, prefixes string) spfResult {
	a := s.lookup(ctx, name, resolver.TypeMX)
	if !usable(a) {
		return spfUnknown
	}
	hosts := a.MXs()
	if len(hosts) > maxSPFLookups {
		return spfBroken // RFC 7208 §4.6.4
	}
	for _, mx := range hosts {
		if r := s.address(ctx, mx.Host.String(), prefixes); r != spfFail {
			return r
		}
	}
	return spfFail
}
