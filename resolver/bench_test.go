package resolver

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
)

// recording answers from memory what an internet answered before, so that a
// benchmark measures the resolver and not the test's servers.
type recording struct {
	*internet
	mu      sync.Mutex
	replies map[string][]byte
	packets int
}

// Exchange implements Transport.
func (r *recording) Exchange(ctx context.Context, x Exchange) ([]byte, error) {
	end := 12 + bytes.IndexByte(x.Message[12:], 0) + 5
	key := x.Server.Addr().String() + string(bytes.ToLower(x.Message[12:end]))
	r.mu.Lock()
	reply := r.replies[key]
	r.packets++
	r.mu.Unlock()
	if reply == nil {
		var err error
		if reply, err = r.internet.Exchange(ctx, x); err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.replies[key] = bytes.Clone(reply)
		r.mu.Unlock()
		return reply, nil
	}
	reply = bytes.Clone(reply)
	copy(reply, x.Message[:2])
	copy(reply[12:], x.Message[12:end])
	if !x.Accept(reply) {
		return nil, os.ErrDeadlineExceeded
	}
	return reply, nil
}

// domains makes an internet with that many signed mail domains, and records it.
func domains(b *testing.B, count int) *recording {
	specs := []zoneSpec{{name: ".", servers: "192.0.2.1"}, {name: "example.", servers: "192.0.2.2"}}
	for i := range count {
		specs = append(specs, zoneSpec{name: fmt.Sprintf("d%05d.example.", i), servers: fmt.Sprintf("10.%d.%d.1 10.%d.%d.2", i>>8, i&255, i>>8, i&255),
			records: "@ MX 10 mx\nmx A 192.0.2.80\n_25._tcp.mx TLSA 3 1 1 0123456789012345678901234567890123456789012345678901234567890123\n"})
	}
	r := &recording{internet: newInternet(b, specs...), replies: map[string][]byte{}}
	byServer := map[netip.Addr]*testZone{}
	for _, z := range r.zones {
		for _, a := range z.servers {
			byServer[a] = z
		}
	}
	r.internet.byServer = byServer
	for range 4 { // each of the servers gets its turn
		x := r.fresh(b, 64<<20)
		for i := range count {
			ask(b, x, i)
		}
		x.Close()
	}
	return r
}

func (r *recording) fresh(b *testing.B, cache int) *Resolver {
	c := r.config()
	c.Transport, c.CacheBytes = r, cache
	return New(c)
}

// ask looks up what delivery to a domain needs.
func ask(b *testing.B, r *Resolver, i int) {
	d := fmt.Sprintf("d%05d.example.", i)
	for _, q := range []struct {
		name  string
		qtype uint16
	}{{d, TypeMX}, {"mx." + d, TypeA}, {"_25._tcp.mx." + d, TypeTLSA}} {
		if a := r.Lookup(context.Background(), q.name, q.qtype); a.Status.String() != "secure" || len(a.RRs) != 1 {
			b.Fatalf("%s: %s: %s", q.name, summary(a), a.Text)
		}
	}
}

// BenchmarkCold resolves and validates MX, A and TLSA of a domain whose parent is known.
func BenchmarkCold(b *testing.B) {
	n := domains(b, 300)
	r := n.fresh(b, 64<<20)
	n.packets = 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%300 == 0 {
			b.StopTimer()
			r.Close()
			r = n.fresh(b, 64<<20)
			r.Lookup(context.Background(), "example.", TypeMX)
			b.StartTimer()
		}
		ask(b, r, i%300)
	}
	b.ReportMetric(float64(n.packets)/float64(b.N), "packets/op")
}

// BenchmarkWarmLookup answers from the cache.
func BenchmarkWarmLookup(b *testing.B) {
	n := domains(b, 1)
	r := n.fresh(b, 64<<20)
	ask(b, r, 0)
	b.ReportAllocs()
	for b.Loop() {
		r.Lookup(context.Background(), "_25._tcp.mx.d00000.example.", TypeTLSA)
	}
}

// BenchmarkMemory fills a cache of 32 MB with 10,000 domains and reports what is left of them,
// and what the process really holds.
func BenchmarkMemory(b *testing.B) {
	const count = 10_000
	n := domains(b, count)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := n.fresh(b, 32<<20)
		for i := range count {
			ask(b, r, i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		n.packets = 0
		kept := 0
		for i := range count {
			sent := n.packets
			if ask(b, r, i); n.packets == sent {
				kept++
			}
		}
		b.ReportMetric(float64(kept), "domains")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB-heap")
		b.ReportMetric(float64(r.cache.size)/(1<<20), "MB-counted")
		r.Close()
	}
}
