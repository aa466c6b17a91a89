package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// work is one thing that both sides do, or danepost alone.
type work struct {
	name  string
	how   string // how it is measured and what was verified
	peer  func() (Sample, error)
	ours  func() (Sample, error)
	once  bool // one run is enough: it cannot vary
	goals []goal
}

// goal is one quantity of a work and what is wanted of it.
type goal struct {
	key, unit string
	wanted    float64 // of the ratio; 0: only shown
	atLeast   bool    // the ratio must not be below wanted; else not above
	absolute  bool    // wanted is of the quantity itself, not of a ratio
}

// works is the list of all measurements.
func (l *lab) works() []work {
	n := l.o.Domains
	list := append(l.submissions(), l.deliveries(n)...)
	list = append(list, l.resolving(n)...)
	list = append(list, l.footprints(n)...)
	list = append(list, l.scales(n)...)
	list = append(list, l.queues()...)
	return append(list, work{name: "what the machine can do", ours: l.limits,
		how:   "one synced append of 4 KB after the other; full TLS handshakes with both ends here, 16 at a time",
		goals: []goal{{key: "syncs", unit: "syncs/s"}, {key: "hybrid", unit: "handshakes/s, X25519MLKEM768"}, {key: "classic", unit: "handshakes/s, X25519"}}})
}

func (l *lab) submissions() []work {
	var list []work
	for _, c := range []struct {
		callers int
		wanted  float64
	}{{1, 2}, {16, 2.5}} {
		n := l.o.Calls
		if c.callers > 1 {
			n *= 2
		}
		title := "alone"
		if c.callers > 1 {
			title = fmt.Sprintf("%d callers", c.callers)
		}
		calls := func(measure func(int, int, bool) (Sample, error), postfix bool) func() (Sample, error) {
			return func() (Sample, error) { return measure(n, c.callers, postfix) }
		}
		list = append(list,
			work{name: "sendmail -t, " + title + ", daemon down",
				how:  fmt.Sprintf("%d calls as an ordinary user; each message is a synced file in the maildrop afterwards, counted", n),
				peer: calls(l.callsAlone, true), ours: calls(l.callsAlone, false),
				goals: []goal{{key: "rate", unit: "calls/s", wanted: c.wanted, atLeast: true}, {key: "p50", unit: "ms median"}, {key: "call", unit: "ms CPU/call"}}},
			work{name: "sendmail -t, " + title + ", daemon delivering",
				how:  fmt.Sprintf("%d calls as an ordinary user while the daemon delivers them to one domain; all arrived, verified on both sides", n),
				peer: calls(l.callsDelivering, true), ours: calls(l.callsDelivering, false),
				goals: []goal{{key: "rate", unit: "calls/s", wanted: c.wanted, atLeast: true}, {key: "p50", unit: "ms median"}, {key: "cpu", unit: "ms CPU of the daemons/message"}}})
	}
	return list
}

func (l *lab) deliveries(n int) []work {
	cold := delivery{messages: n, to: l.toEach(n)}
	one := delivery{messages: n, to: l.toOne, reuse: true}
	run := func(w delivery, postfix bool) func() (Sample, error) {
		return func() (Sample, error) {
			if postfix {
				return l.deliverPostfix(w)
			}
			return l.deliverDanepost(w)
		}
	}
	cpu := goal{key: "cpu", unit: "s CPU/1,000", wanted: 0.45}
	anyCPU := goal{key: "cpu", unit: "s CPU/1,000"}
	return []work{
		{name: fmt.Sprintf("cold DANE delivery to %d domains", n),
			how:  fmt.Sprintf("%d messages queued before, nothing cached; from the flush of the queue (danepost: from its start) to the last acceptance; all verified on both sides", n),
			peer: run(cold, true), ours: run(cold, false),
			goals: []goal{{key: "rate", unit: "messages/s", wanted: 2, atLeast: true}, cpu, {key: "receiver", unit: "s CPU of the receiver/1,000"}}},
		{name: "delivery to one domain",
			how:  fmt.Sprintf("%d messages queued before; Postfix with smtp_tls_connection_reuse; all verified on both sides", n),
			peer: run(one, true), ours: run(one, false),
			goals: []goal{{key: "rate", unit: "messages/s", wanted: 2, atLeast: true}, anyCPU, {key: "shakes", unit: "handshakes"}}},
	}
}

// resolve measures one cold run over n domains: through the server that begin starts, or
// where there is none by danepost's resolver in the process that asks.
func (l *lab) resolve(n int, begin func() (*daemon, error)) (s Sample, err error) {
	role := "library"
	var server *daemon
	if begin != nil {
		role = "server"
		server, err = begin()
		defer func() { err = errors.Join(err, server.stop()) }()
		if err != nil {
			return nil, err
		}
	}
	if _, err := l.world.queries(); err != nil {
		return nil, err
	}
	out, err := run(l.self, roleLookups, l.world.Dir, strconv.Itoa(n), "16", role)
	if err != nil {
		return nil, err
	}
	var found looked
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return nil, err
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	asked, err := l.world.queries()
	if err != nil {
		return nil, err
	}
	s = Sample{"rate": float64(n) / found.Seconds, "cpu": found.CPU / float64(n) * 1000, "upstream": asked / float64(n), "pss": float64(found.PSS) / 1e6}
	if server != nil {
		s["cpu"] = server.cpu().Seconds() / float64(n) * 1000
		s["pss"] = memoryOf(server)
	}
	return s, nil
}

