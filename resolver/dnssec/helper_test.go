package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// testNow is the instant most tests take for now.
var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func name(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// testKey is a DNSKEY with its private half.
type testKey struct {
	zone  Name
	rdata []byte
	sign  func(data []byte) []byte
}

func (k *testKey) tag() uint16 { return KeyTag(k.rdata) }
func (k *testKey) alg() uint8  { return k.rdata[3] }

// flag returns the same key with other flags.
func (k *testKey) flag(flags uint16) *testKey {
	c := *k
	c.rdata = slices.Clone(k.rdata)
	binary.BigEndian.PutUint16(c.rdata, flags)
	return &c
}

func (k *testKey) ds(digestType uint8) *DS {
	data := append([]byte(k.zone), k.rdata...)
	return &DS{KeyTag: k.tag(), Algorithm: k.alg(), DigestType: digestType, Digest: defaultDigests()[digestType](data)}
}

const (
	ksk = 257
	zsk = 256
)

func keyRData(flags uint16, alg uint8, public []byte) []byte {
	return append([]byte{byte(flags >> 8), byte(flags), 3, alg}, public...)
}

func newKey(t testing.TB, zone Name, flags uint16, alg uint8) *testKey {
	t.Helper()
	k := &testKey{zone: zone}
	switch alg {
	case 5, 7, 8, 10:
		return newRSA(t, zone, flags, alg, 1024)
	case 13, 14:
		curve, hash := elliptic.P256(), func(d []byte) []byte { s := sha256.Sum256(d); return s[:] }
		if alg == 14 {
			curve, hash = elliptic.P384(), func(d []byte) []byte { s := sha512.Sum384(d); return s[:] }
		}
		priv, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := priv.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		size := len(pub) / 2
		k.rdata = keyRData(flags, alg, pub[1:])
		k.sign = func(data []byte) []byte {
			r, s, err := ecdsa.Sign(rand.Reader, priv, hash(data))
			if err != nil {
				t.Fatal(err)
			}
			out := make([]byte, 2*size)
			r.FillBytes(out[:size])
			s.FillBytes(out[size:])
			return out
		}
	case 15:
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k.rdata = keyRData(flags, alg, pub)
		k.sign = func(data []byte) []byte { return ed25519.Sign(priv, data) }
	default:
		t.Fatalf("no test key of algorithm %d", alg)
	}
	return k
}

func newRSA(t testing.TB, zone Name, flags uint16, alg uint8, bits int) *testKey {
	t.Helper()
	return newRSAExponent(t, zone, flags, alg, rsaParams{bits: bits, e: big.NewInt(65537)})
}

type rsaParams struct {
	bits int
	e    *big.Int
}

// newRSAExponent makes an RSA key by hand, so that size and exponent are free.
func newRSAExponent(t testing.TB, zone Name, flags uint16, alg uint8, p rsaParams) *testKey {
	t.Helper()
	one := big.NewInt(1)
	for {
		a, err := rand.Prime(rand.Reader, p.bits/2)
		if err != nil {
			t.Fatal(err)
		}
		b, err := rand.Prime(rand.Reader, p.bits-p.bits/2)
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int).Mul(a, b)
		phi := new(big.Int).Mul(a.Sub(a, one), b.Sub(b, one))
		d := new(big.Int).ModInverse(p.e, phi)
		if d == nil || n.BitLen() != p.bits {
			continue
		}
		e := p.e.Bytes()
		public := append([]byte{byte(len(e))}, e...)
		k := &testKey{zone: zone, rdata: keyRData(flags, alg, append(public, n.Bytes()...))}
		k.sign = func(data []byte) []byte { return signRSA(alg, n, d, data) }
		return k
	}
}

func signRSA(alg uint8, n, d *big.Int, data []byte) []byte {
	var t []byte
	switch alg {
	case 5, 7:
		h := sha1.Sum(data)
		t = append([]byte(prefixSHA1), h[:]...)
	case 8:
		h := sha256.Sum256(data)
		t = append([]byte(prefixSHA256), h[:]...)
	case 10:
		h := sha512.Sum512(data)
		t = append([]byte(prefixSHA512), h[:]...)
	}
	size := (n.BitLen() + 7) / 8
	em := append([]byte{0, 1}, []byte(strings.Repeat("\xff", size-3-len(t)))...)
	em = append(append(em, 0), t...)
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, d, n).FillBytes(make([]byte, size))
}

