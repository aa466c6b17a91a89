// Command lab runs the furnished test internet until it is interrupted and
// says how to point danepost, or any validating resolver, at it.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"danepost/internal/lab"
	"danepost/internal/lab/tour"
)

func main() {
	dir := flag.String("dir", "", "where the configuration is written (default: a new directory below the temporary one)")
	ttl := flag.Duration("ttl", time.Minute, "TTL of all records")
	dnsPort := flag.Int("dns-port", 0, "port of all name servers (default: a free one)")
	smtpPort := flag.Int("smtp-port", 0, "port of all receivers (default: a free one)")
	verbose := flag.Bool("v", false, "log every DNS query too")
	flag.Parse()
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if err := run(*dir, lab.Options{TTL: *ttl, DNSPort: *dnsPort, SMTPPort: *smtpPort, Log: log}); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(dir string, o lab.Options) error {
	w := tour.New(o)
	if err := w.Lab.Start(); err != nil {
		return err
	}
	defer w.Lab.Close()
	if dir == "" {
		tmp, err := os.MkdirTemp("", "danepost-lab-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	}
	c, err := w.Lab.WriteConfig(dir)
	if err != nil {
		return err
	}
	describe(w, c)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}

func describe(w *tour.World, c lab.Config) {
	fmt.Printf("A test internet: %d zones, name servers on port %d, receivers on port %d.\n\n", len(w.Lab.Zones()), w.Lab.DNSPort(), w.Lab.SMTPPort())
	for _, s := range w.Stops {
		what := s.Shows
		if s.Attack != "" {
			what = "attacked: " + s.Attack
		}
		fmt.Printf("  %-20s %s\n", s.Domain, what)
	}
	fmt.Printf("\nConfiguration: %s\nTry, in another terminal:\n\n", c.File)
	for _, cmd := range []string{
		"lookup ee.demo MX",
		"lookup _" + fmt.Sprint(w.Lab.SMTPPort()) + "._tcp.mx.ee.demo TLSA",
		"check stripped.demo",
		"serve",
	} {
		fmt.Printf("  bin/danepost --config %s %s\n", c.File, cmd)
	}
	fmt.Printf("  printf 'To: bob@ee.demo\\nSubject: hello\\n\\nhi\\n' | bin/danepost --config %s sendmail -t -f %s\n", c.File, tour.Sender)
	fmt.Printf("\nOther tools: dig -p %d @%s ee.demo MX; delv -a anchors.conf (%s holds the root's DS).\n", w.Lab.DNSPort(), w.Lab.Root().Addr(), filepath.Join(c.Dir, "root.key"))
	fmt.Println("Arriving mail is logged below. Ctrl-C ends it.")
}
