package dnssec

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestCanonicalRData(t *testing.T) {
	const up, low = "\x02Ab\x07EXAMPLE\x00", "\x02ab\x07example\x00"
	tests := []struct {
		rrtype     uint16
		rdata, out string
	}{
		{2, up, low}, {3, up, low}, {4, up, low}, {5, up, low}, {7, up, low}, {8, up, low}, {9, up, low},
		{12, up, low}, {39, up, low},
		{6, up + up + strings.Repeat("A", 20), low + low + strings.Repeat("A", 20)},
		{14, up + up, low + low}, {17, up + up, low + low},
		{15, "AB" + up, "AB" + low}, {18, "AB" + up, "AB" + low}, {21, "AB" + up, "AB" + low}, {36, "AB" + up, "AB" + low},
		{26, "AB" + up + up, "AB" + low + low},
		{33, "ABCDEF" + up, "ABCDEF" + low},
		{35, "ABCD\x01U\x03SIP\x00" + up, "ABCD\x01U\x03SIP\x00" + low},
		{24, strings.Repeat("A", 18) + up + "SIG", strings.Repeat("A", 18) + low + "SIG"},
		{46, strings.Repeat("A", 18) + up + "SIG", strings.Repeat("A", 18) + low + "SIG"},
		{30, up + "BITS", low + "BITS"},
		{38, "\x40" + strings.Repeat("A", 8) + up, "\x40" + strings.Repeat("A", 8) + low},
		{38, "\x80" + up, "\x80" + low},
		{38, "\x00" + strings.Repeat("A", 16), "\x00" + strings.Repeat("A", 16)},
		// RFC 6840 §5.1 takes NSEC off the list; newer types were never on it.
		{47, up + "\x00\x01A", up + "\x00\x01A"},
		{13, "\x02AB\x02CD", "\x02AB\x02CD"},
		{16, "\x02AB", "\x02AB"},
		{52, "\x03", "\x03"},
		{55, up, up},
		{64, "\x00\x01" + up, "\x00\x01" + up},
		{107, "\x00\x01" + up, "\x00\x01" + up},
		// What does not have the form of its type stays as it is from there on.
		{2, "", ""},
		{2, "\x05Ab", "\x05Ab"},
		{15, "A", "A"},
		{15, "AB", "AB"},
		{15, "AB\xc0\x0cAB", "AB\xc0\x0cAB"},
		{26, "AB" + up + "\x09X", "AB" + low + "\x09X"},
		{35, "ABCD\xffU", "ABCD\xffU"},
		{38, "\xff" + up, "\xff" + low},
	}
	for _, tt := range tests {
		var c canonicalizer
		received := []byte(tt.rdata)
		c.load(&RRset{Type: tt.rrtype, Data: [][]byte{received}})
		if got := string(c.rdata[0]); got != tt.out {
			t.Errorf("type %d: %q, want %q", tt.rrtype, got, tt.out)
		}
		if string(received) != tt.rdata {
			t.Errorf("type %d: what was received changed to %q", tt.rrtype, received)
		}
	}
}

func TestCanonicalOrder(t *testing.T) {
	set := rrset(Root, 16, "\x02b", "\x02", "a\x80", "", "\x02b", "\x02a", "a\x7f", "\x02B")
	var c canonicalizer
	c.load(set)
	want := []string{"", "\x02", "\x02B", "\x02a", "\x02b", "a\x7f", "a\x80"}
	var got []string
	for _, rdata := range c.rdata {
		got = append(got, string(rdata))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// Records that differ in the case of a name alone are one record.
	c.load(rrset(Root, 2, "\x01A\x00", "\x01a\x00"))
	if len(c.rdata) != 1 {
		t.Errorf("%q", c.rdata)
	}
}

// received packs a record of miekg/dns as a server would send it.
func received(t testing.TB, rr dns.RR) []byte {
	t.Helper()
	buf := make([]byte, 65535)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := nameLen(buf)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf[owner+10 : n])
}

