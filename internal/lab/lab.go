// Package lab is a test internet in one process: a signed DNS tree from a
// root of its own down to mail domains, the receivers of those domains, and
// attackers on the way to both. Everything speaks over real sockets on
// addresses of 127/8, so that the program under test needs nothing but other
// root hints, another trust anchor and other port numbers.
//
// Configure, then Start:
//
//	l := lab.New(lab.Options{})
//	l.Zone("demo.", lab.Signing{})
//	z := l.Zone("good.demo.", lab.Signing{})
//	id := lab.SelfSigned("mx.good.demo")
//	r := l.Receiver("mx.good.demo", id)
//	z.Add("@ MX 10 mx", "mx A "+r.Addr(), "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
//	if err := l.Start(); err != nil { ... }
//	defer l.Close()
//
// Wrong use (a record that does not parse, a zone declared twice, a change of
// the configuration after Start) panics: it is a mistake in a test. What the
// machine refuses comes back as an error of Start.
//
// Addresses are the same in every lab, ports are not: all name servers share
// one port number and all receivers another, chosen at Start, so that labs of
// different processes live side by side.
package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Options says what is true of the whole lab. The zero value is usable.
type Options struct {
	TTL      time.Duration    // of every record without a TTL of its own; default one minute
	DNSPort  int              // 0: a free one is chosen at Start
	SMTPPort int              // 0: likewise
	Now      func() time.Time // what signatures and certificates are valid around; default time.Now
	Log      *slog.Logger     // told of queries and deliveries; default silent
}

// Lab is a test internet. Its configuring methods are for one goroutine,
// before Start; after it, all that is not said to configure is safe for
// concurrent use.
type Lab struct {
	opts    Options
	root    *Zone
	zones   []*Zone
	hosts   []host // receivers and paths, each on its own address
	started bool

	closing   chan struct{}
	listeners []net.Listener // of hosts, in their order
	servers   []*dns.Server
	wg        sync.WaitGroup
}

// host is what answers on one address at the SMTP port.
type host interface {
	address() netip.Addr
	serve(net.Conn)
}

// New returns a lab with a signed root and nothing below it.
func New(o Options) *Lab {
	if o.TTL == 0 {
		o.TTL = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Lab{opts: o, closing: make(chan struct{})}
	l.root = l.Zone(".", Signing{SplitKeys: true})
	return l
}

// Root returns the root zone.
func (l *Lab) Root() *Zone { return l.root }

// DNSPort returns the port of all name servers; valid after Start.
func (l *Lab) DNSPort() int { return l.opts.DNSPort }

// SMTPPort returns the port of all receivers and paths; valid after Start.
func (l *Lab) SMTPPort() int { return l.opts.SMTPPort }

// configuring panics when the lab already runs.
func (l *Lab) configuring() {
	if l.started {
		panic("lab: configured after Start")
	}
}

// nthAddr numbers the addresses of one kind: 127.net.1.1, 127.net.1.2, ...
func nthAddr(network byte, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, network, byte(1 + n/250), byte(1 + n%250)})
}

// networks of 127/8 that the lab's addresses come from.
const (
	dnsNetwork  = 53
	smtpNetwork = 25
)

// Start delegates, signs and serves all that was configured. It may be called
// once. The error says which address could not be had.
func (l *Lab) Start() error {
	l.configuring()
	l.started = true
	if err := l.listen(); err != nil {
		l.Close()
		return err
	}
	for _, z := range l.zones {
		z.makeKeys()
	}
	for _, z := range l.zones {
		z.delegate()
	}
	for _, z := range l.zones {
		z.publish()
	}
	for i, ln := range l.listeners {
		l.wg.Go(func() { l.accept(ln, l.hosts[i]) })
	}
	for _, s := range l.servers {
		l.wg.Go(func() { s.ActivateAndServe() }) //nolint:errcheck // it returns when Close shuts it down
	}
	return nil
}

// listen takes the DNS port on every zone's address and the SMTP port on
// every receiver's. A port is only good when it is free on all of them.
func (l *Lab) listen() error {
	var err error
	if l.opts.DNSPort, err = l.onePort(l.opts.DNSPort, l.listenDNS); err != nil {
		return fmt.Errorf("name servers: %w", err)
	}
	if l.opts.SMTPPort, err = l.onePort(l.opts.SMTPPort, l.listenSMTP); err != nil {
		return fmt.Errorf("receivers: %w", err)
	}
	return nil
}

// onePort tries ports below the range that the kernel hands out by itself,
// so that a client's socket is never in the way.
func (l *Lab) onePort(wanted int, listen func(port int) error) (int, error) {
	if wanted != 0 {
		return wanted, listen(wanted)
	}
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if err = listen(port); err == nil {
			return port, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return 0, err
}

func (l *Lab) listenDNS(port int) error {
	var open []*dns.Server
	fail := func(err error) error {
		for _, s := range open {
			closeServer(s)
		}
		return err
	}
	for _, z := range l.zones {
		at := net.JoinHostPort(z.addr.String(), strconv.Itoa(port))
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return fail(err)
		}
		open = append(open, &dns.Server{PacketConn: pc, Handler: z})
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return fail(err)
		}
		open = append(open, &dns.Server{Listener: ln, Handler: z})
	}
	l.servers = open
	return nil
}

func closeServer(s *dns.Server) {
	if s.PacketConn != nil {
		s.PacketConn.Close()
	}
	if s.Listener != nil {
		s.Listener.Close()
	}
}

func (l *Lab) listenSMTP(port int) error {
	var open []net.Listener
	for _, h := range l.hosts {
		ln, err := net.Listen("tcp", net.JoinHostPort(h.address().String(), strconv.Itoa(port)))
		if err != nil {
			for _, o := range open {
				o.Close()
			}
			return err
		}
		open = append(open, ln)
	}
	l.listeners = open
	return nil
}

// accept serves each connection of ln in a goroutine until Close.
func (l *Lab) accept(ln net.Listener, h host) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() {
			done := make(chan struct{})
			defer close(done)
			l.wg.Go(func() { // Close must not wait for a silent client
				select {
				case <-l.closing:
				case <-done:
				}
				c.Close()
			})
			h.serve(c)
		})
	}
}

// Close ends all servers and waits for every goroutine of the lab.
func (l *Lab) Close() {
	select {
	case <-l.closing:
		return
	default:
		close(l.closing)
	}
	for _, ln := range l.listeners {
		ln.Close()
	}
	for _, s := range l.servers {
		s.Shutdown()   //nolint:errcheck // "not started" is as good
		closeServer(s) // one that Shutdown did not know yet ends on its own
	}
	l.wg.Wait()
}

// Zones returns the names of all zones, in the order declared.
func (l *Lab) Zones() []*Zone { return slices.Clone(l.zones) }

// Queries returns the number of DNS queries that all servers have had.
func (l *Lab) Queries() int {
	n := 0
	for _, z := range l.zones {
		n += z.Queries()
	}
	return n
}

// parent returns the closest zone above name, nil for the root.
func (l *Lab) parent(name string) *Zone {
	var best *Zone
	for _, z := range l.zones {
		if z.name != name && dns.IsSubDomain(z.name, name) && (best == nil || len(z.name) > len(best.name)) {
			best = z
		}
	}
	return best
}

// canonicalName returns name in lower case with the final dot.
func canonicalName(name string) string { return strings.ToLower(dns.Fqdn(name)) }
