package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// netTransport is the Transport over real sockets. Each UDP query has a
// socket of its own, connected to the server: the kernel then picks a random
// port and drops what comes from another address. TCP connections are kept
// for a short while, long enough for the other questions of a resolution.
type netTransport struct {
	lim    *Limits
	dialer net.Dialer

	buffers sync.Pool // of *[maxUDP]byte

	mu     sync.Mutex
	idle   map[netip.AddrPort]*idleConn
	closed bool
}

// maxUDP is how much of a datagram is read; a longer one than was offered to take is cut.
const maxUDP = 4096

type idleConn struct {
	net.Conn
	timer *time.Timer
}

// deadline is a context that tells when its time is over and leaves it to the socket to
// end then: one timer less for each query.
type deadline struct {
	context.Context
	end time.Time
}

func newDeadline(ctx context.Context, after time.Duration) deadline {
	d := deadline{ctx, time.Now().Add(after)}
	if end, ok := ctx.Deadline(); ok && end.Before(d.end) {
		d.end = end
	}
	return d
}

// Deadline implements context.Context.
func (d deadline) Deadline() (time.Time, bool) { return d.end, true }

func newNetTransport(lim *Limits) *netTransport {
	return &netTransport{lim: lim, idle: make(map[netip.AddrPort]*idleConn)}
}

// Exchange implements Transport.
func (t *netTransport) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	if x.TCP {
		return t.overTCP(ctx, x)
	}
	return t.overUDP(ctx, x)
}

func (t *netTransport) overUDP(ctx context.Context, x Exchange) ([]byte, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(x.Server))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	if _, err := conn.Write(x.Message); err != nil {
		return nil, err
	}
	buf, ok := t.buffers.Get().(*[maxUDP]byte)
	if !ok {
		buf = new([maxUDP]byte)
	}
	defer t.buffers.Put(buf)
	for {
		n, err := conn.Read(buf[:])
		if err != nil {
			return nil, cause(ctx, err)
		}
		reply := append([]byte(nil), buf[:n]...) // Accept may keep it, so it must not be the pool's
		if x.Accept(reply) {
			return reply, nil
		}
	}
}

// interruptible makes reads and writes end with ctx, until the func returned is called.
func interruptible(ctx context.Context, conn net.Conn) func() {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// cause prefers what ended ctx to the deadline error it made.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// overTCP asks over a kept connection if there is one. Such a connection may
// have been closed by the server meanwhile, so a failure there is no verdict.
func (t *netTransport) overTCP(ctx context.Context, x Exchange) ([]byte, error) {
	if conn := t.take(x.Server); conn != nil {
		if reply, err := t.stream(ctx, conn, x); err == nil || ctx.Err() != nil {
			return reply, err
		}
	}
	conn, err := t.dialer.DialContext(ctx, "tcp", x.Server.String())
	if err != nil {
		return nil, cause(ctx, err)
	}
	return t.stream(ctx, conn, x)
}

// stream does one exchange (RFC 7766 §8: length and message in one write) and
// keeps the connection if all went well.
func (t *netTransport) stream(ctx context.Context, conn net.Conn, x Exchange) ([]byte, error) {
	stop := interruptible(ctx, conn)
	reply, err := streamExchange(conn, x)
	stop()
	if err != nil {
		conn.Close()
		return nil, cause(ctx, err)
	}
	conn.SetDeadline(time.Time{})
	t.keep(x.Server, conn)
	return reply, nil
}

func streamExchange(conn net.Conn, x Exchange) ([]byte, error) {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(x.Message)), uint16(len(x.Message)))
	if _, err := conn.Write(append(out, x.Message...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, err
	}
	if !x.Accept(reply) {
		return nil, errors.New("the reply over TCP is not one to the question")
	}
	return reply, nil
}

// take hands out a kept connection to server, nil if there is none.
func (t *netTransport) take(server netip.AddrPort) net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.idle[server]
	if c == nil || !c.timer.Stop() {
		return nil
	}
	delete(t.idle, server)
	return c.Conn
}

func (t *netTransport) keep(server netip.AddrPort, conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.idle[server] != nil || len(t.idle) >= t.lim.TCPIdleConns {
		conn.Close()
		return
	}
	c := &idleConn{Conn: conn}
	c.timer = time.AfterFunc(t.lim.TCPIdle, func() { t.expire(server, c) })
	t.idle[server] = c
}

func (t *netTransport) expire(server netip.AddrPort, c *idleConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle[server] == c {
		delete(t.idle, server)
	}
	c.Close()
}

// Close closes the kept connections.
func (t *netTransport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for server, c := range t.idle {
		c.timer.Stop()
		c.Close()
		delete(t.idle, server)
	}
	return nil
}

// errNoRoute is told of a server whose address family the host cannot reach.
func noRoute(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Timeout() {
		return false
	}
	return isUnreachable(op.Err)
}

func describe(server netip.AddrPort, err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Sprintf("%s: timed out", server)
	}
	return fmt.Sprintf("%s: %v", server, err)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
