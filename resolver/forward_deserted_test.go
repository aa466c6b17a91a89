package resolver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"danepost/resolver/dnssec"
)

// deserted is a network whose name servers keep silent for a while, and whose
// resolver refuses.
type deserted struct {
	*internet
	until time.Time
}

// Exchange implements Transport.
func (n *deserted) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	switch {
	case x.Server == forwarderAddr:
		return nil, errors.Join(syscall.ECONNREFUSED)
	case time.Now().Before(n.until):
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.internet.Exchange(ctx, x)
}

// A slow start looks like a blocked port. Where nobody carries the questions
// instead, that must not last: mail would be deferred for nothing.
func TestForwardDeserted(t *testing.T) {
	for _, silence := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 30 * time.Second} {
		t.Run(silence.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &deserted{small(t), time.Now().Add(silence)}
				start := time.Now()
				var log bytes.Buffer
				r := n.resolver(func(c *Config) {
					c.Transport, c.Forward, c.ForwardTo = n, ForwardAuto, []netip.AddrPort{forwarderAddr}
					c.Now = func() time.Time { return testNow.Add(time.Since(start)) }
					c.Log = slog.New(slog.NewTextHandler(&log, nil))
				})
				defer r.Close()
				r.Lookup(context.Background(), "signed.example.", TypeMX)
				time.Sleep(silence)
				if a := r.Lookup(context.Background(), "mx.signed.example.", TypeA); a.Status != dnssec.Secure {
					t.Errorf("%s: %s", summary(a), a.Text)
				}
				if on, why := r.Forwarding(); on {
					t.Errorf("still forwarding: %s", why)
				}
				if got := strings.Count(log.String(), "\n"); got > 2 {
					t.Errorf("%d lines in the log:\n%s", got, log.String())
				}
			})
		})
	}
}
