package deliver

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"danepost/tlsa"
)

// The words of the log key security, and of a probe's verdict. None claims
// more than was proved.
const (
	daneVerified        = "dane-verified"        // a usable TLSA record matched and the way there was secure
	daneHost            = "dane-host"            // it matched, but the MX records were insecure
	daneUnauthenticated = "dane-unauthenticated" // only unusable records: encrypted, nobody verified
	pkixVerified        = "verified"             // Web PKI or fingerprint, by policy
	encrypted           = "encrypted"
	plaintext           = "plaintext"
)

// proof is what a connection showed.
type proof struct {
	security string
	match    string // the TLSA record, name or fingerprint that matched
}

// authenticated: the proof names who is on the other side.
func (p proof) authenticated() bool {
	return p.security == daneVerified || p.security == daneHost || p.security == pkixVerified
}

// demandsTLS: without TLS nothing may be sent to the host.
func (h *hostPlan) demandsTLS() bool { return h.level != LevelNone && h.level != LevelMay }

// satisfiedBy is the one gate in front of every message: a connection whose
// proof does not reach the level of the plan carries nothing.
func (h *hostPlan) satisfiedBy(p proof) bool {
	switch h.level {
	case LevelNone, LevelMay:
		return p.security == plaintext || p.security == encrypted
	case LevelEncrypt:
		return p.security == encrypted || p.security == daneUnauthenticated
	case LevelDANE, LevelDANEOnly:
		return p.security == daneVerified || p.security == daneHost
	case LevelVerify, LevelFingerprint:
		return p.security == pkixVerified
	}
	return false
}

// judge decides what a certificate chain, leaf first, proves under the plan.
// It is used for new connections, resumed sessions and pooled connections.
func (h *hostPlan) judge(chain []*x509.Certificate, now time.Time, roots func() (*x509.CertPool, error)) (proof, *failure) {
	switch h.level {
	case LevelDANE, LevelDANEOnly:
		return h.judgeDANE(chain, now)
	case LevelVerify:
		return h.judgePKIX(chain, now, roots)
	case LevelFingerprint:
		return h.judgeFingerprint(chain)
	case LevelEncrypt:
		if h.unauthenticated {
			return proof{security: daneUnauthenticated}, nil
		}
	}
	return proof{security: encrypted}, nil
}

func (h *hostPlan) judgeDANE(chain []*x509.Certificate, now time.Time) (proof, *failure) {
	v := tlsa.Verify(tlsa.Query{Records: h.records, Chain: rawChain(chain), Names: h.names, Now: now})
	if v.Outcome != tlsa.Matched {
		return proof{}, later("4.7.5", "the receiver's certificate does not match its published TLSA record (%s); %s", v.Reason, protection)
	}
	p := proof{security: daneHost, match: v.Record.String()}
	if len(v.Record.Data) > sha512.Size {
		p.match = v.Record.Short() // a whole certificate is too long for a log
	}
	if h.secure {
		p.security = daneVerified
	}
	return p, nil
}

func rawChain(chain []*x509.Certificate) [][]byte {
	raw := make([][]byte, len(chain))
	for i, c := range chain {
		raw[i] = c.Raw
	}
	return raw
}

func (h *hostPlan) judgePKIX(chain []*x509.Certificate, now time.Time, load func() (*x509.CertPool, error)) (proof, *failure) {
	if len(chain) == 0 {
		return proof{}, later("4.7.5", "the receiver sent no certificate; %s", protection)
	}
	if len(chain) > maxChain {
		return proof{}, later("4.7.5", "the receiver sent %d certificates, more than %d; %s", len(chain), maxChain, protection)
	}
	roots, err := load()
	if err != nil {
		return proof{}, later("4.7.5", "level verify needs trusted authorities: %v; set ca_file", err)
	}
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, CurrentTime: now}); err != nil {
		return proof{}, later("4.7.5", "the receiver's certificate is not trusted: %v; %s", err, protection)
	}
	var bad error
	for _, name := range h.names {
		if bad = chain[0].VerifyHostname(name); bad == nil {
			return proof{security: pkixVerified, match: name}, nil
		}
	}
	return proof{}, later("4.7.5", "the receiver's certificate is not for %q: %v; %s", h.names, bad, protection)
}

