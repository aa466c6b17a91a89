package tlsa

import "testing"

func TestRecordString(t *testing.T) {
	for in, want := range map[string]string{
		"":                 `\# 0`,
		"\x03":             `\# 1 03`,
		"\x03\x01":         `\# 2 0301`,
		"\x03\x01\x01":     "3 1 1",
		"\x03\x01\x01\xAB": "3 1 1 ab",
	} {
		if got := ParseRecord([]byte(in)).String(); got != want {
			t.Errorf("%x: %q, want %q", in, got, want)
		}
		if ok, why := ParseRecord([]byte(in)).Usable(); ok || why == "" {
			t.Errorf("%x is usable (%q)", in, why)
		}
	}
}
