package dnssec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The record types whose data this package reads.
const (
	typeNS     uint16 = 2
	typeCNAME  uint16 = 5
	typeSOA    uint16 = 6
	typeDNAME  uint16 = 39
	typeDS     uint16 = 43
	typeRRSIG  uint16 = 46
	typeNSEC   uint16 = 47
	typeDNSKEY uint16 = 48
	typeNSEC3  uint16 = 50
	typeNXNAME uint16 = 128 // RFC 9824 §2: in the bitmap of a name that does not exist
)

// Octets before the part whose length varies.
const (
	rrsigFixedLen  = 18 // the signer's name follows
	dsFixedLen     = 4
	dnskeyFixedLen = 4
)

// DNSKEY flags (RFC 4034 §2.1.1, RFC 5011 §2.1).
const (
	flagZone   uint16 = 0x0100
	flagRevoke uint16 = 0x0080
	flagSEP    uint16 = 0x0001
)

var errShort = errors.New("RDATA is too short")

// RRset is what a server sent under one owner, type and class.
type RRset struct {
	Name  Name
	Type  uint16
	Class uint16
	TTL   uint32   // seconds, the lowest received
	Data  [][]byte // RDATA as received, names decompressed, letter case kept
	Sigs  []RRSIG  // RRSIGs that cover Type, as received
}

// RRSIG is a decoded RRSIG RDATA (RFC 4034 §3.1).
type RRSIG struct {
	TypeCovered uint16
	Algorithm   uint8
	Labels      uint8
	OriginalTTL uint32
	Expiration  uint32
	Inception   uint32
	KeyTag      uint16
	Signer      Name
	Signature   []byte
	TTL         uint32 // of the RRSIG record itself
}

// ParseRRSIG decodes RDATA whose signer name is uncompressed. Signature
// points into rdata; TTL is left for the caller to fill in.
func ParseRRSIG(rdata []byte) (RRSIG, error) {
	if len(rdata) < rrsigFixedLen {
		return RRSIG{}, fmt.Errorf("RRSIG: %w", errShort)
	}
	signer, n, err := ReadName(rdata[rrsigFixedLen:])
	if err != nil {
		return RRSIG{}, fmt.Errorf("RRSIG signer: %w", err)
	}
	return RRSIG{
		TypeCovered: binary.BigEndian.Uint16(rdata),
		Algorithm:   rdata[2],
		Labels:      rdata[3],
		OriginalTTL: binary.BigEndian.Uint32(rdata[4:]),
		Expiration:  binary.BigEndian.Uint32(rdata[8:]),
		Inception:   binary.BigEndian.Uint32(rdata[12:]),
		KeyTag:      binary.BigEndian.Uint16(rdata[16:]),
		Signer:      signer,
		Signature:   rdata[rrsigFixedLen+n:],
	}, nil
}

// DS is a decoded DS RDATA (RFC 4034 §5.1).
type DS struct {
	KeyTag     uint16
	Algorithm  uint8
	DigestType uint8
	Digest     []byte
}

// ParseDS decodes DS RDATA. Digest points into it.
func ParseDS(rdata []byte) (DS, error) {
	if len(rdata) <= dsFixedLen {
		return DS{}, fmt.Errorf("DS: %w", errShort)
	}
	return DS{
		KeyTag:     binary.BigEndian.Uint16(rdata),
		Algorithm:  rdata[2],
		DigestType: rdata[3],
		Digest:     rdata[dsFixedLen:],
	}, nil
}

// DNSKEY is a decoded DNSKEY RDATA (RFC 4034 §2.1).
type DNSKEY struct {
	Flags     uint16
	Protocol  uint8
	Algorithm uint8
	PublicKey []byte
}

// ParseDNSKEY decodes DNSKEY RDATA. PublicKey points into it.
func ParseDNSKEY(rdata []byte) (DNSKEY, error) {
	if len(rdata) <= dnskeyFixedLen {
		return DNSKEY{}, fmt.Errorf("DNSKEY: %w", errShort)
	}
	return DNSKEY{
		Flags:     binary.BigEndian.Uint16(rdata),
		Protocol:  rdata[2],
		Algorithm: rdata[3],
		PublicKey: rdata[dnskeyFixedLen:],
	}, nil
}

// Signs reports whether the key may sign zone data at all: the zone bit is
// set, the protocol is 3 (RFC 4034 §2.1) and it is not revoked (RFC 5011 §2.1).
func (k DNSKEY) Signs() bool {
	return k.Flags&flagZone != 0 && k.Flags&flagRevoke == 0 && k.Protocol == 3
}

// Revoked reports whether the key says of itself that it is revoked.
func (k DNSKEY) Revoked() bool { return k.Flags&flagRevoke != 0 }

// KeyTag computes the tag of DNSKEY RDATA (RFC 4034 Appendix B).
func KeyTag(rdata []byte) uint16 {
	// RSA/MD5 has a rule of its own (RFC 4034 Appendix B.1).
	if len(rdata) > dnskeyFixedLen+2 && rdata[3] == 1 {
		return binary.BigEndian.Uint16(rdata[len(rdata)-3:])
	}
	var sum uint32
	for i, c := range rdata {
		if i&1 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	return uint16(sum + sum>>16)
}
