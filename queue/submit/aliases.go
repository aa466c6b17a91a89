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
	entries  map[string]aliasEntry // by name in lower case
	mistakes []string              // in the file's order, each with its line
	file     string
}

type aliasEntry struct {
	targets []string // as written
	line    int
	mistake string // why the entry cannot be used
}

// LoadAliases reads a file in the syntax of aliases(5): "name: target,
// target", continuation lines that begin with white space, comments, quoted
// names, ":include:/file" as a target. A file that does not exist is an empty
// one. Pipes and files as targets are mistakes, as danepost runs no programs
// and writes no mailboxes. A mistake spoils only its own entry; Check tells
// all of them. Errors are *Error with EX_CONFIG.
func LoadAliases(file string) (*Aliases, error) {
	a := &Aliases{entries: map[string]aliasEntry{}, file: file}
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
	var entry strings.Builder
	start, n := 0, 0
	flush := func() {
		if entry.Len() > 0 {
			a.add(entry.String(), start)
		}
		entry.Reset()
	}
	for sc.Scan() {
		n++
		line := sc.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#':
		case (line[0] == ' ' || line[0] == '\t') && entry.Len() > 0:
			if entry.Len() <= maxAliasLine { // a longer entry is a mistake already
				entry.WriteString(" " + text)
			}
		default:
			flush()
			entry.WriteString(line)
			start = n
		}
	}
	if err := sc.Err(); err != nil {
		return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d", a.file, n+1), Err: err}
	}
	flush()
	return nil
}

// add takes one entry. Of two with one name the first counts.
func (a *Aliases) add(entry string, line int) {
	name, list, ok := cutUnquoted(entry, ':')
	name = strings.ToLower(unquote(strings.TrimSpace(name)))
	e := aliasEntry{line: line}
	var err error
	e.targets, err = splitTargets(list)
	first, twice := a.entries[name]
	switch {
	case !ok:
		e.mistake = fmt.Sprintf("no colon after the name in %q", clip(entry))
	case name == "":
		e.mistake = "an entry without a name"
	case twice:
		e.mistake = fmt.Sprintf("%q is defined a second time (first in line %d)", name, first.line)
	case len(entry) > maxAliasLine:
		e.mistake = fmt.Sprintf("the entry of %q is longer than %d KiB", name, maxAliasLine>>10)
	case err != nil:
		e.mistake = err.Error()
	case len(e.targets) == 0:
		e.mistake = fmt.Sprintf("%q has no target", name)
	}
	if e.mistake != "" {
		e.mistake = fmt.Sprintf("%s:%d: %s", a.file, line, e.mistake)
		a.mistakes = append(a.mistakes, e.mistake)
	}
	if ok && name != "" && !twice {
		a.entries[name] = e
	}
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

// Check resolves every name, so that newaliases finds what mail would. Its
// error tells all mistakes.
func (a *Aliases) Check() error {
	all := slices.Clone(a.mistakes)
	for _, name := range slices.Sorted(maps.Keys(a.entries)) {
		if a.entries[name].mistake != "" {
			continue
		}
		if _, err := a.Expand(name); err != nil && !slices.Contains(all, err.Error()) {
			all = append(all, err.Error())
		}
	}
	if len(all) > 0 {
		return &Error{Code: ExitConfig, Text: strings.Join(all, "; ")}
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
	entry, ok := e.aliases.entries[key]
	if !local || !ok || len(via) > 0 && via[len(via)-1] == key {
		return e.leaf(m)
	}
	for _, v := range via {
		if v == key {
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: alias loop: %s -> %s",
				e.aliases.file, entry.line, strings.Join(via, " -> "), key)}
		}
	}
	if len(via) >= maxAliasDepth {
		return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s: aliases nested deeper than %d: %s", e.aliases.file, maxAliasDepth, strings.Join(via, " -> "))}
	}
	if entry.mistake != "" {
		return &Error{Code: ExitConfig, Text: entry.mistake}
	}
	return e.targets(entry.targets, append(via[:len(via):len(via)], key))
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
			return &Error{Code: ExitConfig, Text: fmt.Sprintf("%s:%d: target %q", e.aliases.file, e.aliases.entries[via[0]].line, clip(t)), Err: err}
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
