package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"danepost/queue"
	"danepost/queue/submit"
)

// operator is what can be done to a queue, through its daemon or directly.
type operator interface {
	List(context.Context, queue.Filter) ([]queue.Summary, error)
	Show(context.Context, string) (*queue.Detail, error)
	Cat(context.Context, string, io.Writer) error
	Retry(context.Context, queue.Filter) ([]queue.Done, error)
	Hold(context.Context, queue.Filter) ([]queue.Done, error)
	Release(context.Context, queue.Filter) ([]queue.Done, error)
	Remove(context.Context, queue.Filter) ([]queue.Done, error)
}

// direct is a queue that this process opened itself.
type direct struct {
	q    *queue.Queue
	gate *submit.Gate
}

func (d direct) List(ctx context.Context, f queue.Filter) ([]queue.Summary, error) {
	return d.q.List(ctx, f)
}
func (d direct) Show(_ context.Context, id string) (*queue.Detail, error)      { return d.q.Show(id) }
func (d direct) Cat(_ context.Context, id string, w io.Writer) error           { return d.q.Cat(id, w) }
func (d direct) Retry(_ context.Context, f queue.Filter) ([]queue.Done, error) { return d.q.Retry(f) }
func (d direct) Hold(_ context.Context, f queue.Filter) ([]queue.Done, error)  { return d.q.Hold(f) }
func (d direct) Release(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return d.gate.Release(ctx, d.q, f)
}
func (d direct) Remove(_ context.Context, f queue.Filter) ([]queue.Done, error) { return d.q.Remove(f) }

// withDaemon gives f a way to the daemon that answers first; answered says
// whether one did, and err is f's then.
func withDaemon(c *Config, f func(*submit.Client) error) (answered bool, err error) {
	for _, path := range c.sockets() {
		if err := f(&submit.Client{Path: path}); !errors.Is(err, submit.ErrNoDaemon) {
			return true, err
		}
	}
	return false, nil
}

// withQueue gives f the queue: the daemon's where one answers, else its own.
func withQueue(ctx context.Context, c *Config, f func(operator) error) error {
	if answered, err := withDaemon(c, func(d *submit.Client) error { return f(d) }); answered {
		return err
	}
	return withOwnQueue(ctx, c, f)
}

func withOwnQueue(ctx context.Context, c *Config, f func(operator) error) error {
	a, err := openIdle(c, backgroundLog())
	if err != nil {
		return err
	}
	// What cannot be imported keeps nobody from what is in the queue.
	err = a.importDrops(ctx)
	return errors.Join(submit.OperatorError(f(direct{a.queue, a.gate})), err, a.close())
}

// listQueue lists the daemon's queue or one's own.
func (inv *invocation) listQueue(ctx context.Context, c *Config, f queue.Filter) ([]queue.Summary, error) {
	list, answered, err := listQueue(ctx, c, f)
	if err == nil && !answered && inv.setgid {
		fmt.Fprintln(inv.Err, "no daemon is running; mail that waits for one in the maildrop is not shown")
	}
	return list, err
}

// listQueue lists; answered says whether a daemon did it. Where there never
// was a queue it finds no mail, rather than make one, which the caller may not
// even be allowed to.
func listQueue(ctx context.Context, c *Config, f queue.Filter) (list []queue.Summary, answered bool, err error) {
	get := func(op operator) error {
		list, err = op.List(ctx, f)
		return err
	}
	answered, err = withDaemon(c, func(d *submit.Client) error { return get(d) })
	if answered || c.untouched() && len(f.IDs) == 0 {
		return list, answered, err
	}
	err = withOwnQueue(ctx, c, get)
	return list, false, err
}

// kickQueue makes the selected mail due now; without a daemon it is also
// attempted by this process.
func kickQueue(ctx context.Context, c *Config, f queue.Filter) (done []queue.Done, err error) {
	answered, err := withDaemon(c, func(d *submit.Client) error {
		done, err = d.Run(ctx, f)
		return err
	})
	if answered {
		return done, err
	}
	return nil, kickOwnQueue(ctx, c, f)
}

func kickOwnQueue(ctx context.Context, c *Config, f queue.Filter) error {
	if c.untouched() && len(f.IDs) == 0 {
		return nil
	}
	a, err := openAppliance(c, backgroundLog())
	if err != nil {
		return err
	}
	err = a.importDrops(ctx)
	if _, kerr := a.queue.Kick(f); err == nil {
		err = kerr
	}
	if rerr := a.queue.RunUntilIdle(ctx, a.handler(), 0); err == nil {
		err = rerr
	}
	return errors.Join(err, a.close())
}

// selection is the flags that choose messages.
type selection struct {
	all                       bool
	sender, recipient, domain string
}

