//go:build interop

package interop

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/internal/lab"
)

// The same calls of sendmail, made to danepost and to what else small hosts
// use: each program in a root of its own, set up as its package does it, with
// a next server that takes everything and remembers it.

// tableVar names the file to write the table to.
const tableVar = "DANEPOST_PEERS_TABLE"

// peer is one program that provides /usr/sbin/sendmail.
type peer struct {
	name    string
	next    *lab.Receiver
	root    *root
	results []outcome
}

// outcome is what came of one input: nothing to complain of, or what.
type outcome struct {
	code  int
	wrong []string
}

func testPeers(t *testing.T) {
	h := newHome()
	peers := []*peer{{name: "danepost", next: h.inbox}}
	for _, name := range []string{"postfix", "dma", "msmtp", "nullmailer"} {
		peers = append(peers, &peer{name: name, next: h.lab.Receiver("next."+name, nil)})
	}
	h.start(t)
	for _, p := range peers {
		p.root = newRoot(t, "peer-"+p.name, p.name)
		if err := p.setUp(t, h); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			if err := p.runAll(); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
		})
	}
	wg.Wait()
	for i, in := range inputs() {
		ours := peers[0].results[i]
		if ours.code != in.code {
			t.Errorf("%s: exit status %d, want %d", in.name, ours.code, in.code)
		}
		for _, wrong := range ours.wrong {
			t.Errorf("%s: %s", in.name, wrong)
		}
	}
	compareSpeed(t, peers[0], peers[1])
	table := peerTable(peers)
	t.Logf("\n%s", table)
	if file := os.Getenv(tableVar); file != "" {
		if err := os.WriteFile(file, []byte(table), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// setUp configures the program and starts what it needs beside sendmail.
func (p *peer) setUp(t *testing.T, h *home) error {
	if err := p.root.own("www-data", "/home/www"); err != nil {
		return err
	}
	if err := p.root.write(map[string]string{"/etc/mailname": "host.home.demo\n", "/etc/aliases": "root: admin@inbox.demo\n"}); err != nil {
		return err
	}
	switch p.name {
	case "danepost":
		if err := h.install(p.root); err != nil {
			return err
		}
		return serve(t, p.root)
	case "postfix":
		d, err := startPostfix(p.root, `myhostname = host.home.demo
mydestination = host.home.demo, localhost
alias_maps = texthash:/etc/postfix/aliases
relayhost = [`+p.next.Addr()+`]
`, "")
		if err != nil {
			return err
		}
		d.stopAtEnd(t)
		if err := p.root.write(map[string]string{"/etc/postfix/aliases": "root admin@inbox.demo\n"}); err != nil {
			return err
		}
		return d.ready(20*time.Second, func() error {
			_, err := os.Stat(p.root.path("/var/spool/postfix/public/pickup"))
			return err
		})
	case "dma":
		return p.root.write(map[string]string{"/etc/dma/dma.conf": "SMARTHOST " + p.next.Addr() + "\nPORT 25\nALIASES /etc/aliases\nSPOOLDIR /var/spool/dma\nMAILNAME /etc/mailname\n"})
	case "msmtp":
		return p.root.write(map[string]string{"/etc/msmtprc": "defaults\nauth off\ntls off\naliases /etc/aliases\naccount default\nhost " + p.next.Addr() + "\nport 25\nfrom %U@host.home.demo\n"})
	}
	return p.startNullmailer(t)
}

func (p *peer) startNullmailer(t *testing.T) error {
	err := p.root.write(map[string]string{
		"/etc/nullmailer/remotes": p.next.Addr() + " smtp\n", "/etc/nullmailer/me": "host.home.demo\n",
		"/etc/nullmailer/defaultdomain": "home.demo\n", "/etc/nullmailer/adminaddr": "admin@inbox.demo\n",
	})
	if err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"mkfifo", "-m", "622", "/var/spool/nullmailer/trigger"}, {"chown", "mail:root", "/var/spool/nullmailer/trigger"},
	} {
		if _, err := p.root.run(argv...); err != nil {
			return err
		}
	}
	d, err := startDaemon("nullmailer", "/", p.root.argv("mail", "/usr/sbin/nullmailer-send")...)
	if err == nil {
		d.stopAtEnd(t)
	}
	return err
}

