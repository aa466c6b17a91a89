package submit

import (
	"path"
	"strings"
	"time"
)

// Mode is what a sendmail command line asks for.
type Mode uint8

const (
	ModeDeliver Mode = iota // -bm: take a message from standard input
	ModeSMTP                // -bs: speak SMTP on standard input and output
	ModeList                // -bp, mailq: print the queue
	ModeAliases             // -bi, newaliases: check the aliases
	ModeVerify              // -bv: say where the recipients' mail would go
	ModeServe               // -bd, -q30m: be the daemon
	ModeRun                 // -q: attempt what is queued, once
)

// Attempt says what a caller waits for (-od).
type Attempt uint8

const (
	AttemptBackground Attempt = iota // -odb: queue, deliver behind the caller's back
	AttemptWait                      // -odi: wait for the first attempt
	AttemptNone                      // -odq: only queue
)

// Args is a parsed sendmail command line.
type Args struct {
	Mode        Mode
	FromHeaders bool          // -t
	IgnoreDots  bool          // -i, -oi: a lone dot does not end the message
	Sender      *string       // -f, -r, as given; nil when absent
	FullName    string        // -F
	Body        string        // -B: "", "7BIT" or "8BITMIME"
	Notify      string        // -N: "", "NEVER" or a comma list of SUCCESS, FAILURE, DELAY
	Ret         string        // -R: "", "FULL" or "HDRS"
	EnvID       string        // -V
	RequireTLS  bool          // -O requiretls
	SMTPUTF8    bool          // -O smtputf8
	Attempt     Attempt       // -od
	Verbose     bool          // -v
	Interval    time.Duration // -q30m: time between queue runs, 0 when not given
	Select      Selector      // -qI, -qR, -qS
	Recipients  []string      // words after the options, unparsed
}

// Selector narrows a queue run; empty fields match everything. Recipient and
// Sender match as substrings, as in sendmail(1).
type Selector struct {
	ID, Recipient, Sender string
}

// takes says where an option's argument is.
type takes uint8

const (
	nothing  takes = iota // no argument; letters may be clustered (-ti)
	attached              // the rest of the word, possibly empty (-q30m, -d0.1)
	required              // the rest of the word or, when that is empty, the next word
)

type option struct {
	takes takes
	set   func(a *Args, arg string) error // nil: accepted and ignored
}

// options is the grammar of the sendmail command line. A letter that is not
// here ends the program with EX_USAGE before anything is read or queued.
func options() map[byte]option {
	return map[byte]option{
		't': {nothing, func(a *Args, _ string) error { a.FromHeaders = true; return nil }},
		'i': {nothing, func(a *Args, _ string) error { a.IgnoreDots = true; return nil }},
		'v': {nothing, func(a *Args, _ string) error { a.Verbose = true; return nil }},
		'I': {nothing, func(a *Args, _ string) error { a.Mode = ModeAliases; return nil }},
		'f': {required, func(a *Args, arg string) error { a.Sender = &arg; return nil }},
		'r': {required, func(a *Args, arg string) error { a.Sender = &arg; return nil }},
		'F': {required, func(a *Args, arg string) error { a.FullName = arg; return nil }},
		'B': {required, setBody},
		'N': {required, setNotify},
		'R': {required, setRet},
		'V': {required, func(a *Args, arg string) error { a.EnvID = arg; return nil }},
		'b': {required, setMode},
		'o': {required, setShortOption},
		'O': {required, setLongOption},
		'q': {attached, setQueueRun},

		// Taken and ignored, as every sendmail after the first one does. -C
		// and -X name files: they are never opened, because a caller may be
		// a web application that passes on what a stranger typed.
		'A': {required, nil}, // -Ac, -Am
		'C': {required, nil},
		'd': {attached, nil}, // -d0.1
		'e': {required, nil}, // -em, as -oem
		'G': {nothing, nil},
		'h': {required, nil},
		'L': {required, nil},
		'm': {nothing, nil},
		'n': {nothing, nil},
		'p': {required, nil},
		'U': {nothing, nil},
		'X': {required, nil},
	}
}

// modes is the table of -b.
func modes() map[string]Mode {
	return map[string]Mode{
		"m": ModeDeliver,
		"s": ModeSMTP,
		"p": ModeList,
		"i": ModeAliases,
		"v": ModeVerify,
		"d": ModeServe,
	}
}

// ParseArgs reads a sendmail command line; argv[0] is the program's name,
// which decides the mode of mailq and newaliases. Options end at the first
// word that is none, or after "--". Every error is an *Error with EX_USAGE.
func ParseArgs(argv []string) (Args, error) {
	var a Args
	if len(argv) == 0 {
		return a, nil
	}
	switch path.Base(argv[0]) {
	case "mailq":
		a.Mode = ModeList
	case "newaliases":
		a.Mode = ModeAliases
	}
	rest, err := a.scan(argv[1:])
	if err != nil {
		return Args{}, err
	}
	a.Recipients = rest
	return a, nil
}

