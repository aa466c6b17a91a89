package replay

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

// query is a question as the resolver sent it to a server.
type query struct {
	raw   []byte
	msg   dns.Msg
	tcp   bool
	qname string // as sent, letter case kept
	do    bool
	edns  bool
}

// parseQuery decodes what the resolver sent. A resolver that sends something
// that is not one question is broken, and the scenario fails.
func parseQuery(raw []byte, tcp bool) (*query, error) {
	q := &query{raw: raw, tcp: tcp}
	if err := q.msg.Unpack(raw); err != nil {
		return nil, err
	}
	if len(q.msg.Question) != 1 {
		return nil, errNotOneQuestion
	}
	q.qname = q.msg.Question[0].Name
	if opt := q.msg.IsEdns0(); opt != nil {
		q.edns, q.do = true, opt.Do()
	}
	return q, nil
}

// matches reports whether the entry is one for this question.
func (e *Entry) matches(q *query) bool {
	asked := q.msg.Question[0]
	var want dns.Question
	if len(e.Question) > 0 {
		want = e.Question[0]
	}
	sameName := strings.EqualFold(asked.Name, want.Name)
	for _, c := range []struct {
		on Match
		ok bool
	}{
		{MatchOpcode, q.msg.Opcode == e.Opcode},
		{MatchQtype, asked.Qtype == want.Qtype},
		{MatchQname, sameName},
		{MatchSubdomain, want.Name != "" && dns.IsSubDomain(strings.ToLower(want.Name), strings.ToLower(asked.Name))},
		{MatchQuestion, sameName && asked.Qtype == want.Qtype && asked.Qclass == want.Qclass},
		{MatchDO, q.do},
		{MatchUDP, !q.tcp},
		{MatchTCP, q.tcp},
		{MatchNoEDNS, !q.edns},
	} {
		if e.Match&c.on != 0 && !c.ok {
			return false
		}
	}
	return true
}

// refers reports whether the entry is the referral, or the alias, that a
// server would send whatever type is asked. Deckard's scenarios were made for a
// resolver that minimises its questions with type NS; RFC 9156 §2.1 leaves
// the type to the resolver.
func (e *Entry) refers(q *query) bool {
	asked := q.msg.Question[0]
	if e.Raw != nil || len(e.Question) == 0 || e.Question[0].Qtype != dns.TypeNS || e.Match&MatchQname == 0 ||
		!strings.EqualFold(e.Question[0].Name, asked.Name) || asked.Qtype == dns.TypeDS {
		return false
	}
	alias := len(e.Answer) > 0 && e.Answer[0].Type == dns.TypeCNAME
	referral := len(e.Answer) == 0 && !e.AA && len(e.Authority) > 0 && e.Authority[0].Type == dns.TypeNS
	return e.Rcode == dns.RcodeSuccess && (alias || referral)
}

// reply builds the message that the entry sends back. With edns the reply
// has an OPT record even where the entry does not speak of one.
func (e *Entry) reply(q *query, edns bool) []byte {
	if e.Raw != nil {
		out := append([]byte(nil), e.Raw...)
		if e.CopyID && len(out) >= 2 {
			copy(out, q.raw[:2])
		}
		return out
	}
	var id uint16
	if e.CopyID {
		id = q.msg.Id
	}
	questions := e.Question
	if e.CopyQuery || e.Match&MatchQtype != 0 && e.refers(q) {
		questions = q.msg.Question
	}
	out := make([]byte, 12, 512)
	binary.BigEndian.PutUint16(out, id)
	binary.BigEndian.PutUint16(out[2:], e.header())
	binary.BigEndian.PutUint16(out[4:], uint16(len(questions)))
	for _, asked := range questions {
		name := asked.Name
		if strings.EqualFold(name, q.qname) {
			name = q.qname // a server echoes the letters it was sent
		}
		out = appendName(out, name)
		out = binary.BigEndian.AppendUint16(out, asked.Qtype)
		out = binary.BigEndian.AppendUint16(out, asked.Qclass)
	}
	for i, section := range [][]RR{e.Answer, e.Authority, e.Additional} {
		count := len(section)
		for _, rr := range section {
			out = appendRR(out, rr)
		}
		if i == 2 && (edns || e.DO || e.EDNSData != nil) {
			out = appendRR(out, e.opt())
			count++
		}
		binary.BigEndian.PutUint16(out[6+2*i:], uint16(count))
	}
	return out
}

// header packs flags, opcode and the lower four bits of the rcode
// (RFC 1035 §4.1.1).
func (e *Entry) header() uint16 {
	h := uint16(e.Opcode&15)<<11 | uint16(e.Rcode&15)
	for _, f := range []struct {
		set bool
		bit uint16
	}{{e.QR, 1 << 15}, {e.AA, 1 << 10}, {e.TC, 1 << 9}, {e.RD, 1 << 8}, {e.RA, 1 << 7}, {e.AD, 1 << 5}, {e.CD, 1 << 4}} {
		if f.set {
			h |= f.bit
		}
	}
	return h
}

// opt is the reply's OPT record (RFC 6891 §6.1).
func (e *Entry) opt() RR {
	rr := RR{Name: ".", Type: dns.TypeOPT, Class: 1232, TTL: uint32(e.Rcode>>4) << 24, Data: e.EDNSData}
	if e.DO {
		rr.TTL |= 1 << 15
	}
	return rr
}

func appendRR(out []byte, rr RR) []byte {
	out = appendName(out, rr.Name)
	out = binary.BigEndian.AppendUint16(out, rr.Type)
	out = binary.BigEndian.AppendUint16(out, rr.Class)
	out = binary.BigEndian.AppendUint32(out, rr.TTL)
	out = binary.BigEndian.AppendUint16(out, uint16(len(rr.Data)))
	return append(out, rr.Data...)
}

// appendName appends a name that the parser has already found well formed.
func appendName(out []byte, name string) []byte {
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil {
		panic("replay: name " + name + ": " + err.Error())
	}
	return append(out, buf[:n]...)
}