// runAll makes all calls, waits until the last message has come and judges.
func (p *peer) runAll() error {
	var ends []ran
	for i, in := range inputs() {
		out, err := p.root.do(call{user: "www-data", argv: append([]string{"timeout", "20", "/usr/sbin/sendmail"}, in.expand(i, in.argv...)...),
			env: []string{"HOME=/home/www", "USER=www-data", "LOGNAME=www-data"}, stdin: in.expand(i, in.stdin)[0]})
		if err != nil {
			return fmt.Errorf("%s: %w", in.name, err)
		}
		ends = append(ends, out)
	}
	for n, quiet := -1, 0; quiet < 4; time.Sleep(500 * time.Millisecond) {
		if now := len(p.next.Messages()); now == n {
			quiet++
		} else {
			n, quiet = now, 0
		}
	}
	messages := p.next.Messages()
	for i, in := range inputs() {
		var got []lab.Message
		for _, m := range messages {
			if in.owns(i, m) {
				got = append(got, m)
			}
		}
		r := outcome{code: ends[i].code, wrong: in.judge(i, ends[i], got)}
		if file := "/tmp/log-" + tokenOf(i); exists(p.root.path(file)) {
			r.wrong = append(r.wrong, "writes the file it was told to")
		}
		p.results = append(p.results, r)
	}
	return nil
}

// tokenOf is {n} of input i.
func tokenOf(i int) string { return fmt.Sprintf("input%02dx", i) }

func (in input) expand(i int, texts ...string) []string {
	n := tokenOf(i)
	r := strings.NewReplacer("{n}", n, "{a}", "a-"+n+"@inbox.demo", "{b}", "b-"+n+"@inbox.demo", "{c}", "c-"+n+"@inbox.demo")
	var out []string
	for _, t := range texts {
		out = append(out, r.Replace(t))
	}
	return out
}

// owns reports whether a message came of input i.
func (in input) owns(i int, m lab.Message) bool {
	return strings.Contains(m.Data, tokenOf(i)) || slices.ContainsFunc(m.To, func(a string) bool { return strings.Contains(a, tokenOf(i)) })
}

