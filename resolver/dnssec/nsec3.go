package dnssec

import (
	"bytes"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
)

// nsec3 is an NSEC3 record that verified (RFC 5155 §3).
type nsec3 struct {
	owner, next hash3
	params      params3
	optOut      bool
	types       bitmap
}

// hash3 is an NSEC3 hash: SHA-1 is the only algorithm there is (RFC 5155 §11).
type hash3 [sha1.Size]byte

// params3 are what a zone hashes its names with.
type params3 struct {
	iterations uint16
	salt       string
}

// hashed is a hash that a resolution has computed.
type hashed struct {
	name   Name
	params params3
	hash   hash3
}

const flagOptOut = 1

var errUnknownNSEC3 = errors.New("NSEC3 with an unknown hash algorithm or flag")

// parseNSEC3 decodes an NSEC3 record of zone (RFC 5155 §3.2). Unknown hash
// algorithms and flags are an error: the record is to be ignored (RFC 5155
// §8.1, §8.2).
func parseNSEC3(zone, owner Name, rdata []byte) (nsec3, error) {
	var n nsec3
	if owner == Root || owner.Parent() != zone {
		return n, errors.New("NSEC3 does not hang from its zone's apex")
	}
	ownerHash, err := decodeHash(string(owner[1 : 1+int(owner[0])]))
	if err != nil {
		return n, err
	}
	if len(rdata) < 5 {
		return n, fmt.Errorf("NSEC3: %w", errShort)
	}
	if rdata[0] != 1 || rdata[1]&^flagOptOut != 0 {
		return n, errUnknownNSEC3
	}
	n.owner, n.optOut = ownerHash, rdata[1]&flagOptOut != 0
	n.params.iterations = binary.BigEndian.Uint16(rdata[2:])
	saltLen, rest := int(rdata[4]), rdata[5:]
	if len(rest) < saltLen+1 {
		return n, fmt.Errorf("NSEC3: %w", errShort)
	}
	n.params.salt, rest = string(rest[:saltLen]), rest[saltLen:]
	if rest[0] != sha1.Size || len(rest) < 1+sha1.Size {
		return n, errUnknownNSEC3
	}
	copy(n.next[:], rest[1:])
	n.types, err = parseBitmap(rest[1+sha1.Size:])
	return n, err
}

