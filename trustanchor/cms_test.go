package trustanchor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestICANNRoot pins the built-in CA certificate.
func TestICANNRoot(t *testing.T) {
	block, rest := pem.Decode(icannCA)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatal("not one certificate")
	}
	const want = "aee89906d7cc60c5e151f3bb923abf8a1b28dc855d5e2127cb524ead4aad603d"
	if got := fmt.Sprintf("%x", sha256.Sum256(block.Bytes)); got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
}

// TestIANA checks the file that IANA published in October 2024.
func TestIANA(t *testing.T) {
	xml, sig := readFile(t, "testdata/iana/root-anchors.xml"), readFile(t, "testdata/iana/root-anchors.p7s")
	if err := ICANN().VerifySignature(xml, sig, released); err != nil {
		t.Error(err)
	}
	anchors, err := ParseFile("root-anchors.xml", xml)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(anchors), describe(BuiltIn()); got != want {
		t.Errorf("anchors of the file:\n%s\nbuilt in:\n%s", got, want)
	}
	for i := range xml {
		changed := bytes.Clone(xml)
		changed[i] ^= 0x20
		if ICANN().VerifySignature(changed, sig, released) == nil {
			t.Fatalf("signature fits although octet %d of the file is changed", i)
		}
	}
	stranger := ICANN()
	stranger.Email = "hostmaster@icann.org"
	if err := stranger.VerifySignature(xml, sig, released); err == nil || !strings.Contains(err.Error(), "hostmaster@icann.org was expected") {
		t.Errorf("another signer's e-mail: %v", err)
	}
	nobody := Signer{Roots: x509.NewCertPool()}
	if err := nobody.VerifySignature(xml, sig, released); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("another CA: %v", err)
	}
}

// TestSignatureMalleability changes octets all over the signature and cuts it
// everywhere. What is neither signed nor part of the way to the CA may change.
func TestSignatureMalleability(t *testing.T) {
	xml, sig := readFile(t, "testdata/iana/root-anchors.xml"), readFile(t, "testdata/iana/root-anchors.p7s")
	for i := range sig {
		if ICANN().VerifySignature(xml, sig[:i], released) == nil {
			t.Fatalf("the first %d octets are a signature", i)
		}
	}
	accepted := 0
	for i := 0; i < len(sig); i += 3 { // each check costs an RSA signature or two
		changed := bytes.Clone(sig)
		changed[i] ^= 1
		if ICANN().VerifySignature(xml, changed, released) == nil {
			accepted++
		}
	}
	// Version numbers, the list of digests, the CA's copy of its own certificate.
	if accepted > 300 {
		t.Errorf("%d of %d changed octets went unnoticed", accepted, len(sig))
	}
	t.Logf("%d of %d octets do not matter", accepted, len(sig)/3)
}

// authority makes signatures for the cases that IANA's file does not have.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.key, a.cert = a.issue(nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: released.AddDate(-10, 0, 0), NotAfter: released.AddDate(10, 0, 0),
	})
	return a
}

