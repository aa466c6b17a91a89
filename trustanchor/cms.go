package trustanchor

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // hashes that crypto.Hash finds by number
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// icannCA is the certificate of the "ICANN Root CA", valid until 2029-12-18,
// SHA-256 fingerprint
// AEE89906D7CC60C5E151F3BB923ABF8A1B28DC855D5E2127CB524EAD4AAD603D. It is what
// the packages dns-root-data and unbound-anchor of Debian carry.
//
//go:embed icann-ca.pem
var icannCA []byte

// Signer says whose signature over root-anchors.xml counts.
type Signer struct {
	Roots *x509.CertPool
	// Email must be in the signer's certificate, unless it is "": the same
	// CA issues certificates to people as well.
	Email string
}

// ICANN is the signer of the file that IANA publishes (RFC 9718 §3).
func ICANN() Signer {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(icannCA) {
		panic("trustanchor: the built-in CA certificate does not parse")
	}
	return Signer{Roots: roots, Email: "dnssec@iana.org"}
}

// maxSignatureSize bounds root-anchors.p7s, in octets; the real one has 2,500.
const maxSignatureSize = 64 << 10

// Object identifiers of CMS (RFC 5652 §5.1, §11) and of the SHA-2 digests.
var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidEmailAddress  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

// contentInfo is the outermost structure (RFC 5652 §3).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

// signedData is RFC 5652 §5.1.
type signedData struct {
	Version      int
	Digests      asn1.RawValue // SET OF AlgorithmIdentifier; each signer names its own
	Encapsulated encapsulated
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

// encapsulated is RFC 5652 §5.2.
type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
}

