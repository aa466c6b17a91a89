package replay

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// defaultTTL is that of records written without one, in seconds.
const defaultTTL = 3600

// questions reads "name [class] type" lines.
func (p *parser) questions(lines []string, from int) ([]dns.Question, error) {
	var out []dns.Question
	for i, line := range lines {
		words := strings.Fields(bare(line))
		if len(words) == 0 {
			continue
		}
		q := dns.Question{Name: dns.Fqdn(words[0]), Qclass: dns.ClassINET}
		for _, w := range words[1:] {
			upper := strings.ToUpper(w)
			if class, known := dns.StringToClass[upper]; known && upper != "ANY" {
				q.Qclass = class
			} else if t, known := typeNumber(upper); known && q.Qtype == 0 {
				q.Qtype = t
			} else {
				return nil, syntaxError(p.file, from+i+1, "unknown word %q in a question", w)
			}
		}
		if _, ok := dns.IsDomainName(q.Name); !ok || q.Qtype == 0 {
			return nil, syntaxError(p.file, from+i+1, "question needs a name and a type")
		}
		out = append(out, q)
	}
	return out, nil
}

func typeNumber(s string) (uint16, bool) {
	if s == "PX" { // RFC 2163, unknown to the library
		return 26, true
	}
	if t, known := dns.StringToType[s]; known {
		return t, true
	}
	if digits, found := strings.CutPrefix(s, "TYPE"); found {
		n, err := strconv.ParseUint(digits, 10, 16)
		return uint16(n), err == nil
	}
	return 0, false
}

// records reads zone-file lines. Leading blanks are layout here and never
// mean "same owner", so each line is trimmed.
func (p *parser) records(lines []string, from int) ([]RR, error) {
	var out []RR
	var text strings.Builder // "$" directives seen so far, then one record
	for i := 0; i < len(lines); {
		start := i
		record, next := logicalLine(lines, i)
		i = next
		if record == "" {
			continue
		}
		if strings.HasPrefix(record, "$") {
			text.WriteString(record + "\n")
			continue
		}
		rr, err := parseRecord(text.String(), record)
		if err != nil {
			return nil, syntaxError(p.file, from+start+1, "record %q: %v", record, err)
		}
		out = append(out, rr)
	}
	return out, nil
}

// logicalLine joins lines while a parenthesis is open and cuts comments.
func logicalLine(lines []string, i int) (string, int) {
	var b strings.Builder
	depth := 0
	for {
		quoted := false
		line := strings.TrimSpace(lines[i])
		for j := 0; j < len(line); j++ {
			c := line[j]
			if c == '\\' && j+1 < len(line) {
				b.WriteString(line[j : j+2])
				j++
				continue
			}
			if c == '"' {
				quoted = !quoted
			}
			if !quoted && c == ';' {
				break
			}
			if !quoted && (c == '(' || c == ')') {
				depth += map[byte]int{'(': 1, ')': -1}[c]
				c = ' '
			}
			b.WriteByte(c)
		}
		i++
		if depth <= 0 || i >= len(lines) {
			return strings.TrimSpace(b.String()), i
		}
		b.WriteByte(' ')
	}
}

// parseRecord reads one record; directives are $ORIGIN and $TTL lines.
func parseRecord(directives, record string) (RR, error) {
	if i := strings.Index(record, `\#`); i > 0 {
		return parseGeneric(record[:i], record[i+2:])
	}
	record = strings.Replace(record, "RRSIG PX ", "RRSIG TYPE26 ", 1)
	rr, err := packRecord(directives + record)
	if err == nil {
		return rr, nil
	}
	// Recorded keys and signatures may have too much or too little padding.
	for _, padding := range []string{"", "=", "=="} {
		if padded, err := packRecord(directives + strings.TrimRight(record, "=") + padding); err == nil {
			return padded, nil
		}
	}
	return RR{}, err
}

// packRecord reads the first record of a zone text and packs its RDATA.
func packRecord(text string) (RR, error) {
	parsed, err := parseZone(text)
	if err != nil {
		return RR{}, err
	}
	switch rr := parsed.(type) { // bitmaps are written in any order
	case *dns.NSEC:
		slices.Sort(rr.TypeBitMap)
	case *dns.NSEC3:
		slices.Sort(rr.TypeBitMap)
	}
	return packed(parsed)
}

// packed returns a record in wire terms.
func packed(parsed dns.RR) (RR, error) {
	buf := make([]byte, dns.MaxMsgSize)
	n, err := dns.PackRR(parsed, buf, 0, nil, false)
	if err != nil {
		return RR{}, err
	}
	_, skip, err := dns.UnpackDomainName(buf, 0)
	if err == nil && n < skip+10 {
		err = fmt.Errorf("not a record")
	}
	if err != nil {
		return RR{}, err
	}
	h := parsed.Header()
	return RR{Name: h.Name, Type: h.Rrtype, Class: h.Class, TTL: h.Ttl, Data: slices.Clone(buf[skip+10 : n])}, nil
}

func parseZone(text string) (dns.RR, error) {
	zp := dns.NewZoneParser(strings.NewReader(text+"\n"), ".", "")
	zp.SetDefaultTTL(defaultTTL)
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("not a record")
	}
	return rr, nil
}

// parseGeneric reads RFC 3597 §5 syntax without a look inside the RDATA, so
// that malformed records of known types can be written.
func parseGeneric(head, tail string) (RR, error) {
	words, rdata := strings.Fields(head), strings.Fields(tail)
	if len(words) < 2 || len(rdata) == 0 {
		return RR{}, fmt.Errorf(`owner, type and \# length data expected`)
	}
	rr := RR{Name: dns.Fqdn(words[0]), Class: dns.ClassINET, TTL: defaultTTL}
	for _, w := range words[1:] {
		if ttl, err := strconv.ParseUint(w, 10, 32); err == nil {
			rr.TTL = uint32(ttl)
		} else if class, known := dns.StringToClass[strings.ToUpper(w)]; known {
			rr.Class = class
		} else if t, known := typeNumber(strings.ToUpper(w)); known {
			rr.Type = t
		} else {
			return RR{}, fmt.Errorf("unknown word %q", w)
		}
	}
	n, err := strconv.Atoi(rdata[0])
	if err != nil {
		return RR{}, fmt.Errorf("length: %v", err)
	}
	rr.Data, err = hex.DecodeString(strings.Join(rdata[1:], ""))
	if err == nil && len(rr.Data) != n {
		err = fmt.Errorf("length is %d, data has %d octets", n, len(rr.Data))
	}
	return rr, err
}
