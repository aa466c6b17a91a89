package tour

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/internal/lab"
)

// binary is the danepost under test, built once for all tests of the package.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "danepost-e2e-")
	if err == nil {
		binary, err = Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// running starts the lab of w and returns the binary configured for it.
func running(t *testing.T, l *lab.Lab, overrides ...string) (context.Context, *Program) {
	t.Helper()
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	c, err := l.WriteConfig(t.TempDir(), overrides...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx, &Program{Path: binary, Config: c}
}

func (p *Program) serving(t *testing.T, ctx context.Context) *Daemon {
	t.Helper()
	d, err := p.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(ctx); err != nil && !t.Failed() {
			t.Errorf("serve ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", d.Log())
		}
	})
	return d
}

func TestWalk(t *testing.T) {
	for name, furnish := range map[string]func(lab.Options) *World{"tour": New, "matrix": NewMatrix} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := furnish(lab.Options{})
			ctx, p := running(t, w.Lab)
			d := p.serving(t, ctx)
			for _, v := range w.Walk(ctx, p, d, func(int, *Visit) {}) {
				for _, wrong := range v.Wrong {
					t.Errorf("%s: %s\n%+v", v.Stop.Domain, wrong, v.Line)
				}
			}
		})
	}
}

// pinned furnishes a lab with one more domain: a receiver and its TLSA record,
// a path in front of it if path is given.
func pinned(w *World, domain string, path func(*lab.Receiver) *lab.Path) (*lab.Receiver, *lab.Path) {
	id := lab.SelfSigned("mx." + domain)
	r := w.Lab.Receiver("mx."+domain, id)
	addr, p := r.Addr(), (*lab.Path)(nil)
	if path != nil {
		p = path(r)
		addr = p.Addr()
	}
	w.Lab.Zone(domain, lab.Signing{}).Add("@ MX 10 mx", "mx A "+addr, "_{port}._tcp.mx TLSA "+lab.TLSA(3, 1, 1, id.Leaf()))
	return r, p
}

// small is a world without stops.
func small() *World {
	w := &World{Lab: lab.New(lab.Options{})}
	w.Lab.Zone("demo", lab.Signing{})
	w.people()
	return w
}

// TestKilledAfterAcceptance: what sendmail said yes to survives SIGKILL of
// the daemon, whether it is small or large, and arrives once.
func TestKilledAfterAcceptance(t *testing.T) {
	t.Parallel()
	w := small()
	r, _ := pinned(w, "later.demo", nil)
	// The first connections hang before the greeting: nothing can be delivered
	// before the kill.
	r.Wrap(lab.Times(10, "CONNECT", lab.Slow("CONNECT", time.Minute)))
	ctx, p := running(t, w.Lab, `queue.retry_first = "1s"`)
	d, err := p.Serve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	for i := range n {
		body := fmt.Sprintf("marker-%d.", i)
		if i%2 == 1 {
			body += strings.Repeat("\n0123456789abcdef0123456789abcdef0123456789abcdef", 4000) // content of its own file
		}
		if err := p.Send(ctx, "bob@later.demo", "kept", body); err != nil {
			t.Fatal(err)
		}
	}
	d.Kill()
	if got := len(r.Messages()); got != 0 {
		t.Fatalf("%d messages before the kill", got)
	}
	r.Heal()
	p.serving(t, ctx)
	for i := range n {
		marker := fmt.Sprintf("marker-%d.", i)
		if _, err := r.Wait(ctx, func(m lab.Message) bool { return strings.Contains(m.Data, marker) }); err != nil {
			t.Errorf("message %d was lost: %v", i, err)
		}
	}
	time.Sleep(500 * time.Millisecond) // a second copy would be under way by now
	if got := len(r.Messages()); got != n {
		t.Errorf("%d messages arrived, not %d", got, n)
	}
}

// TestAttackEnds: mail kept back under attack goes out, verified, when the
// attack ends. Nothing is lost by being careful.
func TestAttackEnds(t *testing.T) {
	t.Parallel()
	w := small()
	r, path := pinned(w, "besieged.demo", w.Lab.StripSTARTTLS)
	ctx, p := running(t, w.Lab, `queue.retry_first = "1s"`)
	d := p.serving(t, ctx)
	if err := p.Send(ctx, "bob@besieged.demo", "patience", "the marker"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Wait(ctx, func(l Line) bool { return l.Msg == "deferred" }); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Messages()); n != 0 {
		t.Fatalf("%d messages under attack", n)
	}
	path.Cease()
	l, err := d.Wait(ctx, func(l Line) bool { return l.Msg == "delivered" })
	if err != nil || l.Security != "dane-verified" || l.Attempts < 2 {
		t.Fatalf("%v, %+v", err, l)
	}
	if m := r.Messages(); len(m) != 1 || m[0].TLS == nil {
		t.Errorf("%d messages arrived", len(m))
	}
}

