package submit

import (
	"net/netip"
	"sync"
	"time"
)

// Limits on SMTP clients other than this host.
const (
	maxSMTPConns     = 64
	maxSMTPPerClient = 16
	maxSMTPMessages  = 100 // a minute and client
	maxAuthFailures  = 5   // in ten minutes and client
	maxClients       = 4096
)

// smtpLimits counts what clients do, by address. It is safe for concurrent use.
type smtpLimits struct {
	mu       sync.Mutex
	total    int
	conns    map[netip.Addr]int
	messages window
	failures window
}

func newSMTPLimits() *smtpLimits {
	return &smtpLimits{
		conns:    map[netip.Addr]int{},
		messages: window{length: time.Minute, most: maxSMTPMessages},
		failures: window{length: 10 * time.Minute, most: maxAuthFailures},
	}
}

// client is what an address is counted as: in IPv6 its network, as one host
// has all the addresses of it.
func client(a netip.Addr) netip.Addr {
	if p, err := a.WithZone("").Prefix(64); err == nil && a.Is6() && !a.IsLoopback() {
		return p.Addr()
	}
	return a
}

func (l *smtpLimits) enter(a netip.Addr) bool {
	a = client(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxSMTPConns || !a.IsLoopback() && l.conns[a] >= maxSMTPPerClient {
		return false
	}
	l.total++
	l.conns[a]++
	return true
}

func (l *smtpLimits) leave(a netip.Addr) {
	a = client(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.conns[a]--; l.conns[a] <= 0 {
		delete(l.conns, a)
	}
}

// message counts one and reports whether it is within the limit.
func (l *smtpLimits) message(a netip.Addr, now time.Time) bool {
	a = client(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	return a.IsLoopback() || l.messages.add(a, now)
}

func (l *smtpLimits) failed(a netip.Addr, now time.Time) {
	a = client(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures.add(a, now)
}

// mayTry reports whether a client has not failed to authenticate too often.
func (l *smtpLimits) mayTry(a netip.Addr, now time.Time) bool {
	a = client(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.failures.full(a, now)
}

// window counts events of clients in the current stretch of time.
type window struct {
	length time.Duration
	most   int
	begun  time.Time
	count  map[netip.Addr]int
}

func (w *window) turn(now time.Time) {
	if w.count == nil || now.Sub(w.begun) >= w.length || now.Before(w.begun) || len(w.count) > maxClients {
		w.begun, w.count = now, map[netip.Addr]int{}
	}
}

func (w *window) add(a netip.Addr, now time.Time) bool {
	w.turn(now)
	if w.count[a] >= w.most {
		return false
	}
	w.count[a]++
	return true
}

func (w *window) full(a netip.Addr, now time.Time) bool {
	w.turn(now)
	return w.count[a] >= w.most
}
