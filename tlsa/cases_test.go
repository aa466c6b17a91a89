package tlsa

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
)

// ownCase is what one vector file of testdata/vectors is made from.
type ownCase struct {
	name, about string
	names       []string // default mx.example.com, example.com
	records     []Record
	chain       [][]byte
	want        wanted
}

// wanted is the verdict that a vector file states.
type wanted struct {
	Outcome Outcome
	Cause   Cause
	Depth   int
	Record  int // counted from 1; 0: none
}

func matched(depth, record int) wanted { return wanted{Outcome: Matched, Depth: depth, Record: record} }
func untrusted(c Cause, depth, record int) wanted {
	return wanted{Outcome: Untrusted, Cause: c, Depth: depth, Record: record}
}

var (
	noUsable   = wanted{Outcome: Unusable, Cause: CauseUnusable, Depth: -1}
	nothing    = wanted{Outcome: NoMatch, Cause: CauseNoMatch, Depth: -1}
	unread     = wanted{Outcome: Malformed, Cause: CauseUnparseable, Depth: -1}
	overworked = wanted{Outcome: Malformed, Cause: CauseTooMuchWork, Depth: -1}
)

const mx = "mx.example.com"

// house is a root, an authority below it and a server: the good case.
type house struct{ root, ca, leaf *minted }

func (m *mint) house() house {
	root := m.make(spec{CN: "Root", CA: true})
	ca := m.make(spec{CN: "Issuer", CA: true, Issuer: root})
	return house{root, ca, m.make(spec{CN: mx, DNS: []string{mx}, Issuer: ca})}
}

func (h house) chain() [][]byte { return ders(h.leaf, h.ca, h.root) }

func rs(r ...Record) []Record { return r }

func raw(b ...byte) Record { return ParseRecord(b) }

// caseFiles says what each file of testdata/vectors is made from.
func caseFiles() map[string]func(*mint) []ownCase {
	return map[string]func(*mint) []ownCase{
		"agility": agilityCases, "unusable": unusableCases, "dates-and-names": datesAndNames,
		"absent-anchors": absentAnchors, "cross-signed": crossSigned, "broken": brokenCases,
		"attacks": attackCases, "constraints": constraintCases, "authorities": authorityCases,
		"names": nameCases, "sizes": sizeCases,
	}
}

func agilityCases(m *mint) []ownCase {
	h := m.house()
	ee := func(s, t uint8) Record { return h.leaf.tlsa(DANEEE, s, t) }
	ta := func(s, t uint8) Record { return h.ca.tlsa(DANETA, s, t) }
	long := ParseRecord(append([]byte{3, 1, 2}, bytes.Repeat([]byte{7}, 63)...))
	return []ownCase{
		{name: "agility-stronger-hides-weaker", about: "RFC 7671 §9: SHA-512 is there, so SHA-256 of the same usage and selector does not count.",
			records: rs(wrong(ee(1, 2)), ee(1, 1)), chain: h.chain(), want: nothing},
		{name: "agility-order-is-no-matter", about: "As agility-stronger-hides-weaker, the other way round.",
			records: rs(ee(1, 1), wrong(ee(1, 2))), chain: h.chain(), want: nothing},
		{name: "agility-full-always-counts", about: "Full is no digest and always counts.",
			records: rs(wrong(ee(1, 2)), ee(1, 0)), chain: h.chain(), want: matched(0, 2)},
		{name: "agility-per-selector", about: "Agility is per selector: SHA-512 of the key says nothing about SHA-256 of the certificate.",
			records: rs(wrong(ee(1, 2)), ee(0, 1)), chain: h.chain(), want: matched(0, 2)},
		{name: "agility-per-usage", about: "Agility is per usage.",
			records: rs(wrong(ee(1, 2)), ta(1, 1)), chain: h.chain(), want: matched(1, 2)},
		{name: "agility-unusable-does-not-count", about: "A SHA-512 record of 63 bytes is unusable and hides nothing.",
			records: rs(long, ee(1, 1)), chain: h.chain(), want: matched(0, 2)},
		{name: "agility-ta", about: "The same for DANE-TA.",
			records: rs(wrong(ta(1, 2)), ta(1, 1)), chain: h.chain(), want: nothing},
		{name: "agility-strong-one-matches", about: "The stronger one of two right ones decides.",
			records: rs(ee(1, 1), ee(1, 2)), chain: h.chain(), want: matched(0, 2)},
		{name: "rollover-old-and-new", about: "RFC 7671 §8.1: during a roll-over the old and the new key are published.",
			records: rs(wrong(ee(1, 1)), ee(1, 1)), chain: h.chain(), want: matched(0, 2)},
		{name: "mixed-ee-fails-ta-matches", about: "A failing DANE-EE record does not hinder a good DANE-TA one.",
			records: rs(wrong(ee(1, 1)), ta(0, 1)), chain: h.chain(), want: matched(1, 2)},
		{name: "mixed-ee-first", about: "DANE-EE is looked at first, whatever the order of the records.",
			records: rs(ta(1, 1), ee(1, 1)), chain: h.chain(), want: matched(0, 2)},
		{name: "good-3-0-2", records: rs(ee(0, 2)), chain: h.chain(), want: matched(0, 1)},
		{name: "good-2-1-2-root", records: rs(h.root.tlsa(DANETA, 1, 2)), chain: h.chain(), want: matched(2, 1)},
		{name: "wrong-full-key", about: "A whole key, off by one bit.", records: rs(wrong3(ee(1, 0))), chain: h.chain(), want: nothing},
	}
}

