package deliver

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"danepost/queue"
)

// TestReuse: the next message goes over the same connection; after the
// connection died, over a new one with a resumed TLS session, verified again.
func TestReuse(t *testing.T) {
	rec := &receiver{}
	r := goodRig(t, rec)
	for range 3 {
		if res := r.one(); res.Outcome != queue.Delivered || res.Security != "dane-verified" {
			t.Fatalf("%+v", res)
		}
	}
	if rec.sessions != 1 {
		t.Errorf("%d sessions for three messages", rec.sessions)
	}
	r.net.closeAll()
	if res := r.one(); res.Outcome != queue.Delivered || res.Security != "dane-verified" {
		t.Fatalf("after the connection died: %+v", res)
	}
	if rec.sessions != 2 || rec.resumed != 1 || len(rec.messages()) != 4 {
		t.Errorf("%d sessions, %d resumed, %d messages", rec.sessions, rec.resumed, len(rec.messages()))
	}
}

// TestReuseAfter421: a receiver that has had enough says so, and the message
// goes over a new connection without delay.
func TestReuseAfter421(t *testing.T) {
	n := 0
	rec := &receiver{answer: func(verb, _ string, _ bool) string {
		if verb == "MAIL" {
			if n++; n == 2 {
				return "421 4.7.0 too many messages"
			}
		}
		return ""
	}}
	r := goodRig(t, rec)
	for range 2 {
		if res := r.one(); res.Outcome != queue.Delivered {
			t.Fatalf("%+v", res)
		}
	}
	if rec.sessions != 2 {
		t.Errorf("%d sessions", rec.sessions)
	}
}

// TestReuseOfSilent: a kept connection that answers no more is given up soon,
// and the message goes over a new one.
func TestReuseOfSilent(t *testing.T) {
	thePKI()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32 // two sessions ask it
		rec := &receiver{answer: func(verb, _ string, _ bool) string {
			if verb == "MAIL" {
				if n.Add(1) == 2 {
					time.Sleep(10 * time.Minute)
					return "drop"
				}
			}
			return ""
		}}
		r := goodRig(t, rec)
		start := time.Now()
		for range 2 {
			if res := r.one(); res.Outcome != queue.Delivered {
				t.Fatalf("%+v", res)
			}
		}
		if took := time.Since(start); took > 2*againTime || len(rec.messages()) != 2 || rec.sessions != 2 {
			t.Errorf("%v, %d messages, %d sessions", took, len(rec.messages()), rec.sessions)
		}
		r.Close()
		time.Sleep(10 * time.Minute)
	})
}

// TestReuseNeverAcrossLevels: a connection opened under a weaker demand never
// carries mail that made a stronger one, and a changed TLSA set counts at once.
func TestReuseNeverAcrossLevels(t *testing.T) {
	p := thePKI()
	rec := &receiver{}
	r := goodRig(t, rec)
	facts := goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1))
	set := func(facts string) { r.resolver = newDNS(t, facts) }

	set(strings.ReplaceAll(facts, "TLSA secure", "TLSA insecure"))
	if res := r.one(); res.Security != "encrypted" {
		t.Fatalf("%+v", res)
	}
	set(facts)
	if res := r.one(); res.Security != "dane-verified" || rec.sessions != 2 {
		t.Fatalf("%+v over %d sessions", res, rec.sessions)
	}
	set(goodHost("good.example", "mx.good.example", "192.0.2.1", p.other.tlsa(3, 1, 1)))
	if res := r.one(); res.Outcome != queue.Later {
		t.Fatalf("the key changed in the DNS: %+v", res)
	}
	if n := len(rec.messages()); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// TestReuseAcrossDomains: two domains at one host share a connection, and