// signerInfo is RFC 5652 §5.3.
type signerInfo struct {
	Version            int
	ID                 asn1.RawValue // IssuerAndSerialNumber, or [0] SubjectKeyIdentifier
	Digest             pkix.AlgorithmIdentifier
	SignedAttributes   asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	Unsigned           asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// attribute is RFC 5652 §5.3.
type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

// VerifySignature checks that signature, a detached CMS signature (RFC 5652,
// DER or PEM), is one by s over data. The certificates are judged as of the
// time in the signature, where it has one, else of now: the files lie on a
// host for years, and that the signer's certificate ended meanwhile says nothing
// against them.
func (s Signer) VerifySignature(data, signature []byte, now time.Time) error {
	if len(signature) > maxSignatureSize {
		return fmt.Errorf("%d octets; a CMS signature of at most %d was expected", len(signature), maxSignatureSize)
	}
	if block, _ := pem.Decode(signature); block != nil {
		signature = block.Bytes
	}
	sd, certs, err := parseSignedData(signature)
	if err != nil {
		return fmt.Errorf("%w; a CMS signature such as root-anchors.p7s was expected", err)
	}
	if len(sd.Signers) == 0 {
		return errors.New("nobody has signed it")
	}
	var failures []error
	for i := range sd.Signers {
		err := s.verifySigner(&sd.Signers[i], certs, data, now)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// parseSignedData takes the message apart.
func parseSignedData(der []byte) (*signedData, []*x509.Certificate, error) {
	var info contentInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, nil, err
	} else if len(bytes.TrimSpace(rest)) > 0 || !info.Type.Equal(oidSignedData) {
		return nil, nil, errors.New("not signed data")
	}
	var sd signedData
	if rest, err := asn1.Unmarshal(info.Content.Bytes, &sd); err != nil {
		return nil, nil, err
	} else if len(rest) > 0 {
		return nil, nil, errors.New("octets after the signed data")
	}
	if !sd.Encapsulated.Type.Equal(oidData) || len(sd.Encapsulated.Content.FullBytes) > 0 {
		return nil, nil, errors.New("not a detached signature")
	}
	certs, err := x509.ParseCertificates(sd.Certificates.Bytes)
	if err != nil {
		return nil, nil, err
	}
	return &sd, certs, nil
}

// verifySigner checks one signature (RFC 5652 §5.4, §5.6) and its signer.
func (s Signer) verifySigner(info *signerInfo, certs []*x509.Certificate, data []byte, now time.Time) error {
	cert := info.certificate(certs)
	if cert == nil {
		return errors.New("the signer's certificate is not in the signature")
	}
	hash, err := hashOf(info.Digest.Algorithm)
	if err != nil {
		return err
	}
	signed, at := data, now
	if len(info.SignedAttributes.FullBytes) > 0 {
		if at, err = info.checkAttributes(hash, data, now); err != nil {
			return err
		}
		// RFC 5652 §5.4: signed with the tag of a SET, not the implicit one.
		signed = bytes.Clone(info.SignedAttributes.FullBytes)
		signed[0] = asn1.TagSet | 0x20
	}
	algorithm, err := algorithmOf(cert, hash)
	if err != nil {
		return err
	}
	if err := cert.CheckSignature(algorithm, signed, info.Signature); err != nil {
		return fmt.Errorf("the signature does not fit the file: %w", err)
	}
	return s.trusts(cert, certs, at)
}

// trusts checks the way from the signer to the CA.
func (s Signer) trusts(cert *x509.Certificate, certs []*x509.Certificate, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range certs {
		intermediates.AddCert(c)
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: s.Roots, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return fmt.Errorf("the signer %q is not trusted: %w", cert.Subject, err)
	}
	if s.Email != "" && !hasEmail(cert, s.Email) {
		return fmt.Errorf("the signer is %q; %s was expected", cert.Subject, s.Email)
	}
	return nil
}

// certificate finds the signer's certificate (RFC 5652 §5.3).
func (info *signerInfo) certificate(certs []*x509.Certificate) *x509.Certificate {
	var id issuerAndSerial
	if info.ID.Class == asn1.ClassUniversal {
		if _, err := asn1.Unmarshal(info.ID.FullBytes, &id); err != nil {
			return nil
		}
	}
	for _, c := range certs {
		byName := id.Serial != nil && id.Serial.Cmp(c.SerialNumber) == 0 && bytes.Equal(id.Issuer.FullBytes, c.RawIssuer)
		byKey := info.ID.Class == asn1.ClassContextSpecific && len(info.ID.Bytes) > 0 && bytes.Equal(info.ID.Bytes, c.SubjectKeyId)
		if byName || byKey {
			return c
		}
	}
	return nil
}

// checkAttributes checks the attributes that are signed in the place of the
// data (RFC 5652 §5.3, §11) and returns the signing time, or now without one.
func (info *signerInfo) checkAttributes(hash crypto.Hash, data []byte, now time.Time) (time.Time, error) {
	var contentType asn1.ObjectIdentifier
	var digest []byte
	at := now
	for rest := info.SignedAttributes.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return at, err
		}
		var into any
		switch {
		case a.Type.Equal(oidContentType):
			into = &contentType
		case a.Type.Equal(oidMessageDigest):
			into = &digest
		case a.Type.Equal(oidSigningTime):
			into = &at
		default:
			continue
		}
		if left, err := asn1.Unmarshal(a.Values.Bytes, into); err != nil || len(left) > 0 {
			return at, fmt.Errorf("signed attribute %v is malformed", a.Type)
		}
	}
	h := hash.New()
	h.Write(data)
	switch {
	case !contentType.Equal(oidData):
		return at, errors.New("the signed content type is not data")
	case !bytes.Equal(digest, h.Sum(nil)):
		return at, errors.New("the signature is for another file")
	}
	return at, nil
}

func hashOf(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch {
	case oid.Equal(oidSHA256):
		return crypto.SHA256, nil
	case oid.Equal(oidSHA384):
		return crypto.SHA384, nil
	case oid.Equal(oidSHA512):
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("digest algorithm %v; SHA-2 was expected", oid)
}

// algorithmOf names what the signer's kind of key does with hash.
func algorithmOf(cert *x509.Certificate, hash crypto.Hash) (x509.SignatureAlgorithm, error) {
	algorithms := map[x509.PublicKeyAlgorithm]map[crypto.Hash]x509.SignatureAlgorithm{
		x509.RSA:   {crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA},
		x509.ECDSA: {crypto.SHA256: x509.ECDSAWithSHA256, crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512},
	}
	if a, known := algorithms[cert.PublicKeyAlgorithm][hash]; known {
		return a, nil
	}
	return 0, fmt.Errorf("a %v key; RSA or ECDSA was expected", cert.PublicKeyAlgorithm)
}

// hasEmail looks in the alternative names and in the subject, where older
// certificates have it.
func hasEmail(cert *x509.Certificate, email string) bool {
	if slices.Contains(cert.EmailAddresses, email) {
		return true
	}
	for _, name := range cert.Subject.Names {
		if text, isText := name.Value.(string); isText && name.Type.Equal(oidEmailAddress) && text == email {
			return true
		}
	}
	return false
}
