package deliver

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"danepost/tlsa"
)

// Report is what delivery to a domain would do, and why. Its JSON is one that
// others rely on: fields are only added.
type Report struct {
	Domain   string       `json:"domain"`
	MXStatus string       `json:"mx_status"`
	Verdict  string       `json:"verdict"` // "deliverable", "defer" or "reject"
	Reason   string       `json:"reason,omitempty"`
	NextHop  string       `json:"next_hop,omitempty"` // a relay or via that takes the domain's mail
	Hosts    []HostReport `json:"hosts"`
	Warnings []string     `json:"warnings,omitempty"` // what ends within 7 days
}

// HostReport is one host in the order of trying.
type HostReport struct {
	Host          string        `json:"host"`
	Preference    uint16        `json:"preference"`
	Port          uint16        `json:"port"`
	AddressStatus string        `json:"address_status"`
	Addresses     []string      `json:"addresses"`
	TLSABase      string        `json:"tlsa_base"`
	TLSAStatus    string        `json:"tlsa_status"`
	TLSA          []string      `json:"tlsa"`
	SignatureEnd  *time.Time    `json:"signature_end,omitempty"` // of the TLSA records
	Level         string        `json:"level"`
	Names         []string      `json:"names,omitempty"` // that a certificate is matched against
	Reason        string        `json:"reason,omitempty"`
	Error         string        `json:"error,omitempty"` // why no connection is opened
	Probes        []ProbeReport `json:"probes"`
}

// ProbeReport is what one connection showed, up to EHLO over TLS.
type ProbeReport struct {
	Address     string             `json:"address"`
	TLS         string             `json:"tls"`
	Cipher      string             `json:"cipher"`
	Verdict     string             `json:"verdict"` // a word of the log key security, or "failed"
	Matched     string             `json:"matched"`
	Error       string             `json:"error"`
	Certificate *CertificateReport `json:"certificate,omitempty"`
}

// CertificateReport is the certificate that a server showed as its own.
type CertificateReport struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Check goes the whole way to a domain's hosts, by the same plan and session
// code as a delivery, up to EHLO over TLS. It sends no mail and needs no queue.
func (d *Deliverer) Check(ctx context.Context, domain string) Report {
	domain = normalDomain(domain)
	h := d.cfg.hopFor(domain)
	r := d.findRoute(ctx, h)
	out := Report{Domain: domain, MXStatus: r.mxStatus, Hosts: []HostReport{}}
	if h.fixed {
		out.NextHop = h.name
	}
	var plans []*hostPlan
	if r.problem == nil {
		plans = d.checkPlans(ctx, &r)
	}
	out.Hosts = make([]HostReport, len(plans))
	var wg sync.WaitGroup
	slots := make(chan struct{}, checkParallel)
	for i, p := range plans {
		out.Hosts[i] = describe(p)
		addrs := interleave(p.addrs)
		if p.problem != nil {
			addrs = nil
		}
		out.Hosts[i].Probes = make([]ProbeReport, len(addrs))
		for k, addr := range addrs {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				out.Hosts[i].Probes[k] = d.probe(ctx, p, addr)
			})
		}
	}
	wg.Wait()
	d.conclude(&out, &r, plans)
	return out
}

// checkPlans plans all hosts, however bad the first ones look.
func (d *Deliverer) checkPlans(ctx context.Context, r *route) []*hostPlan {
	var plans []*hostPlan
	for i := 0; i < len(r.groups); i++ {
		for _, f := range d.findGroup(ctx, r, i) {
			p := d.findPlan(ctx, r, f)
			plans = append(plans, &p)
		}
	}
	return plans
}

func describe(p *hostPlan) HostReport {
	h := HostReport{Host: p.host, Preference: p.preference, Port: p.port, AddressStatus: p.addressStatus,
		Addresses: []string{}, TLSABase: p.base, TLSAStatus: p.tlsaStatus, TLSA: []string{},
		Level: p.level.String(), Names: p.names, Reason: p.reason}
	for _, a := range p.addrs {
		h.Addresses = append(h.Addresses, a.Unmap().String())
	}
	for _, r := range p.records {
		h.TLSA = append(h.TLSA, r.String())
	}
	if !p.signatureEnd.IsZero() {
		end := p.signatureEnd.UTC()
		h.SignatureEnd = &end
	}
	if p.problem != nil {
		h.Error = unsent(p.problem.reason)
	}
	return h
}

