package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigErrorsNameFileLineAndKey(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"unknown key at top", "hostname = \"mail.example.com\"\nhostnme = \"x\"\n", `:2: unknown key "hostnme"`},
		{"unknown key in table", "[queue]\nmax_age = \"5d\"\nmax_agee = \"5d\"\n", `:3: unknown key "queue.max_agee"`},
		{"unknown table", "[quue]\nmax_age = \"5d\"\n", `:1: unknown key "quue"`},
		{"unknown key in policy", "[[policy]]\ndomain = \"a.example\"\ntsl = \"may\"\n", `:3: unknown key "policy.tsl"`},
		{"no TOML", "hostname = \n", `:1: `},
		{"wrong type", "[resolver]\nport = \"x\"\n", `:2: `},
		{"bad duration", "[queue]\nmax_age = \"5 days\"\n", `"5 days" is no duration`},
		{"bad level", "[deliver]\ntls = \"strong\"\n", `:2: deliver.tls: "strong" is not one of`},
		{"fingerprint without policy", "[deliver]\ntls = \"fingerprint\"\n", `:2: deliver.tls`},
		{"policy without fingerprints", "[[policy]]\ndomain = \"a.example\"\ntls = \"fingerprint\"\n", `needs fingerprints`},
		{"policy user without via", "[[policy]]\ndomain = \"a.example\"\ntls = \"dane\"\nusername = \"me\"\n", `needs via`},
		{"forward word", "[resolver]\nforward = \"always\"\n", `use "auto", "off" or a list`},
		{"forward address", "[resolver]\nforward = [\"resolver.example\"]\n", `"resolver.example" is no address`},
		{"source family", "[deliver]\nsource_ipv4 = \"2001:db8::1\"\n", `:2: deliver.source_ipv4: "2001:db8::1" is no IPv4 address`},
		{"allow", "[submission]\nallow = [\"lan\"]\n", `:2: submission.allow: "lan" is no network`},
		{"users without TLS", "[submission]\nlisten = \"127.0.0.1:25\"\nusers_file = \"/x\"\n", `:3: submission.users_file: it needs tls_cert`},
		{"relay user without password", "[relay]\nhost = \"smtp.example\"\nusername = \"me\"\n", `:3: relay.username: it needs password_file`},
		{"postmaster", "postmaster = \"root\"\n", `:1: postmaster: "root" is no address`},
		{"rewrite", "[rewrite]\nsender = \"root\"\n", `"root" is no address`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "danepost.toml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadConfig(file, "", os.Geteuid() == 0)
			if err == nil {
				t.Fatalf("accepted, want an error with %q", tt.want)
			}
			if got := err.Error(); !strings.HasPrefix(got, file) || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("error %q, want one line of %s with %q", got, file, tt.want)
			}
		})
	}
}

func TestConfigValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "danepost.toml")
	text := `
state_dir = "/var/lib/x"
[resolver]
forward = ["192.0.2.1", "[2001:db8::1]:5353"]
[queue]
max_age = "1d12h"
warn_after = "90s"
min_free_mb = 0
[rewrite]
sender = "host@example.com"
from = { root = "admin@example.com" }
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(file, "", os.Geteuid() == 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:5353")}
	if f := c.Resolver.Forward; f.Mode != "list" || len(f.Servers) != 2 || f.Servers[0] != want[0] || f.Servers[1] != want[1] {
		t.Errorf("forward = %+v, want %v", f, want)
	}
	if got := time.Duration(c.Queue.MaxAge); got != 36*time.Hour {
		t.Errorf("max_age = %v, want 36h", got)
	}
	if got := time.Duration(c.Queue.WarnAfter); got != 90*time.Second {
		t.Errorf("warn_after = %v, want 90s", got)
	}
	if c.Queue.MinFreeMB != 0 {
		t.Errorf("min_free_mb = %d, want the 0 that was written", c.Queue.MinFreeMB)
	}
	if c.Rewrite.Sender["*"] != "host@example.com" || c.Rewrite.From["root"] != "admin@example.com" {
		t.Errorf("rewrite = %+v", c.Rewrite)
	}
	if c.Maildrop != "/var/lib/x/maildrop" {
		t.Errorf("maildrop = %s, want it below state_dir", c.Maildrop)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * day: "5d", 4 * time.Hour: "4h", 68 * time.Minute: "1h8m", 0: "0s", 90 * time.Second: "1m30s",
	} {
		if got := words(Duration(d)); got != want {
			t.Errorf("words(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m", 65 * time.Minute: "1h05m", 50 * time.Hour: "2d02h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}