// wrong3 flips the last bit, so that the DER around it stays sound.
func wrong3(r Record) Record {
	out := ParseRecord(append([]byte{r.Usage, r.Selector, r.Matching}, r.Data...))
	out.Data[len(out.Data)-1] ^= 1
	return out
}

func unusableCases(m *mint) []ownCase {
	h := m.house()
	good := h.leaf.tlsa(DANEEE, SPKI, SHA256)
	set := func(u, s, t uint8) Record { return ParseRecord(append([]byte{u, s, t}, good.Data...)) }
	return []ownCase{
		{name: "short-rdata-0", about: "RDATA of 0 to 3 bytes is just unusable.", records: rs(raw()), chain: h.chain(), want: noUsable},
		{name: "short-rdata-1", records: rs(raw(3)), chain: h.chain(), want: noUsable},
		{name: "short-rdata-2", records: rs(raw(3, 1)), chain: h.chain(), want: noUsable},
		{name: "short-rdata-3", records: rs(raw(3, 1, 0)), chain: h.chain(), want: noUsable},
		{name: "short-rdata-beside-good", records: rs(raw(), raw(3), raw(3, 1), raw(3, 1, 0), good), chain: h.chain(), want: matched(0, 5)},
		{name: "usage-0-and-1", about: "RFC 7672 §3.1.3: the PKIX usages are not for SMTP.",
			records: rs(h.ca.tlsa(PKIXTA, 1, 1), h.leaf.tlsa(PKIXEE, 1, 1)), chain: h.chain(), want: noUsable},
		{name: "usage-1-beside-2", records: rs(h.leaf.tlsa(PKIXEE, 1, 1), h.ca.tlsa(DANETA, 1, 1)), chain: h.chain(), want: matched(1, 2)},
		{name: "usage-4", records: rs(set(4, 1, 1)), chain: h.chain(), want: noUsable},
		{name: "usage-255", records: rs(set(255, 1, 1)), chain: h.chain(), want: noUsable},
		{name: "selector-2", records: rs(set(3, 2, 1)), chain: h.chain(), want: noUsable},
		{name: "matching-3", records: rs(set(3, 1, 3)), chain: h.chain(), want: noUsable},
		{name: "digest-too-short", records: rs(ParseRecord(append([]byte{3, 1, 1}, good.Data[:31]...))), chain: h.chain(), want: noUsable},
		{name: "digest-too-long", records: rs(ParseRecord(append([]byte{3, 1, 1, 0}, good.Data...))), chain: h.chain(), want: noUsable},
		{name: "ta-full-not-a-certificate", records: rs(raw(2, 0, 0, 0x30, 3, 2, 1, 1)), chain: h.chain(), want: noUsable},
		{name: "ta-full-not-a-key", records: rs(raw(2, 1, 0, 0x30, 3, 2, 1, 1)), chain: h.chain(), want: noUsable},
		{name: "ta-full-certificate-and-more", about: "A whole certificate with a byte after it.",
			records: rs(ParseRecord(append(append([]byte{2, 0, 0}, h.ca.der...), 0))), chain: h.chain(), want: noUsable},
		{name: "ee-full-anything", about: "3 x 0 compares bytes: what no parser likes is usable, and matches nothing here.",
			records: rs(raw(3, 0, 0, 1, 2, 3)), chain: h.chain(), want: nothing},
		{name: "no-records", chain: h.chain(), want: noUsable},
		{name: "no-chain", records: rs(good), want: wanted{Cause: CauseNoCertificate, Depth: -1}},
	}
}

