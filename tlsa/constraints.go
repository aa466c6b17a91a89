package tlsa

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// GeneralName types, as their tags in DER (RFC 5280 §4.2.1.6).
const (
	nameEmail     = 0x81
	nameDNS       = 0x82
	nameDirectory = 0xa4
	nameURI       = 0x86
	nameIP        = 0x87
)

// generalName is a GeneralName: a name, or the base of a subtree of names.
type generalName struct {
	tag   byte
	value []byte
}

// checkConstraints holds every certificate of a path to the name constraints
// of all above it, the anchor's included (RFC 5280 §4.2.1.10, §6.1.3).
// Reference is the name by which the server was found: behind a wildcard it
// is the one that counts. Work is how many comparisons are left to make.
func checkConstraints(path []*x509.Certificate, reference string, work *int) (Cause, string) {
	for above := 1; above < len(path); above++ {
		raw, ok := extension(path[above], oidNameConstraints)
		if !ok {
			continue
		}
		permitted, excluded, ok := parseConstraints(raw)
		if !ok {
			return CauseNameConstraint, who(above, path[above]) + " has name constraints that cannot be read"
		}
		for below := 0; below < above; below++ {
			c := path[below]
			if below > 0 && selfIssued(c) {
				continue // RFC 5280 §6.1.3, steps b and c
			}
			names, ok := namesOf(c)
			if !ok {
				return CauseNameConstraint, who(below, c) + " has alternative names that cannot be read"
			}
			if below == 0 {
				names = append(names, serverNames(c, reference)...)
			}
			if *work -= len(names) * (len(permitted) + len(excluded)); *work < 0 {
				return CauseTooMuchWork, who(above, path[above]) + " has too many name constraints"
			}
			if bad, ok := allowed(names, permitted, excluded); !ok {
				return CauseNameConstraint, fmt.Sprintf("%s does not allow %s of %s", who(above, path[above]), bad, who(below, c))
			}
		}
	}
	return CauseNone, ""
}

// serverNames are the names that matter of a server's certificate beyond its
// alternative names: what was asked for, and common names used as DNS names.
func serverNames(c *x509.Certificate, reference string) []generalName {
	out := []generalName{{nameDNS, []byte(reference)}}
	if len(c.DNSNames) == 0 {
		for _, cn := range attributes(c, oidCommonName) {
			if isHostname(cn) {
				out = append(out, generalName{nameDNS, []byte(cn)})
			}
		}
	}
	return out
}

// isHostname tells a common name that could pass for a DNS name from prose.
func isHostname(s string) bool {
	return strings.Contains(s, ".") && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_' || r == '*')
	})
}

// namesOf returns every name a certificate speaks for (RFC 5280 §6.1.3).
func namesOf(c *x509.Certificate) ([]generalName, bool) {
	var out []generalName
	if rdns, ok := relativeNames(c.RawSubject); !ok || len(rdns) > 0 {
		out = append(out, generalName{nameDirectory, c.RawSubject})
	}
	for _, mail := range attributes(c, oidEmailAddress) {
		out = append(out, generalName{nameEmail, []byte(mail)})
	}
	raw, ok := extension(c, oidSubjectAltName)
	if !ok {
		return out, true
	}
	list, rest, ok := take(raw, tagSequence)
	if !ok || len(rest) > 0 {
		return nil, false
	}
	for rest := list.body; len(rest) > 0; {
		var e element
		if e, rest, ok = next(rest); !ok {
			return nil, false
		}
		out = append(out, generalName{e.tag, e.body})
	}
	return out, true
}

// parseConstraints decodes NameConstraints. Subtrees with a minimum or
// maximum are refused, as RFC 5280 §4.2.1.10 allows no such thing.
func parseConstraints(raw []byte) (permitted, excluded []generalName, ok bool) {
	outer, rest, ok := take(raw, tagSequence)
	if !ok || len(rest) > 0 {
		return nil, nil, false
	}
	const tagPermitted, tagExcluded = 0xa0, 0xa1
	for rest = outer.body; len(rest) > 0; {
		var list element
		if list, rest, ok = next(rest); !ok {
			return nil, nil, false
		}
		bases, ok := parseSubtrees(list.body)
		switch {
		case !ok:
			return nil, nil, false
		case list.tag == tagPermitted:
			permitted = append(permitted, bases...)
		case list.tag == tagExcluded:
			excluded = append(excluded, bases...)
		default:
			return nil, nil, false
		}
	}
	return permitted, excluded, true
}

