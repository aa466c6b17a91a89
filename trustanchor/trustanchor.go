// Package trustanchor keeps the keys that all validation starts from.
//
// They come from three places: the root's keys built in, a file that
// replaces them (DS or DNSKEY lines, or IANA's root-anchors.xml with its
// signature), and what the zone itself has said since under the eyes of a key
// that was trusted already (RFC 5011). The last is a small machine for each key:
//
//	         NewKey            AddTime            KeyRem
//	Start ------------> AddPend -------> Valid <----------> Missing
//	  ^                    |               |      KeyPres      |
//	  +--------------------+               |  RevBit           | RevBit
//	         KeyRem                        v                   v
//	                                    Revoked ----------> Removed
//	                                            RemTime
//
// A key is told by its material, not by its tag. The parts, from the core
// outwards:
//
//	reduce.go   Observe: one answer applied to a Set; one function for each event
//	observe.go  Examine: which keys signed an answer
//	set.go      Set, Key, State: what is known of one zone
//	event.go    what changed, in words
//	store.go    the state file
//	clock.go    whether the host's clock can be believed
//	keeper.go   Open, Anchors, Ready: all of it put together
//	run.go      when the zone is asked
//	status.go   what an administrator sees
//	parse.go, xml.go, cms.go  files with anchors and their signature
package trustanchor

import (
	"encoding/hex"
	"time"

	"danepost/resolver/dnssec"
)

// released is a time that is certainly past: no clock that shows an earlier
// one is right.
var released = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// builtIn are the root's key signing keys as IANA publishes them.
var builtIn = []struct {
	keyTag uint16
	digest string // SHA-256, RFC 4509
}{
	// KSK-2017, valid from 2017-02-02.
	{20326, "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"},
	// KSK-2024, valid from 2024-07-18.
	{38696, "683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16"},
}

// BuiltIn returns the root's keys as DS records, both algorithm 8 with a
// SHA-256 digest. Either alone suffices to validate the root. The caller owns
// the slice.
func BuiltIn() []dnssec.Anchor {
	var out []dnssec.Anchor
	for _, k := range builtIn {
		digest, err := hex.DecodeString(k.digest)
		if err != nil {
			panic("trustanchor: built-in digest: " + err.Error())
		}
		out = append(out, dnssec.Anchor{
			Zone: dnssec.Root,
			DS:   &dnssec.DS{KeyTag: k.keyTag, Algorithm: 8, DigestType: digestSHA256, Digest: digest},
		})
	}
	return out
}
