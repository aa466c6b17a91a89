package submit

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"danepost/queue"
)

const (
	callTimeout    = 30 * time.Second // for the first frame of a connection
	answerTimeout  = 30 * time.Second // for each write to a client
	drainTimeout   = 10 * time.Second // for connections when the server ends
	waitForAttempt = 10 * time.Minute // the longest a -odi caller waits
	maxConnections = 512
	maxPerUser     = 256
)

// Operator is what the queue does for operators. *queue.Queue is one.
type Operator interface {
	List(ctx context.Context, f queue.Filter) ([]queue.Summary, error)
	Show(id string) (*queue.Detail, error)
	Cat(id string, w io.Writer) error
	Retry(f queue.Filter) ([]queue.Done, error)
	Kick(f queue.Filter) ([]queue.Done, error)
	Hold(f queue.Filter) ([]queue.Done, error)
	Release(f queue.Filter) ([]queue.Done, error)
	Remove(f queue.Filter) ([]queue.Done, error)
}

// Server answers on the daemon's Unix socket.
type Server struct {
	Gate     *Gate
	Operator Operator
	// AdminGroup may use every operator verb, as root and the server's own
	// user do; nil for no such group.
	AdminGroup *uint32
	// PasswdFile names users; "" is /etc/passwd.
	PasswdFile string
	// Yield ends a run in the background, for a daemon that wants to take
	// its place; nil for a process that stays. It does not wait.
	Yield func()
	Log   *slog.Logger

	users   knownUsers
	readers sync.Pool // of *bufio.Reader
}

// ListenSocket makes the socket at path, for everybody to connect to. It
// appears under its name only when it accepts connections, and takes the
// place of a socket that a dead process left; a live one is an error.
func ListenSocket(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, &Error{Code: ExitUnavailable, Text: fmt.Sprintf("another danepost serves %s", path)}
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket == 0 {
		return nil, &Error{Code: ExitConfig, Text: fmt.Sprintf("%s exists and is no socket; remove it or set another socket", path)}
	}
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(temp) > 107 {
		return nil, &Error{Code: ExitConfig, Text: fmt.Sprintf("the socket's path %s is too long for the system (about 100 bytes); set a shorter socket", path)}
	}
	os.Remove(temp)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, CannotCreate("cannot make the socket", err)
	}
	ln.SetUnlinkOnClose(false) // it knows only the temporary name
	if err = os.Chmod(temp, 0o666); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		ln.Close()
		os.Remove(temp)
		return nil, CannotCreate("cannot make the socket", err)
	}
	return ln, nil
}

// Serve answers connections until ctx ends, removes the socket at path, lets
// callers that were being served finish for a while, and returns when all are
// gone.
func (s *Server) Serve(ctx context.Context, ln *net.UnixListener, path string) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	t := &tables{conns: map[*net.UnixConn]*standing{}, perUser: map[uint32]int{}}
	// Work that was begun ends with the drain, not with ctx.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	made, _ := os.Lstat(path)
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-stopped:
		}
		removeSocket(made, path)
		ln.Close()
		t.closeIdle()
	})
	var fatal error
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				if isShortage(err) {
					time.Sleep(50 * time.Millisecond) // descriptors come back as callers leave
					continue
				}
				fatal = fmt.Errorf("the socket broke: %w", err)
			}
			break
		}
		wg.Go(func() { s.serve(work, c, t) })
	}
	close(stopped)
	drained := time.AfterFunc(drainTimeout, func() { cancel(); t.closeAll() })
	wg.Wait()
	drained.Stop()
	return fatal
}

// removeSocket unlinks the socket unless another server has put its own there.
func removeSocket(made os.FileInfo, path string) {
	if st, err := os.Lstat(path); err == nil && made != nil && os.SameFile(st, made) {
		os.Remove(path)
	}
}

// isShortage reports whether accepting failed for want of descriptors or memory.
func isShortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tables count connections, in all and for each user.
type tables struct {
	mu      sync.Mutex
	conns   map[*net.UnixConn]*standing
	perUser map[uint32]int
	closing bool
}

// standing is what the server knows of a connection.
type standing struct {
	uid  uint32
	idle bool // between two requests
}

func (t *tables) enter(c *net.UnixConn, uid uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.conns) >= maxConnections || t.perUser[uid] >= maxPerUser {
		return false
	}
	t.conns[c] = &standing{uid: uid}
	t.perUser[uid]++
	return true
}

