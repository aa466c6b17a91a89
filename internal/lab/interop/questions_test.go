//go:build interop

package interop

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// question is a look-up, and what must come of it where that is known.
type question struct {
	name  string
	qtype uint16
	want  want
}

// want is what the mini-internet's own construction says of a question.
type want struct {
	rcode   int
	records int // -1: not said
	status  string
}

func (q question) String() string { return q.name + " " + dns.TypeToString[q.qtype] }

// questions asks for one thing of each kind.
func (z *zone) questions() []question {
	var out []question
	add := func(label, qtype string, w want) {
		name := z.name
		if label != "@" {
			name = z.under(label)
		}
		out = append(out, question{name, dns.StringToType[qtype], w})
	}
	secure := func(n int) want { return want{dns.RcodeSuccess, n, "secure"} }
	for _, p := range []struct {
		label, qtype string
		n            int
	}{
		{"@", "SOA", 1}, {"@", "NS", 2}, {"@", "A", 1}, {"@", "MX", 2}, {"@", "DNSKEY", -1}, {"@", "DS", -1},
		{"mx", "A", 1}, {"mx", "AAAA", 1}, {"_25._tcp.mx", "TLSA", 1}, {"www", "A", 2}, {"www", "AAAA", 1},
		{"alias", "A", 2}, {"twice", "AAAA", 1}, {"far", "A", 2}, {"b.ent", "A", 1}, {"text", "TXT", 1}, {"big", "TXT", 10},
		{"www.sub", "A", 2}, {"_25._tcp.mx.sub", "TLSA", 1}, // through the DNAME
		{"@", "TLSA", 0}, {"www", "MX", 0}, {"ent", "A", 0}, {"_tcp.mx", "TLSA", 0}, {"alias", "MX", 0},
	} {
		add(p.label, p.qtype, secure(p.n))
	}
	for _, label := range []string{"x.wild", "x.y.wild"} {
		add(label, "A", z.expanded(secure(1)))
		add(label, "AAAA", z.expanded(secure(0)))
	}
	add("x.wild", "MX", z.expanded(secure(1)))
	add("here.wild", "A", secure(1))
	add("x.cwild", "A", z.expanded(secure(2)))
	for _, label := range []string{"nope", "a.b.nope", "_25._tcp.www", "below.www", "x.here.wild", "dangling"} {
		add(label, "TLSA", z.absent())
	}
	if z.method.name == "named-optout" { // ldns-signzone sets the flag but leaves nothing out
		add("plain", "DS", want{dns.RcodeSuccess, 0, "insecure"})
	} else {
		add("plain", "DS", secure(0))
	}
	add("www.plain", "A", want{dns.RcodeSuccess, 1, "insecure"})
	add("www.plain", "TLSA", want{dns.RcodeSuccess, 0, "insecure"})
	add("nope.plain", "TLSA", want{dns.RcodeNameError, 0, "insecure"})
	add("out", "A", want{dns.RcodeSuccess, 1, "insecure"})
	return out
}

// absent is what a name that does not exist looks like: with NSEC made for
// the query it exists and has nothing; with opt-out nobody can be sure.
func (z *zone) absent() want {
	switch z.method.denial {
	case minimal:
		return want{dns.RcodeSuccess, 0, "secure"}
	case optOut:
		return want{dns.RcodeNameError, 0, "insecure"}
	}
	return want{dns.RcodeNameError, 0, "secure"}
}

// expanded is w for an answer from a wildcard, which rests on the denial of
// the name itself (RFC 5155 §9.2 for opt-out).
func (z *zone) expanded(w want) want {
	if z.method.denial == optOut {
		w.status = "insecure"
	}
	return w
}

// result is what a validator said, in a form that can be compared.
type result struct {
	rcode   int
	status  string // "secure", "insecure", or "refused" for bogus and indeterminate
	records []string
	note    string // the validator's own words, for people
}

func (r result) String() string {
	s := dns.RcodeToString[r.rcode] + " " + r.status
	if len(r.records) > 0 {
		s += fmt.Sprintf(" %d records", len(r.records))
	}
	if r.note != "" {
		s += " (" + r.note + ")"
	}
	return s
}

// refused says that the answer must not be used.
const refused = "refused"

func (r result) equal(o result) bool {
	return r.rcode == o.rcode && r.status == o.status && slices.Equal(r.records, o.records)
}

// meets compares with what was built.
func (w want) meets(r result) bool {
	return r.rcode == w.rcode && r.status == w.status && (w.records < 0 || len(r.records) == w.records)
}

func (w want) String() string {
	return fmt.Sprintf("%s %s, %d records", dns.RcodeToString[w.rcode], w.status, w.records)
}

// normal is a record without its TTL, owner in lower case.
func normal(rr dns.RR) string {
	c := dns.Copy(rr)
	c.Header().Ttl = 0
	c.Header().Name = strings.ToLower(c.Header().Name)
	return strings.ToLower(strings.ReplaceAll(c.String(), "\t", " "))
}
