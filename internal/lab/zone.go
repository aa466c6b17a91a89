package lab

import (
	"crypto"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Denial is how a zone proves what it does not have.
type Denial uint8

const (
	NSEC   Denial = iota // RFC 4034 §4
	NSEC3                // RFC 5155, no salt
	OptOut               // NSEC3 whose chain leaves unsigned delegations out (RFC 5155 §6)
)

// Signing says how a zone is signed. The zero value: one key (flags 257,
// ECDSA P-256), NSEC, and a DS in the parent.
type Signing struct {
	None       bool // not signed at all
	NoDS       bool // signed, but the parent says nothing of it
	Denial     Denial
	Iterations uint16 // of NSEC3
	SplitKeys  bool   // a KSK for the DNSKEY set and a ZSK for the rest
	Algorithm  uint8  // default ECDSA P-256; also RSA/SHA-256 and Ed25519
	Expired    bool   // all signatures ended three days ago
	LongRSA    bool   // RSA/SHA-256 whose public exponent has 33 bits
}

// Zone is one zone and its only name server, alone on its address.
type Zone struct {
	lab    *Lab
	name   string
	addr   netip.Addr
	sign   Signing
	ns     string // the name in the NS record
	keys   []zoneKey
	wraps  []func(Handler) Handler
	handle Handler

	mu     sync.Mutex // guards what follows
	lines  []string   // as given to Add and Replace
	extra  []dns.RR   // delegations
	counts map[counted]int
	total  int

	data atomic.Pointer[signedZone]
}

type zoneKey struct {
	rr   *dns.DNSKEY
	priv crypto.Signer
}

type counted struct {
	name string
	typ  uint16
}

// Zone declares a zone. Its parent is the closest zone declared above it; the
// delegation, with glue and DS, is made at Start.
func (l *Lab) Zone(name string, s Signing) *Zone {
	l.configuring()
	name = canonicalName(name)
	for _, z := range l.zones {
		if z.name == name {
			panic("lab: zone declared twice: " + name)
		}
	}
	z := &Zone{lab: l, name: name, addr: nthAddr(dnsNetwork, len(l.zones)), sign: s, ns: "ns." + name, counts: map[counted]int{}}
	if name == "." {
		z.ns = "a.root-servers."
	}
	l.zones = append(l.zones, z)
	return z
}

// Name returns the name of the zone's apex, with the final dot.
func (z *Zone) Name() string { return z.name }

// Addr returns the address of its name server.
func (z *Zone) Addr() string { return z.addr.String() }

// Add puts records into the zone, one a line of zone file: owners relative to
// the apex, "@" the apex itself, TTL optional, and "{port}" standing for the
// receivers' port. It configures.
func (z *Zone) Add(lines ...string) *Zone {
	z.lab.configuring()
	for _, line := range lines {
		z.parse(line, 25)
	}
	z.lines = append(z.lines, lines...)
	return z
}

// ServedBy makes the zone's NS record point at host, a name of another zone
// of the lab (which must have an address record for it, z.Addr()), so that no
// glue is sent with the delegation. It configures.
func (z *Zone) ServedBy(host string) *Zone {
	z.lab.configuring()
	z.ns = canonicalName(host)
	return z
}

// Wrap puts an attacker, or a fault, around the zone's name server. The last
// one given sees a query first. It configures.
func (z *Zone) Wrap(w func(Handler) Handler) *Zone {
	z.lab.configuring()
	z.wraps = append(z.wraps, w)
	return z
}

// Replace exchanges all records given to Add for others and signs the zone
// anew. It may be called while the lab runs: so keys are rolled.
func (z *Zone) Replace(lines ...string) {
	for _, line := range lines {
		z.parse(line, 25)
	}
	z.mu.Lock()
	z.lines = append([]string(nil), lines...)
	z.mu.Unlock()
	if z.lab.started {
		z.publish()
	}
}

// Queries returns how many queries the zone's server has had.
func (z *Zone) Queries() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.total
}

// Asked returns how often the zone's server was asked for one name and type.
func (z *Zone) Asked(name string, qtype uint16) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.counts[counted{canonicalName(name), qtype}]
}

// parse reads one line of zone file; it panics on one that is wrong.
func (z *Zone) parse(line string, port int) []dns.RR {
	text := strings.ReplaceAll(line, "{port}", strconv.Itoa(port))
	zp := dns.NewZoneParser(strings.NewReader(fmt.Sprintf("$TTL %d\n%s\n", z.ttl(), text)), z.name, "")
	var out []dns.RR
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rr.Header().Name = strings.ToLower(rr.Header().Name)
		out = append(out, rr)
	}
	if err := zp.Err(); err != nil {
		panic(fmt.Sprintf("lab: zone %s: record %q: %v", z.name, line, err))
	}
	return out
}