func datesAndNames(m *mint) []ownCase {
	h := m.house()
	expired := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: h.ca, From: -9 * day, To: -day})
	future := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: h.ca, From: day})
	stranger := m.make(spec{CN: "other", DNS: []string{"mx.example.org"}, Issuer: h.ca})
	nextHop := m.make(spec{CN: "x", DNS: []string{"example.com"}, Issuer: h.ca})
	oldCA := m.make(spec{CN: "Issuer", CA: true, Issuer: h.root, Key: h.ca.key, From: -9 * day, To: -day})
	oldRoot := m.make(spec{CN: "Root", CA: true, Key: h.root.key, From: -9 * day, To: -day})
	with := func(leaf *minted) [][]byte { return ders(leaf, h.ca, h.root) }
	ta := rs(h.ca.tlsa(DANETA, 1, 1))
	return []ownCase{
		{name: "expired-ee-key", about: "RFC 7672 §3.1.1: dates do not count for DANE-EE.", records: rs(expired.tlsa(3, 1, 1)), chain: with(expired), want: matched(0, 1)},
		{name: "expired-ee-certificate", records: rs(expired.tlsa(3, 0, 1)), chain: with(expired), want: matched(0, 1)},
		{name: "expired-ee-full", records: rs(expired.tlsa(3, 0, 0)), chain: with(expired), want: matched(0, 1)},
		{name: "expired-ta-leaf", about: "Under DANE-TA they do.", records: ta, chain: with(expired), want: untrusted(CauseExpired, 1, 1)},
		{name: "future-ee", records: rs(future.tlsa(3, 1, 1)), chain: with(future), want: matched(0, 1)},
		{name: "future-ta-leaf", records: ta, chain: with(future), want: untrusted(CauseNotYetValid, 1, 1)},
		{name: "wrong-name-ee-key", about: "RFC 7672 §3.1.1: names do not count for DANE-EE.", records: rs(stranger.tlsa(3, 1, 1)), chain: with(stranger), want: matched(0, 1)},
		{name: "wrong-name-ee-certificate", records: rs(stranger.tlsa(3, 0, 2)), chain: with(stranger), want: matched(0, 1)},
		{name: "wrong-name-ta", about: "RFC 7672 §3.1.2: under DANE-TA they do.", records: ta, chain: with(stranger), want: untrusted(CauseWrongName, 1, 1)},
		{name: "wrong-name-ta-root", records: rs(h.root.tlsa(2, 0, 1)), chain: with(stranger), want: untrusted(CauseWrongName, 2, 1)},
		{name: "next-hop-name", about: "RFC 7672 §3.2.2: the next-hop domain is a reference identifier too.", records: ta, chain: with(nextHop), want: matched(1, 1)},
		{name: "expired-intermediate", records: rs(h.root.tlsa(2, 1, 1)), chain: ders(h.leaf, oldCA, h.root), want: untrusted(CauseExpired, 2, 1)},
		{name: "expired-anchor-intermediate", about: "An expired anchor is no anchor.", records: rs(oldCA.tlsa(2, 0, 1)), chain: ders(h.leaf, oldCA, h.root), want: untrusted(CauseExpired, 1, 1)},
		{name: "expired-anchor-root", records: rs(oldRoot.tlsa(2, 0, 1)), chain: ders(h.leaf, h.ca, oldRoot), want: untrusted(CauseExpired, 2, 1)},
		{name: "expired-twin", about: "An old and a new certificate of the same authority and key: the new one makes the path.",
			records: ta, chain: ders(h.leaf, oldCA, h.ca, h.root), want: matched(1, 1)},
	}
}

