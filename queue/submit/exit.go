package submit

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Exit codes of sysexits.h, the only ones a sendmail program ends with.
const (
	ExitOK          = 0
	ExitUsage       = 64 // the command line is wrong, or names nobody to send to
	ExitDataErr     = 65 // the message or one of its addresses is wrong
	ExitUnavailable = 69 // a part that is needed does not answer
	ExitSoftware    = 70 // the program itself is wrong
	ExitOSErr       = 71 // the system refused something it should not
	ExitCantCreate  = 73 // a file could not be made
	ExitTempFail    = 75 // nothing is wrong with the message: try again
	ExitNoPerm      = 77 // the caller may not do that
	ExitConfig      = 78 // the configuration is wrong
)

// Error is a failure with the exit code a caller of sendmail(1) gets for it.
// Text is one line for the person who must act: what happened and what to do.
type Error struct {
	Code int
	Text string
	Err  error // cause, may be nil; already part of Text where it helps
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Text + ": " + e.Err.Error()
	}
	return e.Text
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the code to end with for err. Errors that carry no code are
// temporary failures: saying so loses nothing, as the caller keeps its mail.
func ExitCode(err error) int {
	var e *Error
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ExitTempFail
	}
	return ExitTempFail
}

// CannotCreate is the failure to make a file. A disk that is full, read-only or
// failing is as good as a temporary one: the caller is to keep its mail.
func CannotCreate(text string, err error) *Error {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return &Error{Code: ExitTempFail, Text: text, Err: err}
		}
	}
	return &Error{Code: ExitCantCreate, Text: text, Err: err}
}

func usagef(format string, a ...any) *Error {
	return &Error{Code: ExitUsage, Text: fmt.Sprintf(format, a...)}
}

func dataf(format string, a ...any) *Error {
	return &Error{Code: ExitDataErr, Text: fmt.Sprintf(format, a...)}
}

func tempf(err error, format string, a ...any) *Error {
	return &Error{Code: ExitTempFail, Text: fmt.Sprintf(format, a...), Err: err}
}
