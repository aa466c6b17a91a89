// Package cli is the command line of danepost: one file per command, the
// configuration, and the only place that wires the rooms together.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"danepost/queue/submit"
)

// Stdio is what a command may read and write.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// invocation is one run of the program: its streams and global flags.
type invocation struct {
	Stdio
	configFile string
	stateDir   string
	group      *submit.DropGroup // lowered; see there
	setgid     bool              // whether there was anything to lower: mail is dropped where there is no daemon
}

// command is one native command.
type command struct {
	name, args, about string
	more              string // what its help says besides, lines ended
	run               func(*invocation, []string) error
}

// commands is the table behind dispatch and help.
func commands() []command {
	return []command{
		{"serve", "", "run the appliance: queue, socket, maildrop, listeners", "", runServe},
		{"sendmail", "[OPTIONS] [RECIPIENT ...]", "take a message from standard input, as sendmail(1)", sendmailHelp, runSendmailCommand},
		{"queue", "list|show|cat|retry|hold|release|remove|run [ID ...]", "look at the queue and act on it", queueHelp, runQueue},
		{"lookup", "NAME [TYPE]", "look a name up, validated, with its chain of trust",
			"TYPE is A where none is given. Exit status 0 when the answer is secure or insecure, 1 when\n" +
				"it is bogus or could not be found out.\n", runLookup},
		{"check", "DOMAIN", "what delivery to a domain would do, and why",
			"It talks to the domain's mail servers up to EHLO over TLS and sends nothing. Exit status 0\n" +
				"when mail would be delivered now, 1 when not.\n", runCheck},
		{"anchor", "status|refresh", "the root's keys and how far they are trusted", "", runAnchor},
		{"doctor", "", "is this host fit to send: clock, ports, DNS, names, disk",
			"It asks root servers and connects to mail servers, and says to whose; nothing is sent. Exit\n" +
				"status 0 when nothing failed, 1 when something did.\n", runDoctor},
		{"config", "check", "read the configuration and explain it", "", runConfig},
		{"version", "", "print the version", "", runVersion},
	}
}

// Main runs the program named by argv[0] and returns its exit code.
func Main(argv []string, std Stdio) int {
	out := &output{Writer: std.Out}
	std.Out = out
	inv := &invocation{Stdio: std}
	name := "danepost"
	if len(argv) == 0 {
		argv = []string{name}
	}
	var err error
	if inv.group, err = submit.HoldGroup(); err != nil {
		return exitCode(inv.Err, name, err)
	}
	inv.setgid = inv.group.Setgid()
	switch base := filepath.Base(argv[0]); base {
	case "sendmail", "mailq", "newaliases":
		name = base
		err = runSendmail(inv, argv)
	default:
		err = inv.dispatch(argv[1:])
	}
	return exitCode(inv.Err, name, out.verdict(err))
}

// exitCode prints err as one line and turns it into a sysexits code.
func exitCode(w io.Writer, name string, err error) int {
	var silent exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &silent):
		return int(silent)
	}
	fmt.Fprintf(w, "%s: %s\n", name, diagnostic(err))
	return submit.ExitCode(err)
}

// diagnostic is an error on one line of a bearable length: it may quote what
// somebody typed.
func diagnostic(err error) string {
	const most = 1000
	text := []rune(clean(strings.ReplaceAll(err.Error(), "\n", " ")))
	if len(text) <= most {
		return string(text)
	}
	return string(text[:most/2]) + " ... " + string(text[len(text)-most/2:])
}

// exitStatus ends the program with a code when all is said already.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a mistake on the command line: exit 64.
func usageError(format string, args ...any) error {
	return &submit.Error{Code: submit.ExitUsage, Text: fmt.Sprintf(format, args...)}
}

// configError is a mistake in a configuration: exit 78.
func configError(err error) error {
	return &submit.Error{Code: submit.ExitConfig, Text: err.Error()}
}

func (inv *invocation) dispatch(args []string) error {
	fs := inv.flags("danepost")
	fs.SetInterspersed(false)
	version := fs.Bool("version", false, "")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	args = fs.Args()
	if *version {
		return runVersion(inv, args)
	}
	if len(args) == 0 {
		inv.help(inv.Err)
		return exitStatus(submit.ExitUsage)
	}
	if args[0] == "help" && len(args) == 1 {
		inv.help(inv.Out)
		return nil
	}
	if args[0] == "help" {
		args = []string{args[1], "--help"}
	}
	for _, c := range commands() {
		if c.name == args[0] {
			if c.name != "sendmail" {
				if err := inv.group.Release(); err != nil {
					return err
				}
			}
			return c.run(inv, args[1:])
		}
	}
	return usageError("unknown command %q; `danepost help` lists them", args[0])
}

// flags returns a flag set that knows the global flags.
func (inv *invocation) flags(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&inv.configFile, "config", inv.configFile, "configuration `FILE` (default "+defaultConfigFile+", absent is fine)")
	fs.StringVar(&inv.stateDir, "state-dir", inv.stateDir, "`DIR` of the queue and of all other state")
	return fs
}

// parse reads args; --help prints help for the flag set and ends the program.
func (inv *invocation) parse(fs *pflag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		inv.helpFor(fs)
		return exitStatus(0)
	}
	if err != nil {
		// The cause in the words of Go's library helps nobody.
		text, _, _ := strings.Cut(err.Error(), ": strconv.")
		help := "help"
		if fs.Name() != "danepost" {
			help += " " + fs.Name()
		}
		return usageError("%s; `danepost %s` shows the usage", text, help)
	}
	return nil
}

// config loads the configuration that the global flags name.
func (inv *invocation) config() (*Config, error) {
	// A setgid program works for the system, not where its caller's
	// environment says.
	c, err := loadConfig(inv.configFile, inv.stateDir, os.Geteuid() == 0 || inv.group.Setgid())
	if err != nil {
		return nil, configError(err)
	}
	return c, nil
}

func (inv *invocation) help(w io.Writer) {
	fmt.Fprint(w, "danepost sends this host's mail over verified TLS (DANE), with its own DNSSEC look-ups.\n\n"+
		"usage: danepost [--config FILE] [--state-dir DIR] COMMAND ...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, "\nCalled as sendmail, mailq or newaliases it is that program.\n"+
		"`danepost help COMMAND` says more about one. No configuration is needed; `danepost doctor`\n"+
		"tells whether this host can send.\n")
}

func (inv *invocation) helpFor(fs *pflag.FlagSet) {
	if fs.Name() == "danepost" {
		inv.help(inv.Out)
		return
	}
	for _, c := range commands() {
		if c.name == fs.Name() {
			fmt.Fprintf(inv.Out, "%s\n\nusage: danepost %s\n\n", c.about, strings.TrimSpace(c.name+" "+c.args))
			fmt.Fprint(inv.Out, c.more)
			if c.more != "" && fs.HasFlags() {
				fmt.Fprintln(inv.Out)
			}
		}
	}
	fmt.Fprint(inv.Out, fs.FlagUsagesWrapped(lineWidth))
}
