package deliver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"danepost/queue"
)

// faulty is a path under an attacker's or bad luck's control: at a random
// point it drops, delays, garbles or rewrites what goes over it.
type faulty struct {
	net.Conn
	rnd   *rand.Rand
	kind  int
	after int // bytes in that direction before it happens
	mu    sync.Mutex
	read  int
	wrote int
	done  bool
}

const faultKinds = 8

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read += n
	if f.done || f.read < f.after || n == 0 {
		return n, err
	}
	switch f.kind {
	case 0: // drop
		f.done = true
		f.Conn.Close()
		return 0, io.EOF
	case 1: // delay
		f.done = true
		time.Sleep(time.Duration(f.rnd.IntN(400)) * time.Second)
	case 2: // garble
		f.done = true
		p[f.rnd.IntN(n)] ^= byte(1 << f.rnd.IntN(8))
	case 3: // other replies, as long as they are readable
		codes := []string{"220", "250", "354", "421", "450", "454", "500", "502", "550", "554", "999", "   "}
		if n >= 3 && p[0] >= '2' && p[0] <= '5' && p[0] != 0x16 {
			copy(p, codes[f.rnd.IntN(len(codes))])
			f.done = f.rnd.IntN(3) == 0
		}
	case 4: // STARTTLS hidden
		if i := bytes.Index(p[:n], []byte("STARTTLS")); i >= 0 {
			copy(p[i:], "XXXXXXXX")
		}
	case 5: // bytes injected
		f.done = true
		extra := "250 injected\r\n"
		if n+len(extra) <= len(p) {
			copy(p[n:], extra)
			n += len(extra)
		}
	}
	return n, err
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	f.wrote += len(p)
	hit := !f.done && f.wrote >= f.after && f.kind >= 6
	f.done = f.done || hit
	f.mu.Unlock()
	if hit && f.kind == 6 {
		f.Conn.Close()
		return 0, net.ErrClosed
	}
	if hit {
		p = bytes.Clone(p)
		p[f.rnd.IntN(len(p))] ^= byte(1 << f.rnd.IntN(8))
	}
	return f.Conn.Write(p)
}

// TestFaults: whatever happens to the path, with a secure TLSA record set no
// byte of the mail leaves in the clear, nothing bounces, and what is reported
// as delivered has arrived whole.
func TestFaults(t *testing.T) {
	thePKI()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	outcomes := map[queue.Outcome]int{}
	for i := range rounds {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			rec := &receiver{}
			if i%3 == 0 {
				rec.ext = []string{"CHUNKING", "8BITMIME"}
			}
			r := goodRig(t, rec)
			path := &tap{}
			kind, after := i%faultKinds, rnd.IntN(3500)
			if rnd.IntN(2) == 0 {
				after = rnd.IntN(300)
			}
			r.net.wrap = func(_ string, c net.Conn) net.Conn {
				return &faulty{Conn: tapped{c, path}, rnd: rand.New(rand.NewPCG(uint64(i), 8)), kind: kind, after: after}
			}
			content := testMessage + strings.Repeat("more of the secret words\r\n", rnd.IntN(2000))
			res := r.send(item(content, "b@good.example"))["b@good.example"]
			r.Close()
			outcomes[res.Outcome]++
			if path.leaked() {
				t.Fatalf("round %d (kind %d after %d): in the clear: %q", i, kind, after, path.sent.String())
			}
			switch res.Outcome {
			case queue.Later:
				if res.Reason == "" || !strings.HasPrefix(res.DSN, "4.") {
					t.Errorf("round %d: %+v", i, res)
				}
			case queue.Delivered:
				got := rec.messages()
				if res.Security != "dane-verified" || len(got) == 0 || got[len(got)-1].content != content {
					t.Errorf("round %d: %+v, %d arrived", i, res, len(got))
				}
			default:
				t.Errorf("round %d (kind %d after %d): %+v", i, kind, after, res)
			}
		})
	}
	t.Logf("outcomes: %v", outcomes)
	if outcomes[queue.Later] < rounds/10 || outcomes[queue.Delivered] < rounds/10 {
		t.Errorf("the faults are too many or too few: %v", outcomes)
	}
}

