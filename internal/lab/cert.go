package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Identity is what a receiver shows in TLS: a key and a chain of certificates.
type Identity struct {
	key   crypto.Signer
	chain []*x509.Certificate // as sent, leaf first
}

// NewIdentity returns an identity made elsewhere; chain is as sent, leaf first.
func NewIdentity(key crypto.Signer, chain ...*x509.Certificate) *Identity {
	return &Identity{key, chain}
}

// CertOption changes a certificate before it is signed.
type CertOption func(*x509.Certificate)

// Expired makes a certificate whose time ended yesterday.
func Expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1)
}

// SelfSigned returns an identity whose only certificate vouches for itself.
func SelfSigned(name string, opts ...CertOption) *Identity {
	key := newKey()
	t := template(name, opts)
	return &Identity{key, []*x509.Certificate{certify(t, t, key.Public(), key)}}
}

// Authority issues certificates: a trust anchor for TLSA usage 2.
type Authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// NewAuthority makes an authority with a self-signed CA certificate.
func NewAuthority(name string, opts ...CertOption) *Authority {
	key := newKey()
	t := template(name, opts)
	t.DNSNames, t.IsCA, t.KeyUsage = nil, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	return &Authority{key, certify(t, t, key.Public(), key)}
}

// Cert returns the CA certificate.
func (a *Authority) Cert() *x509.Certificate { return a.cert }

// Issue makes an identity for name whose chain holds the CA certificate too.
func (a *Authority) Issue(name string, opts ...CertOption) *Identity {
	key := newKey()
	leaf := certify(template(name, opts), a.cert, key.Public(), a.key)
	return &Identity{key, []*x509.Certificate{leaf, a.cert}}
}

// Leaf returns the certificate shown first.
func (id *Identity) Leaf() *x509.Certificate { return id.chain[0] }

// LeafOnly returns the same identity with all but the leaf left out of the chain.
func (id *Identity) LeafOnly() *Identity { return &Identity{id.key, id.chain[:1]} }

// Certificate returns the identity in the form crypto/tls wants.
func (id *Identity) Certificate() tls.Certificate {
	c := tls.Certificate{PrivateKey: id.key, Leaf: id.chain[0]}
	for _, x := range id.chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

// TLSA returns the RDATA, in presentation form, that stands for cert.
func TLSA(usage, selector, matching uint8, cert *x509.Certificate) string {
	data := cert.Raw
	if selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return fmt.Sprintf("%d %d %d %s", usage, selector, matching, hex.EncodeToString(data))
}

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func template(name string, opts []CertOption) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	name = strings.TrimSuffix(name, ".")
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

func certify(t, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	if t.IsCA {
		t.ExtKeyUsage = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, signer)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}