// TestWithoutDaemon: sendmail alone delivers, and waits for it when asked to.
func TestWithoutDaemon(t *testing.T) {
	t.Parallel()
	w := small()
	r, _ := pinned(w, "direct.demo", nil)
	ctx, p := running(t, w.Lab)
	out, err := p.Run(ctx, "Subject: no daemon\n\nthe marker\n", "sendmail", "-odi", "-f", Sender, "bob@direct.demo")
	if err != nil || out.Code != 0 {
		t.Fatalf("%v, %+v", err, out)
	}
	if m := r.Messages(); len(m) != 1 || m[0].TLS == nil || !strings.Contains(m[0].Data, "the marker") {
		t.Errorf("%d messages arrived when sendmail returned", len(m))
	}
}

// TestTwoDaemons: the second says who is in the way, and takes nothing.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	w := small()
	ctx, p := running(t, w.Lab)
	p.serving(t, ctx)
	out, err := p.Run(ctx, "", "serve")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(strings.TrimSpace(out.Stderr), "\n") + 1; out.Code == 0 || lines != 1 || !strings.Contains(out.Stderr, p.Config.State) {
		t.Errorf("exit status %d, %d lines: %s", out.Code, lines, out.Stderr)
	}
}

// TestQuestions: lookup and check say what delivery would find.
func TestQuestions(t *testing.T) {
	t.Parallel()
	w := New(lab.Options{})
	ctx, p := running(t, w.Lab)
	for _, tt := range []struct {
		args []string
		code int
		want map[string]any
	}{
		{[]string{"lookup", "--json", "ee.demo", "MX"}, 0, map[string]any{"status": "secure", "rcode": "NOERROR"}},
		{[]string{"lookup", "--json", "nowhere.demo", "MX"}, 0, map[string]any{"status": "secure", "rcode": "NXDOMAIN"}},
		{[]string{"lookup", "--json", "guest.optout", "MX"}, 0, map[string]any{"status": "insecure", "rcode": "NOERROR"}},
		{[]string{"lookup", "--json", "forged.demo", "MX"}, 1, map[string]any{"status": "bogus"}},
		{[]string{"check", "--json", "ee.demo"}, 0, map[string]any{"verdict": "deliverable", "mx_status": "secure"}},
		{[]string{"check", "--json", "nomail.demo"}, 1, map[string]any{"verdict": "reject", "mx_status": "null"}},
		{[]string{"check", "--json", "stripped.demo"}, 1, map[string]any{"verdict": "defer", "mx_status": "secure"}},
		{[]string{"check", "--json", "swapped.demo"}, 1, map[string]any{"verdict": "defer", "mx_status": "secure"}},
		{[]string{"check", "--json", "forged.demo"}, 1, map[string]any{"verdict": "defer", "mx_status": "bogus"}},
	} {
		name := strings.Join(tt.args, " ")
		out, err := p.Run(ctx, "", tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(out.Stdout), &got); err != nil || out.Code != tt.code {
			t.Errorf("%s: exit status %d, not %d; %v\n%s%s", name, out.Code, tt.code, err, out.Stdout, out.Stderr)
			continue
		}
		for k, v := range tt.want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, not %v\n%s", name, k, got[k], v, out.Stdout)
			}
		}
	}
	verdicts := map[string]string{"delivered": "deliverable", "deferred": "defer", "bounced": "reject"}
	for _, s := range w.Stops {
		want := verdicts[s.Want.Did]
		if s.Domain == "refuses.demo" {
			want = "deliverable" // who the mail is for is not asked
		}
		out, err := p.Run(ctx, "", "check", "--json", s.Domain)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Verdict string }
		if err := json.Unmarshal([]byte(out.Stdout), &got); err != nil || got.Verdict != want || (out.Code == 0) != (want == "deliverable") {
			t.Errorf("check %s: exit status %d, verdict %q, not %q; %v\n%s%s", s.Domain, out.Code, got.Verdict, want, err, out.Stdout, out.Stderr)
		}
	}
	for _, s := range w.Stops {
		for _, r := range s.Receivers {
			if n := len(r.Messages()); n != 0 {
				t.Errorf("check sent mail to %s", s.Domain)
			}
		}
	}
}

