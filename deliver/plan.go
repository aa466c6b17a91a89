package deliver

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"danepost/resolver"
	"danepost/resolver/dnssec"
	"danepost/tlsa"
)

// The plan is a function of look-up results: it decides which hosts a domain
// has and what each must prove, and opens no socket. planRoute reads the MX
// records; planHost reads what is known of one host and either says which
// TLSA record set it still needs or what the host must prove.

// route is where mail for one next-hop domain may go.
type route struct {
	hop      hop
	mxStatus string        // "secure", "insecure", "none", "null", "bogus", "indeterminate"
	mx       bool          // the hosts come from MX records
	secure   bool          // the way from the domain to its hosts' names is proved, or the site's own word
	names    []string      // the domain's names that a host's certificate may carry (RFC 7672 §3.2.2)
	groups   [][]candidate // by rising preference
	literal  netip.Addr    // an address literal: no names, no DANE
	looped   bool          // we ourselves stand in the MX records
	problem  *failure
}

// candidate is one MX host, or the domain itself.
type candidate struct {
	host       string
	preference uint16
}

// planRoute reads the answer for MX. mx is nil for a relay, a via and an
// address literal, which have no MX look-up.
func planRoute(h hop, mx *resolver.Answer, hostname string) route {
	r := route{hop: h, mxStatus: "none"}
	ip, is, err := parseLiteral(h.domain)
	switch {
	case is && err != nil:
		r.problem = never("5.1.2", "%s is not an address literal: %v", h.domain, err)
		return r
	case is:
		// RFC 5321 §4.1.3: no look-up, so nothing that could carry TLSA records.
		r.literal, r.secure = ip, h.fixed
		r.groups = [][]candidate{{{host: h.domain}}}
		return r
	case mx == nil:
		r.secure = true // RFC 7672 §2.2.2: configured here, so nobody can have forged it
		r.toDomainItself()
		return r
	}
	r.readMX(mx, hostname)
	return r
}

func (r *route) toDomainItself() {
	r.groups = [][]candidate{{{host: r.hop.domain}}}
	r.names = []string{r.hop.domain}
}

func (r *route) readMX(mx *resolver.Answer, hostname string) {
	domain := r.hop.domain
	if failed(mx) {
		// RFC 7672 §2.2.1: no delivery on the word of an answer that cannot be trusted.
		r.mxStatus = mx.Status.String()
		r.problem = later("4.4.3", "the MX records of %s %s", domain, whyFailed(mx))
		return
	}
	r.secure = mx.Status == dnssec.Secure
	if mx.Rcode == rcodeNXDomain {
		r.problem = never("5.1.2", "the domain %s does not exist", domain)
		return
	}
	hosts := mx.MXs()
	if len(hosts) == 0 {
		r.toDomainItself() // RFC 5321 §5.1: the implicit MX
		return
	}
	if len(hosts) == 1 && hosts[0].Host == dnssec.Root {
		r.mxStatus = "null"
		r.problem = never("5.1.10", "%s says that it takes no mail (null MX, RFC 7505)", domain)
		return
	}
	r.mx = true
	r.mxStatus = mx.Status.String()
	r.names = []string{domain}
	if final := nameText(mx.Final); len(mx.Links) > 0 && final != domain {
		r.names = append(r.names, final)
	}
	r.group(hosts)
	r.cutOwnName(hostname)
}

// group sorts hosts by preference; those of equal preference are one group.
// Preference beats security: nothing is moved for having TLSA records.
func (r *route) group(hosts []resolver.MX) {
	hosts = slices.Clone(hosts)
	slices.SortStableFunc(hosts, func(a, b resolver.MX) int { return cmp.Compare(a.Preference, b.Preference) })
	seen := map[string]bool{}
	for _, mx := range hosts {
		c := candidate{nameText(mx.Host), mx.Preference}
		if mx.Host == dnssec.Root || seen[c.host] || len(seen) == maxHosts {
			continue
		}
		seen[c.host] = true
		if n := len(r.groups); n > 0 && r.groups[n-1][0].preference == c.preference {
			r.groups[n-1] = append(r.groups[n-1], c)
		} else {
			r.groups = append(r.groups, []candidate{c})
		}
	}
	if len(r.groups) == 0 {
		r.problem = never("5.1.2", "the MX records of %s name no host", r.hop.domain)
	}
}

// cutOwnName: our own name among the MX records cuts its group and all that
// is worse, or mail would go in circles (RFC 5321 §5.1).
func (r *route) cutOwnName(hostname string) {
	own := normalDomain(hostname)
	for i, g := range r.groups {
		if slices.ContainsFunc(g, func(c candidate) bool { return c.host == own }) {
			r.cut(i)
			return
		}
	}
}

// cut drops group i and everything worse.
func (r *route) cut(i int) {
	r.groups = r.groups[:i]
	r.looped = true
	if i == 0 {
		r.problem = loop(r.hop.domain)
	}
}

