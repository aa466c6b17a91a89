package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// tlsLevels are the words of [deliver] tls and [[policy]] tls, weakest first.
var tlsLevels = []string{"none", "may", "encrypt", "dane", "dane-only", "verify", "fingerprint"}

// validate checks values; data is the file's text, for line numbers.
func (c *Config) validate(data []byte) error {
	checks := []struct {
		key string
		err error
	}{
		{"log", oneOf(c.Log, "text", "json")},
		{"hostname", hostname(c.Hostname)},
		{"postmaster", mailbox(c.Postmaster)},
		{"socket", socketPath(c.Socket)},
		{"resolver.port", within(c.Resolver.Port, 1, 65535)},
		{"resolver.sha1", oneOf(c.Resolver.SHA1, "insecure", "validate")},
		{"resolver.listen", ifSet(c.Resolver.Listen, listenAddr)},
		{"resolver.cache_mb", within(c.Resolver.CacheMB, 1, 1024)},
		{"resolver.trust_anchor_signature", needs(c.Resolver.TrustAnchorSignature, c.Resolver.TrustAnchor, "trust_anchor")},
		{"queue.max_age", longerThan(c.Queue.MaxAge, 0)},
		{"queue.warn_after", longerThan(c.Queue.WarnAfter, 0)},
		{"queue.max_message_mb", within(c.Queue.MaxMessageMB, 1, maxMB)},
		{"queue.min_free_mb", within(c.Queue.MinFreeMB, 0, maxMB)},
		{"queue.retry_first", longerThan(c.Queue.RetryFirst, 0)},
		{"queue.retry_max", longerThan(c.Queue.RetryMax, c.Queue.RetryFirst-1)},
		{"deliver.tls", oneOf(c.Deliver.TLS, tlsLevels[:len(tlsLevels)-1]...)},
		{"deliver.port", within(c.Deliver.Port, 1, 65535)},
		{"deliver.connections", within(c.Deliver.Connections, 1, 10000)},
		{"deliver.connections_per_destination", within(c.Deliver.ConnectionsPerDestination, 1, 10000)},
		{"deliver.source_ipv4", ifSet(c.Deliver.SourceIPv4, func(s string) error { return family(s, netip.Addr.Is4, "IPv4") })},
		{"deliver.source_ipv6", ifSet(c.Deliver.SourceIPv6, func(s string) error { return family(s, netip.Addr.Is6, "IPv6") })},
		{"relay.port", needs(portWord(c.Relay.Port), c.Relay.Host, "host")},
		{"relay.username", needs(c.Relay.Username, c.Relay.Host, "host")},
		{"relay.username", needs(c.Relay.Username, c.Relay.PasswordFile, "password_file")},
		{"relay.password_file", needs(c.Relay.PasswordFile, c.Relay.Username, "username")},
		{"relay.host", ifSet(c.Relay.Host, hostname)},
		{"rewrite.qualify_domain", ifSet(c.Rewrite.QualifyDomain, hostname)},
		{"resolver.listen_allow", networks(c.Resolver.ListenAllow)},
		{"submission.allow", networks(c.Submission.Allow)},
		{"submission.listen", ifSet(c.Submission.Listen, listenAddr)},
		{"submission.tls_cert", needs(c.Submission.TLSCert, c.Submission.TLSKey, "tls_key")},
		{"submission.tls_key", needs(c.Submission.TLSKey, c.Submission.TLSCert, "tls_cert")},
		{"submission.users_file", needs(c.Submission.UsersFile, c.Submission.TLSCert, "tls_cert: AUTH is offered over TLS only")},
		{"metrics.listen", ifSet(c.Metrics.Listen, listenAddr)},
	}
	for _, ck := range checks {
		if ck.err != nil {
			key := toml.Key(strings.Split(ck.key, "."))
			return fmt.Errorf("%s: %s: %w", c.at(data, key), ck.key, ck.err)
		}
	}
	return c.validatePolicies(data)
}