// judge says in a few words each what is wrong with the messages that came.
func (in input) judge(i int, end ran, got []lab.Message) []string {
	if in.code != 0 {
		switch {
		case len(got) > 0 && end.code == 0:
			return []string{"sent"}
		case len(got) > 0:
			return []string{fmt.Sprintf("sent, exit %d", end.code)}
		case end.code == 0:
			return []string{"exit 0, nothing sent"}
		case end.code == 124:
			return []string{"hangs"}
		}
		return nil
	}
	var wrong []string
	if end.code != 0 {
		wrong = append(wrong, fmt.Sprintf("exit %d", end.code))
	}
	if len(got) == 0 {
		return append(wrong, map[bool]string{true: "exit 0, not sent", false: "not sent"}[end.code == 0])
	}
	wrong = append(wrong, in.judgeEnvelope(i, got)...)
	for _, m := range got {
		wrong = append(wrong, in.judgeMessage(i, m)...)
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

func (in input) judgeEnvelope(i int, got []lab.Message) []string {
	var wrong, to []string
	for _, m := range got {
		to = append(to, m.To...)
		want := map[string]string{"": caller, nobody: ""}[in.from]
		if in.from != "" && in.from != nobody {
			want = in.from
		}
		if m.From != want {
			wrong = append(wrong, fmt.Sprintf("sender <%s>", m.From))
		}
	}
	want := in.expand(i, in.to...)
	missing := slices.DeleteFunc(slices.Clone(want), func(a string) bool { return slices.Contains(to, a) })
	extra := slices.DeleteFunc(slices.Clone(to), func(a string) bool { return slices.Contains(want, a) })
	short := func(list []string) string {
		if len(list) > 2 {
			return fmt.Sprintf("%d recipients", len(list))
		}
		return strings.NewReplacer("-"+tokenOf(i), "", tokenOf(i), "", "@inbox.demo", "").Replace(strings.Join(list, ", "))
	}
	if len(missing) > 0 {
		wrong = append(wrong, "not to "+short(missing))
	}
	if len(extra) > 0 {
		wrong = append(wrong, "sent to "+short(extra))
	}
	if len(missing) == 0 && len(extra) == 0 && len(to) > len(want) {
		wrong = append(wrong, "sent twice")
	}
	if p := in.expand(i, in.params)[0]; p != "" && !slices.Contains(got[0].Params, p) {
		wrong = append(wrong, "DSN parameters dropped")
	}
	return wrong
}

func (in input) judgeMessage(i int, m lab.Message) []string {
	var wrong []string
	data := strings.ReplaceAll(m.Data, "\r\n", "\n")
	head, body, _ := strings.Cut(data, "\n\n")
	head = "\n" + head
	if strings.Contains(data, "\r") {
		wrong = append(wrong, "bare CR")
	}
	for _, name := range []string{"From", "Date", "Message-ID"} {
		n := len(regexp.MustCompile(`(?i)\n`+name+`:`).FindAllString(head, -1))
		if n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s %s", map[bool]string{true: "no", false: "two"}[n == 0], name))
		}
	}
	for _, line := range strings.Split(data, "\n") {
		if len(line) > 998 {
			wrong = append(wrong, "a line too long for SMTP")
			break
		}
	}
	if want := in.expand(i, in.body)[0]; want != "" && body != want {
		wrong = append(wrong, "body "+map[bool]string{true: "cut", false: "changed"}[strings.HasPrefix(want, strings.TrimSuffix(body, "\n"))])
	}
	for _, s := range in.expand(i, in.has...) {
		if !strings.Contains(head, s) {
			wrong = append(wrong, "no "+strings.TrimSpace(s))
		}
	}
	for j, s := range in.expand(i, in.hasNot...) {
		if strings.Contains(data, s) {
			wrong = append(wrong, fmt.Sprintf("%q kept", in.hasNot[j]))
		}
	}
	return wrong
}

// peerTable is docs/peers.md.
func peerTable(peers []*peer) string {
	var b strings.Builder
	b.WriteString(`# What sendmail makes of it

The same calls, made to danepost and to what else small hosts use as their sendmail: all run, none from memory.
` + "`make peers`" + ` runs them again and writes this file. "ok" is what the caller may expect: everybody named gets
one copy, nobody else does, secrets stay secret, the text arrives as it was written, and the exit status tells.

`)
	b.WriteString("| input |")
	for _, p := range peers {
		fmt.Fprintf(&b, " %s |", p.label())
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(peers)) + "\n")
	good := make([]int, len(peers))
	for i, in := range inputs() {
		fmt.Fprintf(&b, "| %s |", in.name)
		for j, p := range peers {
			r := p.results[i]
			cell := strings.Join(r.wrong, "; ")
			if cell == "" {
				good[j]++
				cell = "ok"
				if r.code != 0 {
					cell = fmt.Sprintf("ok (%d)", r.code)
				}
			}
			fmt.Fprintf(&b, " %s |", strings.ReplaceAll(cell, "|", "\\|"))
		}
		b.WriteString("\n")
	}
	b.WriteString("| **right** |")
	for _, n := range good {
		fmt.Fprintf(&b, " **%d of %d** |", n, len(inputs()))
	}
	return b.String() + "\n"
}

// label is the program's name with its version.
func (p *peer) label() string {
	if p.name == "danepost" {
		return p.name
	}
	return p.name + " " + packageVersion(p.name, rootPackages()[p.name][0])
}