func absentAnchors(m *mint) []ownCase {
	h := m.house()
	self := m.make(spec{CN: mx, DNS: []string{mx}})
	selfWrong := m.make(spec{CN: "x", DNS: []string{"mx.example.org"}})
	stranger := m.make(spec{CN: "x", DNS: []string{"mx.example.org"}, Issuer: h.ca})
	oldRoot := m.make(spec{CN: "Root", CA: true, Key: h.root.key, From: -9 * day, To: -day})
	edRoot := m.make(spec{CN: "Ed", CA: true, Key: edKey(m.t)})
	edLeaf := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: edRoot})
	return []ownCase{
		{name: "absent-2-0-0-root", about: "RFC 7671 §5.2.2: a whole certificate in the record stands in for the one not sent.",
			records: rs(h.root.tlsa(2, 0, 0)), chain: ders(h.leaf, h.ca), want: matched(2, 1)},
		{name: "absent-2-0-0-issuer", records: rs(h.ca.tlsa(2, 0, 0)), chain: ders(h.leaf), want: matched(1, 1)},
		{name: "absent-2-0-0-wrong-name", records: rs(h.ca.tlsa(2, 0, 0)), chain: ders(stranger), want: untrusted(CauseWrongName, 1, 1)},
		{name: "absent-2-0-0-expired", records: rs(oldRoot.tlsa(2, 0, 0)), chain: ders(h.leaf, h.ca), want: untrusted(CauseExpired, 2, 1)},
		{name: "absent-2-1-0-root", about: "RFC 7671 §5.2.3: so does a bare key; the depth is that of what it signed.",
			records: rs(h.root.tlsa(2, 1, 0)), chain: ders(h.leaf, h.ca), want: matched(1, 1)},
		{name: "absent-2-1-0-issuer", records: rs(h.ca.tlsa(2, 1, 0)), chain: ders(h.leaf), want: matched(0, 1)},
		{name: "absent-2-1-0-wrong-name", records: rs(h.ca.tlsa(2, 1, 0)), chain: ders(stranger), want: untrusted(CauseWrongName, 0, 1)},
		{name: "absent-2-1-0-ed25519", records: rs(edRoot.tlsa(2, 1, 0)), chain: ders(edLeaf), want: matched(0, 1)},
		{name: "absent-2-1-0-stranger", records: rs(self.tlsa(2, 1, 0)), chain: ders(h.leaf), want: nothing},
		{name: "absent-2-1-0-self-signed-leaf", about: "A server that signed its own certificate with the key of the record.",
			records: rs(self.tlsa(2, 1, 0)), chain: ders(self), want: matched(0, 1)},
		{name: "absent-2-1-0-self-signed-wrong-name", records: rs(selfWrong.tlsa(2, 1, 0)), chain: ders(selfWrong), want: untrusted(CauseWrongName, 0, 1)},
		{name: "present-2-1-0-expired", about: "The certificate of the key was sent, so its dates count.",
			records: rs(oldRoot.tlsa(2, 1, 0)), chain: ders(h.leaf, h.ca, oldRoot), want: untrusted(CauseExpired, 2, 1)},
		{name: "present-2-1-0", records: rs(h.root.tlsa(2, 1, 0)), chain: h.chain(), want: matched(2, 1)},
		{name: "absent-2-1-1", about: "A digest cannot stand in: RFC 7672 §3.1.2 obliges the server to send the authority.",
			records: rs(h.root.tlsa(2, 1, 1)), chain: ders(h.leaf, h.ca), want: nothing},
		{name: "self-signed-leaf-2-1-1", about: "A digest of the server's own key under usage 2 is for an issuer, which it is not.",
			records: rs(self.tlsa(2, 1, 1)), chain: ders(self), want: nothing},
		{name: "self-signed-leaf-2-0-0", records: rs(self.tlsa(2, 0, 0)), chain: ders(self), want: nothing},
		{name: "self-signed-leaf-twice-2-0-1", records: rs(self.tlsa(2, 0, 1)), chain: ders(self, self), want: nothing},
		{name: "leaf-2-1-1", records: rs(h.leaf.tlsa(2, 1, 1)), chain: h.chain(), want: nothing},
	}
}

func crossSigned(m *mint) []ownCase {
	h := m.house()
	other := m.make(spec{CN: "Other Root", CA: true})
	cross := m.make(spec{CN: "Root", CA: true, Key: h.root.key, Issuer: other})
	oldCross := m.make(spec{CN: "Root", CA: true, Key: h.root.key, Issuer: other, From: -9 * day, To: -day})
	newKeyCA := m.make(spec{CN: "Issuer", CA: true, Issuer: h.root})
	utf8CA := m.make(spec{Subject: &pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: asn1.RawValue{
		Tag: asn1.TagUTF8String, Bytes: []byte("ISSUER  ")}}}}, CA: true, Issuer: h.root, Key: h.ca.key})
	return []ownCase{
		{name: "cross-anchor-is-the-other-root", records: rs(other.tlsa(2, 0, 1)), chain: ders(h.leaf, h.ca, cross, other), want: matched(3, 1)},
		{name: "cross-anchor-is-the-root", about: "By its key, the cross-signed certificate of the root is the root.",
			records: rs(h.root.tlsa(2, 1, 1)), chain: ders(h.leaf, h.ca, cross, other), want: matched(2, 1)},
		{name: "cross-anchor-in-record", about: "The root's own certificate is only in the record.",
			records: rs(h.root.tlsa(2, 0, 0)), chain: ders(h.leaf, h.ca, cross, other), want: matched(2, 1)},
		{name: "cross-expired-beside-good", about: "One path is expired, another holds.",
			records: rs(other.tlsa(2, 0, 1), h.root.tlsa(2, 0, 1)), chain: ders(h.leaf, h.ca, oldCross, h.root, other), want: matched(2, 2)},
		{name: "cross-only-through-second", records: rs(other.tlsa(2, 0, 1)), chain: ders(h.leaf, h.ca, h.root, oldCross, cross, other), want: matched(3, 1)},
		{name: "cross-all-expired", records: rs(other.tlsa(2, 0, 1)), chain: ders(h.leaf, h.ca, oldCross, other), want: untrusted(CauseExpired, 3, 1)},
		{name: "same-name-other-key", about: "An authority of the same name and another key stands before the right one.",
			records: rs(h.ca.tlsa(2, 1, 1)), chain: ders(h.leaf, newKeyCA, h.ca), want: matched(1, 1)},
		{name: "unsorted", about: "Servers send chains in any order.", records: rs(h.root.tlsa(2, 0, 1)), chain: ders(h.leaf, h.root, h.ca), want: matched(2, 1)},
		{name: "duplicates", records: rs(h.root.tlsa(2, 0, 1)), chain: ders(h.leaf, h.leaf, h.ca, h.ca, h.root, h.root), want: matched(2, 1)},
		{name: "stranger-between", records: rs(h.root.tlsa(2, 0, 1)), chain: ders(h.leaf, other, h.ca, h.root), want: matched(2, 1)},
		{name: "names-compare-as-text", about: "RFC 5280 §7.1: letter case, spaces and the string type do not matter.",
			records: rs(utf8CA.tlsa(2, 0, 1)), chain: ders(h.leaf, utf8CA), want: matched(1, 1)},
	}
}

