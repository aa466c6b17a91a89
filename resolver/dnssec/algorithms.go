package dnssec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"math/big"
)

// Verifier prepares the algorithm-specific public key field of a DNSKEY for
// checking signatures. ErrUnsupportedKey says that the key is outside the
// bounds of r; any other error that it is no key of this algorithm.
type Verifier func(r *Rules, publicKey []byte) (Check, error)

// Check reports whether sig, as it stands in an RRSIG, is the key's signature
// of data. It is safe for concurrent use and keeps neither slice.
type Check func(data, sig []byte) bool

// ErrUnsupportedKey is what a Verifier returns for a key that is well-formed
// but too small, too large or too costly to use.
var ErrUnsupportedKey = errors.New("key outside the supported bounds")

var errMalformedKey = errors.New("malformed public key")

// maxExponentBits bounds the work of an RSA check. 2^32+1 is in use; BIND stops
// at 35 bits, and nobody has a reason to go beyond 64.
const maxExponentBits = 64

// defaultVerifiers returns the algorithms of RFC 8624 §3.1 that must or may be
// validated and that the standard library can do: not Ed448.
func defaultVerifiers(sha1 bool) map[uint8]Verifier {
	v := map[uint8]Verifier{
		8:  rsaVerifier(prefixSHA256, appendSHA256),
		10: rsaVerifier(prefixSHA512, appendSHA512),
		13: ecdsaVerifier(elliptic.P256(), appendSHA256),
		14: ecdsaVerifier(elliptic.P384(), appendSHA384),
		15: ed25519Verifier,
	}
	if sha1 {
		// RFC 9905 §2 takes SHA-1 signatures away; the administrator may keep them.
		v[5] = rsaVerifier(prefixSHA1, appendSHA1)
		v[7] = v[5]
	}
	return v
}

// defaultDigests returns the DS digest types of RFC 9904 that may be validated.
func defaultDigests() map[uint8]func([]byte) []byte {
	return map[uint8]func([]byte) []byte{
		1: func(data []byte) []byte { return appendSHA1(nil, data) },
		2: func(data []byte) []byte { return appendSHA256(nil, data) },
		4: func(data []byte) []byte { return appendSHA384(nil, data) },
	}
}

// appendHash appends the hash of data to dst.
type appendHash func(dst, data []byte) []byte

func appendSHA1(dst, data []byte) []byte {
	h := sha1.Sum(data)
	return append(dst, h[:]...)
}

func appendSHA256(dst, data []byte) []byte {
	h := sha256.Sum256(data)
	return append(dst, h[:]...)
}

func appendSHA384(dst, data []byte) []byte {
	h := sha512.Sum384(data)
	return append(dst, h[:]...)
}

func appendSHA512(dst, data []byte) []byte {
	h := sha512.Sum512(data)
	return append(dst, h[:]...)
}

// What stands before the hash in a PKCS #1 v1.5 signature (RFC 8017 §9.2).
const (
	prefixSHA1   = "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"
	prefixSHA256 = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	prefixSHA512 = "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
)

// rsaKey checks RSASSA-PKCS1-v1_5 by hand: crypto/rsa refuses exponents above
// 2^31-1, which real mail domains use. Only public values are involved, so
// nothing needs to take constant time.
type rsaKey struct {
	n, e   *big.Int
	size   int // of n and of a signature, octets
	prefix string
	hash   appendHash
}

func rsaVerifier(prefix string, hash appendHash) Verifier {
	return func(r *Rules, publicKey []byte) (Check, error) {
		exponent, modulus, err := splitRSA(publicKey)
		if err != nil {
			return nil, err
		}
		n := new(big.Int).SetBytes(modulus)
		k := &rsaKey{n: n, size: (n.BitLen() + 7) / 8, prefix: prefix, hash: hash}
		if n.BitLen() < r.MinRSABits || n.BitLen() > r.MaxRSABits || n.Bit(0) == 0 {
			return nil, ErrUnsupportedKey
		}
		if k.size < 11+len(prefix)+len(hash(nil, nil)) {
			return nil, ErrUnsupportedKey // RFC 8017 §9.2: no room for the padding
		}
		k.e = new(big.Int).SetBytes(exponent)
		if k.e.BitLen() < 2 || k.e.BitLen() > maxExponentBits || k.e.Bit(0) == 0 {
			return nil, ErrUnsupportedKey
		}
		return k.check, nil
	}
}

