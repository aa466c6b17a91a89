package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Disk is what a directory tree looked like through a sequence of calls, and
// what of it was safe.
//
// The model is harsher than a journaling filesystem: a file's sync covers its
// bytes and not its name, a directory's sync covers names, and what is not
// synced may survive in any part.
type Disk struct {
	root    string
	fds     map[string]*handle
	closing map[string]int    // descriptors whose close has begun, and may have been given out again
	names   map[string]*inode // as the process sees them
	safe    map[string]*inode // as the disk holds them
	open    map[string][]nameChange
	// Acknowledged holds the lines the process wrote to its standard output.
	Acknowledged []string
	Calls        int            // that changed or synced something
	Replaced     map[string]int // how often a file took the place of another, by base name
}

type handle struct {
	path   string
	inode  *inode
	offset int64
	marks  []int // pending changes covered by syncs under way
}

type inode struct {
	dir     bool
	synced  []byte
	pending []fileChange
}

// fileChange is a write, or without data a change of size.
type fileChange struct {
	at   int64
	data []byte
}

// nameChange is a name's new inode in a directory, nil for none. A rename
// takes another name, second, away with it.
type nameChange struct {
	name, second string
	inode        *inode
}

// NewDisk models the tree below root, which exists and is empty.
func NewDisk(root string) *Disk {
	top := &inode{dir: true}
	return &Disk{root: root, fds: map[string]*handle{}, closing: map[string]int{}, open: map[string][]nameChange{},
		Replaced: map[string]int{}, names: map[string]*inode{root: top}, safe: map[string]*inode{root: top}}
}

func (d *Disk) inside(path string) bool {
	return path == d.root || strings.HasPrefix(path, d.root+"/")
}

// Do applies a call.
func (d *Disk) Do(c Call) error {
	if c.Begin {
		return d.begin(c)
	}
	switch c.Name {
	case "openat":
		return d.openFile(c)
	case "close":
		if d.closing[c.Args[0]]--; d.closing[c.Args[0]] < 0 { // it did not begin earlier
			d.closing[c.Args[0]] = 0
			delete(d.fds, c.Args[0])
		}
	case "write", "pwrite64", "ftruncate":
		return d.change(c)
	case "fsync", "fdatasync":
		d.sync(c.Args[0])
	case "mkdirat":
		d.name(c.Args[1], &inode{dir: true})
	case "mkdir":
		d.name(c.Args[0], &inode{dir: true})
	case "unlinkat":
		d.name(c.Args[1], nil)
	case "unlink":
		d.name(c.Args[0], nil)
	case "rename":
		return d.rename(c.Args[0], c.Args[1])
	case "renameat", "renameat2":
		return d.rename(c.Args[1], c.Args[3])
	default:
		return fmt.Errorf("the model does not know %s", c.Name)
	}
	return nil
}

// begin notes what matters before a call's end: a descriptor may be given
// out again while close is under way, and a sync covers only what was
// written before it began.
func (d *Disk) begin(c Call) error {
	h := d.fds[c.Args[0]]
	switch {
	case c.Name == "close":
		d.closing[c.Args[0]]++
		delete(d.fds, c.Args[0])
	case h != nil && h.inode != nil && strings.HasSuffix(c.Name, "sync"):
		h.marks = append(h.marks, d.pendingOf(h))
	}
	return nil
}

func (d *Disk) pendingOf(h *handle) int {
	if h.inode.dir {
		return len(d.open[h.path])
	}
	return len(h.inode.pending)
}

func (d *Disk) openFile(c Call) error {
	path, flags := c.Args[1], c.Args[2]
	fd := strconv.FormatInt(c.Value, 10)
	if !d.inside(path) {
		delete(d.fds, fd)
		return nil
	}
	n := d.names[path]
	if n == nil {
		if !strings.Contains(flags, "O_CREAT") {
			return fmt.Errorf("%s was opened and never made", path)
		}
		n = &inode{}
		d.name(path, n)
	} else if strings.Contains(flags, "O_TRUNC") {
		n.pending = append(n.pending, fileChange{at: 0})
	}
	d.fds[fd] = &handle{path: path, inode: n}
	return nil
}

