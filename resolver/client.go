package resolver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"
)

// answer makes the reply to a client's message, nil for what deserves none.
func (l *Listener) answer(ctx context.Context, query []byte, from netip.AddrPort, tcp bool) []byte {
	m, err := parseMessage(query, &l.r.lim)
	if len(query) < headerSize || m != nil && m.has(flagQR) {
		return nil
	}
	out := &outgoing{
		id: binary.BigEndian.Uint16(query), udpSize: l.r.lim.UDPSize, limit: 512,
		flags: binary.BigEndian.Uint16(query[2:])&(flagRD|flagCD|0x7800) | flagRA,
	}
	if tcp {
		out.limit = 0xffff
	}
	if err != nil {
		out.rcode = rcodeFormErr
		return out.bytes()
	}
	c := client{l: l, m: m, out: out, from: from, tcp: tcp}
	if out.rcode = c.admit(); out.rcode == rcodeNoError {
		c.resolve(ctx)
	}
	return out.bytes()
}

// client is one question of one client.
type client struct {
	l    *Listener
	m    *message
	out  *outgoing
	from netip.AddrPort
	tcp  bool
}

// admit checks the form of a question and who asks, and returns the RCODE of
// the refusal.
func (c *client) admit() int {
	m, out := c.m, c.out
	if m.queries == 1 {
		out.qname, out.qtype, out.qclass = m.qname, m.qtype, m.qclass
	}
	if m.edns {
		out.edns, out.do = true, m.do
		if !c.tcp {
			out.limit = min(max(512, int(m.udpSize)), c.l.r.lim.ClientUDPMax) // RFC 6891 §6.2.3
		}
		if m.version != 0 {
			return rcodeBadVers // RFC 6891 §6.1.3
		}
		if !c.cookie() {
			return rcodeFormErr
		}
	}
	switch {
	case m.flags>>11&0xf != 0:
		return rcodeNotImp
	case m.queries != 1:
		return rcodeFormErr
	case !c.l.allowed(c.from.Addr()):
		c.explain(EDE{edeProhibited, "only programs on this host are served"})
		return rcodeRefused
	case m.qclass != classIN:
		return rcodeRefused
	case m.qtype == typeOPT || m.qtype == 0:
		return rcodeFormErr
	case m.qtype >= 249 && m.qtype != typeANY:
		if m.qtype < 256 {
			return rcodeNotImp // TKEY, TSIG, zone transfers, MAILB, MAILA
		}
	}
	return rcodeNoError
}

// resolve fills in the answer, with the bits of RFC 4035 §3.2.
func (c *client) resolve(ctx context.Context) {
	m, out := c.m, c.out
	q := Question{Name: m.qname.Lower(), Type: m.qtype, CD: m.has(flagCD), Local: !m.has(flagRD)}
	resp := c.l.r.Query(ctx, q)
	out.rcode = resp.Rcode
	if resp.AD && !q.CD && (m.do || m.has(flagAD)) {
		out.flags |= flagAD // RFC 6840 §5.7, §5.8: for those who know what it means
	}
	out.answer, out.authority = resp.Answer, resp.Authority
	if !m.do {
		out.answer = withoutDNSSEC(out.answer, m.qtype)
		out.authority = withoutDNSSEC(out.authority, m.qtype)
	}
	c.explain(resp.EDE...)
}

// withoutDNSSEC leaves out what a client without DO does not expect, unless it
// asked for the type (RFC 4035 §3.2.1).
func withoutDNSSEC(rrs []RR, qtype uint16) []RR {
	var out []RR
	for _, rr := range rrs {
		switch rr.Type {
		case typeRRSIG, typeNSEC, typeNSEC3:
			if qtype != rr.Type && qtype != typeANY {
				continue
			}
		}
		out = append(out, rr)
	}
	return out
}

// explain adds extended errors (RFC 8914 §2) for clients that speak EDNS.
func (c *client) explain(errors ...EDE) {
	const maxText = 200
	for _, e := range errors {
		if !c.out.edns {
			return
		}
		data := binary.BigEndian.AppendUint16(nil, e.Code)
		data = append(data, e.Text[:min(len(e.Text), maxText)]...)
		c.out.options = append(c.out.options, option{optEDE, data})
	}
}

// cookie answers a DNS cookie with one of ours (RFC 7873 §5.2, in the layout of RFC
// 9018 §4 but for the hash). Clients on this host get an answer without one as
// well, so a wrong cookie is only replaced. It reports false for one of
// impossible length.
func (c *client) cookie() bool {
	got, ok := c.m.option(optCookie)
	if !ok {
		return true
	}
	if len(got) < 8 || len(got) > 8 && len(got) < 16 || len(got) > 40 {
		return false
	}
	now := uint32(c.l.r.now().Unix())
	if len(got) == 24 {
		made := binary.BigEndian.Uint32(got[12:])
		age := time.Duration(int32(now-made)) * time.Second
		if age > -5*time.Minute && age < 30*time.Minute &&
			subtle.ConstantTimeCompare(c.serverCookie(got[:8], made), got[8:]) == 1 {
			now = made
		}
	}
	data := append(append([]byte(nil), got[:8]...), c.serverCookie(got[:8], now)...)
	c.out.options = append(c.out.options, option{optCookie, data})
	return true
}

// serverCookie computes the part of the cookie that only this server can make.
func (c *client) serverCookie(client []byte, made uint32) []byte {
	out := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, made)
	ip := c.from.Addr().Unmap().As16()
	in := append(append(append(c.l.secret[:], client...), out...), ip[:]...)
	sum := sha256.Sum256(in)
	return append(out, sum[:8]...)
}