// splitRSA takes the public key field apart (RFC 3110 §2).
func splitRSA(publicKey []byte) (exponent, modulus []byte, err error) {
	if len(publicKey) < 3 {
		return nil, nil, errMalformedKey
	}
	n, rest := int(publicKey[0]), publicKey[1:]
	if n == 0 {
		n, rest = int(publicKey[1])<<8|int(publicKey[2]), publicKey[3:]
	}
	if n == 0 || n >= len(rest) {
		return nil, nil, errMalformedKey
	}
	return bytes.TrimLeft(rest[:n], "\x00"), bytes.TrimLeft(rest[n:], "\x00"), nil
}

func (k *rsaKey) check(data, sig []byte) bool {
	if len(sig) != k.size {
		return false // RFC 8017 §8.2.2 step 1
	}
	s := new(big.Int).SetBytes(sig)
	if s.Cmp(k.n) >= 0 {
		return false // RFC 8017 §5.2.2 step 1
	}
	s.Exp(s, k.e, k.n)
	buf := make([]byte, 2*k.size)
	got, want := s.FillBytes(buf[:k.size]), buf[k.size:k.size]
	// RFC 8017 §9.2: built and compared, never parsed.
	want = append(want, 0, 1)
	var tail [len(prefixSHA512) + sha512.Size]byte
	t := k.hash(append(tail[:0], k.prefix...), data)
	for range k.size - 3 - len(t) {
		want = append(want, 0xff)
	}
	want = append(want, 0)
	want = append(want, t...)
	return bytes.Equal(got, want)
}

// ecdsaVerifier checks RFC 6605 signatures: r and s, each as long as the field.
func ecdsaVerifier(curve elliptic.Curve, hash appendHash) Verifier {
	size := (curve.Params().BitSize + 7) / 8
	return func(_ *Rules, publicKey []byte) (Check, error) {
		if len(publicKey) != 2*size {
			return nil, errMalformedKey
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, publicKey...))
		if err != nil {
			return nil, errMalformedKey
		}
		return func(data, sig []byte) bool {
			if len(sig) != 2*size {
				return false
			}
			buf := make([]byte, 0, sha512.Size384+maxDERSignature)
			h := hash(buf, data)
			return ecdsa.VerifyASN1(key, h, appendDER(h[len(h):], sig))
		}, nil
	}
}

// maxDERSignature is the longest DER form of a P-384 signature.
const maxDERSignature = 2 + 2*(2+1+48)

// appendDER appends the DER form of a signature given as r and s side by side:
// the form that crypto/ecdsa takes.
func appendDER(dst, sig []byte) []byte {
	dst = append(dst, 0x30, 0)
	length := len(dst) - 1
	for _, half := range [2][]byte{sig[:len(sig)/2], sig[len(sig)/2:]} {
		half = bytes.TrimLeft(half, "\x00")
		if len(half) == 0 || half[0] >= 0x80 {
			dst = append(dst, 2, byte(len(half)+1), 0)
		} else {
			dst = append(dst, 2, byte(len(half)))
		}
		dst = append(dst, half...)
	}
	dst[length] = byte(len(dst) - length - 1)
	return dst
}

// ed25519Verifier checks RFC 8080 signatures.
func ed25519Verifier(_ *Rules, publicKey []byte) (Check, error) {
	if len(publicKey) != ed25519.PublicKeySize {
		return nil, errMalformedKey
	}
	key := ed25519.PublicKey(bytes.Clone(publicKey))
	return func(data, sig []byte) bool {
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(key, data, sig)
	}, nil
}
