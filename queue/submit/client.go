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
// are safe for concurrent use, each makes a connection of its own.
type Client struct {
	Path string
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
	conn, err := c.dial(ctx)
	if err != nil {
		return Submission{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	readErr := send(conn, &call{Version: wireVersion, Verb: verbSubmit, Request: r}, content)
	if readErr != nil {
		return Submission{}, readErr
	}
	res, err := receive(conn, nil)
	if err != nil {
		return Submission{}, err
	}
	return Submission{Receipt{res.ID}, res.Waited}, nil
}

// send writes the call and all of content. Failures to write are not
// reported: the daemon has refused the message then, and its answer says why.
func send(conn net.Conn, k *call, content io.Reader) error {
	w := bufio.NewWriterSize(conn, 8<<10)
	if err := writeJSON(w, frameCall, k); err != nil {
		var coded *Error
		if errors.As(err, &coded) {
			return err
		}
		return nil
	}
	buf := make([]byte, 16<<10)
	for {
		n, readErr := content.Read(buf)
		if n > 0 {
			if err := writeFrame(w, frameData, buf[:n]); err != nil {
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
func receive(conn net.Conn, each func(kind byte, payload []byte) error) (*result, error) {
	in := bufio.NewReaderSize(conn, 4<<10)
	for {
		kind, payload, err := readFrame(in, nil)
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
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := d.DialContext(ctx, "unix", c.Path)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EAGAIN) && time.Now().Before(deadline):
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
	return receive(conn, each)
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
