package submit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"danepost/queue"
)

const (
	maxRecipients = 10000
	maxHops       = 100 // Received fields of a message that is going in circles
	maxEnvID      = 100 // RFC 3461 §4.4
)

// Gate is the one way into the queue. Make it with NewGate; its methods are
// safe for concurrent use.
type Gate struct {
	Policy
	queue Queue
	now   func() time.Time
	// clockSet reports whether the wall clock can be believed.
	clockSet func() bool
	log      *slog.Logger
	slots    *slots
	desks    sync.Pool    // of *desk
	keyed    sync.RWMutex // held for reading while a message with a key is put
}

// Deps are the things a Gate works with. Nil functions and logger have
// defaults: time.Now, a clock that is set, no log.
type Deps struct {
	Queue    Queue
	Now      func() time.Time
	ClockSet func() bool
	Log      *slog.Logger
}

// NewGate makes the gate of a queue.
func NewGate(p Policy, d Deps) *Gate {
	g := &Gate{Policy: p, queue: d.Queue, now: d.Now, clockSet: d.ClockSet, log: d.Log, slots: newSlots()}
	if g.now == nil {
		g.now = time.Now
	}
	if g.clockSet == nil {
		g.clockSet = func() bool { return true }
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	return g
}

// Accept takes one message. When it returns nil the message is durable under
// the id; on error nothing of it was kept, and the error carries the exit
// code (see ExitCode). content is the message as the caller wrote it, its
// line ends in any style.
func (g *Gate) Accept(ctx context.Context, r *Request, src Source, content io.Reader) (Receipt, error) {
	id, env, err := g.accept(ctx, r, src, content)
	if err != nil {
		g.log.Warn("rejected", "user", src.User, "uid", src.UID, "code", ExitCode(err), "reason", err.Error())
		return Receipt{}, err
	}
	g.log.LogAttrs(ctx, slog.LevelInfo, "accepted", slog.String("id", id), slog.String("user", src.User),
		slog.Uint64("uid", uint64(src.UID)), slog.String("from", env.Sender), slog.Int("nrcpt", len(env.Recipients)))
	return Receipt{ID: id}, nil
}

func (g *Gate) accept(ctx context.Context, r *Request, src Source, content io.Reader) (string, queue.Envelope, error) {
	if err := g.room(g.SpoolDir); err != nil {
		return "", queue.Envelope{}, err
	}
	m, err := g.read(content)
	if err != nil {
		return "", queue.Envelope{}, err
	}
	defer g.close(m)
	// The caller's speed is behind us: from here on the work is ours, and
	// shared fairly among users.
	release, err := g.slots.take(ctx, src.UID)
	if err != nil {
		return "", queue.Envelope{}, err
	}
	defer release()

	env, err := g.envelope(r, src, &m.header)
	if err != nil {
		return "", env, err
	}
	if err := g.complete(m, &env, r, src); err != nil {
		return "", env, err
	}
	out, err := m.reader(&env)
	if err != nil {
		return "", env, err
	}
	if env.DropKey != "" {
		g.keyed.RLock()
		defer g.keyed.RUnlock()
	}
	id, err := g.queue.Put(ctx, env, out)
	return id, env, putError(err, g.MaxSize)
}

// putError gives the queue's errors their exit codes.
func putError(err error, limit int64) error {
	var coded *Error
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.Is(err, queue.ErrTooLarge):
		return errTooLarge(limit)
	case errors.Is(err, queue.ErrUnsuitable):
		return &Error{Code: ExitConfig, Text: "the message was not queued", Err: err}
	}
	return tempf(err, "the message was not queued")
}

