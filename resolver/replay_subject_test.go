package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab/replay"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// subject is the resolver as a scenario's player sees it.
type subject struct {
	resolver *resolver.Resolver
	player   *replay.Player
	base     time.Time // what the clock showed when the scenario began
	rules    *dnssec.Rules
	tracked  *tracked // trust anchors that follow RFC 5011, nil without them
}

// newSubject configures a resolver as the scenario asks.
func newSubject(scenario *replay.Scenario, settings *replay.Settings, player *replay.Player) (*subject, error) {
	s := &subject{player: player, base: time.Unix(0, 0).UTC(), rules: rulesFor(scenario, settings)}
	switch {
	case settings.AnyDate:
		var err error
		if s.base, err = scenario.DateOfAll(); err != nil {
			return nil, err
		}
	case !settings.Date.IsZero():
		s.base = settings.Date
	}
	anchors, err := anchorsOf(settings.Anchors)
	if err != nil {
		return nil, err
	}
	if s.tracked, err = newTracked(scenario, s); err != nil {
		return nil, err
	}
	limits := limitsFor(settings)
	config := resolver.Config{
		Anchors:     func() []dnssec.Anchor { return slices.Concat(anchors, s.tracked.anchors()) },
		Rules:       s.rules,
		NoMinimise:  !settings.Minimise,
		KeepCase:    true, // recorded replies do not echo it
		NoIPv4:      !settings.IPv4,
		NoIPv6:      !settings.IPv6,
		AskLoopback: settings.QueryLocalhost,
		LooseGlue:   !settings.HardenGlue,
		Transport:   transport{player.Network},
		Now:         s.now,
		Limits:      &limits,
		Random:      rand.NewChaCha8([32]byte{1}),
	}
	if err := s.servers(&config, settings); err != nil {
		return nil, err
	}
	s.resolver = resolver.New(config)
	return s, nil
}

// limitsFor returns the limits with what the scenario sets.
func limitsFor(settings *replay.Settings) resolver.Limits {
	limits := resolver.DefaultLimits()
	for _, d := range []struct {
		seconds int
		to      *time.Duration
	}{
		{settings.CacheMinTTL, &limits.MinTTL}, {settings.CacheMaxTTL, &limits.MaxTTL},
		{settings.CacheMaxNegativeTTL, &limits.MaxNegativeTTL}, {settings.BogusTTL, &limits.BogusTTL},
	} {
		if d.seconds >= 0 {
			*d.to = time.Duration(d.seconds) * time.Second
		}
	}
	for _, n := range []struct {
		count int
		to    *int
	}{
		{settings.BogusRestarts, &limits.BogusRestarts}, {settings.Restarts, &limits.Aliases}, {settings.ScrubNS, &limits.NSPerDelegation},
	} {
		if n.count >= 0 {
			*n.to = n.count
		}
	}
	return limits
}

// servers fills in whom to ask.
func (s *subject) servers(config *resolver.Config, settings *replay.Settings) error {
	for _, addr := range settings.Hints {
		config.Hints = append(config.Hints, nameserver(len(config.Hints), addr))
	}
	for _, stub := range settings.Stubs {
		zone, err := dnssec.ParseName(stub.Zone)
		if err != nil {
			return err
		}
		z := resolver.Stub{Zone: zone}
		for i, addr := range stub.Servers {
			z.Servers = append(z.Servers, nameserver(i, addr))
		}
		config.Stubs = append(config.Stubs, z)
	}
	for _, addr := range settings.Forward {
		config.Forward = resolver.ForwardAlways
		config.ForwardTo = append(config.ForwardTo, netip.AddrPortFrom(addr, 53))
	}
	for _, text := range settings.Insecure {
		name, err := dnssec.ParseName(text)
		if err != nil {
			return err
		}
		config.NegativeAnchors = append(config.NegativeAnchors, name)
	}
	return nil
}

// nameserver makes up a name for a server that is configured by address.
func nameserver(i int, addr netip.Addr) resolver.Nameserver {
	name, err := dnssec.ParseName(fmt.Sprintf("configured-%d.invalid.", i))
	if err != nil {
		panic(err)
	}
	return resolver.Nameserver{Name: name, Addrs: []netip.Addr{addr}}
}

