package submit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"
	"time"

	"danepost/queue"
)

// ErrNoDaemon says that nobody answers on the socket.
var ErrNoDaemon = errors.New("no daemon answers on the socket")

// ErrBroken says that the connection broke before the daemon answered: the
// message may be queued or not.
var ErrBroken = errors.New("the daemon went away before it answered")

// Client talks to a Server. The zero value with a Path is ready; its methods
// are safe for concurrent use, and each makes a connection of its own.
type Client struct {
	Path string
	// Keep makes Submit leave its connection open for the next one. Close
	// then closes those that are not in use.
	Keep bool

	links sync.Pool // of *link, closed
	mu    sync.Mutex
	idle  []*link // open
}

// link is a connection with its buffers. The writer's holds a usual message
// with its request.
type link struct {
	*net.UnixConn
	in  *bufio.Reader
	out *bufio.Writer
}

// link returns an open connection: one that was kept, if the server has not
// closed it meanwhile, or a new one.
func (c *Client) link(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			break
		}
		l := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if isQuiet(l.UnixConn) {
			return l, nil
		}
		c.end(l)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	l, ok := c.links.Get().(*link)
	if !ok {
		l = &link{in: bufio.NewReaderSize(nil, 1<<10), out: bufio.NewWriterSize(nil, 16<<10)}
	}
	l.UnixConn = conn
	l.in.Reset(conn)
	l.out.Reset(conn)
	return l, nil
}

// end closes a connection.
func (c *Client) end(l *link) {
	l.Close()
	l.UnixConn = nil
	l.in.Reset(nil)
	l.out.Reset(nil)
	c.links.Put(l)
}

// keep puts a connection by for the next message.
func (c *Client) keep(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, l)
}

// Close closes the connections that Keep left open.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.idle {
		c.end(l)
	}
	c.idle = nil
}

// isQuiet reports whether a kept connection is open and has nothing to say.
// A server that goes or has waited long enough closes it.
func isQuiet(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// Submission is what Submit brings back.
type Submission struct {
	Receipt
	// Waited says, for a request with Wait, one line for each recipient that
	// is still queued after its first attempt.
	Waited []string
}

// Submit hands a message to the daemon. Errors: ErrNoDaemon before anything
// of content was read, ErrBroken, the reader's, or the daemon's *Error.
func (c *Client) Submit(ctx context.Context, r *Request, content io.Reader) (Submission, error) {
	l, err := c.link(ctx)
	if err != nil {
		return Submission{}, err
	}
	conn := l.UnixConn
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	sub, err := l.submit(r, content)
	if stop() && err == nil && c.Keep {
		c.keep(l)
	} else {
		c.end(l)
	}
	return sub, err
}

func (l *link) submit(r *Request, content io.Reader) (Submission, error) {
	if err := send(l.out, &call{Version: wireVersion, Verb: verbSubmit, Request: r}, content); err != nil {
		return Submission{}, err
	}
	res, err := receive(l.in, nil)
	if err != nil {
		return Submission{}, err
	}
	return Submission{Receipt{res.ID}, res.Waited}, nil
}

// send writes the call and all of content, in one write if the message is
// small. Failures to write are not reported: the daemon has refused the
// message then, and its answer says why.
func send(w *bufio.Writer, k *call, content io.Reader) error {
	if err := writeJSON(w, frameCall, k); err != nil {
		var coded *Error
		if errors.As(err, &coded) {
			return err
		}
		return nil
	}
	for {
		const worthReading = 1 << 10
		if w.Available() < headSize+worthReading && w.Flush() != nil {
			return nil
		}
		// The content is read to where it is sent from.
		frame := w.AvailableBuffer()[:min(w.Available(), headSize+maxFrame)]
		n, readErr := content.Read(frame[headSize:])
		if n > 0 {
			putHead(frame, frameData, n)
			if _, err := w.Write(frame[:headSize+n]); err != nil {
				return nil
			}
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return readErr
		}
	}
	if writeFrame(w, frameEnd, nil) == nil {
		w.Flush()
	}
	return nil
}

// receive reads frames up to the result; others go to each.
func receive(in *bufio.Reader, each func(kind byte, payload []byte) error) (*result, error) {
	for {
		kind, payload, err := readFrame(in)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		if kind == frameResult {
			res := &result{}
			if err := json.Unmarshal(payload, res); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBroken, err)
			}
			if res.Code != 0 {
				return nil, &Error{Code: res.Code, Text: res.Text}
			}
			return res, nil
		}
		if each == nil {
			return nil, fmt.Errorf("%w: unexpected frame %q", ErrBroken, kind)
		}
		if err := each(kind, payload); err != nil {
			return nil, err
		}
	}
}

