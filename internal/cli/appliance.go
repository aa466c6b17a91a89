package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"danepost/deliver"
	"danepost/queue"
	"danepost/queue/submit"
)

// importEvery is how often the maildrop is looked at while a process holds
// the queue. Programs that find no socket drop their mail there.
const importEvery = 5 * time.Second

// appliance is all rooms of one process that holds the queue's lock.
type appliance struct {
	config    *Config
	log       *slog.Logger
	queue     *queue.Queue
	names     *names
	deliverer *deliver.Deliverer
	meter     *meter // the deliverer, counted: what the queue calls
	gate      *submit.Gate
	drop      *submit.Maildrop
}

// openAppliance opens everything; on error nothing stays open.
func openAppliance(c *Config, log *slog.Logger) (*appliance, error) {
	if err := makeState(c); err != nil {
		return nil, err
	}
	dc, err := deliverConfig(c, log)
	if err != nil {
		return nil, configError(err)
	}
	return assemble(c, dc, log)
}

// openIdle is openAppliance for who looks at the queue and delivers nothing:
// he needs no passwords, which may not be his to read.
func openIdle(c *Config, log *slog.Logger) (*appliance, error) {
	if err := makeState(c); err != nil {
		return nil, err
	}
	dc, err := deliverRules(c)
	if err != nil {
		return nil, configError(err)
	}
	return assemble(c, dc, log)
}

func assemble(c *Config, dc deliver.Config, log *slog.Logger) (*appliance, error) {
	q, err := openQueue(c, log)
	if err != nil {
		return nil, err
	}
	n, err := openNames(c, log)
	if err != nil {
		q.Close()
		return nil, err
	}
	a := &appliance{config: c, log: log, queue: q, names: n}
	a.deliverer = deliver.New(dc, n)
	a.meter = newMeter(a.deliverer)
	a.gate = submit.NewGate(gatePolicy(c), submit.Deps{
		Queue: q, ClockSet: func() bool { return n.anchors.Ready() == nil }, Log: log,
	})
	a.drop = &submit.Maildrop{Dir: c.Maildrop}
	if err := a.drop.Create(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// makeState makes the state directory where it is missing, and root its owner.
func makeState(c *Config) error {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return submit.CannotCreate("cannot make the state directory", err)
	}
	return submit.BecomeOwner(c.StateDir, c.Maildrop)
}

// handler delivers, and sees to it that notices to this host's own senders
// reach a mailbox.
func (a *appliance) handler() queue.Handler {
	return submit.LocalNotices{Handler: a.meter, Policy: &a.gate.Policy}
}

func (a *appliance) close() error {
	a.deliverer.Close()
	return errors.Join(a.names.Close(), a.queue.Close())
}

// tasks runs functions side by side; the first that fails ends the others.
type tasks struct {
	wg     sync.WaitGroup
	cancel context.CancelFunc
	mu     sync.Mutex
	err    error
}

func (t *tasks) run(f func() error) {
	t.wg.Go(func() {
		if err := f(); err != nil && !errors.Is(err, context.Canceled) {
			t.mu.Lock()
			t.err = errors.Join(t.err, err)
			t.mu.Unlock()
			t.cancel()
		}
	})
}

// work serves, imports the maildrop and delivers until ctx ends. run is the
// queue's Run in one of its forms: when it returns, the rest ends too.
func (a *appliance) work(ctx context.Context, run func(context.Context) error, list services) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &tasks{cancel: cancel}
	for _, s := range list {
		t.run(func() error { return s.serve(ctx) })
	}
	t.run(func() error { return a.names.anchors.Run(ctx) })
	t.run(func() error { a.watchDrops(ctx); return nil })
	t.run(func() error { a.watchClock(ctx); return nil })
	t.run(func() error {
		defer cancel()
		return run(ctx)
	})
	t.wg.Wait()
	return t.err
}

func (a *appliance) importDrops(ctx context.Context) error {
	n, err := a.drop.Import(ctx, a.gate)
	if n > 0 {
		a.log.Info("imported", "messages", n, "from", a.drop.Dir)
	}
	return err
}

// refreshAnchors keeps up with the root's keys in processes that live shortly.
func (a *appliance) refreshAnchors(ctx context.Context) {
	if err := a.names.anchors.RefreshDue(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("trust anchors not refreshed", "reason", err.Error())
	}
}

// watchDrops imports what is and what arrives in the maildrop, beside all else:
// a large backlog keeps nobody from the socket. A failure that may pass is
// logged once until it changes.
func (a *appliance) watchDrops(ctx context.Context) {
	tick := time.NewTicker(importEvery)
	defer tick.Stop()
	last := ""
	for {
		text := ""
		if err := a.importDrops(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != last {
			a.log.Error("maildrop", "reason", text)
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// runServe is `danepost serve`.
func runServe(inv *invocation, args []string) error {
	fs := inv.flags("serve")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageError("serve takes no arguments")
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	return serve(c, inv.Err)
}

// openInTurn is openAppliance for the daemon: a run in the background that has
// the queue is asked to end, and waited for while it finishes what it is at.
// Another daemon stays, and so does a holder that does not answer.
func openInTurn(ctx context.Context, c *Config, log *slog.Logger) (*appliance, error) {
	const starting, yielding = 3 * time.Second, time.Minute
	client := submit.Client{Path: c.Socket}
	deadline, asked := time.Now().Add(starting), false
	for {
		a, err := openAppliance(c, log)
		if !errors.Is(err, queue.ErrLocked) {
			return a, err
		}
		if !asked {
			var refused *submit.Error
			switch yerr := client.Yield(ctx); {
			case yerr == nil:
				asked, deadline = true, time.Now().Add(yielding)
				log.Info("waiting", "for", "the run in the background, which was asked to end")
			case errors.As(yerr, &refused) && refused.Code == submit.ExitUnavailable:
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}

func serve(c *Config, stderr io.Writer) error {
	ctx, stop := untilSignal()
	defer stop()
	log := newLog(stderr, c.Log)
	a, err := openInTurn(ctx, c, log)
	if err != nil {
		return err
	}
	version, _ := buildInfo()
	log.Info("started", "version", version, "hostname", c.Hostname, "state", c.StateDir, "socket", c.Socket)
	services, err := a.listen()
	if err == nil {
		err = a.work(ctx, func(ctx context.Context) error { return a.queue.Run(ctx, a.handler()) }, services)
	}
	if cerr := a.close(); err == nil {
		err = cerr
	}
	log.Info("stopped")
	return err
}

// runQueueOnce takes the lock, imports, attempts what is due and goes on as
// long as anything is due within linger, answering on the socket meanwhile.
// A drop that arrived too late for the import had a writer who could not get
// the lock: so the maildrop is looked at again after unlocking.
func runQueueOnce(ctx context.Context, c *Config, log *slog.Logger, linger time.Duration) error {
	ctx, yield := context.WithCancel(ctx)
	defer yield()
	for {
		a, err := openAppliance(c, log)
		if err != nil {
			return err
		}
		stuck := a.importDrops(ctx)
		run := func(ctx context.Context) error { return a.queue.RunUntilIdle(ctx, a.handler(), linger) }
		if linger > 0 {
			err = a.work(ctx, run, a.listenMeanwhile(yield))
		} else {
			err = run(ctx)
			a.refreshAnchors(ctx)
		}
		if cerr := a.close(); err == nil {
			err = cerr
		}
		if err != nil || stuck != nil || ctx.Err() != nil {
			return errors.Join(err, stuck)
		}
		if !a.drop.Pending() {
			return nil
		}
	}
}