// decodeHash reads the first label of an NSEC3 owner name.
func decodeHash(label string) (h hash3, err error) {
	var upper [32]byte
	if len(label) != len(upper) {
		return h, errors.New("NSEC3 owner name is no SHA-1 hash")
	}
	for i := range upper {
		c := label[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	if _, err := base32.HexEncoding.Decode(h[:], upper[:]); err != nil {
		return h, fmt.Errorf("NSEC3 owner name: %w", err)
	}
	return h, nil
}

// hash computes the NSEC3 hash of name (RFC 5155 §5), or finds that this
// resolution already did. ok is false where the budget is used up.
func (b *Budget) hash(name Name, p params3, cost int) (h hash3, ok bool) {
	for i := range b.hashes {
		if known := &b.hashes[i]; known.name == name && known.params == p {
			return known.hash, true
		}
	}
	if !b.takeHash(cost) {
		return h, false
	}
	var buf [2 * maxNameLen]byte
	n := copy(buf[:maxNameLen], name)
	n += copy(buf[n:], p.salt)
	h = sha1.Sum(buf[:n])
	for range p.iterations {
		copy(buf[:], h[:])
		n = sha1.Size + copy(buf[sha1.Size:], p.salt)
		h = sha1.Sum(buf[:n])
	}
	b.hashes = append(b.hashes, hashed{name, p, h})
	return h, true
}

// covers reports whether h falls between the record's hashes.
func (n *nsec3) covers(h hash3) bool {
	after, before := bytes.Compare(n.owner[:], h[:]) < 0, bytes.Compare(h[:], n.next[:]) < 0
	if bytes.Compare(n.owner[:], n.next[:]) < 0 {
		return after && before
	}
	return h != n.owner && (after || before) // the last record of the chain
}

// outcome is what an NSEC3 proof came to.
type outcome uint8

const (
	unproved     outcome = iota
	provedCostly         // by hashes with too many iterations
	provedOptOut
	proved
)

// chain3 is one NSEC3 chain of a zone: the records that share their parameters.
// Records of different chains never make one proof (RFC 5155 §8.2).
type chain3 struct {
	denial *Denial
	params params3
	budget *Budget
	over   bool // the budget did not suffice
}

// costly reports whether the chain has more iterations than a proof may have.
func (c *chain3) costly() bool { return c.params.iterations > c.denial.rules.MaxNSEC3Iterations }

// find returns the record that matches name, or the one that covers it.
func (c *chain3) find(name Name) (match, cover *nsec3) {
	cost := 1
	if c.costly() {
		cost = costlyHash
	}
	h, ok := c.budget.hash(name, c.params, cost)
	if !ok {
		c.over = true
		return nil, nil
	}
	for i := range c.denial.nsec3 {
		n := &c.denial.nsec3[i]
		if n.params != c.params {
			continue
		}
		if n.owner == h {
			return n, nil
		}
		if n.covers(h) {
			cover = n
		}
	}
	return nil, cover
}

// encloser runs the closest encloser proof for a name that no record matches
// (RFC 5155 §8.3): cover is the record that covers the next closer name, nil
// where the proof fails.
func (c *chain3) encloser(name Name) (encloser Name, cover *nsec3) {
	for name.IsBelow(c.denial.zone) && !c.over {
		match, covering := c.find(name)
		if match != nil {
			return "", nil // exists, so that nothing below was denied
		}
		parent := name.Parent()
		above, _ := c.find(parent)
		if above == nil {
			name = parent
			continue
		}
		if above.types.hidesBelow() {
			return "", nil // RFC 5155 §8.3: the next closer name is not this zone's
		}
		return parent, covering
	}
	return "", nil
}

// by turns the record that denies the next closer name into an outcome: within
// an opt-out span a delegation may exist all the same (RFC 5155 §9.2).
func by(cover *nsec3) outcome {
	switch {
	case cover == nil:
		return unproved
	case cover.optOut:
		return provedOptOut
	}
	return proved
}

// noData proves that name lacks a type (RFC 5155 §8.5, §8.6, §8.7).
func (c *chain3) noData(name Name, qtype uint16) outcome {
	if match, _ := c.find(name); match != nil {
		if match.types.lacks(name, qtype) {
			return proved
		}
		return unproved
	}
	encloser, cover := c.encloser(name)
	if cover == nil {
		return unproved
	}
	wildcard := encloser.Wildcard()
	if match, _ := c.find(wildcard); match != nil && match.types.lacks(wildcard, qtype) {
		return by(cover)
	}
	// RFC 5155 §8.6 says this of DS alone, but an empty non-terminal above
	// unsigned delegations need not be in the chain either (RFC 5155 §7.1).
	if cover.optOut {
		return provedOptOut
	}
	return unproved
}

// nameError proves that neither name nor a wildcard for it exists (RFC 5155 §8.4).
func (c *chain3) nameError(name Name) outcome {
	if match, _ := c.find(name); match != nil && match.types.absent() {
		return proved
	}
	encloser, cover := c.encloser(name)
	if cover == nil {
		return unproved
	}
	if _, denied := c.find(encloser.Wildcard()); denied == nil {
		return unproved
	}
	return by(cover)
}

// noDS looks for a delegation at name (RFC 5155 §8.6, §8.9).
func (c *chain3) noDS(name Name) Delegation {
	if match, _ := c.find(name); match != nil {
		return match.types.noDS()
	}
	switch _, cover := c.encloser(name); by(cover) {
	case proved:
		return NotACut
	case provedOptOut:
		return OptOut
	}
	return NotProved
}
