package resolver

import (
	"encoding/binary"

	"danepost/resolver/dnssec"
)

// packer writes one message, with owner names compressed (RFC 1035 §4.1.4).
type packer struct {
	b     []byte
	names map[dnssec.Name]int // where a name, in lower case, was written
}

// name writes an owner name: as much of it as is new, and a pointer to the rest.
func (p *packer) name(n dnssec.Name) {
	for n != dnssec.Root {
		if at, ok := p.names[n]; ok {
			p.b = binary.BigEndian.AppendUint16(p.b, 0xc000|uint16(at))
			return
		}
		if len(p.b) < 0x4000 {
			p.names[n] = len(p.b)
		}
		p.b = append(p.b, n[:1+int(n[0])]...)
		n = n.Parent()
	}
	p.b = append(p.b, 0)
}

// question writes the question as it was asked, letter case kept.
func (p *packer) question(qname dnssec.Name, qtype, qclass uint16) {
	at := len(p.b)
	for n := qname.Lower(); n != dnssec.Root; n = n.Parent() {
		p.names[n] = at + len(qname) - len(n)
	}
	p.b = append(p.b, qname...)
	p.b = binary.BigEndian.AppendUint16(p.b, qtype)
	p.b = binary.BigEndian.AppendUint16(p.b, qclass)
}

// section writes records and returns how many.
func (p *packer) section(rrs []RR) uint16 {
	for _, rr := range rrs {
		p.name(rr.Name)
		p.b = binary.BigEndian.AppendUint16(p.b, rr.Type)
		p.b = binary.BigEndian.AppendUint16(p.b, classIN)
		p.b = binary.BigEndian.AppendUint32(p.b, rr.TTL)
		p.b = binary.BigEndian.AppendUint16(p.b, uint16(len(rr.Data)))
		p.b = append(p.b, rr.Data...)
	}
	return uint16(len(rrs))
}

// outgoing is a message to a client.
type outgoing struct {
	id            uint16
	flags         uint16 // without RCODE
	rcode         int
	qname         dnssec.Name // "" leaves the question section out
	qtype, qclass uint16
	answer        []RR
	authority     []RR
	edns, do      bool
	udpSize       uint16
	options       []option
	limit         int // octets; above, the message is sent cut
}

// bytes writes the message. What does not fit is left out as a whole, with TC
// set (RFC 2181 §9).
func (o *outgoing) bytes() []byte {
	b := o.write(o.answer, o.authority, 0)
	if len(b) <= o.limit {
		return b
	}
	return o.write(nil, nil, flagTC)
}

func (o *outgoing) write(answer, authority []RR, tc uint16) []byte {
	p := packer{b: make([]byte, headerSize, 512), names: make(map[dnssec.Name]int)}
	binary.BigEndian.PutUint16(p.b, o.id)
	binary.BigEndian.PutUint16(p.b[2:], flagQR|o.flags|tc|uint16(o.rcode&0xf))
	if o.qname != "" {
		p.question(o.qname, o.qtype, o.qclass)
		binary.BigEndian.PutUint16(p.b[4:], 1)
	}
	an, ns := p.section(answer), p.section(authority)
	binary.BigEndian.PutUint16(p.b[6:], an)
	binary.BigEndian.PutUint16(p.b[8:], ns)
	if o.edns {
		ttl := uint32(o.rcode>>4) << 24
		if o.do {
			ttl |= 1 << 15
		}
		p.b = appendOPT(p.b, o.udpSize, ttl, o.options)
		binary.BigEndian.PutUint16(p.b[10:], 1)
	}
	return p.b
}
