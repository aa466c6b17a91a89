package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkFile reads the database file page by page and says what is wrong with
// its structure. bbolt itself follows any number it finds: a truncated file
// ends the process by a fault, a page of another kind by a panic in a
// goroutine nobody can recover in. What is checked: both meta pages, that
// every page reached lies in the file, is of a kind that belongs there and is
// reached once, that every key and value lies in its page, and that keys
// ascend.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return checkPages(f, info.Size())
}

// The layout of bbolt's file, in the byte order of the machine.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader    = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementSize   = 16 // branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32
	bucketHeader  = 16 // root page uint64, sequence uint64; a root of 0 means that its page follows here
	metaSize      = 64 // after the page header
	metaSummed    = 56 // the bytes under the checksum
	flagBranch    = 0x01
	flagLeaf      = 0x02
	leafIsBucket  = 0x01
	maxPageSize   = 64 << 10
	maxTreeDepth  = 64 // no tree of 2^64 pages is deeper
	maxBucketNest = 4  // ours nest two deep
)

type meta struct {
	pageSize int64
	root     uint64
	pages    uint64 // the first page beyond the last used
	txid     uint64
}

type pageChecker struct {
	r    io.ReaderAt
	meta meta
	seen map[uint64]bool
}

func checkPages(r io.ReaderAt, size int64) error {
	m, err := newestMeta(r, size)
	if err != nil {
		return err
	}
	if m.pages > uint64(size/m.pageSize) {
		return fmt.Errorf("the file is cut off: it has %d bytes and should have at least %d", size, m.pages*uint64(m.pageSize))
	}
	c := &pageChecker{r: r, meta: m, seen: map[uint64]bool{}}
	return c.tree(m.root, maxTreeDepth, maxBucketNest)
}

// newestMeta finds the valid meta page with the highest transaction.
func newestMeta(r io.ReaderAt, size int64) (best meta, err error) {
	// The second meta page stands one page size behind the first; if the first
	// is torn, the size has to be guessed.
	for _, at := range []int64{0, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		buf := make([]byte, pageHeader+metaSize)
		if _, err := r.ReadAt(buf, at); err != nil {
			continue
		}
		m, ok := parseMeta(buf[pageHeader:])
		if ok && (at == 0 || at == m.pageSize) && m.txid >= best.txid {
			best = m
		}
	}
	if best.pageSize == 0 {
		if size == 0 {
			return best, errors.New("the file is empty")
		}
		return best, errors.New("it is not a bbolt database, or both of its meta pages are damaged")
	}
	return best, nil
}

func parseMeta(b []byte) (meta, bool) {
	order := binary.NativeEndian
	m := meta{
		pageSize: int64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	sum := fnv.New64a()
	sum.Write(b[:metaSummed])
	ok := order.Uint32(b) == boltMagic && order.Uint32(b[4:]) == boltVersion &&
		order.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= 1<<10 && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// page is a page of the file with its overflow pages, read as far as its
// keys reach: large values are content, which has its own checksum.
type page struct {
	b    []byte
	size uint64 // with the overflow; len(b) is at most that
}

// page reads a page.
func (c *pageChecker) page(id uint64) (page, error) {
	if id < 2 || id >= c.meta.pages {
		return page{}, fmt.Errorf("page %d is referred to, but is none of the %d pages", id, c.meta.pages)
	}
	b := make([]byte, c.meta.pageSize)
	at := int64(id) * c.meta.pageSize
	if _, err := c.r.ReadAt(b, at); err != nil {
		return page{}, fmt.Errorf("read page %d: %w", id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	if own := binary.NativeEndian.Uint64(b); own != id {
		return page{}, fmt.Errorf("page %d says that it is page %d", id, own)
	}
	if overflow >= c.meta.pages-id {
		return page{}, fmt.Errorf("page %d reaches beyond the file", id)
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return page{}, fmt.Errorf("page %d is in use twice", i)
		}
		c.seen[i] = true
	}
	p := page{b: b, size: (overflow + 1) * uint64(c.meta.pageSize)}
	if p.needsMore() {
		p.b = make([]byte, p.size)
		if _, err := c.r.ReadAt(p.b, at); err != nil {
			return page{}, fmt.Errorf("read page %d: %w", id, err)
		}
	}
	return p, nil
}

// needsMore says whether a key, or the value of a bucket, lies beyond the
// part that was read.
func (p page) needsMore() bool {
	have := uint64(len(p.b))
	if uint64(pageHeader+p.count()*elementSize) > have {
		return true
	}
	for i := range p.count() {
		e := p.element(i)
		if e.from+e.ksize > have || e.isBucket && e.from+e.ksize+e.vsize > have {
			return true
		}
	}
	return false
}

func (p page) kind() uint16 { return binary.NativeEndian.Uint16(p.b[8:]) }
func (p page) count() int   { return int(binary.NativeEndian.Uint16(p.b[10:])) }

// element is where an element's key and value are.
type element struct {
	from, ksize, vsize uint64
	child              uint64 // the page below a branch
	isBucket           bool
}

// element reads the i-th element, which lies within p.b.
func (p page) element(i int) element {
	order := binary.NativeEndian
	at := pageHeader + i*elementSize
	b := p.b[at : at+elementSize]
	if p.kind() == flagBranch { // positions count from the element
		return element{from: uint64(at) + uint64(order.Uint32(b)), ksize: uint64(order.Uint32(b[4:])), child: order.Uint64(b[8:])}
	}
	return element{from: uint64(at) + uint64(order.Uint32(b[4:])), ksize: uint64(order.Uint32(b[8:])), vsize: uint64(order.Uint32(b[12:])),
		isBucket: order.Uint32(b)&leafIsBucket != 0}
}

// tree checks a page and those below it. depth and nest are how many levels
// of pages and of buckets there may still be.
func (c *pageChecker) tree(id uint64, depth, nest int) error {
	if depth == 0 {
		return fmt.Errorf("page %d is too deep in the tree", id)
	}
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if err := c.elements(p, depth, nest); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements checks the keys of a page, also of one inside a bucket's value.
func (c *pageChecker) elements(p page, depth, nest int) error {
	kind, count := p.kind(), p.count()
	if kind != flagBranch && kind != flagLeaf {
		return fmt.Errorf("it is of kind %#x, not a page of keys", kind)
	}
	if uint64(pageHeader+count*elementSize) > p.size {
		return fmt.Errorf("%d keys do not fit it", count)
	}
	if kind == flagBranch && count == 0 {
		return errors.New("it leads nowhere")
	}
	var last []byte
	for i := range count {
		e := p.element(i)
		if e.from+e.ksize+e.vsize > p.size {
			return fmt.Errorf("key %d reaches beyond it", i)
		}
		key := p.b[e.from : e.from+e.ksize]
		if i > 0 && bytes.Compare(key, last) <= 0 {
			return fmt.Errorf("key %d is out of order", i)
		}
		last = key
		var err error
		if kind == flagBranch {
			err = c.tree(e.child, depth-1, nest)
		} else if e.isBucket {
			err = c.bucket(p.b[e.from+e.ksize:e.from+e.ksize+e.vsize], nest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the tree of a bucket, given its value.
func (c *pageChecker) bucket(value []byte, nest int) error {
	if nest == 0 {
		return errors.New("buckets are nested too deep")
	}
	if len(value) < bucketHeader {
		return errors.New("a bucket without a header")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, maxTreeDepth, nest-1)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf {
		return errors.New("a small bucket without its page")
	}
	return c.elements(page{b: inline, size: uint64(len(inline))}, 1, nest-1)
}
