package cli

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/miekg/dns"

	"danepost/queue/submit"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// lookupJSON is the contract of `lookup --json`; fields are only ever added.
type lookupJSON struct {
	Name      string     `json:"name"`
	Type      string     `json:"type"`
	Rcode     string     `json:"rcode"`
	Status    string     `json:"status"`
	Reason    string     `json:"reason"`
	EDE       *int       `json:"ede"`
	Answer    []string   `json:"answer"`
	Links     []linkJSON `json:"links"`
	Queries   int        `json:"queries"`
	ElapsedMS int64      `json:"elapsed_ms"`
}

type linkJSON struct {
	Owner  string `json:"owner"`
	Target string `json:"target"`
	Status string `json:"status"`
}

// runLookup is `danepost lookup NAME [TYPE]`. Exit 0 for secure and insecure
// answers, 1 for bogus and indeterminate ones.
func runLookup(inv *invocation, args []string) error {
	fs := inv.flags("lookup")
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() < 1 || fs.NArg() > 2 {
		return usageError("usage: danepost lookup NAME [TYPE]")
	}
	name, qtype, err := parseQuestion(fs.Args())
	if err != nil {
		return err
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	n, err := openNames(c, newLog(inv.Err, c.Log))
	if err != nil {
		return err
	}
	defer n.Close()
	a := n.Lookup(ctx, name, qtype)
	if *asJSON {
		if err := json.NewEncoder(inv.Out).Encode(lookupObject(a)); err != nil {
			return err
		}
	} else {
		renderLookup(inv.Out, a)
	}
	if a.Status == dnssec.Bogus || a.Status == dnssec.Indeterminate {
		return exitStatus(1)
	}
	return nil
}

// parseQuestion reads NAME [TYPE]; the type is A where none is given.
func parseQuestion(args []string) (name string, qtype uint16, err error) {
	name = args[0]
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		if name, err = submit.ASCIIDomain(name); err != nil {
			return "", 0, usageError("lookup: %s", err)
		}
	}
	if _, err := dnssec.ParseName(name); err != nil {
		return "", 0, usageError("lookup: no domain name: %v", err)
	}
	if len(args) == 1 {
		return name, dns.TypeA, nil
	}
	qtype, ok := parseType(args[1])
	if !ok {
		return "", 0, usageError("lookup: unknown record type %q", args[1])
	}
	if !verifiable(qtype) {
		return "", 0, usageError("lookup: %s is no record type whose answer can be verified", typeWord(qtype))
	}
	return name, qtype, nil
}

// verifiable tells whether a type is one of records that signatures cover: no
// pseudo type or question type (RFC 6895 §3.1), nor a signature itself.
func verifiable(t uint16) bool {
	switch t {
	case dns.TypeNone, dns.TypeOPT, dns.TypeSIG, dns.TypeRRSIG:
		return false
	}
	return t < 128 || t > 255
}

// parseType reads a type's mnemonic or TYPEn (RFC 3597 §5).
func parseType(s string) (uint16, bool) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok {
		return t, true
	}
	if digits, ok := strings.CutPrefix(s, "TYPE"); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		return uint16(n), err == nil
	}
	return 0, false
}

func typeWord(t uint16) string { return dns.Type(t).String() }

func rcodeWord(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}

func lookupObject(a *resolver.Answer) lookupJSON {
	o := lookupJSON{
		Name:      a.Name.String(),
		Type:      typeWord(a.Type),
		Rcode:     rcodeWord(a.Rcode),
		Status:    a.Status.String(),
		Reason:    or(a.Text != "", a.Text, string(a.Reason)),
		Answer:    []string{},
		Links:     []linkJSON{},
		Queries:   a.Queries,
		ElapsedMS: a.Elapsed.Milliseconds(),
	}
	if a.EDE >= 0 && a.Status != dnssec.Secure {
		o.EDE = &a.EDE
	}
	for _, rr := range a.RRs {
		o.Answer = append(o.Answer, presentRR(rr))
	}
	for _, l := range a.Links {
		o.Links = append(o.Links, linkJSON{l.Owner.String(), l.Target.String(), l.Status.String()})
	}
	return o
}

// presentRR writes a record in presentation format; RDATA that does not parse
// as its type in the generic form of RFC 3597 §5.
func presentRR(rr resolver.RR) string {
	wire := append([]byte(rr.Name), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	head := wire[len(rr.Name):]
	binary.BigEndian.PutUint16(head[0:], rr.Type)
	binary.BigEndian.PutUint32(head[4:], rr.TTL)
	binary.BigEndian.PutUint16(head[8:], uint16(len(rr.Data)))
	parsed, _, err := dns.UnpackRR(append(wire, rr.Data...), 0)
	if err == nil {
		return strings.ReplaceAll(parsed.String(), "\t", " ")
	}
	return fmt.Sprintf("%s %d IN TYPE%d \\# %d %s", rr.Name, rr.TTL, rr.Type, len(rr.Data), hex.EncodeToString(rr.Data))
}