func loop(domain string) *failure {
	return never("5.4.6", "mail for %s loops: its best mail exchanger is this host itself; "+
		"if another program receives its mail here, a policy with via can name it", domain)
}

// hostFacts is what was looked up about one host.
type hostFacts struct {
	candidate
	a, aaaa *resolver.Answer            // nil for an address literal
	tlsa    map[string]*resolver.Answer // by base domain, those asked so far
}

// hostPlan is one host with everything that was decided about it before a
// packet goes there.
type hostPlan struct {
	host       string
	preference uint16
	port       uint16
	addrs      []netip.Addr

	addressStatus string // "secure", "insecure", "none", "bogus", "indeterminate"
	tlsaStatus    string // the same words
	base          string // TLSA base domain, "" without DANE
	records       []tlsa.Record
	signatureEnd  time.Time // earliest end of a signature that the TLSA set rests on

	level           Level    // what the host must prove: none, may, encrypt, dane, dane-only, verify or fingerprint
	sni             string   // "" for an address literal
	names           []string // reference identifiers
	secure          bool     // the way from the domain to base is proved
	unauthenticated bool     // level encrypt because all its TLSA records are unusable
	reason          string   // why this level, for people
	requireTLS      bool     // RFC 8689: the session must offer REQUIRETLS

	hop     *hop
	problem *failure // why no connection may be opened
}

// planHost decides about one host. ask, when not empty, is the base domain
// whose TLSA records must be looked up first; call again with them.
func planHost(r *route, f *hostFacts) (p hostPlan, ask string) {
	p = hostPlan{host: f.host, preference: f.preference, port: r.hop.port, hop: &r.hop, level: r.hop.level,
		sni: f.host, secure: r.secure, addressStatus: "none", tlsaStatus: "none"}
	if r.literal.IsValid() {
		p.planLiteral(r)
		return p, ""
	}
	p.readAddresses(f)
	if p.problem != nil {
		return p, ""
	}
	if p.level != LevelDANE && p.level != LevelDANEOnly {
		p.planWithoutDANE(r, fmt.Sprintf("level %s by policy", p.level))
		return p, ""
	}
	if p.level == LevelDANEOnly && !r.secure {
		// RFC 7672 §6: mandatory DANE needs MX records that nobody can forge.
		p.problem = later("4.7.5", "level dane-only, but the MX records of %s are not signed; %s", r.hop.domain, protection)
		return p, ""
	}
	return p, p.readTLSA(r, f)
}

func (p *hostPlan) planLiteral(r *route) {
	p.addrs, p.addressStatus, p.sni = []netip.Addr{r.literal}, "insecure", ""
	if p.level == LevelDANEOnly {
		p.problem = later("4.7.5", "level dane-only, but the address literal %s can have no TLSA records; %s", p.host, protection)
		return
	}
	p.planWithoutDANE(r, "an address literal has no TLSA records")
	p.names = []string{r.literal.String()}
}

// readAddresses: a family whose look-up failed is left out if the other one
// answered with addresses.
func (p *hostPlan) readAddresses(f *hostFacts) {
	var bad *resolver.Answer
	for _, a := range []*resolver.Answer{f.aaaa, f.a} {
		switch {
		case failed(a):
			bad = a
		case len(a.Addrs()) > 0:
			p.addrs = append(p.addrs, a.Addrs()...)
			if p.addressStatus != "secure" {
				p.addressStatus = a.Status.String()
			}
		}
	}
	switch {
	case len(p.addrs) > 0:
	case bad != nil:
		p.addressStatus = bad.Status.String()
		p.problem = later("4.4.3", "the addresses of %s %s", p.host, whyFailed(bad))
	default:
		p.problem = never("5.4.4", "the host %s has no address", p.host)
	}
}

// tlsaBases returns the base domains to ask in order, or why there is none.
func tlsaBases(f *hostFacts) (bases []string, why string) {
	for _, a := range []*resolver.Answer{f.a, f.aaaa} {
		if failed(a) || len(a.Addrs()) == 0 {
			continue
		}
		switch {
		case a.Status == dnssec.Secure && len(a.Links) > 0:
			// RFC 7672 §2.2.3: the fully expanded name first, then the original.
			return slices.Compact([]string{nameText(a.Final), f.host}), ""
		case a.Status == dnssec.Secure:
			return []string{f.host}, ""
		case len(a.Links) > 0 && a.Links[0].Status == dnssec.Secure:
			// RFC 7672 §2.2.2: an alias that is itself signed can have TLSA
			// records though what it leads to is not.
			bases = []string{f.host}
		}
	}
	if bases == nil {
		// RFC 7672 §2.2.2: unsigned hosts are not even asked; some of their
		// name servers fail on the question.
		why = "its addresses are not signed"
	}
	return bases, why
}

