package trustanchor

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"danepost/resolver/dnssec"
)

// keyDigest is one KeyDigest element of root-anchors.xml (RFC 9718 §2.1).
type keyDigest struct {
	ID         string `xml:"id,attr"`
	ValidFrom  string `xml:"validFrom,attr"`
	ValidUntil string `xml:"validUntil,attr"`
	KeyTag     string `xml:"KeyTag"`
	Algorithm  string `xml:"Algorithm"`
	DigestType string `xml:"DigestType"`
	Digest     string `xml:"Digest"`
	PublicKey  string `xml:"PublicKey"`
	Flags      string `xml:"Flags"`
}

// parseXML reads root-anchors.xml (RFC 9718 §2).
func parseXML(path string, data []byte) ([]Configured, error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	zone, root := dnssec.Name(""), false
	var out []Configured
	for {
		tok, err := d.Token()
		if tok == nil {
			if err == nil || errors.Is(err, io.EOF) {
				break
			}
			return nil, xmlError(path, d, err)
		}
		start, isStart := tok.(xml.StartElement)
		if !isStart {
			continue
		}
		line, _ := d.InputPos()
		switch start.Name.Local {
		case "TrustAnchor":
			root = true
		case "Zone":
			var text string
			if err := d.DecodeElement(&text, &start); err != nil {
				return nil, xmlError(path, d, err)
			}
			if zone, err = dnssec.ParseName(strings.TrimSpace(text)); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, line, err)
			}
		case "KeyDigest":
			var k keyDigest
			if err := d.DecodeElement(&k, &start); err != nil {
				return nil, xmlError(path, d, err)
			}
			c, err := k.anchor(zone)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: KeyDigest %q: %w", path, line, k.ID, err)
			}
			out = append(out, c)
		}
	}
	if !root {
		return nil, fmt.Errorf("%s:1: no TrustAnchor element; root-anchors.xml was expected", path)
	}
	return distinct(out), nil
}

func xmlError(path string, d *xml.Decoder, err error) error {
	line, _ := d.InputPos()
	return fmt.Errorf("%s:%d: %w; root-anchors.xml was expected", path, line, err)
}

// anchor checks the element and converts it.
func (k keyDigest) anchor(zone dnssec.Name) (Configured, error) {
	c := Configured{Anchor: dnssec.Anchor{Zone: zone}}
	if zone == "" {
		return c, errors.New("no Zone element before it")
	}
	var err error
	if k.ValidFrom == "" {
		return c, errors.New("no validFrom; a time such as 2024-07-18T00:00:00+00:00 was expected")
	}
	if c.From, err = time.Parse(time.RFC3339, k.ValidFrom); err != nil {
		return c, fmt.Errorf("validFrom %q; a time such as 2024-07-18T00:00:00+00:00 was expected", k.ValidFrom)
	}
	if k.ValidUntil != "" {
		if c.Until, err = time.Parse(time.RFC3339, k.ValidUntil); err != nil {
			return c, fmt.Errorf("validUntil %q; a time such as 2024-07-18T00:00:00+00:00 was expected", k.ValidUntil)
		}
	}
	tag, err1 := number(k.KeyTag, 16)
	algorithm, err2 := number(k.Algorithm, 8)
	digestType, err3 := number(k.DigestType, 8)
	digest, err4 := hex.DecodeString(strings.Join(strings.Fields(k.Digest), ""))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return c, fmt.Errorf("%w; KeyTag, Algorithm, DigestType (numbers) and Digest (hexadecimal) were expected", err)
	}
	c.DS = &dnssec.DS{KeyTag: uint16(tag), Algorithm: uint8(algorithm), DigestType: uint8(digestType), Digest: digest}
	if err := checkDS(c.DS); err != nil {
		return c, err
	}
	return c, k.checkKey(c)
}

// checkKey compares the optional PublicKey with the digest: RFC 9718 §2.2
// has both say the same, and a file in which they do not is damaged.
func (k keyDigest) checkKey(c Configured) error {
	if strings.TrimSpace(k.PublicKey) == "" {
		return nil
	}
	flags := uint64(257)
	if k.Flags != "" {
		var err error
		if flags, err = number(k.Flags, 16); err != nil {
			return fmt.Errorf("flags: %w", err)
		}
	}
	rdata, err := dnskeyRDATA(uint16(flags), 3, c.DS.Algorithm, k.PublicKey)
	if err != nil {
		return err
	}
	if sum := digestOf(c.Zone, rdata, c.DS.DigestType); sum != nil && !bytes.Equal(sum, c.DS.Digest) {
		return errors.New("PublicKey and Digest do not belong together")
	}
	return nil
}

// matchesDS reports whether ds is a digest of a key (RFC 4034 §5.1.4).
func matchesDS(zone dnssec.Name, rdata []byte, ds *dnssec.DS) bool {
	return len(rdata) > 4 && rdata[3] == ds.Algorithm && dnssec.KeyTag(rdata) == ds.KeyTag &&
		bytes.Equal(digestOf(zone, rdata, ds.DigestType), ds.Digest)
}

// digestOf computes a DS digest (RFC 4034 §5.1.4); nil for an unknown type.
func digestOf(zone dnssec.Name, rdata []byte, digestType uint8) []byte {
	data := append([]byte(zone), rdata...)
	switch digestType {
	case digestSHA1:
		sum := sha1.Sum(data)
		return sum[:]
	case digestSHA256:
		sum := sha256.Sum256(data)
		return sum[:]
	case digestSHA384:
		sum := sha512.Sum384(data)
		return sum[:]
	}
	return nil
}

func number(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of %d bits", s, bits)
	}
	return n, nil
}
