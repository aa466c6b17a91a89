package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Settings is what a scenario's configuration asks of the resolver, in terms
// that do not depend on the dialect.
type Settings struct {
	Hints   []netip.Addr // root servers
	Stubs   []Stub       // delegations that are known from the start
	Forward []netip.Addr // forwarding mode when not empty

	Anchors  []RR // DS and DNSKEY records
	Insecure []string

	// Date is the time that signatures are checked at; zero: the scenario's
	// clock since 1970. AnyDate: validity periods are not looked at.
	Date    time.Time
	AnyDate bool

	Minimise       bool
	FakeSHA1       bool // algorithms 3, 5, 6, 7: any signature that is not empty
	IPv4, IPv6     bool
	QueryLocalhost bool
	// Seconds; -1: the resolver's own.
	CacheMinTTL, CacheMaxTTL, CacheMaxNegativeTTL, BogusTTL int
	// Counts; -1: the resolver's own.
	BogusRestarts, Restarts, ScrubNS int
	HardenGlue                       bool
	HardenNXDOMAIN                   bool
	HardenStripped                   bool
	HardenAlgorithms                 bool
	AggressiveNSEC                   bool

	Wants []Feature // things that a mail resolver does without

	iterations []iterationLimit // ascending key sizes
}

// iterationLimit is how many NSEC3 iterations are looked at for keys of up to
// so many bits.
type iterationLimit struct{ bits, count int }

// Stub is a zone whose servers the configuration names.
type Stub struct {
	Zone    string
	Servers []netip.Addr
}

// Feature is something that a scenario is about and that danepost's resolver
// does not have on purpose.
type Feature string

const (
	ServeStale    Feature = "serve-stale"
	Prefetch      Feature = "prefetch"
	Policy        Feature = "rpz-like-policy"
	UpstreamOrder Feature = "exact-upstream-order"
)

// Settings reads the options. An unknown one is an error.
func (s *Scenario) Settings() (*Settings, error) {
	c := &Settings{
		Minimise: true, IPv4: true, IPv6: true, CacheMinTTL: -1, CacheMaxTTL: -1, CacheMaxNegativeTTL: -1, BogusTTL: -1,
		BogusRestarts: -1, Restarts: -1, ScrubNS: -1,
		HardenGlue: true, HardenNXDOMAIN: true, HardenStripped: true,
	}
	zones := map[int]*Stub{} // by clause
	for _, o := range s.Options {
		if err := c.option(o, zones); err != nil {
			return nil, syntaxError(s.File, o.Line, "%s: %v", o.Key, err)
		}
	}
	if slices.ContainsFunc(s.Steps, func(st Step) bool {
		return st.Kind == CheckOutQuery || st.Kind == Reply || st.Kind == Timeout
	}) {
		c.want(UpstreamOrder)
	}
	if err := c.zones(s.Options, zones); err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, err)
	}
	for _, hint := range c.Hints {
		c.QueryLocalhost = c.QueryLocalhost || hint.IsLoopback()
	}
	return c, nil
}

func (c *Settings) want(f Feature) {
	if !slices.Contains(c.Wants, f) {
		c.Wants = append(c.Wants, f)
	}
}

// zones sorts the stub and forward clauses into hints, stubs and forwarders.
func (c *Settings) zones(options []Option, zones map[int]*Stub) error {
	kinds := map[int]string{}
	var order []int
	for _, o := range options {
		if zones[o.Clause] != nil && kinds[o.Clause] == "" {
			kinds[o.Clause] = o.Kind
			order = append(order, o.Clause)
		}
	}
	for _, clause := range order {
		z := zones[clause]
		switch {
		case kinds[clause] == "forward-zone" && z.Zone == ".":
			c.Forward = append(c.Forward, z.Servers...)
		case kinds[clause] == "forward-zone":
			return fmt.Errorf("forward-zone %q: only the root can be forwarded", z.Zone)
		case z.Zone == ".":
			c.Hints = append(c.Hints, z.Servers...)
		default:
			c.Stubs = append(c.Stubs, *z)
		}
	}
	return nil
}