func (z *Zone) ttl() uint32 { return uint32(z.lab.opts.TTL.Seconds()) }

func (z *Zone) header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: z.ttl()}
}

// makeKeys generates what the zone is signed with.
func (z *Zone) makeKeys() {
	if z.sign.None {
		return
	}
	flags := []uint16{257}
	if z.sign.SplitKeys {
		flags = []uint16{257, 256}
	}
	if z.sign.LongRSA {
		for _, f := range flags {
			z.keys = append(z.keys, newLongKey(z.header(z.name, dns.TypeDNSKEY), f))
		}
		return
	}
	alg, bits := z.sign.Algorithm, 256
	switch alg {
	case 0:
		alg = dns.ECDSAP256SHA256
	case dns.RSASHA1, dns.RSASHA256, dns.RSASHA512, dns.RSASHA1NSEC3SHA1:
		bits = 2048
	case dns.ECDSAP384SHA384:
		bits = 384
	}
	for _, f := range flags {
		k := &dns.DNSKEY{Hdr: z.header(z.name, dns.TypeDNSKEY), Flags: f, Protocol: 3, Algorithm: alg}
		priv, err := k.Generate(bits)
		if err != nil {
			panic(fmt.Sprintf("lab: zone %s: %v", z.name, err))
		}
		z.keys = append(z.keys, zoneKey{k, priv.(crypto.Signer)})
	}
}

// DS returns the DS record (SHA-256) of the zone's key-signing key; valid
// after Start, nil for an unsigned zone.
func (z *Zone) DS() *dns.DS {
	if len(z.keys) == 0 {
		return nil
	}
	return z.keys[0].rr.ToDS(dns.SHA256)
}

// Keys returns copies of the zone's DNSKEY records, the key-signing key first;
// valid after Start.
func (z *Zone) Keys() []*dns.DNSKEY {
	var out []*dns.DNSKEY
	for _, k := range z.keys {
		out = append(out, dns.Copy(k.rr).(*dns.DNSKEY))
	}
	return out
}

// Truth returns what the zone's server says before anyone given to Wrap changes
// it; valid after Start.
func (z *Zone) Truth(q *dns.Msg) *dns.Msg { return z.data.Load().answer(q) }

// Denials returns copies of the zone's NSEC or NSEC3 records in the order of the
// chain, each followed by its signature: what anyone may have collected from its
// answers. Valid after Start.
func (z *Zone) Denials() []dns.RR {
	var out []dns.RR
	for _, l := range z.data.Load().chain {
		for _, rr := range append(l.set.rrs[:1:1], l.set.sigs...) {
			out = append(out, dns.Copy(rr))
		}
	}
	return out
}

// delegate puts the zone's NS, glue and DS into its parent.
func (z *Zone) delegate() {
	p := z.lab.parent(z.name)
	if p == nil {
		return
	}
	p.extra = append(p.extra, &dns.NS{Hdr: z.header(z.name, dns.TypeNS), Ns: z.ns})
	if dns.IsSubDomain(z.name, z.ns) {
		p.extra = append(p.extra, z.nsAddress())
	}
	if ds := z.DS(); ds != nil && !z.sign.NoDS {
		p.extra = append(p.extra, ds)
	}
}

func (z *Zone) nsAddress() dns.RR {
	return &dns.A{Hdr: z.header(z.ns, dns.TypeA), A: z.addr.AsSlice()}
}

// publish signs the zone as it stands and serves it from now on.
func (z *Zone) publish() {
	rrs := []dns.RR{
		&dns.SOA{Hdr: z.header(z.name, dns.TypeSOA), Ns: z.ns, Mbox: "hostmaster." + strings.TrimPrefix(z.name, "."),
			Serial: uint32(z.lab.opts.Now().Unix()), Refresh: 7200, Retry: 3600, Expire: 1209600, Minttl: z.ttl()},
		&dns.NS{Hdr: z.header(z.name, dns.TypeNS), Ns: z.ns},
	}
	if dns.IsSubDomain(z.name, z.ns) {
		rrs = append(rrs, z.nsAddress())
	}
	for _, k := range z.keys {
		rrs = append(rrs, k.rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	rrs = append(rrs, z.extra...)
	for _, line := range z.lines {
		rrs = append(rrs, z.parse(line, z.lab.opts.SMTPPort)...)
	}
	z.data.Store(z.build(rrs))
	if z.handle == nil {
		h := Handler(func(q Query) *dns.Msg { return z.data.Load().answer(q.Msg) })
		for _, w := range z.wraps {
			h = w(h)
		}
		z.handle = h
	}
}
