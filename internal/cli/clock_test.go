package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhenReady: mail is kicked when the clock is set, and not before, nor
// again while it stays set.
func TestWhenReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		set := func() error {
			if age := time.Since(start); age > time.Minute && age < 10*time.Minute || age > 20*time.Minute {
				return nil
			}
			return errors.New("clock not set")
		}
		var kicks []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		whenReady(ctx, set, func() { kicks = append(kicks, time.Since(start)) })
		if len(kicks) != 2 || kicks[0] > time.Minute+clockPoll || kicks[1] > 20*time.Minute+clockPoll {
			t.Errorf("kicked after %v, want once after 1m and once after 20m", kicks)
		}
	})
}
