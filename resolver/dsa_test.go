package resolver_test

import (
	"crypto/dsa" //lint:ignore SA1019 recorded scenarios were signed with it
	"crypto/sha1"
	"errors"
	"math/big"

	"danepost/resolver/dnssec"
)

// verifyDSA checks DSA signatures (RFC 2536), which nobody should make any
// more and danepost does not accept: some recorded scenarios have no others.
func verifyDSA(_ *dnssec.Rules, key []byte) (dnssec.Check, error) {
	if len(key) < 1 || key[0] > 8 || len(key) != 1+20+3*(64+8*int(key[0])) {
		return nil, errors.New("malformed DSA key")
	}
	n := 64 + 8*int(key[0])
	number := func(from, size int) *big.Int { return new(big.Int).SetBytes(key[from : from+size]) }
	public := &dsa.PublicKey{
		Parameters: dsa.Parameters{Q: number(1, 20), P: number(21, n), G: number(21+n, n)},
		Y:          number(21+2*n, n),
	}
	return func(data, sig []byte) bool {
		if len(sig) != 41 {
			return false
		}
		digest := sha1.Sum(data)
		return dsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[1:21]), new(big.Int).SetBytes(sig[21:]))
	}, nil
}
