package crash

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// TraceOptions are the arguments of strace whose output Parse reads.
func TraceOptions(output string) []string {
	return []string{"-f", "--seccomp-bpf", "-xx", "-s", "100000000", "-o", output,
		"-e", "trace=openat,close,write,pwrite64,ftruncate,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync,mkdirat,mkdir"}
}

// Call is one system call that succeeded, or the beginning of one.
type Call struct {
	Name  string
	Args  []string // as strace writes them; strings are decoded
	Value int64    // what it returned
	Begin bool     // it began and has not ended; Value is not known
}

// Parse reads strace's output and calls fn for each call: at its end, and
// before that at its beginning if another thread's came between. Calls that
// failed are left out.
func Parse(r io.Reader, fn func(Call) error) error {
	begun := map[string]string{} // by thread
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		thread, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = strings.TrimLeft(text, " ")
		if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
			continue
		}
		if head, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
			begun[thread] = head
			c, err := parseCall(head + ") = 0")
			if err != nil {
				return err
			}
			c.Begin = true
			if err := fn(c); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(text, "<... ") {
			_, rest, ok := strings.Cut(text, " resumed>")
			if !ok {
				return fmt.Errorf("strace wrote %.100q", text)
			}
			text = begun[thread] + rest
			delete(begun, thread)
		}
		c, err := parseCall(text)
		if err != nil {
			return err
		}
		if c.Value < 0 {
			continue
		}
		if err := fn(c); err != nil {
			return err
		}
	}
}

// parseCall reads "name(arg, arg) = value".
func parseCall(text string) (Call, error) {
	name, rest, ok := strings.Cut(text, "(")
	end := strings.LastIndex(rest, ") ")
	if !ok || end < 0 {
		return Call{}, fmt.Errorf("strace wrote %.100q", text)
	}
	c := Call{Name: name}
	value := strings.Fields(strings.TrimLeft(rest[end+2:], " ="))
	if len(value) == 0 || value[0] == "?" {
		c.Value = -1 // the process ended in it
	} else if n, err := strconv.ParseInt(value[0], 0, 64); err == nil {
		c.Value = n
	} else {
		return c, fmt.Errorf("strace wrote %.100q", text)
	}
	for _, arg := range strings.Split(rest[:end], ", ") { // no comma in a string: it is all \x..
		arg, err := decode(arg)
		if err != nil {
			return c, err
		}
		c.Args = append(c.Args, arg)
	}
	return c, nil
}

// decode turns strace's "\x61\x62" into ab and leaves all else.
func decode(arg string) (string, error) {
	if !strings.HasPrefix(arg, `"`) {
		return arg, nil
	}
	if !strings.HasSuffix(arg, `"`) {
		return "", fmt.Errorf("strace shortened the string %.40q", arg)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(arg[1:len(arg)-1], `\x`, ""))
	return string(b), err
}
