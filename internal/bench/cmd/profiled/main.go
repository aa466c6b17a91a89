// Command profiled is danepost with profiles of its CPU time and allocations,
// for `make profile`: the program itself has no such switch.
package main

import (
	"fmt"
	"os"

	"danepost/internal/bench"
	"danepost/internal/cli"
)

func main() {
	code := 0
	err := bench.Profile(func() {
		code = cli.Main(os.Args, cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
	}
	os.Exit(code)
}
