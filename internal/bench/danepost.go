package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"danepost/queue"
)

// dropGroup is the group of the maildrop here; no name needs to exist for it.
const dropGroup = 65533

func (l *lab) stateDir() string { return filepath.Join(l.scratch, "danepost") }
func (l *lab) socket() string   { return filepath.Join(l.scratch, "danepost.sock") }

// configureDanepost gives danepost an empty queue and the set-up of a
// package: the configuration in its usual place, and a maildrop for a setgid
// sendmail. more is what the section [resolver] has besides.
func (l *lab) configureDanepost(more string) error {
	for _, p := range []string{l.stateDir(), l.maildrop(), l.socket()} {
		if err := l.discard(p); err != nil {
			return err
		}
	}
	config := fmt.Sprintf("hostname = \"client.bench\"\nstate_dir = %q\nsocket = %q\nmaildrop = %q\nlog = \"json\"\n"+
		"[resolver]\nroot_hints = %q\ntrust_anchor = %q\n%s",
		l.stateDir(), l.socket(), l.maildrop(), l.world.path("root.hints"), l.world.path("root.ds"), more)
	if err := os.WriteFile("/etc/danepost.toml", []byte(config), 0o644); err != nil {
		return err
	}
	if err := os.Mkdir(l.maildrop(), 0o755); err != nil {
		return err
	}
	if err := os.Chown(l.maildrop(), 0, dropGroup); err != nil {
		return err
	}
	return os.Chmod(l.maildrop(), 0o730|os.ModeSticky)
}

func (l *lab) maildrop() string { return filepath.Join(l.scratch, "maildrop") }

// installSendmail puts the binary under the name sendmail, setgid.
func (l *lab) installSendmail() error {
	dir := filepath.Join(l.scratch, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(l.o.Binary)
	if err != nil {
		return fmt.Errorf("the binary to measure (make build): %w", err)
	}
	path := l.sendmail()
	os.Remove(path)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return err
	}
	if err := os.Chown(path, 0, dropGroup); err != nil {
		return err
	}
	return os.Chmod(path, 0o755|os.ModeSetgid)
}

func (l *lab) sendmail() string { return filepath.Join(l.scratch, "bin", "sendmail") }

// startDanepostWith starts a fresh danepost with more in [resolver].
func (l *lab) startDanepostWith(more string) (*daemon, error) {
	if err := l.configureDanepost(more); err != nil {
		return nil, err
	}
	return l.startDanepost()
}

// startDanepost starts the appliance; its socket says that it is ready.
func (l *lab) startDanepost() (*daemon, error) {
	d, err := start(l.scratch, "danepost", l.o.Binary, "serve")
	if err != nil {
		return nil, err
	}
	return d, d.await(20*time.Second, func() bool { _, err := os.Stat(l.socket()); return err == nil })
}

// fillDanepost puts n messages into danepost's queue; the appliance must not
// run.
func (l *lab) fillDanepost(n int, to func(int) string) error {
	q, err := queue.Open(queue.Options{Dir: l.stateDir()})
	if err != nil {
		return err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				e := queue.Envelope{Sender: sender, Recipients: []queue.Recipient{{Address: to(i)}}}
				if _, perr := q.Put(context.Background(), e, bytes.NewReader(l.message(to(i), i))); perr != nil {
					mu.Lock()
					err = perr
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if cerr := q.Close(); err == nil {
		err = cerr
	}
	return err
}

// danepostLogged is what danepost says it did.
type danepostLogged struct {
	Delivered, Verified, Deferred, Bounced int
}

func (l *lab) danepostLogged(d *daemon) (danepostLogged, error) {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return danepostLogged{}, err
	}
	var n danepostLogged
	for line := range bytes.Lines(data) {
		var e struct{ Msg, Security string }
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		switch e.Msg {
		case "delivered":
			n.Delivered++
			if e.Security == "dane-verified" {
				n.Verified++
			}
		case "deferred":
			n.Deferred++
		case "bounced":
			n.Bounced++
		}
	}
	return n, nil
}