func anchorsOf(rrs []replay.RR) ([]dnssec.Anchor, error) {
	var out []dnssec.Anchor
	for _, rr := range rrs {
		zone, err := dnssec.ParseName(rr.Name)
		if err != nil {
			return nil, err
		}
		switch rr.Type {
		case dns.TypeDS:
			ds, err := dnssec.ParseDS(rr.Data)
			if err != nil {
				return nil, err
			}
			out = append(out, dnssec.Anchor{Zone: zone, DS: &ds})
		case dns.TypeDNSKEY:
			out = append(out, dnssec.Anchor{Zone: zone, Key: rr.Data})
		default:
			return nil, fmt.Errorf("trust anchor of type %d", rr.Type)
		}
	}
	return out, nil
}

// recordedIterations is the NSEC3 iteration limit of the resolvers that the
// scenarios were recorded with, where a scenario does not set one.
const recordedIterations = 150

// rulesFor returns the rules of validation that recorded scenarios need: old
// algorithms, short keys, many iterations.
func rulesFor(scenario *replay.Scenario, settings *replay.Settings) *dnssec.Rules {
	rules := dnssec.DefaultRules(true)
	rules.MinRSABits = 512
	rules.Verifiers[3] = verifyDSA
	rules.MaxNSEC3Iterations = uint16(settings.NSEC3Limit(scenario, recordedIterations))
	if settings.FakeSHA1 {
		// Signatures of these were made with keys and hashes that are gone.
		for _, algorithm := range []uint8{3, 5, 6, 7} {
			rules.Verifiers[algorithm] = func(*dnssec.Rules, []byte) (dnssec.Check, error) {
				return func(_, sig []byte) bool { return len(sig) > 0 }, nil
			}
		}
	}
	return rules
}

func (s *subject) now() time.Time { return s.base.Add(s.player.Elapsed()) }

func (s *subject) Close() error { return errors.Join(s.resolver.Close(), s.tracked.close()) }

// Resolve asks as a client of a DNS listener would.
func (s *subject) Resolve(ctx context.Context, q replay.Question) *replay.Answer {
	name, err := dnssec.ParseName(q.Name)
	if err != nil {
		return &replay.Answer{Rcode: dns.RcodeFormatError}
	}
	r := s.resolver.Query(ctx, resolver.Question{Name: name, Type: q.Type, CD: q.CD, Local: !q.RD})
	a := &replay.Answer{
		Rcode: r.Rcode,
		// RFC 6840 §5.7, §5.8: only for those who showed that they know the bit.
		AD:         r.AD && (q.DO || q.AD) && !q.CD,
		Answer:     clientView(r.Answer, q),
		Authority:  clientView(r.Authority, q),
		Additional: clientView(r.Additional, q),
		Note:       fmt.Sprintf("%s (%s) %s", r.Verdict.Status, r.Verdict.Reason, r.Verdict.Text),
	}
	for _, e := range r.EDE {
		a.EDE = append(a.EDE, int(e.Code))
	}
	return a
}

// clientView leaves out DNSSEC records that the client did not ask for
// (RFC 4035 §3.2.1).
func clientView(rrs []resolver.RR, q replay.Question) []replay.RR {
	var out []replay.RR
	for _, rr := range rrs {
		switch rr.Type {
		case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
			if !q.DO && q.Type != rr.Type && q.Type != dns.TypeANY {
				continue
			}
		}
		out = append(out, replay.RR{Name: rr.Name.String(), Type: rr.Type, Class: dns.ClassINET, TTL: rr.TTL, Data: rr.Data})
	}
	return out
}

// transport is the scenario's network.
type transport struct{ network *replay.Network }

func (t transport) Exchange(ctx context.Context, x resolver.Exchange) ([]byte, error) {
	reply, err := t.network.Exchange(ctx, x.Server.Addr(), x.TCP, x.Message)
	if err == nil && !x.Accept(reply) {
		return nil, os.ErrDeadlineExceeded // nothing better comes
	}
	return reply, err
}
