package resolver

import (
	"context"
	"crypto"
	"fmt"
	"net/netip"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// testNow is when the test internet lives.
var testNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// internet is a scripted Transport: authoritative servers by address, each
// with its zones, signed in memory.
type internet struct {
	t     testing.TB
	zones map[string]*testZone
	// tamper may change or drop (nil) what a server sends; nil leaves it alone.
	tamper func(server netip.Addr, x Exchange, q, reply *dns.Msg) *dns.Msg

	mu      sync.Mutex
	queries []string // "server name type"
}

type testZone struct {
	name    string
	servers []netip.Addr
	rrs     map[string]map[uint16][]dns.RR // by owner and type
	sigs    map[string]map[uint16][]dns.RR
	key     *dns.DNSKEY
	priv    crypto.Signer
	names   []string // owners and empty non-terminals in canonical order
	nsec    map[string]*dns.NSEC
}

// zoneSpec is one zone of the test internet: records in zone-file form relative to the zone,
// addresses of its servers.
type zoneSpec struct {
	name     string
	servers  string
	unsigned bool
	records  string
}

func newInternet(t testing.TB, specs ...zoneSpec) *internet {
	n := &internet{t: t, zones: map[string]*testZone{}}
	sort.SliceStable(specs, func(i, j int) bool { return dns.CountLabel(specs[i].name) > dns.CountLabel(specs[j].name) })
	for _, s := range specs {
		n.add(s)
	}
	for _, s := range specs { // deepest first: a zone's DS is there when its parent is signed
		n.zones[s.name].finish(t)
		n.delegate(n.zones[s.name])
	}
	return n
}

func (n *internet) add(s zoneSpec) {
	z := &testZone{name: s.name, rrs: map[string]map[uint16][]dns.RR{}, sigs: map[string]map[uint16][]dns.RR{}}
	for _, a := range strings.Fields(s.servers) {
		z.servers = append(z.servers, netip.MustParseAddr(a))
	}
	text := fmt.Sprintf("$ORIGIN %s\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 900 86400 900\n", s.name)
	for i, a := range z.servers {
		t := "A"
		if a.Is6() {
			t = "AAAA"
		}
		text += fmt.Sprintf("@ NS ns%d\nns%d %s %s\n", i+1, i+1, t, a)
	}
	p := dns.NewZoneParser(strings.NewReader(text+s.records), s.name, s.name)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.put(rr)
	}
	if err := p.Err(); err != nil {
		n.t.Fatal(err)
	}
	if !s.unsigned {
		z.key = &dns.DNSKEY{Hdr: dns.RR_Header{Name: s.name, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600},
			Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
		priv, err := z.key.Generate(256)
		if err != nil {
			n.t.Fatal(err)
		}
		z.priv = priv.(crypto.Signer)
		z.put(z.key)
	}
	n.zones[s.name] = z
}

func (z *testZone) put(rr dns.RR) {
	name := strings.ToLower(rr.Header().Name)
	if z.rrs[name] == nil {
		z.rrs[name] = map[uint16][]dns.RR{}
	}
	z.rrs[name][rr.Header().Rrtype] = append(z.rrs[name][rr.Header().Rrtype], rr)
}

// delegate adds NS, glue and DS of z to its parent.
func (n *internet) delegate(z *testZone) {
	if z.name == "." {
		return
	}
	var up *testZone
	for name := parentOf(z.name); ; name = parentOf(name) {
		if up = n.zones[name]; up != nil || name == "." {
			break
		}
	}
	if up == nil {
		return
	}
	if len(up.rrs[z.name][dns.TypeNS]) == 0 {
		for _, rr := range z.rrs[z.name][dns.TypeNS] {
			up.put(rr)
			for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
				for _, g := range z.rrs[rr.(*dns.NS).Ns][t] {
					up.put(g)
				}
			}
		}
	}
	if z.key != nil {
		up.put(z.key.ToDS(dns.SHA256))
	}
}

func parentOf(name string) string {
	if i, end := dns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}

// cut returns the delegation at or above name, "" if name is in the zone itself.
func (z *testZone) cut(name string) string {
	for n := name; n != z.name && dns.IsSubDomain(z.name, n); n = parentOf(n) {
		if len(z.rrs[n][dns.TypeNS]) > 0 {
			// keep looking above: the highest cut counts
			if up := z.cut(parentOf(n)); up != "" {
				return up
			}
			return n
		}
	}
	return ""
}

