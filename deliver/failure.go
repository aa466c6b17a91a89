package deliver

import (
	"fmt"
	"strings"
)

// failure says why a step did not succeed and what follows from it.
type failure struct {
	permanent bool
	code      string // RFC 3463, of the class that permanent says
	reason    string // one line for people
	reply     string // the remote's words, if it was the remote that refused
	replied   int    // and their code

	// handshake: TLS did not come about. Under level may the same host is
	// tried again in the clear.
	handshake bool
	// stale: a connection taken from the pool turned out to be dead before
	// anything was sent that could have been accepted.
	stale bool
	// unreachable: it came about before the host heard of any message.
	unreachable bool
}

func (f *failure) Error() string { return f.reason }

// later is a temporary failure.
func later(code, format string, args ...any) *failure {
	return &failure{code: code, reason: oneLine(fmt.Sprintf(format, args...))}
}

// never is a permanent failure.
func never(code, format string, args ...any) *failure {
	return &failure{permanent: true, code: code, reason: oneLine(fmt.Sprintf(format, args...))}
}

// policy reports whether the receiver refused for a reason of policy, which
// may well be about the address that we came from.
func (f *failure) policy() bool { return strings.HasPrefix(f.code, "5.7.") }

// softened is the same failure as a temporary one.
func (f *failure) softened() *failure {
	g := *f
	g.permanent = false
	g.code = "4" + f.code[1:]
	return &g
}

// protection is what people are told when DANE stopped a delivery.
const protection = "the message was not sent, to protect it"

// oneLine makes a text safe to log and store: no control characters, bounded.
func oneLine(s string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0xfffd || r == 0x2028 || r == 0x2029:
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	clean = strings.TrimSpace(clean)
	if len(clean) > maxText {
		clean = strings.ToValidUTF8(clean[:maxText-3], "") + "..."
	}
	return clean
}
