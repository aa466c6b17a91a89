package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// Exchange implements Transport.
func (n *internet) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	q := new(dns.Msg)
	if err := q.Unpack(x.Message); err != nil {
		n.t.Errorf("query does not parse: %v", err)
		return nil, err
	}
	n.mu.Lock()
	how := ""
	if x.TCP {
		how = " TCP"
	}
	n.queries = append(n.queries, fmt.Sprintf("%s %s %s%s", x.Server.Addr(),
		strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype], how))
	n.mu.Unlock()
	reply := n.serve(x.Server.Addr(), q)
	if n.tamper != nil {
		reply = n.tamper(x.Server.Addr(), x, q, reply)
	}
	if reply == nil {
		return nil, os.ErrDeadlineExceeded
	}
	if size := q.IsEdns0(); !x.TCP && reply.Len() > 512 && (size == nil || reply.Len() > int(size.UDPSize())) {
		reply = &dns.Msg{MsgHdr: reply.MsgHdr, Question: reply.Question}
		reply.Truncated = true
	}
	reply.Compress = true
	b, err := reply.Pack()
	if err != nil {
		n.t.Errorf("reply does not pack: %v", err)
		return nil, err
	}
	if n.raw != nil {
		if b, err = n.raw(x, b); err != nil {
			return nil, err
		}
	}
	if !x.Accept(b) {
		return nil, os.ErrDeadlineExceeded
	}
	return b, nil
}

// serve answers as the authoritative server at that address would, nil if there is none.
func (n *internet) serve(server netip.Addr, q *dns.Msg) *dns.Msg {
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	r := new(dns.Msg)
	r.SetReply(q)
	if o := q.IsEdns0(); o != nil {
		r.SetEdns0(1232, o.Do())
	}
	z := n.byServer[server]
	known := z != nil
	for _, c := range n.zones {
		if z != nil && n.byServer != nil {
			break
		}
		for _, a := range c.servers {
			known = known || a == server
			if a != server || !dns.IsSubDomain(c.name, name) {
				continue
			}
			if qtype == dns.TypeDS && c.name == name && name != "." && z != nil {
				continue // the parent, if it is here too, answers for DS
			}
			if z == nil || dns.CountLabel(c.name) > dns.CountLabel(z.name) || z.name == name && qtype == dns.TypeDS {
				z = c
			}
		}
	}
	if !known {
		return nil
	}
	if z == nil {
		r.Rcode = dns.RcodeRefused
		return r
	}
	z.answer(r, name, qtype)
	return r
}

// answer fills r as RFC 1034 §4.3.2 and RFC 4035 §3.1 ask for.
func (z *testZone) answer(r *dns.Msg, name string, qtype uint16) {
	if cut := z.cut(name); cut != "" && !(cut == name && qtype == dns.TypeDS) {
		r.Ns = append(r.Ns, z.rrs[cut][dns.TypeNS]...)
		if len(z.rrs[cut][dns.TypeDS]) > 0 {
			r.Ns = append(r.Ns, z.set(cut, dns.TypeDS)...)
		} else if z.key != nil {
			z.cover(r, cut)
		}
		for _, ns := range z.rrs[cut][dns.TypeNS] {
			for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
				if g := z.rrs[ns.(*dns.NS).Ns]; dns.IsSubDomain(z.name, ns.(*dns.NS).Ns) {
					r.Extra = append(r.Extra, g[t]...)
				}
			}
		}
		return
	}
	r.Authoritative = true
	for range 8 {
		if z.cut(name) != "" && !(z.cut(name) == name && qtype == dns.TypeDS) {
			return
		}
		if owner := z.dname(name); owner != "" {
			to := z.rrs[owner][dns.TypeDNAME][0].(*dns.DNAME).Target
			r.Answer = append(r.Answer, z.set(owner, dns.TypeDNAME)...)
			made := &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: 1, Ttl: 3600},
				Target: strings.TrimSuffix(name, owner) + to}
			r.Answer = append(r.Answer, made)
			if name = made.Target; !dns.IsSubDomain(z.name, name) {
				return
			}
			continue
		}
		owner, wild := name, false
		if !z.exists(name) {
			owner, wild = z.wildcard(name), true
			if owner == "" {
				r.Rcode = dns.RcodeNameError
				z.deny(r, name)
				return
			}
		}
		if wild {
			z.cover(r, name)
		}
		target := ""
		if c := z.rrs[owner][dns.TypeCNAME]; len(c) > 0 && qtype != dns.TypeCNAME {
			r.Answer = append(r.Answer, z.expand(owner, name, dns.TypeCNAME)...)
			target = c[0].(*dns.CNAME).Target
		} else if len(z.rrs[owner][qtype]) > 0 {
			r.Answer = append(r.Answer, z.expand(owner, name, qtype)...)
			return
		}
		if target == "" {
			r.Ns = append(r.Ns, z.set(z.name, dns.TypeSOA)...)
			if z.key != nil {
				z.cover(r, owner)
			}
			return
		}
		if !dns.IsSubDomain(z.name, target) {
			return
		}
		name = target
	}
}

// dname returns the owner of a DNAME above name.
func (z *testZone) dname(name string) string {
	for n := parentOf(name); dns.IsSubDomain(z.name, n); n = parentOf(n) {
		if len(z.rrs[n][dns.TypeDNAME]) > 0 {
			return n
		}
		if n == "." {
			break
		}
	}
	return ""
}

func (z *testZone) set(name string, rt uint16) []dns.RR {
	return append(append([]dns.RR(nil), z.rrs[name][rt]...), z.sigs[name][rt]...)
}

// expand gives a set of owner under another name.
func (z *testZone) expand(owner, name string, rt uint16) []dns.RR {
	var out []dns.RR
	for _, rr := range z.set(owner, rt) {
		c := dns.Copy(rr)
		c.Header().Name = name
		out = append(out, c)
	}
	return out
}

// exists reports whether name is there, empty non-terminals included.
func (z *testZone) exists(name string) bool {
	for _, n := range z.names {
		if dns.IsSubDomain(name, n) {
			return true
		}
	}
	return false
}

func (z *testZone) encloser(name string) string {
	for n := parentOf(name); ; n = parentOf(n) {
		if z.exists(n) {
			return n
		}
	}
}

func (z *testZone) wildcard(name string) string {
	w := "*." + strings.TrimPrefix(z.encloser(name), ".")
	if len(z.rrs[w]) > 0 {
		return w
	}
	return ""
}

func (z *testZone) deny(r *dns.Msg, name string) {
	r.Ns = append(r.Ns, z.set(z.name, dns.TypeSOA)...)
	if z.key != nil {
		z.cover(r, name)
		z.cover(r, "*."+strings.TrimPrefix(z.encloser(name), "."))
	}
}

// cover adds the NSEC that matches or covers name.
func (z *testZone) cover(r *dns.Msg, name string) {
	if z.key == nil {
		return
	}
	if z.nsec3 != nil {
		z.cover3(r, name)
		return
	}
	at := z.names[0]
	for _, n := range z.names {
		if mustName(n).Compare(mustName(name)) <= 0 {
			at = n
		}
	}
	for _, rr := range r.Ns {
		if rr.Header().Name == at && rr.Header().Rrtype == dns.TypeNSEC {
			return
		}
	}
	r.Ns = append(r.Ns, z.set(at, dns.TypeNSEC)...)
}