func brokenCases(m *mint) []ownCase {
	h := m.house()
	garbage := []byte("no certificate at all")
	badSAN := pkix.Extension{Id: oidSubjectAltName, Value: []byte{0x30, 4, 0x87, 2, 1, 2}} // an address of two bytes
	brokenLeaf := m.make(spec{CN: mx, Issuer: h.ca, Extra: []pkix.Extension{badSAN}})
	brokenCA := m.make(spec{CN: "Issuer", CA: true, Issuer: h.root, Key: h.ca.key, Extra: []pkix.Extension{badSAN}})
	truncated := h.leaf.der[:len(h.leaf.der)-9]
	return []ownCase{
		{name: "unparseable-neighbour-ee", about: "A broken neighbour does not hide a DANE-EE match.",
			records: rs(h.leaf.tlsa(3, 1, 1)), chain: [][]byte{h.leaf.der, garbage, h.ca.der}, want: matched(0, 1)},
		{name: "unparseable-neighbour-ta", about: "Nor a path that does without it.",
			records: rs(h.ca.tlsa(2, 1, 1)), chain: [][]byte{h.leaf.der, garbage, h.ca.der}, want: matched(1, 1)},
		{name: "unparseable-leaf-ee-key", about: "An alternative name that the parser refuses: bytes are compared all the same.",
			records: rs(brokenLeaf.tlsa(3, 1, 1)), chain: ders(brokenLeaf, h.ca), want: matched(0, 1)},
		{name: "unparseable-leaf-ee-full", records: rs(brokenLeaf.tlsa(3, 0, 0)), chain: ders(brokenLeaf, h.ca), want: matched(0, 1)},
		{name: "unparseable-leaf-ta", about: "Under DANE-TA it must be read; the reason names it.", records: rs(h.ca.tlsa(2, 1, 1)), chain: ders(brokenLeaf, h.ca), want: unread},
		{name: "unparseable-anchor", records: rs(brokenCA.tlsa(2, 1, 1)), chain: ders(h.leaf, brokenCA), want: unread},
		{name: "unparseable-anchor-beside-good", records: rs(brokenCA.tlsa(2, 1, 1)), chain: ders(h.leaf, brokenCA, h.ca), want: matched(1, 1)},
		{name: "unparseable-anchor-in-record", about: "Usable by its shape, never a reason to authenticate nobody.",
			records: rs(brokenCA.tlsa(2, 0, 0)), chain: ders(h.leaf), want: unread},
		{name: "garbage-leaf", records: rs(h.leaf.tlsa(3, 1, 1)), chain: [][]byte{garbage, h.leaf.der}, want: nothing},
		{name: "garbage-leaf-3-0-0", about: "Even that can be pinned.", records: rs(ParseRecord(append([]byte{3, 0, 0}, garbage...))), chain: [][]byte{garbage}, want: matched(0, 1)},
		{name: "truncated-leaf-key", about: "The key is there before the cut.", records: rs(h.leaf.tlsa(3, 0, 1)), chain: [][]byte{truncated}, want: nothing},
	}
}