// TestVerifyElsewhereSigned verifies what miekg/dns signed.
func TestVerifyElsewhereSigned(t *testing.T) {
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: "Example.", Rrtype: dns.TypeDNSKEY, Class: 1, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ED25519}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	zone := name(t, "example.")
	sign := func(rrs []dns.RR, owner Name) *RRset {
		sig := &dns.RRSIG{Algorithm: dns.ED25519, KeyTag: key.KeyTag(), SignerName: "Example.", OrigTtl: 3600,
			Inception:  uint32(testNow.Unix()) - 3600,
			Expiration: uint32(testNow.Unix()) + 3600}
		if err := sig.Sign(private.(ed25519.PrivateKey), rrs); err != nil {
			t.Fatal(err)
		}
		set := &RRset{Name: owner, Type: rrs[0].Header().Rrtype, Class: 1, TTL: 3600}
		for _, rr := range rrs {
			set.Data = append(set.Data, received(t, rr))
		}
		decoded, err := ParseRRSIG(received(t, sig))
		if err != nil {
			t.Fatal(err)
		}
		set.Sigs = []RRSIG{decoded}
		return set
	}
	dnskey := sign([]dns.RR{key}, zone)
	if KeyTag(dnskey.Data[0]) != key.KeyTag() {
		t.Fatalf("key tag %d, elsewhere %d", KeyTag(dnskey.Data[0]), key.KeyTag())
	}
	ds, err := ParseDS(received(t, key.ToDS(dns.SHA384)))
	if err != nil {
		t.Fatal(err)
	}
	keys, v := DefaultRules(false).TrustKeys(dnskey, []Anchor{{Zone: zone, DS: &ds}}, testNow, plenty())
	wantVerdict(t, v, Secure, ReasonVerified)
	if keys == nil {
		t.FailNow()
	}
	for _, group := range [][]string{
		{"A 192.0.2.1", "A 192.0.2.3", "A 192.0.2.2"},
		{"MX 10 MX1.Example.", "MX 10 mx.example.", "MX 5 Z.EXAMPLE."},
		{"SOA Ns.Example. Host.Example. 1 2 3 4 5"},
		{"SRV 0 5 25 Mail.Example.", "SRV 0 4 25 A.Example."},
		{`NAPTR 100 10 "U" "E2U+sip" "!^.*$!sip:A@b!" Repl.Example.`},
		{"RP Admin.Example. Txt.Example."},
		{"PX 10 A.Example. B.Example."},
		{`TXT "Hello" "World"`, `TXT "hello"`},
		{"TLSA 3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971"},
		{"DNAME Other.Example."},
		{"NSEC Next.Example. A MX RRSIG NSEC TYPE1234"},
		{"TYPE65280 \\# 3 414243"},
	} {
		var rrs []dns.RR
		for _, text := range group {
			rr, err := dns.NewRR("WWW.Example. 3600 IN " + text)
			if err != nil {
				t.Fatal(err)
			}
			rrs = append(rrs, rr)
		}
		set := sign(rrs, name(t, "www.example."))
		if proof := keys.Verify(set, testNow, plenty()); proof.Status != Secure {
			t.Errorf("%s: %+v", group[0], proof.Verdict)
		}
		slices.Reverse(set.Data)
		set.Data = append(set.Data, set.Data[0])
		if proof := keys.Verify(set, testNow, plenty()); proof.Status != Secure {
			t.Errorf("%s, in another order and doubled: %+v", group[0], proof.Verdict)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, rrtype := range []uint16{2, 6, 15, 16, 24, 26, 30, 33, 35, 38, 47} {
		f.Add(rrtype, []byte("AB\x01U\x03SIP\x00\x02Ab\x07EXAMPLE\x00"), []byte("\x02Ab\x07EXAMPLE\x00\x02Ab\x07EXAMPLE\x00"))
	}
	f.Fuzz(func(t *testing.T, rrtype uint16, a, b []byte) {
		set := &RRset{Name: Root, Type: rrtype, Data: [][]byte{a, b}}
		before := fmt.Sprintf("%x", set.Data)
		var c, again canonicalizer
		c.load(set)
		if fmt.Sprintf("%x", set.Data) != before {
			t.Fatal("what was received has changed")
		}
		for i, rdata := range c.rdata {
			if !bytes.EqualFold(rdata, a) && !bytes.EqualFold(rdata, b) {
				t.Fatalf("%x came from nowhere", rdata)
			}
			if i > 0 && bytes.Compare(c.rdata[i-1], rdata) >= 0 {
				t.Fatalf("%x is not before %x", c.rdata[i-1], rdata)
			}
		}
		again.load(&RRset{Name: Root, Type: rrtype, Data: c.rdata})
		if fmt.Sprintf("%x", again.rdata) != fmt.Sprintf("%x", c.rdata) {
			t.Fatalf("canonical form is not final: %x, %x", c.rdata, again.rdata)
		}
	})
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte(strings.Repeat("\x01", 18) + "\x07example\x00sig"))
	f.Add([]byte("\x01\x00\x03\x0d" + strings.Repeat("k", 64)))
	f.Add([]byte("\x01\x01\x03\x08\x03\x01\x00\x01" + strings.Repeat("\xff", 128)))
	f.Add([]byte("\x01\x01\x03\x08\x00\x00\x03\x01\x00\x01" + strings.Repeat("\xff", 128)))
	f.Add([]byte("\x01\x00\x00\x0c\x04\xaa\xbb\xcc\xdd\x14" + strings.Repeat("h", 20) + "\x00\x01\x40"))
	f.Add([]byte("\x01a\x07example\x00\x00\x06\x40\x00\x00\x00\x00\x03"))
	zone := Name("\x07example\x00")
	owner := zone.Prepend("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom")
	r := DefaultRules(true)
	f.Fuzz(func(t *testing.T, b []byte) {
		if sig, err := ParseRRSIG(b); err == nil && (len(b) != 18+len(sig.Signer)+len(sig.Signature) || !sig.Signer.Valid()) {
			t.Errorf("RRSIG %x: %+v", b, sig)
		}
		if ds, err := ParseDS(b); err == nil && len(ds.Digest)+4 != len(b) {
			t.Errorf("DS %x: %+v", b, ds)
		}
		if key, err := ParseDNSKEY(b); err == nil {
			if tag := slowTag(b); key.Algorithm != 1 && KeyTag(b) != tag {
				t.Errorf("DNSKEY %x: tag %d, want %d", b, KeyTag(b), tag)
			}
			k := r.prepare(b)
			if check := k.check(r); check != nil && check([]byte("data"), b) {
				t.Errorf("DNSKEY %x signs data with itself", b)
			}
		}
		_ = KeyTag(b)
		if n, err := parseNSEC(zone, zone, b); err == nil {
			n.types.has(65535)
			n.types.hasData()
			n.covers(zone, owner)
		}
		if n, err := parseNSEC3(zone, owner, b); err == nil {
			n.types.has(65535)
			n.covers(hash3{})
		}
		_, _ = parseNSEC3(zone, Name(b), b)
		_, _ = parseNSEC(zone, Name(b), b)
		_, _ = decodeHash(string(b))
	})
}

// slowTag is the key tag computation as RFC 4034 Appendix B words it.
func slowTag(b []byte) uint16 {
	sum := 0
	if len(b)%2 == 1 {
		b = append(bytes.Clone(b), 0)
	}
	for ; len(b) > 0; b = b[2:] {
		sum += int(binary.BigEndian.Uint16(b))
	}
	return uint16(sum + sum>>16&0xffff)
}
