//go:build interop

package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"danepost/internal/lab"
	"danepost/internal/lab/tour"
)

// The listener on a network: who may send through it, and who may not,
// whatever he says. swaks does the asking.
const (
	listener = "10.53.29.1"
	friend   = "10.53.29.9"   // in [submission] allow
	stranger = "10.53.29.200" // not
)

// password is that of the user named scanner.
const password = "correct horse"

// probe is one run of swaks.
type probe struct {
	name string
	from string // address that it connects from
	args []string
	to   string // default an address at inbox.demo
	sent bool   // it must be accepted, and arrive
}

func probes() []probe {
	out := []probe{
		{name: "friend", from: friend, sent: true},
		{name: "friend over TLS", from: friend, args: []string{"-tls"}, sent: true},
		{name: "friend, null sender", from: friend, args: []string{"--from", "<>"}, sent: true},
		{name: "friend to himself", from: friend, to: "root", args: nil, sent: false},
		{name: "stranger", from: stranger},
		{name: "stranger over TLS", from: stranger, args: []string{"-tls"}},
		{name: "stranger, null sender", from: stranger, args: []string{"--from", "<>"}},
		{name: "stranger as local user", from: stranger, args: []string{"--from", "root@host.home.demo"}},
		{name: "stranger calling himself localhost", from: stranger, args: []string{"--ehlo", "localhost"}},
		{name: "stranger with XCLIENT", from: stranger, args: []string{"--xclient", "ADDR=" + friend, "--xclient-no-verify", "--xclient-optional"}},
		{name: "stranger with PROXY", from: stranger, args: []string{"--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", friend, "--proxy-source-port", "999",
			"--proxy-dest", listener, "--proxy-dest-port", "25"}},
		{name: "stranger with PIPELINING", from: stranger, args: []string{"--pipeline"}},
	}
	auth := func(password string, more ...string) []string {
		return append([]string{"--auth", "PLAIN", "--auth-user", "scanner", "--auth-password", password}, more...)
	}
	out = append(out,
		probe{name: "stranger with AUTH", from: stranger, args: auth(password, "-tls"), sent: true},
		probe{name: "stranger with AUTH and a wrong password", from: stranger, args: auth("wrong", "-tls")},
		probe{name: "stranger with AUTH in the clear", from: stranger, args: auth(password)},
	)
	for _, to := range []string{ // the old tricks
		"box%inbox.demo@host.home.demo", "box%inbox.demo@" + listener, "box%inbox.demo@[" + listener + "]", "box@inbox.demo@host.home.demo",
		"@host.home.demo:box@inbox.demo", `"box@inbox.demo"`, `"box@inbox.demo"@host.home.demo`, "inbox.demo!box", "inbox.demo!box@host.home.demo",
		"box@[" + "127.25.1.1" + "]", "box%inbox.demo", "box@inbox.demo.", "root@host.home.demo", "root", "postmaster",
	} {
		out = append(out, probe{name: "stranger to " + to, from: stranger, to: to})
	}
	return out
}

// testRelay probes danepost's listener as an open relay.
func testRelay(t *testing.T) {
	h := newHome()
	h.start(t)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	id := lab.SelfSigned("host.home.demo")
	chain, key := pemOf(id)
	dir, err := workDir("relay")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(dir, map[string]string{"users": "scanner:" + string(hash) + "\n", "crt": chain, "key": key}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "users"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := h.lab.WriteConfig(dir, `hostname = "host.home.demo"`, `submission.listen = "`+listener+`:25"`, `submission.allow = ["10.53.29.0/25"]`,
		`submission.users_file = "`+dir+`/users"`, `submission.tls_cert = "`+dir+`/crt"`, `submission.tls_key = "`+dir+`/key"`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	p := &tour.Program{Path: danepost(), Config: c}
	d, err := p.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop(ctx) //nolint:errcheck // only its mail matters here
	r := newRoot(t, "relay", "submitters")
	accepted := 0
	for i, q := range probes() {
		token := fmt.Sprintf("probe-%d-end", i)
		if err := q.run(ctx, h, r, token); err != nil {
			t.Errorf("%s: %v", q.name, err)
		} else if q.sent {
			accepted++
		}
	}
	time.Sleep(time.Second) // whatever was taken by mistake would be under way
	for _, m := range h.inbox.Messages() {
		if strings.Contains(m.Data, "refuse-") {
			t.Errorf("this must not have been taken: %v\n%s", m.To, m.Data)
		}
	}
	t.Logf("%d probes, %d accepted", len(probes()), accepted)
	section(t, "85-relay", fmt.Sprintf("\n## Open relay\n\n%d probes by swaks against the listener: %d accepted, those that must be.\n", len(probes()), accepted))
}

func (q probe) run(ctx context.Context, h *home, r *root, token string) error {
	if q.to == "" {
		q.to = token + "@inbox.demo"
	}
	mark := "refuse-"
	if q.sent || q.from == friend {
		mark = "accept-"
	}
	argv := []string{"swaks", "--server", listener, "--local-interface", q.from, "--to", q.to, "--from", "robot@home.demo", "--body", mark + token, "--timeout", "15"}
	out, err := r.do(call{argv: append(argv, q.args...)})
	switch {
	case err != nil:
		return err
	case q.from == friend && !q.sent:
		return nil // it may be refused or held; it is no relaying
	case q.sent != (out.code == 0):
		return fmt.Errorf("swaks ends with %d\n%s", out.code, out.stdout+out.stderr)
	case !q.sent:
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = received(limit, h.inbox, mark+token, q.to)
	return err
}
