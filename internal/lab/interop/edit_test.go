//go:build interop

package interop

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// Tools that breaks are made of.

// rrs is an RRset of a message with its signatures.
type rrs struct {
	owner string
	typ   uint16
	data  []dns.RR
	sigs  []dns.RR
}

// edit takes the answer and authority sections apart into RRsets, lets f
// change each that match accepts, and puts them together again. An RRset left
// without data and signatures is gone.
func (e *event) edit(match func(*rrs) bool, f func(*rrs)) {
	for _, section := range []*[]dns.RR{&e.m.Answer, &e.m.Ns} {
		var sets []*rrs
		for _, rr := range *section {
			h := rr.Header()
			typ := h.Rrtype
			sig, isSig := rr.(*dns.RRSIG)
			if isSig {
				typ = sig.TypeCovered
			}
			owner := strings.ToLower(h.Name)
			i := slices.IndexFunc(sets, func(s *rrs) bool { return s.owner == owner && s.typ == typ })
			if i < 0 {
				i = len(sets)
				sets = append(sets, &rrs{owner: owner, typ: typ})
			}
			if isSig {
				sets[i].sigs = append(sets[i].sigs, rr)
			} else {
				sets[i].data = append(sets[i].data, rr)
			}
		}
		var out []dns.RR
		for _, s := range sets {
			if match(s) {
				f(s)
			}
			out = append(append(out, s.data...), s.sigs...)
		}
		*section = out
	}
}

// target chooses the RRsets that a break is about.
type target struct {
	name  string
	match func(*rrs) bool
}

// target picks one of the kinds of RRsets that a look-up rests on.
func (g generator) target() target {
	name := pick(g, "data", "data", "data", "DNSKEY", "denial", "denial", "SOA", "alias", "all")
	of := func(types ...uint16) func(*rrs) bool {
		return func(s *rrs) bool { return slices.Contains(types, s.typ) }
	}
	return target{name, map[string]func(*rrs) bool{
		"data":   of(dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTLSA),
		"DNSKEY": of(dns.TypeDNSKEY),
		"denial": of(dns.TypeNSEC, dns.TypeNSEC3),
		"SOA":    of(dns.TypeSOA),
		"alias":  of(dns.TypeCNAME, dns.TypeDNAME),
		"all":    func(*rrs) bool { return true },
	}[name]}
}

// shows are the questions that a target plays a part in.
func targetShows() []string { return []string{"data", "nodata", "nxdomain", "wild", "cname", "far"} }

// signed reports whether a set carries signatures that can be changed.
func (s *rrs) signed() bool { return len(s.data) > 0 && len(s.sigs) > 0 }

// resign replaces the signatures by one that by makes; a set made from a
// wildcard stays one.
func (s *rrs) resign(by *lab.Zone, adapt func(*dns.RRSIG)) {
	if len(s.data) == 0 || len(by.Keys()) == 0 {
		return
	}
	s.sigs = []dns.RR{s.signedAs(by, s.signedOwner(), adapt)}
}

// signedOwner is the name that the set was signed under: that of a wildcard if
// it was made from one.
func (s *rrs) signedOwner() string {
	owner := s.data[0].Header().Name
	if len(s.sigs) > 0 {
		if labels := int(s.sigs[0].(*dns.RRSIG).Labels); labels < dns.CountLabel(owner) && !strings.HasPrefix(owner, "*") {
			parts := dns.SplitDomainName(owner)
			return dns.Fqdn("*." + strings.Join(parts[len(parts)-labels:], "."))
		}
	}
	return owner
}

// signedAs makes a signature as if the set belonged to another owner.
func (s *rrs) signedAs(by *lab.Zone, name string, adapt func(*dns.RRSIG)) dns.RR {
	var data []dns.RR
	for _, rr := range s.data {
		c := dns.Copy(rr)
		c.Header().Name = name
		data = append(data, c)
	}
	sig := by.Sign(data, adapt)
	sig.Hdr.Name = s.data[0].Header().Name
	return sig
}

// eachSig lets f change every signature of the set.
func (s *rrs) eachSig(f func(*dns.RRSIG)) {
	for _, rr := range s.sigs {
		f(rr.(*dns.RRSIG))
	}
}

// octets lets f change the signature itself.
func octets(sig *dns.RRSIG, f func([]byte) []byte) {
	b, err := base64.StdEncoding.DecodeString(sig.Signature)
	if err == nil {
		sig.Signature = base64.StdEncoding.EncodeToString(f(b))
	}
}

// dropDenials takes NSEC and NSEC3 records out where drop says so, numbering them.
func (e *event) dropDenials(drop func(n int) bool) {
	n := 0
	e.edit(func(s *rrs) bool { return s.typ == dns.TypeNSEC || s.typ == dns.TypeNSEC3 }, func(s *rrs) {
		if drop(n) {
			s.data, s.sigs = nil, nil
		}
		n++
	})
}

// denialFor returns the authority section that the server sends for another question.
func (e *event) denialFor(name string, qtype uint16) []dns.RR {
	m := e.next(e.instead(name, qtype))
	if m == nil {
		return nil
	}
	return m.Copy().Ns
}

// negative reports whether the reply says that something is not there.
func (e *event) negative() bool {
	return len(e.m.Answer) == 0 && slices.ContainsFunc(e.m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}