// each is judged by its own records.
func TestReuseAcrossDomains(t *testing.T) {
	p := thePKI()
	host := "mx.good.example A secure 192.0.2.1\nmx.good.example AAAA secure nodata\n_25._tcp.mx.good.example TLSA secure " + p.self.tlsa(3, 1, 1)
	r := newRig(t, "good.example MX secure 10 mx.good.example\nunsigned.example MX insecure 10 mx.good.example\n"+host)
	rec := r.at("192.0.2.1", &receiver{cert: p.self.chain()})
	if res := r.one(); res.Security != "dane-verified" {
		t.Fatalf("%+v", res)
	}
	res := r.send(item(testMessage, "x@unsigned.example"))["x@unsigned.example"]
	if res.Security != "dane-host" || rec.sessions != 1 {
		t.Errorf("%+v over %d sessions", res, rec.sessions)
	}
}

// TestIdleConnectionsEnd: after ten seconds without a message, with QUIT.
func TestIdleConnectionsEnd(t *testing.T) {
	thePKI()
	synctest.Test(t, func(t *testing.T) {
		rec := &receiver{}
		r := goodRig(t, rec)
		r.one()
		time.Sleep(idleTime + quitTime)
		synctest.Wait()
		if got := rec.commands(); got[len(got)-1] != "QUIT" {
			t.Errorf("last command: %q", got[len(got)-1])
		}
		r.one()
		if rec.sessions != 2 {
			t.Errorf("%d sessions", rec.sessions)
		}
	})
}

func TestPoolIsBounded(t *testing.T) {
	thePKI()
	rec := &receiver{}
	r := goodRig(t, rec, func(c *Config) { c.ConnectionsPerDestination = 2 })
	var sessions []*session
	for range 4 {
		facts := hostFacts{candidate: candidate{host: "mx.good.example"}}
		rt := route{hop: hop{level: LevelMay, port: 25}}
		facts.a, facts.aaaa = r.dns.Lookup(context.Background(), "mx.good.example", 1), r.dns.Lookup(context.Background(), "mx.good.example", 28)
		plan, _ := planHost(&rt, &facts)
		got, f := r.race(context.Background(), plan.addrs, 25)
		if f != nil {
			t.Fatal(f)
		}
		left := 0
		s, f := r.bring(context.Background(), &plan, got, &left)
		if f != nil {
			t.Fatal(f)
		}
		sessions = append(sessions, s)
	}
	for _, s := range sessions {
		r.pool.put(s)
	}
	if r.pool.count != 2 {
		t.Errorf("%d idle", r.pool.count)
	}
}

// TestHappyEyeballs: a family that hangs costs a quarter of a second.
func TestHappyEyeballs(t *testing.T) {
	thePKI()
	synctest.Test(t, func(t *testing.T) {
		p := thePKI()
		r := newRig(t, "good.example MX secure 10 mx.good.example\nmx.good.example A secure 192.0.2.1\nmx.good.example AAAA secure 2001:db8::1 | 2001:db8::2\n_25._tcp.mx.good.example TLSA secure "+p.self.tlsa(3, 1, 1))
		rec := r.at("192.0.2.1", &receiver{cert: p.self.chain()})
		inner := r.dial
		r.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "[") {
				<-ctx.Done() // a black hole
				return nil, ctx.Err()
			}
			return inner(ctx, network, address)
		}
		start := time.Now()
		if res := r.one(); res.Outcome != queue.Delivered {
			t.Fatalf("%+v", res)
		}
		if took := time.Since(start); took > time.Second || rec.sessions != 1 {
			t.Errorf("took %v, %d sessions", took, rec.sessions)
		}
	})
}