func (d *Disk) change(c Call) error {
	if c.Name == "write" && c.Args[0] == "1" {
		d.Acknowledged = append(d.Acknowledged, strings.Split(strings.TrimSuffix(c.Args[1], "\n"), "\n")...)
		return nil
	}
	h := d.fds[c.Args[0]]
	if h == nil {
		return nil
	}
	d.Calls++
	ch := fileChange{at: h.offset}
	switch c.Name {
	case "write":
		ch.data = []byte(c.Args[1][:c.Value])
		h.offset += c.Value
	case "pwrite64":
		at, err := strconv.ParseInt(c.Args[3], 10, 64)
		if err != nil {
			return err
		}
		ch.at, ch.data = at, []byte(c.Args[1][:c.Value])
	case "ftruncate":
		size, err := strconv.ParseInt(c.Args[1], 10, 64)
		if err != nil {
			return err
		}
		ch.at = size
	}
	h.inode.pending = append(h.inode.pending, ch)
	return nil
}

// name changes what a path leads to.
func (d *Disk) name(path string, n *inode) {
	if !d.inside(path) {
		return
	}
	d.Calls++
	if n == nil {
		delete(d.names, path)
	} else {
		d.names[path] = n
	}
	dir := filepath.Dir(path)
	d.open[dir] = append(d.open[dir], nameChange{name: path, inode: n})
}

func (d *Disk) rename(from, to string) error {
	if !d.inside(from) {
		return nil
	}
	if filepath.Dir(from) != filepath.Dir(to) || d.names[from] == nil || d.names[from].dir {
		return fmt.Errorf("the model does not know a rename of %s to %s", from, to)
	}
	d.Calls++
	if d.names[to] != nil {
		d.Replaced[filepath.Base(to)]++
	}
	n := d.names[from]
	delete(d.names, from)
	d.names[to] = n
	dir := filepath.Dir(to)
	d.open[dir] = append(d.open[dir], nameChange{name: to, inode: n, second: from})
	return nil
}

// sync makes safe what was there when it began.
func (d *Disk) sync(fd string) {
	h := d.fds[fd]
	if h == nil {
		return
	}
	d.Calls++
	covered := d.pendingOf(h)
	if len(h.marks) > 0 {
		covered, h.marks = min(covered, h.marks[0]), h.marks[1:]
	}
	if !h.inode.dir {
		for _, ch := range h.inode.pending[:covered] {
			h.inode.synced = ch.apply(h.inode.synced)
		}
		h.inode.pending = slices.Clone(h.inode.pending[covered:])
		return
	}
	for _, ch := range d.open[h.path][:covered] {
		ch.apply(d.safe)
	}
	d.open[h.path] = slices.Clone(d.open[h.path][covered:])
}

func (ch nameChange) apply(names map[string]*inode) {
	if ch.inode == nil {
		delete(names, ch.name)
	} else {
		names[ch.name] = ch.inode
	}
	if ch.second != "" {
		delete(names, ch.second)
	}
}

func (ch fileChange) apply(b []byte) []byte {
	end := ch.at + int64(len(ch.data))
	if ch.data == nil {
		if int64(len(b)) >= ch.at {
			return b[:ch.at:ch.at]
		}
	}
	if int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[ch.at:], ch.data)
	return b
}

// Survival decides what of the unsynced survives a power cut.
type Survival int

const (
	Nothing Survival = iota // only what was synced
	All                     // everything, as after a kill
	Some                    // any part, writes torn at sectors
)

const sector = 512

// Cut writes into dir what the disk holds after a power cut now.
func (d *Disk) Cut(dir string, how Survival, rnd *rand.Rand) error {
	names := maps.Clone(d.safe)
	for _, parent := range slices.Sorted(maps.Keys(d.open)) {
		for _, ch := range d.open[parent] {
			if how == All || how == Some && rnd.IntN(2) == 0 {
				ch.apply(names)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(names)) {
		if parent := names[filepath.Dir(path)]; path != d.root && parent == nil {
			continue // its directory did not survive
		}
		to := filepath.Join(dir, strings.TrimPrefix(path, d.root))
		n := names[path]
		if n.dir {
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(to, n.after(how, rnd), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// after is a file's content after a power cut.
func (n *inode) after(how Survival, rnd *rand.Rand) []byte {
	if how == Nothing || len(n.pending) == 0 {
		return n.synced
	}
	b := slices.Clone(n.synced)
	for _, ch := range n.pending {
		if how == All {
			b = ch.apply(b)
			continue
		}
		switch rnd.IntN(3) {
		case 0:
			b = ch.apply(b)
		case 1: // torn
			for at := 0; at < len(ch.data); at += sector {
				if rnd.IntN(2) == 0 {
					piece := ch.data[at:min(at+sector, len(ch.data))]
					b = fileChange{at: ch.at + int64(at), data: piece}.apply(b)
				}
			}
		}
	}
	return b
}
