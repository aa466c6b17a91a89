// Package cli is the command line of danepost: one file per command, the
// configuration, and the only place that wires the rooms together.
package cli

import "io"

// Stdio is what a command may read and write.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs the program named by argv[0] and returns its exit code.
func Main(argv []string, std Stdio) int { return 64 }
