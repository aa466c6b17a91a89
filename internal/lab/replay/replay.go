// Package replay reads recorded resolver scenarios (.rpl files) and plays them
// against a resolver that it knows only as a Subject.
//
// A scenario is a little internet and a play. Its ranges say what each server
// answers while the play is between two step numbers; its steps ask questions,
// let time pass, hand out single replies or withhold them, and check what the
// resolver said. Two dialects exist: Unbound's testbound, whose configuration
// is an unbound.conf, and Deckard's, whose configuration is bare "key: value"
// lines. They differ in what an unmatched question means (silence; SERVFAIL)
// and in how replies are scripted.
//
// The package is strict on purpose: a directive, option, flag or step that it
// does not know is an error with file and line, because a check that is
// skipped in silence would be a check that passes.
package replay

import (
	"fmt"
	"net/netip"
)

// Dialect tells the two families of scenario files apart.
type Dialect uint8

const (
	Unbound Dialect = iota // configuration has clauses ("server:"); unmatched = silence
	Deckard                // bare options; unmatched = SERVFAIL
)

// Scenario is one parsed file. Treat it as read-only, except to change what
// it expects before it is played.
type Scenario struct {
	File    string
	Title   string
	Dialect Dialect
	Options []Option
	Files   []File // AUTOTRUST_FILE and TEMPFILE blocks of the configuration
	Ranges  []Range
	Steps   []Step
}

// Option is one configuration line.
type Option struct {
	Clause int    // 0 for the first clause, counting up at each clause header
	Kind   string // the clause: "server", "stub-zone", ...; "" in Deckard's dialect
	Key    string
	Value  string // quotes removed, words joined by one blank
	Line   int
}

// File is an inline file of the configuration.
type File struct {
	Name      string
	Autotrust bool
	Lines     []string
}

// Range is what some servers answer from step From to step To, both included.
type Range struct {
	From, To  int
	Addresses []netip.Addr // none: every server
	Entries   []*Entry
	Line      int
}

// StepKind is what a step does.
type StepKind string

const (
	Query          StepKind = "QUERY"           // a client asks
	CheckAnswer    StepKind = "CHECK_ANSWER"    // what the client must have been told
	CheckOutQuery  StepKind = "CHECK_OUT_QUERY" // what the resolver must be asking
	Reply          StepKind = "REPLY"           // one reply to one question
	Timeout        StepKind = "TIMEOUT"         // one question goes unanswered
	NetworkError   StepKind = "ERROR"           // one question fails at once
	TimePasses     StepKind = "TIME_PASSES"
	Nothing        StepKind = "NOTHING"
	Traffic        StepKind = "TRAFFIC"
	Assign         StepKind = "ASSIGN"
	CheckAutotrust StepKind = "CHECK_AUTOTRUST"
)

// foreign steps reach into the cache or the files of the resolver that a
// scenario was recorded with. They are read, so that what the scenario is
// about can be told, but a scenario that comes to one fails.
var foreign = map[StepKind]bool{
	"EXPIRE_MESSAGE": true, "FLUSH_MESSAGE": true, "CHECK_TEMPFILE": true, "INFRA_RTT": true,
}

// Step is one act of the play.
type Step struct {
	Number  int
	Kind    StepKind
	Line    int
	Address netip.Addr // of the server, or of the client for Query; may be invalid
	Entry   *Entry     // for the four kinds that carry a message
	Name    string     // variable (Assign) or zone (CheckAutotrust)
	Expr    string     // Assign, TimePasses
	Expect  []string   // CheckAutotrust: the file's lines
}

// Question is what a client asks.
type Question struct {
	Name           string // presentation format, final dot
	Type, Class    uint16
	RD, CD, DO, AD bool
}

// RR is one record in wire terms: names uncompressed, letter case as written.
type RR struct {
	Name  string // presentation format, final dot
	Type  uint16
	Class uint16
	TTL   uint32 // seconds
	Data  []byte
}

// Answer is what the client was told.
type Answer struct {
	Rcode      int
	AD         bool
	TC         bool
	Answer     []RR
	Authority  []RR
	Additional []RR
	EDE        []int  // RFC 8914 info codes; empty for none
	Note       string // why, for people who read a failure
}

// syntaxError is an error of the file itself.
func syntaxError(file string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
}