// hostile servers and what may be read from them.
func TestHostileServers(t *testing.T) {
	p := thePKI()
	write := func(c net.Conn, s string) bool { _, err := io.WriteString(c, s); return err == nil }
	forever := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for write(c, s) {
			}
		}
	}
	big := makeCert(t, certSpec{names: []string{"mx1.good.example"}, extraSize: 1 << 20})
	long := p.self.chain()
	for range 100 {
		long.Certificate = append(long.Certificate, p.other.cert.Raw)
	}
	for _, tc := range []struct {
		name   string
		serve  func(net.Conn)
		reason string
		most   time.Duration
	}{
		{"endless line", forever("220" + strings.Repeat("x", 1000)), "not an SMTP reply", time.Minute},
		{"endless text", forever(strings.Repeat("220 x", 1000)), "a line of more than", time.Minute},
		{"endless reply", forever("220-still going\r\n"), "more than 128 lines", time.Minute},
		{"10 MB banner", func(c net.Conn) { write(c, "220 "+strings.Repeat("x", 10<<20)+"\r\n") }, "a line of more than", time.Minute},
		{"slow drip", func(c net.Conn) {
			for write(c, "2") {
				time.Sleep(time.Second)
			}
		}, "no answer in time", 6 * time.Minute},
		{"slow lines", func(c net.Conn) {
			for write(c, "220-x\r\n") {
				time.Sleep(4 * time.Minute)
			}
		}, "no answer in time", 6 * time.Minute},
		{"silence", func(c net.Conn) { io.Copy(io.Discard, c) }, "no answer in time", 6 * time.Minute},
		{"early close", func(c net.Conn) { write(c, "22") }, "connection was closed", time.Minute},
		{"closed after STARTTLS", (&receiver{say: map[string]string{"STARTTLS": "220 go ahead\r\n\x15\x03\x03\x00\x02\x02\x28"}}).serve, "behind its reply", time.Minute},
		{"TLS alert", func(c net.Conn) {
			write(c, "220 x\r\n")
			buf := make([]byte, 4096)
			c.Read(buf)
			write(c, "250-x\r\n250 STARTTLS\r\n")
			c.Read(buf)
			write(c, "220 x\r\n")
			c.Read(buf)
			write(c, "\x15\x03\x03\x00\x02\x02\x28")
		}, "handshake failure", time.Minute},
		{"silence after STARTTLS", func(c net.Conn) {
			write(c, "220 x\r\n")
			buf := make([]byte, 4096)
			c.Read(buf)
			write(c, "250-x\r\n250 STARTTLS\r\n")
			c.Read(buf)
			write(c, "220 x\r\n")
			io.Copy(io.Discard, c)
		}, "no answer in time", 5 * time.Minute},
		{"certificate of 1 MB", (&receiver{cert: big.chain()}).serve, "exceeds maximum", time.Minute},
		{"chain of 100", (&receiver{cert: long}).serve, "TLSA", time.Minute},
		{"endless greeting after TLS", (&receiver{cert: p.self.chain(), say: map[string]string{"EHLO/tls": strings.Repeat("250-x\r\n", 500) + "250 x"}}).serve, "more than 128 lines", time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				facts := "good.example MX secure 10 mx1.good.example | 20 mx2.good.example\n" +
					"mx1.good.example A secure 192.0.2.1\nmx1.good.example AAAA secure nodata\n_25._tcp.mx1.good.example TLSA secure " + p.leaf.tlsa(3, 1, 1) + "\n" +
					"mx2.good.example A secure 192.0.2.2\nmx2.good.example AAAA secure nodata\n_25._tcp.mx2.good.example TLSA secure " + p.self.tlsa(3, 1, 1)
				if tc.name == "endless greeting after TLS" {
					facts = strings.Replace(facts, p.leaf.tlsa(3, 1, 1), p.self.tlsa(3, 1, 1), 1)
				}
				r := newRig(t, facts)
				r.net.listen("192.0.2.1:25", tc.serve)
				second := r.at("192.0.2.2", &receiver{cert: p.self.chain()})
				var first *counted
				r.net.wrap = func(address string, c net.Conn) net.Conn {
					if address == "192.0.2.1:25" {
						first = &counted{Conn: c}
						return first
					}
					return c
				}
				start := time.Now()
				res := r.one()
				if res.Outcome != queue.Delivered || len(second.messages()) != 1 {
					t.Fatalf("the next host was not used: %+v", res)
				}
				if took := time.Since(start); took > tc.most {
					t.Errorf("took %v", took)
				}
				if first.n > 400<<10 {
					t.Errorf("%d bytes read", first.n)
				}
				// With the first host alone the reason comes out.
				delete(r.dns.answers, "mx2.good.example A")
				delete(r.dns.answers, "mx2.good.example AAAA")
				res = r.one()
				if res.Outcome != queue.Later || !strings.Contains(res.Reason, tc.reason) {
					t.Errorf("%+v", res)
				}
			})
		})
	}
}

