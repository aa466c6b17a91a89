// Package deliver carries mail from the queue to its next host, in four steps
// that each feed the next:
//
//	route    the MX records of the domain, or the relay      (route.go)
//	plan     what each host must prove before it gets mail   (plan.go, pure)
//	session  SMTP up to EHLO over verified TLS               (session.go)
//	results  MAIL, RCPT, DATA, and one outcome per recipient (transaction.go)
//
// The plan follows RFC 7672: where a host has secure TLSA records, TLS is
// mandatory and its certificate must match them, and every failure is a
// deferral with its reason. There is no path from such a plan to a connection
// in the clear. Notices (RFC 3464) and the check of a domain use the same code.
package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"danepost/queue"
	"danepost/resolver"
)

// Resolver answers with validated data. It is safe for concurrent use; a
// failure is a value (Status Bogus or Indeterminate), never an error.
type Resolver interface {
	Lookup(ctx context.Context, name string, qtype uint16) *resolver.Answer
}

var _ queue.Handler = (*Deliverer)(nil)

// Deliverer carries mail. It implements queue.Handler and is safe for
// concurrent use.
type Deliverer struct {
	cfg      Config
	resolver Resolver
	now      func() time.Time
	log      *slog.Logger
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	pool     *pool
	tickets  tls.ClientSessionCache
	roots    func() (*x509.CertPool, error)
}

// New makes a Deliverer. The configuration is one that Validate accepts.
func New(cfg Config, r Resolver) *Deliverer {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	d := &Deliverer{cfg: cfg, resolver: r, now: cfg.Now, log: cfg.Log, dial: cfg.Dial,
		tickets: tls.NewLRUClientSessionCache(sessionTickets)}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.dial == nil {
		d.dial = d.dialFromSource
	}
	load := cfg.Roots
	if load == nil {
		load = x509.SystemCertPool
	}
	d.roots = sync.OnceValues(load)
	d.pool = newPool(cfg.Connections, cfg.ConnectionsPerDestination)
	return d
}

// Close ends the idle connections and waits until they are gone. Call it when
// no Deliver runs any more.
func (d *Deliverer) Close() { d.pool.close() }

// dialFromSource opens a TCP connection from the configured source address.
func (d *Deliverer) dialFromSource(ctx context.Context, network, address string) (net.Conn, error) {
	var nd net.Dialer
	if to, err := netip.ParseAddrPort(address); err == nil {
		from := d.cfg.SourceIPv6
		if to.Addr().Unmap().Is4() {
			from = d.cfg.SourceIPv4
		}
		if from.IsValid() {
			nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
	}
	return nd.DialContext(ctx, network, address)
}

// Destination names where a recipient's mail goes next: its domain, or the
// relay or via that serves it.
func (d *Deliverer) Destination(recipient string) string {
	h := d.cfg.hopFor(domainOf(recipient))
	return h.name
}
