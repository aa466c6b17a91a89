// Package tour is the test internet furnished: some twenty mail domains, each
// with one thing to see, the attackers on the way to some of them, and what
// becomes of a message to each when all is right. The demonstration walks it,
// the end-to-end tests walk it, and it can be left running to be explored.
package tour

import (
	"danepost/internal/lab"
)

// Sender is whom the tour's messages come from. Bounces arrive at its domain,
// which is part of the tour's internet.
const Sender = "alice@home.demo"

// World is a furnished lab.
type World struct {
	Lab   *lab.Lab
	Home  *lab.Receiver // of the sender's domain: bounces arrive here
	Evil  *lab.Receiver // the attacker's own server, with a good name, key and TLSA record
	Stops []*Stop

	host *lab.Receiver // a provider's server, under a signed name
	part string        // what add gives to the next stops
}

// Stop is one domain of the tour.
type Stop struct {
	Domain string
	Part   string // of the tour, a heading
	Shows  string // what is there to be seen
	Attack string // what is done to it; "" nothing
	Want   Want

	Receivers []*lab.Receiver // where its mail may arrive
	Paths     []*lab.Path     // attackers on the way there
}

// Want is what has to become of a message to a Stop.
type Want struct {
	Did      string // the log line's msg: delivered, deferred or bounced
	Security string // the log line's security, when delivered
	MXStatus string // the log line's mx_status
	DSN      string // the log line's dsn; "" not looked at
	Readable bool   // the attacker on the path reads it: nothing that the domain published forbids it
	Unasked  bool   // the attacker on the path is not even connected to
}

// Address returns the recipient of the Stop's message.
func (s *Stop) Address() string { return "bob@" + s.Domain }

// New furnishes a lab; Start it next.
func New(o lab.Options) *World {
	w := &World{Lab: lab.New(o)}
	w.Lab.Zone("demo", lab.Signing{SplitKeys: true})
	w.Lab.Zone("optout", lab.Signing{SplitKeys: true, Denial: lab.OptOut})
	w.people()
	w.part = "Receivers that pin their keys"
	w.goodKeys()
	w.goodNames()
	w.part = "Receivers that publish less"
	w.weaker()
	w.part = "Receivers that take no mail"
	w.refusals()
	w.part = "Under attack"
	w.dnsAttacks()
	w.pathAttacks()
	return w
}

// people are those without a stop of their own: the sender, a provider that
// serves others' domains, and the attacker.
func (w *World) people() {
	w.Home, _ = w.simple("home.demo", lab.Signing{}, lab.SelfSigned("mx.home.demo"), pin{3, 1, 1})
	w.host, _ = w.simple("provider.demo", lab.Signing{Denial: lab.NSEC3}, lab.SelfSigned("mx.provider.demo"), pin{3, 1, 1})
	w.Evil, _ = w.simple("evil.demo", lab.Signing{}, lab.SelfSigned("mx.evil.demo"), pin{3, 1, 1})
}

// pin is the kind of a TLSA record (RFC 6698 §2.1).
type pin struct{ usage, selector, matching uint8 }

// simple declares a domain with one receiver, mx.domain, and one TLSA record
// that stands for the certificate it shows.
func (w *World) simple(domain string, s lab.Signing, id *lab.Identity, p pin) (*lab.Receiver, *lab.Zone) {
	r := w.Lab.Receiver("mx."+domain, id)
	z := w.Lab.Zone(domain, s).Add("@ MX 10 mx", "mx A "+r.Addr())
	if !s.None {
		z.Add("_{port}._tcp.mx TLSA " + lab.TLSA(p.usage, p.selector, p.matching, id.Leaf()))
	}
	return r, z
}

func (w *World) add(s *Stop, at ...*lab.Receiver) {
	s.Receivers, s.Part = at, w.part
	w.Stops = append(w.Stops, s)
}

// verified is what DANE promises, and nothing less.
func verified() Want { return Want{Did: "delivered", Security: "dane-verified", MXStatus: "secure"} }

func deferred(mxStatus string) Want { return Want{Did: "deferred", MXStatus: mxStatus} }

