package cli

import (
	"context"
	"time"

	"danepost/queue"
)

// clockPoll is how often a clock that is not set is looked at.
const clockPoll = 5 * time.Second

// watchClock has all waiting mail attempted as soon as the clock is set: it
// waited for nothing else.
func (a *appliance) watchClock(ctx context.Context) {
	whenReady(ctx, a.names.anchors.Ready, func() {
		if _, err := a.queue.Kick(queue.Filter{}); err != nil {
			a.log.Error("waiting mail is not attempted yet", "reason", err.Error())
		}
	})
}

// whenReady calls then each time that ready stops failing, until ctx ends.
func whenReady(ctx context.Context, ready func() error, then func()) {
	tick := time.NewTicker(clockPoll)
	defer tick.Stop()
	for waiting := false; ; {
		failing := ready() != nil
		if waiting && !failing {
			then()
		}
		waiting = failing
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
