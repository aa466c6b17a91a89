package tlsa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// A mint makes certificates, good and bad, for the tests of this package.
type mint struct {
	t      testing.TB
	now    time.Time
	serial int64
	keys   []crypto.Signer          // handed out before new ones are made
	byDER  map[string]crypto.Signer // the key of every certificate made
}

// spec says how a certificate is to be. Zero values are those of a good one:
// valid now, version 3, ECDSA, and basicConstraints where CA is set.
type spec struct {
	CN       string
	Subject  *pkix.Name // instead of CN
	DNS      []string
	Issuer   *minted // nil: signs itself
	Key      crypto.Signer
	From, To time.Duration // relative to now; default a day ago to a year from now

	CA      bool
	PathLen int // 0: none; -1: zero; else the number
	KU      x509.KeyUsage
	EKU     []x509.ExtKeyUsage
	Extra   []pkix.Extension
	Serial  *big.Int
	Algo    x509.SignatureAlgorithm
	V1      bool
	Tweak   func(*x509.Certificate)
}

// minted is a certificate with its key.
type minted struct {
	der  []byte
	key  crypto.Signer
	cert *x509.Certificate // the template's names; nil parts where it cannot be parsed
}

const day = 24 * time.Hour

func (m *mint) newKey() crypto.Signer {
	if len(m.keys) > 0 {
		k := m.keys[0]
		m.keys = m.keys[1:]
		return k
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(m.t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rsaKey(t testing.TB) crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return k
}

func edKey(t testing.TB) crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return k
}

// make makes one certificate.
func (m *mint) make(s spec) *minted {
	m.t.Helper()
	m.serial++
	if s.Key == nil {
		s.Key = m.newKey()
	}
	template := m.template(s)
	parent, signer := template, s.Key
	if s.Issuer != nil {
		parent, signer = s.Issuer.cert, s.Issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, s.Key.Public(), signer)
	must(m.t, err)
	if s.V1 {
		der = versionOne(m.t, der, signer)
	}
	out := &minted{der: der, key: s.Key, cert: template}
	if c, err := x509.ParseCertificate(der); err == nil {
		out.cert = c
	}
	if m.byDER != nil {
		m.byDER[string(der)] = s.Key
	}
	return out
}

func (m *mint) template(s spec) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial),
		Subject:      pkix.Name{CommonName: s.CN},
		NotBefore:    m.now.Add(-day), NotAfter: m.now.Add(365 * day),
		DNSNames: s.DNS, IsCA: s.CA, BasicConstraintsValid: s.CA,
		KeyUsage: s.KU, ExtKeyUsage: s.EKU, ExtraExtensions: s.Extra,
		SignatureAlgorithm: s.Algo,
	}
	if s.Subject != nil {
		t.Subject = *s.Subject
	}
	if s.Serial != nil {
		t.SerialNumber = s.Serial
	}
	if s.From != 0 {
		t.NotBefore = m.now.Add(s.From)
	}
	if s.To != 0 {
		t.NotAfter = m.now.Add(s.To)
	}
	switch {
	case s.PathLen < 0:
		t.MaxPathLenZero = true
	case s.PathLen > 0:
		t.MaxPathLen = s.PathLen
	}
	if s.Tweak != nil {
		s.Tweak(t)
	}
	return t
}

// versionOne strips version and extensions and signs again (ECDSA P-256).
func versionOne(t testing.TB, der []byte, signer crypto.Signer) []byte {
	t.Helper()
	outer, _, _ := take(der, tagSequence)
	tbs, rest, _ := take(outer.body, tagSequence)
	algorithm, _, _ := take(rest, tagSequence)
	_, body, _ := take(tbs.body, tagVersion)
	var fields []byte
	for i := 0; i < 6; i++ { // serial, signature, issuer, validity, subject, key
		var e element
		e, body, _ = next(body)
		fields = append(fields, e.whole...)
	}
	signed := sequence(t, fields)
	sum := sha256.Sum256(signed)
	sig, err := signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	must(t, err)
	bits, err := asn1.Marshal(asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)})
	must(t, err)
	return sequence(t, append(append(signed, algorithm.whole...), bits...))
}

func sequence(t testing.TB, body []byte) []byte {
	t.Helper()
	b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	must(t, err)
	return b
}

// ders lists the certificates for a chain.
func ders(certs ...*minted) [][]byte {
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.der)
	}
	return out
}

// tlsa makes the record that names a certificate.
func (c *minted) tlsa(usage, selector, matching uint8) Record {
	data := c.der
	if selector == SPKI {
		data, _ = publicKeyOf(c.der)
	}
	switch matching {
	case SHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case SHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return ParseRecord(append([]byte{usage, selector, matching}, data...))
}

// wrong makes a usable record that names nothing: a digest with a bit flipped.
func wrong(r Record) Record {
	out := ParseRecord(append([]byte{r.Usage, r.Selector, r.Matching}, r.Data...))
	out.Data[0] ^= 1
	return out
}
