package submit

import (
	"context"
	"errors"
	"testing"
)

func TestYield(t *testing.T) {
	gate, _ := testGate(t, testPolicy(t))
	asked := make(chan struct{}, 1)
	run := serveTest(t, &Server{Gate: gate, Yield: func() { asked <- struct{}{} }})
	if err := run.Yield(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-asked
	daemon := serveTest(t, &Server{Gate: gate})
	var refused *Error
	if err := daemon.Yield(context.Background()); !errors.As(err, &refused) || refused.Code != ExitUnavailable {
		t.Errorf("a daemon that stays answered %v", err)
	}
}
