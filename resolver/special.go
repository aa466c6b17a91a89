package resolver

import (
	"net/netip"
	"strings"
	"time"

	"danepost/resolver/dnssec"
)

// special answers names that must not leave the host (RFC 6761 §6, RFC 6762 §3,
// RFC 7686 §2, RFC 8375 §4, RFC 9476 §2); nil for all others. There is nobody to
// prove them: they are Insecure, except for what exists by definition.
func (r *Resolver) special(q question) *outcome {
	if q.name.IsSubdomainOf("\x09localhost\x00") {
		return r.localhost(q)
	}
	if r.stubbed(q.name) {
		return nil
	}
	// "test." belongs to whoever runs a root of their own (RFC 6761 §6.2).
	if neverLeaves(q.name) || !r.ownRoot && q.name.IsSubdomainOf("\x04test\x00") {
		return r.local(q, rcodeNXDomain, nil)
	}
	return nil
}

// stubbed reports whether the configuration delegates name.
func (r *Resolver) stubbed(name dnssec.Name) bool {
	for n := name; n != dnssec.Root; n = n.Parent() {
		if r.stubs[n] != nil {
			return true
		}
	}
	return false
}

// localhost answers with loopback addresses (RFC 6761 §6.3).
func (r *Resolver) localhost(q question) *outcome {
	switch q.qtype {
	case TypeA:
		return r.local(q, rcodeNoError, netip.AddrFrom4([4]byte{127, 0, 0, 1}).AsSlice())
	case TypeAAAA:
		return r.local(q, rcodeNoError, netip.IPv6Loopback().AsSlice())
	}
	return r.local(q, rcodeNoError, nil)
}

// neverLeaves reports whether the DNS has nothing to say about name.
func neverLeaves(name dnssec.Name) bool {
	for _, zone := range [...]dnssec.Name{
		"\x07invalid\x00", "\x05local\x00", "\x05onion\x00", "\x03alt\x00",
		"\x0210\x07in-addr\x04arpa\x00", "\x03168\x03192\x07in-addr\x04arpa\x00", "\x03127\x07in-addr\x04arpa\x00",
		"\x03254\x03169\x07in-addr\x04arpa\x00", "\x01d\x01f\x03ip6\x04arpa\x00",
	} {
		if name.IsSubdomainOf(zone) {
			return true
		}
	}
	// An address written as a name, "192.0.2.1": no such domain exists.
	if name.Labels() == 4 {
		_, err := netip.ParseAddr(strings.TrimSuffix(name.String(), "."))
		return err == nil
	}
	return false
}

// local makes the outcome of a question that is answered here.
func (r *Resolver) local(q question, rcode int, data []byte) *outcome {
	v := dnssec.Verdict{
		Status: dnssec.Insecure, Reason: "special-name", EDE: -1,
		Text: q.name.String() + " is a special-use name, answered without asking anyone",
	}
	f := &fact{name: q.name, qtype: q.qtype, rcode: rcode, expires: r.now().Add(time.Hour)}
	if data != nil {
		f.set = &dnssec.RRset{Name: q.name, Type: q.qtype, Class: classIN, TTL: 3600, Data: [][]byte{data}}
	}
	o := &outcome{rcode: rcode, verdict: v, expires: f.expires}
	o.steps = []step{{q.name, f, &judgement{Verdict: v}, false}}
	o.answer = &Answer{
		Name: q.name, Type: q.qtype, Rcode: rcode, Verdict: v, Final: q.name,
		FinalStatus: v.Status, Expires: f.expires,
	}
	if f.set != nil {
		o.answer.RRs = records(f.set)
	}
	return o
}