// room refuses mail while the disk that holds dir is nearly full.
func (g *Gate) room(dir string) error {
	if g.MinFree <= 0 || dir == "" {
		return nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return tempf(err, "cannot see how much room %s has", dir)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < g.MinFree {
		return tempf(nil, "only %d MB are free in %s, mail is accepted from %d MB on (min_free_mb under [queue])",
			free>>20, dir, g.MinFree>>20)
	}
	return nil
}

// message is one message in the gate's hands.
type message struct {
	header header
	body   *spool
	desk   *desk
}

// desk is the memory a message is worked on with. Desks are used again: else
// the garbage of small messages costs more than all that is done with them.
type desk struct {
	in     *bufio.Reader
	buffer *fillBuffers
	body   spool
	head   bytes.Buffer
}

// maxDesk is the size of a body or header that a desk keeps the room of.
const maxDesk = 32 << 10

func (g *Gate) takeDesk() *desk {
	if d, ok := g.desks.Get().(*desk); ok {
		return d
	}
	return &desk{in: bufio.NewReaderSize(nil, 16<<10), buffer: newFillBuffers()}
}

// close frees what the message holds.
func (g *Gate) close(m *message) {
	d := m.desk
	d.in.Reset(nil)
	d.head.Reset()
	d.body.Close()
	if d.body.reset(); d.body.mem.Cap() <= maxDesk && d.head.Cap() <= maxDesk {
		g.desks.Put(d)
	}
}

// read takes the whole message in: the header in memory, the body spooled.
func (g *Gate) read(content io.Reader) (*message, error) {
	d := g.takeDesk()
	m := &message{desk: d, body: &d.body}
	m.body.dir = g.SpoolDir
	d.in.Reset(content)
	var lead []byte
	var err error
	m.header, lead, err = readHeader(d.in)
	if err == nil {
		err = m.body.fill(behind(lead, d.in), g.MaxSize, d.buffer)
	}
	if err != nil {
		g.close(m)
		return nil, err
	}
	return m, nil
}

// behind reads lead, then r.
func behind(lead []byte, r io.Reader) io.Reader {
	if len(lead) == 0 {
		return r
	}
	return io.MultiReader(bytes.NewReader(lead), r)
}

// envelope makes the queue's envelope from what the caller said and, with
// -t, from the header.
func (g *Gate) envelope(r *Request, src Source, h *header) (queue.Envelope, error) {
	env := queue.Envelope{
		Body: r.Body, Ret: r.Ret, EnvID: r.EnvID, RequireTLS: r.RequireTLS, SMTPUTF8: r.SMTPUTF8, UID: src.UID,
	}
	if err := checkParameters(r); err != nil {
		return env, err
	}
	if r.Key != "" {
		env.DropKey = DropKey(src.UID, r.Key)
	}
	sender, err := g.sender(r.Sender, src)
	if err != nil {
		return env, err
	}
	env.Sender = sender.String()
	env.SMTPUTF8 = env.SMTPUTF8 || sender.IsUTF8()
	given, err := g.recipients(r, h)
	if err != nil {
		return env, err
	}
	env.Recipients = given
	for _, rc := range given {
		env.SMTPUTF8 = env.SMTPUTF8 || !isASCII(rc.Address)
	}
	return env, nil
}

// DropKey is what the queue knows a request of a user by: keys that users make
// up never meet.
func DropKey(uid uint32, key string) string { return fmt.Sprintf("%d.%s", uid, key) }

// recipients resolves everybody the request names, each once.
func (g *Gate) recipients(r *Request, h *header) ([]queue.Recipient, error) {
	words := r.Recipients
	if r.FromHeaders {
		for _, list := range h.recipientLists() {
			words = append(words[:len(words):len(words)], Recipient{Text: list, Notify: r.Notify})
		}
	}
	var out []queue.Recipient
	seen := map[string]bool{}
	for _, w := range words {
		boxes, err := ParseRecipients(w.Text)
		if err != nil {
			return nil, err
		}
		for _, m := range boxes {
			for _, rc := range g.Resolve(m) {
				if seen[rc.Address] {
					continue
				}
				if len(out) >= maxRecipients {
					return nil, dataf("more than %d recipients", maxRecipients)
				}
				seen[rc.Address] = true
				rc.Notify, rc.ORcpt = w.Notify, w.ORcpt
				out = append(out, rc)
			}
		}
	}
	if len(out) == 0 {
		if r.FromHeaders {
			return nil, usagef("no recipients: neither the command line nor To, Cc and Bcc name anybody")
		}
		return nil, usagef("no recipients: name them behind the options, or use -t to take them from the message")
	}
	return out, nil
}

// recipientLists are the values -t takes recipients from. A message that is
// resent goes to the Resent ones only (RFC 5322 §3.6.6).
func (h *header) recipientLists() []string {
	prefix := ""
	if h.has("resent-to", "resent-cc", "resent-bcc") {
		prefix = "resent-"
	}
	var lists []string
	for _, f := range h.fields {
		switch f.name {
		case prefix + "to", prefix + "cc", prefix + "bcc":
			lists = append(lists, f.value())
		}
	}
	return lists
}

// checkParameters refuses values no client of ours sends: they come from a
// socket or a file that anybody may write to.
func checkParameters(r *Request) error {
	if r.Body != "" && r.Body != "7BIT" && r.Body != "8BITMIME" {
		return dataf("body type %q is neither 7BIT nor 8BITMIME", clip(r.Body))
	}
	if r.Ret != "" && r.Ret != "FULL" && r.Ret != "HDRS" {
		return dataf("RET %q is neither FULL nor HDRS", clip(r.Ret))
	}
	if len(r.EnvID) > maxEnvID || !isPrintable(r.EnvID) {
		return dataf("ENVID %q is not up to %d printable ASCII characters", clip(r.EnvID), maxEnvID)
	}
	if len(r.Key) > 128 || !isPrintable(r.Key) {
		return dataf("the key of a request is not up to 128 printable characters")
	}
	notify := []string{r.Notify}
	for _, rc := range r.Recipients {
		notify = append(notify, rc.Notify)
		if len(rc.ORcpt) > 500 || !isPrintable(rc.ORcpt) {
			return dataf("ORCPT %q is not up to 500 printable ASCII characters", clip(rc.ORcpt))
		}
	}
	for _, n := range notify {
		if n == "" {
			continue
		}
		if clean, err := parseNotify(n); err != nil || clean != n {
			return dataf("NOTIFY %q is not what RFC 3461 allows", clip(n))
		}
	}
	return nil
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// messageID makes a Message-ID (RFC 5322 §3.6.4): random, because a clock may
// not be set and a counter would need a file.
func (g *Gate) messageID() string {
	var b [16]byte
	rand.Read(b[:])
	return "<" + hex.EncodeToString(b[:]) + "@" + g.origin() + ">"
}