func (t *tables) leave(c *net.UnixConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	uid := t.conns[c].uid
	delete(t.conns, c)
	if t.perUser[uid]--; t.perUser[uid] <= 0 {
		delete(t.perUser, uid)
	}
}

// setIdle notes that a connection waits for its next request, or that it came.
// It returns false when there is to be no other.
func (t *tables) setIdle(c *net.UnixConn, idle bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c].idle = idle
	return !idle || !t.closing
}

// closeIdle ends the connections that wait for another request, and keeps
// the others from waiting for one.
func (t *tables) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	for c, s := range t.conns {
		if s.idle {
			c.CloseRead()
		}
	}
}

func (t *tables) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		c.Close()
	}
}

// serve answers one connection.
func (s *Server) serve(ctx context.Context, c *net.UnixConn, t *tables) {
	defer c.Close()
	p, err := peerOf(c)
	if err != nil {
		s.Log.Error("socket", "reason", err.Error())
		return
	}
	w := &answer{c: c}
	if !t.enter(c, p.uid) {
		w.fail(tempf(nil, "too many connections; try again"))
		return
	}
	defer t.leave(c)
	in := s.takeReader(c)
	defer s.returnReader(in)
	for s.serveOne(ctx, p, in, w) {
		if !t.setIdle(c, true) {
			return
		}
		c.SetReadDeadline(time.Now().Add(callTimeout))
		if _, err := in.Peek(1); err != nil {
			return // it has no other
		}
		t.setIdle(c, false)
	}
}

// serveOne answers one request and says whether there may be another: not
// when the client may still be sending what belongs to this one.
func (s *Server) serveOne(ctx context.Context, p peer, in *bufio.Reader, w *answer) bool {
	w.c.SetReadDeadline(time.Now().Add(callTimeout))
	k, err := readCall(in)
	if err != nil {
		w.fail(err)
		return false
	}
	// A caller may take its time over the content: cron hands on what a job
	// says over hours. A caller that dies is noticed without a deadline.
	w.c.SetReadDeadline(time.Time{})
	body := &content{r: in, done: k.Verb != verbSubmit}
	if err := s.answer(ctx, k, p, body, w); err != nil {
		w.fail(err)
	}
	return body.done
}

// takeReader returns a buffer that holds a usual message with its request.
func (s *Server) takeReader(c *net.UnixConn) *bufio.Reader {
	in, ok := s.readers.Get().(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(nil, 16<<10)
	}
	in.Reset(c)
	return in
}

func (s *Server) returnReader(in *bufio.Reader) {
	in.Reset(nil)
	s.readers.Put(in)
}

// answer carries one call out; a result that was not written yet is an error's.
func (s *Server) answer(ctx context.Context, k *call, p peer, in io.Reader, w *answer) error {
	if k.Verb == verbSubmit {
		return s.submit(ctx, k.Request, p, in, w)
	}
	f := queue.Filter{}
	if k.Filter != nil {
		f = *k.Filter
	}
	admin := s.isAdmin(p)
	switch k.Verb {
	case verbList:
		return s.list(ctx, f, p, w)
	case verbShow:
		return s.show(k.ID, p, w)
	}
	if !admin {
		return &Error{Code: ExitNoPerm, Text: fmt.Sprintf("user %d may list only mail of its own; %s is for root and members of the group danepost-adm", p.uid, k.Verb)}
	}
	switch k.Verb {
	case verbCat:
		if err := s.Operator.Cat(k.ID, w); err != nil {
			return OperatorError(err)
		}
		return w.finish(result{})
	case verbRetry:
		return w.done(s.Operator.Retry(f))
	case verbRun:
		return w.done(s.Operator.Kick(f))
	case verbHold:
		return w.done(s.Operator.Hold(f))
	case verbRelease:
		return w.done(s.Gate.Release(ctx, s.Operator, f))
	case verbRemove:
		return w.done(s.Operator.Remove(f))
	case verbYield:
		if s.Yield == nil {
			return &Error{Code: ExitUnavailable, Text: "a daemon has the queue and keeps it"}
		}
		defer s.Yield()
		return w.finish(result{})
	}
	return &Error{Code: ExitUnavailable, Text: fmt.Sprintf("the daemon does not know the verb %q; it may be older than this program", clip(k.Verb))}
}

