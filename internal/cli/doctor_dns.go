package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// typeDNSKEY is RFC 4034 §2.
const typeDNSKEY uint16 = 48

// nobody is an address of a network for examples, where no server can be
// (RFC 5735 §3): who answers from there sits in the path.
var nobody = netip.AddrFrom4([4]byte{192, 0, 2, 53})

// dnsReply is what one server made of one question.
type dnsReply struct {
	server netip.AddrPort
	msg    *dns.Msg
	err    error
}

// dns asks the root servers themselves, over UDP and TCP, for a long signed
// answer and for something that none of them would answer.
func (d *doctor) dns(ctx context.Context) []finding {
	forwarding := d.config.Resolver.Forward.Mode == "list"
	long := question(".", typeDNSKEY, forwarding)
	lure := question("www.example.com.", dns.TypeA, true)
	var udp, tcp, lured, ghost []dnsReply
	var wg sync.WaitGroup
	wg.Go(func() { udp = d.askAll(ctx, d.roots, false, long) })
	wg.Go(func() { tcp = d.askAll(ctx, d.roots, true, long) })
	if !forwarding {
		wg.Go(func() { lured = d.askAll(ctx, d.roots, false, lure) })
		if !anyLoopbackServer(d.roots) {
			wg.Go(func() {
				ghost = d.askAll(ctx, []netip.AddrPort{netip.AddrPortFrom(nobody, d.config.Resolver.Port)}, false, lure)
			})
		}
	}
	wg.Wait()
	whom := or(forwarding, "the servers of [resolver] forward", "the root servers")
	out := []finding{
		judgeReach("DNS over UDP", whom, udp, d.spare),
		judgeReach("DNS over TCP", whom, tcp, d.spare),
		judgeEDNS(udp, forwarding),
	}
	if !forwarding {
		out = append(out, judgeInterception(lured, ghost))
	}
	return out
}

func anyLoopbackServer(servers []netip.AddrPort) bool {
	for _, s := range servers {
		if s.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// question asks with EDNS and the DO bit (RFC 6891, RFC 3225).
func question(name string, qtype uint16, recurse bool) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.RecursionDesired = recurse
	q.SetEdns0(1232, true)
	return q
}

func (d *doctor) askAll(ctx context.Context, servers []netip.AddrPort, tcp bool, q *dns.Msg) []dnsReply {
	out := make([]dnsReply, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, doctorDNS)
			defer cancel()
			own := q.Copy()
			own.Id = dns.Id()
			out[i].server = server
			out[i].msg, out[i].err = d.ask(ctx, server, tcp, own)
		})
	}
	wg.Wait()
	return out
}

// judgeReach: one family that works is enough.
func judgeReach(check, whom string, replies []dnsReply, spare int) finding {
	asked, answered := map[string]int{}, map[string]int{}
	for _, r := range replies {
		family := or(r.server.Addr().Is4(), "IPv4", "IPv6")
		asked[family]++
		if r.err == nil {
			answered[family]++
		}
	}
	var words []string
	for _, family := range []string{"IPv4", "IPv6"} {
		if asked[family] > 0 {
			words = append(words, fmt.Sprintf("%d of %d by %s", answered[family], asked[family], family))
		}
	}
	f := healthy(check, "%s answer: %s", whom, strings.Join(words, ", "))
	switch {
	case answered["IPv4"]+answered["IPv6"] > 0:
		return f
	case spare > 0:
		f.Text = whom + " do not answer; look-ups go through this host's resolvers and are validated here"
		return f.todo(statusWarn, "allow outgoing UDP and TCP to port 53, so that nothing depends on those resolvers")
	}
	f.Text = whom + " do not answer"
	return f.todo(statusFail, "allow outgoing UDP and TCP to port 53, or name resolvers that pass DNSSEC on in [resolver] forward")
}

