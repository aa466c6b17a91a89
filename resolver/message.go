package resolver

import (
	"encoding/binary"
	"errors"
	"fmt"

	"danepost/resolver/dnssec"
)

// Types, classes and codes that the wire code and the iteration know by name.
const (
	typeSOA    uint16 = 6
	typePTR    uint16 = 12
	typeRRSIG  uint16 = 46
	typeDS     uint16 = 43
	typeNSEC   uint16 = 47
	typeDNSKEY uint16 = 48
	typeNSEC3  uint16 = 50
	typeOPT    uint16 = 41
	typeANY    uint16 = 255

	classIN uint16 = 1

	rcodeNoError  = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeYXDomain = 6
	rcodeBadVers  = 16
	rcodeBadCooke = 23

	flagQR uint16 = 1 << 15
	flagAA uint16 = 1 << 10
	flagTC uint16 = 1 << 9
	flagRD uint16 = 1 << 8
	flagRA uint16 = 1 << 7
	flagAD uint16 = 1 << 5
	flagCD uint16 = 1 << 4

	headerSize = 12
)

// message is a received DNS message. Its RDATA are slices of the bytes
// received where they hold no compressible name; records that do not parse
// are left out and told in dropped.
type message struct {
	id      uint16
	flags   uint16
	rcode   int // the extended one where EDNS is present
	queries int // QDCOUNT
	qname   dnssec.Name
	qtype   uint16
	qclass  uint16

	answer, authority, additional []*dnssec.RRset

	edns    bool
	do      bool
	version uint8
	udpSize uint16
	options []option

	dropped  []string
	overflow string // the limit that the message ran past, "" if none
}

// option is one EDNS option (RFC 6891 §6.1.2).
type option struct {
	code uint16
	data []byte
}

func (m *message) has(flag uint16) bool { return m.flags&flag != 0 }

func (m *message) option(code uint16) ([]byte, bool) {
	for _, o := range m.options {
		if o.code == code {
			return o.data, true
		}
	}
	return nil, false
}

var errShort = errors.New("message ends within a record")

// parseMessage reads a whole message. An error means that the message as a
// whole cannot be used.
func parseMessage(b []byte, lim *Limits) (*message, error) {
	p := &parser{b: b, lim: lim}
	m, err := p.header()
	if err != nil || m.has(flagTC) {
		return m, err // what a truncated message holds is not looked at (RFC 2181 §9)
	}
	counts := [3]int{}
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(b[6+2*i:]))
	}
	records := 0
	var orphans []*dnssec.RRset
	for i, sets := range []*[]*dnssec.RRset{&m.answer, &m.authority, &m.additional} {
		for range counts[i] {
			if records++; records > lim.MessageRecords {
				m.overflow = "message-records"
				return m, nil
			}
			if err := p.record(m, sets); err != nil {
				return nil, err
			}
		}
		*sets, orphans = splitOrphans(*sets, orphans)
	}
	m.adopt(orphans, lim)
	return m, nil
}

// splitOrphans takes out the RRsets of which only signatures came.
func splitOrphans(sets, orphans []*dnssec.RRset) (kept, out []*dnssec.RRset) {
	kept = sets[:0]
	for _, s := range sets {
		if len(s.Data) == 0 {
			orphans = append(orphans, s)
		} else {
			kept = append(kept, s)
		}
	}
	return kept, orphans
}

// adopt gives signatures that stand in another section than what they cover
// to the RRset they cover: some servers fill the sections that way.
func (m *message) adopt(orphans []*dnssec.RRset, lim *Limits) {
	for _, o := range orphans {
		for _, sets := range [][]*dnssec.RRset{m.answer, m.authority, m.additional} {
			if s := findSet(sets, o.Name, o.Type); s != nil && len(s.Sigs) < lim.SigsPerRRset {
				s.Sigs = append(s.Sigs, o.Sigs[:min(len(o.Sigs), lim.SigsPerRRset-len(s.Sigs))]...)
			}
		}
	}
}

