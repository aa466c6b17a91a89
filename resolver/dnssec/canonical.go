package dnssec

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// canonicalizer turns an RRset into the octets that a signature covers
// (RFC 4034 §3.1.8.1, §6). Its buffers are reused from set to set.
type canonicalizer struct {
	rdata  [][]byte // of the set, canonical, sorted, without duplicates
	folded []byte   // the RDATA that had to be lower-cased
	signed []byte   // what is signed
}

// load brings the RDATA of set into canonical form and order (RFC 4034 §6.2,
// §6.3). It keeps references to set.Data.
func (c *canonicalizer) load(set *RRset) {
	c.rdata = c.rdata[:0]
	form, hasNames := nameLayout(set.Type)
	if hasNames {
		size := 0
		for _, data := range set.Data {
			size += len(data)
		}
		// Grown once, so that slices of it stay valid while it fills.
		c.folded = slices.Grow(c.folded[:0], size)
	}
	for _, data := range set.Data {
		if hasNames {
			start := len(c.folded)
			c.folded = append(c.folded, data...)
			data = c.folded[start:len(c.folded):len(c.folded)]
			form.lower(data)
		}
		c.rdata = append(c.rdata, data)
	}
	if len(c.rdata) > 1 {
		slices.SortFunc(c.rdata, bytes.Compare)
		c.rdata = slices.CompactFunc(c.rdata, bytes.Equal)
	}
}

// compose returns what sig signs of the loaded set. The result is valid until
// the next call.
func (c *canonicalizer) compose(set *RRset, sig *RRSIG, owner Name) []byte {
	perRR := len(owner) + 10
	size := rrsigFixedLen + len(sig.Signer)
	for _, data := range c.rdata {
		size += perRR + len(data)
	}
	out := slices.Grow(c.signed[:0], size)
	out = binary.BigEndian.AppendUint16(out, sig.TypeCovered)
	out = append(out, sig.Algorithm, sig.Labels)
	out = binary.BigEndian.AppendUint32(out, sig.OriginalTTL)
	out = binary.BigEndian.AppendUint32(out, sig.Expiration)
	out = binary.BigEndian.AppendUint32(out, sig.Inception)
	out = binary.BigEndian.AppendUint16(out, sig.KeyTag)
	out = append(out, sig.Signer...)
	for _, data := range c.rdata {
		out = append(out, owner...)
		out = binary.BigEndian.AppendUint16(out, set.Type)
		out = binary.BigEndian.AppendUint16(out, set.Class)
		out = binary.BigEndian.AppendUint32(out, sig.OriginalTTL)
		out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
		out = append(out, data...)
	}
	c.signed = out
	return out
}

// layout says where the names stand in the RDATA of a type.
type layout struct {
	fixed   int // octets before them
	strings int // <character-string>s after those
	names   int
	a6      bool // an A6 prefix stands before the name
}

// nameLayout returns the layout of the types whose embedded names are
// lower-cased in canonical form: those of RFC 4034 §6.2 without NSEC, which
// RFC 6840 §5.1 takes off the list, and without HINFO, which has no name.
func nameLayout(rrtype uint16) (layout, bool) {
	switch rrtype {
	case 2, 3, 4, 5, 7, 8, 9, 12, 39: // NS MD MF CNAME MB MG MR PTR DNAME
		return layout{names: 1}, true
	case 6, 14, 17: // SOA MINFO RP
		return layout{names: 2}, true
	case 15, 18, 21, 36: // MX AFSDB RT KX
		return layout{fixed: 2, names: 1}, true
	case 26: // PX
		return layout{fixed: 2, names: 2}, true
	case 24, 46: // SIG RRSIG
		return layout{fixed: rrsigFixedLen, names: 1}, true
	case 30: // NXT
		return layout{names: 1}, true
	case 33: // SRV
		return layout{fixed: 6, names: 1}, true
	case 35: // NAPTR
		return layout{fixed: 4, strings: 3, names: 1}, true
	case 38: // A6
		return layout{a6: true, names: 1}, true
	}
	return layout{}, false
}

// lower brings the names in rdata to lower case, in place. RDATA that does not
// have the layout is left as it is from there on: such a record verifies only
// if its signer saw the same octets.
func (l layout) lower(rdata []byte) {
	i := l.fixed
	if l.a6 && len(rdata) > 0 {
		i = 1 + (128-min(int(rdata[0]), 128)+7)/8 // RFC 2874 §3.1: prefix length, then what it leaves of the address
	}
	for range l.strings {
		if i >= len(rdata) {
			return
		}
		i += 1 + int(rdata[i])
	}
	for range l.names {
		if i >= len(rdata) {
			return
		}
		n, err := nameLen(rdata[i:])
		if err != nil {
			return
		}
		lowerBytes(rdata[i : i+n])
		i += n
	}
}

// signedOwner returns the owner name under which sig signed a set that stands
// at owner, and, where that is a wildcard's, the name the asterisk hangs from
// (RFC 4035 §5.3.2). ok is false where the label count cannot be.
func signedOwner(owner Name, sig *RRSIG) (signed, encloser Name, ok bool) {
	labels := owner.Labels()
	if owner.IsWildcard() {
		labels-- // RFC 4034 §3.1.3: an asterisk in front does not count
	}
	switch want := int(sig.Labels); {
	case want > labels:
		return "", "", false
	case want == labels:
		return owner, "", true
	default:
		encloser = owner.Ancestor(want)
		return encloser.Wildcard(), encloser, true
	}
}
