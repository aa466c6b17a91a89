package submit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file of a test's directory and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAliases(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "team", "# the team\nx@example.net, y@example.net\n\nroot\n")
	file := write(t, dir, "aliases", `# system aliases
postmaster:	root
MAILER-DAEMON: postmaster
root: admin@example.net,
	second@example.net
  ,"third one"@example.net
# a comment between
"quoted name": q@example.net
team: :include:`+dir+`/team, "Doe, J." <j@example.net>
self: self, copy@example.net
nightly: nightly@host.example.com, off@example.net
deep: team, root, admin@example.net
localuser: bob
`)
	tests := []struct{ name, want string }{
		{"root", `admin@example.net second@example.net "third one"@example.net`},
		{"ROOT", `admin@example.net second@example.net "third one"@example.net`},
		{"Root@localhost", `admin@example.net second@example.net "third one"@example.net`},
		{"postmaster@host.example.com", `admin@example.net second@example.net "third one"@example.net`},
		{"mailer-daemon", `admin@example.net second@example.net "third one"@example.net`},
		{`"quoted name"`, "q@example.net"},
		{"team", `x@example.net y@example.net admin@example.net second@example.net "third one"@example.net j@example.net`},
		{"self", "pm@example.net copy@example.net"},
		{"nightly", "pm@example.net off@example.net"},
		{"deep", `x@example.net y@example.net admin@example.net second@example.net "third one"@example.net j@example.net`},
		{"localuser", "pm@example.net"},
		{"nobody", "pm@example.net"},
		{"root@example.org", "root@example.org"},
	}
	p := Policy{Hostname: "host.example.com", AliasFile: file, Postmaster: "pm@example.net"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			boxes, err := ParseRecipients(tt.name)
			if err != nil || len(boxes) != 1 {
				t.Fatal(boxes, err)
			}
			var got []string
			for _, r := range p.Resolve(boxes[0]) {
				got = append(got, r.Address+r.Hold)
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("got %s\nwant %s", g, tt.want)
			}
		})
	}
	a, err := LoadAliases(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Check(); err != nil || a.Len() != 9 {
		t.Errorf("check: %v, %d names", err, a.Len())
	}
}

// TestAliasMistakes: newaliases names the line, and mail is held, not lost.
func TestAliasMistakes(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "self")
	write(t, dir, "self", ":include:"+self+"\n")
	// The others' mistakes do not concern root.
	mailHeld := map[string]bool{"loop": true, "pipe": true, "quoted pipe": true, "file": true, "no target": true, "bad target": true,
		"include missing": true, "include relative": true, "include of itself": true, "long entry": true}
	tests := []struct{ name, text, want string }{
		{"loop", "root: a\na: b\nb: a\n", "alias loop: a -> b -> a"},
		{"loop of three", "a: b\nb: c\nc: a\nroot: x@example.net", "alias loop"},
		{"pipe", "root: |/bin/cat\n", ":1: \"|/bin/cat\": piping to programs is not supported"},
		{"quoted pipe", "\n\nroot: \"|/bin/cat -x, y\"\n", ":3: "},
		{"file", "root: /var/mail/root\n", "delivering to files is not supported"},
		{"no colon", "root admin@example.net\n", "no colon"},
		{"no target", "root:\n", "\"root\" has no target"},
		{"no name", ": x@example.net\n", "an entry without a name"},
		{"twice", "root: a@example.net\nroot: b@example.net\n", ":2: \"root\" is defined a second time (first in line 1)"},
		{"bad target", "root: a@b@c\n", ":1: target"},
		{"include missing", "root: :include:/nonexistent/list\n", "/nonexistent/list"},
		{"include relative", "root: :include:list\n", "absolute path"},
		{"include of itself", "root: :include:" + self + "\n", "includes itself"},
		{"long entry", "root: " + strings.Repeat("a@example.net,\n ", 8000), "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, dir, "aliases", tt.text)
			a, err := LoadAliases(file)
			if err == nil {
				err = a.Check()
			}
			if ExitCode(err) != ExitConfig || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v (exit %d), want %q", err, ExitCode(err), tt.want)
			}
			p := Policy{Hostname: "host.example.com", AliasFile: file, Postmaster: "pm@example.net"}
			if r := p.Resolve(Mailbox{Local: "root"}); len(r) != 1 || mailHeld[tt.name] && r[0].Hold == "" {
				t.Errorf("mail for root: %+v, want held", r)
			}
		})
	}
	// A mistake spoils its own entry only.
	file := write(t, dir, "aliases", "spam: |/usr/bin/filter\nroot: admin@example.net\nroot: other@example.net\nno colon\n")
	p := Policy{Hostname: "host.example.com", AliasFile: file, Postmaster: "pm@example.net"}
	if r := p.Resolve(Mailbox{Local: "root"}); len(r) != 1 || r[0].Address != "admin@example.net" || r[0].Hold != "" {
		t.Errorf("mail for root beside mistakes: %+v", r)
	}
	if r := p.Resolve(Mailbox{Local: "spam"}); len(r) != 1 || !strings.Contains(r[0].Hold, "aliases:1: ") {
		t.Errorf("mail for a pipe: %+v", r)
	}
	if a, err := LoadAliases(filepath.Join(dir, "none")); err != nil || a.Len() != 0 {
		t.Errorf("no file: %v", err)
	}
}

