package replay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
)

var (
	errNotOneQuestion = errors.New("the query does not have exactly one question")
	// ErrNetwork is what an exchange ends with at an ERROR step.
	ErrNetwork = errors.New("network unreachable (scripted)")
)

// Network is where the subject's exchanges wait for the script. It is safe
// for concurrent use.
type Network struct {
	mu      sync.Mutex
	waiting []*pending
	broken  error // the first thing that the subject sent and should not have
	log     []string
}

// pending is one exchange that waits.
type pending struct {
	server netip.Addr
	query  *query
	result chan result
}

type result struct {
	reply []byte
	err   error
}

// Exchange hands one message to the script and returns the reply that the
// script sends. Silence is os.ErrDeadlineExceeded at once: the scenario's clock, not
// the machine's, says how long anything took.
func (n *Network) Exchange(ctx context.Context, server netip.Addr, tcp bool, msg []byte) ([]byte, error) {
	q, err := parseQuery(msg, tcp)
	p := &pending{server: server.Unmap(), query: q, result: make(chan result, 1)}
	n.mu.Lock()
	if err != nil {
		if n.broken == nil {
			n.broken = fmt.Errorf("the resolver sent a message that is not a query: %w", err)
		}
		n.mu.Unlock()
		return nil, os.ErrDeadlineExceeded
	}
	n.waiting = append(n.waiting, p)
	n.logf("ask   %s %s", server, describe(q))
	n.mu.Unlock()
	select {
	case r := <-p.result:
		return r.reply, r.err
	case <-ctx.Done():
		n.mu.Lock()
		n.drop(p)
		n.logf("given up %s %s", server, describe(q))
		n.mu.Unlock()
		return nil, ctx.Err()
	}
}

func describe(q *query) string {
	s := q.msg.Question[0].String()[1:]
	if q.tcp {
		s += " TCP"
	}
	return s
}

// Log is what was exchanged so far, one line each, for failure messages.
func (n *Network) Log() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// logf needs n.mu.
func (n *Network) logf(format string, args ...any) {
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

// Note adds a line to the log.
func (n *Network) Note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logf(format, args...)
}

// drop needs n.mu.
func (n *Network) drop(p *pending) {
	if i := slices.Index(n.waiting, p); i >= 0 {
		n.waiting = slices.Delete(n.waiting, i, i+1)
	}
}

// finish ends the exchange p with r.
func (n *Network) finish(p *pending, r result, how string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(p)
	n.logf("%s %s %s", how, p.server, describe(p.query))
	p.result <- r
}

func (n *Network) snapshot() ([]*pending, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.waiting), n.broken
}
