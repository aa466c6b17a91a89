package dnssec

// Rules holds what is configurable about validation. Treat it as read-only
// once in use; it is then safe for concurrent use.
type Rules struct {
	// Verifiers by DNSSEC algorithm number; an algorithm that is absent is
	// unsupported (RFC 4035 §5.2).
	Verifiers map[uint8]Verifier
	// Digests by DS digest type number.
	Digests            map[uint8]func(data []byte) []byte
	MinRSABits         int    // smaller moduli are unsupported
	MaxRSABits         int    // larger ones too: their cost is the attacker's choice
	MaxNSEC3Iterations uint16 // above: a denial is Insecure at best (RFC 9276 §3.2)
	MaxNSEC3Hashed     uint16 // up to here it must fit the name all the same; above, the NSEC3's own signature has to do
	MaxKeysPerTag      int    // colliding key tags tried
	MaxSigsPerRRset    int    // signature checks per RRset
}

// DefaultRules returns what danepost validates by unless told otherwise: algorithms 8, 10,
// 13, 14, 15, and 5 and 7 where sha1 is true.
func DefaultRules(sha1 bool) *Rules {
	return &Rules{
		Verifiers:          defaultVerifiers(sha1),
		Digests:            defaultDigests(),
		MinRSABits:         1024,
		MaxRSABits:         4096,
		MaxNSEC3Iterations: 50,
		MaxNSEC3Hashed:     2500, // RFC 5155 §10.3: no zone may have more
		MaxKeysPerTag:      4,
		MaxSigsPerRRset:    8,
	}
}

// MatchDS reports whether ds is a digest of key, a DNSKEY RDATA of zone
// (RFC 4034 §5.1.4). It is false where the digest type is unsupported. The
// key's flags are the caller's to judge, except that they are in the digest.
func (r *Rules) MatchDS(zone Name, key []byte, ds *DS) bool {
	digest := r.Digests[ds.DigestType]
	if digest == nil || len(key) <= dnskeyFixedLen || key[3] != ds.Algorithm || KeyTag(key) != ds.KeyTag {
		return false
	}
	data := make([]byte, 0, len(zone)+len(key))
	data = append(append(data, zone.Lower()...), key...)
	return string(digest(data)) == string(ds.Digest)
}
