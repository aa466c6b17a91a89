package tlsa

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// A search looks for a path from the server's certificate to an authority
// that a DANE-TA record names (RFC 7672 §3.1.2). It tries every order of the
// certificates at hand: servers send them unsorted, twice, cross-signed, or
// with strangers among them, and one path that holds is enough.
type search struct {
	records []Record // usage DANE-TA only
	pool    []issuer // certificates that may stand above the server's own
	keys    []bareKey
	names   []string
	now     time.Time

	checked    map[[2]*x509.Certificate]bool // signature checks done: child, parent
	signatures int                           // signature checks left
	steps      int                           // certificates left to be put on top of a path
	compare    int                           // comparisons of names with constraints left
	failure    *Verdict                      // the first anchor reached whose path did not hold
	exhausted  bool                          // a bound cut the search short
	unread     *Verdict                      // an anchor that the parser refuses
}

// issuer is a certificate that may have signed another one.
type issuer struct {
	cert    *x509.Certificate
	subject string
	anchor  *Record // the record that names it, if one does
}

// bareKey is the key of a record 2 1 0, whose certificate need not be sent.
type bareKey struct {
	record Record
	holder *x509.Certificate // holds the key only, to check signatures with
}

// matchTA looks for a DANE-TA record of an authority that issued the server's
// certificate.
func matchTA(records []Record, own *presented, q Query) Verdict {
	s := &search{
		names: q.Names, now: q.Now,
		checked:    map[[2]*x509.Certificate]bool{},
		signatures: maxSignatureChecks,
		steps:      maxSteps,
		compare:    maxComparisons,
	}
	for _, r := range records {
		if r.Usage == DANETA {
			s.records = append(s.records, r)
		}
	}
	if len(s.records) == 0 {
		return noMatch(records, own)
	}
	leaf, err := x509.ParseCertificate(own.der)
	if err != nil {
		return Verdict{Depth: -1, Cause: CauseUnparseable, Reason: fmt.Sprintf(
			"the server's certificate cannot be read (%v), and no TLSA record of usage 3 is that of it", err)}
	}
	s.gather(leaf, q.Chain)
	if v, ok := s.extend([]*x509.Certificate{leaf}); ok {
		return v
	}
	return s.verdict(records, own, len(q.Chain))
}

// gather fills pool and keys from the chain and from the records that carry a
// whole certificate or key.
func (s *search) gather(leaf *x509.Certificate, chain [][]byte) {
	size := len(chain[0])
	for i, der := range chain[1:] {
		if size += len(der); i+1 >= maxChain || size > maxChainBytes {
			s.exhausted = true
			break
		}
		s.add(leaf, der)
	}
	for _, r := range s.records {
		switch {
		case r.Matching != Full:
		case r.Selector == Cert:
			// RFC 7671 §5.2.2: the certificate need not be in the chain.
			s.add(leaf, r.Data)
		case r.Selector == SPKI:
			// RFC 7671 §5.2.3: nor the one of a bare key.
			if key, err := x509.ParsePKIXPublicKey(r.Data); err == nil {
				s.keys = append(s.keys, bareKey{r, &x509.Certificate{PublicKey: key}})
			}
		}
	}
}

// add puts a certificate into the pool, once, if it can be read.
func (s *search) add(leaf *x509.Certificate, der []byte) {
	if bytes.Equal(der, leaf.Raw) {
		return
	}
	for _, p := range s.pool {
		if bytes.Equal(p.cert.Raw, der) {
			return
		}
	}
	var anchor *Record
	shown := &presented{der: der}
	if i := slices.IndexFunc(s.records, shown.is); i >= 0 {
		anchor = &s.records[i]
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		// RFC 7671 leaves broken neighbours open; one of them must not hide a
		// path that does without it.
		if anchor != nil && s.unread == nil {
			s.unread = &Verdict{Record: *anchor, Depth: -1, Cause: CauseUnparseable, Reason: fmt.Sprintf(
				"TLSA record %s is that of an authority whose certificate cannot be read (%v)", anchor.Short(), err)}
		}
		return
	}
	s.pool = append(s.pool, issuer{cert, canonicalName(cert.RawSubject), anchor})
}

// extend looks for an anchor above path, whose last certificate is the
// highest so far; the nearest one first.
func (s *search) extend(path []*x509.Certificate) (Verdict, bool) {
	if s.steps--; s.steps < 0 {
		s.exhausted = true
		return Verdict{}, false
	}
	above := s.issuersOf(path)
	for _, p := range above {
		if p.anchor != nil {
			what := fmt.Sprintf("TLSA record %s is that of the authority %s", p.anchor.Short(), describe(p.cert))
			if v := s.judge(append(slices.Clip(path), p.cert), *p.anchor, what); v.Outcome == Matched {
				return v, true
			}
		}
	}
	if v, ok := s.bareKeys(path, above); ok {
		return v, true
	}
	if len(path) > maxChain {
		return Verdict{}, false
	}
	for _, p := range above {
		if v, ok := s.extend(append(slices.Clip(path), p.cert)); ok {
			return v, true
		}
	}
	return Verdict{}, false
}

