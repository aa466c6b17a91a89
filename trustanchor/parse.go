package trustanchor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// Limits of a trust anchor file.
const (
	maxFileSize = 1 << 20 // octets
	maxAnchors  = 100
)

// DS digest types (RFC 4509, RFC 6605) and their lengths in octets.
const (
	digestSHA1   = 1
	digestSHA256 = 2
	digestSHA384 = 4
)

var digestLengths = map[uint8]int{digestSHA1: 20, digestSHA256: 32, digestSHA384: 48}

// Configured is one anchor of a file, with the time in which the file says it
// may be used. A zero From or Until is no bound.
type Configured struct {
	dnssec.Anchor
	From, Until time.Time
}

// usable reports whether the file lets the anchor be used at now.
func (c Configured) usable(now time.Time) bool {
	return !now.Before(c.From) && (c.Until.IsZero() || now.Before(c.Until))
}

// ParseFile reads trust anchors from the contents of a file: DS and DNSKEY
// records in zone-file form, or root-anchors.xml (RFC 9718). Anchors that had
// ended before this program was written are left out. Errors name the
// file, the line and what was expected there.
func ParseFile(path string, data []byte) ([]dnssec.Anchor, error) {
	configured, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	var out []dnssec.Anchor
	for _, c := range configured {
		if c.Until.IsZero() || c.Until.After(released) {
			out = append(out, c.Anchor)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s:1: every trust anchor in it has ended; one that is still valid was expected", path)
	}
	return out, nil
}

// Parse is ParseFile with the periods of validity that root-anchors.xml gives.
func Parse(path string, data []byte) ([]Configured, error) {
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s:1: %d octets; a trust anchor file of at most %d was expected", path, len(data), maxFileSize)
	}
	var out []Configured
	var err error
	if trimmed := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))); bytes.HasPrefix(trimmed, []byte("<")) {
		out, err = parseXML(path, data)
	} else {
		out, err = parseZone(path, data)
	}
	switch {
	case err != nil:
		return nil, err
	case len(out) == 0:
		return nil, fmt.Errorf("%s:1: no trust anchor in it; DS or DNSKEY records or root-anchors.xml were expected", path)
	case len(out) > maxAnchors:
		return nil, fmt.Errorf("%s:1: %d trust anchors; at most %d were expected", path, len(out), maxAnchors)
	}
	return out, nil
}

// parseZone reads DS and DNSKEY records in zone-file form (RFC 1035 §5.1).
func parseZone(path string, data []byte) ([]Configured, error) {
	zp := dns.NewZoneParser(bytes.NewReader(append(bytes.Clone(data), '\n')), ".", "")
	zp.SetDefaultTTL(0)
	var out, zoneKeys []Configured // zoneKeys: DNSKEYs without the SEP bit
	for rr, ok := zp.Next(); ok && len(out)+len(zoneKeys) <= maxAnchors; rr, ok = zp.Next() {
		c, sep, err := fromRecord(rr)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, lineOf(data, rr), err)
		}
		if sep {
			out = append(out, c)
		} else {
			zoneKeys = append(zoneKeys, c)
		}
	}
	if err := zp.Err(); err != nil {
		return nil, zoneError(path, err)
	}
	// A copy of the zone's whole DNSKEY set lists zone signing keys too;
	// they are no anchors as long as there are others (RFC 5011 §4.1).
	for _, c := range zoneKeys {
		if !hasZone(out, c.Zone) {
			out = append(out, c)
		}
	}
	return distinct(out), nil
}

// hasZone reports whether one of the anchors stands for zone by a DS or a
// secure entry point.
func hasZone(anchors []Configured, zone dnssec.Name) bool {
	for _, a := range anchors {
		if a.Zone == zone && (a.DS != nil || a.Key[1]&1 != 0) {
			return true
		}
	}
	return false
}