// option applies one option.
func (c *Settings) option(o Option, zones map[int]*Stub) error {
	if idle[o.Key] {
		return nil
	}
	if f := c.flag(o.Key); f != nil {
		return setBool(f, o.Value)
	}
	if n := c.number(o.Key); n != nil {
		var err error
		*n, err = strconv.Atoi(o.Value)
		return err
	}
	if f, wanted := features[o.Key]; wanted {
		var on bool
		if err := setBool(&on, o.Value); err != nil {
			return err
		}
		if on {
			c.want(f)
		}
		return nil
	}
	switch o.Kind {
	case "rpz", "auth-zone", "view":
		c.want(Policy)
		return nil
	case "stub-zone", "forward-zone":
		return zoneOption(o, zones)
	}
	return c.value(o)
}

// flag is the setting that a yes-or-no option stands for.
func (c *Settings) flag(key string) *bool {
	return map[string]*bool{
		"qname-minimisation": &c.Minimise, "query-minimization": &c.Minimise,
		"fake-sha1": &c.FakeSHA1, "do-ip4": &c.IPv4, "do-ip6": &c.IPv6,
		"harden-glue": &c.HardenGlue, "harden-below-nxdomain": &c.HardenNXDOMAIN,
		"harden-dnssec-stripped": &c.HardenStripped, "harden-algo-downgrade": &c.HardenAlgorithms,
		"aggressive-nsec": &c.AggressiveNSEC,
	}[key]
}

// number is the setting that a numeric option stands for.
func (c *Settings) number(key string) *int {
	return map[string]*int{
		"cache-min-ttl": &c.CacheMinTTL, "cache-max-ttl": &c.CacheMaxTTL, "cache-max-negative-ttl": &c.CacheMaxNegativeTTL,
		"val-bogus-ttl": &c.BogusTTL, "val-max-restart": &c.BogusRestarts, "max-query-restarts": &c.Restarts,
		"iter-scrub-ns": &c.ScrubNS,
	}[key]
}

// features are yes-or-no options that ask for what is not wanted.
var features = map[string]Feature{
	"serve-expired": ServeStale, "prefetch": Prefetch, "prefetch-key": Prefetch,
}

