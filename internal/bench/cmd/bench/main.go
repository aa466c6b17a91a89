// Command bench measures danepost beside Postfix and Unbound. Run it by
// `make bench`, as root.
package main

import (
	"os"

	"danepost/internal/bench"
)

func main() { os.Exit(bench.Main(os.Args[1:])) }
