package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// renderLookup prints an answer for people: what it is worth, what it says,
// and the chain of trust that it rests on.
func renderLookup(w io.Writer, a *resolver.Answer) {
	s := newScreen(w)
	s.line("%s %s: %s", a.Name, typeWord(a.Type), s.paint(statusTone(a.Status), a.Status.String())+", "+statusMeaning(a))
	if why := verdictText(a.Verdict); why != "" && a.Status != dnssec.Secure {
		s.table("  ", [][]cell{{text("because " + clean(why))}})
	}
	if rows := answerRows(a); len(rows) > 0 {
		s.line("")
		s.table("  ", rows)
	}
	if len(a.Chain) > 0 {
		s.line("")
		s.line("%s", s.paint(strong, "chain of trust"))
		s.table("  ", chainRows(a.Chain))
	}
	s.line("")
	s.line("%s", s.paint(faint, footer(a)))
}

func statusTone(st dnssec.Status) tone {
	switch st {
	case dnssec.Secure:
		return good
	case dnssec.Insecure:
		return warn
	}
	return bad
}

// statusMeaning says what the status means for who uses the answer.
func statusMeaning(a *resolver.Answer) string {
	switch a.Status {
	case dnssec.Secure:
		return "signed all the way from the root"
	case dnssec.Insecure:
		return "in use, but nobody vouches for it"
	case dnssec.Bogus:
		return "forged or broken; nothing of it is used"
	}
	return "it could not be found out; nothing is concluded from it"
}

func verdictText(v dnssec.Verdict) string {
	if v.Text != "" {
		return v.Text
	}
	return strings.ReplaceAll(string(v.Reason), "-", " ")
}

// answerRows are the aliases, then the records, or what their absence says.
func answerRows(a *resolver.Answer) [][]cell {
	var rows [][]cell
	for _, l := range a.Links {
		rows = append(rows, []cell{
			text(fmt.Sprintf("%s %s %s", l.Owner, typeWord(l.Type), l.Target)), toned(statusTone(l.Status), l.Status.String())})
	}
	if len(a.Links) > 0 && len(a.RRs) > 0 {
		rows[len(rows)-1] = append(rows[len(rows)-1], text(""))
	}
	for _, rr := range a.RRs {
		rows = append(rows, []cell{text(clean(presentRR(rr)))})
	}
	if len(a.RRs) > 0 || a.Status == dnssec.Bogus || a.Status == dnssec.Indeterminate {
		return rows
	}
	proved := ""
	if a.FinalStatus == dnssec.Secure {
		proved = ", and that is proved"
	}
	name := a.Name
	if len(a.Links) > 0 {
		name = a.Final
	}
	switch a.Rcode {
	case dns.RcodeNameError:
		rows = append(rows, []cell{text(fmt.Sprintf("%s does not exist%s", name, proved))})
	case dns.RcodeSuccess:
		rows = append(rows, []cell{text(fmt.Sprintf("%s has no %s record%s", name, typeWord(a.Type), proved))})
	default:
		rows = append(rows, []cell{text("the server's answer was " + rcodeWord(a.Rcode))})
	}
	return rows
}

// chainRows is one line a zone: which DS leads to which key.
func chainRows(chain []resolver.ZoneTrust) [][]cell {
	var rows [][]cell
	for i, z := range chain {
		row := []cell{text(z.Zone.String()), toned(statusTone(z.Status), z.Status.String())}
		if z.Status == dnssec.Secure {
			lead := "DS "
			if i == 0 {
				lead = "anchor "
			}
			row = append(row, text(lead+keyWords(z.DS, false)), text("key "+keyWords(z.Keys, true)))
		} else {
			row = append(row, text(clean(z.Reason)))
		}
		rows = append(rows, row)
	}
	return rows
}

// keyWords names the keys that carried the proof; all of them where that is
// not known.
func keyWords(refs []resolver.KeyRef, algorithm bool) string {
	var used, all []string
	for _, k := range refs {
		word := fmt.Sprint(k.Tag)
		if algorithm {
			word += " " + algorithmWord(k.Algorithm)
		}
		all = append(all, word)
		if k.Used {
			used = append(used, word)
		}
	}
	if len(used) == 0 {
		used = all
	}
	if len(used) == 0 {
		return "unknown"
	}
	return strings.Join(used, ", ")
}

func algorithmWord(n uint8) string {
	if s, ok := dns.AlgorithmToString[n]; ok {
		return s
	}
	return fmt.Sprintf("algorithm %d", n)
}

// footer is what it cost and how long it holds.
func footer(a *resolver.Answer) string {
	parts := []string{"from the cache"}
	if a.Queries > 0 {
		parts[0] = plural(a.Queries, "query") + " in " + elapsedWords(a.Elapsed)
	}
	if a.EDE >= 0 && a.Status != dnssec.Secure {
		// RFC 8914
		parts = append(parts, fmt.Sprintf("extended error %d (%s)", a.EDE, dns.ExtendedErrorCodeToString[uint16(a.EDE)]))
	}
	if a.Status == dnssec.Secure && !a.SignatureEnd.IsZero() {
		parts = append(parts, "signatures hold until "+stamp(a.SignatureEnd))
	}
	return strings.Join(parts, "; ")
}

// stamp writes a time as people compare it: to the minute, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func elapsedWords(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