// idle options change nothing that a scenario checks here: logging, the
// layout of answers, who may ask, and work that is not visible in an answer.
var idle = map[string]bool{
	"target-fetch-policy": true, "trust-anchor-signaling": true, "root-key-sentinel": true, "minimal-responses": true,
	"iter-scrub-promiscuous": true, "iter-scrub-cname": true,
	"ede": true, "ede-serve-expired": true, "access-control": true,
	"log-time-ascii": true, "log-servfail": true, "log-queries": true, "log-replies": true, "verbosity": true, "val-log-level": true,
	"rrset-roundrobin": true, "serve-expired-client-timeout": true, "serve-expired-reply-ttl": true,
	"serve-expired-ttl": true, "serve-expired-ttl-reset": true, "harden-referral-path": true, "harden-unverified-glue": true,
	"harden-short-bufsize": true, "harden-large-queries": true, "harden-unknown-additional": true,
	"use-caps-for-id": true, "directory": true, "discard-timeout": true,
	"outbound-msg-retry": true, "max-global-quota": true, "max-sent-count": true,
	"infra-cache-min-rtt": true, "infra-keep-probing": true, "infra-host-ttl": true, "fast-server-permil": true, "low-rtt": true,
	"msg-cache-size": true, "rrset-cache-size": true, "key-cache-size": true, "neg-cache-size": true,
	"edns-buffer-size": true, "max-udp-size": true, "num-threads": true, "unknown-server-time-limit": true,
	"delay-close": true, "unblock-lan-zones": true, "insecure-lan-zones": true, "do-udp": true, "do-tcp": true,
	"val-clean-additional": true, "force-ipv6": true, "caps-exempt": true, "caps-whitelist": true,
	"interface": true, "port": true, "chroot": true, "username": true, "pidfile": true, "logfile": true, "use-syslog": true,
	"statistics-interval": true, "extended-statistics": true, "hide-identity": true, "hide-version": true,
	"msg-cache-slabs": true, "rrset-cache-slabs": true, "key-cache-slabs": true, "infra-cache-slabs": true, "infra-cache-numhosts": true,
	"infra-cache-max-rtt": true, "infra-lame-ttl": true, "fast-server-num": true, "disable-dnssec-lame-check": true, "val-sig-skew-min": true, "val-sig-skew-max": true,
	"ratelimit": true, "ip-ratelimit": true, "wait-limit": true, "wait-limit-cookie": true, "so-reuseport": true, "so-rcvbuf": true, "so-sndbuf": true,
	"identity": true, "version": true, "hide-trustanchor": true, "hide-http-user-agent": true, "log-identity": true, "log-local-actions": true, "log-tag-queryreply": true,
	"edns-tcp-keepalive": true, "edns-tcp-keepalive-timeout": true, "tcp-idle-timeout": true, "tcp-reuse-timeout": true, "tcp-auth-query-timeout": true,
	"udp-connect": true, "unwanted-reply-threshold": true, "outgoing-interface": true, "msg-buffer-size": true, "stream-wait-size": true, "do-daemonize": true,
	"do-not-query-address": true, "statistics-cumulative": true, "qname-minimisation-strict": true, "max-reuse-tcp-queries": true,
	"outgoing-range": true, "outgoing-num-tcp": true, "incoming-num-tcp": true, "num-queries-per-thread": true, "jostle-timeout": true, "deny-any": true,
}

// value applies the options that are neither flags nor clauses.
func (c *Settings) value(o Option) error {
	switch o.Key {
	case "trust-anchor":
		record, _ := logicalLine([]string{o.Value}, 0)
		rr, err := parseRecord("", record)
		c.Anchors = append(c.Anchors, rr)
		return err
	case "val-override-date", "val-override-timestamp":
		return c.date(o.Value)
	case "domain-insecure":
		c.Insecure = append(c.Insecure, o.Value)
	case "val-nsec3-keysize-iterations":
		return c.limitIterations(o.Value)
	case "module-config":
		return c.modules(o.Value)
	case "do-not-query-localhost":
		var dont bool
		err := setBool(&dont, o.Value)
		c.QueryLocalhost = !dont
		return err
	case "local-zone":
		// "nodefault" only takes a built-in zone away.
		if !strings.HasSuffix(o.Value, " nodefault") {
			c.want(Policy)
		}
	case "local-data", "private-address", "private-domain":
		c.want(Policy)
	case "stub-name", "stub-addr", "forward-addr", "forward-name":
		// Deckard names servers as bare options: the root's unless a name
		// went before.
		return c.deckardZone(o)
	default:
		return fmt.Errorf("unknown option")
	}
	return nil
}

func (c *Settings) deckardZone(o Option) error {
	if strings.HasSuffix(o.Key, "-name") {
		// The name is that of the server, not of a zone: in this dialect
		// the servers are always the root's.
		return nil
	}
	addr, err := parseAddress(o.Value)
	if err != nil {
		return err
	}
	if o.Key == "forward-addr" {
		c.Forward = append(c.Forward, addr)
	} else {
		c.Hints = append(c.Hints, addr)
	}
	return nil
}

func zoneOption(o Option, zones map[int]*Stub) error {
	z := zones[o.Clause]
	if z == nil {
		z = &Stub{}
		zones[o.Clause] = z
	}
	switch o.Key {
	case "name":
		z.Zone = o.Value
		if z.Zone != "." && !strings.HasSuffix(z.Zone, ".") {
			z.Zone += "."
		}
	case "stub-addr", "forward-addr":
		addr, err := parseAddress(o.Value)
		z.Servers = append(z.Servers, addr)
		return err
	case "stub-prime", "stub-first", "forward-first", "stub-no-cache", "forward-no-cache":
	default:
		return fmt.Errorf("unknown option")
	}
	return nil
}