// goodKeys are domains whose records and certificates fit together.
func (w *World) goodKeys() {
	r, _ := w.simple("ee.demo", lab.Signing{}, lab.SelfSigned("mx.ee.demo"), pin{3, 1, 1})
	w.add(&Stop{Domain: "ee.demo", Shows: "TLSA 3 1 1: its own key", Want: verified()}, r)

	ca := lab.NewAuthority("Tour CA")
	id := ca.Issue("mx.ta.demo")
	r = w.Lab.Receiver("mx.ta.demo", id)
	w.Lab.Zone("ta.demo", lab.Signing{}).Add("@ MX 10 mx", "mx A "+r.Addr(), "_{port}._tcp.mx TLSA "+lab.TLSA(2, 0, 1, ca.Cert()))
	w.add(&Stop{Domain: "ta.demo", Shows: "TLSA 2 0 1: its own authority", Want: verified()}, r)

	old, now := lab.SelfSigned("mx.rolled.demo"), lab.SelfSigned("mx.rolled.demo")
	r, z := w.simple("rolled.demo", lab.Signing{}, now, pin{3, 1, 1})
	z.Add("_{port}._tcp.mx TLSA " + lab.TLSA(3, 1, 1, old.Leaf()))
	w.add(&Stop{Domain: "rolled.demo", Shows: "keys rolled: old and new digest", Want: verified()}, r)

	other, second := lab.SelfSigned("mx.mixed.demo"), ca.Issue("mx.mixed.demo")
	r = w.Lab.Receiver("mx.mixed.demo", second)
	w.Lab.Zone("mixed.demo", lab.Signing{}).Add("@ MX 10 mx", "mx A "+r.Addr(),
		"_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, other.Leaf()), "_{port}._tcp.mx TLSA "+lab.TLSA(2, 1, 2, ca.Cert()))
	w.add(&Stop{Domain: "mixed.demo", Shows: "3 1 1 does not fit, 2 1 2 does", Want: verified()}, r)

	r, _ = w.simple("expired.demo", lab.Signing{}, lab.SelfSigned("old-name.invalid", lab.Expired), pin{3, 0, 1})
	w.add(&Stop{Domain: "expired.demo", Shows: "expired, wrong name, but pinned", Want: verified()}, r)
}

// goodNames are domains whose names need more than one proof.
func (w *World) goodNames() {
	r := w.Lab.Receiver("mx.alias.demo", lab.SelfSigned("real.alias.demo"))
	w.Lab.Zone("alias.demo", lab.Signing{}).Add("@ MX 10 mx", "mx CNAME real", "real A "+r.Addr(),
		"_{port}._tcp.real TLSA "+lab.TLSA(3, 1, 1, r.Identity().Leaf()))
	w.add(&Stop{Domain: "alias.demo", Shows: "the MX host is a signed alias", Want: verified()}, r)

	id := lab.SelfSigned("mx.wildcard.demo")
	r = w.Lab.Receiver("mx.wildcard.demo", id)
	w.Lab.Zone("wildcard.demo", lab.Signing{}).Add("* MX 10 mx", "mx A "+r.Addr(), "*._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "any.wildcard.demo", Shows: "MX and TLSA both from wildcards", Want: verified()}, r)

	r, _ = w.simple("ee.optout", lab.Signing{Denial: lab.NSEC3}, lab.SelfSigned("mx.ee.optout"), pin{3, 1, 1})
	w.add(&Stop{Domain: "ee.optout", Shows: "signed, below an NSEC3 opt-out TLD", Want: verified()}, r)

	w.Lab.Zone("hosted.optout", lab.Signing{Algorithm: 15}).Add("@ MX 10 mx.provider.demo.")
	w.add(&Stop{Domain: "hosted.optout", Shows: "signed (Ed25519), hosted mail", Want: verified()}, w.host)
}

// weaker are domains that publish less than all, and get what they publish.
func (w *World) weaker() {
	w.Lab.Zone("guest.optout", lab.Signing{None: true}).Add("@ MX 10 mx.provider.demo.")
	w.add(&Stop{Domain: "guest.optout", Shows: "unsigned, but its host is signed",
		Want: Want{Did: "delivered", Security: "dane-host", MXStatus: "insecure"}}, w.host)

	r, z := w.simple("unusable.demo", lab.Signing{}, lab.SelfSigned("mx.unusable.demo"), pin{1, 0, 1})
	z.Add("_{port}._tcp.mx TLSA 3 1 1 c0ffee")
	w.add(&Stop{Domain: "unusable.demo", Shows: "only unusable TLSA records",
		Want: Want{Did: "delivered", Security: "dane-unauthenticated", MXStatus: "secure"}}, r)

	r, _ = w.simple("unsigned.demo", lab.Signing{None: true}, lab.SelfSigned("mx.unsigned.demo"), pin{3, 1, 1})
	w.add(&Stop{Domain: "unsigned.demo", Shows: "unsigned, STARTTLS offered",
		Want: Want{Did: "delivered", Security: "encrypted", MXStatus: "insecure"}}, r)

	r = w.Lab.Receiver("mx.plain.optout", nil)
	w.Lab.Zone("plain.optout", lab.Signing{None: true}).Add("@ MX 10 mx", "mx A "+r.Addr())
	w.add(&Stop{Domain: "plain.optout", Shows: "unsigned, no STARTTLS at all",
		Want: Want{Did: "delivered", Security: "plaintext", MXStatus: "insecure"}}, r)
}

// refusals are domains that take no mail, or not this one.
func (w *World) refusals() {
	w.Lab.Zone("nomail.demo", lab.Signing{}).Add("@ MX 0 .")
	w.add(&Stop{Domain: "nomail.demo", Shows: "null MX: it takes no mail",
		Want: Want{Did: "bounced", MXStatus: "null", DSN: "5.1.10"}})

	w.add(&Stop{Domain: "nowhere.demo", Shows: "no such domain, provably",
		Want: Want{Did: "bounced", DSN: "5.1.2"}})

	r, _ := w.simple("refuses.demo", lab.Signing{}, lab.SelfSigned("mx.refuses.demo"), pin{3, 1, 1})
	r.Wrap(lab.Answer("RCPT", 550, "5.1.1 no such mailbox"))
	w.add(&Stop{Domain: "refuses.demo", Shows: "the receiver answers RCPT with 550",
		Want: Want{Did: "bounced", MXStatus: "secure", DSN: "5.1.1"}}, r)
}

// dnsAttacks sit on the way to a name server.
func (w *World) dnsAttacks() {
	r, z := w.simple("forged.demo", lab.Signing{}, lab.SelfSigned("mx.forged.demo"), pin{3, 1, 1})
	z.Wrap(lab.Forge(true, "forged.demo. 60 IN MX 5 mx.evil.demo."))
	w.add(&Stop{Domain: "forged.demo", Attack: "MX forged to mx.evil.demo", Want: deferred("bogus")}, r)

	r, z = w.simple("bared.demo", lab.Signing{}, lab.SelfSigned("mx.bared.demo"), pin{3, 1, 1})
	z.Wrap(lab.StripSignatures).Wrap(lab.Forge(false, "bared.demo. 60 IN MX 5 mx.evil.demo."))
	w.add(&Stop{Domain: "bared.demo", Attack: "signatures stripped, MX forged", Want: deferred("bogus")}, r)

	id := lab.SelfSigned("mx.repinned.demo")
	stranger := lab.SelfSigned("mx.repinned.demo")
	r = w.Lab.Receiver("mx.repinned.demo", id)
	p := w.Lab.Swap(r, stranger)
	w.Lab.Zone("repinned.demo", lab.Signing{}).Add("@ MX 10 mx", "mx A "+p.Addr(), "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf())).
		Wrap(w.Lab.ForgePort(true, "_{port}._tcp.mx.repinned.demo. 60 IN TLSA "+lab.TLSA(3, 1, 1, stranger.Leaf())))
	w.add(&Stop{Domain: "repinned.demo", Attack: "certificate swapped, TLSA forged",
		Want: Want{Did: "deferred", MXStatus: "secure", Unasked: true}, Paths: []*lab.Path{p}}, r)
}

// pathAttacks sit on the way to a receiver.
func (w *World) pathAttacks() {
	w.attacked("tapped.demo", "eavesdropper on the wire", verified(), w.Lab.Eavesdrop)
	w.attacked("stripped.demo", "STARTTLS stripped", deferred("secure"), w.Lab.StripSTARTTLS)
	w.attacked("swapped.demo", "a stranger's certificate", deferred("secure"), func(r *lab.Receiver) *lab.Path {
		return w.Lab.Swap(r, lab.SelfSigned("mx.swapped.demo"))
	})

	id := lab.SelfSigned("mx1.backup.demo")
	first, second := w.Lab.Receiver("mx1.backup.demo", id), w.Lab.Receiver("mx2.backup.demo", id)
	p := w.Lab.StripSTARTTLS(first)
	w.Lab.Zone("backup.demo", lab.Signing{}).Add("@ MX 10 mx1", "@ MX 20 mx2", "mx1 A "+p.Addr(), "mx2 A "+second.Addr(),
		"_{port}._tcp.mx1 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()), "_{port}._tcp.mx2 TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: "backup.demo", Attack: "STARTTLS stripped at the first MX", Want: verified(), Paths: []*lab.Path{p}}, second)

	r := w.Lab.Receiver("mx.open.optout", lab.SelfSigned("mx.open.optout"))
	p = w.Lab.StripSTARTTLS(r)
	w.Lab.Zone("open.optout", lab.Signing{None: true}).Add("@ MX 10 mx", "mx A "+p.Addr())
	w.add(&Stop{Domain: "open.optout", Attack: "STARTTLS stripped, unsigned domain",
		Want: Want{Did: "delivered", Security: "plaintext", MXStatus: "insecure", Readable: true}, Paths: []*lab.Path{p}}, r)
}

// attacked declares a signed domain with TLSA 3 1 1 and an attacker in the
// path to its only receiver.
func (w *World) attacked(domain, what string, want Want, path func(*lab.Receiver) *lab.Path) {
	id := lab.SelfSigned("mx." + domain)
	r := w.Lab.Receiver("mx."+domain, id)
	p := path(r)
	w.Lab.Zone(domain, lab.Signing{}).Add("@ MX 10 mx", "mx A "+p.Addr(), "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	w.add(&Stop{Domain: domain, Attack: what, Want: want, Paths: []*lab.Path{p}}, r)
}
