package deliver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// memNet is a network in memory. Its connections have buffers and deadlines
// like TCP's, and work inside a testing/synctest bubble.
type memNet struct {
	mu    sync.Mutex
	serve map[string]func(net.Conn)                      // by "ip:port"
	wrap  func(address string, client net.Conn) net.Conn // the path, for attackers and recorders
	wg    sync.WaitGroup
	conns []net.Conn
}

func newMemNet(t testing.TB) *memNet {
	n := &memNet{serve: map[string]func(net.Conn){}}
	t.Cleanup(n.shut)
	return n
}

// closeAll cuts every connection.
func (n *memNet) closeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
}

// shut closes what is open and waits for the servers.
func (n *memNet) shut() {
	n.closeAll()
	n.wg.Wait()
}

// listen serves connections to address with f, each in a goroutine.
func (n *memNet) listen(address string, f func(net.Conn)) { n.serve[address] = f }

func (n *memNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	f := n.serve[address]
	n.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if f == nil {
		return nil, errors.New("connection refused")
	}
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.200:40000"))
	client, server := memPipe(from, to)
	n.mu.Lock()
	n.conns = append(n.conns, client, server)
	n.mu.Unlock()
	n.wg.Go(func() {
		defer server.Close()
		f(server)
	})
	if n.wrap != nil {
		return n.wrap(address, client), nil
	}
	return client, nil
}

// memPipe is a pair of connected memConns.
func memPipe(a, b net.Addr) (*memConn, *memConn) {
	x, y := newHalf(), newHalf()
	return &memConn{in: x, out: y, local: a, remote: b}, &memConn{in: y, out: x, local: b, remote: a}
}

type memConn struct {
	in, out       *half
	local, remote net.Addr
}

// half is one direction.
type half struct {
	mu              sync.Mutex
	buf             []byte
	closed          bool
	changed         chan struct{}
	readBy, writeBy time.Time
}

const memBuffer = 64 << 10

func newHalf() *half { return &half{changed: make(chan struct{})} }

func (h *half) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait blocks, with h.mu held, until something changed or the time is over.
func (h *half) wait(by time.Time) error {
	if !by.IsZero() && !time.Now().Before(by) {
		return os.ErrDeadlineExceeded
	}
	ch := h.changed
	h.mu.Unlock()
	defer h.mu.Lock()
	if by.IsZero() {
		<-ch
		return nil
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	}
	return nil
}

func (c *memConn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if !h.readBy.IsZero() && !time.Now().Before(h.readBy) {
			return 0, os.ErrDeadlineExceeded
		}
		if len(h.buf) > 0 {
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.notify()
			return n, nil
		}
		if h.closed {
			return 0, io.EOF
		}
		if err := h.wait(h.readBy); err != nil {
			return 0, err
		}
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	done := 0
	for done < len(p) {
		if h.closed {
			return done, net.ErrClosed
		}
		if room := memBuffer - len(h.buf); room > 0 {
			n := min(room, len(p)-done)
			h.buf = append(h.buf, p[done:done+n]...)
			done += n
			h.notify()
			continue
		}
		if err := h.wait(h.writeBy); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (c *memConn) Close() error {
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		if !h.closed {
			h.closed = true
			h.notify()
		}
		h.mu.Unlock()
	}
	return nil
}

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.readBy = t
	c.in.notify()
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.writeBy = t
	c.out.notify()
	return nil
}

// forget lets go of connections that are over.
func (n *memNet) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = nil
}
