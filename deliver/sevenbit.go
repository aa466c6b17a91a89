package deliver

import (
	"bufio"
	"errors"
	"io"
)

// to7Bit re-encodes; w nil: only find out whether it can be done.
func to7Bit(w *bufio.Writer, src io.Reader) error { return errors.New("not written yet") }