func TestInterleave(t *testing.T) {
	var in []netip.Addr
	for _, s := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1", "::ffff:192.0.2.3"} {
		in = append(in, netip.MustParseAddr(s))
	}
	if got := fmt.Sprint(interleave(in)); got != "[2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3]" {
		t.Error(got)
	}
	for i := range 100 {
		in = append(in, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	if n := len(interleave(in)); n != maxAddresses {
		t.Errorf("%d addresses", n)
	}
}

// TestPolicyOfOneFamily: refused for policy over IPv6, accepted over IPv4.
func TestPolicyOfOneFamily(t *testing.T) {
	p := thePKI()
	for _, verb := range []string{"greeting", "MAIL", "RCPT"} {
		for _, four := range []string{"", "550 5.7.1 nor here"} {
			t.Run(verb+" "+four, func(t *testing.T) {
				r := newRig(t, "good.example MX secure 10 mx.good.example\nmx.good.example A secure 192.0.2.1 | 192.0.2.3\nmx.good.example AAAA secure 2001:db8::1 | 2001:db8::2\n")
				six := r.at("[2001:db8::1]:25", &receiver{cert: p.self.chain(), say: map[string]string{verb: "550 5.7.1 no reverse name"}})
				other := r.at("[2001:db8::2]:25", &receiver{cert: p.self.chain()})
				last := r.at("192.0.2.1", &receiver{cert: p.self.chain(), say: map[string]string{verb: four}})
				res := r.one()
				want := queue.Delivered
				if four != "" {
					want = queue.Failed
				}
				if res.Outcome != want || six.sessions != 1 || other.sessions != 0 || last.sessions != 1 {
					t.Errorf("%+v; %d, %d and %d sessions", res, six.sessions, other.sessions, last.sessions)
				}
			})
		}
	}
}

// TestAddressesOfAHost: the next address is tried when one does not work.
func TestAddressesOfAHost(t *testing.T) {
	p := thePKI()
	r := newRig(t, "good.example MX secure 10 mx.good.example\nmx.good.example A secure 192.0.2.1 | 192.0.2.2 | 192.0.2.3\nmx.good.example AAAA secure nodata\n_25._tcp.mx.good.example TLSA secure "+p.self.tlsa(3, 1, 1))
	r.at("192.0.2.2", &receiver{cert: p.other.chain()})
	good := r.at("192.0.2.3", &receiver{cert: p.self.chain()})
	if res := r.one(); res.Outcome != queue.Delivered || len(good.messages()) != 1 {
		t.Errorf("%+v", res)
	}
}

// relayRig is a Deliverer with a relay.
func relayRig(t *testing.T, rec *receiver, facts string, port uint16) *rig {
	p := thePKI()
	r := newRig(t, facts, func(c *Config) {
		c.Relay = &Relay{Host: "smtp.relay.example", Port: port, Username: "user", Password: "pencil"}
		c.Roots = func() (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			pool.AddCert(p.ca.cert)
			return pool, nil
		}
	})
	if port == 0 {
		port = 587
	}
	r.net.listen(fmt.Sprintf("192.0.2.1:%d", port), rec.serve)
	return r
}

func TestRelayLogin(t *testing.T) {
	p := thePKI()
	relayCert := makeCert(t, certSpec{names: []string{"smtp.relay.example"}, issuer: p.ca}).chain()
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	insecure := "smtp.relay.example A insecure 192.0.2.1\nsmtp.relay.example AAAA insecure nodata\n"
	secure := "smtp.relay.example A secure 192.0.2.1\nsmtp.relay.example AAAA secure nodata\n_%d._tcp.smtp.relay.example TLSA secure %s\n"
	for _, tc := range []struct {
		name     string
		rec      *receiver
		facts    string
		port     uint16
		security string // "" = deferred
		reason   string
	}{
		{"PLAIN, Web PKI", &receiver{cert: relayCert, ext: []string{"AUTH LOGIN PLAIN"}}, insecure, 0, "verified", ""},
		{"PLAIN, DANE", &receiver{cert: p.self.chain(), ext: []string{"AUTH PLAIN"}}, fmt.Sprintf(secure, 587, p.self.tlsa(3, 1, 1)), 0, "dane-verified", ""},
		{"LOGIN", &receiver{cert: relayCert, ext: []string{"AUTH LOGIN"}}, insecure, 0, "verified", ""},
		{"old spelling", &receiver{cert: relayCert, ext: []string{"AUTH=LOGIN"}}, insecure, 0, "verified", ""},
		{"implicit TLS on 465", &receiver{cert: relayCert, implicit: true, ext: []string{"AUTH PLAIN"}}, insecure, 465, "verified", ""},
		{"SCRAM-SHA-256", &receiver{cert: relayCert, ext: []string{"AUTH PLAIN SCRAM-SHA-256"}}, insecure, 0, "verified", ""},
		{"SCRAM-SHA-1", &receiver{cert: relayCert, ext: []string{"AUTH PLAIN SCRAM-SHA-1"}}, insecure, 0, "verified", ""},
		{"SCRAM, server without the password", &receiver{cert: relayCert, ext: []string{"AUTH SCRAM-SHA-256"}}, insecure, 0, "", "does not know the password"},
		{"wrong password", &receiver{cert: relayCert, ext: []string{"AUTH PLAIN"}, say: map[string]string{"AUTH": "535 5.7.8 no"}}, insecure, 0, "", "log-in failed"},
		{"no mechanism", &receiver{cert: relayCert, ext: []string{"AUTH GSSAPI"}}, insecure, 0, "", "GSSAPI"},
		{"certificate of another", &receiver{cert: p.leaf.chain(), ext: []string{"AUTH PLAIN"}}, insecure, 0, "", "not for"},
		{"unknown authority", &receiver{cert: p.self.chain(), ext: []string{"AUTH PLAIN"}}, insecure, 0, "", "not trusted"},
		{"no STARTTLS", &receiver{plain: true, ext: []string{"AUTH PLAIN"}}, insecure, 0, "", "does not offer STARTTLS"},
		{"wrong key under DANE", &receiver{cert: p.other.chain(), ext: []string{"AUTH PLAIN"}}, fmt.Sprintf(secure, 587, p.self.tlsa(3, 1, 1)), 0, "", "TLSA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var auth []string
			var scram *scramServer
			if strings.Contains(tc.name, "SCRAM") {
				scram = &scramServer{password: "pencil", lie: strings.Contains(tc.name, "without")}
			}
			step := 0
			if tc.rec.say == nil {
				tc.rec.answer = func(verb, line string, over bool) string {
					if verb != "AUTH" && (step == 0 || slices.Contains(strings.Fields("EHLO RCPT DATA MAIL . STARTTLS greeting QUIT DATA? .?"), verb)) {
						return ""
					}
					if !over {
						t.Error("log-in in the clear")
					}
					auth = append(auth, line)
					step++
					switch {
					case scram != nil:
						return scram.answer(line)
					case strings.HasPrefix(line, "AUTH LOGIN"):
						return "334 " + b64("Username:")
					case line == b64("user"):
						return "334 " + b64("Password:")
					}
					return "235 2.7.0 ok"
				}
			}
			r := relayRig(t, tc.rec, tc.facts, tc.port)
			res := r.one()
			if res.Security != tc.security || !strings.Contains(res.Reason, tc.reason) {
				t.Fatalf("%+v", res)
			}
			if tc.security == "" {
				if res.Outcome != queue.Later || strings.Contains(strings.Join(auth, " "), b64("\x00user\x00pencil")) {
					t.Errorf("%+v after %q", res, auth)
				}
				return
			}
			want := "AUTH PLAIN " + b64("\x00user\x00pencil")
			if scram == nil && !strings.Contains(tc.rec.ext[0], "PLAIN") {
				want = "AUTH LOGIN"
			}
			if scram == nil && auth[0] != want {
				t.Errorf("said %q", auth)
			}
		})
	}
}

