package deliver

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"danepost/queue"
)

// tap records what goes over a path in the clear.
type tap struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

type tapped struct {
	net.Conn
	t *tap
}

func (c tapped) Write(p []byte) (int, error) {
	c.t.mu.Lock()
	c.t.sent.Write(p)
	c.t.mu.Unlock()
	return c.Conn.Write(p)
}

// leaked: a byte of the envelope or the message was seen on the path.
func (t *tap) leaked() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.sent.Bytes()
	for _, s := range []string{"secret words", "a@sender.example", "b@good.example", "MAIL FROM", "Subject"} {
		if bytes.Contains(seen, []byte(s)) {
			return true
		}
	}
	return false
}

func (r *rig) tap() *tap {
	t := &tap{}
	r.net.wrap = func(_ string, c net.Conn) net.Conn { return tapped{c, t} }
	return t
}

// TestReleaseCases are the cases that every release must show. All of them
// publish secure TLSA records unless the case is about their absence, and
// then no byte of the mail may be seen on the path.
func TestReleaseCases(t *testing.T) {
	p := thePKI()
	good := func(tlsa ...string) string {
		return goodHost("good.example", "mx.good.example", "192.0.2.1", strings.Join(tlsa, " | "))
	}
	two := func(first string) string {
		return "good.example MX secure 10 mx1.good.example | 20 mx.good.example\n" +
			"mx1.good.example A secure 192.0.2.9\nmx1.good.example AAAA secure nodata\n_25._tcp.mx1.good.example TLSA " + first + "\n" +
			"mx.good.example A secure 192.0.2.1\nmx.good.example AAAA secure nodata\n_25._tcp.mx.good.example TLSA secure " + p.self.tlsa(3, 1, 1)
	}
	swap := func(s, old, new string) string { return strings.Replace(s, old, new, 1) }
	self := receiver{cert: p.self.chain()}
	withCA := receiver{cert: p.leaf.chain(p.ca)}
	alone := receiver{cert: p.leaf.chain()}
	for _, tc := range []struct {
		name     string
		facts    string
		rec      *receiver
		outcome  queue.Outcome
		security string // when delivered
		code     string // when not
		reason   string // part of it
		clear    bool   // may be seen on the path
	}{
		{name: "3 1 1", facts: good(p.self.tlsa(3, 1, 1)), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "3 0 1", facts: good(p.self.tlsa(3, 0, 1)), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "3 1 2", facts: good(p.self.tlsa(3, 1, 2)), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "3 0 0", facts: good(p.self.tlsa(3, 0, 0)), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "2 0 1", facts: good(p.ca.tlsa(2, 0, 1)), rec: &withCA, outcome: 1, security: "dane-verified"},
		{name: "2 1 1", facts: good(p.ca.tlsa(2, 1, 1)), rec: &withCA, outcome: 1, security: "dane-verified"},
		{name: "2 0 0 absent from the chain", facts: good(p.ca.tlsa(2, 0, 0)), rec: &alone, outcome: 1, security: "dane-verified"},
		{name: "2 1 0 absent from the chain", facts: good(p.ca.tlsa(2, 1, 0)), rec: &alone, outcome: 1, security: "dane-verified"},
		{name: "expired under 3 1 1", facts: good(p.expired.tlsa(3, 1, 1)), rec: &receiver{cert: p.expired.chain()}, outcome: 1, security: "dane-verified"},
		{name: "wrong name under 3 0 1", facts: good(p.wrongName.tlsa(3, 0, 1)), rec: &receiver{cert: p.wrongName.chain()}, outcome: 1, security: "dane-verified"},
		{name: "wrong name under 2 0 1", facts: good(p.ca.tlsa(2, 0, 1)), rec: &receiver{cert: p.wrongNameTA.chain(p.ca)}, code: "4.7.5", reason: "does not match its published TLSA record"},
		{name: "expired under 2 1 1", facts: good(p.ca.tlsa(2, 1, 1)), rec: &receiver{cert: p.expiredTA.chain(p.ca)}, code: "4.7.5", reason: "expired"},
		{name: "a failing EE and a good TA", facts: good(p.other.tlsa(3, 1, 1), p.ca.tlsa(2, 0, 1)), rec: &withCA, outcome: 1, security: "dane-verified"},
		{name: "roll-over, old and new digest", facts: good(p.other.tlsa(3, 1, 1), p.self.tlsa(3, 1, 1)), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "all unusable", facts: good("1 1 1 "+strings.Repeat("ab", 32), "raw 03"), rec: &self, outcome: 1, security: "dane-unauthenticated"},
		{name: "all unusable, STARTTLS stripped", facts: good("1 1 1 " + strings.Repeat("ab", 32)), rec: &receiver{plain: true}, code: "4.7.4", reason: "RFC 7672"},
		{name: "all unusable, handshake fails", facts: good("1 1 1 " + strings.Repeat("ab", 32)), rec: &receiver{cert: p.self.chain(), tlsConfig: failHandshake}, code: "4.7.5", reason: "handshake"},
		{name: "TLSA bogus with a second good MX", facts: two("bogus"), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "TLSA SERVFAIL with a second good MX", facts: two("indeterminate"), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "both MX failing", facts: swap(two("bogus"), "TLSA secure", "TLSA indeterminate"), rec: &self, code: "4.7.5", reason: "mx1.good.example"},
		{name: "insecure address with TLSA present", facts: swap(swap(good(p.other.tlsa(3, 1, 1)), "A secure", "A insecure"), "AAAA secure", "AAAA insecure"), rec: &self, outcome: 1, security: "encrypted"},
		{name: "secure denial", facts: good("x")[:strings.Index(good("x"), "_25")], rec: &self, outcome: 1, security: "encrypted"},
		{name: "STARTTLS stripped", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{plain: true}, code: "4.7.4", reason: "does not offer STARTTLS"},
		{name: "STARTTLS refused for now", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{say: map[string]string{"STARTTLS": "454 4.7.0 TLS not available"}}, code: "4.7.4", reason: "RFC 7672"},
		{name: "STARTTLS refused for good", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{say: map[string]string{"STARTTLS": "554 5.7.0 no TLS"}}, code: "4.7.4", reason: "RFC 7672"},
		{name: "garbage behind the 220", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{cert: p.self.chain(), afterStartTLS: []byte("250 injected")}, code: "4.7.5", reason: "behind its reply to STARTTLS"},
		{name: "handshake fails", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{cert: p.self.chain(), tlsConfig: failHandshake}, code: "4.7.5", reason: "handshake"},
		{name: "TLS 1.1 only", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{cert: p.self.chain(), tlsConfig: oldTLS}, code: "4.7.5", reason: "handshake"},
		{name: "forged MX with bad signature", facts: "good.example MX bogus", rec: &self, code: "4.4.3", reason: "DNSSEC"},
		{name: "certificate swapped in the path", facts: good(p.self.tlsa(3, 1, 1)), rec: &receiver{cert: p.other.chain()}, code: "4.7.5", reason: "to protect it"},
		{name: "IPv6-only MX", facts: swap(swap(good(p.self.tlsa(3, 1, 1)), "A secure 192.0.2.1", "A secure nodata"), "AAAA secure nodata", "AAAA secure 2001:db8::1"), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "MX behind a secure CNAME, expanded", facts: swap(swap(swap(good(p.self.tlsa(3, 1, 1)), "mx.good.example A secure", "mx.good.example A link secure host.example secure"),
			"mx.good.example AAAA secure", "mx.good.example AAAA link secure host.example secure"), "_25._tcp.mx.good.example", "_25._tcp.host.example"), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "MX behind a secure CNAME, original", facts: swap(swap(good(p.self.tlsa(3, 1, 1)), "mx.good.example A secure", "mx.good.example A link secure host.example secure"),
			"mx.good.example AAAA secure", "mx.good.example AAAA link secure host.example secure"), rec: &self, outcome: 1, security: "dane-verified"},
		{name: "MX insecure, host with TLSA", facts: swap(good(p.self.tlsa(3, 1, 1)), "MX secure", "MX insecure"), rec: &self, outcome: 1, security: "dane-host"},
		{name: "MX insecure, certificate of another", facts: swap(good(p.self.tlsa(3, 1, 1)), "MX secure", "MX insecure"), rec: &receiver{cert: p.other.chain()}, code: "4.7.5"},
		{name: "null MX", facts: "good.example MX secure 0 .", rec: &self, outcome: 2, code: "5.1.10"},
		{name: "unsigned domain", facts: strings.ReplaceAll(good(p.other.tlsa(3, 1, 1)), "secure", "insecure"), rec: &self, outcome: 1, security: "encrypted"},
		{name: "unsigned domain, no TLS", facts: strings.ReplaceAll(good(p.other.tlsa(3, 1, 1)), "secure", "insecure"), rec: &receiver{plain: true}, outcome: 1, security: "plaintext", clear: true},
		{name: "unsigned domain, handshake fails", facts: strings.ReplaceAll(good(p.other.tlsa(3, 1, 1)), "secure", "insecure"), rec: &receiver{cert: p.self.chain(), tlsConfig: failHandshake}, outcome: 1, security: "plaintext", clear: true},
		{name: "unsigned domain, TLS 1.1 only", facts: strings.ReplaceAll(good(p.other.tlsa(3, 1, 1)), "secure", "insecure"), rec: &receiver{cert: p.self.chain(), tlsConfig: oldTLS}, outcome: 1, security: "encrypted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.facts)
			// A fresh receiver with the same behaviour: cases do not share state.
			rec := &receiver{cert: tc.rec.cert, plain: tc.rec.plain, say: tc.rec.say, tlsConfig: tc.rec.tlsConfig, afterStartTLS: tc.rec.afterStartTLS}
			r.at("192.0.2.1", rec)
			r.at("[2001:db8::1]:25", rec)
			path := r.tap()
			res := r.one()
			if res.Outcome != tc.outcome || res.Security != tc.security || (tc.code != "" && res.DSN != tc.code) || !strings.Contains(res.Reason, tc.reason) {
				t.Errorf("got %+v", res)
			}
			if n := len(rec.messages()); (n == 1) != (tc.outcome == queue.Delivered) {
				t.Errorf("%d messages arrived", n)
			}
			if path.leaked() != tc.clear {
				t.Errorf("seen on the path: %q", path.sent.String())
			}
			if line := r.log.String(); !strings.Contains(line, "security="+tc.security) || strings.Count(line, "\n") != 1 {
				t.Errorf("log: %s", line)
			}
		})
	}
}

// failHandshake: a server with no protocol version in common.
func failHandshake(c *tls.Config) {
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, fmt.Errorf("no") }
}

func oldTLS(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }

// TestUnreadableCertificate: where the library cannot read what the receiver
// shows there is no proof, so it is a deferral, and the reason names it.
func TestUnreadableCertificate(t *testing.T) {
	p := thePKI()
	broken := p.self.chain()
	der := bytes.Clone(p.self.cert.Raw)
	at := bytes.Index(der, []byte("mx.good.example"))
	der[at] = 0xff // a dNSName that is no ASCII
	broken.Certificate = [][]byte{der}
	r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)))
	rec := r.at("192.0.2.1", &receiver{cert: broken})
	path := r.tap()
	res := r.one()
	if res.Outcome != queue.Later || !strings.Contains(res.Reason, "certificate") || len(rec.messages()) > 0 || path.leaked() {
		t.Errorf("%+v", res)
	}
}
