package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
		{"text for a number", "[deliver]\nport = \"25\"\n", `:2: "deliver.port": a whole number was expected`},
		{"number for a table", "queue = 5\n", `:1: "queue": a table was expected`},
		{"port nought", "[deliver]\nport = 0\n", `:2: deliver.port: 0 is too small`},
		{"more than bytes can count", "[queue]\nmax_message_mb = 99999999999\n", `:2: `},
		{"cache", "[resolver]\ncache_mb = 4096\n", `:2: resolver.cache_mb: 4096 is too large`},
		{"no age", "[queue]\nmax_age = \"0s\"\n", `:2: queue.max_age: it must be longer`},
		{"retries backwards", "[queue]\nretry_first = \"2h\"\nretry_max = \"1h\"\n", `:3: queue.retry_max: it is shorter than retry_first`},
		{"listen without number", "[metrics]\nlisten = \"127.0.0.1:http\"\n", `:2: metrics.listen: "127.0.0.1:http" is no listening address`},
		{"listen beyond ports", "[metrics]\nlisten = \"127.0.0.1:99999\"\n", `:2: metrics.listen`},
		{"key without certificate", "[submission]\ntls_key = \"x\"\n", `:2: submission.tls_key: it needs tls_cert`},
		{"relay host", "[relay]\nhost = \"a b\"\n", `:2: relay.host: "a b" is no host name`},
		{"relay password without user", "[relay]\nhost = \"a\"\npassword_file = \"x\"\n", `:3: relay.password_file: it needs username`},
		{"second policy", "[[policy]]\ndomain = \"a.example\"\n\n[[policy]]\ndomain = \"A.example.\"\n", `:4: policy "A.example.": there are two`},
		{"policy's domain", "[[policy]]\ndomain = \"a b\"\n", `:1: policy "a b": `},
		{"policy's password without user", "[[policy]]\ndomain = \"a\"\nvia = \"b:25\"\npassword_file = \"x\"\n", `needs username`},
		{"socket", "socket = \"/" + strings.Repeat("x", 100) + "\"\n", `:1: socket: /xxx`},
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

// TestConfigPaths: a name in the file counts from the file's directory, one on
// the command line from where the caller stands, and nothing is opened.
func TestConfigPaths(t *testing.T) {
	dir := t.TempDir()
	text := `
state_dir = "state"
socket = "/run/x.sock"
[relay]
host = "relay.example"
username = "me"
password_file = "secret/not-there"
[[policy]]
domain = ".b\u00fccher.example"
via = "relay.example:587"
username = "me"
password_file = "../p"
`
	if err := os.WriteFile(filepath.Join(dir, "d.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(here, filepath.Join(dir, "d.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"": filepath.Join(dir, "state"), "mine": filepath.Join(here, "mine")} {
		c, err := loadConfig(rel, flag, false)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{c.StateDir, c.Maildrop, c.Socket, c.Relay.PasswordFile, c.Policy[0].PasswordFile}
		wants := []string{want, want + "/maildrop", "/run/x.sock", dir + "/secret/not-there", filepath.Join(dir, "../p")}
		if diff := cmp.Diff(wants, got); diff != "" {
			t.Errorf("--state-dir %q: %s", flag, diff)
		}
		dc, err := deliverRules(c)
		if err != nil || dc.Policies[0].Domain != ".xn--bcher-kva.example" {
			t.Errorf("policies %+v, %v", dc.Policies, err)
		}
		if _, err := deliverConfig(c, nil); err == nil {
			t.Error("the delivering side does without the passwords")
		}
	}
}

// TestSockets: a plain user's program finds root's daemon, whatever root's
// configuration leaves out; one with a configuration of its own stays with it.
func TestSockets(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/home/u/state")
	own := "/home/u/state/danepost/danepost.sock"
	tests := []struct {
		name, file, socket, flag string
		system                   bool
		want                     []string
	}{
		{name: "root", system: true, want: []string{systemSocket}},
		{name: "user", want: []string{systemSocket, own}},
		{name: "user with the system's file", file: defaultConfigFile, want: []string{systemSocket, own}},
		{name: "the system's file names it", file: defaultConfigFile, socket: "/s", want: []string{"/s"}},
		{name: "a file of one's own", file: "/x.toml", want: []string{own}},
		{name: "root's file of his own", file: "/x.toml", system: true, want: []string{systemSocket}},
		{name: "root elsewhere", flag: "/d", system: true, want: []string{"/d/danepost.sock"}},
		{name: "root, the same directory", flag: "/var/lib/danepost/", system: true, want: []string{systemSocket}},
		{name: "user elsewhere", flag: "/d", want: []string{"/d/danepost.sock"}},
		{name: "elsewhere, yet named", file: "/x.toml", socket: "/s", flag: "/d", want: []string{"/s"}},
	}
	for _, tt := range tests {
		c := defaults(tt.system)
		c.File, c.Socket = tt.file, tt.socket
		if err := c.derive(tt.flag, tt.system); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, c.sockets()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
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
