//go:build interop

package interop

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// The mini-internet: a root, top-level domains and leaves, each zone signed
// and served by one program in one of its ways.

// method is one way of signing and serving a zone.
type method struct {
	name     string // also the first part of its leaves' names
	software string
	denial   denial
	live     bool // signed by the server, some at the time of the query
}

type denial uint8

const (
	nsec denial = iota
	nsec3
	optOut  // NSEC3 without the unsigned delegations
	narrow  // NSEC3 made for each query (RFC 7129 §B)
	minimal // NSEC made for each query, so that nothing is ever NXDOMAIN
)

func methods() []method {
	return []method{
		{name: "named-nsec", software: "named", denial: nsec, live: true},
		{name: "named-nsec3", software: "named", denial: nsec3, live: true},
		{name: "named-optout", software: "named", denial: optOut, live: true},
		{name: "ldns-nsec", software: "nsd", denial: nsec},
		{name: "ldns-nsec3", software: "nsd", denial: nsec3},
		{name: "ldns-optout", software: "nsd", denial: optOut},
		{name: "knot-nsec", software: "knot", denial: nsec, live: true},
		{name: "knot-nsec3", software: "knot", denial: nsec3, live: true},
		{name: "knot-online", software: "knot", denial: minimal, live: true},
		{name: "pdns-nsec", software: "pdns", denial: nsec, live: true},
		{name: "pdns-nsec3", software: "pdns", denial: nsec3, live: true},
		{name: "pdns-narrow", software: "pdns", denial: narrow, live: true},
		{name: "pdns-presigned", software: "pdns", denial: nsec3},
	}
}

func methodNamed(name string) method {
	for _, m := range methods() {
		if m.name == name {
			return m
		}
	}
	panic("no method " + name)
}

// algorithms are those that RFC 8624 §3.1 lets validators meet, but for 16.
func algorithms() []uint8 {
	return []uint8{dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519}
}

// server is one process and its two addresses.
type server struct {
	software string
	level    string // "root", "tld", "leaf", "plain": parent and child never share a process
	v4, v6   netip.Addr
}

func (s *server) name() string { return s.software + "-" + s.level }

// host is the name of the server in the zone hosts.
func (s *server) host() string { return s.name() + ".hosts." }

type zone struct {
	name      string
	method    method
	algorithm uint8 // 0: not signed
	server    *server
	outside   bool     // its servers' names are in another zone
	dead      string   // address of the server that does not answer
	other     string   // zone that its aliases lead to
	child     *zone    // the unsigned one below it
	records   []string // of top-level domains: their delegations
	ttl       int      // seconds; 0: ten minutes
	updates   bool     // takes dynamic updates from everyone
	ds        []dns.RR // what the parent says of it
}

// tree is all of the mini-internet.
type tree struct {
	servers map[string]*server
	root    *zone
	tlds    []*zone
	leaves  []*zone // the signed ones
	plain   []*zone // unsigned children of leaves
	rolling []*zone // whose keys are rolled while they are asked
	mail    *zone   // that has a mail server, at mailHost with the identity
	mailID  *lab.Identity
}

const mailHost = "10.53.24.1"

// Two addresses on which nothing answers: one that refuses, one that is silent.
const (
	refusing = "10.53.254.1"
	silent   = "10.53.254.2"
)

