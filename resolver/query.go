package resolver

import (
	"encoding/binary"

	"danepost/resolver/dnssec"
)

// EDNS options in use.
const (
	optCookie uint16 = 10 // RFC 7873
	optKeyTag uint16 = 14 // RFC 8145
	optEDE    uint16 = 15 // RFC 8914
)

// query is a question as it goes out.
type query struct {
	id      uint16
	name    dnssec.Name // letter case as it is to be sent
	qtype   uint16
	flags   uint16
	edns    bool
	udpSize uint16
	options []option
}

// bytes writes the query: one question, and one OPT record with DO set where
// EDNS is in use (RFC 6891 §6.1, RFC 4035 §3.2.1).
func (q *query) bytes() []byte {
	b := make([]byte, headerSize, headerSize+len(q.name)+4+11+48)
	binary.BigEndian.PutUint16(b, q.id)
	binary.BigEndian.PutUint16(b[2:], q.flags)
	binary.BigEndian.PutUint16(b[4:], 1)
	b = append(b, q.name...)
	b = binary.BigEndian.AppendUint16(b, q.qtype)
	b = binary.BigEndian.AppendUint16(b, classIN)
	if !q.edns {
		return b
	}
	binary.BigEndian.PutUint16(b[10:], 1)
	return appendOPT(b, q.udpSize, 1<<15, q.options)
}

// appendOPT writes an OPT record; ttl holds extended RCODE, version and DO.
func appendOPT(b []byte, size uint16, ttl uint32, options []option) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, typeOPT)
	b = binary.BigEndian.AppendUint16(b, size)
	b = binary.BigEndian.AppendUint32(b, ttl)
	at := len(b)
	b = append(b, 0, 0)
	for _, o := range options {
		b = binary.BigEndian.AppendUint16(b, o.code)
		b = binary.BigEndian.AppendUint16(b, uint16(len(o.data)))
		b = append(b, o.data...)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

// mixCase sets the case of each letter at random: bits that an off-path
// forger must guess in addition to the id and the port (RFC 5452 §9.2 asks
// for all there are).
func mixCase(n dnssec.Name, random func() uint64) dnssec.Name {
	b := []byte(n)
	var bits uint64
	for i, left := 0, 0; i < len(b); i++ {
		if c := b[i] | 0x20; c < 'a' || c > 'z' {
			continue
		}
		if left == 0 {
			bits, left = random(), 64
		}
		if bits&1 == 1 {
			b[i] ^= 0x20
		}
		bits >>= 1
		left--
	}
	return dnssec.Name(b)
}

// replyMatch says how a datagram fits the query.
type replyMatch uint8

const (
	matchNone  replyMatch = iota
	matchCase             // all but the letter case of the question
	matchExact            // the question octet by octet
	matchBare             // a refusal without a question section, as old servers send
)

// match compares the header and the question section (RFC 5452 §9.1).
func (q *query) match(reply []byte) replyMatch {
	if len(reply) < headerSize || binary.BigEndian.Uint16(reply) != q.id {
		return matchNone
	}
	flags := binary.BigEndian.Uint16(reply[2:])
	if flags&flagQR == 0 || flags>>11&0xf != 0 {
		return matchNone
	}
	rcode := int(flags & 0xf)
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 1:
	case 0:
		if len(reply) == headerSize && rcode != rcodeNoError && rcode != rcodeNXDomain {
			return matchBare
		}
		return matchNone
	default:
		return matchNone
	}
	end := headerSize + len(q.name)
	if len(reply) < end+4 || binary.BigEndian.Uint16(reply[end:]) != q.qtype ||
		binary.BigEndian.Uint16(reply[end+2:]) != classIN {
		return matchNone
	}
	got := dnssec.Name(reply[headerSize:end])
	switch {
	case got == q.name:
		return matchExact
	case got.Lower() == q.name.Lower():
		return matchCase
	}
	return matchNone
}