type counted struct {
	net.Conn
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n += n
	return n, err
}

// TestSlowReceiver: a receiver that takes content at a trickle does not hold
// a delivery for ever.
func TestSlowReceiver(t *testing.T) {
	thePKI()
	synctest.Test(t, func(t *testing.T) {
		rec := &receiver{}
		r := goodRig(t, rec)
		r.net.wrap = func(_ string, c net.Conn) net.Conn { return &slow{Conn: c} }
		start := time.Now()
		res := r.send(item(strings.Repeat("0123456789abcdef\r\n", 200_000), "b@good.example"))["b@good.example"]
		if res.Outcome != queue.Later || !strings.Contains(res.Reason, "no answer in time") {
			t.Errorf("%+v", res)
		}
		if took := time.Since(start); took > 45*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// slow passes one write of content every two minutes.
type slow struct {
	net.Conn
	by time.Time
	n  int
}

func (s *slow) SetWriteDeadline(t time.Time) error { s.by = t; return s.Conn.SetWriteDeadline(t) }

func (s *slow) Write(p []byte) (int, error) {
	if s.n += len(p); s.n > 5000 {
		time.Sleep(min(2*time.Minute, time.Until(s.by)))
	}
	return s.Conn.Write(p)
}

// TestCutShort: when ctx ends, Deliver returns soon and reports nothing that
// is not known.
func TestCutShort(t *testing.T) {
	thePKI()
	synctest.Test(t, func(t *testing.T) {
		r := goodRig(t, &receiver{})
		r.net.listen("192.0.2.1:25", func(c net.Conn) { io.Copy(io.Discard, c) })
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		r.Deliver(ctx, item(testMessage, "b@good.example"), func(res queue.Result) { t.Errorf("reported %+v", res) })
		if took := time.Since(start); took > time.Minute+time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 ok\r\n", "250-a\r\n250 b\r\n", "250\n", "250-a\r\n251 b\r\n", "\r\n", "99999\r\n", "250-\r\n250-AUTH=LOGIN\r\n250 SIZE 0\r\n", "554 5.7.1 \xff\x00\x1b[31m\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), maxReplyLine))
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxReplyLines {
			t.Fatalf("%+v", r)
		}
		if s := r.String(); len(s) > maxText || strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
			t.Fatalf("%q", s)
		}
		if e := r.enhanced(); int(e[0]-'0') != r.class() {
			t.Fatalf("%s of %d", e, r.code)
		}
		parseExtensions(r)
	})
}
