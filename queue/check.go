package queue

import (
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

// page reads a page with its overflow.
func (c *pageChecker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.meta.pages {
		return nil, fmt.Errorf("page %d is referred to, but is none of the %d pages", id, c.meta.pages)
	}
	head := make([]byte, pageHeader)
	at := int64(id) * c.meta.pageSize
	if _, err := c.r.ReadAt(head, at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	overflow := uint64(binary.NativeEndian.Uint32(head[12:]))
	if own := binary.NativeEndian.Uint64(head); own != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, own)
	}
	if overflow >= c.meta.pages-id {
		return nil, fmt.Errorf("page %d reaches beyond the file", id)
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return nil, fmt.Errorf("page %d is in use twice", i)
		}
		c.seen[i] = true
	}
	b := make([]byte, int64(overflow+1)*c.meta.pageSize)
	if _, err := c.r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

// tree checks a page and those below it. depth and nest are how many levels
// of pages and of buckets there may still be.
func (c *pageChecker) tree(id uint64, depth, nest int) error {
	if depth == 0 {
		return fmt.Errorf("page %d is too deep in the tree", id)
	}
	b, err := c.page(id)
	if err != nil {
		return err
	}
	if err := c.elements(b, depth, nest); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements checks the keys of a page, also of one inside a bucket's value.
func (c *pageChecker) elements(b []byte, depth, nest int) error {
	order := binary.NativeEndian
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return fmt.Errorf("it is of kind %#x, not a page of keys", flags)
	}
	if pageHeader+count*elementSize > len(b) {
		return fmt.Errorf("%d keys do not fit it", count)
	}
	if flags == flagBranch && count == 0 {
		return errors.New("it leads nowhere")
	}
	last := ""
	for i := range count {
		at := pageHeader + i*elementSize
		key, value, ok := element(b, at, flags)
		if !ok {
			return fmt.Errorf("key %d reaches beyond it", i)
		}
		if i > 0 && string(key) <= last {
			return fmt.Errorf("key %d is out of order", i)
		}
		last = string(key)
		var err error
		if flags == flagBranch {
			err = c.tree(order.Uint64(b[at+8:]), depth-1, nest)
		} else if order.Uint32(b[at:])&leafIsBucket != 0 {
			err = c.bucket(value, nest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element finds the key and value of the element at an offset of page b.
func element(b []byte, at int, flags uint16) (key, value []byte, ok bool) {
	order := binary.NativeEndian
	var pos, ksize, vsize uint64
	if flags == flagBranch {
		pos, ksize = uint64(order.Uint32(b[at:])), uint64(order.Uint32(b[at+4:]))
	} else {
		pos, ksize, vsize = uint64(order.Uint32(b[at+4:])), uint64(order.Uint32(b[at+8:])), uint64(order.Uint32(b[at+12:]))
	}
	from := uint64(at) + pos // positions count from the element
	if from+ksize+vsize > uint64(len(b)) {
		return nil, nil, false
	}
	return b[from : from+ksize], b[from+ksize : from+ksize+vsize], true
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
	return c.elements(inline, 1, nest-1)
}
