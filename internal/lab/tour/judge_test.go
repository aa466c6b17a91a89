package tour

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// TestUnboundAgrees has a validator that nobody here wrote judge the lab's
// zones: what danepost must call secure is authenticated for it too, and so
// on. It needs port 53, so root, and Unbound; `make interop` asks for it.
func TestUnboundAgrees(t *testing.T) {
	if os.Getenv("DANEPOST_INTEROP") == "" {
		t.Skip("DANEPOST_INTEROP is not set")
	}
	bin, err := exec.LookPath("unbound")
	if err != nil {
		t.Fatal(err)
	}
	for name, furnish := range map[string]func(lab.Options) *World{"tour": New, "matrix": NewMatrix} {
		t.Run(name, func(t *testing.T) {
			w := furnish(lab.Options{DNSPort: 53})
			if err := w.Lab.Start(); err != nil {
				t.Fatal(err)
			}
			defer w.Lab.Close()
			c, err := w.Lab.WriteConfig(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			ask := startUnbound(t, bin, c)
			for _, s := range w.Stops {
				m := ask(s.Domain+".", dns.TypeMX)
				got := "insecure"
				switch {
				case m.Rcode == dns.RcodeServerFailure:
					got = "bogus"
				case m.AuthenticatedData:
					got = "secure"
				}
				want := s.Want.MXStatus
				switch {
				case s.Domain == "rsasha1.demo": // RFC 9905 §2 is younger than what Debian ships
					continue
				case want == "null":
					want = "secure"
				case want == "indeterminate": // SERVFAIL to those who ask a resolver
					want = "bogus"
				case want == "" || want == "none":
					continue
				}
				if got != want {
					t.Errorf("%s MX: %s, want %s\n%s", s.Domain, got, want, m)
				}
			}
		})
	}
}

func startUnbound(t *testing.T, bin string, c lab.Config) func(string, uint16) *dns.Msg {
	t.Helper()
	const at = "127.0.0.1:5354"
	conf := filepath.Join(c.Dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: 127.0.0.1@5354
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  do-ip6: no
  root-hints: %q
  trust-anchor-file: %q
remote-control:
  control-enable: no
`, c.Dir, filepath.Join(c.Dir, "root.hints"), filepath.Join(c.Dir, "root.key"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "-d", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() }) //nolint:errcheck // it was killed
	client := dns.Client{Timeout: 10 * time.Second}
	ask := func(name string, qtype uint16) *dns.Msg {
		m := new(dns.Msg).SetQuestion(name, qtype)
		m.SetEdns0(1232, true)
		r, _, err := client.Exchange(m, at)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	for range 100 {
		if conn, err := net.Dial("tcp", at); err == nil {
			conn.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ask
}
