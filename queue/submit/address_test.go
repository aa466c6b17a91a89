package submit

import (
	"net/mail"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseRecipients(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct{ in, want string }{
		{"", ""},
		{" , ,", ""},
		{"<>", ""},
		{"a@example.net", "a@example.net"},
		{"A.b+c@Example.NET", "A.b+c@Example.NET"},
		{"a@example.net.", "a@example.net"},
		{"a@example.net,b@example.net", "a@example.net b@example.net"},
		{"a@example.net; b@example.net;", "a@example.net b@example.net"},
		{"root", "root"},
		{"root, admin", "root admin"},
		{"word word <a@example.net>", "a@example.net"},
		{"John Q. Public <a@example.net>", "a@example.net"},
		{"joe@example.org <a@example.net>", "a@example.net"},
		{`"Doe, Jane <x@y>" <a@example.net>, b@example.net`, "a@example.net b@example.net"},
		{"Jürgen <a@example.net>", "a@example.net"},
		{"J\xfcrgen <a@example.net>", "a@example.net"},
		{"=?utf-8?q?J=C3=BCrgen?= <a@example.net>", "a@example.net"},
		{"a@example.net (comment (nested \\) deep) here)", "a@example.net"},
		{"(lead) a (x) @ (y) example . (z) net", "a@example.net"},
		{"a@example.net (Bcc: x@example.org), b@example.net", "a@example.net b@example.net"},
		{"undisclosed-recipients:;", ""},
		{"undisclosed-recipients: ;, a@example.net", "a@example.net"},
		{"Team: a@example.net, B <b@example.net>;, c@example.net", "a@example.net b@example.net c@example.net"},
		{"Team: a@example.net", "a@example.net"},
		{`"The Team": a@example.net;`, "a@example.net"},
		{`"john doe"@example.net`, `"john doe"@example.net`},
		{`"plain"@example.net`, "plain@example.net"},
		{`"a\"b\\c"@example.net`, `"a\"b\\c"@example.net`},
		{`"a@b"@example.net`, `"a@b"@example.net`},
		{`"<x>, y"@example.net`, `"<x>, y"@example.net`},
		{"a..b@example.net", `"a..b"@example.net`},
		{"a.@example.net", `"a."@example.net`},
		{".a@example.net", `".a"@example.net`},
		{"<@relay.example:a@example.net>", "a@example.net"},
		{"X <@r1.example,@r2.example:a@example.net>", "a@example.net"},
		{"a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a\r\n @example.net,\r\n\tb@example.net", "a@example.net b@example.net"},
		{"a@bücher.example", "a@xn--bcher-kva.example"},
		{"a@BÜCHER.example", "a@xn--bcher-kva.example"},
		{"büro@bücher.example", "büro@xn--bcher-kva.example"},
		{"a@straße.example", "a@xn--strae-oqa.example"},
		{"a@host_name.example.net", "a@host_name.example.net"},
		{"a@" + long[:63] + ".example", "a@" + long[:63] + ".example"},
		{"user%relay@example.net", "user%relay@example.net"},
		{"user!path@example.net", "user!path@example.net"},
		{"-f@example.net", "-f@example.net"},
		{"'quoted'@example.net", "'quoted'@example.net"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			boxes, err := ParseRecipients(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range boxes {
				got = append(got, m.String())
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("got %s, want %s", g, tt.want)
			}
		})
	}
	for _, in := range []string{
		"a@", "@example.net", "a@b@example.net", "a b", "a@example.net b@example.net", "<a@example.net", "a@example.net>",
		"<a@example.net> x", "<a@example.net><b@example.net>", "\"a@example.net", "(a@example.net", "a@exa mple.net",
		"a@-!.example", "a@example..net", "a@.example.net", "a@" + long + ".example", "a@[300.1.1.1]", "a@[IPv6:1.2.3.4]", "a@[", "a@[]",
		"x: y: a@example.net;;", ": a@example.net;", "a:b@example.net:", "\"a\rb\"x@example.net", "a\x00@example.net", "a@exam\x00ple.net",
		"\"a\\\nb\"@example.net", "\"\x01\"@example.net", "\xff@example.net", "a@\xff.example", "<@r.example a@example.net>", "\\a@example.net", "a]@example.net",
		"\"\"@example.net", strings.Repeat("a", 400) + "@example.net", strings.Repeat("(", 100), "a@" + strings.Repeat("a.", 200) + "net",
	} {
		t.Run("refused "+clip(in), func(t *testing.T) {
			if boxes, err := ParseRecipients(in); ExitCode(err) != ExitDataErr {
				t.Errorf("got %v, error %v", boxes, err)
			}
		})
	}
}

func TestParseSender(t *testing.T) {
	for in, want := range map[string]string{"": "", "<>": "", " <> ": "", "a@example.org": "a@example.org", "<a@example.org>": "a@example.org", "X Y <a@example.org>": "a@example.org", "root": "root"} {
		if m, err := ParseSender(in); err != nil || m.String() != want {
			t.Errorf("%q: %q, %v", in, m, err)
		}
	}
	for _, in := range []string{"a@b.example, c@d.example", "g:;", "a\n@b.example\nRCPT TO:<x>", "a@"} {
		if m, err := ParseSender(in); ExitCode(err) != ExitDataErr {
			t.Errorf("%q: %q, %v", in, m, err)
		}
	}
}

// FuzzAddresses: whatever the bytes, an address holds nothing that ends a
// command or a header line, means the same when it is read again, and is what
// net/mail makes of the list where net/mail can read it.
func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"a@example.net", `"a b"@example.net, C <d@e.example>`, "g: x@y.example, z;", "<@a,@b:c@d.example>", "a@[IPv6:::1]", "(c(d))x@bücher.example", "\"\r\n\"@x.example", `"\` + "\n" + `"@x`, "a..b@c.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		boxes, err := ParseRecipients(list)
		if err != nil {
			return
		}
		for _, m := range boxes {
			s := m.String()
			for i := 0; i < len(s); i++ {
				if s[i] < ' ' || s[i] == 0x7f {
					t.Fatalf("%q holds a control character", s)
				}
			}
			if !utf8.ValidString(s) || !isASCII(m.Domain) {
				t.Fatalf("%q cannot be sent", s)
			}
			again, err := ParseRecipients(s)
			if err != nil || len(again) != 1 || again[0].Local != m.Local || again[0].Domain != m.Domain {
				t.Fatalf("%q read again: %v, %v", s, again, err)
			}
			if m.start < 0 || m.end > len(list) || m.start >= m.end {
				t.Fatalf("%q stands at %d..%d of %q", s, m.start, m.end, list)
			}
		}
		theirs, err := mail.ParseAddressList(list)
		if err != nil || !isASCII(list) || strings.ContainsAny(list, "\r\n;") {
			return
		}
		if len(theirs) != len(boxes) {
			t.Fatalf("%d addresses, net/mail sees %d in %q", len(boxes), len(theirs), list)
		}
		for i, a := range theirs {
			local, domain, _ := cutLast(a.Address, '@')
			if boxes[i].Local != local || !strings.EqualFold(strings.TrimSuffix(boxes[i].Domain, "."), strings.TrimSuffix(domain, ".")) {
				t.Fatalf("%q, net/mail sees %q in %q", boxes[i], a.Address, list)
			}
		}
	})
}
