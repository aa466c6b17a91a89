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
		{"resolver.sha1", oneOf(c.Resolver.SHA1, "insecure", "validate")},
		{"resolver.listen", ifSet(c.Resolver.Listen, listenAddr)},
		{"resolver.cache_mb", atLeast(c.Resolver.CacheMB, 1)},
		{"resolver.trust_anchor_signature", needs(c.Resolver.TrustAnchorSignature, c.Resolver.TrustAnchor, "trust_anchor")},
		{"queue.max_message_mb", atLeast(c.Queue.MaxMessageMB, 1)},
		{"queue.min_free_mb", atLeast(c.Queue.MinFreeMB, 0)},
		{"deliver.tls", oneOf(c.Deliver.TLS, tlsLevels[:len(tlsLevels)-1]...)},
		{"deliver.connections", atLeast(c.Deliver.Connections, 1)},
		{"deliver.connections_per_destination", atLeast(c.Deliver.ConnectionsPerDestination, 1)},
		{"deliver.source_ipv4", ifSet(c.Deliver.SourceIPv4, func(s string) error { return family(s, netip.Addr.Is4, "IPv4") })},
		{"deliver.source_ipv6", ifSet(c.Deliver.SourceIPv6, func(s string) error { return family(s, netip.Addr.Is6, "IPv6") })},
		{"relay.port", needs(portWord(c.Relay.Port), c.Relay.Host, "host")},
		{"relay.username", needs(c.Relay.Username, c.Relay.Host, "host")},
		{"relay.username", needs(c.Relay.Username, c.Relay.PasswordFile, "password_file")},
		{"rewrite.qualify_domain", ifSet(c.Rewrite.QualifyDomain, hostname)},
		{"resolver.listen_allow", networks(c.Resolver.ListenAllow)},
		{"submission.allow", networks(c.Submission.Allow)},
		{"submission.listen", ifSet(c.Submission.Listen, listenAddr)},
		{"submission.tls_cert", needs(c.Submission.TLSCert, c.Submission.TLSKey, "tls_key")},
		{"submission.users_file", needs(c.Submission.UsersFile, c.Submission.TLSCert, "tls_cert: AUTH is offered over TLS only")},
		{"metrics.listen", ifSet(c.Metrics.Listen, listenAddr)},
	}
	for _, ck := range checks {
		if ck.err != nil {
			key := toml.Key(strings.Split(ck.key, "."))
			return fmt.Errorf("%s: %s: %w", c.at(data, key), ck.key, ck.err)
		}
	}
	if _, err := deliverConfig(c, nil); err != nil {
		return fmt.Errorf("%s: %w", c.at(data, toml.Key{"policy"}), err)
	}
	return nil
}

func (c *Config) at(data []byte, key toml.Key) string {
	if c.File == "" {
		return "configuration"
	}
	return fmt.Sprintf("%s:%d", c.File, lineOf(data, key))
}

func oneOf(v string, words ...string) error {
	if slices.Contains(words, v) {
		return nil
	}
	return fmt.Errorf("%q is not one of %s", v, strings.Join(words, ", "))
}

func atLeast(v, low int) error {
	if v < low {
		return fmt.Errorf("%d is too small; at least %d", v, low)
	}
	return nil
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