func (h *hostPlan) judgeFingerprint(chain []*x509.Certificate) (proof, *failure) {
	if len(chain) == 0 {
		return proof{}, later("4.7.5", "the receiver sent no certificate; %s", protection)
	}
	for _, der := range [][]byte{chain[0].Raw, chain[0].RawSubjectPublicKeyInfo} {
		short, long := sha256.Sum256(der), sha512.Sum512(der)
		for _, want := range h.hop.fingerprints {
			if bytes.Equal(want, short[:]) || bytes.Equal(want, long[:]) {
				return proof{security: pkixVerified, match: fmt.Sprintf("fingerprint %x", want[:8])}, nil
			}
		}
	}
	return proof{}, later("4.7.5", "the receiver's certificate has none of the fingerprints of the policy (SHA-256 of its key is %x); %s",
		sha256.Sum256(chain[0].RawSubjectPublicKeyInfo), protection)
}

// peer is what VerifyConnection saw. It counts only once Handshake returned
// nil: in TLS 1.3 the callback runs before the server has proved that it
// holds the key (RFC 8446 §4.4.3).
type peer struct {
	chain  []*x509.Certificate
	proof  proof
	failed *failure
}

// tlsConfig is the client's side of a handshake under a plan.
func (d *Deliverer) tlsConfig(h *hostPlan, m manner, p *peer) *tls.Config {
	cfg := &tls.Config{
		ServerName: h.sni, // RFC 7672 §8.1: the TLSA base domain
		MinVersion: tls.VersionTLS12,
		// The certificate is judged below, by TLSA records or policy;
		// VerifyConnection runs on resumed sessions too.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			p.chain = cs.PeerCertificates
			p.proof, p.failed = h.judge(cs.PeerCertificates, d.now(), d.roots)
			if p.failed != nil {
				return p.failed
			}
			return nil
		},
		CipherSuites: cipherSuites(h.level),
		// Short first records serve pages that are shown as they arrive; a
		// message is of use when it is whole.
		DynamicRecordSizingDisabled: true,
		Time:                        d.now,
		ClientSessionCache:          ticketCache{d.tickets, fmt.Sprintf("%+v", h.key())},
	}
	if m == mannerClassic {
		cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	}
	if h.level == LevelMay {
		// RFC 7435 §3: with nobody verified, old TLS is better than none.
		cfg.MinVersion = tls.VersionTLS10
	}
	return cfg
}

// cipherSuites are those of TLS 1.2 and below. RSA key exchange is among them:
// without it servers that know nothing else would get plaintext, or no mail.
func cipherSuites(l Level) []uint16 {
	suites := []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
	}
	if l == LevelMay {
		suites = append(suites, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
	}
	return suites
}

// ticketCache keeps the sessions of one key apart from all others.
type ticketCache struct {
	all tls.ClientSessionCache
	key string
}

func (t ticketCache) Get(name string) (*tls.ClientSessionState, bool) { return t.all.Get(t.key + name) }
func (t ticketCache) Put(name string, s *tls.ClientSessionState)      { t.all.Put(t.key+name, s) }

// tlsWords are the protocol version and the cipher as they are logged.
func tlsWords(cs *tls.ConnectionState) (version, cipher string) {
	if cs == nil {
		return "", ""
	}
	switch cs.Version {
	case tls.VersionTLS10:
		version = "TLSv1"
	case tls.VersionTLS11:
		version = "TLSv1.1"
	case tls.VersionTLS12:
		version = "TLSv1.2"
	default:
		version = "TLSv1.3"
	}
	return version, tls.CipherSuiteName(cs.CipherSuite)
}
