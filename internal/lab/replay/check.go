package replay

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// check compares what the client was told with what the entry expects. It
// looks at the rcode, the AD bit and the answer, at the authority section where MATCH
// names it by its own word, at the extended error where MATCH asks for
// one, and at TTLs where "ttl" is named. The other header flags only mirror the
// client's question. An entry without MATCH asks for any answer at all.
//
// Which servers a zone has is not part of an answer: whether a resolver passes
// NS records and their addresses along is its own choice (minimal responses),
// so they are looked at only in the answer section.
func (e *Entry) check(got *Answer) error {
	if e.Raw != nil && e.Match&(MatchAnswer|MatchAuthority) != 0 {
		decoded, err := e.decode()
		if err != nil {
			return fmt.Errorf("the hexadecimal answer cannot be compared: %w", err)
		}
		e = decoded
	}
	if e.Match&MatchRcode != 0 && got.Rcode != e.Rcode {
		return fmt.Errorf("rcode is %s, want %s", dns.RcodeToString[got.Rcode], dns.RcodeToString[e.Rcode])
	}
	if e.Match&MatchFlags != 0 && got.AD != e.AD {
		return fmt.Errorf("AD is %v, want %v", got.AD, e.AD)
	}
	if e.Match&MatchEDE != 0 {
		if err := e.checkEDE(got.EDE); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		name      string
		on        bool
		want, got []RR
	}{
		{"answer", e.Match&MatchAnswer != 0 && !e.TC, e.Answer, got.Answer},
		{"authority", e.Match&MatchAuthority != 0 && !e.All, withoutNS(e.Authority), withoutNS(got.Authority)},
	} {
		if !s.on {
			continue
		}
		if diff := diffRRs(s.want, s.got, e.Match&MatchTTL != 0); diff != "" {
			return fmt.Errorf("%s section differs:\n%s", s.name, diff)
		}
	}
	return nil
}

// decode returns the entry with the header and the sections that its
// hexadecimal block holds.
func (e *Entry) decode() (*Entry, error) {
	var msg dns.Msg
	if err := msg.Unpack(e.Raw); err != nil {
		return nil, err
	}
	out := *e
	out.Rcode, out.AD, out.TC = msg.Rcode, msg.AuthenticatedData, msg.Truncated
	for _, s := range []struct {
		from []dns.RR
		to   *[]RR
	}{{msg.Answer, &out.Answer}, {msg.Ns, &out.Authority}} {
		*s.to = nil
		for _, parsed := range s.from {
			rr, err := packed(parsed)
			if err != nil {
				return nil, err
			}
			*s.to = append(*s.to, rr)
		}
	}
	return &out, nil
}

// withoutNS leaves out NS records and their signatures.
func withoutNS(rrs []RR) []RR {
	return slices.DeleteFunc(slices.Clone(rrs), func(rr RR) bool {
		covered := rr.Type == dns.TypeRRSIG && len(rr.Data) > 2 && rr.Data[0] == 0 && rr.Data[1] == byte(dns.TypeNS)
		return rr.Type == dns.TypeNS || covered
	})
}

func (e *Entry) checkEDE(got []int) error {
	switch {
	case e.EDE == AnyEDE && len(got) > 0, e.EDE == NoEDE && len(got) == 0, slices.Contains(got, e.EDE):
		return nil
	case e.EDE == AnyEDE:
		return fmt.Errorf("no extended error, want one")
	case e.EDE == NoEDE:
		return fmt.Errorf("extended errors are %v, want none", got)
	}
	return fmt.Errorf("extended errors are %v, want %d", got, e.EDE)
}

// diffRRs compares two sections as sets; "" means equal.
func diffRRs(want, got []RR, ttl bool) string {
	w, g := rrKeys(want, ttl), rrKeys(got, ttl)
	var b strings.Builder
	for key, rr := range w {
		if _, both := g[key]; !both {
			fmt.Fprintf(&b, "  missing    %s\n", rr)
		}
	}
	for key, rr := range g {
		if _, both := w[key]; !both {
			fmt.Fprintf(&b, "  unexpected %s\n", rr)
		}
	}
	return b.String()
}

func rrKeys(rrs []RR, ttl bool) map[string]RR {
	out := map[string]RR{}
	for _, rr := range rrs {
		key := fmt.Sprintf("%s/%d/%d/%x", strings.ToLower(rr.Name), rr.Type, rr.Class, foldNames(rr.Type, rr.Data))
		if ttl {
			key += fmt.Sprint("/", rr.TTL)
		}
		out[key] = rr
	}
	return out
}

// String returns the record in zone-file form.
func (rr RR) String() string {
	msg := appendRR(nil, rr)
	if parsed, _, err := dns.UnpackRR(msg, 0); err == nil {
		return parsed.String()
	}
	return fmt.Sprintf("%s %d CLASS%d TYPE%d \\# %d %x", rr.Name, rr.TTL, rr.Class, rr.Type, len(rr.Data), rr.Data)
}

// nameOffsets says where in the RDATA of a type domain names begin; further
// names follow the first one directly.
var nameOffsets = map[uint16]struct{ at, count int }{
	dns.TypeNS: {0, 1}, dns.TypeCNAME: {0, 1}, dns.TypeDNAME: {0, 1}, dns.TypePTR: {0, 1},
	dns.TypeMX: {2, 1}, dns.TypeSOA: {0, 2}, dns.TypeSRV: {6, 1}, dns.TypeRRSIG: {18, 1}, dns.TypeNSEC: {0, 1},
}

// foldNames lower-cases the domain names in RDATA, which compare without
// regard to case.
func foldNames(rrtype uint16, data []byte) []byte {
	where, has := nameOffsets[rrtype]
	if !has {
		return data
	}
	out := append([]byte(nil), data...)
	at := where.at
	for range where.count {
		for at < len(out) && out[at] != 0 {
			end := min(at+1+int(out[at]), len(out))
			for i := at + 1; i < end; i++ {
				if out[i] >= 'A' && out[i] <= 'Z' {
					out[i] += 'a' - 'A'
				}
			}
			at = end
		}
		at++
	}
	return out
}
