package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"danepost/deliver"
)

// renderCheck prints the report for people: the verdict and its reason, then
// the way there as a tree, host by host in the order of trying.
func renderCheck(w io.Writer, r *deliver.Report) {
	s := newScreen(w)
	s.line("%s: %s", clean(r.Domain), s.paint(verdictTone(r.Verdict), r.Verdict))
	s.table("  ", [][]cell{{text(verdictWords(r))}})
	s.line("")
	s.line("%s", routeLine(s, r))
	for i, h := range r.Hosts {
		renderHost(s, h, r.MXStatus, i == len(r.Hosts)-1)
	}
	if len(r.Warnings) > 0 {
		s.line("")
	}
	for _, w := range r.Warnings {
		s.table("", [][]cell{{toned(warn, "warning:"), text(clean(w))}})
	}
}

func verdictTone(verdict string) tone {
	switch verdict {
	case "deliverable":
		return good
	case "defer":
		return warn
	}
	return bad
}

func verdictWords(r *deliver.Report) string {
	switch r.Verdict {
	case "defer":
		return "mail would wait here and be tried again: " + clean(r.Reason)
	case "reject":
		return "mail would go back to its sender: " + clean(r.Reason)
	}
	return clean(r.Reason)
}

// routeLine says where the hosts come from.
func routeLine(s *screen, r *deliver.Report) string {
	if r.NextHop != "" {
		return "next hop by configuration: " + clean(r.NextHop)
	}
	status := s.paint(wordTone(r.MXStatus), r.MXStatus)
	switch r.MXStatus {
	case "secure":
		return "MX records: " + status
	case "insecure":
		return "MX records: " + status + ", so anyone on the path could have chosen these hosts"
	case "none":
		if len(r.Hosts) == 0 {
			return "MX records: none"
		}
		return "MX records: none, so the domain itself is the host"
	case "null":
		return "MX records: " + status + ", the domain takes no mail"
	case "bogus":
		return "MX records: " + status + ", forged or broken"
	}
	return "MX records: " + status
}

// wordTone colours the status, level and verdict words of a report.
func wordTone(word string) tone {
	switch word {
	case "secure", "dane", "dane-only", "verify", "fingerprint", "dane-verified", "dane-host", "verified":
		return good
	case "insecure", "may", "none", "encrypt", "encrypted", "plaintext", "dane-unauthenticated":
		return warn
	case "bogus", "indeterminate", "failed", "null":
		return bad
	}
	return plain
}

// renderHost prints one branch of the tree.
func renderHost(s *screen, h deliver.HostReport, mxStatus string, last bool) {
	branch, stem := "├─ ", "│  "
	if last {
		branch, stem = "└─ ", "   "
	}
	name := s.paint(strong, clean(h.Host))
	if mxStatus == "secure" || mxStatus == "insecure" {
		name += fmt.Sprintf("  preference %d", h.Preference)
	}
	if h.Port != 25 {
		name += fmt.Sprintf("  port %d", h.Port)
	}
	s.line("%s%s", branch, name)
	s.table(stem, hostRows(h))
	s.table(stem, probeRows(h))
}

// hostRows is what was looked up about a host, and what follows.
func hostRows(h deliver.HostReport) [][]cell {
	rows := [][]cell{{text("addresses"), toned(wordTone(h.AddressStatus), h.AddressStatus), text(strings.Join(h.Addresses, ", "))}}
	records := [][]cell{{text("TLSA"), toned(wordTone(h.TLSAStatus), h.TLSAStatus), text("")}}
	if h.TLSABase != "" {
		records[0][2].text = fmt.Sprintf("_%d._tcp.%s", h.Port, clean(h.TLSABase))
	}
	if h.SignatureEnd != nil {
		records[0][2].text += ", signed until " + h.SignatureEnd.UTC().Format(time.DateOnly)
	}
	for i, r := range h.TLSA {
		const most = 8
		if i == most {
			records = append(records, []cell{text(""), text(""), text(fmt.Sprintf("and %d more", len(h.TLSA)-most))})
			break
		}
		records = append(records, []cell{text(""), text(""), text(shortRecord(r)), text(recordMeaning(r))})
	}
	rows = append(rows, records...)
	if h.Error != "" {
		return append(rows, []cell{text("not tried"), toned(bad, "failed"), text(clean(h.Error))})
	}
	return append(rows, []cell{text("demand"), toned(wordTone(h.Level), h.Level), text(demandWords(h))})
}

