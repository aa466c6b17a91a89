//go:build interop

package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"danepost/internal/lab"
)

// The certificates of the receivers, freer than those of package lab: any
// depth, any key, and authorities that are not sent.

// issuer signs certificates; the zero issuer makes self-signed ones.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newCert makes a certificate for names, the first also its subject; adapt may
// change it before it is signed.
func (i issuer) newCert(key crypto.Signer, adapt func(*x509.Certificate), names ...string) issuer {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if adapt != nil {
		adapt(c)
	}
	parent, signer := i.cert, i.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return issuer{parsed, key}
}

// authority makes a CA certificate signed by i.
func (i issuer) authority(name string, adapt func(*x509.Certificate)) issuer {
	return i.newCert(ecKey(), func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage, c.IsCA = nil, nil, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		if adapt != nil {
			adapt(c)
		}
	}, name)
}

func ecKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func rsaKey() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// expired makes a certificate of last year.
func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -2)
}

// pemOf is the key and the chain as mail servers read them: key first, then
// the certificates from the leaf up.
func pemOf(id *lab.Identity) (chain, key string) {
	c := id.Certificate()
	var b strings.Builder
	for _, der := range c.Certificate {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) //nolint:errcheck // a Builder takes all
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err)
	}
	return b.String(), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
