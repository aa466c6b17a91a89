package cli

import (
	"errors"
	"io"

	"danepost/queue/submit"
)

// output is standard output, remembering the first write that failed: a
// command whose answer nobody got did not do its work, whichever of the many
// printing functions lost it.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// verdict is how a command ends that ended with err. What else went wrong
// counts more than that its answer was lost.
func (o *output) verdict(err error) error {
	var quiet exitStatus
	if o.err == nil || err != nil && !errors.As(err, &quiet) && !errors.Is(err, o.err) {
		return err
	}
	return &submit.Error{Code: submit.ExitTempFail, Text: "cannot print the answer", Err: o.err}
}
