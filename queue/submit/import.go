package submit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keyLife is how long the key of a message that came over the socket is
// remembered: as long as its sender may still fall back to the maildrop.
const keyLife = time.Hour

// dropForgetter is a queue that remembers keys until told otherwise.
type dropForgetter interface {
	ForgetDrops(keep func(key string) bool)
}

// Pending reports whether the maildrop holds a message to import. Whoever
// gave the queue's lock back asks this afterwards: a file that came too late
// for his import was written by somebody whose try for the lock failed.
func (d *Maildrop) Pending() bool {
	names, err := d.names()
	return err == nil && len(names) > 0
}

// names are the files to import, oldest first.
func (d *Maildrop) names() ([]string, error) {
	entries, err := os.ReadDir(d.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, tempf(err, "cannot read the maildrop")
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) && !strings.HasPrefix(e.Name(), asidePrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Import puts every message of the maildrop through the gate and removes its
// file; n is how many were queued. The file's name is the message's key, so
// that an import which was cut off between the two steps queues nothing
// twice. Files that are not whole or not what they should be are set aside
// with one line in the log. A failure that may pass leaves the file for the
// next import and is returned; one that is a single file's holds up no other.
// Only the holder of the queue's lock imports.
func (d *Maildrop) Import(ctx context.Context, g *Gate) (n int, err error) {
	names, err := d.names()
	if err != nil {
		return 0, err
	}
	var unreadable error
	for _, name := range names {
		err := d.importOne(ctx, g, name)
		switch code := ExitCode(err); {
		case err == nil:
			n++
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, errUnreadable):
			unreadable = err
		case code == ExitTempFail || ctx.Err() != nil:
			return n, err
		default:
			d.setAside(g, name, err)
		}
	}
	d.staleTemps(g)
	if q, ok := g.queue.(dropForgetter); ok {
		g.keyed.Lock()
		defer g.keyed.Unlock()
		q.ForgetDrops(func(key string) bool { return d.remembers(key, g.now()) })
	}
	return n, unreadable
}

// errUnreadable says that a file may not be opened. It was accepted, so it
// waits until the rights are mended.
var errUnreadable = errors.New("the daemon's user must be a member of the maildrop's group (danepost-drop)")

// remembers tells whether a key may still be seen again.
func (d *Maildrop) remembers(key string, now time.Time) bool {
	_, name, _ := strings.Cut(key, ".")
	at, _, ok := parseKey(name)
	if !ok {
		return false
	}
	if age := now.Sub(at); age < keyLife && age > -keyLife {
		return true
	}
	_, err := os.Lstat(filepath.Join(d.Dir, name))
	return err == nil
}

func (d *Maildrop) importOne(ctx context.Context, g *Gate, name string) error {
	path := filepath.Join(d.Dir, name)
	// O_NONBLOCK: opening a fifo somebody put there must not wait.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			return dataf("it is a symbolic link")
		}
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if errors.Is(err, fs.ErrPermission) {
			return tempf(errUnreadable, "cannot read %s", path)
		}
		if errors.Is(err, syscall.ENXIO) {
			return dataf("it cannot be opened: %v", err)
		}
		return tempf(err, "cannot read the maildrop")
	}
	defer f.Close()
	owner, err := checkOwner(f, name)
	if err != nil {
		return err
	}
	r, body, err := openDrop(f)
	if err != nil {
		return err
	}
	r.Key = name
	r.Wait = false
	if _, err := g.Accept(ctx, r, LocalUser(owner, "/etc/passwd"), body); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return tempf(err, "a message was queued but its drop file cannot be removed")
	}
	return nil
}

// checkOwner refuses everything but a file its owner alone wrote: who may
// link or rename into the directory must not send as somebody else.
func checkOwner(f *os.File, name string) (uid uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, tempf(err, "cannot read the maildrop")
	}
	_, named, ok := parseKey(name)
	switch {
	case !ok:
		return 0, dataf("its name is not one that danepost gives")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, dataf("it is no regular file")
	case st.Nlink != 1:
		return 0, dataf("it has %d links", st.Nlink)
	case st.Uid != named:
		return 0, dataf("it belongs to user %d, its name says %d", st.Uid, named)
	case st.Mode&0o022 != 0:
		return 0, dataf("others than its owner may write it (mode %04o)", st.Mode&0o7777)
	}
	return st.Uid, nil
}

// openDrop checks length and checksum, and only then looks at what is inside.
func openDrop(f *os.File) (*Request, io.Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, tempf(err, "cannot read the maildrop")
	}
	length := st.Size() - int64(dropTrailer)
	if length < 0 {
		return nil, nil, dataf("it is cut off")
	}
	trailer := make([]byte, dropTrailer)
	if _, err := f.ReadAt(trailer, length); err != nil {
		return nil, nil, tempf(err, "cannot read the maildrop")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, length)); err != nil {
		return nil, nil, tempf(err, "cannot read the maildrop")
	}
	if string(trailer) != dropTail(length, sum.Sum(nil)) {
		return nil, nil, dataf("it is cut off or damaged: length or checksum do not match")
	}
	whole := io.NewSectionReader(f, 0, length)
	line, err := bufio.NewReaderSize(io.NewSectionReader(f, 0, min(length, 64)), 64).ReadSlice('\n')
	var n int64
	if err == nil {
		_, err = fmt.Sscanf(string(line), dropMagic+"%d\n", &n)
	}
	start := int64(len(line))
	if err != nil || n < 0 || n > maxJSON || start+n > length {
		return nil, nil, dataf("it is no drop file of this version")
	}
	request := make([]byte, n)
	if _, err := whole.ReadAt(request, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, tempf(err, "cannot read the maildrop")
	}
	r := &Request{}
	if err := json.Unmarshal(request, r); err != nil {
		return nil, nil, dataf("its request cannot be read: %v", err)
	}
	return r, io.NewSectionReader(f, start+n, length-start-n), nil
}

// setAside renames a file that will never be imported, so that it is neither
// lost nor complained about twice.
func (d *Maildrop) setAside(g *Gate, name string, why error) {
	aside := filepath.Join(d.Dir, asidePrefix+name)
	if err := os.Rename(filepath.Join(d.Dir, name), aside); err != nil {
		g.log.Error("maildrop: a file cannot be imported nor set aside", "file", filepath.Join(d.Dir, name), "reason", why.Error(), "error", err.Error())
		return
	}
	g.log.Error("maildrop: a file was set aside, not sent", "file", aside, "reason", why.Error())
}

// staleTemps sets aside what writers left that died long ago.
func (d *Maildrop) staleTemps(g *Gate) {
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if st, err := e.Info(); err == nil && g.now().Sub(st.ModTime()) > staleTempFile {
			d.setAside(g, e.Name(), errors.New("its writer died before the message was whole"))
		}
	}
}
