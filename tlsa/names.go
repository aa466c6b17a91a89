package tlsa

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// matchName returns the first reference identifier that the certificate
// holds (RFC 7672 §3.2.3).
func matchName(c *x509.Certificate, references []string) (string, bool) {
	presented := presentedNames(c)
	for _, ref := range references {
		if slices.ContainsFunc(presented, func(p string) bool { return nameCovers(p, ref) }) {
			return ref, true
		}
	}
	return "", false
}

// presentedNames returns the DNS-IDs of a certificate, and its common names
// only when it has no DNS-ID at all.
func presentedNames(c *x509.Certificate) []string {
	if len(c.DNSNames) > 0 {
		return c.DNSNames
	}
	return attributes(c, oidCommonName)
}

// nameCovers reports whether a presented name is the reference identifier,
// letter case aside. A "*" stands for one label, and only as the whole first
// label (RFC 7672 §3.2.3).
func nameCovers(presented, reference string) bool {
	presented, reference = lower(presented), lower(reference)
	if reference == "" {
		return false
	}
	if parent, ok := strings.CutPrefix(presented, "*."); ok {
		label, rest, dotted := strings.Cut(reference, ".")
		return dotted && label != "" && rest != "" && rest == parent
	}
	return presented == reference
}

// lower folds ASCII letters only: names are A-labels, and folding anything
// else could make two different names equal.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// listNames shows the names of a certificate for a message.
func listNames(c *x509.Certificate) string {
	const most = 3
	names := presentedNames(c)
	if len(names) == 0 {
		return "no name"
	}
	var out []string
	for _, n := range names[:min(most, len(names))] {
		out = append(out, fmt.Sprintf("%.80q", n))
	}
	if len(names) > most {
		out = append(out, fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(out, ", ")
}

// attributes returns the values of one attribute type of the subject.
func attributes(c *x509.Certificate, id asn1.ObjectIdentifier) []string {
	var out []string
	for _, a := range c.Subject.Names {
		if s, ok := a.Value.(string); ok && a.Type.Equal(id) {
			out = append(out, s)
		}
	}
	return out
}

// canonicalName brings a distinguished name into a form in which names that
// RFC 5280 §7.1 calls equal are equal strings: string types are compared as
// text, without regard to letter case (ASCII) and runs of spaces. It is
// relativeNames joined; a name that cannot be read stands for itself.
func canonicalName(raw []byte) string {
	rdns, ok := relativeNames(raw)
	if !ok {
		return string(raw)
	}
	return strings.Join(rdns, "")
}

// relativeNames returns the canonical relative distinguished names of a name,
// each with its length in front, so that a subtree is a prefix of the list.
func relativeNames(raw []byte) ([]string, bool) {
	name, _, ok := take(raw, tagSequence)
	if !ok {
		return nil, false
	}
	const tagSet = 0x31
	var out []string
	for rest := name.body; len(rest) > 0; {
		var set element
		if set, rest, ok = take(rest, tagSet); !ok {
			return nil, false
		}
		var parts []string
		for inner := set.body; len(inner) > 0; {
			var pair element
			if pair, inner, ok = take(inner, tagSequence); !ok {
				return nil, false
			}
			parts = append(parts, canonicalAttribute(pair.body))
		}
		slices.Sort(parts)
		all := strings.Join(parts, "")
		out = append(out, fmt.Sprintf("%d:%s", len(all), all))
	}
	return out, true
}

// canonicalAttribute is one type and value.
func canonicalAttribute(pair []byte) string {
	id, rest, ok := take(pair, tagOID)
	if !ok {
		return sized(pair)
	}
	value, _, ok := next(rest)
	if !ok {
		return sized(pair)
	}
	text, isText := stringValue(value)
	if !isText {
		return sized(id.whole) + sized(value.whole)
	}
	return sized(id.whole) + sized([]byte(lower(strings.Join(strings.FieldsFunc(text, isSpace), " "))))
}

func sized(b []byte) string { return fmt.Sprintf("%d:%s", len(b), b) }

func isSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }

// stringValue decodes the string types of X.520 attributes to UTF-8.
func stringValue(e element) (string, bool) {
	const (
		utf8String, printable, teletex, ia5, visible, bmp = 12, 19, 20, 22, 26, 30
	)
	switch e.tag {
	case utf8String, printable, ia5, visible:
		return string(e.body), utf8.Valid(e.body)
	case teletex: // in practice Latin-1
		var out []byte
		for _, c := range e.body {
			out = utf8.AppendRune(out, rune(c))
		}
		return string(out), true
	case bmp:
		if len(e.body)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(e.body)/2)
		for i := range units {
			units[i] = uint16(e.body[2*i])<<8 | uint16(e.body[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}
