//go:build interop

package interop

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// What danepost says of broken zones is compared with oracles, which err too.
// This file asks of it what no oracle is needed for: the lab knows what is in
// each zone, and whether it is securely delegated, so that no break, whatever
// it does, may make danepost vouch for anything else, nor make it take the
// data of a secure zone for insecure (RFC 4035 §4.3).

// truth is what an answer would be if nobody had broken anything.
type truth struct {
	rcode   int
	records []string
	path    []*brokenZone // whose data the answer is made of, aliases included
	// status is "secure", "insecure", or "refused" where the owner's own
	// signatures expired.
	status string
	denial bool // rests on the proof that something does not exist
	span   bool // which is within an opt-out span (RFC 5155 §6)
	costly bool // or hashed with more iterations than count (RFC 9276 §3.2)
	// midway says that an insecure zone comes before the last one: the answer
	// is not secure any more, whatever the last zone says.
	midway bool
}

// truthOf follows a question through the lab's zones as they were signed.
func (b *brokenNet) truthOf(q question) truth {
	t := truth{status: "secure"}
	name := q.name
	for range 12 {
		z := b.holding(name)
		if z == nil {
			panic("interop: no zone for " + name)
		}
		if !slices.Contains(t.path, z) {
			t.midway = t.status == "insecure" || slices.ContainsFunc(t.path, (*brokenZone).unchained)
			t.path = append(t.path, z)
		}
		m := z.Truth(asking(name, q.qtype))
		next := t.take(z, m, name, q.qtype)
		if next == "" {
			return t
		}
		name = next
	}
	panic("interop: aliases without end at " + q.name)
}

func asking(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, qtype)
	return m.SetEdns0(1232, true)
}

// holding returns the zone that a name belongs to: the parents are not asked about.
func (b *brokenNet) holding(name string) *brokenZone {
	for _, z := range b.zones {
		if dns.IsSubDomain(z.name, name) {
			return z
		}
	}
	return nil
}

// take reads one step of an answer and returns the name that comes next.
func (t *truth) take(z *brokenZone, m *dns.Msg, name string, qtype uint16) (next string) {
	var found []string
	for _, rr := range m.Answer {
		h := rr.Header()
		sig, isSig := rr.(*dns.RRSIG)
		switch alias, isAlias := rr.(*dns.CNAME); {
		case strings.ToLower(h.Name) != name:
		case isSig && int(sig.Labels) < dns.CountLabel(name) && (sig.TypeCovered == qtype || sig.TypeCovered == dns.TypeCNAME):
			t.rests(z, m, name) // an expansion (RFC 4035 §5.3.4)
		case h.Rrtype == qtype:
			found = append(found, normal(rr))
		case isAlias:
			next = strings.ToLower(alias.Target)
		}
	}
	t.status = weaker(t.status, z.delegated())
	if next == "" {
		t.rcode, t.records = m.Rcode, sorted(found)
		if len(found) == 0 {
			t.rests(z, m, name)
		}
	}
	return next
}

// rests notes that the answer needs z to deny something about name.
func (t *truth) rests(z *brokenZone, m *dns.Msg, name string) {
	t.denial = true
	matched := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		n, ok := rr.(*dns.NSEC3)
		return ok && n.Match(name)
	})
	if z.delegated() != "secure" || z.shape.Denial == lab.NSEC {
		return
	}
	t.span = t.span || z.shape.Denial == lab.OptOut && !matched
	t.costly = t.costly || z.shape.Iterations > 50
	if t.span || t.costly {
		t.status = weaker(t.status, "insecure")
	}
}

// delegated says what the zone's data are worth as its owner signed them.
func (z *brokenZone) delegated() string {
	switch {
	case z.parent.DS() == nil, z.shape.None, z.shape.NoDS, z.shape.Algorithm == dns.RSASHA1NSEC3SHA1:
		return "insecure" // RFC 4035 §5.2; for SHA-1 RFC 9905 §2
	case z.shape.Expired:
		return refused
	}
	return "secure"
}

