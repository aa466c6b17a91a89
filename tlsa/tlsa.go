// Package tlsa decides whether a server's certificate chain is one that its
// TLSA records allow (RFC 6698, RFC 7671) under the rules of SMTP (RFC 7672).
// It is pure and uses the standard library only: records, certificates as
// DER, names and a time go in; a Verdict comes out.
//
// A TLSA record says which key or certificate a server must show. Two usages
// count for SMTP (RFC 7672 §3.1.3):
//
//	3 DANE-EE  the record names the server's own key or certificate. A match
//	           is everything: names, dates, issuer and extensions are ignored.
//	2 DANE-TA  the record names a certification authority that issued the
//	           server's certificate, directly or not. The whole path is then
//	           checked: signatures, dates, extensions, and the server's name.
//
// No other authority is ever consulted: the DNS is the list of trust anchors.
package tlsa

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The bounds on what one server may make us do.
const (
	maxChain           = 10       // certificates of the chain looked at for DANE-TA
	maxChainBytes      = 64 << 10 // and their size together, in bytes
	maxSignatureChecks = 64       // signature checks in one Verify
	maxSteps           = 256      // certificates put on top of a path in one Verify
	maxComparisons     = 1 << 17  // names held to name constraints in one Verify
	maxRSABits         = 16384    // larger moduli are not tried: their cost is the server's choice
)

// Query is what Verify judges.
type Query struct {
	Records []Record  // the TLSA RRset, proved Secure by the caller
	Chain   [][]byte  // certificates as DER in the order sent, the server's own first
	Names   []string  // reference identifiers as A-labels without the final dot: TLSA base domain first (RFC 7672 §3.2.2)
	Now     time.Time // the time at which dates are judged
}

// Outcome is the kind of a Verdict.
type Outcome uint8

const (
	// Malformed: nothing could be judged, e.g. no certificate was sent. The
	// zero value, so that a forgotten verdict never reads as a good one.
	Malformed Outcome = iota
	// Unusable: no record is one that SMTP can use. TLS is still mandatory,
	// but nobody is authenticated (RFC 7672 §2.2).
	Unusable
	// NoMatch: usable records exist and the chain shows none of their keys.
	NoMatch
	// Untrusted: a DANE-TA record names an authority of this chain, but the
	// path from there to the server fails a check; Cause says which.
	Untrusted
	// Matched: the server is the one that its TLSA records promise.
	Matched
)

// String returns one lower-case word.
func (o Outcome) String() string {
	if int(o) < len(outcomeWords) {
		return outcomeWords[o]
	}
	return fmt.Sprintf("outcome-%d", uint8(o))
}

var outcomeWords = [...]string{"malformed", "unusable", "no-match", "untrusted", "matched"}

// Cause says, for programs, why an outcome is not Matched.
type Cause string

// The causes. Those below CauseNoMatch belong to the outcome Untrusted.
const (
	CauseNone           Cause = ""
	CauseNoCertificate  Cause = "no-certificate"        // the server sent none
	CauseUnparseable    Cause = "unparseable"           // a certificate that is needed cannot be read
	CauseTooMuchWork    Cause = "too-much-work"         // a bound was reached before the search ended
	CauseUnusable       Cause = "no-usable-record"      //
	CauseNoMatch        Cause = "no-record-matches"     //
	CauseExpired        Cause = "expired"               //
	CauseNotYetValid    Cause = "not-yet-valid"         //
	CauseWrongName      Cause = "wrong-name"            //
	CauseNotCA          Cause = "not-a-ca"              // basicConstraints, keyUsage
	CausePathLength     Cause = "path-too-long"         //
	CausePurpose        Cause = "wrong-purpose"         // extKeyUsage, or keyUsage of the server's certificate
	CauseNameConstraint Cause = "name-not-permitted"    //
	CauseCritical       Cause = "unknown-critical-part" // a critical extension nobody here understands
	CauseNotIssuer      Cause = "not-its-issuer"        // the record names a certificate that did not issue this one
)

// Verdict is what Verify found.
type Verdict struct {
	Outcome Outcome
	// Record is the record that decided: for Matched the one that matched,
	// for Untrusted the one whose path failed. Zero otherwise.
	Record Record
	// Depth is where in the path Record was found: 0 is the server's own
	// certificate, 1 its issuer. For a bare key whose certificate the server
	// did not send it is the certificate signed with it. -1: nowhere.
	Depth int
	Cause Cause
	// Reason says it in words, without a final full stop.
	Reason string
}

// Verify judges a chain by its TLSA records. DANE-EE is looked at before
// DANE-TA, so that a roll-over set works whichever half is current. It never
// fails: what is wrong with the input is part of the verdict.
func Verify(q Query) Verdict {
	usable := Usable(q.Records)
	if len(usable) == 0 {
		return Verdict{Outcome: Unusable, Depth: -1, Cause: CauseUnusable, Reason: whyUnusable(q.Records)}
	}
	if len(q.Chain) == 0 || len(q.Chain[0]) == 0 {
		return Verdict{Depth: -1, Cause: CauseNoCertificate, Reason: "the server sent no certificate"}
	}
	records := strongest(usable)
	own := &presented{der: q.Chain[0]}
	if v, ok := matchEE(records, own); ok {
		return v
	}
	return matchTA(records, own, q)
}

// matchEE looks for a DANE-EE record of the server's certificate. Nothing but
// the key or the certificate itself counts (RFC 7672 §3.1.1), so nothing else
// is parsed: dates, names or a broken neighbour cannot be in the way.
func matchEE(records []Record, own *presented) (Verdict, bool) {
	for _, r := range records {
		if r.Usage == DANEEE && own.is(r) {
			return Verdict{
				Outcome: Matched, Record: r,
				Reason: fmt.Sprintf("TLSA record %s is that of the server's %s", r.Short(), r.what()),
			}, true
		}
	}
	return Verdict{}, false
}

// whyUnusable says in one line why no record can be used.
func whyUnusable(records []Record) string {
	if len(records) == 0 {
		return "there is no TLSA record"
	}
	var seen []string
	for _, r := range records {
		_, why := r.Usable()
		if line := r.Short() + ": " + why; !slices.Contains(seen, line) {
			seen = append(seen, line)
		}
	}
	const most = 3
	if len(seen) > most {
		seen = append(seen[:most], fmt.Sprintf("and %d more", len(seen)-most))
	}
	return "no TLSA record can be used: " + strings.Join(seen, "; ")
}
