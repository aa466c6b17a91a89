//go:build interop

package interop

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver"
)

var hold = flag.Duration("hold", 0, "leave the mini-internet running so long, and say how to enter it")

// TestDNS is the half of the name servers and validators.
func TestDNS(t *testing.T) {
	t.Run("Broken", testBroken)
	start := time.Now()
	tr := plan()
	if err := tr.raise(t); err != nil {
		t.Fatal(err)
	}
	n, err := tr.network()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d zones on %d servers, up after %v", len(tr.all()), len(tr.servers), time.Since(start).Round(time.Second))
	o, err := n.startOracles(t, "10.53.3.1")
	if err != nil {
		t.Fatal(err)
	}
	if *hold > 0 {
		t.Logf("held for %v: nsenter -a -t PID of %s; oracles %s and %s", *hold, os.Args[0], o.validator, o.carrier)
		time.Sleep(*hold)
		return
	}
	t.Run("Waiting", func(t *testing.T) { // these do little but wait
		t.Run("Rolling", func(t *testing.T) { t.Parallel(); testRolling(t, tr, n, o) })
		t.Run("Faults", func(t *testing.T) { t.Parallel(); testFaults(t, tr, n, o) })
	})
	t.Run("Tree", func(t *testing.T) { testTree(t, tr, n, o) })
	t.Run("Binary", func(t *testing.T) { testBinary(t, tr, n) })
}

// network writes the files for the tree's root.
func (t *tree) network() (*network, error) {
	dir, err := workDir("tree")
	if err != nil {
		return nil, err
	}
	return writeNetwork(dir, []netip.Addr{t.root.server.v4, t.root.server.v6}, t.root.ds)
}

// testBinary asks the real binary for one thing in every zone, kinds in turn.
func testBinary(t *testing.T, tr *tree, n *network) {
	var jobs []func() error
	var mu sync.Mutex
	packets := 0
	for i, z := range tr.leaves {
		all := z.questions()
		for _, q := range []question{{z.under("_25._tcp.mx"), dns.TypeTLSA, want{dns.RcodeSuccess, 1, "secure"}}, all[i%len(all)]} {
			jobs = append(jobs, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				r, o, err := n.lookup(ctx, q)
				if err != nil {
					return err
				}
				mu.Lock()
				packets += o.Queries
				mu.Unlock()
				if !q.want.meets(r) {
					return fmt.Errorf("%s: %v; built as %v", q, r, q.want)
				}
				return nil
			})
		}
	}
	start := time.Now()
	failures := 0
	for _, err := range runAll(jobs, 12) {
		failures++
		t.Error(err)
	}
	t.Logf("%d look-ups by the binary from an empty cache, %d wrong, %.1f packets each, %v", len(jobs), failures,
		float64(packets)/float64(len(jobs)), time.Since(start).Round(time.Second))
}

// table counts the zones and look-ups of the tree by the way of signing.
func (t *tree) table(all []*asked, wrong, excepted int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Name servers\n\n%d zones on %d servers, every NS set with one that is dead, most with both address families; top-level\n"+
		"zones signed in ways of their own. %d look-ups in the signed leaves, a quarter of them over IPv6 alone, compared with how the\n"+
		"zones were built, with Unbound and, a fifth, with delv: %d disagree, and %d do for reasons that testdata/disagreements.tsv and tree.tsv list.\n",
		len(t.all()), len(t.servers), len(all), wrong, excepted)
	b.WriteString(heading("signed by", "denial", "algorithms", "look-ups", "secure", "insecure", "NXDOMAIN"))
	words := map[denial]string{nsec: "NSEC", nsec3: "NSEC3", optOut: "NSEC3, opt-out", narrow: "NSEC3, made for each query", minimal: "minimal NSEC, made for each query"}
	for _, m := range methods() {
		var algorithms []string
		var asked, secure, insecure, nx int
		for _, z := range t.leaves {
			if z.method.name != m.name {
				continue
			}
			algorithms = append(algorithms, fmt.Sprint(z.algorithm))
			for _, a := range all {
				if !dns.IsSubDomain(z.name, a.name) {
					continue
				}
				asked++
				count(&secure, a.mine.status == "secure")
				count(&insecure, a.mine.status == "insecure")
				count(&nx, a.mine.rcode == dns.RcodeNameError)
			}
		}
		b.WriteString(row(m.name, words[m.denial], strings.Join(algorithms, ", "), asked, secure, insecure, nx))
	}
	return b.String()
}

// askAgain asks an oracle once more, now that little else is going on, where it
// gave up on what is known to be sound: to it, as to its servers, a busy machine
// is a broken path, and it remembers that for a while.
func (o *oracles) askAgain(t *testing.T, all []*asked, exceptions []*exception) {
	t.Helper()
	asks := map[string]func(question) (result, error){"unbound": o.unbound, "delv": o.delv}
	for _, a := range all {
		for i := range a.opinions {
			said := &a.opinions[i]
			if slices.ContainsFunc(exceptions, func(e *exception) bool { return e.covers(a, *said) }) {
				continue
			}
			for tries := 0; tries < 5 && said.status == refused && a.want.status != refused; tries++ {
				t.Logf("asking again: %s %s", a.question, said)
				time.Sleep(2 * time.Second) // longer than an oracle keeps a failure
				if r, err := asks[said.who](a.question); err == nil {
					said.result = r
				}
			}
		}
	}
}

func count(n *int, is bool) {
	if is {
		*n++
	}
}

// testTree asks package resolver, unbound and, for some of it, delv for
// everything in every zone. The tree is sound, so they agree with each other
// and with how it was built.
func testTree(t *testing.T, tr *tree, n *network, o *oracles) {
	both := n.openResolver(t, nil)
	six := n.openResolver(t, func(c *resolver.Config) { c.NoIPv4 = true })
	var all []*asked
	for i, z := range tr.leaves {
		for j, q := range z.questions() {
			a := &asked{question: q, expecting: true, withDelv: (i+j)%5 == 0}
			if z.method.denial == optOut && q.want.status == "insecure" {
				a.tags = []string{"span"}
			}
			if z.server.software == "pdns" && dns.IsSubDomain(z.under("sub"), q.name) {
				a.tags = append(a.tags, "dname-of-pdns")
			}
			all = append(all, a)
		}
	}
	exceptions, err := readExceptions("testdata/disagreements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	o.interrogate(t, all, func(i int, q question) result {
		r := both
		if i%4 == 0 {
			r = six
		}
		return judged(r.Lookup(t.Context(), q.name, q.qtype))
	})
	sound, err := readExceptions("testdata/tree.tsv")
	if err != nil {
		t.Fatal(err)
	}
	exceptions = append(exceptions, sound...)
	o.askAgain(t, all, exceptions)
	wrong, excepted := compare(t, all, exceptions)
	section(t, "20-tree", tr.table(all, wrong, excepted))
	t.Logf("%d look-ups, a quarter over IPv6 alone, against unbound, a fifth also against delv: %d disagreements, %d more that are listed, %v",
		len(all), wrong, excepted, time.Since(start).Round(time.Second))
}
