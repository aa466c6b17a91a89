// Package bench measures danepost beside what users run today: the same work
// on the same mini-internet, done by danepost and by Postfix with Unbound in
// turn, several times in one run.
//
//	namespace.go  packages, namespaces: nothing outside is touched
//	world.go      the mini-internet: signed zones for NSD, one receiver
//	delivery.go, callers.go, lookups.go, footprint.go   the work
//	rows.go       what is asked of each, and the ratio wanted
//	table.go      what is printed and written
//
// Client, name servers, receiver and the program measured share the cores of
// one machine, without latency between them. So rates are limits of the CPU;
// CPU time for each message is the figure that carries over, and the ratio of
// both sides what counts.
package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Options are the parameters of a run.
type Options struct {
	Binary   string // danepost
	Dir      string // scratch directory, on a disk; the world stays in it for the next run
	JSON     string // file to write
	Docs     string // document that the table goes into; "" for none
	Rows     string // regular expression
	Runs     int    // of each side
	Domains  int    // of the small run; as many messages
	Scale    int    // how many times more the large run has
	Calls    int    // of sendmail
	Size     int    // bytes a message
	Profiles string // directory for profiles; then only danepost runs, once
	Source   string // the repository, for benchmarks of packages
}

// Sample is what one run measured, by name of the quantity.
type Sample map[string]float64

// lab is what all measurements share.
type lab struct {
	o       Options
	self    string // this program
	scratch string
	world   *World
	begun   time.Time
	out     io.Writer
}

func (l *lab) toOne(i int) string { return fmt.Sprintf("user%d@%s", i, l.world.Domain(0)) }

// toEach addresses the i-th message to the i-th domain, round and round
// after so many.
func (l *lab) toEach(domains int) func(int) string {
	return func(i int) string { return fmt.Sprintf("user%d@%s", i, l.world.Domain(i%domains)) }
}

// Roles that this program takes on as a process of its own: first argument.
const (
	roleInside   = "inside"
	roleReceiver = "receiver"
	roleLookups  = "lookups"
)

// Main is the program: it returns the exit code.
func Main(args []string) int {
	err := error(nil)
	code := 0
	switch role := append(args, "")[0]; role {
	case roleReceiver:
		err = runReceiver(args[1], args[2])
	case roleLookups:
		domains, _ := strconv.Atoi(args[2])
		callers, _ := strconv.Atoi(args[3])
		perr := Profile(func() { err = runLookups(args[1], domains, callers, args[4] == "server") })
		err = errors.Join(err, perr)
	case roleInside:
		code, err = inside(args[1:])
	default:
		code, err = outside(args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return code
}

func parseOptions(args []string) (Options, error) {
	var o Options
	fs := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	fs.StringVar(&o.Binary, "binary", "bin/danepost", "the danepost to measure")
	fs.StringVar(&o.Dir, "dir", "/var/tmp/danepost-bench", "scratch directory, on a disk; the mini-internet stays in it for the next run")
	fs.StringVar(&o.JSON, "json", "bin/bench.json", "file for everything measured")
	fs.StringVar(&o.Docs, "docs", "", "document whose last part, below the line "+tableFollows+", becomes the table")
	fs.StringVar(&o.Rows, "rows", ".", "regular expression: the work to measure")
	fs.IntVar(&o.Runs, "runs", 3, "runs of each side")
	fs.IntVar(&o.Domains, "domains", 800, "domains, and messages to them, of a small run (full size: 2000)")
	fs.IntVar(&o.Scale, "scale", 10, "how many times larger the large run is")
	fs.IntVar(&o.Calls, "calls", 400, "calls of sendmail")
	fs.IntVar(&o.Size, "size", 5120, "bytes of a message")
	fs.StringVar(&o.Profiles, "profiles", "", "directory for profiles; danepost alone is run, once, and must be the profiled one")
	fs.StringVar(&o.Source, "source", ".", "the repository, for its benchmarks")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.Profiles != "" {
		o.Runs = 1
	}
	for _, p := range []*string{&o.Binary, &o.Dir, &o.JSON, &o.Docs, &o.Source, &o.Profiles} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return o, err
		}
		*p = abs
	}
	if _, err := regexp.Compile(o.Rows); err != nil {
		return o, err
	}
	return o, nil
}

// outside prepares what needs the network and the real machine, then goes on
// in namespaces.
func outside(args []string) (int, error) {
	o, err := parseOptions(args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 1, err
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("root is needed: for network namespaces and to install Postfix, Unbound and NSD")
	}
	say := func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
	if err := install(say); err != nil {
		return 1, err
	}
	if err := errors.Join(os.MkdirAll(o.Dir, 0o755), os.MkdirAll(filepath.Dir(o.JSON), 0o755)); err != nil {
		return 1, err
	}
	if o.Profiles != "" {
		if err := errors.Join(os.RemoveAll(o.Profiles), os.MkdirAll(o.Profiles, 0o755)); err != nil {
			return 1, err
		}
	}
	return inNamespaces(roleInside)
}

// inside measures.
func inside(args []string) (code int, err error) {
	o, err := parseOptions(args)
	if err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	l := &lab{o: o, self: self, scratch: filepath.Join(o.Dir, "run"), begun: time.Now(), out: os.Stderr}
	if err := l.discard(l.scratch); err != nil {
		return 1, err
	}
	defer os.RemoveAll(l.trash())
	if err := os.MkdirAll(l.scratch, 0o755); err != nil {
		return 1, err
	}
	if err := furnish(l.scratch); err != nil {
		return 1, err
	}
	if err := l.installSendmail(); err != nil {
		return 1, err
	}
	domains := o.Domains
	if regexp.MustCompile(o.Rows).MatchString("scale") {
		domains *= o.Scale
	}
	l.progress("the mini-internet: %d domains", domains)
	if l.world, err = OpenWorld(filepath.Join(o.Dir, "world"), domains); err != nil {
		return 1, err
	}
	if err := l.world.serve(l.scratch); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, l.world.close()) }()
	results := l.measure(regexp.MustCompile(o.Rows))
	if o.Profiles != "" {
		return 0, l.topOf()
	}
	report := l.report(results)
	report.print(os.Stdout)
	if o.Docs != "" {
		if err := report.document(o.Docs); err != nil {
			return 1, err
		}
	}
	data, err := json.MarshalIndent(report, "", " ")
	if err != nil {
		return 1, err
	}
	if err := os.WriteFile(o.JSON, append(data, '\n'), 0o644); err != nil {
		return 1, err
	}
	if !report.Good {
		code = 1
	}
	return code, nil
}

// trash is where discarded files wait for the end.
func (l *lab) trash() string { return filepath.Join(l.o.Dir, "trash") }

// discard puts a file or directory of an earlier run out of the way. Nothing is
// deleted before the end: some filesystems do not give the inode of a deleted
// file out again for a minute, and look past all of these for each new file.
func (l *lab) discard(path string) error {
	if err := os.MkdirAll(l.trash(), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.trash(), "")
	if err != nil {
		return err
	}
	err = os.Rename(path, filepath.Join(dir, filepath.Base(path)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (l *lab) progress(format string, a ...any) {
	fmt.Fprintf(l.out, "%5.0fs  %s\n", time.Since(l.begun).Seconds(), fmt.Sprintf(format, a...))
}
