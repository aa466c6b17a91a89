package dnssec

import (
	"errors"
	"fmt"
	"strings"
)

// Name is a domain name in uncompressed wire format (RFC 1035 §3.1), ASCII
// letters lower-cased unless said otherwise; the root is "\x00". Being a
// string it is a map key, and its parents are slices of it.
//
// Methods take any string: on one that is no name they return something
// harmless and never panic.
type Name string

// Root is the name of the DNS root.
const Root Name = "\x00"

const (
	maxNameLen  = 255 // octets, RFC 1035 §3.1
	maxLabelLen = 63
	maxLabels   = 127 // non-empty labels that fit into maxNameLen
)

var (
	errNameTooLong  = errors.New("name longer than 255 octets")
	errLabelTooLong = errors.New("label longer than 63 octets")
	errEmptyLabel   = errors.New("empty label")
	errShortName    = errors.New("name runs past the end of its data")
	errPointer      = errors.New("compressed or unknown label type")
)

// ParseName reads a name in presentation format, with or without the final
// dot, escapes as in RFC 1035 §5.1, and lower-cases it.
func ParseName(s string) (Name, error) {
	if s == "." {
		return Root, nil
	}
	wire := make([]byte, 1, len(s)+2)
	label := 0 // where the current label's length octet stands
	for i := 0; i < len(s); {
		if s[i] == '.' {
			if len(wire)-label == 1 {
				return "", fmt.Errorf("%q: %w", s, errEmptyLabel)
			}
			label = len(wire)
			wire = append(wire, 0)
			i++
			continue
		}
		c, width, err := unescape(s[i:])
		if err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		i += width
		if len(wire)-label > maxLabelLen {
			return "", fmt.Errorf("%q: %w", s, errLabelTooLong)
		}
		wire = append(wire, lowerByte(c))
		wire[label]++
	}
	if wire[label] != 0 {
		wire = append(wire, 0)
	} else if label == 0 {
		return "", fmt.Errorf("%q: %w", s, errEmptyLabel)
	}
	if len(wire) > maxNameLen {
		return "", fmt.Errorf("%q: %w", s, errNameTooLong)
	}
	return Name(wire), nil
}

// unescape reads one octet of a label, \X and \DDD included.
func unescape(s string) (c byte, width int, err error) {
	if s[0] != '\\' {
		return s[0], 1, nil
	}
	if len(s) < 2 {
		return 0, 0, errors.New(`"\" at the end of the name`)
	}
	if s[1] < '0' || s[1] > '9' {
		return s[1], 2, nil
	}
	n := 0
	for i := 1; i <= 3; i++ {
		if i >= len(s) || s[i] < '0' || s[i] > '9' {
			return 0, 0, errors.New(`"\" needs three digits after it`)
		}
		n = n*10 + int(s[i]-'0')
	}
	if n > 255 {
		return 0, 0, fmt.Errorf(`"\%03d" is no octet`, n)
	}
	return byte(n), 4, nil
}

// ReadName reads an uncompressed name from the start of b, lower-cases it and
// returns how many octets it took.
func ReadName(b []byte) (Name, int, error) {
	n, err := nameLen(b)
	if err != nil {
		return "", 0, err
	}
	return Name(b[:n]).Lower(), n, nil
}

// nameLen returns the length of the uncompressed name at the start of b.
func nameLen(b []byte) (int, error) {
	for i := 0; i < len(b); {
		c := int(b[i])
		if c > maxLabelLen {
			return 0, errPointer
		}
		i += 1 + c
		if i > maxNameLen {
			return 0, errNameTooLong
		}
		if c == 0 {
			return i, nil
		}
	}
	return 0, errShortName
}

// Valid reports whether n is one whole name in wire format.
func (n Name) Valid() bool {
	for i := 0; i < len(n) && len(n) <= maxNameLen && n[i] <= maxLabelLen; i += 1 + int(n[i]) {
		if n[i] == 0 {
			return i == len(n)-1
		}
	}
	return false
}

