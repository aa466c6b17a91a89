package cli

import (
	"fmt"
	"io"

	"danepost/deliver"
	"danepost/resolver"
)

func renderLookup(w io.Writer, a *resolver.Answer) {
	fmt.Fprintf(w, "%s %s: %s, %s %s\n", a.Name, typeWord(a.Type), a.Status, rcodeWord(a.Rcode), a.Text)
	for _, rr := range a.RRs {
		fmt.Fprintln(w, "  ", presentRR(rr))
	}
	for _, z := range a.Chain {
		fmt.Fprintln(w, "  zone", z.Zone, z.Status, z.Reason)
	}
}

func renderCheck(w io.Writer, r *deliver.Report) {
	fmt.Fprintf(w, "%s: %s %s (MX %s)\n", r.Domain, r.Verdict, r.Reason, r.MXStatus)
	for _, h := range r.Hosts {
		fmt.Fprintf(w, "  %d %s: level %s, TLSA %s, %s\n", h.Preference, h.Host, h.Level, h.TLSAStatus, h.Error)
		for _, p := range h.Probes {
			fmt.Fprintf(w, "    %s: %s %s %s\n", p.Address, p.Verdict, p.Matched, p.Error)
		}
	}
}
