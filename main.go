// Command danepost makes a small host a trustworthy sender of mail.
package main

import (
	"os"

	"danepost/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
