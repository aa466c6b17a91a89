package tlsa

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An oracle asks the openssl command what it makes of a chain and a record
// set: s_client talks to a TLS server of ours that shows the chain.
type oracle struct {
	t       testing.TB
	command string
	now     time.Time
}

func newOracle(t testing.TB) *oracle {
	command, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("the openssl command is not installed")
	}
	return &oracle{t, command, mustTime(t, vectorTime)}
}

// askAll asks with each reference identifier in turn, as s_client takes one:
// OpenSSL agrees if it does for one of them.
func (o *oracle) askAll(q Query, key crypto.Signer) opinion {
	var last opinion
	for _, name := range q.Names {
		if last = o.ask(q, name, key); last.ok {
			break
		}
	}
	return last
}

// opinion is OpenSSL's verdict: "ok" with a depth, or its error.
type opinion struct {
	ok    bool
	depth int
	text  string
}

var (
	matchLine = regexp.MustCompile(`DANE TLSA .* (?:matched|signed) .* at depth (\d+)`)
	errorLine = regexp.MustCompile(`(?:Verification error|verify error:num=\d+|Verify return code): ?(.*)`)
)

func (o *oracle) ask(q Query, name string, key crypto.Signer) opinion {
	o.t.Helper()
	addr, done := o.serve(q.Chain, key)
	args := []string{"s_client", "-connect", addr, "-brief", "-verify_return_error", "-dane_ee_no_namechecks",
		"-attime", strconv.FormatInt(o.now.Unix(), 10), "-cipher", "DEFAULT@SECLEVEL=0", "-dane_tlsa_domain", name}
	for _, r := range q.Records {
		if len(r.Data) == 0 {
			continue // s_client has no way to say it
		}
		args = append(args, "-dane_tlsa_rrdata", fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, o.command, args...).CombinedOutput()
	done()
	text := string(out)
	if m := matchLine.FindStringSubmatch(text); m != nil && strings.Contains(text, "Verification: OK") {
		depth, _ := strconv.Atoi(m[1])
		return opinion{true, depth, m[0]}
	}
	if m := errorLine.FindStringSubmatch(text); m != nil {
		return opinion{text: strings.TrimSpace(m[1])}
	}
	return opinion{text: "the handshake failed"}
}

// serve shows a chain to one client. done waits for the server's end.
func (o *oracle) serve(chain [][]byte, key crypto.Signer) (addr string, done func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(o.t, err)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{{
			Certificate: chain, PrivateKey: key, Leaf: &x509.Certificate{PublicKey: key.Public()}}}})
		if server.Handshake() == nil {
			_, _ = server.Read(make([]byte, 1))
		}
	}()
	return l.Addr().String(), func() { l.Close(); <-finished }
}

// compare returns "" if both agree, else what OpenSSL said.
func (op opinion) compare(v Verdict) string {
	switch {
	case op.ok && v.Outcome == Matched && op.depth == v.Depth, !op.ok && v.Outcome != Matched:
		return ""
	case op.ok:
		return fmt.Sprintf("ok at depth %d", op.depth)
	}
	return op.text
}

// TestOracleCases asks OpenSSL about every case of testdata/vectors and
// holds the disagreements to the table testdata/openssl.txt.
func TestOracleCases(t *testing.T) {
	if testing.Short() {
		t.Skip("asks another program 100 times")
	}
	o := newOracle(t)
	known := readDifferences(t)
	for file, cases := range caseFiles() {
		m := &mint{t: t, now: o.now, byDER: map[string]crypto.Signer{}}
		for _, c := range cases(m) {
			if c.names == nil {
				c.names = []string{mx, "example.com"}
			}
			if len(c.chain) == 0 || len(Usable(c.records)) == 0 || m.byDER[string(c.chain[0])] == nil || c.names[0] == "" {
				continue // nothing to ask: no chain, no key to serve it with, no DANE at all, no name
			}
			name := file + "/" + c.name
			q := Query{Records: c.records, Chain: c.chain, Names: c.names, Now: o.now}
			said := o.askAll(q, m.byDER[string(c.chain[0])]).compare(Verify(q))
			if want := known[name]; said != want {
				t.Errorf("%s: OpenSSL says %q, the table %q", name, said, want)
			}
			delete(known, name)
		}
	}
	for name := range known {
		t.Errorf("the table has %s, which was not asked", name)
	}
}

// readDifferences reads lines "file/case | what OpenSSL says | why we differ".
func readDifferences(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "openssl.txt"))
	must(t, err)
	out := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "|")
		if len(f) != 3 || strings.TrimSpace(f[2]) == "" {
			t.Fatalf("%q has not three parts", line)
		}
		out[strings.TrimSpace(f[0])] = strings.TrimSpace(f[1])
	}
	return out
}

// TestOracleScenes asks OpenSSL about a sample of random scenes.
// DANEPOST_ORACLE sets how many.
func TestOracleScenes(t *testing.T) {
	if testing.Short() {
		t.Skip("asks another program 25 times")
	}
	o := newOracle(t)
	n := 25
	if s := os.Getenv("DANEPOST_ORACLE"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
	}
	stage := newStage(t, uint64(n))
	for i := range n {
		sc := stage.scene()
		if len(sc.counting()) == 0 {
			continue
		}
		q := Query{Records: sc.record, Chain: sc.chain, Names: []string{mx}, Now: o.now}
		said := o.askAll(q, sc.certs[0].key).compare(Verify(q))
		if said != "" && !sc.laxAnchor(said) {
			t.Errorf("scene %d: OpenSSL says %s, we %+v\n%s", i, said, Verify(q), sc)
		}
	}
}

// laxAnchor is the known difference that scenes can run into (testdata/openssl.txt,
// dates-and-names/expired-anchor-intermediate): OpenSSL does not look at the
// dates of an anchor that is not self-signed.
func (sc *scene) laxAnchor(said string) bool {
	var depth int
	if _, err := fmt.Sscanf(said, "ok at depth %d", &depth); err != nil || depth == 0 || depth == len(sc.certs)-1 {
		return false
	}
	dates := []string{"expired", "future"}
	return slices.Contains(dates, sc.flaws[depth]) && !slices.ContainsFunc(sc.flaws[:depth], func(f string) bool { return f != "" })
}
