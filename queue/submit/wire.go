package submit

import (
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
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	// One write: a small frame is one packet and one wake-up of the peer.
	buf := make([]byte, 0, len(head)+len(payload))
	_, err := w.Write(append(append(buf, head[:]...), payload...))
	return err
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

// readFrame reads one frame into buf, growing it within the limits.
func readFrame(r io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, n := head[0], int(binary.BigEndian.Uint32(head[1:]))
	limit := maxJSON
	if kind == frameData || kind == frameEnd {
		limit = maxFrame
	}
	if n > limit {
		return 0, nil, fmt.Errorf("a frame of %d bytes is larger than the protocol allows", n)
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	_, err = io.ReadFull(r, buf[:n])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return kind, buf[:n], err
}

// content reads the data frames of one message as a stream. Only an E frame
// is its end: a connection that breaks off is an error, so that half a message
// is never taken for a whole one.
type content struct {
	r    io.Reader
	buf  []byte
	rest []byte
	done bool
}

func (c *content) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.done {
			return 0, io.EOF
		}
		kind, payload, err := readFrame(c.r, c.buf)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, fmt.Errorf("the message broke off: %w", err)
		}
		c.buf = payload[:cap(payload)]
		switch kind {
		case frameData:
			c.rest = payload
		case frameEnd:
			c.done = true
		default:
			return 0, fmt.Errorf("frame %q stands where content was due", kind)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