// scramServer is the other side of RFC 5802, for one client.
type scramServer struct {
	password    string
	lie         bool
	mech        string
	first, ours string
}

func (s *scramServer) answer(line string) string {
	if rest, ok := strings.CutPrefix(line, "AUTH "); ok {
		mech, initial, _ := strings.Cut(rest, " ")
		b, _ := base64.StdEncoding.DecodeString(initial)
		s.mech, s.first = mech, strings.TrimPrefix(string(b), "n,,")
		s.ours = "r=" + scramFields(s.first)["r"] + "more,s=c2FsdHNhbHQ=,i=4096"
		return "334 " + base64.StdEncoding.EncodeToString([]byte(s.ours))
	}
	b, _ := base64.StdEncoding.DecodeString(line)
	if len(b) == 0 {
		return "235 2.7.0 ok"
	}
	// The same computation from the other end: what the client would verify.
	peer := newSCRAM(s.mech, "user", s.password)
	if s.lie {
		peer.password = "guess"
	}
	peer.firstBare, peer.nonce = s.first, scramFields(s.first)["r"]
	want, err := peer.final(s.ours)
	if err != nil || (!s.lie && string(want) != string(b)) {
		return "535 5.7.8 wrong proof"
	}
	return "334 " + base64.StdEncoding.EncodeToString([]byte("v="+base64.StdEncoding.EncodeToString(peer.serverSignature)))
}

