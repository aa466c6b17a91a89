package cli

import (
	"context"
	"slices"
	"strings"

	"danepost/resolver"
)

// largeDomains are tried where no domain of the host's own has a mail server:
// that the way out is open can only be seen by going it.
func largeDomains() []string { return []string{"gmail.com", "outlook.com", "gmx.net"} }

// destinations are the domains whose mail servers are tried. Who asked for
// none has his own tried first: no stranger need learn that this host is
// being looked at.
func (d *doctor) destinations(ctx context.Context) []string {
	if len(d.to) > 0 {
		return d.to
	}
	own := slices.DeleteFunc(d.config.ownDomains(), func(domain string) bool {
		_, elsewhere := d.mailServer(ctx, domain)
		return !elsewhere
	})
	if len(own) > 0 {
		d.tell("connecting to the mail servers of " + strings.Join(own, ", ") + "; nothing is sent (--to names others)")
		return own
	}
	d.tell("connecting to the mail servers of " + strings.Join(largeDomains(), ", ") +
		", for no domain of this host's own has one; nothing is sent (--to names others)")
	return largeDomains()
}

// mailServer is the best mail server of a domain; elsewhere reports whether
// there is one that is not this host.
func (d *doctor) mailServer(ctx context.Context, domain string) (host string, elsewhere bool) {
	servers := d.lookup(ctx, domain, resolver.TypeMX).MXs()
	slices.SortStableFunc(servers, func(a, b resolver.MX) int { return int(a.Preference) - int(b.Preference) })
	if len(servers) == 0 {
		return "", false
	}
	host = strings.TrimSuffix(servers[0].Host.String(), ".")
	return host, host != "" && !strings.EqualFold(host, d.config.Hostname)
}

// ownDomains are the domains that the configuration has addresses in, and
// that of the host's name.
func (c *Config) ownDomains() []string {
	var out []string
	add := func(domain string) {
		domain = strings.ToLower(strings.TrimSuffix(domain, "."))
		if strings.Contains(domain, ".") && !slices.Contains(out, domain) {
			out = append(out, domain)
		}
	}
	for _, address := range []string{c.Postmaster, c.Rewrite.Sender["*"], c.Rewrite.From["*"]} {
		_, domain, _ := strings.Cut(address, "@")
		add(domain)
	}
	add(c.Rewrite.QualifyDomain)
	add(c.Hostname)
	_, parent, _ := strings.Cut(c.Hostname, ".")
	add(parent)
	return out
}