// validatePolicies checks each [[policy]], and that no two are for one domain.
func (c *Config) validatePolicies(data []byte) error {
	lines := policyLines(data)
	seen := map[string]bool{}
	for i, p := range c.Policy {
		dc, err := deliverRules(&Config{Deliver: c.Deliver, Policy: []PolicyConfig{p}})
		if err == nil {
			name := dc.Policies[0].Domain
			if seen[name] {
				err = fmt.Errorf("policy %q: there are two of them", p.Domain)
			}
			seen[name] = true
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", c.File, lines(i), err)
		}
	}
	return nil
}

// policyLines are the lines on which the policies begin. Those that are
// written as an inline list count as standing on its line.
func policyLines(data []byte) func(i int) int {
	var begin []int
	for i, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.Join(strings.Fields(line), "") == "[[policy]]" {
			begin = append(begin, i+1)
		}
	}
	return func(i int) int {
		if i < len(begin) {
			return begin[i]
		}
		return lineOf(data, toml.Key{"policy"})
	}
}

func (c *Config) at(data []byte, key toml.Key) string {
	if c.File == "" {
		return "configuration"
	}
	return fmt.Sprintf("%s:%d", c.File, lineOf(data, key))
}

// socketPath leaves room in the 107 bytes of a socket's address for the name
// under which it is made.
func socketPath(s string) error {
	if len(s) > 98 {
		return fmt.Errorf("%s is longer than the 98 bytes a socket's path may have; set a shorter one", s)
	}
	return nil
}

func oneOf(v string, words ...string) error {
	if slices.Contains(words, v) {
		return nil
	}
	return fmt.Errorf("%q is not one of %s", v, strings.Join(words, ", "))
}

// maxMB bounds sizes so that they can be counted in bytes, with room to spare.
const maxMB = 1 << 30

func within[T int | uint16](v, low, high T) error {
	switch {
	case v < low:
		return fmt.Errorf("%d is too small; at least %d", v, low)
	case v > high:
		return fmt.Errorf("%d is too large; at most %d", v, high)
	}
	return nil
}

func longerThan(d, low Duration) error {
	switch {
	case d > low:
		return nil
	case low > 0:
		return fmt.Errorf("it is shorter than retry_first")
	}
	return fmt.Errorf("it must be longer than nothing")
}

func ifSet(v string, check func(string) error) error {
	if v == "" {
		return nil
	}
	return check(v)
}

func networks(list []string) error {
	_, err := parseNetworks(list)
	return err
}

// parseNetworks reads networks in prefix notation.
func parseNetworks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is no network; write it like \"192.168.1.0/24\"", s)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func needs(v, other, name string) error {
	if v != "" && other == "" {
		return fmt.Errorf("it needs %s", name)
	}
	return nil
}

func portWord(p uint16) string {
	if p == 0 {
		return ""
	}
	return fmt.Sprint(p)
}

// listenAddr checks "ip:port" for a listener.
func listenAddr(s string) error {
	if _, err := netip.ParseAddrPort(s); err != nil {
		return fmt.Errorf("%q is no listening address; write it like \"127.0.0.1:25\"", s)
	}
	return nil
}

func family(s string, is func(netip.Addr) bool, word string) error {
	if ip, err := netip.ParseAddr(s); err != nil || !is(ip) {
		return fmt.Errorf("%q is no %s address", s, word)
	}
	return nil
}

func hostname(s string) error {
	if s == "" || len(s) > 253 || strings.ContainsAny(s, " \t\r\n@/:<>\"") {
		return fmt.Errorf("%q is no host name", s)
	}
	return nil
}

func mailbox(s string) error {
	if s == "" {
		return nil
	}
	if at := strings.LastIndexByte(s, '@'); at < 1 || hostname(s[at+1:]) != nil || strings.ContainsAny(s, " \r\n") {
		return fmt.Errorf("%q is no address; write it like \"admin@example.com\"", s)
	}
	return nil
}
