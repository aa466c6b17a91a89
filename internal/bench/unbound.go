package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"
)

// startUnbound starts a fresh Unbound: Debian's defaults, and what this
// network needs.
func (l *lab) startUnbound(threads int) (*daemon, error) {
	config := filepath.Join(l.scratch, "unbound.conf")
	text := fmt.Sprintf("server:\n\tinterface: 127.0.0.1\n\taccess-control: 127.0.0.0/8 allow\n\tnum-threads: %d\n\tdirectory: %q\n"+
		"\tusername: \"\"\n\tchroot: \"\"\n\tpidfile: \"\"\n\tuse-syslog: no\n\tverbosity: 0\n\troot-hints: %q\n\ttrust-anchor-file: %q\n",
		threads, l.scratch, l.world.path("root.hints"), l.world.path("root.ds"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	d, err := start(l.scratch, "unbound", "unbound", "-d", "-c", config)
	if err != nil {
		return nil, err
	}
	err = d.await(10*time.Second, func() bool {
		m := new(dns.Msg)
		m.SetQuestion("localhost.", dns.TypeA) // answered by itself, past the cache
		c := dns.Client{Timeout: time.Second}
		_, _, err := c.Exchange(m, "127.0.0.1:53")
		return err == nil
	})
	return d, err
}
