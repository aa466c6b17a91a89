package lab

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"math/big"

	"github.com/miekg/dns"
)

// longKey is an RSA key with the public exponent 2^32+1, which RFC 3110 §2
// allows and crypto/rsa does not handle. Some zones have one, so a validator
// must cope; the arithmetic is in the open here because it protects nothing.
type longKey struct{ n, e, d *big.Int }

func newLongKey(h dns.RR_Header, flags uint16) zoneKey {
	one := big.NewInt(1)
	k := &longKey{e: new(big.Int).Add(new(big.Int).Lsh(one, 32), one)}
	for k.d == nil { // until e has an inverse
		p, q := prime(), prime()
		k.n = new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		k.d = new(big.Int).ModInverse(k.e, phi)
	}
	e := k.e.Bytes()
	public := append(append([]byte{byte(len(e))}, e...), k.n.Bytes()...)
	return zoneKey{&dns.DNSKEY{Hdr: h, Flags: flags, Protocol: 3, Algorithm: dns.RSASHA256,
		PublicKey: base64.StdEncoding.EncodeToString(public)}, k}
}

func prime() *big.Int {
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return p
}

// Public implements crypto.Signer.
func (k *longKey) Public() crypto.PublicKey { return k.n }

// Sign implements crypto.Signer: PKCS #1 v1.5 over a SHA-256 digest (RFC 8017 §9.2).
func (k *longKey) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != crypto.SHA256 {
		return nil, errors.New("lab: SHA-256 only")
	}
	info := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	size := (k.n.BitLen() + 7) / 8
	block := make([]byte, size)
	block[1] = 1
	tail := size - len(info) - len(digest)
	for i := 2; i < tail-1; i++ {
		block[i] = 0xff
	}
	copy(block[tail:], info)
	copy(block[tail+len(info):], digest)
	return new(big.Int).Exp(new(big.Int).SetBytes(block), k.d, k.n).FillBytes(make([]byte, size)), nil
}