func attackCases(m *mint) []ownCase {
	h := m.house()
	fakeCA := m.make(spec{CN: "Issuer", CA: true})
	fake := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: fakeCA})
	selfFake := m.make(spec{CN: mx, DNS: []string{mx}})
	byLeaf := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: h.leaf})
	tampered := bytes.Clone(m.make(spec{CN: mx, DNS: []string{"mx.example.org"}, Issuer: h.ca}).der)
	copy(tampered[bytes.Index(tampered, []byte("mx.example.org")):], "mx.example.com")
	return []ownCase{
		{name: "attack-genuine-authority-as-decoy", about: "The genuine authority is sent along, but issued nothing of this.",
			records: rs(h.ca.tlsa(2, 1, 1)), chain: ders(selfFake, h.ca, h.root), want: untrusted(CauseNotIssuer, -1, 1)},
		{name: "attack-authority-of-same-name", records: rs(h.ca.tlsa(2, 0, 1)), chain: ders(fake, h.ca, h.root), want: untrusted(CauseNotIssuer, -1, 1)},
		{name: "attack-decoy-in-record", records: rs(h.ca.tlsa(2, 0, 0)), chain: ders(fake, fakeCA), want: untrusted(CauseNotIssuer, -1, 1)},
		{name: "attack-genuine-leaf-as-neighbour", about: "DANE-EE is about the first certificate only.",
			records: rs(h.leaf.tlsa(3, 1, 1)), chain: ders(selfFake, h.leaf, h.ca), want: nothing},
		{name: "attack-issued-by-a-server", about: "A server's key signs another certificate: it is no authority.",
			records: rs(h.ca.tlsa(2, 1, 1)), chain: ders(byLeaf, h.leaf, h.ca, h.root), want: untrusted(CauseNotCA, 2, 1)},
		{name: "attack-changed-name", about: "A certificate for another host, its name overwritten: the signature breaks.",
			records: rs(h.ca.tlsa(2, 1, 1)), chain: [][]byte{tampered, h.ca.der, h.root.der}, want: untrusted(CauseNotIssuer, -1, 1)},
		{name: "attack-plain-stranger", records: rs(h.leaf.tlsa(3, 1, 1), h.ca.tlsa(2, 1, 1)), chain: ders(fake, fakeCA), want: nothing},
	}
}

func constraintCases(m *mint) []ownCase {
	h := m.house()
	var out []ownCase
	add := func(name, about string, want wanted, leaf spec, limit func(*x509.Certificate)) {
		ca := m.make(spec{CN: "Limited", CA: true, Issuer: h.root, Tweak: limit})
		leaf.Issuer = ca
		out = append(out, ownCase{name: "constraint-" + name, about: about, records: rs(ca.tlsa(2, 1, 1)),
			chain: ders(m.make(leaf), ca, h.root), want: want})
	}
	no := untrusted(CauseNameConstraint, 1, 1)
	leaf := spec{CN: "x", DNS: []string{mx}}
	add("permitted", "RFC 5280 §4.2.1.10; the anchor's own constraints count too.", matched(1, 1), leaf,
		func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} })
	add("not-permitted", "", no, leaf, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} })
	add("label-edge", "ample.com is no parent of mx.example.com.", no, leaf, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"ample.com"} })
	add("excluded", "", no, leaf, func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"example.com"} })
	add("excluded-elsewhere", "", matched(1, 1), leaf, func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"example.org"} })
	add("second-name-not-permitted", "Every name of the certificate is held to them.", no, spec{CN: "x", DNS: []string{mx, "mx.example.org"}},
		func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} })
	add("wildcard-into-excluded", "A wildcard must not lead into an excluded name.", no, spec{CN: "x", DNS: []string{"*.example.com"}},
		func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{mx} })
	add("common-name", "A common name that serves as the host name is one.", no, spec{CN: mx},
		func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} })
	add("other-type", "Constraints on addresses do not touch a certificate without any.", matched(1, 1), leaf,
		func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} })
	add("email", "", no, spec{CN: "x", DNS: []string{mx}, Tweak: func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }},
		func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"example.org"} })
	dir := func(tag byte, org string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: directoryConstraint(m, tag, org)}}
		}
	}
	org := spec{Subject: &pkix.Name{Organization: []string{"Example Inc"}, CommonName: mx}, DNS: []string{mx}}
	add("directory-permitted", "A constraint on the subject, marked critical.", matched(1, 1), org, dir(0xa0, "EXAMPLE inc"))
	add("directory-not-permitted", "", no, org, dir(0xa0, "Other Inc"))
	add("directory-excluded", "", no, org, dir(0xa1, "Example Inc"))
	root := m.make(spec{CN: "Limited root", CA: true, Tweak: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} }})
	ca := m.make(spec{CN: "Free", CA: true, Issuer: root})
	server := m.make(spec{CN: "x", DNS: []string{mx}, Issuer: ca})
	return append(out,
		ownCase{name: "constraint-above-the-anchor", about: "What stands above the anchor is not looked at.",
			records: rs(ca.tlsa(2, 1, 1)), chain: ders(server, ca, root), want: matched(1, 1)},
		ownCase{name: "constraint-of-the-root", records: rs(root.tlsa(2, 1, 1)), chain: ders(server, ca, root), want: untrusted(CauseNameConstraint, 2, 1)})
}

// directoryConstraint encodes one directory subtree: permitted 0xa0, excluded 0xa1.
func directoryConstraint(m *mint, tag byte, org string) []byte {
	name, err := asn1.Marshal(pkix.Name{Organization: []string{org}}.ToRDNSequence())
	must(m.t, err)
	wrap := func(class, tag int, b []byte) []byte {
		out, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: b})
		must(m.t, err)
		return out
	}
	base := wrap(asn1.ClassContextSpecific, 4, name)
	subtree := sequence(m.t, base)
	return sequence(m.t, wrap(asn1.ClassContextSpecific, int(tag&0x1f), subtree))
}

