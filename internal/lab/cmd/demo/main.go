// Command demo shows danepost at its main job: it builds the binary, starts a
// test internet, runs the binary as a user would, sends one message to every
// domain there, and says what became of each. It exits 0 only when every
// outcome is the right one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"danepost/internal/lab"
	"danepost/internal/lab/tour"
)

func main() {
	binary := flag.String("binary", "", "use this danepost instead of building one")
	keep := flag.String("keep", "", "leave configuration, state and log in this directory")
	limit := flag.Duration("limit", 45*time.Second, "give up waiting for outcomes after this long")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	right, err := run(ctx, *binary, *keep, *limit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !right {
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, dir string, limit time.Duration) (right bool, err error) {
	scr := newScreen(os.Stdout)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "danepost-demo-"); err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
	}
	if binary == "" {
		scr.step("Building danepost (CGO_ENABLED=0 go build)")
		if binary, err = tour.Build(ctx, dir); err != nil {
			return false, err
		}
	}
	start := time.Now()
	scr.step("Starting a test internet of its own: signed root, TLDs, domains, receivers, attackers")
	w := tour.New(lab.Options{})
	if err := w.Lab.Start(); err != nil {
		return false, err
	}
	defer w.Lab.Close()
	c, err := w.Lab.WriteConfig(filepath.Join(dir, "lab"))
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	scr.step("Running danepost serve, then danepost sendmail -t for each of %d messages", len(w.Stops))
	p := &tour.Program{Path: binary, Config: c}
	visits, log, err := walk(ctx, w, p, scr)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(dir, "danepost.log"), []byte(log), 0o644); err != nil {
		return false, err
	}
	scr.table(visits)
	wrong := scr.failures(visits, log)
	scr.summary(visits, wrong, w.Lab.Queries(), time.Since(start))
	return wrong == 0, nil
}

// walk runs the daemon for the time of the tour.
func walk(ctx context.Context, w *tour.World, p *tour.Program, scr *screen) ([]*tour.Visit, string, error) {
	d, err := p.Serve(ctx)
	if err != nil {
		return nil, "", err
	}
	visits := w.Walk(ctx, p, d, func(n int, v *tour.Visit) {
		scr.progress(n, len(w.Stops), v.Stop.Domain+" "+v.Line.Msg)
	})
	scr.progressDone()
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := d.Stop(down); err != nil {
		return nil, "", fmt.Errorf("stopping danepost serve: %w\n%s", err, lastLines(d.Log(), 20))
	}
	return visits, d.Log(), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