// probe opens one session and says goodbye.
func (d *Deliverer) probe(ctx context.Context, p *hostPlan, addr netip.Addr) ProbeReport {
	out := ProbeReport{Address: addr.String()}
	ctx, stop := context.WithTimeout(ctx, checkTime)
	defer stop()
	got, f := d.race(ctx, []netip.Addr{addr}, p.port)
	if f != nil {
		out.Verdict, out.Error = "failed", f.reason
		return out
	}
	left := maxSessions
	s, f := d.bring(ctx, p, got, &left)
	if len(s.chain) > 0 {
		out.Certificate = describeCert(s.chain[0])
	}
	if f != nil && ctx.Err() == context.DeadlineExceeded {
		f = later("4.4.2", "no answer within %v", checkTime)
	}
	if f != nil {
		out.Verdict, out.Error = "failed", unsent(f.reason)
		return out
	}
	out.TLS, out.Cipher = tlsWords(s.tls)
	out.Verdict, out.Matched = s.proof.security, s.proof.match
	if s.before != nil && s.manner == mannerClear {
		out.Error = s.before.reason // and mail would go in the clear
	}
	s.quit()
	return out
}

func describeCert(c *x509.Certificate) *CertificateReport {
	return &CertificateReport{Subject: oneLine(c.Subject.String()), Issuer: oneLine(c.Issuer.String()),
		Names: c.DNSNames, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
}

// conclude says what would happen to mail now.
func (d *Deliverer) conclude(out *Report, r *route, plans []*hostPlan) {
	permanent := true
	for i, h := range out.Hosts {
		permanent = permanent && plans[i].problem != nil && plans[i].problem.permanent
		for _, p := range h.Probes {
			if p.Verdict != "failed" && out.Verdict == "" {
				out.Verdict = "deliverable"
				out.Reason = fmt.Sprintf("mail goes to %s, %s", h.Host, securityWords[p.Verdict])
			}
		}
		d.warn(out, plans[i], h)
	}
	switch {
	case out.Verdict != "":
	case r.problem != nil && r.problem.permanent, r.problem == nil && permanent:
		out.Verdict = "reject"
	default:
		out.Verdict = "defer"
	}
	switch {
	case out.Reason != "":
	case r.problem != nil:
		out.Reason = unsent(r.problem.reason)
	default:
		out.Reason = firstError(out.Hosts)
	}
}

// unsent is a reason without what is only true of a message.
func unsent(reason string) string { return strings.Replace(reason, "; "+protection, "", 1) }

func firstError(hosts []HostReport) string {
	for _, h := range hosts {
		if h.Error != "" {
			return h.Error
		}
		for _, p := range h.Probes {
			if p.Error != "" {
				return h.Host + "[" + p.Address + "]: " + p.Error
			}
		}
	}
	return "no host can be reached"
}

var securityWords = map[string]string{
	daneVerified:        "verified by its TLSA records",
	daneHost:            "which is verified by its TLSA records, but its MX records are not signed",
	daneUnauthenticated: "encrypted; its TLSA records are unusable, so nobody is verified",
	pkixVerified:        "verified as the policy demands",
	encrypted:           "encrypted, nobody is verified",
	plaintext:           "in the clear",
}

// warn tells what ends soon: the server's certificate where dates count, and
// the signature of its TLSA records.
func (d *Deliverer) warn(out *Report, p *hostPlan, h HostReport) {
	soon := d.now().Add(verifyWarning)
	add := func(s string) { out.Warnings = appendNew(out.Warnings, s) }
	if !p.signatureEnd.IsZero() && p.signatureEnd.Before(soon) {
		add(fmt.Sprintf("the signature of the TLSA records of %s ends %s", p.base, p.signatureEnd.UTC().Format(time.RFC3339)))
	}
	for _, x := range h.Probes {
		c := x.Certificate
		if c == nil || !c.NotAfter.Before(soon) {
			continue
		}
		s := fmt.Sprintf("the certificate of %s[%s] ends %s", h.Host, x.Address, c.NotAfter.Format(time.RFC3339))
		if c.NotAfter.Before(d.now()) {
			s = fmt.Sprintf("the certificate of %s[%s] ended %s", h.Host, x.Address, c.NotAfter.Format(time.RFC3339))
		}
		if p.level == LevelDANE && slices.ContainsFunc(p.records, func(r tlsa.Record) bool { return r.Usage == 3 }) {
			s += " (of no consequence under DANE-EE)"
		}
		add(s)
	}
}
