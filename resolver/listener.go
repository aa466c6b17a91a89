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

// ListenConfig says where to serve DNS clients, and which.
type ListenConfig struct {
	Addr netip.AddrPort
	// Allow names clients beside those on loopback addresses, which are always served.
	Allow []netip.Prefix
}

// Listener serves other programs of the host over UDP and TCP.
type Listener struct {
	r      *Resolver
	config ListenConfig
	udp    *net.UDPConn
	tcp    *net.TCPListener
	secret [16]byte      // of the server cookies
	slots  chan struct{} // one for each question being answered
	done   context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// Listen starts serving. Close the Listener before the Resolver.
func (r *Resolver) Listen(c ListenConfig) (*Listener, error) {
	l := &Listener{r: r, config: c, conns: make(map[net.Conn]bool), slots: make(chan struct{}, r.lim.Clients)}
	binary.BigEndian.PutUint64(l.secret[:], r.random())
	binary.BigEndian.PutUint64(l.secret[8:], r.random())
	var err error
	if l.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(c.Addr)); err != nil {
		return nil, fmt.Errorf("listen for DNS clients: %w", err)
	}
	// Port 0 gave a free one for TCP; UDP takes the same.
	l.config.Addr = l.tcp.Addr().(*net.TCPAddr).AddrPort()
	if l.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.config.Addr)); err != nil {
		l.tcp.Close()
		return nil, fmt.Errorf("listen for DNS clients: %w", err)
	}
	l.done, l.stop = context.WithCancel(context.Background())
	l.work.Go(l.serveUDP)
	l.work.Go(l.serveTCP)
	return l, nil
}

// Addr returns the address served.
func (l *Listener) Addr() netip.AddrPort { return l.config.Addr }

// Close stops serving and waits until every question under way has ended.
func (l *Listener) Close() error {
	l.stop()
	err := errors.Join(l.udp.Close(), l.tcp.Close())
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.work.Wait()
	return err
}

// serveUDP answers datagrams. While all slots are taken new ones are dropped:
// their senders ask again.
func (l *Listener) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if l.done.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case l.slots <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		l.work.Go(func() {
			defer func() { <-l.slots }()
			if reply := l.answer(l.done, query, from, false); reply != nil {
				l.udp.WriteToUDPAddrPort(reply, from)
			}
		})
	}
}

func (l *Listener) serveTCP() {
	for {
		conn, err := l.tcp.AcceptTCP()
		if err != nil {
			if l.done.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if !l.enter(conn) {
			conn.Close()
			continue
		}
		l.work.Go(func() { l.serveConn(conn) })
	}
}

// enter counts a connection in, unless there are too many.
func (l *Listener) enter(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= l.r.lim.ClientConns || l.done.Err() != nil {
		return false
	}
	l.conns[conn] = true
	return true
}

// serveConn answers the questions of one connection, each as soon as its
// answer is there (RFC 7766 §6.2.1.1).
func (l *Listener) serveConn(conn *net.TCPConn) {
	var pending sync.WaitGroup
	var writing sync.Mutex
	defer func() {
		pending.Wait()
		conn.Close()
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
	}()
	from := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	for {
		query, err := l.readFrame(conn)
		if err != nil {
			return
		}
		select {
		case l.slots <- struct{}{}:
		case <-l.done.Done():
			return
		}
		pending.Go(func() {
			defer func() { <-l.slots }()
			reply := l.answer(l.done, query, from, true)
			if reply == nil {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			conn.SetWriteDeadline(time.Now().Add(l.r.lim.ClientIdle))
			conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
		})
	}
}

// readFrame reads one message with its length. A client that is slow to send
// it, or sends nothing, loses the connection.
func (l *Listener) readFrame(conn net.Conn) ([]byte, error) {
	conn.SetReadDeadline(time.Now().Add(l.r.lim.ClientIdle))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, query)
	return query, err
}

// allowed reports whether a client is served.
func (l *Listener) allowed(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.IsLoopback() {
		return true
	}
	for _, p := range l.config.Allow {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
