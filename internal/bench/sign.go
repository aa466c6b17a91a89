package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// zone is one zone before it is signed. Mistakes in its records panic: they
// are mistakes of this program.
type zone struct {
	name  string
	nsec3 bool
	keys  []zoneKey // the first signs the keys, the last everything else
	sets  map[string]map[uint16][]dns.RR
}

type zoneKey struct {
	rr     *dns.DNSKEY
	signer crypto.Signer
}

// newZone makes a zone with a SOA record and its ECDSA P-256 keys: one that
// does all, or two with the roles of KSK and ZSK.
func newZone(name string, nsec3 bool, keys int) *zone {
	z := &zone{name: name, nsec3: nsec3, sets: map[string]map[uint16][]dns.RR{}}
	z.add(hourTTL, name+" SOA ns.bench. hostmaster.bench. 1 7200 3600 1209600 3600")
	for i := range keys {
		flags := uint16(257)
		if i > 0 {
			flags = 256
		}
		rr := &dns.DNSKEY{Hdr: header(name, dns.TypeDNSKEY, hourTTL), Flags: flags, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
		private, err := rr.Generate(256)
		if err != nil {
			panic(err)
		}
		z.keys = append(z.keys, zoneKey{rr, private.(crypto.Signer)})
		z.insert(rr)
	}
	return z
}

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func (z *zone) insert(rr dns.RR) {
	h := rr.Header()
	if z.sets[h.Name] == nil {
		z.sets[h.Name] = map[uint16][]dns.RR{}
	}
	z.sets[h.Name][h.Rrtype] = append(z.sets[h.Name][h.Rrtype], rr)
}

// add takes records in presentation form, without TTL.
func (z *zone) add(ttl uint32, records ...string) {
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		rr.Header().Ttl = ttl
		z.insert(rr)
	}
}

// delegate makes child a signed child of z, with child's own address as glue.
func (z *zone) delegate(dsTTL uint32, child *zone) {
	for _, rr := range child.sets[child.name][dns.TypeNS] {
		z.insert(rr)
		for _, glue := range child.sets[rr.(*dns.NS).Ns][dns.TypeA] {
			z.insert(glue)
		}
	}
	ds := child.keys[0].rr.ToDS(dns.SHA256)
	ds.Hdr.Ttl = dsTTL
	z.insert(ds)
}

// cut reports whether name is delegated, and below, whether it is in the
// child's part: neither is the zone's own (RFC 4035 §2.2).
func (z *zone) cut(name string) (at, below bool) {
	for n := name; n != z.name; n = parent(n) {
		if z.sets[n][dns.TypeNS] != nil {
			return n == name, n != name
		}
	}
	return false, false
}

func parent(name string) string {
	off, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[off:]
}

// types lists what a denial record says of name.
func (z *zone) types(name string, more ...uint16) []uint16 {
	at, _ := z.cut(name)
	signed := len(more) > 0
	for t := range z.sets[name] {
		more = append(more, t)
		signed = signed || !(at && t == dns.TypeNS)
	}
	if signed {
		more = append(more, dns.TypeRRSIG)
	}
	slices.Sort(more)
	return slices.Compact(more)
}

// signed returns the zone as a file, with its chain of denial and signatures.
func (z *zone) signed(now time.Time) (string, error) {
	var own []string
	for name := range z.sets {
		if _, below := z.cut(name); !below {
			own = append(own, name)
		}
	}
	if z.nsec3 {
		z.addNSEC3(own)
	} else {
		z.addNSEC(own)
	}
	var b strings.Builder
	for name, sets := range z.sets {
		at, below := z.cut(name)
		for t, set := range sets {
			for _, rr := range set {
				fmt.Fprintln(&b, rr)
			}
			if below || at && t == dns.TypeNS {
				continue
			}
			sig, err := z.sign(set, now)
			if err != nil {
				return "", fmt.Errorf("signing %s: %w", set[0], err)
			}
			fmt.Fprintln(&b, sig)
		}
	}
	return b.String(), nil
}

func (z *zone) sign(set []dns.RR, now time.Time) (*dns.RRSIG, error) {
	key, h := z.keys[len(z.keys)-1], set[0].Header()
	if h.Rrtype == dns.TypeDNSKEY {
		key = z.keys[0]
	}
	sig := &dns.RRSIG{Algorithm: key.rr.Algorithm, KeyTag: key.rr.KeyTag(), SignerName: z.name,
		Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.AddDate(0, 0, signatureDays).Unix())}
	err := sig.Sign(key.signer, set)
	sig.Hdr.Ttl = h.Ttl
	return sig, err
}

// addNSEC makes the chain of RFC 4034 §4.
func (z *zone) addNSEC(names []string) {
	slices.SortFunc(names, canonicalOrder)
	for i, name := range names {
		z.insert(&dns.NSEC{Hdr: header(name, dns.TypeNSEC, hourTTL),
			NextDomain: names[(i+1)%len(names)], TypeBitMap: z.types(name, dns.TypeNSEC)})
	}
}

// addNSEC3 makes the chain of RFC 5155 §7.1 without salt, further iterations
// or opt-out (RFC 9276 §3.1).
func (z *zone) addNSEC3(names []string) {
	z.insert(&dns.NSEC3PARAM{Hdr: header(z.name, dns.TypeNSEC3PARAM, 0), Hash: dns.SHA1})
	hashes := map[string]string{}
	for _, name := range names {
		for n := name; ; n = parent(n) { // empty non-terminals are in the chain as well
			hashes[dns.HashName(n, dns.SHA1, 0, "")] = n
			if n == z.name {
				break
			}
		}
	}
	var order []string
	for h := range hashes {
		order = append(order, h)
	}
	slices.Sort(order)
	for i, h := range order {
		owner := strings.ToLower(h) + "." + strings.TrimPrefix(z.name, ".")
		z.insert(&dns.NSEC3{Hdr: header(owner, dns.TypeNSEC3, hourTTL), Hash: dns.SHA1, HashLength: 20,
			NextDomain: order[(i+1)%len(order)], TypeBitMap: z.types(hashes[h])})
	}
}

// canonicalOrder is that of RFC 4034 §6.1 for lower-case names without escapes.
func canonicalOrder(a, b string) int {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(la)
	slices.Reverse(lb)
	return slices.Compare(la, lb)
}

// selfSigned makes an ECDSA P-256 certificate; the key is in PKCS #8.
func selfSigned(name string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	if cert, err = x509.CreateCertificate(rand.Reader, t, t, private.Public(), private); err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	return cert, key, err
}
