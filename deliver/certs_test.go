package deliver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"
)

// certSpec describes a certificate for a test.
type certSpec struct {
	names     []string
	ca        bool
	from, to  time.Time
	issuer    *testCert // nil: self-signed
	extraSize int       // bytes of padding
}

// testCert is a certificate with its key.
type testCert struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func makeCert(t testing.TB, s certSpec) *testCert {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{SerialNumber: serial, NotBefore: s.from, NotAfter: s.to, DNSNames: s.names,
		Subject: pkix.Name{CommonName: "test " + serial.String()}, BasicConstraintsValid: true, IsCA: s.ca}
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = testNow.Add(-time.Hour), testNow.Add(90*24*time.Hour)
	}
	if s.ca {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	} else {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if s.extraSize > 0 {
		tmpl.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 55555, 1}, Value: make([]byte, s.extraSize)}}
	}
	parent, signer := tmpl, key
	if s.issuer != nil {
		parent, signer = s.issuer.cert, s.issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCert{cert, key}
}

// chain is what a server shows: this certificate, then others.
func (c *testCert) chain(others ...*testCert) tls.Certificate {
	out := tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}
	for _, o := range others {
		out.Certificate = append(out.Certificate, o.cert.Raw)
	}
	return out
}

// tlsa is the TLSA record of this certificate in presentation format.
func (c *testCert) tlsa(usage, selector, matching int) string {
	data := c.cert.Raw
	if selector == 1 {
		data = c.cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		h := sha256.Sum256(data)
		data = h[:]
	case 2:
		h := sha512.Sum512(data)
		data = h[:]
	}
	return fmt.Sprintf("%d %d %d %x", usage, selector, matching, data)
}

// testNow is inside the validity of everything that does not say otherwise.
var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// pki is made once: keys are slow under -race.
type pki struct {
	ca, leaf, other, expired, wrongName, expiredTA, wrongNameTA, self *testCert
}

var thePKI = sync.OnceValue(func() *pki {
	t := &testing.T{}
	past, gone := testNow.Add(-72*time.Hour), testNow.Add(-48*time.Hour)
	p := &pki{ca: makeCert(t, certSpec{ca: true})}
	p.leaf = makeCert(t, certSpec{names: []string{"mx.good.example"}, issuer: p.ca})
	p.wrongNameTA = makeCert(t, certSpec{names: []string{"elsewhere.example"}, issuer: p.ca})
	p.expiredTA = makeCert(t, certSpec{names: []string{"mx.good.example"}, issuer: p.ca, from: past, to: gone})
	p.self = makeCert(t, certSpec{names: []string{"mx.good.example"}})
	p.other = makeCert(t, certSpec{names: []string{"mx.good.example"}})
	p.expired = makeCert(t, certSpec{names: []string{"mx.good.example"}, from: past, to: gone})
	p.wrongName = makeCert(t, certSpec{names: []string{"elsewhere.example"}})
	return p
})
