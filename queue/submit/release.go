package submit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"danepost/queue"
)

// Release lets held recipients go. A recipient that was held because its
// address is a local one is resolved again first: if postmaster or an alias
// is set by now, its copy is queued for the new addresses and the old
// recipient removed. One that still leads nowhere stays held, as an attempt
// would only bounce.
func (g *Gate) Release(ctx context.Context, op Operator, f queue.Filter) ([]queue.Done, error) {
	if !f.All && len(f.IDs) == 0 && f.Sender == "" && f.Recipient == "" && f.Domain == "" && f.UID == nil {
		return nil, queue.ErrNoFilter
	}
	held, err := op.List(ctx, f)
	if err != nil {
		return nil, err
	}
	var all []queue.Done
	for _, s := range held {
		var other []string
		for _, r := range s.Recipients {
			m, err := ParseSender(r.Address)
			if r.State != "held" || !matches(f, r.Address) {
				continue
			}
			if err != nil || !g.isOwnHost(m.Domain) && m.Domain != "" {
				other = append(other, r.Address)
				continue
			}
			done, err := g.redirect(ctx, op, s.QueueID, m, r.Address)
			if err != nil {
				return all, err
			}
			all = append(all, done...)
		}
		for _, address := range other {
			done, err := op.Release(queue.Filter{IDs: []string{s.QueueID}, Recipient: address})
			if err != nil {
				return all, err
			}
			all = append(all, done...)
		}
	}
	return all, nil
}

// matches repeats the part of a filter that selects single recipients.
func matches(f queue.Filter, address string) bool {
	_, domain, _ := cutLast(address, '@')
	if f.Domain != "" && !strings.EqualFold(domain, f.Domain) {
		return false
	}
	if f.Recipient == "" || strings.EqualFold(address, f.Recipient) {
		return true
	}
	return f.Substring && strings.Contains(strings.ToLower(address), strings.ToLower(f.Recipient))
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// redirect queues a copy of a message for where a local recipient leads now.
func (g *Gate) redirect(ctx context.Context, op Operator, id string, m Mailbox, address string) ([]queue.Done, error) {
	to := g.Resolve(m)
	if i := slices.IndexFunc(to, func(r queue.Recipient) bool { return r.Hold != "" }); i >= 0 {
		return nil, &Error{Code: ExitConfig, Text: fmt.Sprintf("%s stays held: %s", id, to[i].Hold)}
	}
	d, err := op.Show(id)
	if err != nil {
		return nil, err
	}
	env := d.Envelope
	env.Recipients = to
	// The key makes the copy happen once, whatever fails between the two steps.
	env.DropKey = "release." + id + "." + address
	pr, pw := io.Pipe()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		pw.CloseWithError(op.Cat(id, pw))
	}()
	newID, err := g.queue.Put(ctx, env, pr)
	pr.CloseWithError(err)
	<-copied
	if err != nil {
		return nil, putError(err, g.MaxSize)
	}
	g.log.Info("redirected", "id", id, "as", newID, "from", address, "to", to[0].Address, "nrcpt", len(to))
	done, err := op.Remove(queue.Filter{IDs: []string{id}, Recipient: address})
	for i := range done {
		done[i].Did = "released"
	}
	return done, err
}
