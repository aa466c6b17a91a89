package tlsa

// A reader of just enough DER to find the key in a certificate, so that a
// certificate which the full parser refuses can still be matched. It is more
// lenient than DER (lengths need not be minimal) and checks bounds only.

const (
	tagInteger   = 0x02
	tagBitString = 0x03
	tagOID       = 0x06
	tagSequence  = 0x30
	tagVersion   = 0xa0 // [0] EXPLICIT, as in RFC 5280 §4.1
)

// element is one DER element: its whole encoding and its contents.
type element struct {
	tag         byte
	whole, body []byte
}

// next splits the first element off b.
func next(b []byte) (e element, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return element{}, nil, false // high tag numbers do not occur in certificates
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		size := n & 0x7f
		if size == 0 || size > 4 || len(b) < 2+size {
			return element{}, nil, false // indefinite, absurd or cut off
		}
		n = 0
		for _, c := range b[2 : 2+size] {
			n = n<<8 | int(c)
		}
		head += size
	}
	if n < 0 || n > len(b)-head {
		return element{}, nil, false
	}
	return element{tag: b[0], whole: b[:head+n], body: b[head : head+n]}, b[head+n:], true
}

// take splits the first element off b if it has the tag.
func take(b []byte, tag byte) (e element, rest []byte, ok bool) {
	e, rest, ok = next(b)
	return e, rest, ok && e.tag == tag
}

// publicKeyOf returns the SubjectPublicKeyInfo of a certificate exactly as it
// is encoded there (RFC 5280 §4.1).
func publicKeyOf(cert []byte) ([]byte, bool) {
	outer, _, ok := take(cert, tagSequence)
	if !ok {
		return nil, false
	}
	tbs, _, ok := take(outer.body, tagSequence)
	if !ok {
		return nil, false
	}
	rest := tbs.body
	if _, after, ok := take(rest, tagVersion); ok {
		rest = after
	}
	// serialNumber, signature, issuer, validity, subject
	for _, tag := range []byte{tagInteger, tagSequence, tagSequence, tagSequence, tagSequence} {
		if _, rest, ok = take(rest, tag); !ok {
			return nil, false
		}
	}
	key, _, ok := take(rest, tagSequence)
	return key.whole, ok
}

// isCertificate reports whether b has the shape of one certificate and
// nothing after it.
func isCertificate(b []byte) bool {
	e, rest, ok := take(b, tagSequence)
	if !ok || len(rest) > 0 {
		return false
	}
	key, ok := publicKeyOf(e.whole)
	return ok && isPublicKey(key)
}

// isPublicKey reports whether b has the shape of one SubjectPublicKeyInfo and
// nothing after it.
func isPublicKey(b []byte) bool {
	e, rest, ok := take(b, tagSequence)
	if !ok || len(rest) > 0 {
		return false
	}
	algorithm, rest, ok := take(e.body, tagSequence)
	if !ok {
		return false
	}
	if _, _, ok = take(algorithm.body, tagOID); !ok {
		return false
	}
	_, rest, ok = take(rest, tagBitString)
	return ok && len(rest) == 0
}
