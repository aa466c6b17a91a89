package deliver

import (
	"crypto/tls"
	"strings"
	"testing"

	"danepost/queue"
)

// BenchmarkWarm is one 5 KB message over a connection that is open already;
// the receiver's work is in it.
func BenchmarkWarm(b *testing.B) {
	r := goodRig(b, &receiver{})
	content := "Subject: x\r\n\r\n" + strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 70)
	for b.Loop() {
		if res := r.send(item(content, "b@good.example"))["b@good.example"]; res.Outcome != queue.Delivered {
			b.Fatalf("%+v", res)
		}
	}
}

// BenchmarkCold is a connection and a full handshake for each message.
func BenchmarkCold(b *testing.B) {
	r := goodRig(b, &receiver{})
	for b.Loop() {
		r.pool.close()
		r.pool = newPool(0, 0)
		r.tickets = tls.NewLRUClientSessionCache(1)
		if res := r.one(); res.Outcome != queue.Delivered {
			b.Fatalf("%+v", res)
		}
		r.net.forget()
	}
}

// BenchmarkHandshake is a full handshake and its DANE verdict in both manners,
// the server's work included.
func BenchmarkHandshake(b *testing.B) {
	p := thePKI()
	r := goodRig(b, &receiver{})
	rt := r.findRoute(b.Context(), r.cfg.hopFor("good.example"))
	plan := r.findPlan(b.Context(), &rt, r.findGroup(b.Context(), &rt, 0)[0])
	for name, m := range map[string]manner{"hybrid": mannerHybrid, "classic": mannerClassic} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r.tickets = tls.NewLRUClientSessionCache(1)
				x, y := memPipe(nil, nil)
				done := make(chan error, 1)
				go func() {
					done <- tls.Server(y, &tls.Config{Certificates: []tls.Certificate{p.self.chain()}}).Handshake()
				}()
				var pr peer
				if err := tls.Client(x, r.tlsConfig(&plan, m, &pr)).Handshake(); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
