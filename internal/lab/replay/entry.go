package replay

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Match names what of a message must agree with an entry.
type Match uint32

const (
	MatchOpcode Match = 1 << iota
	MatchQtype
	MatchQname
	MatchSubdomain // the question lies at or below the entry's
	MatchQuestion
	MatchRcode
	MatchFlags
	MatchAnswer
	MatchAuthority
	MatchAdditional
	MatchTTL // compare TTLs as well
	MatchDO
	MatchUDP
	MatchTCP
	MatchNoEDNS
	MatchEDE
)

// matchAll is what "all" stands for.
const matchAll = MatchOpcode | MatchQuestion | MatchRcode | MatchFlags | MatchAnswer | MatchAuthority | MatchAdditional

var matchWords = map[string]Match{
	"opcode": MatchOpcode, "qtype": MatchQtype, "qname": MatchQname, "qcase": MatchQname,
	"subdomain": MatchSubdomain, "question": MatchQuestion, "rcode": MatchRcode, "flags": MatchFlags,
	"answer": MatchAnswer, "authority": MatchAuthority, "additional": MatchAdditional, "all": matchAll,
	"ttl": MatchTTL, "DO": MatchDO, "UDP": MatchUDP, "TCP": MatchTCP, "noedns": MatchNoEDNS,
}

// Entry is a message together with how it is matched and sent.
type Entry struct {
	Line      int
	Match     Match
	All       bool // MATCH said "all"; the parts are in Match too
	EDE       int  // with MatchEDE: the code, or AnyEDE, or NoEDE
	CopyID    bool
	CopyQuery bool
	Silent    bool // do_not_answer
	Sleep     int  // seconds before the reply leaves
	Mandatory bool // must have been used when the scenario ends

	Opcode, Rcode                  int
	QR, AA, TC, RD, RA, AD, CD, DO bool
	Question                       []dns.Question
	Answer, Authority, Additional  []RR
	EDNSData                       []byte // options of the OPT record
	Raw                            []byte // the whole message, ID aside
}

const (
	AnyEDE = -1
	NoEDE  = -2
)

// readEntry reads up to ENTRY_END.
func (p *parser) readEntry() (*Entry, error) {
	e := &Entry{Line: p.at}
	for {
		words, ok := p.next()
		if !ok {
			return nil, p.errorf("ENTRY_END expected, the file ends")
		}
		var err error
		switch words[0] {
		case "ENTRY_END":
			return e, nil
		case "MATCH":
			err = p.entryMatch(e, words[1:])
		case "ADJUST":
			err = p.entryAdjust(e, words[1:])
		case "REPLY", "FLAGS":
			err = p.entryFlags(e, words[1:])
		case "MANDATORY":
			e.Mandatory = true
		case "SECTION":
			err = p.entrySection(e, words[1:])
		case "HEX_ANSWER_BEGIN":
			e.Raw, err = p.hexUntil("HEX_ANSWER_END")
		case "HEX_EDNSDATA_BEGIN":
			e.EDNSData, err = p.hexUntil("HEX_EDNSDATA_END")
		case "RAW":
			e.Raw, err = p.rawLine()
		default:
			err = p.errorf("unknown directive %q in an entry", words[0])
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) entryMatch(e *Entry, words []string) error {
	for _, w := range words {
		if code, found := strings.CutPrefix(w, "ede="); found {
			n, err := strconv.Atoi(code)
			switch {
			case code == "any":
				n = AnyEDE
			case code == "none":
				n = NoEDE
			case err != nil || n < 0:
				return p.errorf("unknown extended error %q", w)
			}
			e.Match, e.EDE = e.Match|MatchEDE, n
			continue
		}
		m, known := matchWords[w]
		if !known {
			return p.errorf("unknown MATCH word %q", w)
		}
		e.Match |= m
		e.All = e.All || w == "all"
	}
	return nil
}

func (p *parser) entryAdjust(e *Entry, words []string) error {
	for _, w := range words {
		key, value, hasValue := strings.Cut(w, "=")
		switch {
		case w == "copy_id":
			e.CopyID = true
		case w == "copy_query":
			e.CopyQuery = true
		case w == "do_not_answer":
			e.Silent = true
		case hasValue && (key == "sleep" || key == "packet_sleep"):
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return p.errorf("%s needs seconds", w)
			}
			e.Sleep = n
		default:
			return p.errorf("unknown ADJUST word %q", w)
		}
	}
	return nil
}

// entryFlags reads the words of REPLY: flags, one opcode and one rcode.
func (p *parser) entryFlags(e *Entry, words []string) error {
	flags := map[string]*bool{"QR": &e.QR, "AA": &e.AA, "TC": &e.TC, "RD": &e.RD, "RA": &e.RA, "AD": &e.AD, "CD": &e.CD, "DO": &e.DO}
	for _, w := range words {
		if f := flags[w]; f != nil {
			*f = true
			continue
		}
		if rcode, known := dns.StringToRcode[w]; known {
			e.Rcode = rcode
			continue
		}
		if opcode, known := dns.StringToOpcode[w]; known {
			e.Opcode = opcode
			continue
		}
		return p.errorf("unknown REPLY word %q", w)
	}
	return nil
}

func (p *parser) entrySection(e *Entry, words []string) error {
	if len(words) != 1 {
		return p.errorf("SECTION needs one name")
	}
	from := p.at
	text := p.sectionText()
	var err error
	switch words[0] {
	case "QUESTION":
		e.Question, err = p.questions(text, from)
	case "ANSWER":
		e.Answer, err = p.records(text, from)
	case "AUTHORITY":
		e.Authority, err = p.records(text, from)
	case "ADDITIONAL":
		e.Additional, err = p.records(text, from)
	default:
		return syntaxError(p.file, from, "unknown section %q", words[0])
	}
	return err
}

// entryWords end a section.
var entryWords = map[string]bool{
	"ENTRY_END": true, "MATCH": true, "ADJUST": true, "REPLY": true, "FLAGS": true, "MANDATORY": true, "SECTION": true,
	"HEX_ANSWER_BEGIN": true, "HEX_EDNSDATA_BEGIN": true, "RAW": true, "EXTRA_PACKET": true,
	"RANGE_END": true, "STEP": true, "SCENARIO_END": true,
}

// sectionText returns the raw lines of a section and stops before the
// directive that ends it.
func (p *parser) sectionText() []string {
	from := p.at
	for ; p.at < len(p.lines); p.at++ {
		if words := strings.Fields(p.lines[p.at]); len(words) > 0 && entryWords[words[0]] {
			break
		}
	}
	return p.lines[from:p.at]
}

func (p *parser) hexUntil(word string) ([]byte, error) {
	from := p.at
	lines, err := p.until(word)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(strings.Join(strings.Fields(bare(line)), ""))
	}
	raw, err := hex.DecodeString(b.String())
	if err != nil {
		return nil, syntaxError(p.file, from, "hexadecimal block: %v", err)
	}
	return raw, nil
}

// rawLine reads the line of hexadecimal digits after RAW.
func (p *parser) rawLine() ([]byte, error) {
	words, ok := p.next()
	if !ok {
		return nil, p.errorf("hexadecimal digits expected after RAW")
	}
	raw, err := hex.DecodeString(strings.Join(words, ""))
	if err != nil {
		return nil, p.errorf("hexadecimal digits expected after RAW: %v", err)
	}
	return raw, nil
}