// stdRSA makes a key with crypto/rsa, as a second opinion on signRSA.
func stdRSA(t testing.TB, zone Name, flags uint16, bits int) *testKey {
	t.Helper()
	priv, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	public := append([]byte{3, 1, 0, 1}, priv.N.Bytes()...)
	k := &testKey{zone: zone, rdata: keyRData(flags, 8, public)}
	k.sign = func(data []byte) []byte {
		h := sha256.Sum256(data)
		sig, err := rsa.SignPKCS1v15(nil, priv, crypto.SHA256, h[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	return k
}

// rrset makes an unsigned RRset whose RDATA is already canonical.
func rrset(owner Name, rrtype uint16, rdata ...string) *RRset {
	set := &RRset{Name: owner, Type: rrtype, Class: 1, TTL: 3600}
	for _, data := range rdata {
		set.Data = append(set.Data, []byte(data))
	}
	return set
}

// template is what a test signature says, before the test changes it.
func template(k *testKey, set *RRset) RRSIG {
	labels := set.Name.Labels()
	if set.Name.IsWildcard() {
		labels--
	}
	return RRSIG{
		TypeCovered: set.Type, Algorithm: k.alg(), Labels: uint8(labels), OriginalTTL: 3600, TTL: 3600,
		Inception:  uint32(testNow.Add(-14 * 24 * time.Hour).Unix()),
		Expiration: uint32(testNow.Add(14 * 24 * time.Hour).Unix()),
		KeyTag:     k.tag(), Signer: k.zone,
	}
}

// sign signs set under the owner name given, with what sig says. It does not
// use the code under test to build what is signed.
func (k *testKey) signAs(set *RRset, owner Name, sig RRSIG) {
	var data []byte
	data = binary.BigEndian.AppendUint16(data, sig.TypeCovered)
	data = append(data, sig.Algorithm, sig.Labels)
	for _, v := range []uint32{sig.OriginalTTL, sig.Expiration, sig.Inception} {
		data = binary.BigEndian.AppendUint32(data, v)
	}
	data = binary.BigEndian.AppendUint16(data, sig.KeyTag)
	data = append(data, sig.Signer...)
	var sorted []string
	for _, rdata := range set.Data {
		sorted = append(sorted, string(rdata))
	}
	slices.Sort(sorted)
	for _, rdata := range slices.Compact(sorted) {
		data = append(data, owner...)
		data = binary.BigEndian.AppendUint16(data, set.Type)
		data = binary.BigEndian.AppendUint16(data, set.Class)
		data = binary.BigEndian.AppendUint32(data, sig.OriginalTTL)
		data = binary.BigEndian.AppendUint16(data, uint16(len(rdata)))
		data = append(data, rdata...)
	}
	sig.Signature = k.sign(data)
	set.Sigs = append(set.Sigs, sig)
}

// signed adds an ordinary signature to set and returns it.
func (k *testKey) signed(set *RRset) *RRset {
	k.signAs(set, set.Name, template(k, set))
	return set
}

// expanded returns set as a server would expand it from its wildcard to owner.
func expanded(set *RRset, owner Name) *RRset {
	c := *set
	c.Name = owner
	return &c
}

// dnskeySet makes the DNSKEY RRset of keys, signed by the first.
func dnskeySet(keys ...*testKey) *RRset {
	set := rrset(keys[0].zone, typeDNSKEY)
	for _, k := range keys {
		set.Data = append(set.Data, k.rdata)
	}
	return keys[0].signed(set)
}

func plenty() *Budget { return &Budget{SignatureChecks: 64, FailedChecks: 16, NSEC3Hashes: 64} }

// trusted returns the Keys of a zone that has these keys, the first being the
// one its DS is of.
func trusted(t testing.TB, keys ...*testKey) *Keys {
	t.Helper()
	r := DefaultRules(true)
	k, v := r.TrustKeys(dnskeySet(keys...), []Anchor{{Zone: keys[0].zone, DS: keys[0].ds(2)}}, testNow, plenty())
	if v.Status != Secure || k == nil {
		t.Fatalf("test zone is %v: %+v", v.Status, v)
	}
	return k
}

func wantVerdict(t testing.TB, got Verdict, status Status, reason Reason) {
	t.Helper()
	if got.Status != status || got.Reason != reason {
		t.Errorf("got %v %q (%s), want %v %q", got.Status, got.Reason, got.Text, status, reason)
	}
	if status != Secure && got.Text == "" {
		t.Errorf("%v %q says nothing to people", got.Status, got.Reason)
	}
}

// bits builds a type bitmap.
func bits(types ...uint16) string {
	windows := map[byte][]byte{}
	for _, t := range types {
		w, octet := byte(t>>8), int(t&0xff)/8
		for len(windows[w]) <= octet {
			windows[w] = append(windows[w], 0)
		}
		windows[w][octet] |= 0x80 >> (t & 7)
	}
	var out []byte
	for w := range 256 {
		if b := windows[byte(w)]; b != nil {
			out = append(append(out, byte(w), byte(len(b))), b...)
		}
	}
	return string(out)
}

func nsecSet(owner, next Name, types ...uint16) *RRset {
	return rrset(owner, typeNSEC, string(next)+bits(types...))
}

// nsec3Params are what a test zone hashes with.
type nsec3Params struct {
	flags      uint8
	iterations uint16
	salt       string
}

// slowHash is NSEC3 hashing written as RFC 5155 §5 words it.
func slowHash(n Name, p nsec3Params) string {
	h := sha1.Sum([]byte(string(n) + p.salt))
	for k := p.iterations; k > 0; k-- {
		h = sha1.Sum([]byte(string(h[:]) + p.salt))
	}
	return string(h[:])
}

func nsec3Set(zone Name, p nsec3Params, owner, next string, types ...uint16) *RRset {
	label := strings.ToLower(base32.HexEncoding.EncodeToString([]byte(owner)))
	rdata := []byte{1, p.flags, byte(p.iterations >> 8), byte(p.iterations), byte(len(p.salt))}
	rdata = append(rdata, p.salt...)
	rdata = append(append(rdata, byte(len(next))), next...)
	rdata = append(rdata, bits(types...)...)
	return rrset(zone.Prepend(label), typeNSEC3, string(rdata))
}

// step returns the hash just before or after h.
func step(h string, by int64) string {
	n := new(big.Int).SetBytes([]byte(h))
	n.Add(n, big.NewInt(by))
	return string(n.FillBytes(make([]byte, 20)))
}