// findSet returns the RRset of that name and type, or nil.
func findSet(sets []*dnssec.RRset, name dnssec.Name, qtype uint16) *dnssec.RRset {
	for _, s := range sets {
		if s.Type == qtype && s.Name == name {
			return s
		}
	}
	return nil
}

// parser walks over the bytes of one message.
type parser struct {
	b     []byte
	off   int
	lim   *Limits
	names [8]struct { // names by offset: most owners are pointers to few places
		off  int
		name dnssec.Name
	}
	known int
}

// header reads the header and the question section.
func (p *parser) header() (*message, error) {
	if len(p.b) < headerSize {
		return nil, errors.New("message shorter than a header")
	}
	m := &message{
		id:      binary.BigEndian.Uint16(p.b),
		flags:   binary.BigEndian.Uint16(p.b[2:]),
		queries: int(binary.BigEndian.Uint16(p.b[4:])),
	}
	m.rcode = int(m.flags & 0xf)
	p.off = headerSize
	if m.queries > 1 {
		return nil, errors.New("more than one question") // RFC 9619 §4
	}
	if m.queries == 1 {
		name, err := p.name(p.off, true)
		if err != nil {
			return nil, err
		}
		if p.off+4 > len(p.b) {
			return nil, errShort
		}
		m.qname = name
		m.qtype = binary.BigEndian.Uint16(p.b[p.off:])
		m.qclass = binary.BigEndian.Uint16(p.b[p.off+2:])
		p.off += 4
	}
	return m, nil
}

// name reads the name at off and moves p.off behind it, compressed or not.
func (p *parser) name(off int, compressed bool) (dnssec.Name, error) {
	if off+1 < len(p.b) && p.b[off]&0xc0 == 0xc0 && compressed {
		target := int(binary.BigEndian.Uint16(p.b[off:]) & 0x3fff)
		for i := 0; i < p.known; i++ {
			if p.names[i].off == target {
				p.off = off + 2
				return p.names[i].name, nil
			}
		}
		name, err := p.expand(off, compressed)
		p.remember(target, name, err)
		return name, err
	}
	return p.expand(off, compressed)
}

func (p *parser) remember(off int, name dnssec.Name, err error) {
	if err == nil && p.known < len(p.names) {
		p.names[p.known].off, p.names[p.known].name = off, name
		p.known++
	}
}

// expand follows compression pointers (RFC 1035 §4.1.4). Each must point
// before the part of the name it ends, so that no chain of them is endless.
func (p *parser) expand(off int, compressed bool) (dnssec.Name, error) {
	var buf [255]byte
	n, start, end := 0, off, -1
	for {
		if off >= len(p.b) {
			return "", errShort
		}
		c := int(p.b[off])
		switch {
		case c&0xc0 == 0xc0 && compressed:
			if off+1 >= len(p.b) {
				return "", errShort
			}
			if end < 0 {
				end = off + 2
			}
			target := int(binary.BigEndian.Uint16(p.b[off:]) & 0x3fff)
			if target >= start || target < headerSize {
				return "", errors.New("compression pointer does not point backwards")
			}
			off, start = target, target
			continue
		case c > 63:
			return "", errors.New("unknown kind of label")
		case n+1+c > len(buf)-1 && c > 0:
			return "", errors.New("name longer than 255 octets")
		case off+1+c > len(p.b):
			return "", errShort
		}
		n += copy(buf[n:], p.b[off:off+1+c])
		off += 1 + c
		if c == 0 {
			break
		}
	}
	if end < 0 {
		end = off
	}
	p.off = end
	return dnssec.Name(buf[:n]), nil
}