func (s *Server) isAdmin(p peer) bool {
	return p.uid == 0 || p.uid == uint32(os.Geteuid()) || s.AdminGroup != nil && p.in(*s.AdminGroup)
}

func (s *Server) submit(ctx context.Context, r *Request, p peer, in io.Reader, w *answer) error {
	if r == nil {
		return dataf("a submission without a request")
	}
	receipt, err := s.Gate.Accept(ctx, r, s.users.source(p.uid, cmp.Or(s.PasswdFile, "/etc/passwd")), in)
	if err != nil {
		return err
	}
	res := result{ID: receipt.ID}
	if r.Wait {
		res.Waited = AwaitAttempt(ctx, s.Operator, receipt.ID)
	}
	return w.finish(res)
}

// AwaitAttempt returns when each recipient of a message was attempted once or
// is held, at the latest after ten minutes. It returns a line for every
// recipient that is still queued then.
func AwaitAttempt(ctx context.Context, op Operator, id string) []string {
	ctx, cancel := context.WithTimeout(ctx, waitForAttempt)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		list, err := op.List(ctx, queue.Filter{IDs: []string{id}})
		if err != nil || len(list) == 0 {
			return nil
		}
		var lines []string
		pending := false
		for _, r := range list[0].Recipients {
			pending = pending || r.State == "running" || r.State == "ready"
			reason := r.DelayReason
			if reason == "" {
				reason = "not attempted yet"
			}
			lines = append(lines, id+": "+r.Address+": "+reason)
		}
		if !pending {
			return lines
		}
		select {
		case <-ctx.Done():
			return lines
		case <-time.After(pause):
		}
	}
}

func (s *Server) list(ctx context.Context, f queue.Filter, p peer, w *answer) error {
	if !s.isAdmin(p) {
		f.UID = &p.uid
	}
	all, err := s.Operator.List(ctx, f)
	if err != nil {
		return OperatorError(err)
	}
	for i := range all {
		if err := w.entry(&all[i]); err != nil {
			return err
		}
	}
	return w.finish(result{})
}

func (s *Server) show(id string, p peer, w *answer) error {
	d, err := s.Operator.Show(id)
	if err == nil && !s.isAdmin(p) && d.UID != p.uid {
		err = fmt.Errorf("%s: %w", clip(id), queue.ErrNotFound)
	}
	if err != nil {
		return OperatorError(err)
	}
	if err := w.entry(d); err != nil {
		return err
	}
	return w.finish(result{})
}

// OperatorError gives the queue's errors the exit codes of operator commands.
func OperatorError(err error) error {
	var coded *Error
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrNoFilter):
		return &Error{Code: ExitUsage, Text: err.Error()}
	}
	return &Error{Code: ExitTempFail, Text: err.Error()}
}

func readCall(in *bufio.Reader) (*call, error) {
	k := &call{}
	kind, payload, err := readFrame(in)
	if err != nil {
		return nil, dataf("no request came: %v", err)
	}
	if kind != frameCall {
		return nil, dataf("the connection does not begin with a request")
	}
	if err := json.Unmarshal(payload, k); err != nil {
		return nil, dataf("the request cannot be read: %v", err)
	}
	if k.Version != wireVersion {
		return nil, &Error{Code: ExitUnavailable, Text: fmt.Sprintf("the daemon speaks version %d of the protocol, not %d: restart it after an upgrade", wireVersion, k.Version)}
	}
	return k, nil
}

// answer writes to one client; its Write sends content.
type answer struct {
	c *net.UnixConn
}

func (w *answer) frame(kind byte, v any) error {
	w.c.SetWriteDeadline(time.Now().Add(answerTimeout))
	return writeJSON(w.c, kind, v)
}

func (w *answer) entry(v any) error     { return w.frame(frameEntry, v) }
func (w *answer) finish(r result) error { return w.frame(frameResult, r) }

func (w *answer) done(d []queue.Done, err error) error {
	if err != nil {
		return OperatorError(err)
	}
	return w.finish(result{Done: d})
}

// fail tells the client what went wrong. That it may have gone is no news.
func (w *answer) fail(err error) {
	w.frame(frameResult, result{Code: ExitCode(err), Text: err.Error()})
}

func (w *answer) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxFrame)]
		w.c.SetWriteDeadline(time.Now().Add(answerTimeout))
		if err := writeFrame(w.c, frameData, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}
