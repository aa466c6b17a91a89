package submit

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"danepost/queue"
)

// The protocol's version, and the limits on its frames. See the package
// comment.
const (
	wireVersion = 1
	maxFrame    = 64 << 10
	maxJSON     = 2 << 20
	headSize    = 5 // of a frame
)

// Kinds of frames.
const (
	frameCall   = 'C'
	frameData   = 'D'
	frameEnd    = 'E'
	frameEntry  = 'L'
	frameResult = 'R'
)

// Verbs of a call.
const (
	verbSubmit  = "submit"
	verbList    = "list"
	verbShow    = "show"
	verbCat     = "cat"
	verbRetry   = "retry"
	verbHold    = "hold"
	verbRelease = "release"
	verbRemove  = "remove"
	verbRun     = "run"
	verbYield   = "yield"
)

// call is the first frame of a connection.
type call struct {
	Version int           `json:"version"`
	Verb    string        `json:"verb"`
	Request *Request      `json:"request,omitempty"`
	Filter  *queue.Filter `json:"filter,omitempty"`
	ID      string        `json:"id,omitempty"`
}

// result is the last frame of a connection.
type result struct {
	ID     string       `json:"id,omitempty"`
	Waited []string     `json:"waited,omitempty"` // with Wait: what is left to say about the first attempt
	Done   []queue.Done `json:"done,omitempty"`
	Code   int          `json:"code,omitempty"` // exit code; 0 is success
	Text   string       `json:"text,omitempty"`
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	// One write: a small frame is one packet and one wake-up of the peer.
	frame := make([]byte, headSize, headSize+len(payload))
	putHead(frame, kind, len(payload))
	_, err := w.Write(append(frame, payload...))
	return err
}

// putHead begins a frame of n bytes.
func putHead(frame []byte, kind byte, n int) {
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], uint32(n))
}

func writeJSON(w io.Writer, kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxJSON {
		return dataf("a request of %d bytes is more than the socket takes", len(b))
	}
	return writeFrame(w, kind, b)
}

// frameHead reads the head of a frame. It returns io.EOF, as it is, where the
// stream ends before it.
func frameHead(r *bufio.Reader) (kind byte, n int, err error) {
	head, err := r.Peek(headSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	kind, n = head[0], int(binary.BigEndian.Uint32(head[1:]))
	limit := maxJSON
	if kind == frameData || kind == frameEnd {
		limit = maxFrame
	}
	if n > limit {
		return 0, 0, fmt.Errorf("a frame of %d bytes is larger than the protocol allows", n)
	}
	_, err = r.Discard(headSize)
	return kind, n, err
}

// readFrame reads one frame. What it returns may be overwritten by the next
// read.
func readFrame(r *bufio.Reader) (kind byte, payload []byte, err error) {
	kind, n, err := frameHead(r)
	if err != nil {
		return 0, nil, err
	}
	if n <= r.Size() {
		if payload, err = r.Peek(n); err == nil {
			_, err = r.Discard(n)
		}
	} else {
		payload = make([]byte, n)
		_, err = io.ReadFull(r, payload)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return kind, payload, err
}

// content reads the data frames of one message as a stream. Only an E frame
// is its end: a connection that breaks off is an error, so that half a message
// is never taken for a whole one.
type content struct {
	r    *bufio.Reader
	left int // bytes of the frame being read
	done bool
}

func (c *content) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		return n, brokeOff(err)
	}
	return n, nil
}

// next begins a frame.
func (c *content) next() error {
	kind, n, err := frameHead(c.r)
	if err != nil {
		return brokeOff(err)
	}
	switch kind {
	case frameData:
		c.left = n
		return nil
	case frameEnd:
		c.done = true
		_, err := c.r.Discard(n) // nothing, as clients write it
		return err
	}
	return fmt.Errorf("frame %q stands where content was due", kind)
}

func brokeOff(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the message broke off: %w", err)
}