// issuersOf returns those of the pool that issued the highest certificate of
// path and are not in it yet. Key identifiers are hints (RFC 5280 §4.2.1.1);
// name and signature decide. A self-signed certificate is the end of a path:
// a twin with the same name and key would stand beside it, not above.
func (s *search) issuersOf(path []*x509.Certificate) []issuer {
	top := path[len(path)-1]
	name := canonicalName(top.RawIssuer)
	if canonicalName(top.RawSubject) == name && s.signed(top, top) {
		return nil
	}
	var out []issuer
	for _, p := range s.pool {
		if p.subject == name && !slices.Contains(path, p.cert) && s.signed(top, p.cert) {
			out = append(out, p)
		}
	}
	return out
}

// bareKeys tries the keys of 2 1 0 records on the highest certificate of
// path. Where a certificate of the same key was sent as its issuer, that one
// is judged instead, with its dates and constraints.
func (s *search) bareKeys(path []*x509.Certificate, above []issuer) (Verdict, bool) {
	for _, k := range s.keys {
		sent := slices.ContainsFunc(above, func(p issuer) bool {
			return bytes.Equal(p.cert.RawSubjectPublicKeyInfo, k.record.Data)
		})
		if sent || !s.signed(path[len(path)-1], k.holder) {
			continue
		}
		depth := len(path) - 1
		what := fmt.Sprintf("TLSA record %s is the key that signed %s", k.record.Short(), who(depth, path[depth]))
		if v := s.judge(path, k.record, what); v.Outcome == Matched {
			return v, true
		}
	}
	return Verdict{}, false
}

// signed reports whether parent's key made child's signature. SHA-1 is
// accepted: who is pinned by DANE chose it, and Certificate.CheckSignatureFrom
// would refuse.
func (s *search) signed(child, parent *x509.Certificate) bool {
	pair := [2]*x509.Certificate{child, parent}
	if ok, done := s.checked[pair]; done {
		return ok
	}
	if s.signatures--; s.signatures < 0 {
		s.exhausted = true
		return false
	}
	ok := affordable(parent.PublicKey) &&
		parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
	s.checked[pair] = ok
	return ok
}

// affordable says whether one check with the key has a bounded cost.
func affordable(key crypto.PublicKey) bool {
	k, ok := key.(*rsa.PublicKey)
	return !ok || k.N.BitLen() <= maxRSABits
}

// judge checks a path that ends at the anchor of record r, or at what its bare
// key signed; what says which, in words.
func (s *search) judge(path []*x509.Certificate, r Record, what string) Verdict {
	depth := len(path) - 1
	cause, why := s.checkPath(path)
	if cause == CauseNone {
		return Verdict{Outcome: Matched, Record: r, Depth: depth, Reason: what}
	}
	v := Verdict{Outcome: Untrusted, Record: r, Depth: depth, Cause: cause, Reason: what + ", but " + why}
	if s.failure == nil {
		s.failure = &v
	}
	return v
}

// verdict says why the search found nothing, the most telling reason first.
func (s *search) verdict(records []Record, own *presented, sent int) Verdict {
	switch {
	case s.failure != nil:
		return *s.failure
	case s.exhausted:
		return Verdict{Depth: -1, Cause: CauseTooMuchWork, Reason: fmt.Sprintf(
			"the server's certificate chain takes too much work: %d certificates, of which %d in %d KiB and %d signature checks are allowed",
			sent, maxChain, maxChainBytes>>10, maxSignatureChecks)}
	case s.unread != nil:
		return *s.unread
	}
	for _, p := range s.pool {
		if p.anchor != nil {
			return Verdict{Outcome: Untrusted, Record: *p.anchor, Depth: -1, Cause: CauseNotIssuer, Reason: fmt.Sprintf(
				"TLSA record %s is that of the authority %s, but no path of signatures leads from there to the server's certificate",
				p.anchor.Short(), describe(p.cert))}
		}
	}
	return noMatch(records, own)
}

// noMatch says what the server showed instead, as the records to publish.
func noMatch(records []Record, own *presented) Verdict {
	v := Verdict{Outcome: NoMatch, Depth: -1, Cause: CauseNoMatch}
	for _, r := range records {
		if r.Usage == DANETA && own.is(r) {
			v.Reason = fmt.Sprintf("TLSA record %s is that of the server's own %s; usage 2 stands for its issuer, usage 3 for itself",
				r.Short(), r.what())
			return v
		}
	}
	v.Reason = "the usable TLSA record is not that of this server"
	if len(records) > 1 {
		v.Reason = fmt.Sprintf("none of the %d usable TLSA records is that of this server", len(records))
	}
	if seen, ok := RecordFor(own.der); ok {
		v.Reason += ", which shows " + seen.String()
	}
	return v
}

// RecordFor returns the record 3 1 1 of a certificate: what its owner would
// publish for it. ok is false where the bytes are not a certificate.
func RecordFor(cert []byte) (r Record, ok bool) {
	key, ok := publicKeyOf(cert)
	if !ok {
		return Record{}, false
	}
	return Record{Usage: DANEEE, Selector: SPKI, Matching: SHA256, Data: digest256(key)}, true
}
