package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"danepost/resolver/dnssec"
)

// exchange sends q to one server and reads its reply, with what falls back:
// to TCP when the reply was cut, to plain DNS when EDNS is refused, to the
// name in lower case when the case does not come back.
func (x *resolution) exchange(c *choice, q question, d *delegation) (*message, error) {
	e := &exchanging{x: x, c: c, q: q, d: d, traits: x.r.servers.traits(c.addr, x.now)}
	if c.tries >= x.r.lim.Tries-1 && x.r.lim.Tries > 1 && e.unheard && d.ds == nil && !d.fixed {
		// Silence may be how it refuses EDNS. A server that is merely slow would
		// answer this without signatures: never where they are expected.
		e.edns = false
	}
	c.tries++
	// Each turn of the loop gives up one thing, so there are few.
	for range 5 {
		if fl := x.over(); fl != nil {
			return nil, fl
		}
		m, again, err := e.once()
		if err != nil || !again {
			return m, err
		}
	}
	return nil, errors.New(c.addr.String() + ": no usable reply in five attempts")
}

// exchanging is the state of one exchange with one server.
type exchanging struct {
	x *resolution
	c *choice
	q question
	d *delegation
	traits
	tcp     bool
	forCase bool // over TCP only because the letter case did not come back
	cookied bool // asked again with the cookie that the server demanded
}

// once sends the query once; again asks for another turn in another way.
func (e *exchanging) once() (m *message, again bool, err error) {
	r := e.x.r
	query := e.query()
	var mangled bool    // the reply has the name in another letter case
	var malformed error // why the reply is of no use
	accept := func(b []byte) bool {
		match := query.match(b)
		if match == matchNone {
			return false
		}
		mangled = match == matchCase
		m, malformed = parseMessage(b, &r.lim)
		return malformed != nil || e.cookieFits(m)
	}
	start := time.Now()
	_, err = e.send(Exchange{Server: e.c.addr, TCP: e.tcp, Message: query.bytes(), Accept: accept})
	switch {
	case err != nil && e.forCase:
		// Nothing is left but to trust the port and the id (RFC 5452 §4.4).
		e.tcp, e.forCase, e.mix = false, false, false
		return nil, true, nil
	case err != nil:
		return nil, false, e.failed(err)
	}
	if !e.tcp {
		r.servers.answered(e.c.addr, time.Since(start), e.edns, e.x.now)
	}
	switch {
	case mangled && e.mix:
		e.dropCase()
		return nil, true, nil
	case malformed != nil:
		return nil, false, e.malformed(malformed)
	}
	again, err = e.quirks(m)
	return m, again, err
}

// query makes the query as the server wants it.
func (e *exchanging) query() *query {
	r := e.x.r
	q := &query{
		id: uint16(r.random()), name: e.q.name, qtype: e.q.qtype,
		edns: e.edns, udpSize: r.lim.UDPSize,
	}
	if e.mix && !r.keepCase {
		q.name = mixCase(q.name, r.random)
	}
	if e.d.forward {
		q.flags = flagRD | flagCD // RFC 6840 §5.9: what it thinks bogus is for us to judge
	}
	if e.edns {
		q.options = append(q.options, option{optCookie, e.cookie})
		q.options = append(q.options, r.keyTags(e.q)...)
	}
	return q
}

func (e *exchanging) send(x Exchange) ([]byte, error) {
	wait := e.timeout
	switch {
	case x.TCP:
		wait = e.x.r.lim.TCPTimeout
	case e.d.forward:
		wait = max(wait, e.x.r.lim.ForwardTimeout)
	}
	e.x.packets++
	if e.x.r.own != nil {
		return e.x.r.own.Exchange(newDeadline(e.x.ctx, wait), x)
	}
	ctx, cancel := context.WithTimeout(e.x.ctx, wait)
	defer cancel()
	return e.x.r.transport.Exchange(ctx, x)
}