// readTLSA walks the base domains (RFC 7672 §2.2.3).
func (p *hostPlan) readTLSA(r *route, f *hostFacts) (ask string) {
	bases, why := tlsaBases(f)
	for _, base := range bases {
		a := f.tlsa[base]
		if a == nil {
			return base
		}
		switch {
		case failed(a):
			// RFC 7672 §2.1.2: the host is unreachable, and the next base is
			// not tried: an attacker must not choose which name counts.
			p.base, p.tlsaStatus = base, a.Status.String()
			p.problem = later("4.7.5", "the TLSA records of %s (%s) %s; %s", p.host, tlsaOwner(p.port, base), whyFailed(a), protection)
			return ""
		case a.Status != dnssec.Secure:
			p.tlsaStatus, why = "insecure", "its TLSA records are not signed"
		case len(a.RRs) == 0:
			p.tlsaStatus, why = "none", "it has no TLSA records"
		default:
			p.takeTLSA(r, base, a)
			return ""
		}
	}
	p.planWithoutTLSA(r, why)
	return ""
}

// takeTLSA has a secure TLSA record set.
func (p *hostPlan) takeTLSA(r *route, base string, a *resolver.Answer) {
	p.base, p.tlsaStatus, p.sni, p.signatureEnd = base, "secure", base, a.SignatureEnd
	for _, rr := range a.RRs {
		p.records = append(p.records, tlsa.ParseRecord(rr.Data))
	}
	p.names = []string{base}
	if r.secure {
		// RFC 7672 §3.2.2: with MX records that may be forged, the domain's
		// own names prove nothing.
		p.names = appendNew(p.names, r.names...)
	}
	if len(tlsa.Usable(p.records)) > 0 {
		p.reason = "it has TLSA records"
		return
	}
	switch {
	case p.level == LevelDANEOnly:
		p.problem = later("4.7.5", "level dane-only, but no TLSA record of %s is usable; %s", p.host, protection)
	case r.hop.fallbackVerify:
		p.level, p.reason = LevelVerify, "none of its TLSA records is usable"
		p.names = pkixNames(r, p.host)
	default:
		// RFC 7672 §2.2: TLS stays mandatory though nobody can be verified.
		p.level, p.unauthenticated, p.reason = LevelEncrypt, true, "none of its TLSA records is usable, so TLS is mandatory and unauthenticated"
	}
}

func (p *hostPlan) planWithoutTLSA(r *route, why string) {
	switch {
	case p.level == LevelDANEOnly:
		p.problem = later("4.7.5", "level dane-only, but %s is without DANE: %s; %s", p.host, why, protection)
	case r.hop.fallbackVerify:
		p.level = LevelVerify
		p.planWithoutDANE(r, why)
	default:
		p.level = LevelMay
		p.planWithoutDANE(r, why)
	}
}

func (p *hostPlan) planWithoutDANE(r *route, why string) {
	if p.level == LevelDANE {
		p.level = LevelMay
		if r.hop.fallbackVerify {
			p.level = LevelVerify
		}
	}
	p.reason = why
	p.names = pkixNames(r, p.host)
}

// pkixNames are the names that a Web PKI certificate may carry. Where the MX
// records could have been forged, a host counts only by the domain's own name
// or one below it: the name of an MX that nobody vouched for proves nothing.
func pkixNames(r *route, host string) []string {
	if r.secure {
		return appendNew([]string{host}, r.names...)
	}
	names := slices.Clone(r.names)
	if strings.HasSuffix(host, "."+r.hop.domain) {
		names = appendNew(names, host)
	}
	return names
}

// demandRequireTLS raises a plan to what RFC 8689 §4.2.1 asks for: a proved
// way to the host's name and a verified certificate.
func (p *hostPlan) demandRequireTLS(r *route) {
	p.requireTLS = true
	switch {
	case p.problem != nil || p.level == LevelFingerprint || r.hop.level == LevelVerify:
	case !r.secure:
		p.problem = never("5.7.30", "REQUIRETLS cannot be met for %s: its MX records are not signed; %s", r.hop.domain, protection)
	case p.level != LevelDANE && p.level != LevelDANEOnly:
		p.level, p.unauthenticated = LevelVerify, false
		p.names = pkixNames(r, p.host)
	}
}

const rcodeNXDomain = 3

// failed: nothing may be concluded from the answer.
func failed(a *resolver.Answer) bool {
	return a == nil || (a.Status != dnssec.Secure && a.Status != dnssec.Insecure) ||
		(a.Rcode != 0 && a.Rcode != rcodeNXDomain)
}

func whyFailed(a *resolver.Answer) string {
	if a == nil {
		return "could not be looked up"
	}
	text := a.Text
	if text == "" {
		text = string(a.Reason)
	}
	verb := "could not be looked up"
	if a.Status == dnssec.Bogus {
		verb = "are forged or broken (DNSSEC)"
	}
	if text == "" {
		return verb
	}
	return verb + ": " + text
}

func tlsaOwner(port uint16, base string) string { return fmt.Sprintf("_%d._tcp.%s", port, base) }

// nameText is a name as people and certificates write it.
func nameText(n dnssec.Name) string {
	s := n.String()
	if s == "." {
		return s
	}
	return strings.TrimSuffix(s, ".")
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
