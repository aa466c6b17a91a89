package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"danepost/deliver"
	"danepost/resolver"
	"danepost/resolver/dnssec"
)

var updateGolden = flag.Bool("update", false, "write the golden files of testdata anew")

// golden holds output to a file that a reader can judge.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *updateGolden {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
	for i, line := range strings.Split(string(got), "\n") {
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%s:%d: spaces at the end", name, i+1)
		}
	}
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func wireName(t *testing.T, s string) dnssec.Name {
	t.Helper()
	n, err := dnssec.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const digest = "8b3a2f9c01d2e3f4a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c"

func checkReports() map[string]deliver.Report {
	cert := &deliver.CertificateReport{Subject: "CN=mx1.example.com", Issuer: "CN=R11,O=Let's Encrypt,C=US",
		Names: []string{"mx1.example.com"}, NotBefore: instant("2026-10-04T03:00:00Z"), NotAfter: instant("2027-01-02T03:00:00Z")}
	end := instant("2026-12-03T14:00:00Z")
	good := deliver.HostReport{Host: "mx1.example.com", Preference: 10, Port: 25, AddressStatus: "secure",
		Addresses: []string{"192.0.2.1", "2001:db8::1"}, TLSABase: "mx1.example.com", TLSAStatus: "secure",
		TLSA: []string{"3 1 1 " + digest, "2 1 1 " + strings.Repeat("ab", 32)}, SignatureEnd: &end, Level: "dane",
		Names: []string{"mx1.example.com", "example.com"}, Reason: "it has TLSA records",
		Probes: []deliver.ProbeReport{
			{Address: "2001:db8::1", Verdict: "failed", Error: "connection refused"},
			{Address: "192.0.2.1", TLS: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", Verdict: "dane-verified",
				Matched: "3 1 1 8b3a2f9c01d2e3f4…", Certificate: cert},
		}}
	second := deliver.HostReport{Host: "mx2.example.net", Preference: 20, Port: 25, AddressStatus: "insecure",
		Addresses: []string{"198.51.100.7"}, TLSAStatus: "none", TLSA: []string{}, Level: "may", Reason: "its addresses are not signed",
		Probes: []deliver.ProbeReport{{Address: "198.51.100.7", TLS: "TLSv1.2", Cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Verdict: "encrypted", Certificate: cert}}}
	broken := good
	broken.Probes = []deliver.ProbeReport{{Address: "192.0.2.1", Verdict: "failed", Certificate: cert,
		Error: "the receiver's certificate does not match its published TLSA record (none of the 2 usable TLSA records is that of this server, which shows 3 1 1 " +
			digest + ")"}}
	forged := deliver.HostReport{Host: "mx1.example.com", Preference: 10, Port: 25, AddressStatus: "secure", Addresses: []string{"192.0.2.1"},
		TLSABase: "mx1.example.com", TLSAStatus: "bogus", TLSA: []string{}, Level: "dane", Probes: []deliver.ProbeReport{},
		Error: "the TLSA records of mx1.example.com (_25._tcp.mx1.example.com) are forged or broken (DNSSEC): the signature of key 4711 expired"}
	unusable := good
	unusable.TLSA = []string{"1 1 1 " + digest, "3 1 2 " + digest[:32], `\# 2 0301`}
	unusable.Level, unusable.Reason = "encrypt", "none of its TLSA records is usable, so TLS is mandatory and unauthenticated"
	unusable.Probes = []deliver.ProbeReport{{Address: "192.0.2.1", TLS: "TLSv1.3", Verdict: "dane-unauthenticated", Certificate: cert}}
	relay := deliver.HostReport{Host: "smtp.provider.example", Port: 587, AddressStatus: "insecure", Addresses: []string{"203.0.113.5"},
		TLSAStatus: "none", TLSA: []string{}, Level: "verify", Names: []string{"smtp.provider.example"}, Reason: "its addresses are not signed",
		Probes: []deliver.ProbeReport{{Address: "203.0.113.5", TLS: "TLSv1.3", Verdict: "verified", Matched: "smtp.provider.example", Certificate: cert}}}
	clear := second
	clear.Probes = []deliver.ProbeReport{{Address: "198.51.100.7", Verdict: "plaintext", Error: "it does not offer STARTTLS"}}
	return map[string]deliver.Report{
		"good": {Domain: "example.com", MXStatus: "secure", Verdict: "deliverable",
			Reason: "mail goes to mx1.example.com, verified by its TLSA records", Hosts: []deliver.HostReport{good, second},
			Warnings: []string{"the certificate of mx2.example.net[198.51.100.7] ends 2026-11-25T03:00:00Z"}},
		"mismatch": {Domain: "example.com", MXStatus: "secure", Verdict: "defer", Hosts: []deliver.HostReport{broken},
			Reason: "mx1.example.com[192.0.2.1]: " + broken.Probes[0].Error},
		"bogus-tlsa": {Domain: "example.com", MXStatus: "secure", Verdict: "defer", Reason: forged.Error, Hosts: []deliver.HostReport{forged}},
		"bogus-mx": {Domain: "example.com", MXStatus: "bogus", Verdict: "defer", Hosts: []deliver.HostReport{},
			Reason: "the MX records of example.com are forged or broken (DNSSEC): no signature"},
		"null": {Domain: "example.com", MXStatus: "null", Verdict: "reject", Hosts: []deliver.HostReport{},
			Reason: "example.com says that it takes no mail (null MX, RFC 7505)"},
		"unusable": {Domain: "example.com", MXStatus: "secure", Verdict: "deliverable", Hosts: []deliver.HostReport{unusable},
			Reason: "mail goes to mx1.example.com, encrypted; its TLSA records are unusable, so nobody is verified"},
		"unsigned": {Domain: "example.net", MXStatus: "insecure", Verdict: "deliverable", Hosts: []deliver.HostReport{second, clear},
			Reason: "mail goes to mx2.example.net, encrypted, nobody is verified"},
		"relay": {Domain: "example.com", MXStatus: "none", NextHop: "smtp.provider.example", Verdict: "deliverable", Hosts: []deliver.HostReport{relay},
			Reason: "mail goes to smtp.provider.example, verified as the policy demands"},
	}
}

func TestRenderCheck(t *testing.T) {
	for name, r := range checkReports() {
		var out bytes.Buffer
		renderCheck(&out, &r)
		golden(t, "check-"+name+".txt", out.Bytes())
	}
}

// TestCheckJSON: the fields that others rely on are there even when empty.
func TestCheckJSON(t *testing.T) {
	for name, r := range checkReports() {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if name == "good" {
			golden(t, "check-good.json", append(b, '\n'))
		}
		for _, key := range []string{"domain", "mx_status", "verdict", "hosts", "host", "preference", "address_status",
			"addresses", "tlsa_base", "tlsa_status", "tlsa", "level", "probes"} {
			if !strings.Contains(string(b), `"`+key+`":`) && len(r.Hosts) > 0 {
				t.Errorf("%s is missing in %s", key, b)
			}
		}
		if strings.Contains(string(b), "null,") || strings.Contains(string(b), ": null") {
			t.Errorf("a list is null in %s", b)
		}
	}
}

func TestLookupJSON(t *testing.T) {
	for name, a := range answers(t) {
		b, err := json.MarshalIndent(lookupObject(a), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "lookup-"+name+".json", append(b, '\n'))
	}
}

func answers(t *testing.T) map[string]*resolver.Answer {
	n := func(s string) dnssec.Name { return wireName(t, s) }
	ref := func(tag uint16, alg uint8, used bool) resolver.KeyRef {
		return resolver.KeyRef{Tag: tag, Algorithm: alg, Used: used}
	}
	root := resolver.ZoneTrust{Zone: n("."), Status: dnssec.Secure, DS: []resolver.KeyRef{ref(20326, 8, true), ref(38696, 8, false)},
		Keys: []resolver.KeyRef{ref(20326, 8, true), ref(21831, 8, false)}}
	com := resolver.ZoneTrust{Zone: n("com."), Status: dnssec.Secure, DS: []resolver.KeyRef{ref(19718, 13, true)}, Keys: []resolver.KeyRef{ref(19718, 13, true)}}
	zone := resolver.ZoneTrust{Zone: n("example.com."), Status: dnssec.Secure, DS: []resolver.KeyRef{ref(370, 13, false)}, Keys: []resolver.KeyRef{ref(370, 13, false)}}
	verdict := func(st dnssec.Status, why, text string, ede int) dnssec.Verdict {
		return dnssec.Verdict{Status: st, Reason: dnssec.Reason(why), Text: text, EDE: ede}
	}
	addr := resolver.RR{Name: n("www.example.com."), Type: resolver.TypeA, TTL: 300, Data: []byte{192, 0, 2, 1}}
	cname := resolver.Link{Owner: n("www.example.com."), Target: n("web.example.net."), Type: resolver.TypeCNAME, Status: dnssec.Secure}
	unsigned := resolver.ZoneTrust{Zone: n("example.net."), Status: dnssec.Insecure, Reason: "net. proves that example.net. has no DS record"}
	brokenZone := resolver.ZoneTrust{Zone: n("example.com."), Status: dnssec.Bogus, Reason: "no DNSKEY of example.com. matches its DS records"}
	end := instant("2026-12-03T14:00:00Z")
	return map[string]*resolver.Answer{
		"secure": {Name: n("www.example.com."), Type: resolver.TypeA, Verdict: verdict(dnssec.Secure, "verified", "", -1), Final: n("www.example.com."),
			FinalStatus: dnssec.Secure, RRs: []resolver.RR{addr}, SignatureEnd: end, Chain: []resolver.ZoneTrust{root, com, zone}, Queries: 11, Elapsed: 84 * time.Millisecond},
		"alias": {Name: n("www.example.com."), Type: resolver.TypeA, Verdict: verdict(dnssec.Insecure, "unsigned-delegation", "net. proves that example.net. is not signed", -1),
			Links: []resolver.Link{cname}, Final: n("web.example.net."), FinalStatus: dnssec.Insecure, RRs: []resolver.RR{{Name: n("web.example.net."), Type: resolver.TypeA, TTL: 60, Data: []byte{198, 51, 100, 7}}},
			Chain: []resolver.ZoneTrust{root, {Zone: n("net."), Status: dnssec.Secure, DS: com.DS, Keys: com.Keys}, unsigned}, Queries: 1, Elapsed: 5 * time.Millisecond},
		"bogus": {Name: n("www.example.com."), Type: resolver.TypeA, Rcode: 2, Verdict: verdict(dnssec.Bogus, "no-matching-dnskey", "no DNSKEY of example.com. matches its DS records", 9),
			Final: n("www.example.com."), Chain: []resolver.ZoneTrust{root, com, brokenZone}, Queries: 14, Elapsed: 230 * time.Millisecond},
		"nxdomain": {Name: n("nobody.example.com."), Type: resolver.TypeMX, Rcode: 3, Verdict: verdict(dnssec.Secure, "verified", "", -1), Final: n("nobody.example.com."),
			FinalStatus: dnssec.Secure, SignatureEnd: end, Chain: []resolver.ZoneTrust{root, com, zone}},
		"nodata": {Name: n("www.example.com."), Type: resolver.TypeTLSA, Verdict: verdict(dnssec.Secure, "verified", "", -1), Links: []resolver.Link{{
			Owner: n("www.example.com."), Target: n("web.example.com."), Type: resolver.TypeCNAME, Status: dnssec.Secure}}, Final: n("web.example.com."),
			FinalStatus: dnssec.Secure, SignatureEnd: end, Chain: []resolver.ZoneTrust{root, com, zone}, Queries: 2, Elapsed: 9 * time.Millisecond},
		"timeout": {Name: n("www.example.com."), Type: resolver.TypeA, Rcode: 2, Verdict: verdict(dnssec.Indeterminate, "timeout", "no server of com. answered: 192.5.6.30 timed out", 22), Final: n("www.example.com."),
			Chain: []resolver.ZoneTrust{root}, Queries: 9, Elapsed: 4 * time.Second},
	}
}

func TestRenderLookup(t *testing.T) {
	for name, a := range answers(t) {
		var out bytes.Buffer
		renderLookup(&out, a)
		golden(t, "lookup-"+name+".txt", out.Bytes())
	}
}

// TestScreen: escape sequences neither shift columns nor come from the network.
func TestScreen(t *testing.T) {
	var out bytes.Buffer
	s := &screen{Writer: &out, colour: true}
	s.table("  ", [][]cell{{text("a"), toned(good, "secure"), text("x")}, {text("bbb"), toned(bad, "no"), text("y")}})
	want := "  a    \x1b[32msecure\x1b[0m  x\n  bbb  \x1b[31mno\x1b[0m      y\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if got := clean("a\x1b[31m\nb\u009bc"); strings.ContainsAny(got, "\x1b\n\u009b") {
		t.Errorf("%q", got)
	}
}