// fromRecord turns a record into an anchor. sep is false for a zone signing
// key.
func fromRecord(rr dns.RR) (c Configured, sep bool, err error) {
	h := rr.Header()
	if h.Class != dns.ClassINET {
		return c, false, fmt.Errorf("class %s; class IN was expected", dns.ClassToString[h.Class])
	}
	if c.Zone, err = dnssec.ParseName(h.Name); err != nil {
		return c, false, err
	}
	switch rr := rr.(type) {
	case *dns.DS:
		digest, err := hex.DecodeString(rr.Digest)
		if err != nil {
			return c, false, fmt.Errorf("digest of DS %d: %w; hexadecimal digits were expected", rr.KeyTag, err)
		}
		c.DS = &dnssec.DS{KeyTag: rr.KeyTag, Algorithm: rr.Algorithm, DigestType: rr.DigestType, Digest: digest}
		return c, true, checkDS(c.DS)
	case *dns.DNSKEY:
		c.Key, err = dnskeyRDATA(rr.Flags, rr.Protocol, rr.Algorithm, rr.PublicKey)
		return c, rr.Flags&dns.SEP != 0, err
	}
	return c, false, fmt.Errorf("a %s record; DS or DNSKEY was expected", dns.TypeToString[h.Rrtype])
}

// checkDS refuses digests that can never match.
func checkDS(ds *dnssec.DS) error {
	if want, known := digestLengths[ds.DigestType]; known && len(ds.Digest) != want {
		return fmt.Errorf("digest of DS %d has %d octets; %d were expected for digest type %d", ds.KeyTag, len(ds.Digest), want, ds.DigestType)
	}
	if len(ds.Digest) == 0 {
		return fmt.Errorf("DS %d has no digest", ds.KeyTag)
	}
	return nil
}

// dnskeyRDATA packs and checks a key (RFC 4034 §2.1).
func dnskeyRDATA(flags uint16, protocol, algorithm uint8, key string) ([]byte, error) {
	public, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(key), ""))
	switch {
	case err != nil:
		return nil, fmt.Errorf("public key: %w; base64 was expected", err)
	case len(public) == 0:
		return nil, errors.New("a DNSKEY without a public key")
	case flags&dns.ZONE == 0:
		return nil, fmt.Errorf("DNSKEY with flags %d; a zone key was expected (257)", flags)
	case flags&dns.REVOKE != 0:
		return nil, fmt.Errorf("DNSKEY with flags %d is revoked; a key that is still in use was expected", flags)
	case protocol != 3:
		return nil, fmt.Errorf("DNSKEY with protocol %d; 3 was expected", protocol)
	}
	return append([]byte{byte(flags >> 8), byte(flags), protocol, algorithm}, public...), nil
}

// distinct drops repeated anchors and keeps the order.
func distinct(in []Configured) []Configured {
	seen := map[string]bool{}
	var out []Configured
	for _, c := range in {
		id := fmt.Sprintf("%x/%x/%+v", string(c.Zone), c.Key, c.DS)
		if c.DS != nil {
			id = fmt.Sprintf("%x/%+v", string(c.Zone), *c.DS)
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, c)
		}
	}
	return out
}

// zoneError puts the library's error into our words.
func zoneError(path string, err error) error {
	line, linePattern := "1", regexp.MustCompile(`at line: (\d+):\d+`)
	if m := linePattern.FindStringSubmatch(err.Error()); m != nil {
		line = m[1]
	}
	text := strings.TrimPrefix(linePattern.ReplaceAllString(err.Error(), ""), "dns: ")
	return fmt.Errorf("%s:%s: %s; a DS or DNSKEY record was expected, such as \". IN DS 20326 8 2 E06D...\"", path, line, strings.TrimSpace(text))
}

// lineOf finds the line that a record was read from, as well as can be told:
// the first that holds its type and, for a DS, its key tag.
func lineOf(data []byte, rr dns.RR) int {
	word := dns.TypeToString[rr.Header().Rrtype]
	for i, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, ";")
		for _, w := range strings.Fields(line) {
			if strings.EqualFold(w, word) {
				return i + 1
			}
		}
	}
	return 1
}