func parseSubtrees(b []byte) ([]generalName, bool) {
	var out []generalName
	for len(b) > 0 {
		subtree, rest, ok := take(b, tagSequence)
		if !ok {
			return nil, false
		}
		base, bounds, ok := next(subtree.body)
		if !ok || len(bounds) > 0 {
			return nil, false
		}
		out = append(out, generalName{base.tag, base.body}) // a directory name is EXPLICIT: its body is the Name
		b = rest
	}
	return out, true
}

// allowed reports whether every name is in a permitted subtree of its type,
// if there is one, and in no excluded one; else it returns the first that is not.
func allowed(names, permitted, excluded []generalName) (string, bool) {
	for _, n := range names {
		limited, inside := false, false
		for _, p := range permitted {
			if p.tag == n.tag {
				limited = true
				inside = inside || n.within(p, false)
			}
		}
		out := slices.ContainsFunc(excluded, func(x generalName) bool { return x.tag == n.tag && n.within(x, true) })
		if limited && !inside || out {
			return n.String(), false
		}
	}
	return "", true
}

// String names n in a message.
func (n generalName) String() string {
	switch n.tag {
	case nameIP:
		return fmt.Sprintf("the address %x", n.value)
	case nameDirectory:
		return "the subject"
	}
	return fmt.Sprintf("the name %.80q", n.value)
}

// within reports whether n lies in the subtree of base, which is of the same
// type. Where that cannot be told, the answer is unknown, which callers pass
// as what harms: in for an excluded subtree, out for a permitted one.
func (n generalName) within(base generalName, unknown bool) bool {
	name, root := lower(string(n.value)), lower(string(base.value))
	switch n.tag {
	case nameDNS:
		return hostWithin(name, root, true)
	case nameEmail:
		return emailWithin(string(n.value), string(base.value))
	case nameURI:
		u, err := url.Parse(string(n.value))
		if err != nil || u.Hostname() == "" {
			return unknown
		}
		return hostWithin(lower(u.Hostname()), root, false)
	case nameIP:
		return addressWithin(n.value, base.value)
	case nameDirectory:
		return directoryWithin(n.value, base.value, unknown)
	}
	return unknown
}

// hostWithin: a base ".example" holds all below it. Without the dot it holds
// the name itself, and for DNS names all below as well.
func hostWithin(name, base string, below bool) bool {
	switch {
	case base == "":
		return below
	case strings.HasPrefix(base, "."):
		return strings.HasSuffix(name, base) && len(name) > len(base)
	}
	return name == base || below && strings.HasSuffix(name, "."+base)
}

// emailWithin: a base is a mailbox, a host, or ".domain".
func emailWithin(mailbox, base string) bool {
	at := strings.LastIndexByte(mailbox, '@')
	if at < 0 {
		return false
	}
	local, host := mailbox[:at], lower(mailbox[at+1:])
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return host == lower(base[i+1:]) && (i == 0 || local == base[:i])
	}
	return hostWithin(host, lower(base), false) || base == ""
}

// addressWithin: a base is an address and a mask of the same length.
func addressWithin(addr, base []byte) bool {
	if len(base) != 2*len(addr) {
		return false
	}
	for i := range addr {
		if mask := base[len(addr)+i]; addr[i]&mask != base[i]&mask {
			return false
		}
	}
	return true
}

// directoryWithin: the base is a prefix of the name.
func directoryWithin(name, base []byte, unknown bool) bool {
	have, ok := relativeNames(name)
	want, ok2 := relativeNames(base)
	if !ok || !ok2 {
		return unknown
	}
	return len(have) >= len(want) && slices.Equal(have[:len(want)], want)
}
