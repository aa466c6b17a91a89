//go:build interop

package interop

import (
	"context"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"danepost/internal/lab"
)

// home is the lab in which danepost is installed as the host's sendmail: it
// sends from host.home.demo, and anybody at inbox.demo gets mail.
type home struct {
	lab   *lab.Lab
	inbox *lab.Receiver
	files map[string]string // what /etc/danepost.toml names
}

// newHome declares the lab; more may add to it before start.
func newHome() *home {
	l := lab.New(lab.Options{DNSPort: 53, SMTPPort: 25})
	l.Zone("demo.", lab.Signing{})
	h := &home{lab: l}
	h.inbox = h.pinned("inbox.demo")
	return h
}

// pinned adds a domain whose only receiver takes everything and is named in DNS.
func (h *home) pinned(domain string) *lab.Receiver {
	id := lab.SelfSigned("mx." + domain)
	r := h.lab.Receiver("mx."+domain, id)
	h.lab.Zone(domain+".", lab.Signing{}).Add("@ MX 10 mx", "mx A "+r.Addr(), "_25._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	return r
}

func (h *home) start(t *testing.T) {
	t.Helper()
	if err := h.lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.lab.Close)
	dir, err := workDir("home")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.lab.WriteConfig(dir); err != nil {
		t.Fatal(err)
	}
	h.files = map[string]string{}
	for _, name := range []string{"root.hints", "root.key"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		h.files["/etc/interop/"+name] = string(text)
	}
}

// install puts danepost into a root as the packages do, with their own
// set-up, in place of whatever sendmail the host has.
func (h *home) install(r *root, more ...string) error {
	binary, err := os.ReadFile(danepost())
	if err != nil {
		return err
	}
	for _, name := range []string{"/usr/sbin/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases", "/usr/lib/sendmail"} {
		if err := os.RemoveAll(r.path(name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(r.path("/usr/bin/danepost"), binary, 0o755); err != nil {
		return err
	}
	setup, err := os.ReadFile("../../../packaging/setup.sh")
	if err != nil {
		return err
	}
	for _, name := range []string{"/usr/sbin/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases"} {
		if err := os.Symlink("/usr/bin/danepost", r.path(name)); err != nil {
			return err
		}
	}
	if err := r.write(h.files); err != nil {
		return err
	}
	if err := r.write(map[string]string{
		"/tmp/setup": string(setup),
		"/etc/danepost.toml": `hostname = "host.home.demo"
postmaster = "admin@inbox.demo"
log = "json"
` + strings.Join(more, "\n") + `
[resolver]
root_hints = "/etc/interop/root.hints"
trust_anchor = "/etc/interop/root.key"
forward = "off"
[queue]
min_free_mb = 1
retry_first = "1s"
`}); err != nil {
		return err
	}
	_, err = r.run("/bin/sh", "/tmp/setup", "/usr/bin/danepost")
	return err
}

// serve starts the daemon in a root and waits for its socket.
func serve(t *testing.T, r *root) error {
	d, err := r.start("danepost", "/usr/bin/danepost", "serve")
	if err != nil {
		return err
	}
	d.stopAtEnd(t)
	return d.ready(20*time.Second, func() error {
		text, err := os.ReadFile(d.log)
		if err == nil && !strings.Contains(string(text), `"msg":"started"`) {
			err = fmt.Errorf("not started")
		}
		return err
	})
}

// received waits for the message that holds marker and is for all of the
// recipients; copies for some of them are put together.
func received(ctx context.Context, r *lab.Receiver, marker string, recipients ...string) ([]lab.Message, error) {
	for {
		var got []lab.Message
		var to []string
		for _, m := range r.Messages() {
			if strings.Contains(m.Data, marker) {
				got = append(got, m)
				to = append(to, m.To...)
			}
		}
		missing := slices.DeleteFunc(slices.Clone(recipients), func(a string) bool { return slices.Contains(to, a) })
		if len(missing) == 0 && len(to) > len(recipients) {
			return got, fmt.Errorf("%s arrived for %v, wanted %v", marker, to, recipients)
		}
		if len(missing) == 0 && len(got) > 0 {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return got, fmt.Errorf("%s arrived for %v, wanted %v", marker, to, recipients)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wellFormed checks what every message must have, whoever wrote it, and that
// no address in hidden can be read from it.
func wellFormed(data string, hidden ...string) []string {
	var wrong []string
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		return []string{"the header does not parse: " + err.Error()}
	}
	for _, name := range []string{"From", "Date", "Message-Id"} {
		if n := len(m.Header[name]); n != 1 {
			wrong = append(wrong, fmt.Sprintf("%d %s fields", n, name))
		}
	}
	if len(m.Header["Received"]) == 0 {
		wrong = append(wrong, "no Received field")
	}
	for _, name := range []string{"Bcc", "Return-Path", "Content-Length"} {
		if len(m.Header[name]) > 0 {
			wrong = append(wrong, "a field "+name)
		}
	}
	for _, address := range hidden {
		if strings.Contains(data, address) {
			wrong = append(wrong, address+" can be read in it")
		}
	}
	if i := strings.Index(strings.ReplaceAll(data, "\r\n", ""), "\n"); i >= 0 {
		wrong = append(wrong, "a bare LF")
	}
	return wrong
}
