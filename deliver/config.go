package deliver

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Config is how mail is carried. Treat it as read-only once New has it.
type Config struct {
	Hostname string // what EHLO says and what routes to ourselves are known by
	Port     uint16 // of receivers found by MX; 0 = 25

	// The addresses to send from, per family; the zero Addr leaves the choice
	// to the operating system.
	SourceIPv4, SourceIPv6 netip.Addr
	// Own holds the places where this program itself takes mail: an MX there
	// is a loop. A Port of 0 stands for every port.
	Own []netip.AddrPort

	Timeouts Timeouts // zero fields take the default
	// Idle connections kept for the next message, in all and to one
	// destination; 0 = 50 and 5.
	Connections, ConnectionsPerDestination int

	TLS      Level                          // for domains without a policy; the zero value is LevelDefault = dane
	Roots    func() (*x509.CertPool, error) // trust anchors of level verify; nil = those of the host
	Policies []Policy
	Relay    *Relay // everything goes there, except what a policy sends elsewhere

	MaxAge     time.Duration // how long the queue tries, for the words of notices; 0 = not said
	Postmaster string        // takes bounces of bounces; "" = they are held

	// IPv6 tells whether this host has an IPv6 address to send from; nil = it
	// has. It is asked for each host, from many goroutines.
	IPv6 func() bool
	// Dial opens connections; nil = net.Dialer from the source addresses. It
	// must return soon after ctx is done.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() time.Time // nil = time.Now
	Log  *slog.Logger     // nil = no log
}

// Policy is what a site demands for mail to one domain.
type Policy struct {
	Domain       string // A-labels; ".suffix" is every domain below it, not itself
	TLS          Level
	Fingerprints []string // SHA-256 or SHA-512 of the certificate or its public key (SPKI), hex, colons allowed
	Via          string   // "host:port" instead of the MX records
	Username     string
	Password     string
}

// Relay is a smarthost.
type Relay struct {
	Host               string
	Port               uint16 // 0 = 587
	Username, Password string
}

// Timeouts bounds each step of a session. The defaults are those of RFC 5321
// §4.5.3.2 where it has one.
type Timeouts struct {
	Connect, Greeting, EHLO, STARTTLS time.Duration
	Mail, RCPT, Data, Block, Dot      time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		have *time.Duration
		want time.Duration
	}{
		{&t.Connect, 30 * time.Second},
		{&t.Greeting, 5 * time.Minute}, // RFC 5321 §4.5.3.2.1
		{&t.EHLO, 5 * time.Minute},
		{&t.STARTTLS, 2 * time.Minute},
		{&t.Mail, 5 * time.Minute},  // RFC 5321 §4.5.3.2.2
		{&t.RCPT, 5 * time.Minute},  // RFC 5321 §4.5.3.2.3
		{&t.Data, 2 * time.Minute},  // RFC 5321 §4.5.3.2.4
		{&t.Block, 3 * time.Minute}, // RFC 5321 §4.5.3.2.5
		{&t.Dot, 10 * time.Minute},  // RFC 5321 §4.5.3.2.6
	} {
		if *f.have <= 0 {
			*f.have = f.want
		}
	}
	return t
}

// Level is how much a connection must have proved before it carries mail.
type Level uint8

const (
	LevelDefault     Level = iota // not said: Config.TLS, else dane
	LevelNone                     // never TLS
	LevelMay                      // TLS where offered, nobody verified
	LevelEncrypt                  // TLS or nothing, nobody verified
	LevelDANE                     // what the TLSA records say (RFC 7672), may without them
	LevelDANEOnly                 // usable TLSA records or nothing
	LevelVerify                   // Web PKI and the name
	LevelFingerprint              // the certificate or key is one of a list
)

var levelWords = [...]string{"default", "none", "may", "encrypt", "dane", "dane-only", "verify", "fingerprint"}

// String returns the word used in the configuration.
func (l Level) String() string {
	if int(l) < len(levelWords) {
		return levelWords[l]
	}
	return fmt.Sprintf("level-%d", uint8(l))
}

// ParseLevel reads a word of the configuration.
func ParseLevel(s string) (Level, error) {
	for i, w := range levelWords[1:] {
		if s == w {
			return Level(i + 1), nil
		}
	}
	return LevelDefault, fmt.Errorf("tls level %q is none of %s", s, strings.Join(levelWords[1:], ", "))
}

// Validate says what is wrong with a configuration, in words for its author.
func (c *Config) Validate() error {
	if c.TLS == LevelFingerprint {
		return fmt.Errorf("deliver.tls: fingerprint needs fingerprints, so it stands only in a policy")
	}
	if c.SourceIPv4.IsValid() && !c.SourceIPv4.Unmap().Is4() {
		return fmt.Errorf("deliver.source_ipv4: %s is not an IPv4 address", c.SourceIPv4)
	}
	if c.SourceIPv6.IsValid() && !c.SourceIPv6.Is6() {
		return fmt.Errorf("deliver.source_ipv6: %s is not an IPv6 address", c.SourceIPv6)
	}
	for _, p := range c.Policies {
		if err := p.validate(); err != nil {
			return fmt.Errorf("policy %q: %w", p.Domain, err)
		}
	}
	if c.Relay != nil && c.Relay.Host == "" {
		return fmt.Errorf("relay: host is missing")
	}
	return nil
}

func (p *Policy) validate() error {
	if strings.Trim(p.Domain, ".") == "" {
		return fmt.Errorf("domain is missing")
	}
	for _, f := range p.Fingerprints {
		if _, err := parseFingerprint(f); err != nil {
			return err
		}
	}
	switch {
	case p.TLS == LevelFingerprint && len(p.Fingerprints) == 0:
		return fmt.Errorf("tls = \"fingerprint\" needs fingerprints")
	case p.TLS != LevelFingerprint && len(p.Fingerprints) > 0:
		return fmt.Errorf("fingerprints need tls = \"fingerprint\"")
	case p.Username != "" && p.Via == "":
		return fmt.Errorf("username needs via: a password is never sent to a host that the DNS names")
	case p.Username != "" && p.TLS != LevelDefault && p.TLS < LevelDANE:
		return fmt.Errorf("username needs a tls level that verifies the host, not %q", p.TLS)
	}
	if p.Via != "" {
		if _, _, err := splitVia(p.Via); err != nil {
			return err
		}
	}
	return nil
}