func (s *selection) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&s.all, "all", false, "every message")
	fs.StringVar(&s.sender, "sender", "", "messages from this `ADDRESS` (\"<>\" for notices)")
	fs.StringVar(&s.recipient, "recipient", "", "mail for this `ADDRESS`")
	fs.StringVar(&s.domain, "domain", "", "mail for this `DOMAIN`")
}

func (s *selection) filter(ids []string) queue.Filter {
	return queue.Filter{IDs: ids, All: s.all, Sender: s.sender, Recipient: s.recipient, Domain: strings.ToLower(s.domain)}
}

func (s *selection) empty(ids []string) bool {
	return len(ids) == 0 && *s == selection{}
}

const queueHelp = `  list     what is queued, why it waits, and when it is tried next
  show     one message, with the history of its attempts
  cat      its content
  retry    make it due now
  hold     keep it from being tried
  release  let what is held go; its aliases and postmaster are looked up again
  remove   take it out without telling its sender
  run      try now what is queued, all or what is selected

Messages are selected by ID or by the flags below.
`

// runQueue is `danepost queue VERB`.
func runQueue(inv *invocation, args []string) error {
	fs := inv.flags("queue")
	var sel selection
	sel.flags(fs)
	asJSON := fs.Bool("json", false, "print JSON, one object a line")
	linger := fs.Duration("linger", 0, "with run: stay while anything is due within this `TIME` (30m), answering on the socket")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if *linger < 0 {
		return usageError("queue: --linger takes a time such as 30m, not %s", *linger)
	}
	if fs.NArg() == 0 {
		return usageError("queue: say what to do: list, show, cat, retry, hold, release, remove or run")
	}
	c, err := inv.config()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	verb, ids := fs.Arg(0), fs.Args()[1:]
	f := sel.filter(ids)
	switch verb {
	case "list":
		return inv.queueList(ctx, c, f, *asJSON)
	case "show", "cat":
		if len(ids) != 1 {
			return usageError("usage: danepost queue %s ID", verb)
		}
		return withQueue(ctx, c, func(op operator) error { return inv.queueOne(ctx, op, verb, ids[0], *asJSON) })
	case "run":
		if sel.empty(ids) && *linger > 0 {
			err := runQueueOnce(ctx, c, backgroundLog(), *linger)
			if errors.Is(err, queue.ErrLocked) {
				return nil // its holder looks at the maildrop again after unlocking
			}
			return err
		}
		done, err := kickQueue(ctx, c, f)
		inv.queueDone(done, *asJSON)
		return err
	case "retry", "hold", "release", "remove":
		if sel.empty(ids) {
			return usageError("queue %s: say which: IDs, --all, --sender, --recipient or --domain", verb)
		}
		return withQueue(ctx, c, func(op operator) error { return inv.queueAct(ctx, op, verb, f, *asJSON) })
	}
	return usageError("queue: unknown verb %q; there are list, show, cat, retry, hold, release, remove and run", verb)
}

func (inv *invocation) queueList(ctx context.Context, c *Config, f queue.Filter, asJSON bool) error {
	list, err := inv.listQueue(ctx, c, f)
	if err != nil {
		return err
	}
	if asJSON {
		return renderQueueJSON(inv.Out, list)
	}
	renderQueue(inv.Out, list, time.Now())
	return nil
}

func (inv *invocation) queueOne(ctx context.Context, op operator, verb, id string, asJSON bool) error {
	if verb == "cat" {
		return op.Cat(ctx, id, inv.Out)
	}
	d, err := op.Show(ctx, id)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(inv.Out).Encode(d)
	}
	renderDetail(inv.Out, d, time.Now())
	return nil
}

func (inv *invocation) queueAct(ctx context.Context, op operator, verb string, f queue.Filter, asJSON bool) error {
	act := map[string]func(context.Context, queue.Filter) ([]queue.Done, error){
		"retry": op.Retry, "hold": op.Hold, "release": op.Release, "remove": op.Remove,
	}[verb]
	done, err := act(ctx, f)
	if err != nil {
		return err
	}
	if len(done) == 0 && !asJSON {
		fmt.Fprintf(inv.Out, "nothing to %s: no queued message matches\n", verb)
	}
	inv.queueDone(done, asJSON)
	return nil
}

func (inv *invocation) queueDone(done []queue.Done, asJSON bool) {
	enc := json.NewEncoder(inv.Out)
	for i, d := range done {
		if asJSON {
			enc.Encode(&done[i])
			continue
		}
		fmt.Fprintf(inv.Out, "%s  %s for %s\n", d.QueueID, d.Did, strings.Join(d.Recipients, ", "))
	}
}
