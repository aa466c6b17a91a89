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

// BenchmarkCold is a connection and a full handshake for each message, with
// the key exchanges that a client may offer.
func BenchmarkCold(b *testing.B) {
	for name, curves := range map[string][]tls.CurveID{
		"hybrid": {tls.X25519MLKEM768}, "x25519": {tls.X25519}, "p256": {tls.CurveP256},
	} {
		b.Run(name, func(b *testing.B) {
			r := goodRig(b, &receiver{tlsConfig: func(c *tls.Config) { c.CurvePreferences = curves }})
			for b.Loop() {
				r.pool.close()
				r.pool = newPool(0, 0)
				r.tickets = tls.NewLRUClientSessionCache(1)
				if res := r.one(); res.Outcome != queue.Delivered {
					b.Fatalf("%+v", res)
				}
				r.net.forget()
			}
		})
	}
}
