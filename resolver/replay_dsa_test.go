package resolver_test

import (
	"crypto/dsa" //lint:ignore SA1019 recorded zones are signed with it; nothing else here is
	"crypto/sha1"
	"errors"
	"math/big"

	"danepost/resolver/dnssec"
)

// verifyDSA is algorithm 3 (RFC 2536), which old recordings are signed with.
func verifyDSA(_ *dnssec.Rules, public []byte) (dnssec.Check, error) {
	if len(public) == 0 || public[0] > 8 {
		return nil, errors.New("malformed DSA key")
	}
	size := 64 + 8*int(public[0]) // RFC 2536 §2: of p, g and y
	if len(public) != 1+20+3*size {
		return nil, errors.New("malformed DSA key")
	}
	number := func(from, n int) *big.Int { return new(big.Int).SetBytes(public[from : from+n]) }
	key := &dsa.PublicKey{
		Parameters: dsa.Parameters{Q: number(1, 20), P: number(21, size), G: number(21+size, size)},
		Y:          number(21+2*size, size),
	}
	return func(data, sig []byte) bool {
		if len(sig) != 41 { // RFC 2536 §3: T, r, s
			return false
		}
		sum := sha1.Sum(data)
		return dsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[1:21]), new(big.Int).SetBytes(sig[21:]))
	}, nil
}