// failed learns from an exchange without reply.
func (e *exchanging) failed(err error) error {
	s, now := e.x.r.servers, e.x.now
	switch {
	case e.x.ctx.Err() != nil:
	case noRoute(err):
		s.unroutable(e.c.addr, now)
		e.c.done = true
	case e.tcp:
		e.c.done = true // UDP was cut already: this server has no more to give
	default:
		s.timedOut(e.c.addr, now)
		if isTimeout(err) {
			e.c.waited += e.timeout
		}
	}
	how := "UDP"
	if e.tcp {
		how = "TCP"
	}
	return errors.New(describe(e.c.addr, err) + " (" + how + ")")
}

func (e *exchanging) malformed(err error) error {
	e.c.done = true
	return fmt.Errorf("%s: malformed reply: %w", e.c.addr, err)
}

// dropCase handles a reply that did not echo the case of the name. It may be forged, so it is
// not used; TCP cannot be forged from off the path. A server that does the same there is
// remembered.
func (e *exchanging) dropCase() {
	if !e.tcp {
		e.tcp, e.forCase = true, true
		return
	}
	e.mix = false
	e.x.r.servers.note(e.c.addr, e.x.now, func(st *serverState) {
		st.noCase = e.x.now.Add(e.x.r.lim.QuirkTTL)
	})
}

// quirks decides whether a well-formed reply calls for another attempt.
func (e *exchanging) quirks(m *message) (again bool, err error) {
	e.learnCookie(m)
	switch {
	case m.has(flagTC) && !e.tcp:
		e.tcp = true
		return true, nil
	case m.has(flagTC):
		e.c.done = true
		return false, fmt.Errorf("%s: reply cut even over TCP", e.c.addr)
	case m.rcode == rcodeBadCooke && !e.cookied && e.edns:
		e.cookied = true // RFC 7873 §5.3: once more, with the server's new cookie
		return true, nil
	case m.rcode == rcodeBadCooke && !e.tcp:
		e.tcp = true
		return true, nil
	case e.edns && (m.rcode == rcodeFormErr || m.rcode == rcodeNotImp || m.rcode == rcodeBadVers):
		// RFC 6891 §6.2.2, §7. A signed zone cannot be proved this way: it can only become Bogus.
		e.edns = false
		e.x.r.servers.note(e.c.addr, e.x.now, func(st *serverState) {
			st.noEDNS = e.x.now.Add(e.x.r.lim.QuirkTTL)
		})
		return true, nil
	}
	return false, nil
}

// cookieFits reports whether a reply has either no cookie or ours: another
// one shows a forgery (RFC 7873 §5.3).
func (e *exchanging) cookieFits(m *message) bool {
	got, ok := m.option(optCookie)
	return !ok || !e.edns || len(got) >= 8 && string(got[:8]) == string(e.cookie[:8])
}

func (e *exchanging) learnCookie(m *message) {
	got, ok := m.option(optCookie)
	if !ok || len(got) < 16 || len(got) > 40 || string(got) == string(e.cookie) {
		return
	}
	e.cookie = append([]byte(nil), got...)
	e.x.r.servers.note(e.c.addr, e.x.now, func(st *serverState) {
		st.cookie = append([]byte(nil), got[8:]...)
	})
}

// keyTags returns the option that tells the root's servers which of its keys
// are trusted here (RFC 8145 §4.1), on queries for its DNSKEY RRset.
func (r *Resolver) keyTags(q question) []option {
	if q.qtype != typeDNSKEY || r.anchors == nil {
		return nil
	}
	var data []byte
	for _, a := range r.anchors() {
		switch {
		case a.Zone != q.name:
		case a.DS != nil:
			data = binary.BigEndian.AppendUint16(data, a.DS.KeyTag)
		default:
			data = binary.BigEndian.AppendUint16(data, dnssec.KeyTag(a.Key))
		}
	}
	if data == nil {
		return nil
	}
	return []option{{optKeyTag, data}}
}
