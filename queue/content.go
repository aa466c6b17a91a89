package queue

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// inlineLimit is the size up to which content lives in the database, in the
// transaction of its envelope. Larger content is a file beside it.
const inlineLimit = 32 << 10

// tempPrefix begins the name of a content file that is being written.
const tempPrefix = "new-"

// contents is the directory of the content files, and the memory that content
// without one passes through.
type contents struct {
	dir   string
	heads sync.Pool // of *[]byte
}

// staged is content that is safe on the disk, or in memory to be committed
// with its envelope, and belongs to no message yet.
type staged struct {
	inline []byte  // when path is ""
	head   *[]byte // inline's memory
	path   string  // the temporary file, synced
	size   int64
	sum    []byte
}

func (c *contents) path(id string) string { return filepath.Join(c.dir, id) }

// stage reads content to its end. limit bounds its size when positive; room
// is asked before the disk is written to, and now and then while it is.
func (c *contents) stage(r io.Reader, limit int64, room func() error) (*staged, error) {
	sum := sha256.New()
	src := &bounded{r: r, limit: limit, sum: sum}
	head, ok := c.heads.Get().(*[]byte)
	if !ok {
		head = new([]byte)
		*head = make([]byte, 0, 8<<10)
	}
	var err error
	if *head, err = readUpTo((*head)[:0], src, inlineLimit+1); err != nil {
		c.heads.Put(head)
		return nil, err
	}
	if len(*head) <= inlineLimit {
		return &staged{inline: *head, head: head, size: src.n, sum: sum.Sum(nil)}, nil
	}
	path, err := c.spill(io.MultiReader(bytes.NewReader(*head), src), room)
	c.heads.Put(head)
	if err != nil {
		return nil, err
	}
	return &staged{path: path, size: src.n, sum: sum.Sum(nil)}, nil
}

// reuse takes back the memory of inline content that is committed or given up.
func (c *contents) reuse(s *staged) {
	if s.head != nil {
		s.inline = nil
		c.heads.Put(s.head)
	}
}

// readUpTo appends to b what r holds, up to a length of n.
func readUpTo(b []byte, r io.Reader, n int) ([]byte, error) {
	for len(b) < n {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(2*cap(b), n)), b...)
		}
		got, err := r.Read(b[len(b):min(cap(b), n)])
		b = b[:len(b)+got]
		if err == io.EOF {
			break
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

// bounded counts, checks and limits what passes.
type bounded struct {
	r     io.Reader
	n     int64
	limit int64
	sum   hash.Hash
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	b.sum.Write(p[:n])
	if b.limit > 0 && b.n > b.limit {
		return n, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, b.limit)
	}
	return n, err
}

// roomCheck is how many bytes are written between two questions for room.
const roomCheck = 4 << 20

// spill writes r to a temporary file and syncs it.
func (c *contents) spill(r io.Reader, room func() error) (path string, err error) {
	f, err := os.CreateTemp(c.dir, tempPrefix)
	if err != nil {
		return "", diskError("store the message", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	for {
		if err := room(); err != nil {
			return "", err
		}
		end, err := copyChunk(f, r)
		if err != nil {
			return "", err
		}
		if end {
			break
		}
	}
	if err := f.Sync(); err != nil {
		return "", diskError("store the message", err)
	}
	if err := f.Close(); err != nil {
		return "", diskError("store the message", err)
	}
	return f.Name(), nil
}

// copyChunk copies roomCheck bytes, or to the end. It is not io.Copy because
// an error must tell the full disk from the failing source.
func copyChunk(w io.Writer, r io.Reader) (end bool, err error) {
	buf := make([]byte, 64<<10)
	for total := 0; total < roomCheck; {
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return false, diskError("store the message", err)
		}
		total += n
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// place gives staged content its name, durably. Without a file it does
// nothing.
func (c *contents) place(s *staged, id string) error {
	if s.path == "" {
		return nil
	}
	if err := os.Rename(s.path, c.path(id)); err != nil {
		return diskError("store the message", err)
	}
	s.path = c.path(id)
	return syncDir(c.dir)
}

// discard removes staged content that found no message.
func (s *staged) discard() {
	if s != nil && s.path != "" {
		os.Remove(s.path)
	}
}

// open opens a content file whose size and checksum are as recorded.
func (c *contents) open(id string, m *message) (io.ReadSeekCloser, error) {
	f, err := os.Open(c.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing", ErrContent, c.path(id))
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, make([]byte, 64<<10))
	if err == nil && (n != m.Size || !bytes.Equal(sum.Sum(nil), m.Sum)) {
		err = fmt.Errorf("%w: %s has %d bytes with another checksum than the %d bytes accepted", ErrContent, c.path(id), n, m.Size)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openInline is open for content that was read from the database.
func openInline(b []byte, m *message) (io.ReadSeekCloser, error) {
	sum := sha256.Sum256(b)
	if int64(len(b)) != m.Size || !bytes.Equal(sum[:], m.Sum) {
		return nil, fmt.Errorf("%w: the database holds %d bytes with another checksum than the %d bytes accepted", ErrContent, len(b), m.Size)
	}
	return memory{bytes.NewReader(b)}, nil
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// sweep removes the files that belong to no message and returns how many.
// Files it did not name are left alone.
func (c *contents) sweep(known func(id string) bool) (int, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return 0, err
	}
	swept := 0
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, tempPrefix) && !(validID(name) && !known(name)) {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil {
			return swept, err
		}
		swept++
	}
	return swept, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return diskError("store the message", err)
	}
	return nil
}
