package resolver

import "time"

// Limits is the one table of the resolver's numbers. A resolution that runs
// past one of the limits against attacks ends Indeterminate, with the name of
// the limit as its reason, and never Insecure.
type Limits struct {
	// Work of one resolution, its sub-questions included.
	Time            time.Duration // wall clock
	Packets         int           // messages sent upstream (NXNSAttack, CAMP, TsuNAME)
	SignatureChecks int           // KeyTrap, CVE-2023-50387
	FailedChecks    int           // the same
	NSEC3Hashes     int           // CVE-2023-50868
	BogusRestarts   int           // other servers asked before data is called Bogus
	Depth           int           // questions that wait for one another
	Aliases         int           // CNAME and DNAME steps
	Referrals       int           // in one descent
	MissingGlue     int           // server names of one delegation looked up because it came without addresses
	ServerNames     int           // server names of one delegation looked up in all

	// What is kept of what a server sends.
	RRsPerRRset     int // CVE-2024-1737
	RRsetsPerName   int // the same
	SigsPerRRset    int
	NSPerDelegation int
	AddrsPerServer  int
	MessageRecords  int // records of one message that are looked at

	// QNAME minimisation (RFC 9156 §2.3).
	MinimiseSteps    int // probes in one resolution
	MinimiseOneLabel int // of these, that many add one label at a time

	// Cache.
	MinTTL         time.Duration // zero: as the owner says
	MaxTTL         time.Duration
	MaxNegativeTTL time.Duration
	BogusTTL       time.Duration
	FailTTL        time.Duration // of a first failure, doubled by each that follows (RFC 9520 §3.2)
	MaxFailTTL     time.Duration
	DenialsPerZone int // kept for aggressive use (RFC 8198)

	// Servers.
	UDPSize      uint16 // announced (RFC 6891 §6.2.5, DNS flag day 2020)
	Tries        int    // of one server for one question over UDP, at least
	MaxTries     int    // and at most, while its silence has not lasted Patience
	Patience     time.Duration
	UnknownRTT   time.Duration // taken for a server never asked
	RTTBand      time.Duration // servers this close to the fastest share the load
	MinTimeout   time.Duration // of one UDP query
	MaxTimeout   time.Duration
	TCPTimeout   time.Duration // of one TCP query, connecting included
	TCPIdle      time.Duration // a connection is kept that long for the next question
	DeadAfter    int           // timeouts in a row that make a server dead
	ProbeAfter   time.Duration // a dead server is tried again after this
	QuirkTTL     time.Duration // that a server lacks EDNS, does not echo case or is lame is remembered so long
	FamilyTTL    time.Duration // that the host has no working IPv6 (or IPv4), likewise
	Servers      int           // remembered
	TCPIdleConns int           // kept in all

	// Forwarding when port 53 is blocked.
	ForwardTimeout time.Duration // of one UDP query to a recursive server, which may have to ask others first
	ForwardProbes  int           // root servers tried before it counts as blocked
	ForwardRecheck time.Duration // the way to the root is tried again this often

	// The listener.
	Clients      int           // questions answered at a time
	ClientConns  int           // TCP connections
	ClientIdle   time.Duration // of a TCP connection without questions
	ClientUDPMax int           // octets of a UDP answer
}

// of returns the limit on what is kept of a message that goes by this name.
func (l *Limits) of(name string) int {
	switch name {
	case "rrs-per-rrset":
		return l.RRsPerRRset
	case "rrsets-per-name":
		return l.RRsetsPerName
	}
	return l.MessageRecords
}

// DefaultLimits returns the table that holds unless a test says otherwise.
func DefaultLimits() Limits {
	return Limits{
		Time:            20 * time.Second,
		Packets:         128,
		SignatureChecks: 64,
		FailedChecks:    16,
		NSEC3Hashes:     64,
		BogusRestarts:   5,
		Depth:           7,
		Aliases:         11,
		Referrals:       30,
		MissingGlue:     5,
		ServerNames:     13,

		RRsPerRRset:     100,
		RRsetsPerName:   100,
		SigsPerRRset:    8,
		NSPerDelegation: 20,
		AddrsPerServer:  8,
		MessageRecords:  2000,

		MinimiseSteps:    10,
		MinimiseOneLabel: 4,

		MaxTTL:         24 * time.Hour,
		MaxNegativeTTL: time.Hour,
		BogusTTL:       time.Minute,
		FailTTL:        5 * time.Second,
		MaxFailTTL:     5 * time.Minute,
		DenialsPerZone: 64,

		UDPSize:      1232,
		Tries:        3,
		MaxTries:     6,
		Patience:     2500 * time.Millisecond,
		UnknownRTT:   376 * time.Millisecond,
		RTTBand:      400 * time.Millisecond,
		MinTimeout:   50 * time.Millisecond,
		MaxTimeout:   5 * time.Second,
		TCPTimeout:   5 * time.Second,
		TCPIdle:      2 * time.Second,
		DeadAfter:    5,
		ProbeAfter:   2 * time.Minute,
		QuirkTTL:     15 * time.Minute,
		FamilyTTL:    10 * time.Minute,
		Servers:      4096,
		TCPIdleConns: 32,

		ForwardTimeout: 3 * time.Second,
		ForwardProbes:  4,
		ForwardRecheck: 10 * time.Minute,

		Clients:      512,
		ClientConns:  64,
		ClientIdle:   10 * time.Second,
		ClientUDPMax: 1232,
	}
}
