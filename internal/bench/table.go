package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is what came out of one work.
type result struct {
	work
	Peer, Ours []Sample
	Err        error
}

// measure does every work whose name fits, the sides in turn.
func (l *lab) measure(want *regexp.Regexp) []result {
	var all []result
	for _, w := range l.works() {
		if !want.MatchString(w.name) {
			continue
		}
		r := result{work: w}
		runs := l.o.Runs
		if w.once {
			runs = 1
		}
		for i := range runs {
			l.progress("%s: run %d of %d", w.name, i+1, runs)
			l.profiling(w.name)
			if w.peer != nil && l.o.Profiles == "" && r.Err == nil {
				r.Peer = l.take(r.Peer, w.peer, &r.Err)
			}
			if r.Err == nil {
				r.Ours = l.take(r.Ours, w.ours, &r.Err)
			}
		}
		if r.Err != nil {
			l.progress("%s: FAILED: %v", w.name, r.Err)
		}
		all = append(all, r)
	}
	return all
}

func (l *lab) take(to []Sample, measure func() (Sample, error), failed *error) []Sample {
	s, err := measure()
	if err != nil {
		*failed = err
		return to
	}
	l.progress("    %s", s)
	return append(to, s)
}

func (s Sample) String() string {
	var keys []string
	for k := range s {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s %s  ", k, figure(s[k]))
	}
	return b.String()
}

// figure prints a number with three digits that count.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Report is everything measured, as it is written.
type Report struct {
	When    time.Time
	Machine string
	Version string // of danepost
	Peers   string
	Options Options
	Good    bool // nothing failed and every wanted ratio is met
	Rows    []ReportRow
}

// ReportRow is one work.
type ReportRow struct {
	Name, How  string
	Error      string `json:",omitempty"`
	Quantities []Quantity
	Peer, Ours []Sample
}

// Quantity is one line of the table.
type Quantity struct {
	Unit       string
	Peer, Ours []float64 // min, median, max; Peer is empty where there is none
	Ratio      float64   // of the medians
	Wanted     string
	Met        bool
}

func (l *lab) report(results []result) *Report {
	version, _ := run(l.o.Binary, "version")
	peers, _ := run("dpkg-query", "-W", "-f", "${Package} ${Version}  ", "postfix", "unbound", "nsd")
	r := &Report{When: l.begun, Machine: machine(), Version: strings.TrimSpace(version), Peers: strings.TrimSpace(peers), Options: l.o, Good: true}
	for _, res := range results {
		row := ReportRow{Name: res.name, How: res.how, Peer: res.Peer, Ours: res.Ours}
		if res.Err != nil {
			row.Error = res.Err.Error()
			r.Good = false
		}
		for _, g := range res.goals {
			q := g.judge(res)
			row.Quantities = append(row.Quantities, q)
			r.Good = r.Good && q.Met
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

func (g goal) judge(r result) Quantity {
	q := Quantity{Unit: g.unit, Peer: spread(r.Peer, g.key), Ours: spread(r.Ours, g.key), Met: true}
	value, name := 0.0, "ratio "
	if len(q.Peer) == 3 && len(q.Ours) == 3 && q.Peer[1] != 0 {
		q.Ratio = q.Ours[1] / q.Peer[1]
		value = q.Ratio
	}
	if g.absolute {
		name = ""
		if len(q.Ours) == 3 {
			value = q.Ours[1]
		}
	}
	switch {
	case g.wanted == 0:
	case g.atLeast:
		q.Wanted, q.Met = fmt.Sprintf("%s≥ %g", name, g.wanted), value >= g.wanted
	default:
		q.Wanted, q.Met = fmt.Sprintf("%s≤ %g", name, g.wanted), value <= g.wanted
	}
	q.Met = q.Met && (g.wanted == 0 || r.Err == nil)
	return q
}

// spread is min, median and max of a quantity.
func spread(samples []Sample, key string) []float64 {
	var v []float64
	for _, s := range samples {
		v = append(v, s[key])
	}
	if len(v) == 0 {
		return nil
	}
	slices.Sort(v)
	return []float64{v[0], (v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[len(v)-1]}
}

func machine() string {
	cpu := "unknown CPU"
	data, _ := os.ReadFile("/proc/cpuinfo")
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(data); m != nil {
		cpu = string(m[1])
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d cores, %s, Linux %s, load at the end %s", runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)), strings.Fields(string(load) + " ?")[0])
}

// tableFollows is the line of a document that the table comes after.
const tableFollows = "<!-- the table follows -->"

// document puts the table into a document, in the place of an older one.
func (r *Report) document(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, _, found := bytes.Cut(old, []byte(tableFollows))
	if !found {
		return fmt.Errorf("%s has no line %s", path, tableFollows)
	}
	b := bytes.NewBuffer(head)
	fmt.Fprintln(b, tableFollows)
	r.print(b)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// print writes the table in Markdown.
func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s\n%s beside %s\n", r.When.UTC().Format("2006-01-02 15:04"), r.Machine, firstLine(r.Version), r.Peers)
	fmt.Fprintf(w, "each side %d times, in turn; figures are min / median / max, the ratio is of the medians\n\n", r.Options.Runs)
	fmt.Fprintln(w, "| work | unit | Postfix + Unbound | danepost | ratio | wanted | |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|")
	for _, row := range r.Rows {
		name := row.Name
		for _, q := range row.Quantities {
			verdict := ""
			switch {
			case row.Error != "":
				verdict = "FAILED"
			case q.Wanted != "" && q.Met:
				verdict = "met"
			case q.Wanted != "":
				verdict = "MISSED"
			}
			ratio := ""
			if q.Ratio != 0 {
				ratio = fmt.Sprintf("%.2f", q.Ratio)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", name, q.Unit, figures(q.Peer), figures(q.Ours), ratio, q.Wanted, verdict)
			name = ""
		}
	}
	fmt.Fprintln(w)
	for _, row := range r.Rows {
		fmt.Fprintf(w, "- %s: %s.\n", row.Name, row.How)
		if row.Error != "" {
			fmt.Fprintf(w, "  FAILED: %s\n", row.Error)
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func figures(v []float64) string {
	if len(v) == 0 {
		return ""
	}
	if v[0] == v[2] {
		return figure(v[1])
	}
	return figure(v[0]) + " / " + figure(v[1]) + " / " + figure(v[2])
}