// record reads one resource record and adds it to its RRset in sets.
func (p *parser) record(m *message, sets *[]*dnssec.RRset) error {
	owner, err := p.name(p.off, true)
	if err != nil {
		return err
	}
	if p.off+10 > len(p.b) {
		return errShort
	}
	head := p.b[p.off:]
	rtype, class := binary.BigEndian.Uint16(head), binary.BigEndian.Uint16(head[2:])
	ttl, size := binary.BigEndian.Uint32(head[4:]), int(binary.BigEndian.Uint16(head[8:]))
	start := p.off + 10
	end := start + size
	if end > len(p.b) {
		return errShort
	}
	defer func() { p.off = end }()
	if rtype == typeOPT {
		return m.readOPT(class, ttl, p.b[start:end])
	}
	owner = owner.Lower()
	if class != classIN {
		m.drop(owner, rtype, fmt.Sprintf("class %d", class))
		return nil
	}
	data, err := p.rdata(rtype, start, end)
	if err != nil {
		m.drop(owner, rtype, err.Error())
		return nil
	}
	if ttl > 1<<31-1 {
		ttl = 0 // RFC 2181 §8
	}
	return m.add(sets, rr{owner, rtype, ttl, data}, p.lim)
}

// rr is one record on its way into an RRset.
type rr struct {
	name  dnssec.Name
	rtype uint16
	ttl   uint32
	data  []byte
}

// add puts a record into its RRset; a signature goes to the RRset it covers.
func (m *message) add(sets *[]*dnssec.RRset, r rr, lim *Limits) error {
	covers := r.rtype
	var sig dnssec.RRSIG
	isSig := r.rtype == typeRRSIG && m.qtype != typeRRSIG // asked for, they are data like any other
	if isSig {
		var err error
		if sig, err = dnssec.ParseRRSIG(r.data); err != nil {
			m.drop(r.name, r.rtype, err.Error())
			return nil
		}
		sig.TTL = r.ttl
		covers = sig.TypeCovered
	}
	set := findSet(*sets, r.name, covers)
	if set == nil {
		if countName(*sets, r.name) >= lim.RRsetsPerName {
			m.overflow = "rrsets-per-name"
			return nil
		}
		set = &dnssec.RRset{Name: r.name, Type: covers, Class: classIN, TTL: r.ttl}
		*sets = append(*sets, set)
	}
	set.TTL = min(set.TTL, r.ttl)
	switch {
	case isSig && len(set.Sigs) >= lim.SigsPerRRset:
		m.drop(r.name, r.rtype, "more signatures than are looked at")
	case isSig:
		set.Sigs = append(set.Sigs, sig)
	case len(set.Data) >= lim.RRsPerRRset:
		m.overflow = "rrs-per-rrset"
	case r.rtype == TypeNS && len(set.Data) >= lim.NSPerDelegation:
		m.drop(r.name, r.rtype, "more name servers than are looked at")
	default:
		set.Data = appendUnique(set.Data, r.data)
	}
	return nil
}

// appendUnique leaves out a duplicate record (RFC 2181 §5).
func appendUnique(data [][]byte, d []byte) [][]byte {
	for _, have := range data {
		if string(have) == string(d) {
			return data
		}
	}
	return append(data, d)
}

func countName(sets []*dnssec.RRset, name dnssec.Name) int {
	count := 0
	for _, s := range sets {
		if s.Name == name {
			count++
		}
	}
	return count
}

func (m *message) drop(name dnssec.Name, rtype uint16, why string) {
	if len(m.dropped) < 8 {
		m.dropped = append(m.dropped, fmt.Sprintf("%s type %d: %s", name, rtype, why))
	}
}

// readOPT takes what EDNS says (RFC 6891 §6.1).
func (m *message) readOPT(size uint16, ttl uint32, data []byte) error {
	if m.edns {
		return errors.New("more than one OPT record") // RFC 6891 §6.1.1
	}
	m.edns, m.udpSize = true, size
	m.rcode |= int(ttl>>24) << 4
	m.version = uint8(ttl >> 16)
	m.do = ttl&(1<<15) != 0
	for len(data) >= 4 {
		code, n := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if 4+n > len(data) {
			return errors.New("EDNS option longer than its record")
		}
		m.options = append(m.options, option{code, data[4 : 4+n]})
		data = data[4+n:]
	}
	return nil
}
