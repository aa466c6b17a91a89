//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// oracles are two validators of others' making, pointed at the same root and
// anchor as danepost: unbound, which iterates by itself, and BIND's delv,
// which has a second unbound fetch for it that validates nothing.
type oracles struct {
	dir       string
	validator netip.Addr
	carrier   netip.Addr
	anchor    string // in the form that delv reads
	daemons   []*daemon
}

// startOracles starts both unbounds on the two addresses of 10.53/16 from at.
func (n *network) startOracles(t *testing.T, at string) (*oracles, error) {
	dir := filepath.Join(n.dir, "oracles")
	o := &oracles{dir: dir, validator: netip.MustParseAddr(at), anchor: filepath.Join(n.dir, "delv.keys")}
	o.carrier = o.validator.Next()
	if err := n.writeDelvKeys(o.anchor); err != nil {
		return nil, err
	}
	for _, u := range []struct {
		name, modules string
		at            netip.Addr
	}{{"unbound", "validator iterator", o.validator}, {"unbound-carrier", "iterator", o.carrier}} {
		if err := ownAddress(u.at); err != nil {
			return nil, err
		}
		d, err := n.startUnbound(u.name, u.modules, u.at)
		if err != nil {
			return nil, err
		}
		d.stopAtEnd(t)
		o.daemons = append(o.daemons, d)
	}
	return o, nil
}

// startUnbound runs unbound with its defaults, apart from what a namespace
// needs and room for everything asked in a run.
func (n *network) startUnbound(name, modules string, at netip.Addr) (*daemon, error) {
	dir, err := filepath.Abs(filepath.Join(n.dir, name))
	if err != nil {
		return nil, err
	}
	if _, err := command("mkdir", "-p", dir); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`server:
  interface: %s
  access-control: 0.0.0.0/0 allow
  num-threads: 1
  outgoing-range: 900
  num-queries-per-thread: 450
  directory: %q
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  verbosity: 1
  val-log-level: 2
  val-bogus-ttl: 1
  ede: yes
  module-config: %q
  root-hints: %q
  trust-anchor-file: %q
  do-not-query-localhost: no
  unblock-lan-zones: yes
  insecure-lan-zones: yes
  rrset-cache-size: 64m
  msg-cache-size: 32m
  key-cache-size: 16m
remote-control:
  control-enable: no
`, at, dir, modules, n.hints, n.anchor)
	if err := writeFiles(dir, map[string]string{"unbound.conf": conf}); err != nil {
		return nil, err
	}
	d, err := startDaemon(name, dir, "unbound", "-d", "-c", filepath.Join(dir, "unbound.conf"))
	if err != nil {
		return nil, err
	}
	return d, d.ready(10*time.Second, func() error {
		_, err := recurse(at, question{name: "localhost.", qtype: dns.TypeA}, false)
		return err
	})
}

// writeDelvKeys writes the anchor as a statement of named.conf.
func (n *network) writeDelvKeys(file string) error {
	var b strings.Builder
	b.WriteString("trust-anchors {\n")
	for _, ds := range n.ds {
		d := ds.(*dns.DS)
		fmt.Fprintf(&b, "  . static-ds %d %d %d \"%s\";\n", d.KeyTag, d.Algorithm, d.DigestType, strings.ToUpper(d.Digest))
	}
	b.WriteString("};\n")
	return writeFiles(filepath.Dir(file), map[string]string{filepath.Base(file): b.String()})
}

// recurse asks a recursive server, with the DO bit, and CD if told so. It
// asks again as a stub does: unbound drops the answer to a question that took
// it longer than two seconds (DNSBomb, CVE-2024-33655), but then knows it.
func recurse(at netip.Addr, q question, cd bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.SetEdns0(1232, true)
	m.CheckingDisabled = cd
	to := net.JoinHostPort(at.String(), "53")
	var r *dns.Msg
	var err error
	for range 12 {
		r, _, err = (&dns.Client{Timeout: 2500 * time.Millisecond}).Exchange(m, to)
		if err == nil && r.Truncated {
			r, _, err = (&dns.Client{Net: "tcp", Timeout: 10 * time.Second}).Exchange(m, to)
		}
		if err == nil {
			break
		}
	}
	return r, err
}

// unbound asks the validating unbound.
func (o *oracles) unbound(q question) (result, error) {
	m, err := recurse(o.validator, q, false)
	if err != nil {
		return result{}, fmt.Errorf("unbound %s: %w", q, err)
	}
	r := result{rcode: m.Rcode, status: "insecure"}
	switch {
	case m.Rcode == dns.RcodeServerFailure:
		r.status = refused
		if opt := m.IsEdns0(); opt != nil {
			for _, option := range opt.Option {
				if e, ok := option.(*dns.EDNS0_EDE); ok {
					r.note = fmt.Sprintf("EDE %d %s", e.InfoCode, e.ExtraText)
				}
			}
		}
		return r, nil
	case m.AuthenticatedData:
		r.status = "secure"
	}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == q.qtype {
			r.records = append(r.records, normal(rr))
		}
	}
	r.records = sorted(r.records)
	return r, nil
}

// noVerdict is the note of a result for which delv did not find the time.
const noVerdict = "no verdict"

// delv asks BIND's validator, which gets its data from the carrier. There are
// broken proofs over which it waits for itself until its time is up, twelve
// seconds later; that means refused, and half the time is mostly enough to know.
func (o *oracles) delv(q question) (result, error) { return o.delvWithin(q, 6*time.Second) }

func (o *oracles) delvWithin(q question, limit time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "delv", "@"+o.carrier.String(), "-a", o.anchor, "+root=.", "-q", q.name, "-t", dns.Type(q.qtype).String())
	out, _ := cmd.CombinedOutput() // its exit status says nothing that the text does not
	if ctx.Err() != nil {
		return result{rcode: dns.RcodeServerFailure, status: refused, note: noVerdict}, nil
	}
	r, err := readDelv(string(out), q.qtype)
	if err != nil {
		err = fmt.Errorf("delv %s: %w\n%s", q, err, out)
	}
	return r, err
}

// readDelv reads what delv prints: for each RRset on the way a comment that
// says what it is worth, then its records; denials are comments themselves.
func readDelv(out string, qtype uint16) (result, error) {
	r := result{rcode: dns.RcodeSuccess}
	words := 0
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if _, why, failed := strings.Cut(line, ";; resolution failed: "); failed {
			switch why {
			case "ncache nxdomain":
				r.rcode = dns.RcodeNameError
			case "ncache nxrrset":
			default:
				return result{rcode: dns.RcodeServerFailure, status: refused, note: why}, nil
			}
			continue
		}
		switch strings.TrimPrefix(strings.TrimPrefix(line, "; "), "negative response, ") {
		case "fully validated":
			words++
			if r.status == "" {
				r.status = "secure"
			}
		case "signed answer, pending validation": // it gave up on the proof and says no more
			return result{rcode: dns.RcodeServerFailure, status: refused, note: "pending validation"}, nil
		case "unsigned answer":
			words++
			r.status = "insecure"
		}
		if line == "" || line[0] == ';' {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			return r, err
		}
		if rr.Header().Rrtype == qtype {
			r.records = append(r.records, normal(rr))
		}
	}
	if words == 0 {
		return r, errors.New("nothing said of what the answer is worth")
	}
	r.records = sorted(r.records)
	return r, nil
}
