package lab

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// udpSize is the largest UDP reply the lab's servers send and offer.
const udpSize = 1232

// Query is one question as it reached a name server.
type Query struct {
	Msg  *dns.Msg
	TCP  bool
	From netip.AddrPort
}

// Name returns the name asked for, in lower case.
func (q Query) Name() string { return strings.ToLower(q.Msg.Question[0].Name) }

// Type returns the type asked for.
func (q Query) Type() uint16 { return q.Msg.Question[0].Qtype }

// Handler answers queries; nil means that no reply is sent. It is called from
// many goroutines.
type Handler func(Query) *dns.Msg

// ServeDNS implements dns.Handler.
func (z *Zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	if len(m.Question) != 1 {
		r := new(dns.Msg).SetRcodeFormatError(m)
		w.WriteMsg(r) //nolint:errcheck // the client is gone
		return
	}
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	from, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	q := Query{Msg: m, TCP: tcp, From: from}
	z.mu.Lock()
	z.total++
	z.counts[counted{q.Name(), q.Type()}]++
	z.mu.Unlock()
	r := z.handle(q)
	if r == nil {
		return
	}
	z.lab.opts.Log.Debug("query", "zone", z.name, "name", q.Name(), "type", dns.TypeToString[q.Type()], "rcode", dns.RcodeToString[r.Rcode])
	r.Compress = true
	if !tcp {
		size := dns.MinMsgSize
		if opt := m.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), udpSize)
		}
		truncate(r, size)
	}
	w.WriteMsg(r) //nolint:errcheck // the client is gone
}

// truncate empties a reply that does not fit and says so (RFC 2181 §9): the
// client has to come again over TCP for all of it.
func truncate(r *dns.Msg, size int) {
	if r.Len() <= size {
		return
	}
	r.Truncated = true
	opt := r.IsEdns0()
	r.Answer, r.Ns, r.Extra = nil, nil, nil
	if opt != nil {
		r.Extra = []dns.RR{opt}
	}
}