// unchained reports whether no chain of trust leads to the zone, be it that the
// parent's own signature says so.
func (z *brokenZone) unchained() bool {
	return z.delegated() == "insecure" || slices.ContainsFunc(z.tags, func(tag string) bool {
		return slices.Contains([]string{"ds-unknown-algorithm", "ds-unknown-digest", "key-unknown-algorithm", "key-private-algorithm"}, tag)
	})
}

func weaker(a, b string) string {
	order := []string{"secure", "insecure", refused}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// excuse is a break by which the zone's owner, or its parent's, has signed
// that the zone's data are insecure: then they are.
type excuse struct {
	kind   string
	denial bool // only for answers that rest on a denial
	reason string
}

func excuses() []excuse {
	return []excuse{
		{"ds-unknown-algorithm", false, "RFC 4035 §5.2: the parent's only DS has an algorithm that nobody knows"},
		{"ds-unknown-digest", false, "RFC 4035 §5.2: the parent's only DS has a digest that nobody knows"},
		{"key-unknown-algorithm", false, "RFC 4035 §5.2: the same, the key agrees"},
		{"key-private-algorithm", false, "RFC 4035 §5.2: the same, the key agrees"},
		{"bitmap-delegation", false, "RFC 4035 §5.2: the zone has signed that each of its names is an unsigned delegation"},
		{"nsec3-opt-out-flag", true, "RFC 5155 §9.2: the zone has signed that unsigned delegations are not listed"},
		{"nsec3-iterations-huge", true, "RFC 9276 §3.2: the zone has signed a count above the limit, and by chance a span that holds the name's hash"},
		{"nsec3-iterations-absurd", true, "RFC 9276 §3.2: the zone has signed a count that RFC 5155 §10.3 forbids"},
	}
}

// violated returns what danepost must not have said, "" where it may.
func (t *truth) violated(mine result) string {
	same := mine.rcode == t.rcode && slices.Equal(mine.records, t.records)
	broken := slices.ContainsFunc(t.path, func(z *brokenZone) bool { return len(z.breaks) > 0 })
	switch {
	case !broken && (mine.status != t.status || mine.status != refused && !same):
		return "nothing is broken here"
	case mine.status == "secure" && !same:
		return "secure, and not what the zone holds"
	case mine.status == "secure" && t.status != "secure" && !(t.status == refused && t.renewed()):
		return "secure, without a chain of trust that says so"
	case mine.status == "insecure" && t.status == "secure" && !t.excused():
		return "insecure, in spite of a chain of trust"
	case mine.status == "insecure" && t.costly && !t.span && !same && !t.excused() && t.signedAll():
		return "a denial with many iterations that proves nothing"
	}
	return ""
}

// renewed reports whether the owner of a zone whose signatures expired has signed anew.
func (t *truth) renewed() bool {
	return slices.ContainsFunc(t.path, func(z *brokenZone) bool {
		return z.shape.Expired && slices.ContainsFunc(z.tags, func(tag string) bool { return breakKind{name: tag}.order() > 0 })
	})
}

// signedAll reports whether all zones of the path are securely delegated.
func (t *truth) signedAll() bool {
	return !slices.ContainsFunc(t.path, func(z *brokenZone) bool { return z.delegated() != "secure" })
}

// excused reports whether a zone of the path has signed that it is insecure.
func (t *truth) excused() bool {
	return slices.ContainsFunc(excuses(), func(e excuse) bool {
		return (t.denial || !e.denial) && slices.ContainsFunc(t.path, func(z *brokenZone) bool { return slices.Contains(z.tags, e.kind) })
	})
}

// tags are what the table of disagreements knows the answer by.
func (t *truth) tags() []string {
	var out []string
	for _, z := range t.path {
		out = append(out, z.tags...)
		if z.unchained() {
			out = append(out, "insecure")
		}
	}
	for word, on := range map[string]bool{"denial": t.denial, "span": t.span, "costly": t.costly, "midway": t.midway} {
		if on {
			out = append(out, word)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (t truth) String() string {
	return fmt.Sprintf("%s %s, %d records", dns.RcodeToString[t.rcode], t.status, len(t.records))
}
