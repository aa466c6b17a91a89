package dnssec

import (
	"errors"
	"fmt"
)

var errBitmap = errors.New("malformed type bitmap")

// bitmap is the type bitmap of an NSEC or NSEC3 record (RFC 4034 §4.1.2), known
// to be well-formed.
type bitmap []byte

// parseBitmap checks the form of a bitmap. Blocks must ascend; trailing zero
// octets, which some servers send, are let through.
func parseBitmap(b []byte) (bitmap, error) {
	last := -1
	for rest := b; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, errBitmap
		}
		window, n := int(rest[0]), int(rest[1])
		if window <= last || n < 1 || n > 32 || len(rest) < 2+n {
			return nil, errBitmap
		}
		last, rest = window, rest[2+n:]
	}
	return bitmap(b), nil
}

// has reports whether the bit of a type is set.
func (m bitmap) has(rrtype uint16) bool {
	window, octet, bit := byte(rrtype>>8), int(rrtype&0xff)/8, byte(0x80)>>(rrtype&7)
	for rest := m; len(rest) >= 2; rest = rest[2+int(rest[1]):] {
		if rest[0] == window {
			return octet < int(rest[1]) && rest[2+octet]&bit != 0
		}
	}
	return false
}

// hasData reports whether a type is set beside those that every name of a
// signed zone has.
func (m bitmap) hasData() bool {
	for rest := m; len(rest) >= 2; rest = rest[2+int(rest[1]):] {
		for i, octet := range rest[2 : 2+int(rest[1])] {
			for bit := range 8 {
				t := uint16(rest[0])<<8 | uint16(i*8+bit)
				if octet&(0x80>>bit) != 0 && t != typeRRSIG && t != typeNSEC && t != typeNXNAME {
					return true
				}
			}
		}
	}
	return false
}

// absent reports whether the record was made up for a name that does not exist
// (RFC 9824 §3.1).
func (m bitmap) absent() bool { return m.has(typeNXNAME) && !m.hasData() }

// delegates reports whether the name is a zone cut seen from above.
func (m bitmap) delegates() bool { return m.has(typeNS) && !m.has(typeSOA) }

// hidesBelow reports whether names below this one are not this zone's to deny:
// they are in a child zone or renamed by a DNAME (RFC 6840 §4.1).
func (m bitmap) hidesBelow() bool { return m.delegates() || m.has(typeDNAME) }

// lacks reports whether the bitmap of name itself proves that it has no record
// of a type.
func (m bitmap) lacks(name Name, qtype uint16) bool {
	if m.has(qtype) || m.has(typeCNAME) {
		return false // RFC 6840 §4.3: a CNAME would have been the answer
	}
	switch qtype {
	case typeDS:
		// DS stands on the parent's side of a cut (RFC 4035 §5.2); the root has none.
		return !m.has(typeSOA) || name == Root
	case typeANY:
		return !m.hasData()
	}
	return !m.delegates()
}

// nsec is an NSEC record that verified.
type nsec struct {
	owner, next Name
	types       bitmap
}

// parseNSEC decodes NSEC RDATA (RFC 4034 §4.1) of a zone. Records that say
// something of names outside the zone or between no two names are refused.
func parseNSEC(zone, owner Name, rdata []byte) (nsec, error) {
	next, n, err := ReadName(rdata)
	if err != nil {
		return nsec{}, fmt.Errorf("NSEC next name: %w", err)
	}
	types, err := parseBitmap(rdata[n:])
	if err != nil {
		return nsec{}, fmt.Errorf("NSEC: %w", err)
	}
	if !owner.IsSubdomainOf(zone) || !next.IsSubdomainOf(zone) {
		return nsec{}, errors.New("NSEC reaches out of its zone")
	}
	if next != zone && next.Compare(owner) <= 0 {
		return nsec{}, errors.New("NSEC whose next name comes first")
	}
	return nsec{owner: owner, next: next, types: types}, nil
}

// covers reports whether the record proves that name, of its zone, has no
// records: it may still be an empty non-terminal.
func (n *nsec) covers(zone, name Name) bool {
	if n.types.hidesBelow() && name.IsBelow(n.owner) {
		return false
	}
	// The last record of a zone points back to the apex (RFC 4034 §4.1.1).
	return n.owner.Compare(name) < 0 && (n.next == zone || name.Compare(n.next) < 0)
}

// denies reports whether the record proves that name does not exist, neither
// with records nor as an empty non-terminal.
func (n *nsec) denies(zone, name Name) bool {
	return n.covers(zone, name) && !n.next.IsBelow(name)
}

// encloser returns the closest encloser of a name that the record denies: the
// record's two names exist, and nothing exists between them.
func (n *nsec) encloser(name Name) Name {
	a, b := name.CommonAncestor(n.owner), name.CommonAncestor(n.next)
	if len(b) > len(a) {
		return b
	}
	return a
}

// nsecNoData proves by NSEC that name lacks a type (RFC 4035 §5.4).
func (d *Denial) nsecNoData(name Name, qtype uint16) bool {
	for i := range d.nsec {
		n := &d.nsec[i]
		switch {
		case n.owner == name:
			if n.types.lacks(name, qtype) {
				return true
			}
		case !n.covers(d.zone, name):
		case n.next.IsBelow(name):
			return true // an empty non-terminal
		case d.nsecWildcardNoData(n.encloser(name).Wildcard(), qtype):
			return true // RFC 4035 §3.1.3.4
		}
	}
	return false
}

// nsecWildcardNoData proves that a wildcard exists and lacks a type.
func (d *Denial) nsecWildcardNoData(wildcard Name, qtype uint16) bool {
	for i := range d.nsec {
		n := &d.nsec[i]
		if n.owner == wildcard && n.types.lacks(wildcard, qtype) {
			return true
		}
		if n.covers(d.zone, wildcard) && n.next.IsBelow(wildcard) {
			return true // the wildcard is an empty non-terminal (RFC 4592 §4.9)
		}
	}
	return false
}

// nsecNameError proves by NSEC that neither name nor a wildcard for it exists
// (RFC 4035 §5.4).
func (d *Denial) nsecNameError(name Name) bool {
	for i := range d.nsec {
		n := &d.nsec[i]
		if n.owner == name && n.types.absent() {
			return true
		}
		if n.denies(d.zone, name) && d.nsecDenies(n.encloser(name).Wildcard()) {
			return true
		}
	}
	return false
}

// nsecDenies reports whether an NSEC proves that name does not exist.
func (d *Denial) nsecDenies(name Name) bool {
	for i := range d.nsec {
		if d.nsec[i].denies(d.zone, name) {
			return true
		}
	}
	return false
}

// nsecNoDS proves by NSEC that no signed delegation stands at name.
func (d *Denial) nsecNoDS(name Name) Delegation {
	for i := range d.nsec {
		n := &d.nsec[i]
		if n.owner == name {
			if found := n.types.noDS(); found != NotProved {
				return found
			}
		} else if n.covers(d.zone, name) {
			return NotACut
		}
	}
	return NotProved
}

// noDS reads the bitmap of a name about a delegation there.
func (m bitmap) noDS() Delegation {
	switch {
	case m.has(typeSOA), m.has(typeDS):
		return NotProved // the child's side of the cut, or a DS is there
	case m.has(typeNS):
		return Unsigned
	}
	return NotACut
}
