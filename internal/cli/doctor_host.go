package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"danepost/queue"
)

// host looks at the machine itself.
func (d *doctor) host(ctx context.Context) []finding {
	_, built := buildInfo()
	synced, known := clockSynchronised()
	out := []finding{
		judgeClock(d.now(), built, synced, known),
		judgeHostname(d.config.Hostname),
	}
	dir := existing(d.config.StateDir)
	place, err := queue.Examine(dir)
	out = append(out, judgeStateDir(d.config.StateDir, dir, place, err))
	if err == nil {
		out = append(out, judgeDisk(dir, place.Free, int64(d.config.Queue.MinFreeMB)<<20))
	}
	return append(out, judgeDaemon(d.daemon(ctx)))
}

// judgeClock: signatures have dates, so a clock that is far off makes every
// signed domain look forged (RFC 4035 §5.3.1).
func judgeClock(now, built time.Time, synced, known bool) finding {
	f := healthy("clock", "%s", stamp(now))
	switch {
	case now.Before(built):
		f.Text += fmt.Sprintf(", which is before this program was made (%s)", built.UTC().Format(time.DateOnly))
		return f.todo(statusFail, "set the clock, and let a time service keep it")
	case known && !synced:
		f.Text += ", and no time service keeps it"
		return f.todo(statusWarn, "run a time service (systemd-timesyncd, chrony, ntpd): DNSSEC signatures are valid between two dates")
	case known:
		f.Text += ", kept by a time service"
	}
	return f
}

func judgeHostname(name string) finding {
	f := healthy("host name", "%s", name)
	if !strings.Contains(strings.Trim(name, "."), ".") || strings.HasSuffix(name, ".localdomain") || strings.HasSuffix(name, ".local") {
		f.Text += " is no name that others can look up; receivers see it in EHLO"
		return f.todo(statusFail, "set hostname in the configuration to a full name that leads to this host's address, like mail.example.com")
	}
	return f
}

// existing returns the nearest directory that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// judgeStateDir: dir is the nearest directory that exists; place is what it is on.
func judgeStateDir(want, dir string, place queue.Place, err error) finding {
	f := healthy("state", "%s", want)
	if dir != want {
		f.Text += ", made when it is first needed"
	}
	switch {
	case err != nil:
		f.Text = fmt.Sprintf("%s cannot be looked at: %v", want, err)
		return f.todo(statusFail, "give the user that danepost runs as the right to it, or set state_dir")
	case place.Unsuitable != "":
		f.Text = fmt.Sprintf("%s is on %s, which %s", want, place.Filesystem, place.Unsuitable)
		return f.todo(statusFail, "set state_dir to a local disk or flash (ext4, f2fs, UBIFS)")
	case place.Volatile:
		f.Text = fmt.Sprintf("%s is on %s: queued mail is lost when the power goes", want, place.Filesystem)
		return f.todo(statusWarn, "set state_dir to a disk or flash, unless that is meant")
	case !mayWrite(dir):
		f.Text = fmt.Sprintf("%s cannot be written to by this user", dir)
		return f.todo(statusWarn, "run this as the user that danepost runs as; or give it the right, or set state_dir")
	}
	return f
}

func judgeDisk(dir string, free, least int64) finding {
	f := healthy("disk", "%s free", size(free))
	if free < least {
		f.Text += fmt.Sprintf(" at %s; below %s no mail is taken", dir, size(least))
		return f.todo(statusFail, "make room, or lower [queue] min_free_mb")
	}
	return f
}

func judgeDaemon(running bool) finding {
	if running {
		return healthy("daemon", "it answers on its socket")
	}
	return healthy("daemon", "none is running: mail is tried once when it is handed in, and again only by `danepost queue run`").
		todo(statusWarn, "start `danepost serve` (systemctl enable --now danepost), or call `danepost queue run` from cron")
}