func authorityCases(m *mint) []ownCase {
	root := m.make(spec{CN: "Root", CA: true})
	var out []ownCase
	// try builds root <- ca <- leaf and names ca.
	try := func(name, about string, want wanted, ca, leaf spec) {
		ca.Issuer, leaf.DNS = root, []string{mx}
		if ca.CN == "" {
			ca.CN = "Issuer"
		}
		authority := m.make(ca)
		leaf.Issuer, leaf.CN = authority, mx
		out = append(out, ownCase{name: name, about: about, records: rs(authority.tlsa(2, 0, 1)), chain: ders(m.make(leaf), authority, root), want: want})
	}
	server, client := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	anyUse := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	try("eku-absent", "No extKeyUsage: no limit.", matched(1, 1), spec{CA: true}, spec{})
	try("eku-server", "", matched(1, 1), spec{CA: true, EKU: server}, spec{EKU: server})
	try("eku-any", "", matched(1, 1), spec{CA: true, EKU: anyUse}, spec{EKU: anyUse})
	try("eku-client-only", "", untrusted(CausePurpose, 1, 1), spec{CA: true}, spec{EKU: client})
	try("eku-client-only-authority", "", untrusted(CausePurpose, 1, 1), spec{CA: true, EKU: client}, spec{EKU: server})
	try("authority-without-constraints", "basicConstraints are absent: no authority.", untrusted(CauseNotCA, 1, 1), spec{}, spec{})
	try("authority-says-no", "basicConstraints say CA:FALSE.", untrusted(CauseNotCA, 1, 1),
		spec{Tweak: func(c *x509.Certificate) { c.BasicConstraintsValid = true }}, spec{})
	try("authority-key-usage-without-signing", "", untrusted(CauseNotCA, 1, 1), spec{CA: true, KU: x509.KeyUsageDigitalSignature}, spec{})
	try("authority-key-usage", "", matched(1, 1), spec{CA: true, KU: x509.KeyUsageCertSign}, spec{KU: x509.KeyUsageDigitalSignature})
	try("leaf-key-usage-not-tls", "", untrusted(CausePurpose, 1, 1), spec{CA: true}, spec{KU: x509.KeyUsageCRLSign})
	try("authority-version-1", "", untrusted(CauseNotCA, 1, 1), spec{CA: true, V1: true}, spec{})
	try("critical-unknown", "", untrusted(CauseCritical, 1, 1), spec{CA: true},
		spec{Extra: unknownCritical()})
	rsaRoot := m.make(spec{CN: "RSA", CA: true, Key: rsaKey(m.t)})
	sha1Leaf := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: rsaRoot, Algo: x509.SHA1WithRSA})
	out = append(out, ownCase{name: "signature-sha1", about: "SHA-1 signatures are the business of who pinned them.",
		records: rs(rsaRoot.tlsa(2, 0, 1)), chain: ders(sha1Leaf, rsaRoot), want: matched(1, 1)})
	pssLeaf := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: rsaRoot, Algo: x509.SHA384WithRSAPSS})
	out = append(out, ownCase{name: "signature-pss", records: rs(rsaRoot.tlsa(2, 0, 1)), chain: ders(pssLeaf, rsaRoot), want: matched(1, 1)})
	return append(out, pathLengthCases(m)...)
}

func pathLengthCases(m *mint) []ownCase {
	zero := m.make(spec{CN: "Zero", CA: true, PathLen: -1})
	one := m.make(spec{CN: "One", CA: true, PathLen: 1})
	below := m.make(spec{CN: "Below", CA: true, Issuer: zero})
	under := m.make(spec{CN: "Under", CA: true, Issuer: one})
	again := m.make(spec{CN: "Zero", CA: true, Issuer: zero}) // self-issued: a new key of the same authority
	leafOf := func(ca *minted) *minted { return m.make(spec{CN: mx, DNS: []string{mx}, Issuer: ca}) }
	return []ownCase{
		{name: "path-length-zero", records: rs(zero.tlsa(2, 0, 1)), chain: ders(leafOf(zero), zero), want: matched(1, 1)},
		{name: "path-length-zero-exceeded", records: rs(zero.tlsa(2, 0, 1)), chain: ders(leafOf(below), below, zero), want: untrusted(CausePathLength, 2, 1)},
		{name: "path-length-one", records: rs(one.tlsa(2, 0, 1)), chain: ders(leafOf(under), under, one), want: matched(2, 1)},
		{name: "path-length-self-issued", about: "RFC 5280 §4.2.1.9: self-issued ones are not counted.",
			records: rs(zero.tlsa(2, 0, 1)), chain: ders(leafOf(again), again, zero), want: matched(2, 1)},
	}
}