// judgeEDNS: signatures must arrive, and so must long datagrams (RFC 6891).
func judgeEDNS(replies []dnsReply, forwarding bool) finding {
	longest, answered, signed, cut := 0, 0, 0, 0
	for _, r := range replies {
		if r.err != nil {
			continue
		}
		answered++
		longest = max(longest, r.msg.Len())
		switch {
		case r.msg.IsEdns0() != nil && hasSignature(r.msg):
			signed++
		case r.msg.Truncated:
			cut++
		}
	}
	f := healthy("EDNS", "signatures arrive, in replies of up to %d bytes", longest)
	switch {
	case answered == 0:
		f.Text = "not known, as no server answered over UDP"
		return f.todo(statusWarn, "see DNS over UDP")
	case signed > 0:
		return f
	case cut > 0:
		f.Text = "long replies are cut short and come over TCP"
		return f
	}
	f.Text = "replies come without their signatures: something in the path removes them"
	if forwarding {
		return f.todo(statusFail, "the servers of [resolver] forward must pass DNSSEC on; choose others or \"off\"")
	}
	return f.todo(statusFail, "look for a router or firewall that rewrites DNS, or name servers that pass DNSSEC on in [resolver] forward")
}

func hasSignature(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeRRSIG {
			return true
		}
	}
	return false
}

// judgeInterception: a root server refers, it never resolves; and where no
// server is, nothing answers.
func judgeInterception(lured, ghost []dnsReply) finding {
	const check = "DNS path"
	advice := "if look-ups fail below, name resolvers in [resolver] forward that pass DNSSEC on; forged answers are refused either way"
	for _, r := range ghost {
		if r.err == nil {
			return healthy(check, "port 53 is intercepted: an answer came from %s, where no server is", r.server.Addr()).todo(statusWarn, "%s", advice)
		}
	}
	answered := 0
	for _, r := range lured {
		if r.err != nil {
			continue
		}
		answered++
		if r.msg.RecursionAvailable || len(r.msg.Answer) > 0 {
			return healthy(check, "port 53 is intercepted: %s answered like a resolver and not like a root server", r.server.Addr()).
				todo(statusWarn, "%s", advice)
		}
	}
	if answered == 0 {
		return healthy(check, "not known, as no server answered").todo(statusWarn, "see DNS over UDP")
	}
	return healthy(check, "nobody answers in the name of others")
}

// trust has the root's keys verified by the trust anchors.
func (d *doctor) trust(ctx context.Context) []finding {
	if err := d.ready(); err != nil {
		return []finding{healthy("trust anchor", "nothing can be verified yet: %v", err).
			todo(statusFail, "set the clock, and see `danepost anchor status`; mail waits until then")}
	}
	return []finding{judgeTrust(d.lookup(ctx, ".", typeDNSKEY))}
}

func judgeTrust(a *resolver.Answer) finding {
	f := healthy("trust anchor", "the root's keys are verified")
	if len(a.Chain) > 0 && len(a.Chain[0].DS) > 0 {
		f.Text += " by anchor " + keyWords(a.Chain[0].DS, false)
	}
	if a.Status == dnssec.Secure {
		return f
	}
	f.Text = fmt.Sprintf("the root's keys could not be verified: %s", verdictText(a.Verdict))
	switch {
	case strings.Contains(string(a.Reason), "expired") || strings.Contains(string(a.Reason), "not-yet-valid"):
		return f.todo(statusFail, "the clock is most likely wrong; set it, and let a time service keep it")
	case a.Status == dnssec.Bogus:
		return f.todo(statusFail, "if the clock is right, this program's anchors are out of date (install a new version, or set [resolver] trust_anchor), or somebody forges DNS in the path")
	case a.Status == dnssec.Insecure:
		return f.todo(statusFail, "without a trust anchor nothing can be secure; set [resolver] trust_anchor or remove it for the built-in one")
	}
	return f.todo(statusFail, "no look-up works; see DNS over UDP and TCP")
}