// shortRecord cuts the data of a TLSA record to what people compare.
func shortRecord(record string) string {
	f := strings.Fields(record)
	if len(f) != 4 || len(f[3]) <= 16 {
		return record
	}
	f[3] = f[3][:16] + "…"
	return strings.Join(f, " ")
}

// recordMeaning says what a TLSA record names (RFC 7218).
func recordMeaning(record string) string {
	f := strings.Fields(record)
	if len(f) != 4 {
		return "unusable, cut off"
	}
	if want, ok := map[string]int{"1": 64, "2": 128}[f[2]]; ok && len(f[3]) != want {
		return "unusable, a digest of the wrong length"
	}
	selected, ok := map[string]string{"0": "certificate", "1": "key"}[f[1]]
	switch {
	case !ok:
	case f[0] == "3":
		return "the server's own " + selected
	case f[0] == "2":
		return "the " + selected + " of an authority above the server"
	case f[0] == "0" || f[0] == "1":
		return "not for mail (RFC 7672)"
	}
	return "of an unknown kind"
}

// demandWords says what a host must show before it gets mail, and why.
func demandWords(h deliver.HostReport) string {
	what := map[string]string{
		"none":        "no TLS",
		"may":         "TLS where it is offered, nobody is verified",
		"encrypt":     "TLS, nobody is verified",
		"dane":        "TLS, and a certificate that these records name",
		"dane-only":   "TLS, and a certificate that these records name",
		"verify":      "TLS, and a certificate that a public authority issued",
		"fingerprint": "TLS, and a certificate of the policy",
	}[h.Level]
	if h.Reason == "" || h.Level == "dane" || h.Level == "dane-only" {
		return what
	}
	return what + " (" + clean(h.Reason) + ")"
}

// probeRows is what the connections showed. A certificate is described once
// for all addresses that show it.
func probeRows(h deliver.HostReport) [][]cell {
	var rows [][]cell
	shown := ""
	for _, p := range h.Probes {
		rows = append(rows, []cell{text(p.Address), toned(wordTone(p.Verdict), p.Verdict), text(probeWords(p, h.Level))})
		if words := certificateWords(p.Certificate); words != shown && words != "" {
			shown = words
			rows = append(rows, []cell{text(""), text(""), text(words)})
		}
	}
	return rows
}

func probeWords(p deliver.ProbeReport, level string) string {
	var parts []string
	if p.Verdict == "plaintext" && p.Error == "" && level != "none" {
		parts = append(parts, "it offers no STARTTLS")
	}
	if p.TLS != "" {
		parts = append(parts, p.TLS)
	}
	if p.Matched != "" {
		parts = append(parts, "matches "+clean(shortRecord(p.Matched)))
	}
	if p.Error != "" {
		parts = append(parts, clean(p.Error))
	}
	return strings.Join(parts, ", ")
}

func certificateWords(c *deliver.CertificateReport) string {
	if c == nil {
		return ""
	}
	names := c.Subject
	if len(c.Names) > 0 {
		const most = 2
		names = strings.Join(c.Names[:min(most, len(c.Names))], ", ")
		if n := len(c.Names) - most; n > 0 {
			names += fmt.Sprintf(" and %d more", n)
		}
	}
	return clean(fmt.Sprintf("certificate for %s, from %s, until %s",
		or(names != "", names, "nobody"), c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly)))
}
