package resolver

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"danepost/resolver/dnssec"
)

// serverState is what is remembered of one server address.
type serverState struct {
	srtt, rttvar time.Duration // RFC 6298 §2; zero while unknown
	backoff      uint8         // timeouts in a row, each doubles the wait
	deadUntil    time.Time
	spokeEDNS    bool      // it answered a query with EDNS
	noEDNS       time.Time // until when it is asked without EDNS
	noCase       time.Time // until when it is asked without mixed case
	lame         map[dnssec.Name]time.Time
	cookie       []byte // the server's part, as last received (RFC 7873 §5.3)
	used         time.Time
}

// servers remembers the servers asked. It is safe for concurrent use.
type servers struct {
	lim    *Limits
	secret [16]byte // of the client cookies

	mu     sync.Mutex
	states map[netip.AddrPort]*serverState
	// When a whole address family proved unusable, until when it is left out.
	noFamily [2]time.Time
	silent   [2]int  // timeouts in a row in a family
	heard    [2]bool // whether it ever answered
}

func newServers(lim *Limits, secret [16]byte) *servers {
	return &servers{lim: lim, secret: secret, states: make(map[netip.AddrPort]*serverState)}
}

// state returns the entry of a server. The caller holds mu.
func (s *servers) state(a netip.AddrPort, now time.Time) *serverState {
	st := s.states[a]
	if st == nil {
		if len(s.states) >= s.lim.Servers {
			s.evict(now)
		}
		st = &serverState{}
		s.states[a] = st
	}
	st.used = now
	return st
}

// evict forgets one of the entries met first that is the least recently used.
func (s *servers) evict(now time.Time) {
	var worst netip.AddrPort
	oldest, seen := now, 0
	for a, st := range s.states {
		if !st.used.After(oldest) {
			worst, oldest = a, st.used
		}
		if seen++; seen == 16 {
			break
		}
	}
	delete(s.states, worst)
}

// traits says how a server wants to be asked.
type traits struct {
	timeout time.Duration
	edns    bool
	mix     bool // letter case
	unheard bool // it has answered nothing with EDNS yet
	cookie  []byte
}

func (s *servers) traits(a netip.AddrPort, now time.Time) traits {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(a, now)
	return traits{
		timeout: s.timeout(st),
		edns:    !now.Before(st.noEDNS),
		mix:     !now.Before(st.noCase),
		unheard: !st.spokeEDNS,
		cookie:  append(s.clientCookie(a), st.cookie...),
	}
}

// timeout computes the retransmission time-out (RFC 6298 §2.3, §5.5) without its
// minimum of one second, which is meant for congested streams.
func (s *servers) timeout(st *serverState) time.Duration {
	rto := s.lim.UnknownRTT
	if st.srtt > 0 {
		rto = max(st.srtt+4*st.rttvar, s.lim.MinTimeout)
	}
	return min(rto<<min(st.backoff, 6), s.lim.MaxTimeout)
}

// clientCookie derives the cookie that only this server is shown (RFC 7873 §4.1).
func (s *servers) clientCookie(a netip.AddrPort) []byte {
	var in [32]byte
	ip := a.Addr().As16()
	copy(in[copy(in[:], s.secret[:]):], ip[:])
	sum := sha256.Sum256(in[:])
	return append(make([]byte, 0, 40), sum[:8]...)
}

// answered records a reply and its round-trip time (RFC 6298 §2.2, §2.3).
func (s *servers) answered(a netip.AddrPort, rtt time.Duration, edns bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := family(a)
	s.silent[f], s.heard[f], s.noFamily[f] = 0, true, time.Time{}
	st := s.state(a, now)
	rtt = max(rtt, time.Microsecond)
	if st.srtt == 0 {
		st.srtt, st.rttvar = rtt, rtt/2
	} else {
		st.rttvar = (3*st.rttvar + (st.srtt - rtt).Abs()) / 4
		st.srtt = (7*st.srtt + rtt) / 8
	}
	st.backoff, st.deadUntil = 0, time.Time{}
	st.spokeEDNS = st.spokeEDNS || edns
}