// finish orders the names and, in a signed zone, makes NSEC and RRSIG records.
func (z *testZone) finish(t testing.TB) {
	have := map[string]bool{}
	for name := range z.rrs {
		if c := z.cut(name); c != "" && c != name {
			continue
		}
		have[name] = true
		z.names = append(z.names, name)
	}
	sort.Slice(z.names, func(i, j int) bool { return mustName(z.names[i]).Compare(mustName(z.names[j])) < 0 })
	if z.key == nil {
		return
	}
	z.nsec = map[string]*dns.NSEC{}
	for i, name := range z.names {
		nsec := &dns.NSEC{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: 1, Ttl: 900},
			NextDomain: z.names[(i+1)%len(z.names)]}
		for rt := range z.rrs[name] {
			if z.cut(name) == "" || rt == dns.TypeNS || rt == dns.TypeDS {
				nsec.TypeBitMap = append(nsec.TypeBitMap, rt)
			}
		}
		nsec.TypeBitMap = append(nsec.TypeBitMap, dns.TypeNSEC, dns.TypeRRSIG)
		sort.Slice(nsec.TypeBitMap, func(i, j int) bool { return nsec.TypeBitMap[i] < nsec.TypeBitMap[j] })
		z.nsec[name] = nsec
	}
	for _, name := range z.names {
		z.put(z.nsec[name])
		z.sigs[name] = map[uint16][]dns.RR{}
		for rt, set := range z.rrs[name] {
			if z.cut(name) == "" || rt == dns.TypeDS || rt == dns.TypeNSEC {
				z.sigs[name][rt] = []dns.RR{z.sign(t, set)}
			}
		}
	}
}

func (z *testZone) sign(t testing.TB, set []dns.RR) *dns.RRSIG {
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: set[0].Header().Name, Rrtype: dns.TypeRRSIG, Class: 1, Ttl: set[0].Header().Ttl},
		Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: z.name,
		Inception: uint32(testNow.Add(-24 * time.Hour).Unix()), Expiration: uint32(testNow.Add(14 * 24 * time.Hour).Unix()),
	}
	if err := sig.Sign(z.priv, set); err != nil {
		t.Fatal(err)
	}
	return sig
}

func mustName(s string) dnssec.Name {
	n, err := dnssec.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// Exchange implements Transport.
func (n *internet) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	q := new(dns.Msg)
	if err := q.Unpack(x.Message); err != nil {
		n.t.Errorf("query does not parse: %v", err)
		return nil, err
	}
	n.mu.Lock()
	how := ""
	if x.TCP {
		how = " TCP"
	}
	n.queries = append(n.queries, fmt.Sprintf("%s %s %s%s", x.Server.Addr(),
		strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype], how))
	n.mu.Unlock()
	reply := n.serve(x.Server.Addr(), q)
	if n.tamper != nil {
		reply = n.tamper(x.Server.Addr(), x, q, reply)
	}
	if reply == nil {
		return nil, os.ErrDeadlineExceeded
	}
	if size := q.IsEdns0(); !x.TCP && reply.Len() > 512 && (size == nil || reply.Len() > int(size.UDPSize())) {
		reply = &dns.Msg{MsgHdr: reply.MsgHdr, Question: reply.Question}
		reply.Truncated = true
	}
	reply.Compress = true
	b, err := reply.Pack()
	if err != nil {
		n.t.Errorf("reply does not pack: %v", err)
		return nil, err
	}
	if !x.Accept(b) {
		return nil, os.ErrDeadlineExceeded
	}
	return b, nil
}

// serve answers as the authoritative server at that address would, nil if there is none.
func (n *internet) serve(server netip.Addr, q *dns.Msg) *dns.Msg {
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	r := new(dns.Msg)
	r.SetReply(q)
	if o := q.IsEdns0(); o != nil {
		r.SetEdns0(1232, o.Do())
	}
	var z *testZone
	known := false
	for _, c := range n.zones {
		for _, a := range c.servers {
			known = known || a == server
			if a != server || !dns.IsSubDomain(c.name, name) {
				continue
			}
			if qtype == dns.TypeDS && c.name == name && name != "." && z != nil {
				continue // the parent, if it is here too, answers for DS
			}
			if z == nil || dns.CountLabel(c.name) > dns.CountLabel(z.name) || z.name == name && qtype == dns.TypeDS {
				z = c
			}
		}
	}
	if !known {
		return nil
	}
	if z == nil {
		r.Rcode = dns.RcodeRefused
		return r
	}
	z.answer(r, name, qtype)
	return r
}