// String returns the presentation format with the final dot.
func (n Name) String() string {
	if !n.Valid() {
		return fmt.Sprintf("(no name: %x)", string(n))
	}
	if n == Root {
		return "."
	}
	var b strings.Builder
	b.Grow(len(n))
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		for _, c := range []byte(n[i+1 : i+1+int(n[i])]) {
			switch {
			case c <= ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			case strings.IndexByte(`."\();@$`, c) >= 0:
				b.WriteByte('\\')
				b.WriteByte(c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('.')
	}
	return b.String()
}

// Lower returns n with its ASCII letters in lower case (RFC 4034 §6.2).
func (n Name) Lower() Name {
	// Length octets are below 64 and so never look like letters.
	for i := 0; i < len(n); i++ {
		if n[i] >= 'A' && n[i] <= 'Z' {
			b := []byte(n)
			lowerBytes(b[i:])
			return Name(b)
		}
	}
	return n
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func lowerBytes(b []byte) {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// Labels returns the number of labels, the root's empty one not counted.
func (n Name) Labels() int {
	count := 0
	for i := 0; i < len(n) && n[i] != 0 && count < maxLabels; i += 1 + int(n[i]) {
		count++
	}
	return count
}

// Parent returns n without its first label; the root is its own parent.
func (n Name) Parent() Name {
	if len(n) == 0 || 1+int(n[0]) >= len(n) {
		return Root
	}
	return n[1+int(n[0]):]
}

// Ancestor returns the last labels of n, as many as asked; n itself if it has
// no more than that.
func (n Name) Ancestor(labels int) Name {
	for drop := n.Labels() - labels; drop > 0; drop-- {
		n = n.Parent()
	}
	return n
}

// IsSubdomainOf reports whether n is zone or stands below it.
func (n Name) IsSubdomainOf(zone Name) bool {
	if len(n) < len(zone) || len(zone) == 0 || n[len(n)-len(zone):] != zone {
		return false
	}
	i := 0
	for i < len(n)-len(zone) {
		i += 1 + int(n[i])
	}
	return i == len(n)-len(zone)
}

// IsBelow reports whether n stands below zone and is not zone itself.
func (n Name) IsBelow(zone Name) bool { return len(n) > len(zone) && n.IsSubdomainOf(zone) }

// Prepend returns label.n, or "" where that would be no name. The label is
// taken as it is, without escapes, and lower-cased.
func (n Name) Prepend(label string) Name {
	if len(label) == 0 || len(label) > maxLabelLen || 1+len(label)+len(n) > maxNameLen {
		return ""
	}
	return (Name([]byte{byte(len(label))}) + Name(label)).Lower() + n
}

// Wildcard returns *.n, or "" where n is too long to have a child.
func (n Name) Wildcard() Name { return n.Prepend("*") }

// IsWildcard reports whether the first label of n is an asterisk.
func (n Name) IsWildcard() bool { return len(n) > 1 && n[0] == 1 && n[1] == '*' }

// CommonAncestor returns the longest name that both n and m stand at or below.
func (n Name) CommonAncestor(m Name) Name {
	var no, mo [maxLabels]uint8
	i, j := n.offsets(&no), m.offsets(&mo)
	common := 0
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		if n.label(no[i]) != m.label(mo[j]) {
			break
		}
		common++
	}
	return n.Ancestor(common)
}

// Compare orders names as RFC 4034 §6.1 does: by label from the root down, as
// octet strings, a missing label first. Both must be lower-cased.
func (n Name) Compare(m Name) int {
	if n == m {
		return 0
	}
	var no, mo [maxLabels]uint8
	i, j := n.offsets(&no), m.offsets(&mo)
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		if c := strings.Compare(n.label(no[i]), m.label(mo[j])); c != 0 {
			return c
		}
	}
	return i - j
}

// offsets notes where each label's length octet stands and returns how many
// labels there are.
func (n Name) offsets(at *[maxLabels]uint8) int {
	count := 0
	for i := 0; i < len(n) && i < maxNameLen && n[i] != 0 && count < maxLabels; i += 1 + int(n[i]) {
		at[count] = uint8(i)
		count++
	}
	return count
}

// label returns the label whose length octet stands at off, without it.
func (n Name) label(off uint8) string {
	start := int(off) + 1
	return string(n[start:min(start+int(n[off]), len(n))])
}
