package resolver

import (
	"errors"

	"danepost/resolver/dnssec"
)

// layout describes the RDATA of the types whose inside matters: "n" a name
// that may be compressed (the types of RFC 1035 and those of RFC 3597 §4),
// "u" one that must not be, a digit so many octets, "s" a character-string,
// "S" one or more of them to the end, "*" the rest. "" leaves all as it is:
// so also TLSA, whose length is for the reader of the record to judge.
func layout(rtype uint16) string {
	switch rtype {
	case TypeA:
		return "4"
	case TypeAAAA:
		return "88"
	case TypeNS, TypeCNAME, typePTR, 3, 4, 7, 8, 9: // MD, MF, MB, MG, MR
		return "n"
	case TypeDNAME:
		return "n" // RFC 6672 §2.1 forbids compression, older servers do it
	case typeSOA:
		return "nn884"
	case TypeMX, 18, 21: // AFSDB, RT
		return "2n"
	case 14, 17: // MINFO, RP
		return "nn"
	case 13: // HINFO
		return "ss"
	case 16, 99: // TXT, SPF
		return "S"
	case 26: // PX
		return "2nn"
	case 33: // SRV
		return "222n"
	case 35: // NAPTR
		return "22sssn"
	case 36: // KX
		return "2u"
	case typeRRSIG:
		return "882u*"
	case typeDS, typeDNSKEY:
		return "4*"
	case typeNSEC:
		return "u*"
	case typeNSEC3:
		return "4ss*"
	}
	return ""
}

var errRDATA = errors.New("RDATA has not the length that its type asks for")

// rdata returns the RDATA between start and end with its names decompressed,
// letter case kept.
func (p *parser) rdata(rtype uint16, start, end int) ([]byte, error) {
	form := layout(rtype)
	if form == "" {
		return p.b[start:end:end], nil
	}
	var out []byte // set once a name was decompressed
	q := parser{b: p.b[:end], lim: p.lim}
	at := start
	for i := range len(form) {
		from := at
		switch f := form[i]; f {
		case 'n', 'u':
			name, err := q.expand(at, f == 'n')
			if err != nil {
				return nil, err
			}
			at = q.off
			if out == nil && len(name) != at-from {
				out = append(make([]byte, 0, end-start+len(name)), p.b[start:from]...)
			}
			if out != nil {
				out = append(out, name...)
			}
			continue
		case 's':
			at = stringEnd(p.b, at, end)
		case 'S':
			for ok := true; ok; ok = at < end {
				at = stringEnd(p.b, at, end)
			}
		case '*':
			at = end
		default:
			at += int(f - '0')
		}
		if at > end {
			return nil, errRDATA
		}
		if out != nil {
			out = append(out, p.b[from:at]...)
		}
	}
	if at != end {
		return nil, errRDATA
	}
	if out == nil {
		out = p.b[start:end:end]
	}
	return out, nil
}

// stringEnd returns where the character-string at off ends, beyond end if it
// does not fit.
func stringEnd(b []byte, off, end int) int {
	if off >= end {
		return end + 1
	}
	return off + 1 + int(b[off])
}

// target returns the name that an alias or server record points to, in lower
// case. RDATA that came through parseMessage always has one.
func target(rdata []byte) dnssec.Name {
	name, _, _ := readName(rdata)
	return name.Lower()
}

// compact copies a set into memory of its own, as little as holds it: what
// stays in the cache must not pin the message it came in.
func compact(s *dnssec.RRset) *dnssec.RRset {
	size := 0
	for _, d := range s.Data {
		size += len(d)
	}
	for i := range s.Sigs {
		size += len(s.Sigs[i].Signature)
	}
	arena := make([]byte, 0, size)
	c := *s
	c.Data = make([][]byte, len(s.Data))
	for i, d := range s.Data {
		at := len(arena)
		arena = append(arena, d...)
		c.Data[i] = arena[at:len(arena):len(arena)]
	}
	if len(s.Sigs) > 0 {
		c.Sigs = make([]dnssec.RRSIG, len(s.Sigs))
	}
	for i, sig := range s.Sigs {
		at := len(arena)
		arena = append(arena, sig.Signature...)
		sig.Signature = arena[at:len(arena):len(arena)]
		if s.Name.IsSubdomainOf(sig.Signer.Lower()) {
			sig.Signer = s.Name[len(s.Name)-len(sig.Signer):]
		}
		c.Sigs[i] = sig
	}
	return &c
}
