package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"danepost/deliver"
	"danepost/queue"
	"danepost/queue/submit"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// resolverConfig turns [resolver] into what package resolver takes, all but
// the anchors.
func resolverConfig(c *Config, log *slog.Logger) (resolver.Config, error) {
	rc := resolver.Config{Port: c.Resolver.Port, CacheBytes: c.Resolver.CacheMB << 20, Log: log}
	rc.Rules = dnssec.DefaultRules(c.Resolver.SHA1 == "validate")
	if n := c.Resolver.NSEC3MaxIterations; n != nil {
		rc.Rules.MaxNSEC3Iterations = *n
	}
	var err error
	if rc.NegativeAnchors, err = domainNames("resolver.negative_trust_anchors", c.Resolver.NegativeTrustAnchors); err != nil {
		return rc, err
	}
	if rc.ClockNames, err = domainNames("resolver.time_servers", c.Resolver.TimeServers); err != nil {
		return rc, err
	}
	if file := c.Resolver.RootHints; file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return rc, fmt.Errorf("resolver.root_hints: %w", err)
		}
		if rc.Hints, err = resolver.ParseHints(data, file); err != nil {
			return rc, err
		}
		// Root servers on loopback addresses are a network of one's own:
		// then its other servers may be there as well.
		rc.AskLoopback = anyLoopback(rc.Hints)
	}
	rc.Listen, _ = netip.ParseAddrPort(c.Resolver.Listen)
	switch c.Resolver.Forward.Mode {
	case "list":
		rc.Forward, rc.ForwardTo = resolver.ForwardAlways, c.Resolver.Forward.Servers
	case "auto":
		rc.Forward = resolver.ForwardAuto
		if data, err := os.ReadFile("/etc/resolv.conf"); err == nil {
			rc.ForwardTo = resolver.ParseResolvConf(data)
		}
	}
	return rc, nil
}

func domainNames(key string, list []string) ([]dnssec.Name, error) {
	var out []dnssec.Name
	for _, s := range list {
		name, err := dnssec.ParseName(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", key, s, err)
		}
		out = append(out, name)
	}
	return out, nil
}

func anyLoopback(hints []resolver.Nameserver) bool {
	for _, h := range hints {
		for _, a := range h.Addrs {
			if a.IsLoopback() {
				return true
			}
		}
	}
	return false
}

// deliverConfig is deliverRules with the passwords. Who may not read the
// system's configuration does not know its policies, and delivers nothing.
func deliverConfig(c *Config, log *slog.Logger) (deliver.Config, error) {
	if c.unread != nil {
		return deliver.Config{}, c.unread
	}
	dc, err := deliverRules(c)
	if err != nil {
		return dc, err
	}
	dc.Log = log
	for i, p := range c.Policy {
		if dc.Policies[i].Password, err = readPassword(p.PasswordFile); err != nil {
			return dc, fmt.Errorf("policy %q: %w", p.Domain, err)
		}
	}
	if dc.Relay != nil {
		if dc.Relay.Password, err = readPassword(c.Relay.PasswordFile); err != nil {
			return dc, fmt.Errorf("relay: %w", err)
		}
	}
	return dc, nil
}

// deliverRules turns [deliver], [[policy]] and [relay] into what package
// deliver takes. It reads no files: every caller of sendmail gets here, and
// passwords are not for them.
func deliverRules(c *Config) (deliver.Config, error) {
	t := c.Deliver.Timeouts
	dc := deliver.Config{
		Hostname: c.Hostname, Port: c.Deliver.Port,
		Connections: c.Deliver.Connections, ConnectionsPerDestination: c.Deliver.ConnectionsPerDestination,
		Timeouts: deliver.Timeouts{
			Connect: time.Duration(t.Connect), Greeting: time.Duration(t.Greeting), EHLO: time.Duration(t.EHLO),
			STARTTLS: time.Duration(t.STARTTLS), Mail: time.Duration(t.Mail), RCPT: time.Duration(t.Rcpt),
			Data: time.Duration(t.Data), Block: time.Duration(t.Block), Dot: time.Duration(t.Dot),
		},
		IPv6: new(families).ipv6, Postmaster: c.Postmaster, MaxAge: time.Duration(c.Queue.MaxAge),
	}
	dc.Own = ownAddresses(c.Submission.Listen)
	dc.SourceIPv4, _ = netip.ParseAddr(c.Deliver.SourceIPv4)
	dc.SourceIPv6, _ = netip.ParseAddr(c.Deliver.SourceIPv6)
	var err error
	if dc.TLS, err = deliver.ParseLevel(c.Deliver.TLS); err != nil {
		return dc, err
	}
	if file := c.Deliver.CAFile; file != "" {
		dc.Roots = func() (*x509.CertPool, error) { return rootsFrom(file) }
	}
	for _, p := range c.Policy {
		policy, err := deliverPolicy(p)
		if err != nil {
			return dc, err
		}
		dc.Policies = append(dc.Policies, policy)
	}
	if c.Relay.Host != "" {
		dc.Relay = &deliver.Relay{Host: c.Relay.Host, Port: c.Relay.Port, Username: c.Relay.Username}
	}
	return dc, dc.Validate()
}

