package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// authority is one NSD and a name that it must answer for when it is up.
type authority struct {
	*daemon
	config string
}

func (w *World) nsdConfig(name string, addrs, zones []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n\tserver-count: 1\n\tusername: \"\"\n\tzonesdir: %q\n\tpidfile: \"\"\n\tdatabase: \"\"\n"+
		"\tzonelistfile: %q\n\txfrdfile: \"\"\n\txfrdir: %q\n\tverbosity: 0\n\trrl-ratelimit: 0\n\ttcp-count: 200\n",
		w.Dir, w.path(name+".zonelist"), w.Dir)
	for _, a := range addrs {
		fmt.Fprintf(&b, "\tip-address: %s\n", a)
	}
	fmt.Fprintf(&b, "remote-control:\n\tcontrol-enable: yes\n\tcontrol-interface: %q\n", w.path(name+".ctl"))
	for _, z := range zones {
		fmt.Fprintf(&b, "zone:\n\tname: %q\n\tzonefile: %q\n", z, zoneFile(z))
	}
	return b.String()
}

// serve starts the name servers and waits until each answers.
func (w *World) serve(logs string) error {
	for _, a := range []struct{ name, addr, probe string }{
		{"nsd-root", rootServer, "."},
		{"nsd-tld", tldServer, tlds[0] + "."},
		{"nsd-leaf", serverOf(0), w.Domain(0) + "."},
	} {
		d, err := start(logs, a.name, "nsd", "-d", "-c", w.path(a.name))
		if err != nil {
			return err
		}
		w.serves = append(w.serves, authority{d, w.path(a.name)})
		if err := d.await(time.Minute, func() bool { return answers(a.addr, a.probe) }); err != nil {
			return err
		}
	}
	return nil
}

func answers(server, name string) bool {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeSOA)
	c := dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(m, server+":53")
	return err == nil && r.Rcode == dns.RcodeSuccess
}

// close stops the name servers.
func (w *World) close() error {
	var all []*daemon
	for _, a := range w.serves {
		all = append(all, a.daemon)
	}
	w.serves = nil
	return stopAll(all...)
}

// queries returns how many queries the name servers had since the last call.
func (w *World) queries() (float64, error) {
	total := 0.0
	for _, a := range w.serves {
		out, err := run("nsd-control", "-c", a.config, "stats")
		if err != nil {
			return 0, err
		}
		n, err := statistic(out, "num.queries=")
		if err != nil {
			return 0, fmt.Errorf("nsd-control stats: %w", err)
		}
		total += n
	}
	return total, nil
}

// statistic finds key's value among lines of key=value.
func statistic(lines, key string) (float64, error) {
	for line := range strings.Lines(lines) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("no %s", key)
}
