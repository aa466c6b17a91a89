//go:build interop

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestDNS is the half of the name servers and validators.
func TestDNS(t *testing.T) {
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
	for _, err := range runAll(jobs, 24) {
		failures++
		t.Error(err)
	}
	t.Logf("%d look-ups by the binary from an empty cache, %d wrong, %.1f packets each, %v", len(jobs), failures,
		float64(packets)/float64(len(jobs)), time.Since(start).Round(time.Second))
}
