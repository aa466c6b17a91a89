//go:build interop

package interop

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// startValidator runs unbound at an address of 10.53/16 for programs that
// have no validator of their own.
func startValidator(t *testing.T, n *network, at string) error {
	dir, err := workDir("validator")
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(`server:
  interface: %s
  access-control: 0.0.0.0/0 allow
  num-threads: 1
  directory: %q
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  val-log-level: 2
  root-hints: %q
  trust-anchor-file: %q
  do-not-query-localhost: no
  unblock-lan-zones: yes
  insecure-lan-zones: yes
remote-control:
  control-enable: no
`, at, dir, n.hints, n.anchor)
	if err := writeFiles(dir, map[string]string{"unbound.conf": conf}); err != nil {
		return err
	}
	d, err := startDaemon("unbound", dir, "unbound", "-d", "-c", filepath.Join(dir, "unbound.conf"))
	if err != nil {
		return err
	}
	d.stopAtEnd(t)
	time.Sleep(time.Second)
	return nil
}
