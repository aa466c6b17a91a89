package cli

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"danepost/queue/submit"
)

// runConfig is `danepost config check`: parse, explain, exit.
func runConfig(inv *invocation, args []string) error {
	fs := inv.flags("config")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() != 1 || fs.Arg(0) != "check" {
		return usageError("usage: danepost config check")
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	if err := c.checkFiles(); err != nil {
		return configError(err)
	}
	w := tabwriter.NewWriter(inv.Out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	for _, line := range c.explain() {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	return nil
}

// checkFiles reads every file that the configuration names: what they hold
// belongs to it.
func (c *Config) checkFiles() error {
	if err := c.checkDelivery(); err != nil {
		return err
	}
	aliases, err := submit.LoadAliases(c.Rewrite.Aliases)
	if err == nil {
		err = aliases.Check()
	}
	if err != nil {
		return fmt.Errorf("rewrite.aliases: %w", err)
	}
	if _, err := c.submissionCertificate(); err != nil {
		return err
	}
	if file := c.Submission.UsersFile; file != "" {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("submission.users_file: %w", err)
		}
	}
	return nil
}

// checkDelivery reads the files that look-ups and deliveries need.
func (c *Config) checkDelivery() error {
	if _, err := resolverConfig(c, nil); err != nil {
		return err
	}
	if _, err := configuredAnchors(c); err != nil {
		return err
	}
	dc, err := deliverConfig(c, nil)
	if err != nil || dc.Roots == nil {
		return err
	}
	if _, err := dc.Roots(); err != nil {
		return fmt.Errorf("deliver.ca_file: %w", err)
	}
	return nil
}

// explain says in words what the configuration makes danepost do.
func (c *Config) explain() [][2]string {
	file := c.File
	if file == "" {
		file = "none; built-in defaults (" + defaultConfigFile + " does not exist)"
	}
	lines := [][2]string{
		{"configuration", file},
		{"host name", c.Hostname + or(strings.Contains(c.Hostname, "."), "", " (no full name: EHLO will show the address instead)")},
		{"state", c.StateDir},
		{"socket", c.Socket},
		{"maildrop", c.Maildrop},
		{"postmaster", or(c.Postmaster != "", c.Postmaster, "not set: mail for local users is held until it is")},
		{"root hints", or(c.Resolver.RootHints != "", c.Resolver.RootHints, "built in")},
		{"trust anchor", or(c.Resolver.TrustAnchor != "", c.Resolver.TrustAnchor, "built in (IANA KSK-2017 and KSK-2024)")},
		{"look-ups", c.explainForward()},
		{"name server", or(c.Resolver.Listen != "", "answers on "+c.Resolver.Listen, "off")},
		{"delivery", c.explainDelivery()},
		{"retries", fmt.Sprintf("first after %s, then doubling to %s, given up after %s; a warning after %s",
			words(c.Queue.RetryFirst), words(c.Queue.RetryMax), words(c.Queue.MaxAge), words(c.Queue.WarnAfter))},
		{"submission", c.explainSubmission()},
	}
	for _, p := range c.Policy {
		text := or(p.TLS != "", p.TLS, c.Deliver.TLS)
		if p.Via != "" {
			text += " via " + p.Via
		}
		lines = append(lines, [2]string{"policy " + p.Domain, text})
	}
	return lines
}

func (c *Config) explainForward() string {
	switch c.Resolver.Forward.Mode {
	case "off":
		return "from the root, always"
	case "auto":
		return "from the root; through the host's resolvers, still validated here, where port 53 is blocked"
	}
	var servers []string
	for _, s := range c.Resolver.Forward.Servers {
		servers = append(servers, s.String())
	}
	return "through " + strings.Join(servers, ", ") + ", validated here"
}

func (c *Config) explainDelivery() string {
	to := fmt.Sprintf("to each domain's MX on port %d", c.Deliver.Port)
	if c.Relay.Host != "" {
		return "everything through the relay " + c.Relay.Host + ", verified by its TLSA records or a public authority where no policy says otherwise"
	}
	return to + ", level " + c.Deliver.TLS
}

// explainSubmission says who may hand in mail.
func (c *Config) explainSubmission() string {
	s := c.Submission
	if s.Listen == "" {
		return "socket and sendmail only"
	}
	who := append([]string{"this host"}, s.Allow...)
	if s.UsersFile != "" {
		who = append(who, "users who log in over TLS")
	}
	return "SMTP on " + s.Listen + ", for " + strings.Join(who, ", ") + "; nobody else"
}

func or(cond bool, a, b string) string {
	if cond {
		return a
	}
	return b
}

// words writes a duration as the configuration does: 5d, 4h, 1h8m.
func words(d Duration) string {
	t := time.Duration(d)
	if t >= day && t%day == 0 {
		return fmt.Sprintf("%dd", t/day)
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
