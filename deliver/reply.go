package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// reply is one SMTP reply (RFC 5321 §4.2).
type reply struct {
	code  int      // 200..599
	lines []string // text of each line, without the code
}

func (r reply) class() int { return r.code / 100 }

// String is the reply in one line: "550 5.1.1 no such user".
func (r reply) String() string {
	if r.code == 0 {
		return ""
	}
	return oneLine(fmt.Sprintf("%d %s", r.code, strings.Join(r.lines, " ")))
}

// enhanced returns the status code of RFC 2034 if the text starts with one of
// the reply's own class, else the plainest code of that class (RFC 3463 §3.1).
func (r reply) enhanced() string {
	if len(r.lines) > 0 {
		if code, ok := enhancedCode(r.lines[0]); ok && int(code[0]-'0') == r.class() {
			return code
		}
	}
	return fmt.Sprintf("%d.0.0", r.class())
}

// enhancedCode reads "c.sss.ddd" at the start of a text (RFC 3463 §2).
func enhancedCode(text string) (string, bool) {
	word, _, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || (parts[0] != "2" && parts[0] != "4" && parts[0] != "5") {
		return "", false
	}
	for _, p := range parts[1:] {
		if len(p) == 0 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", false
		}
	}
	return word, true
}

// errReply: what came is not an SMTP reply, or is larger than one may be.
var errReply = errors.New("not an SMTP reply")

// readReply reads one reply, over as many lines as it has. The reader's
// buffer bounds a line; lines and bytes in all are bounded by the table of
// limits. A bare LF ends a line too: it harms nobody here.
func readReply(br *bufio.Reader) (reply, error) {
	var r reply
	total := 0
	for {
		line, err := br.ReadSlice('\n')
		total += len(line)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return r, fmt.Errorf("%w: a line of more than %d bytes", errReply, maxReplyLine)
		case err == io.EOF && total > 0:
			return r, io.ErrUnexpectedEOF
		case err != nil:
			return r, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		code, last, ok := replyLine(text)
		switch {
		case !ok:
			return r, fmt.Errorf("%w: %q", errReply, oneLine(text))
		case r.code != 0 && code != r.code:
			return r, fmt.Errorf("%w: %d in the middle of a reply %d", errReply, code, r.code)
		case len(r.lines) == maxReplyLines || total > maxReplyBytes:
			return r, fmt.Errorf("%w: more than %d lines or %d bytes", errReply, maxReplyLines, maxReplyBytes)
		}
		r.code = code
		if len(text) > 4 {
			r.lines = append(r.lines, text[4:])
		} else {
			r.lines = append(r.lines, "")
		}
		if last {
			return r, nil
		}
	}
}

// replyLine splits off the code and tells whether this is the last line.
func replyLine(s string) (code int, last, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, false, false
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	switch {
	case len(s) == 3 || s[3] == ' ':
		return code, true, true
	case s[3] == '-':
		return code, false, true
	}
	return 0, false, false
}

// extensions are what a receiver offers after EHLO, by keyword in upper case.
type extensions map[string]string

// parseExtensions reads the reply to EHLO (RFC 5321 §4.1.1.1). The first line
// is a greeting. "AUTH=LOGIN" is an old spelling of "AUTH LOGIN".
func parseExtensions(r reply) extensions {
	ext := extensions{}
	for _, line := range r.lines[1:] {
		line = strings.ToUpper(strings.TrimSpace(line))
		key, value, _ := strings.Cut(line, " ")
		if rest, ok := strings.CutPrefix(key, "AUTH="); ok {
			key, value = "AUTH", rest+" "+value
		}
		if old, ok := ext[key]; ok && key == "AUTH" {
			value = old + " " + value
		}
		if key != "" {
			ext[key] = strings.TrimSpace(value)
		}
	}
	return ext
}

func (e extensions) has(key string) bool { _, ok := e[key]; return ok }