// plan lays the tree out; nothing runs yet.
func plan() *tree {
	t := &tree{servers: map[string]*server{}}
	t.root = &zone{name: ".", method: methodNamed("ldns-nsec"), algorithm: dns.RSASHA256, server: t.server("nsd", "root"), dead: silent}
	for _, tld := range []struct {
		name, method string
		algorithm    uint8
	}{
		{"hosts.", "ldns-nsec", dns.ECDSAP256SHA256},
		{"bind.", "named-nsec", dns.ECDSAP256SHA256},
		{"bind3.", "named-nsec3", dns.RSASHA256},
		{"ldns.", "ldns-optout", dns.RSASHA512},
		{"knot.", "knot-online", dns.ECDSAP256SHA256},
		{"knot3.", "knot-nsec3", dns.ED25519},
		{"pdns.", "pdns-narrow", dns.ECDSAP384SHA384},
		{"pdnsp.", "pdns-presigned", dns.ED25519},
	} {
		m := methodNamed(tld.method)
		t.tlds = append(t.tlds, &zone{name: tld.name, method: m, algorithm: tld.algorithm, server: t.server(m.software, "tld"), dead: silent})
	}
	for _, m := range methods() {
		for _, a := range algorithms() {
			if m.denial == minimal && (a == dns.RSASHA256 || a == dns.RSASHA512) {
				continue // knotd 3.2 answers SERVFAIL over UDP where what it signs just now does not fit
			}
			n := len(t.leaves)
			z := &zone{name: fmt.Sprintf("%s-%d.%s", m.name, a, t.tlds[1+n%(len(t.tlds)-1)].name), method: m, algorithm: a,
				server: t.server(m.software, "leaf"), outside: n%3 == 2, dead: []string{refusing, silent}[n%2]}
			t.leaves = append(t.leaves, z)
		}
	}
	for i, z := range t.leaves {
		z.other = t.leaves[(i+7)%len(t.leaves)].name
		z.child = &zone{name: "plain." + z.name, server: t.server("nsd", "plain"), dead: refusing}
		t.plain = append(t.plain, z.child)
	}
	t.mail = &zone{name: "mail.bind.", method: methodNamed("named-nsec3"), algorithm: dns.ECDSAP256SHA256, server: t.server("named", "leaf"), dead: refusing}
	t.mailID = lab.SelfSigned("mx.mail.bind")
	t.mail.records = []string{"@ MX 10 mx", "mx A " + mailHost, "_25._tcp.mx TLSA " + lab.TLSA(3, 1, 1, t.mailID.Leaf())}
	t.tlds = append(t.tlds, &zone{name: "rolls.", method: methodNamed("named-nsec"), algorithm: dns.ECDSAP256SHA256,
		server: t.server("named", "rolls"), dead: refusing, ttl: rollTTL, updates: true})
	for _, m := range []string{"knot-nsec", "named-nsec3"} {
		z := &zone{method: methodNamed(m), algorithm: dns.ECDSAP256SHA256, dead: refusing, ttl: rollTTL}
		z.name, z.server, z.other = z.method.software+".rolls.", t.server(z.method.software, "rolling"), t.leaves[0].name
		t.rolling = append(t.rolling, z)
	}
	return t
}

// server returns the process of a software for a level.
func (t *tree) server(software, level string) *server {
	s := &server{software: software, level: level}
	if old := t.servers[s.name()]; old != nil {
		return old
	}
	n := len(t.servers) + 1
	s.v4 = netip.AddrFrom4([4]byte{10, 53, 1, byte(n)})
	s.v6 = netip.MustParseAddr(fmt.Sprintf("fd53::1:%x", n))
	t.servers[s.name()] = s
	return s
}

func (t *tree) all() []*zone {
	out := append([]*zone{t.root}, t.tlds...)
	return append(append(append(append(out, t.leaves...), t.plain...), t.rolling...), t.mail)
}

// on lists the zones of one process.
func (t *tree) on(s *server) []*zone {
	var out []*zone
	for _, z := range t.all() {
		if z.server == s {
			out = append(out, z)
		}
	}
	return out
}

// under joins a relative name and the zone's.
func (z *zone) under(label string) string { return label + "." + strings.TrimPrefix(z.name, ".") }

// nameServers returns the zone's NS targets and, where they are inside the
// zone, their addresses.
func (z *zone) nameServers() (ns, addresses []string) {
	dead := z.under("dead")
	if z.outside {
		ns = []string{z.server.host()}
	} else {
		live := z.under("ns1")
		ns = []string{live}
		addresses = []string{live + " A " + z.server.v4.String(), live + " AAAA " + z.server.v6.String()}
	}
	return append(ns, dead), append(addresses, dead+" A "+z.dead)
}