func nameCases(m *mint) []ownCase {
	h := m.house()
	var out []ownCase
	try := func(name, about string, want wanted, s spec, names ...string) {
		s.Issuer = h.ca
		out = append(out, ownCase{name: "name-" + name, about: about, names: names, records: rs(h.ca.tlsa(2, 1, 1)), chain: ders(m.make(s), h.ca), want: want})
	}
	yes, no := matched(1, 1), untrusted(CauseWrongName, 1, 1)
	try("wildcard", "RFC 7672 §3.2.3", yes, spec{CN: "x", DNS: []string{"*.example.com"}}, mx)
	try("wildcard-two-labels", "", no, spec{CN: "x", DNS: []string{"*.example.com"}}, "a.mx.example.com")
	try("wildcard-no-label", "", no, spec{CN: "x", DNS: []string{"*.example.com"}}, "example.com")
	try("wildcard-part-of-label", "", no, spec{CN: "x", DNS: []string{"m*.example.com", "*x.example.com"}}, mx)
	try("wildcard-second-label", "", no, spec{CN: "x", DNS: []string{"mx.*.com"}}, mx)
	try("wildcard-alone", "", no, spec{CN: "x", DNS: []string{"*", "*."}}, mx)
	try("case", "", yes, spec{CN: "x", DNS: []string{"MX.Example.COM"}}, mx)
	try("common-name", "A common name counts where there is no DNS-ID.", yes, spec{CN: mx}, mx)
	try("common-name-beside-dns-id", "Not where there is one.", no, spec{CN: mx, DNS: []string{"mx.example.org"}}, mx)
	try("common-name-wildcard", "", yes, spec{CN: "*.example.com"}, mx)
	try("underscore", "MX names with underscores exist.", yes, spec{CN: "x", DNS: []string{"mx_1.example.com"}}, "mx_1.example.com")
	try("a-label", "", yes, spec{CN: "x", DNS: []string{"xn--mller-kva.example"}}, "xn--mller-kva.example")
	try("nul-byte", "A NUL ends nothing.", no, spec{CN: "mx.example.com\x00.example.org"}, mx)
	try("none", "", no, spec{Subject: &pkix.Name{}}, mx)
	try("no-reference", "Without a reference identifier nothing matches.", no, spec{CN: "x", DNS: []string{""}}, "")
	try("second-reference", "", yes, spec{CN: "x", DNS: []string{"b.example"}}, "a.example", "b.example")
	return out
}

func sizeCases(m *mint) []ownCase {
	h := m.house()
	long := func(head, tail [][]byte, n int) [][]byte {
		out := append([][]byte{}, head...)
		for i := 0; i < n; i++ {
			out = append(out, []byte{0x30, 1, byte(i)})
		}
		return append(out, tail...)
	}
	deep := []*minted{m.make(spec{CN: "0", CA: true})}
	for i := 1; i < 10; i++ {
		deep = append(deep, m.make(spec{CN: strings.Repeat("i", i), CA: true, Issuer: deep[i-1]}))
	}
	chain := ders(m.make(spec{CN: mx, DNS: []string{mx}, Issuer: deep[9]}))
	for i := 9; i >= 0; i-- {
		chain = append(chain, deep[i].der)
	}
	negative := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: h.ca, Serial: big.NewInt(1)})
	negative.der = bytes.Replace(negative.der, []byte{2, 1, 1}, []byte{2, 1, 0x81}, 1)
	return []ownCase{
		{name: "chain-of-100-ee", about: "DANE-EE looks at the first certificate, however many follow.",
			records: rs(h.leaf.tlsa(3, 1, 1)), chain: long(ders(h.leaf), nil, 99), want: matched(0, 1)},
		{name: "chain-of-100-ta", about: "DANE-TA looks at ten.", records: rs(h.ca.tlsa(2, 1, 1)), chain: long(ders(h.leaf), ders(h.ca), 98), want: overworked},
		{name: "chain-of-100-ta-in-front", records: rs(h.ca.tlsa(2, 1, 1)), chain: long(ders(h.leaf, h.ca), nil, 98), want: matched(1, 1)},
		{name: "chain-of-ten", records: rs(deep[1].tlsa(2, 1, 1)), chain: chain, want: matched(9, 1)},
		{name: "chain-of-eleven", records: rs(deep[0].tlsa(2, 1, 1)), chain: chain, want: overworked},
		{name: "chain-of-ten-and-record", about: "Ten are sent, the eleventh is in the record.", records: rs(deep[0].tlsa(2, 0, 0)), chain: chain[:10], want: matched(10, 1)},
		{name: "negative-serial-ee", about: "A serial number that RFC 5280 §4.1.2.2 forbids.", records: rs(negative.tlsa(3, 0, 1)), chain: ders(negative), want: matched(0, 1)},
	}
}

func unknownCritical() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
}
