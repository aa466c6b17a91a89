//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"danepost/internal/lab"
	"danepost/internal/lab/tour"
)

// Networks that keep their hosts from port 25. Mail must wait there, for a
// reason that says so, and go out once the network has changed its mind.

// blockedSMTP is a state of the path and what danepost must say of it.
type blockedSMTP struct {
	name  string
	rules rules
	nft   string
	says  string // regular expression
}

func blocksOfSMTP() []blockedSMTP {
	return []blockedSMTP{
		{"port 25 dropped", rules{blockSMTP: true}, incoming("tcp dport 25 drop"), "no answer in time"},
		{"port 25 reset", rules{}, incoming("tcp dport 25 reject with tcp reset"), "connection refused"},
		{"port 25 forbidden by ICMP", rules{}, incoming("tcp dport 25 reject with icmpx admin-prohibited"), "no route to host|prohibited"},
		{"port 25 unreachable by ICMP", rules{}, incoming("tcp dport 25 reject with icmpx port-unreachable"), "connection refused"},
	}
}

// mailServer is Postfix with the one domain of the tree that has mail.
func (t *tree) mailServer(tb *testing.T) *receiver {
	tb.Helper()
	v := postfixReceiver()
	v.net, v.ways = 24, []shown{{"only", t.mailID, nil, "dane-verified", ""}}
	v.root = newRoot(tb, "postfix-far", "postfix")
	err := v.keys()
	if err == nil {
		v.daemon, err = v.start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	v.daemon.stopAtEnd(tb)
	if err := v.daemon.ready(20*time.Second, func() error { return greets(mailHost) }); err != nil {
		tb.Fatal(err)
	}
	return v
}

// install sets danepost up to run in the path's namespace.
func (p *path) install(n *network) (*tour.Program, error) {
	dir, err := workDir("tree", p.name)
	if err != nil {
		return nil, err
	}
	c := lab.Config{Dir: dir, File: filepath.Join(dir, "danepost.toml"), State: filepath.Join(dir, "state")}
	program := filepath.Join(dir, "danepost")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", p.name, danepost()), 0o755); err != nil {
		return nil, err
	}
	return &tour.Program{Path: program, Config: c}, writeFiles(dir, map[string]string{"danepost.toml": fmt.Sprintf(`hostname = "far.interop.test"
state_dir = %q
socket = %q
maildrop = %q
postmaster = "postmaster@mail.bind"
log = "json"
[resolver]
root_hints = %q
trust_anchor = %q
forward = "off"
[queue]
min_free_mb = 1
retry_first = "1s"
[deliver.timeouts]
connect = "5s"
`, c.State, filepath.Join(dir, "danepost.sock"), filepath.Join(dir, "maildrop"), n.hints, n.anchor)})
}

// testBlockedSMTP sends mail over a path that is closed to it at first.
func testBlockedSMTP(t *testing.T, p *path, tr *tree, n *network) {
	v := tr.mailServer(t)
	program, err := p.install(n)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	rows := ""
	for i, b := range blocksOfSMTP() {
		way := p.inState(t, b.nft, b.rules, true)
		if way == "" {
			t.Logf("%s: left out, the kernel has no nftables", b.name)
			continue
		}
		start := time.Now()
		d, err := program.Serve(ctx) // another one each time: it keeps connections for the next message
		if err != nil {
			t.Fatal(err)
		}
		wrong := b.run(t, farMail{ctx, p, program, d, v}, i)
		if err := d.Stop(ctx); err != nil {
			wrong = append(wrong, err.Error())
		}
		for _, w := range wrong {
			t.Errorf("%s (%s): %s", b.name, way, w)
		}
		if len(wrong) > 0 {
			v.showLogs(t)
			t.Fatalf("danepost:\n%s", tail(d.Log(), 40))
		}
		rows += row(b.name, way, "mail waits, then arrives verified", fmt.Sprintf("%.1f s", time.Since(start).Seconds()), strings.ReplaceAll(b.says, "|", " or "))
		t.Logf("%-30s %-9s mail waited, then arrived; %.1f s", b.name, way, time.Since(start).Seconds())
	}
	section(t, "52-smtp", rows)
}

// farMail is danepost at the far end of a path and Postfix at the near one.
type farMail struct {
	ctx     context.Context
	path    *path
	program *tour.Program
	daemon  *tour.Daemon
	postfix *receiver
}

// run returns what was wrong with check, with the mail that had to wait and
// with its delivery over the path opened again.
func (b *blockedSMTP) run(t *testing.T, m farMail, n int) (wrong []string) {
	says := regexp.MustCompile(b.says)
	checked, err := m.program.Run(m.ctx, "", "check", "--json", "mail.bind")
	var report struct {
		Verdict string
		Hosts   []struct{ Probes []struct{ Error string } }
	}
	if err == nil {
		err = json.Unmarshal([]byte(checked.Stdout), &report)
	}
	if err != nil || checked.Code != 1 || report.Verdict != "defer" || len(report.Hosts) != 1 || len(report.Hosts[0].Probes) != 1 || !says.MatchString(report.Hosts[0].Probes[0].Error) {
		wrong = append(wrong, fmt.Sprintf("check: exit status %d, %v\n%s%s", checked.Code, err, checked.Stdout, checked.Stderr))
	}
	to, marker := fmt.Sprintf("box%d@mail.bind", n), fmt.Sprintf("blocked-%d.", n)
	if err := m.program.Send(m.ctx, to, b.name, marker); err != nil {
		return append(wrong, err.Error())
	}
	line, err := m.daemon.Wait(m.ctx, func(l tour.Line) bool { return l.To == to && l.Msg != "accepted" })
	if err != nil || line.Msg != "deferred" || !says.MatchString(line.Reason) || line.DSN == "" || line.DSN[0] != '4' {
		wrong = append(wrong, fmt.Sprintf("the first attempt: %+v (%v)", line, err))
	}
	if got, err := m.postfix.arrived(marker); err != nil || len(got) > 0 {
		wrong = append(wrong, fmt.Sprintf("%d messages arrived through a closed path (%v)", len(got), err))
	}
	m.path.open(t)
	if out, err := m.program.Run(m.ctx, "", "queue", "retry", "--all"); err != nil || out.Code != 0 {
		wrong = append(wrong, fmt.Sprintf("queue retry: %v, exit status %d: %s", err, out.Code, out.Stderr))
	}
	line, err = m.daemon.Wait(m.ctx, func(l tour.Line) bool { return l.To == to && l.Msg == "delivered" })
	if err != nil || line.Security != "dane-verified" {
		wrong = append(wrong, fmt.Sprintf("over the open path: %+v (%v)", line, err))
	}
	if _, err := m.postfix.wait(marker, 10*time.Second); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}