// ownAddresses are the places where listen takes mail: with 0.0.0.0 or [::]
// every address of the host.
func ownAddresses(listen string) []netip.AddrPort {
	own, err := netip.ParseAddrPort(listen)
	if err != nil {
		return nil
	}
	if !own.Addr().IsUnspecified() {
		return []netip.AddrPort{own}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, netip.AddrPortFrom(prefix.Addr(), own.Port()))
		}
	}
	return out
}

func deliverPolicy(p PolicyConfig) (deliver.Policy, error) {
	out := deliver.Policy{Domain: p.Domain, Fingerprints: p.Fingerprints, Via: p.Via, Username: p.Username}
	bare, below := strings.CutPrefix(p.Domain, ".")
	if bare == "" {
		return out, fmt.Errorf("policy %q: domain is missing", p.Domain)
	}
	name, err := submit.ASCIIDomain(bare)
	if err != nil {
		return out, fmt.Errorf("policy %q: %w", p.Domain, err)
	}
	out.Domain = or(below, ".", "") + strings.ToLower(name)
	if p.PasswordFile != "" && p.Username == "" {
		return out, fmt.Errorf("policy %q: password_file needs username", p.Domain)
	}
	if p.TLS != "" {
		if out.TLS, err = deliver.ParseLevel(p.TLS); err != nil {
			return out, fmt.Errorf("policy %q: %w", p.Domain, err)
		}
	}
	return out, nil
}

func rootsFrom(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// readPassword returns the first line of file; no file, no password.
func readPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// gatePolicy turns [rewrite] and the limits into what the gate applies.
func gatePolicy(c *Config) submit.Policy {
	return submit.Policy{
		Hostname: c.Hostname, QualifyDomain: c.Rewrite.QualifyDomain, Postmaster: c.Postmaster,
		AliasFile: c.Rewrite.Aliases, RewriteSender: c.Rewrite.Sender, RewriteFrom: c.Rewrite.From,
		MaxSize: int64(c.Queue.MaxMessageMB) << 20, MinFree: int64(c.Queue.MinFreeMB) << 20,
		SpoolDir: c.StateDir, ConfigFile: or(c.File != "", c.File, defaultConfigFile),
	}
}

// queueOptions turns [queue] into what package queue takes.
func queueOptions(c *Config, log *slog.Logger) queue.Options {
	return queue.Options{
		Dir: c.StateDir, Log: log,
		MaxAge: time.Duration(c.Queue.MaxAge), WarnAfter: time.Duration(c.Queue.WarnAfter),
		RetryFirst: time.Duration(c.Queue.RetryFirst), RetryMax: time.Duration(c.Queue.RetryMax),
		// The gate measures the body as it was written; what it accepted may
		// be larger when its header is complete and its long lines encoded,
		// and must not be refused behind its writer's back.
		MinFree:     int64(c.Queue.MinFreeMB) << 20,
		Connections: c.Deliver.Connections, PerDestination: c.Deliver.ConnectionsPerDestination,
	}
}

// openQueue opens the queue; where it fails the error carries the exit code.
func openQueue(c *Config, log *slog.Logger) (*queue.Queue, error) {
	q, err := queue.Open(queueOptions(c, log))
	switch {
	case err == nil:
		return q, nil
	case errors.Is(err, queue.ErrLocked):
		return nil, &submit.Error{Code: submit.ExitTempFail, Err: err, Text: "cannot open the queue"}
	case errors.Is(err, queue.ErrUnsuitable), errors.Is(err, queue.ErrDamaged):
		return nil, &submit.Error{Code: submit.ExitConfig, Err: err, Text: "cannot open the queue"}
	case errors.Is(err, fs.ErrPermission):
		return nil, &submit.Error{Code: submit.ExitNoPerm, Err: err, Text: "cannot open the queue"}
	}
	return nil, submit.CannotCreate("cannot open the queue", err)
}
