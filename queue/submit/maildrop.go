package submit

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A drop file is
//
//	danepost-drop 1 LENGTH\n      length of the request in bytes, decimal
//	{"recipients":...}            the Request as JSON
//	content                       the message as the caller wrote it
//	\nend LENGTH SHA256\n         16 and 64 hexadecimal digits: length and
//	                              checksum of everything before this trailer
//
// It is written under a name that begins with "tmp." and renamed when it is
// on the disk, so that every other name is a whole message, except after
// damage, which the trailer shows.
const (
	dropMagic     = "danepost-drop 1 "
	dropTrailer   = len("\nend ") + 16 + 1 + 64 + 1
	tempPrefix    = "tmp."
	asidePrefix   = "bad."
	staleTempFile = 36 * time.Hour
)

// Maildrop is the directory that takes mail while no daemon does. With the
// setgid set-up it has mode 1730: members of danepost-drop may add files and
// nobody but its owner may list it.
type Maildrop struct {
	Dir string
}

// NewKey makes a Request's Key, which is also the name of its drop file:
// time, user and 64 random bits.
func NewKey(now time.Time, uid uint32) string {
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("%016x-%d-%s", now.UnixNano(), uid, hex.EncodeToString(b[:]))
}

// parseKey is NewKey's inverse.
func parseKey(key string) (at time.Time, uid uint32, ok bool) {
	part := strings.Split(key, "-")
	if len(part) != 3 || len(part[0]) != 16 || len(part[2]) != 16 {
		return time.Time{}, 0, false
	}
	nano, err1 := strconv.ParseUint(part[0], 16, 63)
	id, err2 := strconv.ParseUint(part[1], 10, 32)
	_, err3 := hex.DecodeString(part[2])
	return time.Unix(0, int64(nano)), uint32(id), err1 == nil && err2 == nil && err3 == nil
}

// Write stores one message of src under r.Key, which must come from NewKey,
// and returns when it is durable. The gate tells, without queueing anything,
// whether the message would be refused later: the caller must hear it now.
// On error nothing is left behind.
func (d *Maildrop) Write(g *Gate, r *Request, src Source, content io.Reader) (err error) {
	if _, uid, ok := parseKey(r.Key); !ok || uid != src.UID {
		return &Error{Code: ExitSoftware, Text: fmt.Sprintf("%q is no name for a drop file of user %d", r.Key, src.UID)}
	}
	if _, err := os.Stat(d.Dir); err != nil {
		return d.cannotWrite(err)
	}
	if err := g.room(d.Dir); err != nil {
		return err
	}
	temp := filepath.Join(d.Dir, tempPrefix+r.Key)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return d.cannotWrite(err)
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err := writeDrop(f, g, r, src, content); err != nil {
		return err
	}
	// The umask of the caller must not keep the daemon's group from reading.
	if err := f.Chmod(0o640); err != nil {
		return tempf(err, "cannot store the message")
	}
	d.shareGroup(f)
	if err := f.Sync(); err != nil {
		return tempf(err, "cannot store the message")
	}
	if err := os.Rename(temp, filepath.Join(d.Dir, r.Key)); err != nil {
		return tempf(err, "cannot store the message")
	}
	if err := d.sync(f); err != nil {
		os.Remove(filepath.Join(d.Dir, r.Key))
		return tempf(err, "cannot store the message")
	}
	return nil
}

// Create makes the maildrop where it is missing, for the owner of the
// directory it stands in alone, whoever the caller is. A set-up with a setgid
// program makes its own.
func (d *Maildrop) Create() error {
	err := os.Mkdir(d.Dir, 0o700)
	if err == nil && os.Geteuid() == 0 {
		var st unix.Stat_t
		if err = unix.Stat(filepath.Dir(d.Dir), &st); err == nil {
			err = os.Chown(d.Dir, int(st.Uid), int(st.Gid))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return CannotCreate("cannot make the maildrop", err)
	}
	return nil
}

// shareGroup gives what root drops to the directory's group, so that a daemon
// under a user of its own can read it. Others have that group already or own
// the directory, so that failing changes nothing.
func (d *Maildrop) shareGroup(f *os.File) {
	var st unix.Stat_t
	if os.Geteuid() == 0 && unix.Stat(d.Dir, &st) == nil {
		f.Chown(-1, int(st.Gid))
	}
}

func (d *Maildrop) cannotWrite(err error) error {
	text := "cannot write to the maildrop; start the daemon, or install danepost setgid danepost-drop"
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: ExitNoPerm, Text: text, Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Code: ExitUnavailable, Text: text, Err: err}
	}
	return CannotCreate("cannot write to the maildrop", err)
}

// sync makes the new name durable. A member of danepost-drop may not open the
// directory; the whole filesystem is synced then.
func (d *Maildrop) sync(f *os.File) error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return unix.Syncfs(int(f.Fd()))
	}
	defer dir.Close()
	return dir.Sync()
}

// writeDrop writes what a drop file holds, checking the message as it passes.
func writeDrop(f *os.File, g *Gate, r *Request, src Source, content io.Reader) error {
	request, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(request) > maxJSON {
		return dataf("the recipients are more than a drop file takes (%d bytes)", len(request))
	}
	sum := sha256.New()
	buffered := bufio.NewWriterSize(f, 64<<10)
	w := &countWriter{w: io.MultiWriter(buffered, sum)}
	fmt.Fprintf(w, "%s%d\n%s", dropMagic, len(request), request)

	br := bufio.NewReaderSize(io.TeeReader(content, w), 32<<10)
	h, lead, err := readHeader(br)
	if err != nil {
		return err
	}
	if _, err := g.envelope(r, src, &h); err != nil {
		return err
	}
	check := spool{discard: true}
	if err := check.fill(behind(lead, br), g.MaxSize, newFillBuffers()); err != nil {
		return err
	}
	buffered.WriteString(dropTail(w.n, sum.Sum(nil)))
	if err := buffered.Flush(); err != nil {
		return tempf(err, "cannot store the message")
	}
	return nil
}

// dropTail is the trailer behind length bytes with the given checksum.
func dropTail(length int64, sum []byte) string {
	return fmt.Sprintf("\nend %016x %x\n", length, sum)
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
