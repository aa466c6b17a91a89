package submit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
)

const (
	maxMIMEDepth  = 20
	maxPartHeader = 32 << 10
)

// encoding is how a part's long lines are brought under the limit.
type encoding uint8

const (
	wrapFold   encoding = iota // line break and a space; the text changes
	wrapBase64                 // line break; base64 does not mind
	wrapQP                     // soft line break inside quoted-printable
	toQP                       // the part becomes quoted-printable; nothing is lost
)

// walker reads a body line by line and tells which part of its MIME structure
// (RFC 2046 §5.1) each piece belongs to. Lines may be of any length: they come
// in pieces.
type walker struct {
	r     *bufio.Reader
	stack []string // boundaries of the open multiparts, innermost last
	part  int      // number of the current part; counts up
	enc   encoding // of the current part
	bol   bool     // the next piece begins a line

	inHeader bool
	raw      bytes.Buffer // of the header being read
}

// piece is what step found.
type piece struct {
	part int
	enc  encoding
	// header is a part's whole header section, nil for everything else.
	header *header
	data   []byte // valid until the next step
	bol    bool   // data begins a line
	eol    bool   // data ends with the line's CRLF
}

// newWalker begins behind a message's header.
func newWalker(r io.Reader, top *header) *walker {
	w := &walker{r: bufio.NewReaderSize(r, 16<<10), bol: true}
	w.enter(top)
	return w
}

// enter begins the part that h describes.
func (w *walker) enter(h *header) {
	w.part++
	contentType := h.first("content-type")
	kind, params, err := mime.ParseMediaType(contentType)
	if contentType == "" {
		kind, err = "text/plain", nil
	}
	cte := strings.ToLower(h.first("content-transfer-encoding"))
	w.enc = wrapFold
	switch {
	case err != nil:
	case strings.HasPrefix(kind, "multipart/"):
		if b := params["boundary"]; b != "" && len(w.stack) < maxMIMEDepth {
			w.stack = append(w.stack, b)
		}
	case kind == "message/rfc822" && cte != "base64" && cte != "quoted-printable":
		w.inHeader = true
	case strings.HasPrefix(kind, "message/"):
	case cte == "base64":
		w.enc = wrapBase64
	case cte == "quoted-printable":
		w.enc = wrapQP
	case cte == "" || cte == "7bit" || cte == "8bit" || cte == "binary":
		// RFC 2045 §6: any discrete part may be quoted-printable, and unlike
		// folding this keeps its content as it was.
		w.enc = toQP
	}
}

// step returns the next piece; io.EOF ends.
func (w *walker) step() (piece, error) {
	for {
		data, bol, err := w.read()
		if err != nil {
			if errors.Is(err, io.EOF) && w.raw.Len() > 0 {
				return w.endHeader(nil), nil
			}
			return piece{}, err
		}
		if bol && w.bol && w.boundary(data) {
			if w.raw.Len() > 0 {
				// A header that a boundary cuts off: both are passed on.
				return w.endHeader(data), nil
			}
			return piece{part: w.part, data: data, bol: true, eol: true}, nil
		}
		if !w.inHeader {
			return piece{part: w.part, enc: w.enc, data: data, bol: bol, eol: w.bol}, nil
		}
		w.raw.Write(data)
		if bol && len(bytes.TrimRight(data, "\r\n")) == 0 || w.raw.Len() > maxPartHeader {
			return w.endHeader(nil), nil
		}
	}
}

// read returns a line, or a piece of one that never parts a CR from its LF.
func (w *walker) read() (data []byte, bol bool, err error) {
	data, err = w.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
		if data[len(data)-1] == '\r' {
			data = data[:len(data)-1]
			err = w.r.UnreadByte()
		}
	}
	if len(data) > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	bol, w.bol = w.bol, bytes.HasSuffix(data, []byte("\n"))
	return data, bol, err
}

// boundary checks whether a line delimits a part, and changes the state if so.
func (w *walker) boundary(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("--")) {
		return false
	}
	text := string(bytes.TrimRight(line[2:], " \t\r\n"))
	for i := len(w.stack) - 1; i >= 0; i-- {
		switch text {
		case w.stack[i]:
			w.stack = w.stack[:i+1]
			w.inHeader = true
		case w.stack[i] + "--":
			w.stack = w.stack[:i]
			w.inHeader = false
		default:
			continue
		}
		w.part++
		w.enc = wrapFold // an epilogue, until a header says more
		return true
	}
	return false
}

// endHeader parses the header read so far. One that is too long or no header
// at all is passed on as the text it is. tail is a line that follows it.
func (w *walker) endHeader(tail []byte) piece {
	raw := append(bytes.Clone(w.raw.Bytes()), tail...)
	w.raw.Reset()
	wasBoundary := tail != nil
	if !wasBoundary {
		w.inHeader = false
	}
	h, lead, err := readHeader(bufio.NewReaderSize(bytes.NewReader(raw), 16<<10))
	if wasBoundary || err != nil || len(lead) > 0 || !bytes.HasSuffix(raw, []byte("\r\n\r\n")) && string(raw) != "\r\n" {
		w.part++
		w.enc = wrapFold
		return piece{part: w.part, enc: wrapFold, data: raw, bol: true, eol: true}
	}
	w.enter(&h)
	return piece{part: w.part, enc: w.enc, header: &h}
}