// dial connects; a full line at the door (EAGAIN) is waited for.
func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		// A connection to a socket of this host is made at once or not at all.
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.Path, Net: "unix"})
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EAGAIN) && time.Now().Before(deadline) && ctx.Err() == nil:
			time.Sleep(20 * time.Millisecond)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ECONNREFUSED),
			errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EINVAL):
			return nil, fmt.Errorf("%w: %w", ErrNoDaemon, err)
		default:
			return nil, tempf(err, "cannot reach the daemon")
		}
	}
}

// ask makes a call without content.
func (c *Client) ask(ctx context.Context, k *call, each func(kind byte, payload []byte) error) (*result, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	k.Version = wireVersion
	if err := writeJSON(conn, frameCall, k); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return receive(bufio.NewReader(conn), each)
}

// List is queue.Queue's List, through the daemon. Callers that are no
// operators see only their own mail.
func (c *Client) List(ctx context.Context, f queue.Filter) ([]queue.Summary, error) {
	var all []queue.Summary
	_, err := c.ask(ctx, &call{Verb: verbList, Filter: &f}, func(_ byte, payload []byte) error {
		var s queue.Summary
		if err := json.Unmarshal(payload, &s); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// Show is queue.Queue's Show, through the daemon.
func (c *Client) Show(ctx context.Context, id string) (*queue.Detail, error) {
	d := &queue.Detail{}
	_, err := c.ask(ctx, &call{Verb: verbShow, ID: id}, func(_ byte, payload []byte) error {
		return json.Unmarshal(payload, d)
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Cat writes the content of a message to w.
func (c *Client) Cat(ctx context.Context, id string, w io.Writer) error {
	_, err := c.ask(ctx, &call{Verb: verbCat, ID: id}, func(_ byte, payload []byte) error {
		_, err := w.Write(payload)
		return err
	})
	return err
}

// Retry makes waiting recipients due now.
func (c *Client) Retry(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return c.act(ctx, verbRetry, f)
}

// Hold keeps recipients from being attempted.
func (c *Client) Hold(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return c.act(ctx, verbHold, f)
}

// Release lets held recipients go.
func (c *Client) Release(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return c.act(ctx, verbRelease, f)
}

// Remove takes recipients out of the queue without a bounce.
func (c *Client) Remove(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return c.act(ctx, verbRemove, f)
}

// Run attempts now what waits; a zero filter means everything.
func (c *Client) Run(ctx context.Context, f queue.Filter) ([]queue.Done, error) {
	return c.act(ctx, verbRun, f)
}

// Yield asks a run in the background to give up the queue. nil says that it
// will; a daemon that stays, or a run too old to know the verb, is an *Error
// with ExitUnavailable.
func (c *Client) Yield(ctx context.Context) error {
	_, err := c.ask(ctx, &call{Verb: verbYield}, nil)
	return err
}

func (c *Client) act(ctx context.Context, verb string, f queue.Filter) ([]queue.Done, error) {
	res, err := c.ask(ctx, &call{Verb: verb, Filter: &f}, nil)
	if err != nil {
		return nil, err
	}
	return res.Done, nil
}
