package deliver

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// interleave orders addresses for trying: families in turn, IPv6 first, each
// in the order received (RFC 8305 §4), no address twice.
func interleave(addrs []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		k := 0
		if a.Is4() {
			k = 1
		}
		if !slices.Contains(families[k], a) {
			families[k] = append(families[k], a)
		}
	}
	var out []netip.Addr
	for i := 0; len(out) < maxAddresses && (i < len(families[0]) || i < len(families[1])); i++ {
		for _, f := range families {
			if i < len(f) && len(out) < maxAddresses {
				out = append(out, f[i])
			}
		}
	}
	return out
}

// dialed is a connection and what is left to try if it leads nowhere.
type dialed struct {
	conn net.Conn
	addr netip.Addr
	rest []netip.Addr
}

// race connects to the first address that answers: the next one is started
// when one failed or 250 ms have passed (RFC 8305 §5). It returns when every
// connection it started is either the winner or closed.
func (d *Deliverer) race(ctx context.Context, addrs []netip.Addr, port uint16) (dialed, *failure) {
	ctx, stop := context.WithTimeout(ctx, d.cfg.Timeouts.Connect)
	defer stop()
	if len(addrs) == 1 { // nobody to race against
		conn, err := d.dial(ctx, "tcp", net.JoinHostPort(addrs[0].String(), strconv.Itoa(int(port))))
		if err != nil {
			return dialed{}, later("4.4.1", "no connection: %s", why(err))
		}
		return dialed{conn: conn, addr: addrs[0]}, nil
	}
	type result struct {
		conn net.Conn
		addr netip.Addr
		err  error
	}
	results := make(chan result)
	running := 0
	start := func(a netip.Addr) {
		running++
		go func() {
			conn, err := d.dial(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(int(port))))
			results <- result{conn, a, err}
		}()
	}
	waiting := addrs
	var rest []netip.Addr // started, neither won nor failed
	var won result
	var last error
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			if won.conn == nil && len(waiting) > 0 && ctx.Err() == nil {
				start(waiting[0])
				waiting = waiting[1:]
				next.Reset(staggering)
			}
		case r := <-results:
			running--
			switch {
			case r.err == nil && won.conn == nil:
				won = r
				stop()
			case r.err == nil:
				r.conn.Close()
				rest = append(rest, r.addr)
			case won.conn != nil:
				rest = append(rest, r.addr) // cut short by the winner
			default:
				last = r.err
				next.Reset(0)
			}
		}
		if running == 0 && won.conn != nil {
			return dialed{won.conn, won.addr, append(rest, waiting...)}, nil
		}
		if running == 0 && (ctx.Err() != nil || len(waiting) == 0 && last != nil) {
			if last == nil {
				last = ctx.Err()
			}
			return dialed{}, later("4.4.1", "no connection: %s", why(last))
		}
	}
}