// TestSCRAMVector is the example of RFC 7677 §3.
func TestSCRAMVector(t *testing.T) {
	s := newSCRAM("SCRAM-SHA-256", "user", "pencil")
	s.nonce = "rOprNGfwEbeRWgbNEkqO"
	if first, _ := s.start(); string(first) != "n,,n=user,r=rOprNGfwEbeRWgbNEkqO" {
		t.Fatalf("%s", first)
	}
	got, err := s.next([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if err != nil || !strings.HasSuffix(string(got), "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=") {
		t.Fatalf("%s %v", got, err)
	}
	if _, err := s.next([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil || s.done() != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "r=x,s=eA==,i=1", "r=rOprNGfwEbeRWgbNEkqOx,s=eA==,i=99999999", "r=rOprNGfwEbeRWgbNEkqOx,s=,i=1", "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=eA==,i=1"} {
		s := newSCRAM("SCRAM-SHA-256", "user", "pencil")
		s.nonce = "rOprNGfwEbeRWgbNEkqO"
		if _, err := s.next([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestPolicies(t *testing.T) {
	p := thePKI()
	spki := sha256.Sum256(p.self.cert.RawSubjectPublicKeyInfo)
	pool := func() (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		pool.AddCert(p.ca.cert)
		return pool, nil
	}
	noPool := func() (*x509.CertPool, error) { return nil, errors.New("no bundle") }
	for _, tc := range []struct {
		name     string
		policy   Policy
		rec      *receiver
		roots    func() (*x509.CertPool, error)
		security string
		reason   string
	}{
		{"none", Policy{TLS: LevelNone}, &receiver{cert: p.self.chain()}, pool, "plaintext", ""},
		{"may", Policy{TLS: LevelMay}, &receiver{cert: p.self.chain()}, pool, "encrypted", ""},
		{"encrypt", Policy{TLS: LevelEncrypt}, &receiver{cert: p.self.chain()}, pool, "encrypted", ""},
		{"encrypt, not offered", Policy{TLS: LevelEncrypt}, &receiver{plain: true}, pool, "", "level encrypt makes mandatory"},
		{"encrypt, handshake fails", Policy{TLS: LevelEncrypt}, &receiver{tlsConfig: failHandshake}, pool, "", "handshake"},
		{"verify", Policy{TLS: LevelVerify}, &receiver{cert: p.leaf.chain()}, pool, "verified", ""},
		{"verify, wrong name", Policy{TLS: LevelVerify}, &receiver{cert: p.wrongNameTA.chain()}, pool, "", "not for"},
		{"verify, expired", Policy{TLS: LevelVerify}, &receiver{cert: p.expiredTA.chain()}, pool, "", "expired"},
		{"verify, no bundle", Policy{TLS: LevelVerify}, &receiver{cert: p.leaf.chain()}, noPool, "", "ca_file"},
		{"fingerprint", Policy{TLS: LevelFingerprint, Fingerprints: []string{fmt.Sprintf("%x", spki)}}, &receiver{cert: p.self.chain()}, pool, "verified", ""},
		{"fingerprint of another", Policy{TLS: LevelFingerprint, Fingerprints: []string{fmt.Sprintf("%x", spki)}}, &receiver{cert: p.other.chain()}, pool, "", "fingerprints"},
		{"dane-only", Policy{TLS: LevelDANEOnly}, &receiver{cert: p.self.chain()}, pool, "dane-verified", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.policy.Domain = "good.example"
			r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1)),
				func(c *Config) { c.Policies, c.Roots = []Policy{tc.policy}, tc.roots })
			rec := r.at("192.0.2.1", tc.rec)
			res := r.one()
			if res.Security != tc.security || !strings.Contains(res.Reason, tc.reason) {
				t.Errorf("%+v", res)
			}
			if (tc.security == "") != (res.Outcome == queue.Later) || (len(rec.messages()) == 0) != (tc.security == "") {
				t.Errorf("%+v, %d arrived", res, len(rec.messages()))
			}
		})
	}
}

// TestClientHello: SNI is the TLSA base domain, and no version below 1.2 is
// offered where DANE demands TLS.
func TestClientHello(t *testing.T) {
	p := thePKI()
	var mu sync.Mutex
	var hello *tls.ClientHelloInfo
	rec := &receiver{cert: p.self.chain(), tlsConfig: func(c *tls.Config) {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			hello = h
			return nil, nil
		}
	}}
	r := newRig(t, "good.example MX secure 10 mx.good.example\nmx.good.example A link secure real.example secure 192.0.2.1\nmx.good.example AAAA link secure real.example secure nodata\n_25._tcp.real.example TLSA secure "+p.self.tlsa(3, 1, 1))
	r.at("192.0.2.1", rec)
	if res := r.one(); res.Outcome != queue.Delivered {
		t.Fatalf("%+v", res)
	}
	if hello.ServerName != "real.example" {
		t.Errorf("SNI %q", hello.ServerName)
	}
	for _, v := range hello.SupportedVersions {
		if v < tls.VersionTLS12 {
			t.Errorf("version %x offered", v)
		}
	}
	if len(hello.SupportedProtos) > 0 {
		t.Errorf("ALPN %q", hello.SupportedProtos)
	}
}

// TestOldMiddlebox: a path that lets no large ClientHello through costs a
// second connection, not the mail, and TLS all the same.
func TestOldMiddlebox(t *testing.T) {
	rec := &receiver{tlsConfig: func(c *tls.Config) {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(h.SupportedCurves, tls.X25519MLKEM768) {
				return nil, errors.New("too large for me")
			}
			return nil, nil
		}
	}}
	r := goodRig(t, rec)
	if res := r.one(); res.Outcome != queue.Delivered || res.Security != "dane-verified" || rec.sessions != 2 {
		t.Errorf("%+v over %d sessions", res, rec.sessions)
	}
}

func TestHeloName(t *testing.T) {
	for host, want := range map[string]string{"mail.example.com": "EHLO mail.example.com", "box": "EHLO [192.0.2.200]", "": "EHLO [192.0.2.200]"} {
		rec := &receiver{}
		r := goodRig(t, rec, func(c *Config) { c.Hostname = host })
		r.one()
		if got := rec.commands()[0]; got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
}

// TestOwnAddress: an MX where this program itself takes mail is a loop.
func TestOwnAddress(t *testing.T) {
	facts := "good.example MX secure 10 mx1.good.example | 20 mx2.good.example\nmx1.good.example A secure 192.0.2.1\nmx1.good.example AAAA secure nodata\n" +
		"mx2.good.example A secure 192.0.2.2\nmx2.good.example AAAA secure nodata\n"
	own := func(s string) func(*Config) {
		return func(c *Config) { c.Own = []netip.AddrPort{netip.MustParseAddrPort(s)} }
	}
	r := newRig(t, facts, own("192.0.2.1:25"))
	if res := r.one(); res.Outcome != queue.Failed || res.DSN != "5.4.6" {
		t.Errorf("%+v", res)
	}
	r = newRig(t, facts, own("192.0.2.2:0"))
	rec := r.at("192.0.2.1", &receiver{cert: thePKI().self.chain()})
	r.at("192.0.2.2", rec)
	if res := r.one(); res.Outcome != queue.Delivered || res.Host != "mx1.good.example" {
		t.Errorf("%+v", res)
	}
	r = newRig(t, facts, own("192.0.2.1:2525"))
	r.at("192.0.2.1", rec)
	if res := r.one(); res.Outcome != queue.Delivered {
		t.Errorf("%+v", res)
	}
}

// TestSourceAddress: real sockets, from the configured address.
func TestSourceAddress(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rec := &receiver{cert: thePKI().self.chain()}
	from := make(chan string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		from <- host
		rec.serve(c)
	})
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	r := newRig(t, "good.example MX secure 10 mx.good.example\nmx.good.example A secure 127.0.0.1\nmx.good.example AAAA secure nodata\n"+
		fmt.Sprintf("_%d._tcp.mx.good.example TLSA secure %s", port, thePKI().self.tlsa(3, 1, 1)), func(c *Config) {
		c.Dial, c.SourceIPv4, c.Port = nil, netip.MustParseAddr("127.0.0.77"), port
	})
	res := r.one()
	r.Close()
	l.Close()
	wg.Wait()
	if res.Security != "dane-verified" || <-from != "127.0.0.77" {
		t.Errorf("%+v", res)
	}
}

// TestUnreachable: the queue learns what is about the destination, not about
// the message.
func TestUnreachable(t *testing.T) {
	good := goodHost("good.example", "mx.good.example", "192.0.2.1", thePKI().self.tlsa(3, 1, 1))
	for _, tc := range []struct {
		name, facts string
		rec         *receiver
		require     bool
		want        bool
	}{
		{"MX bogus", "good.example MX bogus", &receiver{}, false, true},
		{"TLSA bogus", goodHost("good.example", "mx.good.example", "192.0.2.1", "x")[:strings.Index(good, "_25")] + "_25._tcp.mx.good.example TLSA bogus", &receiver{}, false, true},
		{"no connection", strings.Replace(good, "192.0.2.1", "192.0.2.2", 1), &receiver{}, false, true},
		{"no STARTTLS", good, &receiver{plain: true}, false, true},
		{"no STARTTLS, REQUIRETLS", good, &receiver{plain: true}, true, false},
		{"wrong key", good, &receiver{cert: thePKI().other.chain()}, false, true},
		{"greeting 421", good, &receiver{say: map[string]string{"greeting": "421 busy"}}, false, true},
		{"MAIL 451", good, &receiver{say: map[string]string{"MAIL": "451 busy"}}, false, false},
		{"RCPT 450", good, &receiver{say: map[string]string{"RCPT": "450 grey"}}, false, false},
		{"dot 451", good, &receiver{say: map[string]string{".": "451 busy"}}, false, false},
		{"null MX", "good.example MX secure 0 .", &receiver{}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.facts)
			if tc.rec.cert.Certificate == nil {
				tc.rec.cert = thePKI().self.chain()
			}
			r.at("192.0.2.1", tc.rec)
			it := item(testMessage, "b@good.example")
			it.Envelope.RequireTLS = tc.require
			if res := r.send(it)["b@good.example"]; res.Unreachable != tc.want {
				t.Errorf("%+v", res)
			}
		})
	}
}