// date reads YYYYMMDDHHMMSS, seconds since 1970, or -1 for "any".
func (c *Settings) date(s string) error {
	if s == "-1" {
		c.AnyDate = true
		return nil
	}
	if len(s) == len("20060102150405") {
		var err error
		c.Date, err = time.Parse("20060102150405", s)
		return err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	c.Date = time.Unix(n, 0).UTC()
	return err
}

// limitIterations reads "bits count bits count ...".
func (c *Settings) limitIterations(s string) error {
	words := strings.Fields(s)
	if len(words) == 0 || len(words)%2 != 0 {
		return fmt.Errorf("pairs of numbers expected")
	}
	for i := 0; i < len(words); i += 2 {
		bits, err1 := strconv.Atoi(words[i])
		count, err2 := strconv.Atoi(words[i+1])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		c.iterations = append(c.iterations, iterationLimit{bits, count})
	}
	return nil
}

func setBool(b *bool, s string) error {
	switch s {
	case "yes", "on", "true":
		*b = true
	case "no", "off", "false":
		*b = false
	default:
		return fmt.Errorf("yes or no expected, not %q", s)
	}
	return nil
}

// modules reads the list of what a question passes through.
func (c *Settings) modules(list string) error {
	for _, m := range strings.Fields(list) {
		switch m {
		case "validator", "iterator":
		case "respip":
			c.want(Policy)
		default:
			return fmt.Errorf("unknown module %q", m)
		}
	}
	return nil
}

// NSEC3Limit is the iteration limit that holds for the scenario's keys, or
// otherwise where the configuration does not set one.
func (c *Settings) NSEC3Limit(s *Scenario, otherwise int) int {
	if len(c.iterations) == 0 {
		return otherwise
	}
	bits := 0
	for _, r := range s.Ranges {
		for _, e := range r.Entries {
			for _, rr := range e.Answer {
				if rr.Type == dns.TypeDNSKEY {
					bits = max(bits, keyBits(rr.Data))
				}
			}
		}
	}
	for _, l := range c.iterations {
		if bits <= l.bits {
			return l.count
		}
	}
	return c.iterations[len(c.iterations)-1].count
}

// keyBits is the size of an RSA modulus (RFC 3110 §2) or of a DSA prime
// (RFC 2536 §2) in a DNSKEY RDATA; 0 for other algorithms.
func keyBits(rdata []byte) int {
	if len(rdata) < 7 {
		return 0
	}
	key := rdata[4:]
	switch rdata[3] {
	case 3, 6:
		return 512 + 64*int(key[0])
	case 5, 7, 8, 10:
		skip := 1 + int(key[0])
		if key[0] == 0 {
			skip = 3 + int(key[1])<<8 + int(key[2])
		}
		return 8 * (len(key) - skip)
	}
	return 0
}

// DateOfAll returns a time at which every signature of the scenario is valid.
func (s *Scenario) DateOfAll() (time.Time, error) {
	var from, until uint32 = 0, 1<<32 - 1
	for _, r := range s.Ranges {
		for _, e := range r.Entries {
			for _, rr := range slices.Concat(e.Answer, e.Authority, e.Additional) {
				if rr.Type == dns.TypeRRSIG && len(rr.Data) > 18 {
					until = min(until, binary.BigEndian.Uint32(rr.Data[8:]))
					from = max(from, binary.BigEndian.Uint32(rr.Data[12:]))
				}
			}
		}
	}
	if from > until {
		return time.Time{}, fmt.Errorf("%s: no date fits all signatures", s.File)
	}
	return time.Unix(int64(from)+int64(until-from)/2, 0).UTC(), nil
}
