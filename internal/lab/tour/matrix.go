package tour

import (
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// NewMatrix furnishes a lab with the cases that are for tests rather than for
// the eye: each rule of RFC 7672 that can be seen from outside, one domain each.
func NewMatrix(o lab.Options) *World {
	w := &World{Lab: lab.New(o)}
	w.Lab.Zone("demo", lab.Signing{SplitKeys: true, Denial: lab.NSEC3}).Wrap(lab.At("undelegated.demo", lab.StripSignatures))
	w.people()
	w.matchingTypes()
	w.trustAnchors()
	w.unmatched()
	w.noRecords()
	w.baseDomains()
	w.zones()
	w.hosts()
	w.forgeries()
	w.startTLS()
	return w
}

func encrypted(mxStatus string) Want {
	return Want{Did: "delivered", Security: "encrypted", MXStatus: mxStatus}
}

// one declares name.demo with one receiver that shows id, and the TLSA records
// (RDATA) of its host.
func (w *World) one(name string, id *lab.Identity, want Want, records ...string) (*lab.Receiver, *lab.Zone) {
	return w.signed(name, lab.Signing{}, id, want, records...)
}

func (w *World) signed(name string, s lab.Signing, id *lab.Identity, want Want, records ...string) (*lab.Receiver, *lab.Zone) {
	domain := name + ".demo"
	r := w.Lab.Receiver("mx."+domain, id)
	z := w.Lab.Zone(domain, s).Add("@ MX 10 mx", "mx A "+r.Addr())
	for _, rdata := range records {
		z.Add("_{port}._tcp.mx " + tlsaType(rdata) + rdata)
	}
	w.add(&Stop{Domain: domain, Want: want}, r)
	return r, z
}

// tlsaType lets RDATA in the generic form (RFC 3597 §5) through, for records
// that no library would make.
func tlsaType(rdata string) string {
	if strings.HasPrefix(rdata, `\#`) {
		return "TYPE52 "
	}
	return "TLSA "
}

func named(name string) *lab.Identity { return lab.SelfSigned("mx." + name + ".demo") }

// matchingTypes are the forms of a DANE-EE record that must match (RFC 6698 §2.1).
func (w *World) matchingTypes() {
	for selector := range uint8(2) {
		for matching := range uint8(3) {
			name := fmt.Sprintf("ee3%d%d", selector, matching)
			id := named(name)
			w.one(name, id, verified(), lab.TLSA(3, selector, matching, id.Leaf()))
		}
	}
	// So many whole certificates that only TCP carries the set.
	id := named("many")
	records := []string{lab.TLSA(3, 0, 0, id.Leaf())}
	for range 5 {
		records = append(records, lab.TLSA(3, 0, 0, named("many").Leaf()))
	}
	w.one("many", id, verified(), records...)
}

// trustAnchors are the cases of DANE-TA (RFC 7672 §3.1.2).
func (w *World) trustAnchors() {
	ca := lab.NewAuthority("Matrix CA")
	for _, m := range []struct {
		name               string
		selector, matching uint8
		absent             bool
	}{
		{"ta211", 1, 1, false}, {"ta202", 0, 2, false},
		{"ta200", 0, 0, false}, {"ta200absent", 0, 0, true}, {"ta210absent", 1, 0, true},
	} {
		id := ca.Issue("mx." + m.name + ".demo")
		if m.absent {
			id = id.LeafOnly()
		}
		w.one(m.name, id, verified(), lab.TLSA(2, m.selector, m.matching, ca.Cert()))
	}
	// The name may be the next-hop domain too (RFC 7672 §3.2.2).
	w.one("tadomain", ca.Issue("tadomain.demo"), verified(), lab.TLSA(2, 1, 1, ca.Cert()))

	w.one("tawrongname", ca.Issue("mx.elsewhere.demo"), deferred("secure"), lab.TLSA(2, 1, 1, ca.Cert()))
	w.one("taexpired", ca.Issue("mx.taexpired.demo", lab.Expired), deferred("secure"), lab.TLSA(2, 1, 1, ca.Cert()))
	w.one("tadigestabsent", ca.Issue("mx.tadigestabsent.demo").LeafOnly(), deferred("secure"), lab.TLSA(2, 1, 1, ca.Cert()))
	other := lab.NewAuthority("Another CA")
	w.one("taother", other.Issue("mx.taother.demo"), deferred("secure"), lab.TLSA(2, 1, 1, ca.Cert()))
	old := lab.NewAuthority("Expired CA", lab.Expired)
	w.one("taexpiredca", old.Issue("mx.taexpiredca.demo"), deferred("secure"), lab.TLSA(2, 1, 1, old.Cert()))
}

// unmatched are TLSA sets that do not authenticate what is shown.
func (w *World) unmatched() {
	w.one("stale", named("stale"), deferred("secure"), lab.TLSA(3, 1, 1, named("stale").Leaf()))

	// Only the strongest digest of a usage and selector counts (RFC 7671 §9).
	id := named("agile")
	w.one("agile", id, deferred("secure"), lab.TLSA(3, 1, 2, named("agile").Leaf()), lab.TLSA(3, 1, 1, id.Leaf()))

	unusable := Want{Did: "delivered", Security: "dane-unauthenticated", MXStatus: "secure"}
	id = named("pkix")
	w.one("pkix", id, unusable, lab.TLSA(0, 0, 1, id.Leaf()), lab.TLSA(1, 1, 1, id.Leaf()))
	w.one("short", named("short"), unusable, `\# 2 0301`)
	w.one("unknownusage", named("unknownusage"), unusable, "9 1 1 aabb")

	// Unusable or not, a TLSA set forbids the clear (RFC 7672 §2.2).
	w.one("unusableclear", nil, deferred("secure"), lab.TLSA(1, 0, 1, id.Leaf()))
	w.one("pinnedclear", nil, deferred("secure"), lab.TLSA(3, 1, 1, id.Leaf()))
}

// noRecords are hosts without DANE, provably so.
func (w *World) noRecords() {
	w.one("denied", named("denied"), encrypted("secure"))
	w.one("deniedclear", nil, Want{Did: "delivered", Security: "plaintext", MXStatus: "secure"})

	// A signed domain whose host has an insecure address: no TLSA question at all (RFC 7672 §2.2.2).
	id := lab.SelfSigned("mx.outside.demo")
	r := w.Lab.Receiver("mx.outside.demo", id)
	w.Lab.Zone("outside.demo", lab.Signing{None: true}).Add("mx A "+r.Addr(), "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, named("other").Leaf())).
		Wrap(lab.Silence(dns.TypeTLSA))
	w.Lab.Zone("inside.demo", lab.Signing{}).Add("@ MX 10 mx.outside.demo.")
	w.add(&Stop{Domain: "inside.demo", Want: encrypted("secure")}, r)

	// No MX: the domain itself is the host (RFC 5321 §5.1).
	id = lab.SelfSigned("implicit.demo")
	r = w.Lab.Receiver("implicit.demo", id)
	w.Lab.Zone("implicit.demo", lab.Signing{}).Add("@ A "+r.Addr(), "_{port}._tcp TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "implicit.demo", Want: Want{Did: "delivered", Security: "dane-verified"}}, r)

	w.Lab.Zone("addressless.demo", lab.Signing{}).Add("@ MX 10 mx")
	w.add(&Stop{Domain: "addressless.demo", Want: Want{Did: "bounced", DSN: "5.4.4"}})
}

// baseDomains are the ways to the TLSA base domain (RFC 7672 §2.2.2, §2.2.3).
func (w *World) baseDomains() {
	id := named("original")
	r := w.Lab.Receiver("mx.original.demo", id)
	w.Lab.Zone("original.demo", lab.Signing{}).Add("@ MX 10 mx", "mx CNAME real", "real A "+r.Addr(),
		"_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "original.demo", Want: verified()}, r)

	// The chain ends in an unsigned zone: the original name only.
	id = named("leaves")
	r = w.Lab.Receiver("mx.leaves.demo", id)
	w.Lab.Zone("cloud.demo", lab.Signing{None: true}).Add("host A " + r.Addr())
	w.Lab.Zone("leaves.demo", lab.Signing{}).Add("@ MX 10 mx", "mx CNAME host.cloud.demo.", "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "leaves.demo", Want: verified()}, r)

	// The TLSA owner is an alias (RFC 7672 §3.1.1 names the practice).
	id = named("pointer")
	r = w.Lab.Receiver("mx.pointer.demo", id)
	w.Lab.Zone("pointer.demo", lab.Signing{}).Add("@ MX 10 mx", "mx A "+r.Addr(), "_{port}._tcp.mx CNAME _dane",
		"_dane TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "pointer.demo", Want: verified()}, r)

	// The domain is an alias: its mail goes where the target's goes.
	w.Lab.Zone("aliased.demo", lab.Signing{}).Add("www CNAME provider.demo.")
	w.Lab.Zone("renamed.demo", lab.Signing{}).Add("old DNAME new", "www.new MX 10 mx.provider.demo.")
	w.add(&Stop{Domain: "www.aliased.demo", Want: verified()}, w.host)
	w.add(&Stop{Domain: "www.old.renamed.demo", Want: verified()}, w.host)
}

// zones are those whose signing is unusual or broken.
func (w *World) zones() {
	for name, s := range map[string]lab.Signing{
		"rsasha256": {Algorithm: dns.RSASHA256}, "rsasha512": {Algorithm: dns.RSASHA512}, "p384": {Algorithm: dns.ECDSAP384SHA384},
		"longrsa": {LongRSA: true}, "split": {SplitKeys: true}, "iterated": {Denial: lab.NSEC3, Iterations: 10},
	} {
		id := named(name)
		w.signed(name, s, id, verified(), lab.TLSA(3, 1, 1, id.Leaf()))
	}
	for name, s := range map[string]lab.Signing{"island": {NoDS: true}, "rsasha1": {Algorithm: dns.RSASHA1}} {
		w.signed(name, s, named(name), encrypted("insecure"), lab.TLSA(3, 1, 1, named("other").Leaf()))
	}
	w.signed("outdated", lab.Signing{Expired: true}, named("outdated"), deferred("bogus"))

	id := named("noglue")
	_, z := w.one("noglue", id, verified(), lab.TLSA(3, 1, 1, id.Leaf()))
	z.ServedBy("dns.nameservers.demo")
	w.Lab.Zone("nameservers.demo", lab.Signing{}).Add("dns A " + z.Addr())

	id = named("mute")
	_, z = w.one("mute", id, deferred("indeterminate"), lab.TLSA(3, 1, 1, id.Leaf()))
	z.Wrap(lab.Fail(dns.RcodeServerFailure, dns.TypeMX))
}

// hosts are domains with more than one host, or an unusual one.
func (w *World) hosts() {
	// The TLSA look-up of the first host fails: it is skipped, not trusted (RFC 7672 §2.1.2).
	id := named("second")
	first, second := w.Lab.Receiver("mx1.second.demo", id), w.Lab.Receiver("mx2.second.demo", id)
	w.Lab.Zone("second.demo", lab.Signing{}).Add("@ MX 10 mx1", "@ MX 20 mx2", "mx1 A "+first.Addr(), "mx2 A "+second.Addr(),
		"_{port}._tcp.mx1 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()), "_{port}._tcp.mx2 TLSA "+lab.TLSA(3, 1, 1, id.Leaf())).
		Wrap(tlsaFails("mx1.second.demo."))
	w.add(&Stop{Domain: "second.demo", Want: verified()}, second)

	id = named("unsure")
	_, z := w.one("unsure", id, deferred("secure"), lab.TLSA(3, 1, 1, id.Leaf()))
	z.Wrap(tlsaFails("mx.unsure.demo."))

	// Preference beats security: the first host takes it, in the way it can.
	opportunistic := w.Lab.Receiver("mx1.prefers.demo", named("prefers"))
	pinned := w.Lab.Receiver("mx2.prefers.demo", id)
	w.Lab.Zone("prefers.demo", lab.Signing{}).Add("@ MX 10 mx1", "@ MX 20 mx2", "mx1 A "+opportunistic.Addr(), "mx2 A "+pinned.Addr(),
		"_{port}._tcp.mx2 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "prefers.demo", Want: encrypted("secure")}, opportunistic)

	for name, greeting := range map[string]lab.Reply{"busy": {Code: 421, Text: "4.3.2 later"}, "closed": {Code: 554, Text: "5.3.2 no service here"}} {
		id := named(name)
		first, second := w.Lab.Receiver("mx1."+name+".demo", id), w.Lab.Receiver("mx2."+name+".demo", id)
		first.Wrap(lab.Answer("CONNECT", greeting.Code, greeting.Text))
		w.Lab.Zone(name+".demo", lab.Signing{}).Add("@ MX 10 mx1", "@ MX 20 mx2", "mx1 A "+first.Addr(), "mx2 A "+second.Addr(),
			"_{port}._tcp.mx1 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()), "_{port}._tcp.mx2 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
		w.add(&Stop{Domain: name + ".demo", Want: verified()}, second)
	}

	id = lab.SelfSigned("mx_1.under.demo", func(c *x509.Certificate) { c.DNSNames = nil })
	r := w.Lab.Receiver("mx_1.under.demo", id)
	w.Lab.Zone("under.demo", lab.Signing{}).Add("@ MX 10 mx_1", "mx_1 A "+r.Addr(), "_{port}._tcp.mx_1 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "under.demo", Want: verified()}, r)

	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil { // a host without IPv6 cannot show this
		ln.Close()
		id = named("six")
		r = w.Lab.Receiver6("mx.six.demo", id)
		w.Lab.Zone("six.demo", lab.Signing{}).Add("@ MX 10 mx", "mx AAAA ::1", "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
		w.add(&Stop{Domain: "six.demo", Want: verified()}, r)
	}
}

// tlsaFails is a server that answers SERVFAIL to TLSA questions about a host.
func tlsaFails(host string) func(lab.Handler) lab.Handler {
	return func(next lab.Handler) lab.Handler {
		fails := lab.Fail(dns.RcodeServerFailure)(next)
		return func(q lab.Query) *dns.Msg {
			if q.Type() == dns.TypeTLSA && dns.IsSubDomain(host, q.Name()) {
				return fails(q)
			}
			return next(q)
		}
	}
}

// forgeries are lies told on the way to name servers, each about one thing.
func (w *World) forgeries() {
	// That there is no TLSA record: without proof, or with the true proof that another name is absent.
	for name, provedFor := range map[string]string{"unproved": "", "otherproof": "nothere.otherproof.demo", "farproof": "_1._tcp.farproof.demo"} {
		_, z := w.one(name, named(name), deferred("secure"), lab.TLSA(3, 1, 1, named(name).Leaf()))
		z.Wrap(lab.Deny(provedFor, dns.TypeTLSA))
	}
	id := named("undelegated") // its DS is stripped at the TLD
	w.one("undelegated", id, deferred("bogus"), lab.TLSA(3, 1, 1, id.Leaf()))

	// That the host, or the whole domain, is elsewhere or nowhere.
	_, z := w.one("moved", named("moved"), deferred("secure"), lab.TLSA(3, 1, 1, named("moved").Leaf()))
	z.Wrap(lab.Forge(true, "mx.moved.demo. 60 IN A "+w.Evil.Addr()))
	_, z = w.one("vanished", named("vanished"), deferred("bogus"), lab.TLSA(3, 1, 1, named("vanished").Leaf()))
	z.Wrap(lab.Deny("nothere.vanished.demo", dns.TypeMX))
	_, z = w.one("nullified", named("nullified"), deferred("bogus"), lab.TLSA(3, 1, 1, named("nullified").Leaf()))
	z.Wrap(lab.Forge(true, "nullified.demo. 60 IN MX 0 ."))
	_, z = w.one("diverted", named("diverted"), deferred("bogus"), lab.TLSA(3, 1, 1, named("diverted").Leaf()))
	z.Wrap(divert("diverted.demo. 60 IN CNAME evil.demo."))
}

// divert answers MX questions with a forged alias.
func divert(lie string) func(lab.Handler) lab.Handler {
	rr, err := dns.NewRR(lie)
	if err != nil {
		panic(err)
	}
	return func(next lab.Handler) lab.Handler {
		return func(q lab.Query) *dns.Msg {
			m := next(q)
			if m != nil && q.Type() == dns.TypeMX && q.Name() == rr.Header().Name {
				m.Answer, m.Ns = []dns.RR{rr}, nil
			}
			return m
		}
	}
}

// startTLS are servers that offer it and do not do it.
func (w *World) startTLS() {
	refuse := lab.Answer("STARTTLS", 454, "4.7.0 TLS not available")
	behind := func(next lab.Responder) lab.Responder {
		return func(s lab.Step) lab.Reply {
			r := next(s)
			if s.Verb == "STARTTLS" {
				r.Then = "250 injected\r\n"
			}
			return r
		}
	}
	for name, fault := range map[string]func(lab.Responder) lab.Responder{"refused": refuse, "injected": behind} {
		id := named(name)
		r, _ := w.one(name, id, deferred("secure"), lab.TLSA(3, 1, 1, id.Leaf()))
		r.Wrap(fault)
	}
	// Without TLSA the mail goes in the clear rather than nowhere (RFC 7435 §3).
	r, _ := w.one("refusedmay", named("refusedmay"), Want{Did: "delivered", Security: "plaintext", MXStatus: "secure"})
	r.Wrap(refuse)

	for name, fault := range map[string]func(lab.Responder) lab.Responder{
		"silent": lab.Answer("EHLO", 0, ""), "hangsup": lab.Answer("STARTTLS", 0, ""), "drops": lab.Answer("BODY", 0, ""),
		"full": lab.Answer("MAIL", 452, "4.3.1 disk full"), "grey": lab.Greylist(time.Hour),
	} {
		id := named(name)
		r, _ := w.one(name, id, deferred("secure"), lab.TLSA(3, 1, 1, id.Leaf()))
		r.Wrap(fault)
	}
	for name, verb := range map[string]string{"nosender": "MAIL", "nodata": "DATA", "spam": "BODY"} {
		id := named(name)
		r, _ := w.one(name, id, Want{Did: "bounced", MXStatus: "secure", DSN: "5.7.1"}, lab.TLSA(3, 1, 1, id.Leaf()))
		r.Without("CHUNKING").Wrap(lab.Answer(verb, 550, "5.7.1 not from you"))
	}
	id := named("slow")
	r, _ = w.one("slow", id, verified(), lab.TLSA(3, 1, 1, id.Leaf()))
	r.Wrap(lab.Slow("CONNECT", 2*time.Second))
}
