package submit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxAliasLine    = 64 << 10 // bytes of one entry with its continuations
	maxAliasTargets = 10000    // members one name may expand to
	maxAliasDepth   = 20
)

// Aliases is the content of an aliases file: local names and where their mail
// goes. It is immutable.
type Aliases struct {
	entries map[string][]string // name in lower case -> targets as written
	lines   map[string]int
	file    string
}

// LoadAliases reads a file in the syntax of aliases(5): "name: target,
// target", continuation lines that begin with white space, comments, quoted
// names, ":include:/file" as a target. A file that does not exist is an empty
// one. Pipes and files as targets are errors, as danepost runs no programs
// and writes no mailboxes. Errors are *Error with EX_CONFIG and name the line.
func LoadAliases(file string) (*Aliases, error) {
	a := &Aliases{entries: map[string][]string{}, lines: map[string]int{}, file: file}
	if file == "" {
		return a, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, &Error{Code: ExitConfig, Text: "cannot read the aliases", Err: err}
	}
	defer f.Close()
	if err := a.read(f); err != nil {
		return nil, err
	}
	return a, nil
}

// read joins continuation lines and adds each entry.
func (a *Aliases) read(r io.Reader) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxAliasLine)
	entry, start, n := "", 0, 0
	flush := func() error {
		if entry == "" {
			return nil
		}
		err := a.add(entry, start)
		entry = ""
		return err
	}
	for sc.Scan() {
		n++
		line := sc.Text()
		switch {
		case strings.TrimSpace(line) == "" || strings.TrimSpace(line)[0] == '#':
			continue
		case (line[0] == ' ' || line[0] == '\t') && entry != "":
			if entry += " " + strings.TrimSpace(line); len(entry) > maxAliasLine {
				return a.errorf(start, "the entry is longer than %d KiB", maxAliasLine>>10)
			}
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		entry, start = line, n
	}
	if err := sc.Err(); err != nil {
		return a.errorf(n+1, "%v", err)
	}
	return flush()
}

func (a *Aliases) add(entry string, line int) error {
	name, list, ok := cutUnquoted(entry, ':')
	if !ok {
		return a.errorf(line, "no colon after the name in %q", clip(entry))
	}
	name = strings.ToLower(unquote(strings.TrimSpace(name)))
	if name == "" {
		return a.errorf(line, "an entry without a name")
	}
	if first, twice := a.lines[name]; twice {
		return a.errorf(line, "%q is defined a second time (first in line %d)", name, first)
	}
	targets, err := splitTargets(list)
	if err != nil {
		return a.errorf(line, "%v", err)
	}
	if len(targets) == 0 {
		return a.errorf(line, "%q has no target", name)
	}
	a.entries[name], a.lines[name] = targets, line
	return nil
}

func (a *Aliases) errorf(line int, format string, args ...any) error {
	return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: %s", a.file, line, fmt.Sprintf(format, args...))}
}

// splitTargets splits a list at commas outside quotes and refuses what
// danepost does not do.
func splitTargets(list string) ([]string, error) {
	var targets []string
	for list != "" {
		var t string
		t, list, _ = cutUnquoted(list, ',')
		t = strings.TrimSpace(t)
		switch bare := unquote(t); {
		case t == "":
			continue
		case strings.HasPrefix(bare, "|"):
			return nil, fmt.Errorf("%q: piping to programs is not supported", clip(t))
		case strings.HasPrefix(bare, "/"):
			return nil, fmt.Errorf("%q: delivering to files is not supported", clip(t))
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// Len is the number of names.
func (a *Aliases) Len() int { return len(a.entries) }

// Check resolves every name, so that newaliases finds what mail would.
func (a *Aliases) Check() error {
	for _, name := range slices.Sorted(maps.Keys(a.entries)) {
		if _, err := a.Expand(name); err != nil {
			return err
		}
	}
	return nil
}

// Expand follows the aliases of a local name down to the mailboxes that are
// not aliases themselves: remote addresses, and local names without an entry.
// A name without an entry expands to itself. A target that leads back to a
// name on the way is a loop and an error, except that a name may stand in its
// own list for "and my own mailbox".
func (a *Aliases) Expand(name string) ([]Mailbox, error) {
	e := expansion{aliases: a, seen: map[string]bool{}}
	if err := e.name(Mailbox{Local: name}, nil); err != nil {
		return nil, err
	}
	return e.out, nil
}

type expansion struct {
	aliases *Aliases
	out     []Mailbox
	seen    map[string]bool // what is in out
	isLocal func(domain string) bool
}

// name expands one mailbox; via are the names that led to it.
func (e *expansion) name(m Mailbox, via []string) error {
	local := m.Domain == "" || e.isLocal != nil && e.isLocal(m.Domain)
	key := strings.ToLower(m.Local)
	targets, ok := e.aliases.entries[key]
	if !local || !ok || len(via) > 0 && via[len(via)-1] == key {
		return e.leaf(m)
	}
	for _, v := range via {
		if v == key {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: alias loop: %s -> %s",
				e.aliases.file, e.aliases.lines[key], strings.Join(via, " -> "), key)}
		}
	}
	if len(via) >= maxAliasDepth {
		return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: aliases nested deeper than %d: %s", e.aliases.file, maxAliasDepth, strings.Join(via, " -> "))}
	}
	return e.targets(targets, append(via[:len(via):len(via)], key))
}

func (e *expansion) targets(targets, via []string) error {
	for _, t := range targets {
		if file, ok := strings.CutPrefix(unquote(t), ":include:"); ok {
			if err := e.include(strings.TrimSpace(file), via); err != nil {
				return err
			}
			continue
		}
		boxes, err := ParseRecipients(t)
		if err != nil {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: target %q", e.aliases.file, e.aliases.lines[via[0]], clip(t)), Err: err}
		}
		for _, m := range boxes {
			m.start, m.end = 0, 0
			if err := e.name(m, via); err != nil {
				return err
			}
		}
	}
	return nil
}

// include reads a file of targets, one or more a line, with comments.
func (e *expansion) include(file string, via []string) error {
	key := ":include:" + file
	for _, v := range via {
		if v == key {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: includes itself", file)}
		}
	}
	if !filepath.IsAbs(file) || len(via) >= maxAliasDepth {
		return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: :include:%s needs an absolute path and at most %d levels", e.aliases.file, file, maxAliasDepth)}
	}
	f, err := os.Open(file)
	if err != nil {
		return &Error{Code: ExitConfig, Text: "cannot read an :include: of the aliases", Err: err}
	}
	defer f.Close()
	var targets []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, maxAliasLine)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		more, err := splitTargets(line)
		if err != nil {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: %v", file, n, err)}
		}
		if targets = append(targets, more...); len(targets) > maxAliasTargets {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: more than %d addresses", file, maxAliasTargets)}
		}
	}
	if err := sc.Err(); err != nil {
		return &Error{Code: ExitConfig, Text: "cannot read an :include: of the aliases", Err: err}
	}
	return e.targets(targets, append(via[:len(via):len(via)], key))
}

func (e *expansion) leaf(m Mailbox) error {
	key := strings.ToLower(m.String())
	if e.seen[key] {
		return nil
	}
	if len(e.out) >= maxAliasTargets {
		return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: an alias expands to more than %d addresses", e.aliases.file, maxAliasTargets)}
	}
	e.seen[key] = true
	e.out = append(e.out, m)
	return nil
}

// cutUnquoted cuts s at the first sep outside double quotes.
func cutUnquoted(s string, sep byte) (before, after string, found bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.ReplaceAll(s[1:len(s)-1], `\`, "")
	}
	return s
}