func (a *authority) issue(parent *authority, template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// forgery says what is wrong with a signature.
type forgery struct {
	email, noAttributes, otherFile, notMail, byKeyID bool
	start, end                                       time.Time // of the signer's certificate
	signed                                           time.Time // zero: not said
}

func (a *authority) sign(data []byte, f forgery) []byte {
	a.t.Helper()
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	if f.notMail {
		usage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if f.start.IsZero() {
		f.start, f.end = released.AddDate(-1, 0, 0), released.AddDate(1, 0, 0)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "signer"}, ExtKeyUsage: usage,
		NotBefore: f.start, NotAfter: f.end, SubjectKeyId: []byte{1, 2, 3, 4},
	}
	if f.email {
		template.EmailAddresses = []string{"anchors@example.com"}
	}
	key, cert := a.issue(a, template)
	info := signerInfo{
		Version: 1, Digest: pkix.AlgorithmIdentifier{Algorithm: oidSHA256},
		SignatureAlgorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	}
	info.ID = a.raw(issuerAndSerial{Issuer: asn1.RawValue{FullBytes: cert.RawIssuer}, Serial: cert.SerialNumber}, "")
	if f.byKeyID {
		info.ID = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: cert.SubjectKeyId}
	}
	signed := data
	if !f.noAttributes {
		signed = a.attributes(data, f)
		info.SignedAttributes = asn1.RawValue{FullBytes: append([]byte{0xa0}, signed[1:]...)}
	}
	sum := sha256.Sum256(signed)
	var err error
	if info.Signature, err = ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
		a.t.Fatal(err)
	}
	sd := signedData{
		Version: 1, Digests: asn1.RawValue{FullBytes: []byte{0x31, 0}}, Encapsulated: encapsulated{Type: oidData},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: cert.Raw},
		Signers:      []signerInfo{info},
	}
	der, err := asn1.Marshal(contentInfo{Type: oidSignedData, Content: asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: a.raw(sd, "").FullBytes,
	}})
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// attributes returns the SET of signed attributes.
func (a *authority) attributes(data []byte, f forgery) []byte {
	if f.otherFile {
		data = append(bytes.Clone(data), ' ')
	}
	sum := sha256.Sum256(data)
	value := func(v any) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: a.raw(v, "").FullBytes}
	}
	attrs := []attribute{{oidContentType, value(oidData)}, {oidMessageDigest, value(sum[:])}}
	if !f.signed.IsZero() {
		attrs = append(attrs, attribute{oidSigningTime, value(f.signed)})
	}
	return a.raw(attrs, "set").FullBytes
}

func (a *authority) raw(v any, params string) asn1.RawValue {
	a.t.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		a.t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

func TestVerifySignature(t *testing.T) {
	ca := newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	data := []byte(rootXML)
	old := released.AddDate(-5, 0, 0)
	for _, c := range []struct {
		name  string
		f     forgery
		email string
		want  string // "" for a good one
	}{
		{"attributes", forgery{}, "", ""},
		{"no attributes", forgery{noAttributes: true}, "", ""},
		{"signer by key identifier", forgery{byKeyID: true}, "", ""},
		{"e-mail in the alternative name", forgery{email: true}, "anchors@example.com", ""},
		{"e-mail missing", forgery{}, "anchors@example.com", "anchors@example.com was expected"},
		{"digest of another file", forgery{otherFile: true}, "", "for another file"},
		{"certificate for servers", forgery{notMail: true}, "", "not trusted"},
		{"certificate ended", forgery{start: old, end: old.AddDate(1, 0, 0)}, "", "not trusted"},
		{"certificate ended after the signing", forgery{start: old, end: old.AddDate(1, 0, 0), signed: old.AddDate(0, 6, 0)}, "", ""},
		{"signed after the certificate ended", forgery{start: old, end: old.AddDate(1, 0, 0), signed: old.AddDate(2, 0, 0)}, "", "not trusted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Signer{Roots: roots, Email: c.email}
			sig := ca.sign(data, c.f)
			err := s.VerifySignature(data, sig, released)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if s.VerifySignature(data[1:], sig, released) == nil {
				t.Error("fits another file")
			}
			armoured := pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: sig})
			if got := s.VerifySignature(data, armoured, released); (got == nil) != (c.want == "") {
				t.Errorf("in PEM: %v", got)
			}
		})
	}
}

func FuzzVerifySignature(f *testing.F) {
	xml := readFile(f, "testdata/iana/root-anchors.xml")
	f.Add(readFile(f, "testdata/iana/root-anchors.p7s"))
	f.Add([]byte("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n"))
	nobody := Signer{Roots: x509.NewCertPool()}
	f.Fuzz(func(t *testing.T, sig []byte) {
		if nobody.VerifySignature(xml, sig, released) == nil {
			t.Error("a signature that no CA stands for")
		}
	})
}
