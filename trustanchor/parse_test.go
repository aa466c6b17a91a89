package trustanchor

import (
	"fmt"
	"strings"
	"testing"
)

const (
	ds2017 = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
	ds2024 = ".\t172800\tIN\tDS\t38696 8 2 (\n 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C48\n 3AF444A4C0FB2B16 ) ; the next one"
	// A made-up Ed25519 key with its tag and digest.
	key15 = "lab.test. 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="
	zsk15 = "lab.test. 3600 IN DNSKEY 256 3 15 zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs="
)

func TestBuiltIn(t *testing.T) {
	parsed, err := ParseFile("both", []byte(ds2017+"\n"+ds2024))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(BuiltIn()), describe(parsed); got != want || len(BuiltIn()) != 2 {
		t.Errorf("built in:\n%s\nwant:\n%s", got, want)
	}
}

func TestParseFile(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"ds", ds2017, "20326"},
		{"comment, ttl, parentheses, blank lines", "; anchors\n\n" + ds2024 + "\n", "38696"},
		{"dnskey", key15, "key 257"},
		{"zone signing keys are left out", zsk15 + "\n" + key15, "key 257"},
		{"zone signing key alone", zsk15, "key 256"},
		{"twice the same", ds2017 + "\n" + ds2017, "20326"},
		{"no ttl and no class", ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D", "20326"},
		{"xml", rootXML, "20326 38696"},
	} {
		t.Run(c.name, func(t *testing.T) {
			anchors, err := ParseFile("f", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range anchors {
				if a.DS != nil {
					got = append(got, fmt.Sprint(a.DS.KeyTag))
				} else {
					got = append(got, fmt.Sprint("key ", int(a.Key[0])<<8|int(a.Key[1])))
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("anchors %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseFileErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "anchors:1: no trust anchor in it"},
		{"comments only", "; nothing\n", "anchors:1: no trust anchor in it"},
		{"another type", "; x\n. IN NS a.root-servers.net.", "anchors:2: a NS record; DS or DNSKEY was expected"},
		{"not a zone file", ds2017 + "\nhello world", "anchors:2:"},
		{"digest too short", ". IN DS 20326 8 2 E06D44B8", "anchors:1: digest of DS 20326 has 4 octets; 32 were expected"},
		{"class", ". CH DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D", "anchors:1: class CH; class IN was expected"},
		{"not a zone key", strings.Replace(key15, "257", "1", 1), "anchors:1: DNSKEY with flags 1; a zone key was expected"},
		{"revoked", strings.Replace(key15, "257", "385", 1), "anchors:1: DNSKEY with flags 385 is revoked"},
		{"protocol", strings.Replace(key15, "257 3", "257 4", 1), "anchors:1: DNSKEY with protocol 4; 3 was expected"},
		{"xml of another kind", "<html></html>", "anchors:1: no TrustAnchor element"},
		{"xml cut", rootXML[:len(rootXML)/2], "root-anchors.xml was expected"},
		{"xml without anchors", "<TrustAnchor><Zone>.</Zone></TrustAnchor>", "no trust anchor in it"},
		{"xml, number", strings.Replace(rootXML, "<KeyTag>38696", "<KeyTag>3869x", 1), `is no number of 16 bits`},
		{"xml, time", strings.Replace(rootXML, "2024-07-18T00", "yesterdayT00", 1), "validFrom"},
		{"xml, key of another digest", strings.Replace(xmlWithKey, "l02W", "l02X", 1), "PublicKey and Digest do not belong together"},
		{"xml, all ended", strings.Replace(xmlWithKey, "validFrom", `validUntil="2019-01-11T00:00:00Z" validFrom`, 1), "every trust anchor in it has ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			anchors, err := ParseFile("anchors", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v (anchors %v), want one that says %q", err, describe(anchors), c.want)
			}
		})
	}
}

func TestParseXMLPeriods(t *testing.T) {
	configured, err := Parse("x", []byte(rootXML))
	if err != nil {
		t.Fatal(err)
	}
	if len(configured) != 3 || configured[0].Until.IsZero() || configured[0].usable(released) || !configured[2].usable(released) ||
		configured[2].usable(configured[2].From.Add(-1)) || !configured[2].usable(configured[2].From) {
		t.Errorf("periods are wrong: %+v", configured)
	}
	if _, err := Parse("x", []byte(xmlWithKey)); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{ds2017, ds2024, key15, rootXML, xmlWithKey, "$ORIGIN x.\n@ DS", "<TrustAnchor>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		anchors, err := ParseFile("f", data)
		if (err == nil) != (len(anchors) > 0) {
			t.Errorf("%d anchors with error %v", len(anchors), err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("error without file and line: %v", err)
		}
	})
}
