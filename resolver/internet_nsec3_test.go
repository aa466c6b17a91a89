package resolver

import (
	"sort"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const testSalt = "abcd"

// finish3 is finish for a zone with NSEC3 (RFC 5155 §7.1).
func (z *testZone) finish3(t testing.TB) {
	types := map[string][]uint16{} // by hashed owner
	for _, name := range z.names {
		cut := z.cut(name) == name
		if cut && z.nsec3.optOut && len(z.rrs[name][dns.TypeDS]) == 0 {
			continue
		}
		var bitmap []uint16
		for rt := range z.rrs[name] {
			if !cut || rt == dns.TypeNS || rt == dns.TypeDS {
				bitmap = append(bitmap, rt)
			}
		}
		if !cut || len(z.rrs[name][dns.TypeDS]) > 0 {
			bitmap = append(bitmap, dns.TypeRRSIG)
		}
		sort.Slice(bitmap, func(i, j int) bool { return bitmap[i] < bitmap[j] })
		types[z.hash(name)] = bitmap
		for n := parentOf(name); dns.IsSubDomain(z.name, n) && n != z.name; n = parentOf(n) {
			if _, ok := types[z.hash(n)]; !ok {
				types[z.hash(n)] = nil // an empty non-terminal
			}
		}
	}
	for owner := range types {
		z.hashes = append(z.hashes, owner)
	}
	sort.Strings(z.hashes)
	for i, owner := range z.hashes {
		next := z.hashes[(i+1)%len(z.hashes)]
		rr := &dns.NSEC3{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeNSEC3, Class: 1, Ttl: 900},
			Hash: dns.SHA1, Iterations: z.nsec3.iterations, SaltLength: 2, Salt: testSalt, HashLength: 20,
			NextDomain: strings.ToUpper(strings.SplitN(next, ".", 2)[0]), TypeBitMap: types[owner]}
		if z.nsec3.optOut {
			rr.Flags = 1
		}
		z.put(rr)
		z.sigs[owner] = map[uint16][]dns.RR{dns.TypeNSEC3: {z.sign(t, []dns.RR{rr})}}
	}
	for _, name := range z.names {
		if z.sigs[name] == nil {
			z.sigs[name] = map[uint16][]dns.RR{}
		}
		for rt, set := range z.rrs[name] {
			if z.cut(name) == "" || rt == dns.TypeDS {
				z.sigs[name][rt] = []dns.RR{z.sign(t, set)}
			}
		}
	}
}

func (z *testZone) hash(name string) string {
	return strings.ToLower(dns.HashName(name, dns.SHA1, z.nsec3.iterations, testSalt)) + "." + strings.TrimPrefix(z.name, ".")
}

// cover3 adds what denies name: the closest encloser, and what covers the next closer name
// and the wildcard (RFC 5155 §7.2.1); for a name that exists, what matches it.
func (z *testZone) cover3(r *dns.Msg, name string) {
	at := func(n string, exact bool) {
		h, owner := z.hash(n), z.hashes[len(z.hashes)-1]
		for _, o := range z.hashes {
			if o == h && exact || o < h && !exact {
				owner = o
			}
		}
		for _, rr := range r.Ns {
			if rr.Header().Name == owner && rr.Header().Rrtype == dns.TypeNSEC3 {
				return
			}
		}
		r.Ns = append(r.Ns, z.set(owner, dns.TypeNSEC3)...)
	}
	if z.hashed(name) {
		at(name, true)
		return
	}
	next := name
	for !z.hashed(parentOf(next)) {
		next = parentOf(next)
	}
	at(parentOf(next), true)
	at(next, false)
	at("*."+strings.TrimPrefix(parentOf(next), "."), false)
}

// hashed reports whether there is an NSEC3 for name.
func (z *testZone) hashed(name string) bool {
	h := z.hash(name)
	for _, o := range z.hashes {
		if o == h {
			return true
		}
	}
	return false
}