// TestDaemonTakesOver: a run that sendmail left in the background, waiting for
// its next attempt, makes way for the daemon.
func TestDaemonTakesOver(t *testing.T) {
	t.Parallel()
	w := small()
	r, path := pinned(w, "besieged.demo", w.Lab.StripSTARTTLS)
	ctx, p := running(t, w.Lab, `queue.retry_first = "2s"`)
	if err := p.Send(ctx, "bob@besieged.demo", "patience", "the marker"); err != nil {
		t.Fatal(err)
	}
	for path.Sessions() == 0 { // the run is at it
		if ctx.Err() != nil {
			t.Fatal("no attempt without a daemon")
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.serving(t, ctx)
	path.Cease()
	if _, err := r.Wait(ctx, func(m lab.Message) bool { return strings.Contains(m.Data, "the marker") }); err != nil {
		t.Fatal(err)
	}
	if out, err := p.Run(ctx, "", "serve"); err != nil || out.Code == 0 {
		t.Errorf("a second daemon: %v, %+v", err, out)
	}
}

// TestOperator: what waits is listed with its reason, in each form, and goes
// where the operator sends it.
func TestOperator(t *testing.T) {
	t.Parallel()
	w := small()
	r, path := pinned(w, "one.demo", w.Lab.StripSTARTTLS)
	r2, path2 := pinned(w, "two.demo", w.Lab.StripSTARTTLS)
	ctx, p := running(t, w.Lab)
	d := p.serving(t, ctx)
	for _, name := range []string{"one", "two"} {
		if err := p.Send(ctx, "bob@"+name+".demo", name, "marker "+name); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Wait(ctx, func(l Line) bool { return l.Msg == "deferred" && l.Domain == name+".demo" }); err != nil {
			t.Fatal(err)
		}
	}
	run := func(code int, args ...string) string {
		t.Helper()
		out, err := p.Run(ctx, "", args...)
		if err != nil || out.Code != code {
			t.Fatalf("%v: %v, %+v", args, err, out)
		}
		return out.Stdout
	}
	type entry struct {
		QueueID    string `json:"queue_id"`
		Sender     string
		Recipients []struct {
			Address     string
			DelayReason string `json:"delay_reason"`
		}
	}
	list := func() (all []entry) {
		for line := range strings.Lines(run(0, "queue", "list", "--json")) {
			var e entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, e)
		}
		return all
	}
	var waiting []entry
	for { // the log line comes before the commit
		waiting = list()
		if len(waiting) == 2 && waiting[0].Recipients[0].DelayReason != "" && waiting[1].Recipients[0].DelayReason != "" || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(waiting) != 2 || waiting[0].Sender != Sender || waiting[0].Recipients[0].Address != "bob@one.demo" ||
		!strings.Contains(waiting[0].Recipients[0].DelayReason, "STARTTLS") {
		t.Fatalf("waiting: %+v", waiting)
	}
	if text := run(0, "sendmail", "-bp"); !strings.Contains(text, waiting[0].QueueID) || !strings.Contains(text, "STARTTLS") {
		t.Errorf("mailq says\n%s", text)
	}
	if text := run(0, "queue", "cat", waiting[0].QueueID); !strings.Contains(text, "marker one") {
		t.Errorf("cat says\n%s", text)
	}
	run(0, "queue", "remove", waiting[1].QueueID)
	path.Cease()
	path2.Cease()
	run(0, "queue", "run")
	if _, err := r.Wait(ctx, func(m lab.Message) bool { return strings.Contains(m.Data, "marker one") }); err != nil {
		t.Fatal(err)
	}
	for len(list()) > 0 && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	if n, removed := len(r.Messages()), len(r2.Messages()); n != 1 || removed != 0 {
		t.Errorf("%d messages arrived, and %d that had been removed", n, removed)
	}
}

// TestManyWithoutDaemon: programs that all mail at once, with nobody there to
// take it, get every message delivered once by whoever of them was first.
func TestManyWithoutDaemon(t *testing.T) {
	t.Parallel()
	w := small()
	r, _ := pinned(w, "busy.demo", nil)
	ctx, p := running(t, w.Lab)
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := p.Send(ctx, "bob@busy.demo", "s", fmt.Sprintf("marker-%d.", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range n {
		marker := fmt.Sprintf("marker-%d.", i)
		if _, err := r.Wait(ctx, func(m lab.Message) bool { return strings.Contains(m.Data, marker) }); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if got := len(r.Messages()); got != n {
		t.Errorf("%d messages arrived, not %d", got, n)
	}
	p.serving(t, ctx) // takes over from what is left
}
