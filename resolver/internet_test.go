package resolver

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"net/netip"
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
	// byServer, if set, finds the one zone of a server faster than by looking at all.
	byServer map[netip.Addr]*testZone
	// tamper may change or drop (nil) what a server sends; nil leaves it alone.
	tamper func(server netip.Addr, x Exchange, q, reply *dns.Msg) *dns.Msg
	// raw may change the octets of a reply, or end the exchange with an error.
	raw func(x Exchange, reply []byte) ([]byte, error)

	mu      sync.Mutex
	queries []string // "server name type"
}

type testZone struct {
	name    string
	servers []netip.Addr
	rrs     map[string]map[uint16][]dns.RR // by owner and type
	sigs    map[string]map[uint16][]dns.RR
	key     *dns.DNSKEY // the one that the DS is of
	priv    crypto.Signer
	signing *dns.DNSKEY // the one that signs data
	signer  crypto.Signer
	strayDS bool
	names   []string // owners and empty non-terminals in canonical order
	nsec    map[string]*dns.NSEC
	nsec3   *nsec3Spec
	hashes  []string // owners of NSEC3 records, in order
}

// zoneSpec is one zone of the test internet: records in zone-file form relative to the zone,
// addresses of its servers.
type zoneSpec struct {
	name     string
	servers  string
	unsigned bool
	records  string
	alg      uint8      // default ECDSA P-256
	twoKeys  bool       // one key for the DS, another for the data
	nsec3    *nsec3Spec // NSEC3 instead of NSEC
	strayDS  bool       // the DS set has one more, for a key that is not there, of another algorithm
}

// nsec3Spec says how a zone denies by NSEC3.
type nsec3Spec struct {
	iterations uint16
	optOut     bool
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
		if s.alg == 0 {
			s.alg = dns.ECDSAP256SHA256
		}
		z.key, z.priv = newKey(n.t, s, 257)
		z.signing, z.signer = z.key, z.priv
		z.put(z.key)
		if s.twoKeys {
			z.signing, z.signer = newKey(n.t, s, 256)
			z.put(z.signing)
		}
		z.strayDS, z.nsec3 = s.strayDS, s.nsec3
	}
	n.zones[s.name] = z
}

func newKey(t testing.TB, s zoneSpec, flags uint16) (*dns.DNSKEY, crypto.Signer) {
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: s.name, Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: s.alg}
	bits := 256
	switch s.alg {
	case dns.RSASHA256:
		bits = 1024
	case dns.ECDSAP384SHA384:
		bits = 384
	}
	priv, err := key.Generate(bits)
	if err != nil {
		t.Fatal(err)
	}
	return key, priv.(crypto.Signer)
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
	if z.strayDS {
		stray := z.key.ToDS(dns.SHA256)
		stray.Algorithm, stray.KeyTag = dns.ED25519, stray.KeyTag+1
		up.put(stray)
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
	if z.nsec3 != nil {
		z.finish3(t)
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
	key, signer := z.signing, z.signer
	if set[0].Header().Rrtype == dns.TypeDNSKEY {
		key, signer = z.key, z.priv
	}
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: set[0].Header().Name, Rrtype: dns.TypeRRSIG, Class: 1, Ttl: set[0].Header().Ttl},
		Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: z.name,
		Inception: uint32(testNow.Add(-24 * time.Hour).Unix()), Expiration: uint32(testNow.Add(14 * 24 * time.Hour).Unix()),
	}
	if err := sig.Sign(signer, set); err != nil {
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
	c := n.config()
	if change != nil {
		change(&c)
	}
	r := New(c)
	n.t.Cleanup(func() { r.Close() })
	return r
}

// config is that of a resolver that trusts this internet's root.
func (n *internet) config() Config {
	root := n.zones["."]
	ds := root.key.ToDS(dns.SHA256)
	digest, _ := hex.DecodeString(ds.Digest)
	anchors := []dnssec.Anchor{{Zone: dnssec.Root, DS: &dnssec.DS{
		KeyTag: ds.KeyTag, Algorithm: ds.Algorithm, DigestType: ds.DigestType, Digest: digest}}}
	return Config{
		Transport: n,
		Now:       func() time.Time { return testNow },
		Hints:     []Nameserver{{Name: mustName("ns1."), Addrs: root.servers}},
		Anchors:   func() []dnssec.Anchor { return anchors },
	}
}