// timedOut records that no reply came.
func (s *servers) timedOut(a netip.AddrPort, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(a, now)
	st.backoff = min(st.backoff+1, 16)
	if int(st.backoff) >= s.lim.DeadAfter {
		st.deadUntil = now.Add(s.lim.ProbeAfter)
	}
	f := family(a)
	// Where the other family answers and this one never did, it is the path that is
	// missing and not the servers.
	if s.silent[f]++; s.silent[f] >= s.lim.DeadAfter && !s.heard[f] && s.heard[1-f] {
		s.noFamily[f] = now.Add(s.lim.FamilyTTL)
	}
}

// keepsSilent reports whether the last thing known of a server is its silence.
func (s *servers) keepsSilent(a netip.AddrPort, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[a]
	return st != nil && (st.backoff > 0 || now.Before(st.deadUntil))
}

// mute reports whether a server has never answered, however often it was asked.
func (s *servers) mute(a netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[a]
	return st != nil && st.srtt == 0 && st.backoff >= 2 // one packet may have been lost
}

// unroutable records that the host has no way to the server at all.
func (s *servers) unroutable(a netip.AddrPort, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := family(a)
	s.state(a, now).deadUntil = now.Add(s.lim.ProbeAfter)
	if !s.heard[f] {
		s.noFamily[f] = now.Add(s.lim.FamilyTTL)
	}
}

// note changes an entry under the lock.
func (s *servers) note(a netip.AddrPort, now time.Time, change func(*serverState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.state(a, now))
}

func (s *servers) setLame(a netip.AddrPort, zone dnssec.Name, now time.Time) {
	s.note(a, now, func(st *serverState) {
		if st.lame == nil || len(st.lame) >= 16 {
			st.lame = make(map[dnssec.Name]time.Time)
		}
		st.lame[zone] = now.Add(s.lim.QuirkTTL)
	})
}

// choice is one address that may be asked, and how often it was.
type choice struct {
	addr  netip.AddrPort
	name  dnssec.Name
	tries int
	done  bool // not to be asked again

	waited time.Duration // for replies over UDP that did not come
}

// spent reports whether a server has had its chances: it refuses, or its
// silence lasted. A quick server has short time-outs, and needs more of them
// to show that it is gone and not just slow for a moment.
func (c *choice) spent(lim *Limits) bool {
	if c.tries < lim.Tries {
		return false
	}
	return c.waited == 0 || c.waited >= lim.Patience || c.tries >= lim.MaxTries
}

// pick returns the next server to ask: at random among those whose expected
// time is within the band of the best; dead, lame and unreachable ones only
// when nothing else is left. It returns nil if all are done.
func (s *servers) pick(choices []choice, zone dnssec.Name, now time.Time, random func() uint64) *choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	const penalty = time.Hour
	costs := make([]time.Duration, len(choices))
	best := time.Duration(-1)
	for i := range choices {
		c := &choices[i]
		if c.done {
			continue
		}
		st := s.states[c.addr]
		cost := s.lim.UnknownRTT
		if st != nil {
			cost = s.timeout(st)
			if now.Before(st.deadUntil) {
				cost += penalty
			}
			if now.Before(st.lame[zone]) {
				cost += 2 * penalty
			}
		}
		if now.Before(s.noFamily[family(c.addr)]) {
			cost += 4 * penalty
		}
		cost += time.Duration(c.tries) * s.lim.RTTBand
		costs[i] = cost
		if best < 0 || cost < best {
			best = cost
		}
	}
	if best < 0 {
		return nil
	}
	var chosen *choice
	count := uint64(0)
	for i := range choices {
		if !choices[i].done && costs[i] <= best+s.lim.RTTBand {
			if count++; random()%count == 0 {
				chosen = &choices[i]
			}
		}
	}
	return chosen
}

// family numbers the address families.
func family(a netip.AddrPort) int {
	if a.Addr().Is4() || a.Addr().Is4In6() {
		return 0
	}
	return 1
}

// isUnreachable reports whether the host itself has no route or address.
func isUnreachable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
		errors.Is(err, syscall.EAFNOSUPPORT)
}
