package trustanchor

import (
	"fmt"
	"strings"

	"danepost/resolver/dnssec"
)

// rootXML has the form of IANA's file; the first key has ended.
const rootXML = `<?xml version="1.0" encoding="UTF-8"?>
<TrustAnchor id="0C05FDD6-422C-4910-8ED6-430ED15E11C2" source="http://data.iana.org/root-anchors/root-anchors.xml">
  <Zone>.</Zone>
  <KeyDigest id="Kjqmt7v" validFrom="2010-07-15T00:00:00+00:00" validUntil="2019-01-11T00:00:00+00:00">
    <KeyTag>19036</KeyTag>
    <Algorithm>8</Algorithm>
    <DigestType>2</DigestType>
    <Digest>49AAC11D7B6F6446702E54A1607371607A1A41855200FD2CE1CDDE32F24E8FB5</Digest>
  </KeyDigest>
  <KeyDigest id="Klajeyz" validFrom="2017-02-02T00:00:00+00:00">
    <KeyTag>20326</KeyTag>
    <Algorithm>8</Algorithm>
    <DigestType>2</DigestType>
    <Digest>E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D</Digest>
  </KeyDigest>
  <KeyDigest id="Kmyv6jo" validFrom="2024-07-18T00:00:00+00:00">
    <KeyTag>38696</KeyTag>
    <Algorithm>8</Algorithm>
    <DigestType>2</DigestType>
    <Digest>683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16</Digest>
  </KeyDigest>
</TrustAnchor>
`

// xmlWithKey gives the public key as well (RFC 9718).
var xmlWithKey = fmt.Sprintf(`<TrustAnchor id="1" source="x"><Zone>lab.test</Zone>
<KeyDigest id="a" validFrom="2020-01-01T00:00:00Z"><KeyTag>3613</KeyTag><Algorithm>15</Algorithm><DigestType>2</DigestType>
<Digest>%X</Digest><PublicKey>l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=</PublicKey><Flags>257</Flags></KeyDigest></TrustAnchor>`,
	digestOf("\x03lab\x04test\x00", keyRDATA("l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="), digestSHA256))

func keyRDATA(public string) []byte {
	rdata, err := dnskeyRDATA(257, 3, 15, public)
	if err != nil {
		panic(err)
	}
	return rdata
}

func describe(anchors []dnssec.Anchor) string {
	var b strings.Builder
	for _, a := range anchors {
		fmt.Fprintf(&b, "%x %+v %x\n", string(a.Zone), value(a.DS), a.Key)
	}
	return b.String()
}

func value(ds *dnssec.DS) dnssec.DS {
	if ds == nil {
		return dnssec.DS{}
	}
	return *ds
}