func (l *lab) resolving(n int) []work {
	run := func(begin func() (*daemon, error)) func() (Sample, error) {
		return func() (Sample, error) { return l.resolve(n, begin) }
	}
	unbound := func(threads int) func() (Sample, error) {
		return run(func() (*daemon, error) { return l.startUnbound(threads) })
	}
	goals := []goal{{key: "rate", unit: "domains/s", wanted: 1, atLeast: true}, {key: "cpu", unit: "s CPU/1,000", wanted: 0.8},
		{key: "upstream", unit: "upstream queries/domain", wanted: 7, absolute: true}, {key: "pss", unit: "MB PSS after"}}
	return []work{
		{name: "cold validated MX + A + TLSA",
			how:  fmt.Sprintf("%d domains, 16 at a time, every answer secure; Unbound with one thread (Debian's default), the CPU of its client not counted; danepost's resolver within the process that asks", n),
			peer: unbound(1), ours: run(nil), goals: goals},
		{name: "the same through [resolver] listen", how: "as above, but danepost serves the same client over UDP", peer: unbound(1),
			ours: run(func() (*daemon, error) {
				return l.startDanepostWith("listen = \"127.0.0.1:53\"\n")
			}),
			goals: []goal{{key: "rate", unit: "domains/s"}, {key: "cpu", unit: "s CPU/1,000"}, {key: "pss", unit: "MB PSS after"}}},
		{name: "the same, Unbound with two threads", how: "as the first", peer: unbound(2), ours: run(nil),
			goals: []goal{{key: "rate", unit: "domains/s"}, {key: "cpu", unit: "s CPU/1,000"}}},
		{name: "warm look-up", how: "go test -bench in package resolver: one cached answer, within the process",
			ours: l.warm, goals: []goal{{key: "us", unit: "µs", wanted: 2, absolute: true}, {key: "allocs", unit: "allocations", wanted: 2, absolute: true}}},
	}
}

// warm runs the benchmark of the resolver's cache.
func (l *lab) warm() (Sample, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkWarmLookup$", "-benchmem", "./resolver")
	cmd.Dir, cmd.Stderr = l.o.Source, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w: %s", err, out)
	}
	m := regexp.MustCompile(`BenchmarkWarmLookup\S*\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`).FindSubmatch(out)
	if m == nil {
		return nil, fmt.Errorf("go test -bench printed no figures: %s", out)
	}
	ns, _ := strconv.ParseFloat(string(m[1]), 64)
	allocs, _ := strconv.ParseFloat(string(m[2]), 64)
	return Sample{"us": ns / 1000, "allocs": allocs}, nil
}

func (l *lab) footprints(n int) []work {
	w := delivery{messages: n, to: l.toEach(n), memory: true}
	return []work{
		{name: "memory, fresh and idle", how: "proportional set size of all processes two seconds after the start",
			peer:  func() (Sample, error) { return l.idleMemory(true) },
			ours:  func() (Sample, error) { return l.idleMemory(false) },
			goals: []goal{{key: "idle", unit: "MB", wanted: 0.75}}},
		{name: "memory, peak", how: "the same at its highest, read twice a second during the cold delivery",
			peer:  func() (Sample, error) { return l.deliverPostfix(w) },
			ours:  func() (Sample, error) { return l.deliverDanepost(w) },
			goals: []goal{{key: "peak", unit: "MB", wanted: 0.2}, {key: "processes", unit: "processes"}}},
		{name: "disk", how: "packages with their libraries beyond a minimal Debian, by the package index; danepost is one file", once: true,
			peer: l.diskOfPeers, ours: l.diskOfDanepost,
			goals: []goal{{key: "disk", unit: "MB", wanted: 0.12}, {key: "packages", unit: "MB without libraries"}}},
	}
}

// scales compares danepost with itself: the peer of a large run is a small
// one.
func (l *lab) scales(n int) []work {
	run := func(messages, domains int) func() (Sample, error) {
		return func() (Sample, error) {
			return l.deliverDanepost(delivery{messages: messages, to: l.toEach(domains), memory: true})
		}
	}
	large := n * l.o.Scale
	goals := []goal{{key: "ms", unit: "ms/message", wanted: 1.2}, {key: "cpu", unit: "s CPU/1,000"}, {key: "peak", unit: "MB at the peak"}}
	return []work{
		{name: fmt.Sprintf("scale: %d domains, %d messages", large, large),
			how:  fmt.Sprintf("danepost with itself (left: %d domains and messages); cold delivery as above", n),
			peer: run(n, n), ours: run(large, large), goals: goals},
		{name: fmt.Sprintf("scale: %d domains, %d messages", n, large),
			how:  fmt.Sprintf("danepost with itself (left: %d domains and messages); cold delivery as above", n),
			peer: run(n, n), ours: run(large, n), goals: goals},
	}
}