func TestResolve(t *testing.T) {
	tests := []struct {
		name string
		p    Policy
		to   string
		want string // address, or "held"
	}{
		{"remote", Policy{Hostname: "h.example.com"}, "a@example.net", "a@example.net"},
		{"unqualified, nothing set", Policy{Hostname: "h.example.com"}, "root", "held root@h.example.com"},
		{"own host, nothing set", Policy{Hostname: "h.example.com"}, "root@H.example.com", "held root@H.example.com"},
		{"no host name", Policy{}, "root", "held root@localhost"},
		{"localhost", Policy{Hostname: "h.example.com", Postmaster: "pm@example.net"}, "root@localhost", "pm@example.net"},
		{"short name", Policy{Hostname: "h.example.com", Postmaster: "pm@example.net"}, "root@h", "pm@example.net"},
		{"short name that is the host name", Policy{Hostname: "h", Postmaster: "pm@example.net"}, "root@h", "pm@example.net"},
		{"further own host", Policy{Hostname: "h.example.com", OwnHosts: []string{"old.example.com"}, Postmaster: "pm@example.net"}, "x@old.example.com", "pm@example.net"},
		{"qualify_domain", Policy{Hostname: "h.example.com", QualifyDomain: "example.com", Postmaster: "pm@example.net"}, "root", "root@example.com"},
		{"own host with qualify_domain", Policy{Hostname: "h.example.com", QualifyDomain: "example.com", Postmaster: "pm@example.net"}, "root@h.example.com", "pm@example.net"},
		{"qualify_domain is the host name", Policy{Hostname: "example.com", QualifyDomain: "example.com"}, "bob@example.com", "bob@example.com"},
		{"host name has mailboxes, unqualified", Policy{Hostname: "example.com", QualifyDomain: "example.com"}, "bob", "bob@example.com"},
		{"postmaster at this host", Policy{Hostname: "h.example.com", Postmaster: "root@h.example.com"}, "root", "held root@h.example.com"},
		{"postmaster unqualified", Policy{Hostname: "h.example.com", Postmaster: "root"}, "root", "held root@h.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			boxes, err := ParseRecipients(tt.to)
			if err != nil {
				t.Fatal(err)
			}
			r := tt.p.Resolve(boxes[0])
			got := r[0].Address
			if r[0].Hold != "" {
				got = "held " + got
				if !strings.Contains(r[0].Hold, "postmaster") {
					t.Errorf("the reason does not say what to set: %s", r[0].Hold)
				}
			}
			if len(r) != 1 || got != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}
