package resolver

import (
	"context"
	"net/netip"
	"time"

	"danepost/resolver/dnssec"
)

// Answer is the outcome of one validated look-up. It is immutable: callers may
// share it between goroutines and must not modify what its slices hold.
type Answer struct {
	Name  dnssec.Name // as asked
	Type  uint16
	Rcode int // RFC 1035 RCODE; SERVFAIL when Status is Bogus or Indeterminate

	// Verdict is that of the whole answer: its weakest link.
	dnssec.Verdict

	// Links holds every CNAME and DNAME step in order, each with a status of
	// its own: RFC 7672 §2.2.2 decides per link, not per answer.
	Links []Link
	// Final is the name at the end of Links, and FinalStatus what was proved
	// about the RRset (or its denial) there, taken alone.
	Final       dnssec.Name
	FinalStatus dnssec.Status

	// RRs holds the RRset asked for, empty for NODATA, NXDOMAIN and failures.
	RRs []RR

	Expires      time.Time // end of the TTL of the answer as a whole
	SignatureEnd time.Time // earliest end of a signature that proves it; zero unless Secure

	// Chain is the way from the anchor to the zone of Final, for people.
	Chain []ZoneTrust

	Queries int           // upstream packets sent for this answer; 0 = from the cache
	Elapsed time.Duration // time of this call
}

// Link is one step of a CNAME or DNAME chain.
type Link struct {
	Owner, Target dnssec.Name
	Type          uint16 // TypeCNAME or TypeDNAME
	Status        dnssec.Status
}

// RR is one record: TTL in seconds, RDATA as on the wire with names
// decompressed and otherwise untouched (a short TLSA stays short).
type RR struct {
	Name dnssec.Name
	Type uint16
	TTL  uint32
	Data []byte
}

// ZoneTrust says what is known about one zone on the way down.
type ZoneTrust struct {
	Zone   dnssec.Name
	Status dnssec.Status
	DS     []KeyRef // what the parent (or the anchor) says of its keys
	Keys   []KeyRef // the keys that the zone shows
	Reason string   // where it became insecure or bogus, and why, in words
}

// KeyRef names a key as an administrator knows it.
type KeyRef struct {
	Tag       uint16
	Algorithm uint8
	Flags     uint16 // DNSKEY only
	Digest    uint8  // DS only
	Used      bool   // this key or DS carried the proof
}

// MX is one decoded MX record (RFC 1035 §3.3.9).
type MX struct {
	Preference uint16
	Host       dnssec.Name
}

// MXs decodes the MX records of an answer, in the order received.
func (a *Answer) MXs() []MX {
	var out []MX
	for _, rr := range a.RRs {
		if rr.Type != TypeMX || len(rr.Data) < 3 {
			continue
		}
		out = append(out, MX{
			Preference: uint16(rr.Data[0])<<8 | uint16(rr.Data[1]),
			Host:       dnssec.Name(rr.Data[2:]).Lower(),
		})
	}
	return out
}

// Addrs decodes the A or AAAA records of an answer, in the order received.
func (a *Answer) Addrs() []netip.Addr {
	var out []netip.Addr
	for _, rr := range a.RRs {
		if rr.Type != TypeA && rr.Type != TypeAAAA {
			continue
		}
		if ip, ok := netip.AddrFromSlice(rr.Data); ok {
			out = append(out, ip)
		}
	}
	return out
}

// The record types that the rooms of danepost ask for by name.
const (
	TypeA     uint16 = 1
	TypeNS    uint16 = 2
	TypeCNAME uint16 = 5
	TypeMX    uint16 = 15
	TypeAAAA  uint16 = 28
	TypeDNAME uint16 = 39
	TypeTLSA  uint16 = 52
)

// Transport carries one DNS message to one server and brings the reply back.
// Implementations are safe for concurrent use.
type Transport interface {
	// Exchange sends x.Message and returns the first reply for which
	// x.Accept is true. Over UDP, datagrams from other addresses and ones
	// that x.Accept refuses are ignored until ctx ends: an off-path forger
	// must not be able to end the wait (RFC 5452). A wait that ends without
	// a reply returns an error for which os.IsTimeout-like checks hold
	// (errors.Is(err, os.ErrDeadlineExceeded) or context.DeadlineExceeded).
	Exchange(ctx context.Context, x Exchange) ([]byte, error)
}

// Exchange is one question to one server.
type Exchange struct {
	Server  netip.AddrPort
	TCP     bool
	Message []byte
	Accept  func(reply []byte) bool
}