// text returns the unsigned zone file.
func (z *zone) text() string {
	ns, addresses := z.nameServers()
	ttl, negative := 600, 60
	if z.ttl > 0 {
		ttl, negative = z.ttl, z.ttl
	}
	lines := []string{
		fmt.Sprintf("$TTL %d", ttl),
		"$ORIGIN " + z.name,
		fmt.Sprintf("%s SOA %s %s 1 7200 3600 1209600 %d", z.name, ns[0], z.under("hostmaster"), negative),
	}
	for _, n := range ns {
		lines = append(lines, z.name+" NS "+n)
	}
	lines = append(lines, addresses...)
	switch {
	case z.records != nil:
		lines = append(lines, z.records...)
	case z.algorithm == 0:
		lines = append(lines, "www A 192.0.2.80", "@ MX 10 www")
	default:
		lines = append(lines, z.leafRecords()...)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (z *zone) leafRecords() []string {
	long := strings.Repeat("0123456789abcdef", 12)
	out := []string{
		"@ A 192.0.2.1", "@ MX 10 mx", "@ MX 20 mx2",
		"mx A 192.0.2.25", "mx AAAA 2001:db8::25", "mx2 A 192.0.2.26",
		"_25._tcp.mx TLSA 3 1 1 " + strings.Repeat("0123456789abcdef", 4),
		"www A 192.0.2.80", "www A 192.0.2.81", "www AAAA 2001:db8::80",
		"alias CNAME www", "twice CNAME alias", "far CNAME www." + z.other, "dangling CNAME nowhere",
		"out CNAME www.plain", "sub DNAME " + z.other,
		"*.wild A 192.0.2.99", "*.wild MX 10 mx", "here.wild A 192.0.2.98", "*.cwild CNAME www",
		"b.ent A 192.0.2.7", `text TXT "one" "two"`,
	}
	if z.child != nil {
		out = append(out, z.child.delegation()...)
	}
	for i := range 10 { // more than a UDP reply holds
		out = append(out, fmt.Sprintf(`big TXT "%d %s"`, i, long))
	}
	return out
}

// delegation returns what the parent says of z.
func (z *zone) delegation() []string {
	ns, addresses := z.nameServers()
	var out []string
	for _, n := range ns {
		out = append(out, z.name+" NS "+n)
	}
	out = append(out, addresses...)
	for _, ds := range z.ds {
		out = append(out, ds.String())
	}
	return out
}

// ask sends one question to a server and returns its reply, over TCP when it
// does not fit.
func ask(at netip.Addr, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(1232, true)
	m.RecursionDesired = false
	return exchange(m, at)
}

func exchange(m *dns.Msg, at netip.Addr) (*dns.Msg, error) {
	to := net.JoinHostPort(at.String(), "53")
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, to)
	if err == nil && r.Truncated {
		r, _, err = (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, to)
	}
	return r, err
}

// published checks that the zone's server serves it as it should: with
// signatures where it is signed.
func (z *zone) published() error {
	for _, at := range []netip.Addr{z.server.v4, z.server.v6} {
		r, err := ask(at, z.name, dns.TypeSOA)
		if err != nil {
			return err
		}
		if r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 || z.algorithm != 0 && len(r.Answer) < 2 {
			return fmt.Errorf("%s SOA at %s: %s, %d records", z.name, at, dns.RcodeToString[r.Rcode], len(r.Answer))
		}
	}
	return nil
}

// learnDS makes the DS records from the DNSKEY set that the server shows.
func (z *zone) learnDS() error {
	r, err := ask(z.server.v4, z.name, dns.TypeDNSKEY)
	if err != nil {
		return err
	}
	digest := uint8(dns.SHA256)
	if z.algorithm == dns.ECDSAP384SHA384 {
		digest = dns.SHA384
	}
	z.ds = nil
	for _, rr := range r.Answer {
		if k, ok := rr.(*dns.DNSKEY); ok && k.Flags == 257 {
			z.ds = append(z.ds, k.ToDS(digest))
		}
	}
	if len(z.ds) == 0 {
		return fmt.Errorf("%s shows no key to make a DS record from", z.name)
	}
	return nil
}