// scan applies the options in words and returns the words after them.
func (a *Args) scan(words []string) ([]string, error) {
	table := options()
	for len(words) > 0 {
		word := words[0]
		if word == "--" {
			return words[1:], nil
		}
		if len(word) < 2 || word[0] != '-' {
			break
		}
		words = words[1:]
		for i := 1; i < len(word); i++ {
			letter := word[i]
			opt, ok := table[letter]
			if !ok {
				return nil, usagef("unknown option -%c: nothing was sent", letter)
			}
			arg := ""
			if opt.takes != nothing {
				arg = word[i+1:]
				i = len(word)
			}
			if opt.takes == required && arg == "" {
				if len(words) == 0 {
					return nil, usagef("option -%c needs an argument: nothing was sent", letter)
				}
				arg, words = words[0], words[1:]
			}
			if opt.set == nil {
				continue
			}
			if err := opt.set(a, arg); err != nil {
				return nil, err
			}
		}
	}
	// A program that puts options behind a recipient means them as options;
	// mailing to "-f" would be the wrong guess.
	for _, w := range words {
		if strings.HasPrefix(w, "-") {
			return nil, usagef("option %q stands behind a recipient; put options first (or \"--\" before recipients that begin with -)", w)
		}
	}
	return words, nil
}

func setMode(a *Args, arg string) error {
	mode, ok := modes()[arg]
	if !ok {
		return usagef("unknown mode -b%s: nothing was sent", arg)
	}
	a.Mode = mode
	return nil
}

// setShortOption is -ox: i, d and the rest, which is ignored.
func setShortOption(a *Args, arg string) error {
	switch arg {
	case "i":
		a.IgnoreDots = true
	case "di":
		a.Attempt = AttemptWait
	case "db":
		a.Attempt = AttemptBackground
	case "dq", "dd":
		a.Attempt = AttemptNone
	}
	return nil
}

// setLongOption is -O name[=value]; only two names mean something here.
func setLongOption(a *Args, arg string) error {
	switch strings.ToLower(arg) {
	case "requiretls":
		a.RequireTLS = true
	case "smtputf8":
		a.SMTPUTF8 = true
	}
	return nil
}

func setBody(a *Args, arg string) error {
	switch b := strings.ToUpper(arg); b {
	case "7BIT", "8BITMIME":
		a.Body = b
		return nil
	}
	return usagef("-B takes 7BIT or 8BITMIME, not %q", arg)
}

func setNotify(a *Args, arg string) error {
	n, err := parseNotify(arg)
	if err != nil {
		return err
	}
	a.Notify = n
	return nil
}

// parseNotify checks an RFC 3461 §4.1 notify list and returns it in upper case.
func parseNotify(arg string) (string, error) {
	words := strings.Split(strings.ToUpper(arg), ",")
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
		switch words[i] {
		case "SUCCESS", "FAILURE", "DELAY":
		case "NEVER":
			if len(words) > 1 {
				return "", usagef("-N never excludes the other words in %q", arg)
			}
		default:
			return "", usagef("-N takes never, or a list of success, failure and delay, not %q", arg)
		}
	}
	return strings.Join(words, ","), nil
}

func setRet(a *Args, arg string) error {
	switch r := strings.ToUpper(arg); r {
	case "FULL", "HDRS":
		a.Ret = r
		return nil
	}
	return usagef("-R takes full or hdrs, not %q", arg)
}

// setQueueRun is -q and what may be attached to it: nothing (one run), f
// (stay in the foreground, which a run does anyway), a selector, or an
// interval, which makes it the daemon.
func setQueueRun(a *Args, arg string) error {
	if a.Mode == ModeDeliver {
		a.Mode = ModeRun
	}
	if arg == "" || arg == "f" {
		return nil
	}
	value := arg[1:]
	switch arg[0] {
	case 'I':
		a.Select.ID = value
	case 'R':
		a.Select.Recipient = value
	case 'S':
		a.Select.Sender = value
	default:
		every, err := parseInterval(strings.TrimPrefix(arg, "p"))
		if err != nil {
			return err
		}
		a.Interval = every
		a.Mode = ModeServe
		return nil
	}
	if value == "" {
		return usagef("-q%c needs a value right behind it", arg[0])
	}
	return nil
}

// parseInterval reads sendmail's time: numbers with the units s, m, h, d, w;
// minutes when there is no unit.
func parseInterval(s string) (time.Duration, error) {
	units := map[byte]time.Duration{
		's': time.Second, 'm': time.Minute, 'h': time.Hour,
		'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
	}
	var sum, n time.Duration
	digits := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= '0' && c <= '9' && digits < 6 {
			n, digits = n*10+time.Duration(c-'0'), digits+1
			continue
		}
		unit, ok := units[c]
		if !ok || digits == 0 {
			return 0, usagef("-q%s is neither an interval such as -q30m nor -qI, -qR or -qS", s)
		}
		sum, n, digits = sum+n*unit, 0, 0
	}
	if digits > 0 {
		sum += n * time.Minute
	}
	if sum <= 0 {
		return 0, usagef("-q%s is neither an interval such as -q30m nor -qI, -qR or -qS", s)
	}
	return sum, nil
}
