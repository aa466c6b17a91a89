package submit

import (
	"fmt"
	"strings"

	"danepost/queue"
)

// Policy is what the configuration says about messages handed in.
type Policy struct {
	// Hostname names this host in Received, Message-ID and the addresses of
	// local callers. It need not be an FQDN.
	Hostname string
	// OwnHosts are further names of this host.
	OwnHosts []string
	// QualifyDomain completes unqualified addresses, "" for none. Setting it
	// to Hostname says that this domain has real mailboxes elsewhere, so
	// that its addresses no longer count as local.
	QualifyDomain string
	// Postmaster takes mail for local names that no alias knows; "" holds it.
	Postmaster string
	// AliasFile is a file in the syntax of aliases(5), "" for none. It is
	// read for each message with a local recipient.
	AliasFile string
	// RewriteSender and RewriteFrom force the envelope sender and the address
	// in From. They are asked, in this order, for the caller's login name,
	// for the address, for "@domain" and for "*".
	RewriteSender, RewriteFrom map[string]string
	// MaxSize is the limit on a message in bytes, 0 for none.
	MaxSize int64
	// MinFree is how many bytes must be free in SpoolDir to accept anything.
	MinFree int64
	// SpoolDir is where large messages are kept while they are read.
	SpoolDir string
	// ConfigFile is named in texts that tell what to set.
	ConfigFile string
}

// origin is the domain of local addresses that go out.
func (p *Policy) origin() string {
	if p.QualifyDomain != "" {
		return p.QualifyDomain
	}
	if p.Hostname != "" {
		return p.Hostname
	}
	return "localhost"
}

// isOwnHost reports whether mail to domain is for this host itself.
func (p *Policy) isOwnHost(domain string) bool {
	domain = strings.TrimSuffix(domain, ".")
	if p.isNickname(domain) {
		return true
	}
	if strings.EqualFold(domain, p.QualifyDomain) {
		return false
	}
	if strings.EqualFold(domain, p.Hostname) {
		return true
	}
	for _, h := range p.OwnHosts {
		if strings.EqualFold(domain, h) {
			return true
		}
	}
	return false
}

// isNickname reports whether domain is a name of this host that means nothing
// anywhere else: localhost, or its first label alone.
func (p *Policy) isNickname(domain string) bool {
	domain = strings.ToLower(domain)
	short, _, dotted := strings.Cut(strings.ToLower(p.Hostname), ".")
	return domain == "localhost" || domain == "localhost.localdomain" || dotted && domain == short
}

// qualify completes an address for the world outside.
func (p *Policy) qualify(m Mailbox) Mailbox {
	if m.Domain == "" || p.isNickname(m.Domain) {
		m.Domain = p.origin()
	}
	return m
}

// rewrite is the address that table forces on mail of user from address, or
// "" to leave it.
func rewrite(table map[string]string, user string, m Mailbox) string {
	if len(table) == 0 {
		return ""
	}
	keys := []string{user, m.String(), "@" + m.Domain, "*"}
	for _, k := range keys {
		if k == "" || k == "@" {
			continue
		}
		for have, to := range table {
			if strings.EqualFold(have, k) {
				return to
			}
		}
	}
	return ""
}

// sender is the envelope sender of a request. The null sender is never
// rewritten: a bounce with a sender would bounce in turn.
func (p *Policy) sender(given *string, src Source) (Mailbox, error) {
	m := Mailbox{Local: src.User}
	if given != nil {
		var err error
		if m, err = ParseSender(*given); err != nil {
			return Mailbox{}, err
		}
		if m.Local == "" {
			return Mailbox{}, nil
		}
	}
	m = p.qualify(m)
	to := rewrite(p.RewriteSender, src.User, m)
	if to == "" {
		return m, nil
	}
	forced, err := ParseSender(to)
	if err != nil {
		return Mailbox{}, &Error{Code: ExitConfig, Text: fmt.Sprintf("the sender %q under [rewrite] in %s is no address", to, p.config())}
	}
	return p.qualify(forced), nil
}

func (p *Policy) config() string {
	if p.ConfigFile == "" {
		return "the configuration"
	}
	return p.ConfigFile
}

// Resolve says where mail for one address goes: to itself, where its aliases
// point, to postmaster, or nowhere yet: such a recipient is held, with a
// reason that says what to set. It never fails, as mail for root must not be
// lost over a mistake in the aliases.
func (p *Policy) Resolve(m Mailbox) []queue.Recipient {
	if m.Domain != "" && !p.isOwnHost(m.Domain) {
		return []queue.Recipient{{Address: m.String()}}
	}
	aliases, err := LoadAliases(p.AliasFile)
	if err != nil {
		return p.held(m, err.Error())
	}
	e := expansion{aliases: aliases, seen: map[string]bool{}, isLocal: p.isOwnHost}
	if err := e.name(m, nil); err != nil {
		return p.held(m, err.Error())
	}
	var out []queue.Recipient
	for _, leaf := range e.out {
		out = append(out, p.leaf(leaf)...)
	}
	return out
}

// leaf places a mailbox that no alias leads any further.
func (p *Policy) leaf(m Mailbox) []queue.Recipient {
	switch {
	case m.Domain == "" && p.QualifyDomain != "":
		m.Domain = p.QualifyDomain
		return []queue.Recipient{{Address: m.String()}}
	case m.Domain != "" && !p.isOwnHost(m.Domain):
		return []queue.Recipient{{Address: m.String()}}
	case p.Postmaster == "":
		return p.held(m, "this host has no mailboxes")
	}
	pm, err := ParseSender(p.Postmaster)
	if err != nil || pm.Local == "" || pm.Domain == "" || p.isOwnHost(pm.Domain) {
		return p.held(m, fmt.Sprintf("postmaster %q is not an address at another host", p.Postmaster))
	}
	return []queue.Recipient{{Address: pm.String()}}
}

// held keeps a local recipient in the queue, visibly.
func (p *Policy) held(m Mailbox, why string) []queue.Recipient {
	q := p.qualify(m)
	if q.Domain == "" || p.Hostname != "" && m.Domain == "" {
		q.Domain = p.Hostname
	}
	return []queue.Recipient{{
		Address: q.String(),
		Hold: fmt.Sprintf("%s is a local address: %s; set postmaster (or an alias) in %s, then release it",
			m.String(), why, p.config()),
	}}
}
