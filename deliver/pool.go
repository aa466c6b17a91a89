package deliver

import (
	"net/netip"
	"sync"
	"time"
)

// poolKey says which connections are alike. Level and names are part of it: a
// connection opened under a weaker demand never carries mail that made a
// stronger one. (The source addresses are the same for all of a Deliverer.)
type poolKey struct {
	hop     string // relays and vias: their own name, so that logins are never mixed
	host    string
	port    uint16
	base    string
	level   Level
	require bool // RFC 8689
}

func (h *hostPlan) key() poolKey {
	k := poolKey{host: h.host, port: h.port, base: h.base, level: h.level, require: h.requireTLS}
	if h.hop.fixed || h.level == LevelFingerprint {
		k.hop = h.hop.name
	}
	return k
}

// pool holds idle sessions for the next message. It is safe for concurrent use.
type pool struct {
	max, perKey int

	mu     sync.Mutex
	idle   map[poolKey][]*idleSession // oldest first
	count  int
	closed bool
	ending sync.WaitGroup // sessions that are saying goodbye
}

type idleSession struct {
	s     *session
	timer *time.Timer
	since time.Time
}

func newPool(most, perKey int) *pool {
	if most <= 0 {
		most = 50
	}
	if perKey <= 0 {
		perKey = 5
	}
	return &pool{max: most, perKey: perKey, idle: map[poolKey][]*idleSession{}}
}

// take returns the session that was put back last, or nil. If the session's
// address is not among addrs any more it is not used.
func (p *pool) take(k poolKey, addrs []netip.Addr) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[k]
	for i := len(list) - 1; i >= 0; i-- {
		for _, a := range addrs {
			if list[i].s.addr == a.Unmap() {
				return p.remove(k, i)
			}
		}
	}
	return nil
}

// remove takes entry i out. Its timer may have fired already and be waiting
// for the lock; it then finds the entry gone.
func (p *pool) remove(k poolKey, i int) *session {
	list := p.idle[k]
	e := list[i]
	e.timer.Stop()
	list = append(list[:i:i], list[i+1:]...)
	if len(list) == 0 {
		delete(p.idle, k)
	} else {
		p.idle[k] = list
	}
	p.count--
	return e.s
}

// put keeps a session for the next message, or ends it.
func (p *pool) put(s *session) {
	k := s.plan.key()
	p.mu.Lock()
	if p.closed || len(p.idle[k]) >= p.perKey || s.uses >= maxUses || time.Since(s.born) >= maxConnectionAge {
		p.mu.Unlock()
		p.end(s)
		return
	}
	if p.count >= p.max {
		p.evict()
	}
	e := &idleSession{s: s, since: time.Now()}
	e.timer = time.AfterFunc(idleTime, func() { p.expire(k, e) })
	p.idle[k] = append(p.idle[k], e)
	p.count++
	p.mu.Unlock()
}

// evict ends the session that has been idle longest.
func (p *pool) evict() {
	var oldest poolKey
	var since time.Time
	for k, list := range p.idle {
		if since.IsZero() || list[0].since.Before(since) {
			oldest, since = k, list[0].since
		}
	}
	if !since.IsZero() {
		p.end(p.remove(oldest, 0))
	}
}

// end says goodbye on a session without making anyone wait for it.
func (p *pool) end(s *session) { p.ending.Go(s.quit) }

func (p *pool) expire(k poolKey, e *idleSession) {
	p.mu.Lock()
	for i, have := range p.idle[k] {
		if have == e {
			p.remove(k, i)
			p.ending.Add(1)
			p.mu.Unlock()
			defer p.ending.Done()
			e.s.quit()
			return
		}
	}
	p.mu.Unlock()
}

// close ends all idle sessions and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for k, list := range p.idle {
		for range list {
			s := p.remove(k, 0)
			p.ending.Go(s.quit)
		}
	}
	p.mu.Unlock()
	p.ending.Wait()
}
