package resolver

import (
	"sync"
	"time"

	"danepost/resolver/dnssec"
)

// kind separates what the cache holds about one name.
type kind uint8

const (
	kindFact       kind = iota // *fact: what servers said of a name and type
	kindName                   // *fact: the name does not exist (type 0)
	kindOutcome                // *kept or *outcome: the judged answer to a question
	kindDelegation             // *delegation: a zone and its servers
	kindTrust                  // *trust: the keys of a zone, or why there are none
	kindFailure                // *failed: a resolution that failed (RFC 9520)
	kindDenials                // *denials: NSEC and NSEC3 that verified (RFC 8198)
	kindZoneNS                 // *fact: the NS RRset that a zone shows itself
)

type cacheKey struct {
	name dnssec.Name
	typ  uint16
	kind kind
}

// cached is an immutable value of the cache.
type cached interface {
	// bytes estimates the memory that the value alone keeps alive.
	bytes() int
}

// nodeBytes is what an entry costs beside its value and its name: the node, and its
// share of the map.
const nodeBytes = 64 + 50

type node struct {
	key        cacheKey
	value      cached
	expires    int64 // Unix nanoseconds
	prev, next *node
}

func (n *node) bytes() int { return nodeBytes + len(n.key.name) + n.value.bytes() }

// cache holds immutable entries under one bound in bytes, least recently used
// first out. It is safe for concurrent use.
type cache struct {
	mu    sync.Mutex
	nodes map[cacheKey]*node
	ring  node // of the list by use; ring.next is the latest
	size  int
	max   int
}

func newCache(max int) *cache {
	c := &cache{nodes: make(map[cacheKey]*node), max: max}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

func (n *node) unlink() {
	n.prev.next, n.next.prev = n.next, n.prev
}

func (c *cache) front(n *node) {
	n.prev, n.next = &c.ring, c.ring.next
	n.prev.next, n.next.prev = n, n
}

// get returns the value at k, nil if there is none that still holds at now.
func (c *cache) get(k cacheKey, now time.Time) cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[k]
	if n == nil {
		return nil
	}
	if n.expires <= now.UnixNano() {
		c.remove(n)
		return nil
	}
	if c.ring.next != n {
		n.unlink()
		c.front(n)
	}
	return n.value
}

// put stores v until expires, in place of what stood at k.
func (c *cache) put(k cacheKey, v cached, expires time.Time) {
	n := &node{key: k, value: v, expires: expires.UnixNano()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.nodes[k]; old != nil {
		c.remove(old)
	}
	if n.bytes() > c.max {
		return
	}
	c.nodes[k] = n
	c.front(n)
	c.size += n.bytes()
	for c.size > c.max {
		c.remove(c.ring.prev)
	}
}

// clear forgets everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.nodes)
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	c.size = 0
}

// drop forgets what stands at k.
func (c *cache) drop(k cacheKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[k]; n != nil {
		c.remove(n)
	}
}

func (c *cache) remove(n *node) {
	n.unlink()
	delete(c.nodes, n.key)
	c.size -= n.bytes()
}
