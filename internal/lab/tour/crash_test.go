package tour

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/internal/lab"
)

// TestCrashes kills the daemon again and again while messages come in and go
// out, and demands of every message that sendmail accepted that it arrives.
// One that was under way at a kill may arrive twice: SMTP cannot do better
// (RFC 5321 §4.5.3.2.6 names the window).
func TestCrashes(t *testing.T) {
	t.Parallel()
	const rounds, perRound = 4, 12
	w := small()
	var receivers []*lab.Receiver
	for i := range 3 {
		r, _ := pinned(w, fmt.Sprintf("d%d.demo", i), nil)
		r.Wrap(lab.Slow("BODY", 20*time.Millisecond))
		receivers = append(receivers, r)
	}
	ctx, p := running(t, w.Lab, `queue.retry_first = "1s"`)
	var mu sync.Mutex
	accepted := map[string]int{} // marker -> receiver
	for round := range rounds {
		d, err := p.Serve(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range perRound {
			wg.Go(func() {
				marker, to := fmt.Sprintf("marker-%d-%d.", round, i), i%len(receivers)
				body := marker
				if i%4 == 0 {
					body += strings.Repeat("\nlong enough for a file beside the database", 2000)
				}
				if p.Send(ctx, fmt.Sprintf("bob@d%d.demo", to), "s", body) == nil {
					mu.Lock()
					accepted[marker] = to
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		d.Kill()
		wg.Wait()
	}
	p.serving(t, ctx)
	if len(accepted) < rounds*perRound/2 {
		t.Errorf("only %d of %d messages were accepted", len(accepted), rounds*perRound)
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	copies := 0
	for marker, to := range accepted {
		if _, err := receivers[to].Wait(wait, func(m lab.Message) bool { return strings.Contains(m.Data, marker) }); err != nil {
			t.Errorf("%s was accepted and is lost: %v", marker, err)
		}
	}
	for _, r := range receivers {
		copies += len(r.Messages())
	}
	t.Logf("%d accepted, %d copies arrived", len(accepted), copies)
}
