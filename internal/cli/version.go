package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// runVersion prints what this binary is.
func runVersion(inv *invocation, args []string) error {
	fs := inv.flags("version")
	if err := inv.parse(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return usageError("version takes no arguments")
	}
	version, when := buildInfo()
	date := ""
	if !when.IsZero() {
		date = " of " + when.Format(time.DateOnly)
	}
	fmt.Fprintf(inv.Out, "danepost %s%s (%s, %s/%s)\n", version, date, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// buildInfo returns the version that Go stamped when it built the binary from
// a repository (the tag, or commit time and id), and the time of its commit,
// zero when unknown. The clock can never be before that time. What is packaged
// takes its version from there (packaging/dist.sh), so that all agree.
func buildInfo() (version string, commit time.Time) {
	version = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, commit
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = strings.TrimPrefix(v, "v")
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			commit, _ = time.Parse(time.RFC3339, s.Value)
		}
	}
	return version, commit
}