// answer fills r as RFC 1034 §4.3.2 and RFC 4035 §3.1 ask for.
func (z *testZone) answer(r *dns.Msg, name string, qtype uint16) {
	if cut := z.cut(name); cut != "" && !(cut == name && qtype == dns.TypeDS) {
		r.Ns = append(r.Ns, z.rrs[cut][dns.TypeNS]...)
		if len(z.rrs[cut][dns.TypeDS]) > 0 {
			r.Ns = append(r.Ns, z.set(cut, dns.TypeDS)...)
		} else if z.key != nil {
			r.Ns = append(r.Ns, z.set(cut, dns.TypeNSEC)...)
		}
		for _, ns := range z.rrs[cut][dns.TypeNS] {
			for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if g := z.rrs[ns.(*dns.NS).Ns]; dns.IsSubDomain(z.name, ns.(*dns.NS).Ns) {
					r.Extra = append(r.Extra, g[t]...)
				}
			}
		}
		return
	}
	r.Authoritative = true
	for range 8 {
		if z.cut(name) != "" && !(z.cut(name) == name && qtype == dns.TypeDS) {
			return
		}
		owner, wild := name, false
		if !z.exists(name) {
			owner, wild = z.wildcard(name), true
			if owner == "" {
				r.Rcode = dns.RcodeNameError
				z.deny(r, name)
				return
			}
		}
		if wild {
			z.cover(r, name)
		}
		target := ""
		if c := z.rrs[owner][dns.TypeCNAME]; len(c) > 0 && qtype != dns.TypeCNAME {
			r.Answer = append(r.Answer, z.expand(owner, name, dns.TypeCNAME)...)
			target = c[0].(*dns.CNAME).Target
		} else if len(z.rrs[owner][qtype]) > 0 {
			r.Answer = append(r.Answer, z.expand(owner, name, qtype)...)
			return
		}
		if target == "" {
			r.Ns = append(r.Ns, z.set(z.name, dns.TypeSOA)...)
			if z.key != nil {
				z.cover(r, owner)
			}
			return
		}
		if !dns.IsSubDomain(z.name, target) {
			return
		}
		name = target
	}
}

func (z *testZone) set(name string, rt uint16) []dns.RR {
	return append(append([]dns.RR(nil), z.rrs[name][rt]...), z.sigs[name][rt]...)
}

// expand gives a set of owner under another name.
func (z *testZone) expand(owner, name string, rt uint16) []dns.RR {
	var out []dns.RR
	for _, rr := range z.set(owner, rt) {
		c := dns.Copy(rr)
		c.Header().Name = name
		out = append(out, c)
	}
	return out
}

// exists reports whether name is there, empty non-terminals included.
func (z *testZone) exists(name string) bool {
	for _, n := range z.names {
		if dns.IsSubDomain(name, n) {
			return true
		}
	}
	return false
}

func (z *testZone) encloser(name string) string {
	for n := parentOf(name); ; n = parentOf(n) {
		if z.exists(n) {
			return n
		}
	}
}

func (z *testZone) wildcard(name string) string {
	w := "*." + strings.TrimPrefix(z.encloser(name), ".")
	if len(z.rrs[w]) > 0 {
		return w
	}
	return ""
}

func (z *testZone) deny(r *dns.Msg, name string) {
	r.Ns = append(r.Ns, z.set(z.name, dns.TypeSOA)...)
	if z.key != nil {
		z.cover(r, name)
		z.cover(r, "*."+strings.TrimPrefix(z.encloser(name), "."))
	}
}

// cover adds the NSEC that matches or covers name.
func (z *testZone) cover(r *dns.Msg, name string) {
	if z.key == nil {
		return
	}
	at := z.names[0]
	for _, n := range z.names {
		if mustName(n).Compare(mustName(name)) <= 0 {
			at = n
		}
	}
	for _, rr := range r.Ns {
		if rr.Header().Name == at && rr.Header().Rrtype == dns.TypeNSEC {
			return
		}
	}
	r.Ns = append(r.Ns, z.set(at, dns.TypeNSEC)...)
}

// count returns how many queries went out since the last call.
func (n *internet) drain() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.queries
	n.queries = nil
	return q
}

// resolver makes a Resolver for this internet; change may alter its configuration.
func (n *internet) resolver(change func(*Config)) *Resolver {
	root := n.zones["."]
	c := Config{
		Transport: n,
		Now:       func() time.Time { return testNow },
		Hints:     []Nameserver{{Name: mustName("ns1."), Addrs: root.servers}},
		Anchors: func() []dnssec.Anchor {
			ds := root.key.ToDS(dns.SHA256)
			digest := make([]byte, len(ds.Digest)/2)
			fmt.Sscanf(ds.Digest, "%x", &digest)
			return []dnssec.Anchor{{Zone: dnssec.Root, DS: &dnssec.DS{
				KeyTag: ds.KeyTag, Algorithm: ds.Algorithm, DigestType: ds.DigestType, Digest: digest}}}
		},
	}
	if change != nil {
		change(&c)
	}
	r := New(c)
	n.t.Cleanup(func() { r.Close() })
	return r
}
