package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"danepost/resolver"
	"danepost/resolver/dnssec"
	"danepost/trustanchor"
)

// names is the resolver with the keeper of its trust anchors.
type names struct {
	*resolver.Resolver
	anchors *trustanchor.Keeper
}

// openNames makes both. The keeper fetches keys through the resolver, which
// takes its anchors, and whether the clock can be believed, from the keeper.
// The caller runs the keeper, or lives too shortly for that.
func openNames(c *Config, log *slog.Logger) (*names, error) {
	rc, err := resolverConfig(c, log)
	if err != nil {
		return nil, configError(err)
	}
	n := &names{}
	_, built := buildInfo()
	kc := trustanchor.Config{
		Path: filepath.Join(c.StateDir, "anchors"), Rules: rc.Rules, Built: built, Log: log,
		Fetch: func(ctx context.Context, zone dnssec.Name) (*dnssec.RRset, error) {
			return n.RawDNSKEY(ctx, zone)
		},
	}
	if kc.Configured, err = configuredAnchors(c); err != nil {
		return nil, configError(err)
	}
	if n.anchors, err = trustanchor.Open(kc); err != nil {
		return nil, configError(err)
	}
	rc.Anchors, rc.Ready = n.anchors.Anchors, n.anchors.Ready
	n.Resolver = resolver.New(rc)
	return n, nil
}

// configuredAnchors reads the configuration's trust anchor file, and checks
// the signature over it where one is given; none for the built-in anchors.
func configuredAnchors(c *Config) ([]trustanchor.Configured, error) {
	file := c.Resolver.TrustAnchor
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("resolver.trust_anchor: %w", err)
	}
	if name := c.Resolver.TrustAnchorSignature; name != "" {
		signature, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("resolver.trust_anchor_signature: %w", err)
		}
		if err := trustanchor.ICANN().VerifySignature(data, signature, time.Now()); err != nil {
			return nil, fmt.Errorf("resolver.trust_anchor_signature: %s over %s: %w", name, file, err)
		}
	}
	return trustanchor.Parse(file, data)
}
