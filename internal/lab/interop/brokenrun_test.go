//go:build interop

package interop

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"danepost/resolver"
)

var (
	brokenSeed  = flag.Uint64("seed", 7672, "of the broken zones; 0: another one each run")
	brokenCount = flag.Int("zones", 520, "how many broken zones")
)

// testBroken compares what danepost makes of broken zones with what both
// oracles do, and with what the zones hold.
func testBroken(t *testing.T) {
	seed := *brokenSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	again := fmt.Sprintf("go test -tags interop -count 1 -v ./internal/lab/interop -run TestDNS/Broken -args -seed %d -zones %d", seed, *brokenCount)
	t.Logf("%d broken zones; the same again: %s", *brokenCount, again)
	b := generate(seed, *brokenCount)
	if err := b.lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.lab.Close)
	dir, err := workDir("broken")
	if err != nil {
		t.Fatal(err)
	}
	n, err := writeNetwork(dir, []netip.Addr{netip.MustParseAddr(b.lab.Root().Addr())}, []dns.RR{b.lab.Root().DS()})
	if err != nil {
		t.Fatal(err)
	}
	o, err := n.startOracles(t, "10.53.4.1")
	if err != nil {
		t.Fatal(err)
	}
	if *hold > 0 {
		t.Logf("held for %v: oracles %s and %s", *hold, o.validator, o.carrier)
		time.Sleep(*hold)
	}
	exceptions, err := readExceptions("testdata/disagreements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var all []*asked
	var list strings.Builder
	for _, z := range b.zones {
		all = append(all, b.asked(z)...)
		fmt.Fprintln(&list, z)
	}
	if err := writeFiles(dir, map[string]string{"zones.tsv": list.String()}); err != nil {
		t.Fatal(err)
	}
	r := n.openResolver(t, func(c *resolver.Config) { c.AskLoopback, c.CacheBytes = true, 64<<20 })
	start := time.Now()
	o.interrogate(t, all, func(_ int, q question) result { return judged(r.Lookup(t.Context(), q.name, q.qtype)) })
	afresh := func(q question) result {
		empty := n.openResolver(t, func(c *resolver.Config) { c.AskLoopback = true })
		return judged(empty.Lookup(t.Context(), q.name, q.qtype))
	}
	if err := o.insist(all, exceptions, afresh); err != nil {
		t.Error(err)
	}
	wrong, excepted := compare(t, all, exceptions)
	t.Logf("what was broken, and who agrees:\n%s", b.table(all))
	count := map[string]int{}
	for _, a := range all {
		count[a.mine.status]++
	}
	t.Logf("%d look-ups in %d broken zones (%d secure, %d insecure, %d refused), each against unbound, delv and what the zones hold: %d disagreements, %d more that are listed, %v",
		len(all), len(b.zones), count["secure"], count["insecure"], count[refused], wrong, excepted, time.Since(start).Round(time.Second))
	section(t, "30-broken", fmt.Sprintf("\n## Broken zones\n\n%d zones broken in random ways (seed %d), %d answers compared with Unbound, delv and what the zones hold: %d secure, %d insecure,\n"+
		"%d refused; %d disagree, and an oracle does %d times for a reason that testdata/disagreements.tsv lists. An answer counts for each break on its way.\n\n```\n%s```\n",
		len(b.zones), seed, len(all), count["secure"], count["insecure"], count[refused], wrong, excepted, b.table(all)))
	if t.Failed() {
		t.Logf("the same zones again: %s", again)
	}
}

// tally is a row of the table.
type tally struct {
	zones     int
	answers   int
	agreed    map[string]int // by oracle
	explained int
}

// table counts, for each kind of break, the answers in whose making a zone broken that way takes part.
func (b *brokenNet) table(all []*asked) string {
	rows := map[string]*tally{}
	row := func(kind string) *tally {
		if rows[kind] == nil {
			rows[kind] = &tally{agreed: map[string]int{}}
		}
		return rows[kind]
	}
	for _, z := range b.zones {
		for kind := range z.kinds() {
			row(kind).zones++
		}
	}
	for _, a := range all {
		kinds := map[string]bool{}
		for _, z := range a.truth.path {
			maps.Copy(kinds, z.kinds())
		}
		for kind := range kinds {
			r := row(kind)
			r.answers++
			for _, o := range a.opinions {
				if a.mine.equal(o.result) {
					r.agreed[o.who]++
				}
			}
			r.explained += a.explained
		}
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "break\tzones\tanswers compared\tas unbound\tas delv\tlisted disagreements")
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		r := rows[kind]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", kind, r.zones, r.answers, r.agreed["unbound"], r.agreed["delv"], r.explained)
	}
	w.Flush() //nolint:errcheck // into memory
	return out.String()
}

// kinds are the zone's breaks, and what is odd about its signing, as the table lists them.
func (z *brokenZone) kinds() map[string]bool {
	out := map[string]bool{}
	for _, tag := range z.tags {
		out[tag] = true
	}
	if len(z.breaks) == 0 {
		out["(nothing)"] = true
	}
	return out
}
