//go:build interop

package interop

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// path is another network namespace, whose only way to the servers leads
// through this process: a pair of TUN devices with a relay between them that
// loses, delays and reorders packets, and can do what a firewall does where the
// kernel has no nftables. Kernels without netem are common, so the relay is
// used on all.
type path struct {
	number    int
	name      string   // of the namespace
	near, far *os.File // the TUN devices
	wg        sync.WaitGroup

	mu    sync.Mutex
	rules rules
	nat   map[netip.AddrPort]netip.Addr // whom a redirected client thinks it talks to, by client
	stats pathStats
}

// nearDev is the path's end in this namespace; far0 is the other one.
func (p *path) nearDev() string { return fmt.Sprintf("near%d", p.number) }

// rules are what happens to packets on the path. The zero value: nothing.
type rules struct {
	loss          float64 // of packets, in each direction
	delay, jitter time.Duration
	fragments     bool // dropped
	blockTCP      bool // port 53 of every server; dropped without a word
	blockUDP      bool
	blockSMTP     bool       // port 25, likewise
	redirect      netip.Addr // that UDP to port 53 goes to instead of the server; IPv6 is dropped then
	spare         netip.Addr // server that the block and the redirection leave alone
}

type pathStats struct{ packets, lost, fragments, blocked, redirected int }

// openPath makes a namespace and starts the relay. Each path has another number.
func openPath(t *testing.T, number int) *path {
	t.Helper()
	p := &path{number: number, name: fmt.Sprintf("far%d", number), nat: map[netip.AddrPort]netip.Addr{}}
	must := func(err error) {
		if err != nil {
			t.Fatal("the second namespace: ", err)
		}
	}
	_, err := command("ip", "netns", "add", p.name)
	must(err)
	t.Cleanup(func() { command("ip", "netns", "del", p.name) }) //nolint:errcheck // it goes with this process anyway
	p.near, err = openTUN(p.nearDev(), "")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		t.Skip("left out: no path to another namespace can be made here: ", err)
	}
	must(err)
	p.far, err = openTUN("far0", filepath.Join("/run/netns", p.name))
	must(err)
	t.Cleanup(func() {
		p.near.Close()
		p.far.Close()
		p.wg.Wait()
	})
	near, v4, v6 := p.nearDev(), fmt.Sprintf("10.54.%d.", number), fmt.Sprintf("fd54:%d::", number)
	far := []string{"netns", "exec", p.name, "ip"}
	for _, args := range [][]string{
		{"addr", "add", v4 + "1/24", "dev", near}, {"addr", "add", v6 + "1/64", "dev", near, "nodad"},
		{"link", "set", near, "mtu", "1400", "up"},
		append(far, "link", "set", "lo", "up"),
		append(far, "addr", "add", v4+"2/24", "dev", "far0"), append(far, "addr", "add", v6+"2/64", "dev", "far0", "nodad"),
		append(far, "link", "set", "far0", "mtu", "1400", "up"),
		append(far, "route", "add", "default", "dev", "far0"), append(far, "-6", "route", "add", "default", "dev", "far0"),
	} {
		_, err := command("ip", args...)
		must(err)
	}
	p.carry(p.far, p.near, p.outward)
	p.carry(p.near, p.far, p.homeward)
	return p
}

// openTUN makes a TUN device in the network namespace at file, "" for our own.
func openTUN(name, file string) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	out := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := tunHere(name, file)
		out <- made{f, err}
	}()
	m := <-out
	return m.f, m.err
}

func tunHere(name, file string) (*os.File, error) {
	if file != "" {
		ns, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(ns)
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], name)
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		unix.Close(fd)
		return nil, errno
	}
	return os.NewFile(uintptr(fd), name), nil
}

// set changes what happens from now on.
func (p *path) set(r rules) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.stats = r, pathStats{}
}

func (p *path) counted() pathStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// carry moves packets one way until the device is closed. Each is delayed by
// itself, so that they overtake one another.
func (p *path) carry(from, to *os.File, judge func([]byte) bool) {
	queue := make(chan packet, 4096)
	p.wg.Go(func() {
		defer close(queue)
		for {
			b := make([]byte, 2048)
			n, err := from.Read(b)
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			if due, ok := p.fate(b[:n], judge); ok {
				select {
				case queue <- packet{b[:n], due}:
				default: // a full queue loses packets, as others do
				}
			}
		}
	})
	p.wg.Go(func() { deliver(queue, to) })
}

// fate decides on one packet: when it goes on, or that it does not.
func (p *path) fate(b []byte, judge func([]byte) bool) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.packets++
	if !judge(b) {
		return time.Time{}, false
	}
	if rand.Float64() < p.rules.loss {
		p.stats.lost++
		return time.Time{}, false
	}
	wait := p.rules.delay
	if j := p.rules.jitter; j > 0 {
		wait += rand.N(2*j) - j
	}
	return time.Now().Add(wait), true
}

type packet struct {
	bytes []byte
	due   time.Time
}

type packets []packet

func (q packets) Len() int           { return len(q) }
func (q packets) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q packets) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(x any)        { *q = append(*q, x.(packet)) }
func (q *packets) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// deliver writes packets when they are due.
func deliver(in <-chan packet, to *os.File) {
	var waiting packets
	for {
		timer := time.NewTimer(time.Hour)
		if len(waiting) > 0 {
			timer.Reset(time.Until(waiting[0].due))
		}
		select {
		case p, open := <-in:
			timer.Stop()
			if !open {
				return
			}
			heap.Push(&waiting, p)
		case <-timer.C:
		}
		for len(waiting) > 0 && !waiting[0].due.After(time.Now()) {
			to.Write(heap.Pop(&waiting).(packet).bytes) //nolint:errcheck // a lost packet is a lost packet
		}
	}
}

// flow is what the relay reads of a packet.
type flow struct {
	v4       bool
	proto    byte
	src, dst netip.AddrPort
	fragment bool
	payload  int // where UDP or TCP begins
}

func parseFlow(b []byte) (flow, bool) {
	var f flow
	var src, dst []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		f.v4, f.proto, f.payload = true, b[9], int(b[0]&15)*4
		src, dst = b[12:16], b[16:20]
		f.fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0 // more fragments, or an offset
	case len(b) >= 40 && b[0]>>4 == 6:
		f.proto, f.payload = b[6], 40
		src, dst = b[8:24], b[24:40]
		f.fragment = f.proto == 44
	default:
		return f, false
	}
	s, _ := netip.AddrFromSlice(src)
	d, _ := netip.AddrFromSlice(dst)
	var sport, dport uint16
	if (f.proto == unix.IPPROTO_UDP || f.proto == unix.IPPROTO_TCP) && len(b) >= f.payload+8 && !f.fragment {
		sport, dport = binary.BigEndian.Uint16(b[f.payload:]), binary.BigEndian.Uint16(b[f.payload+2:])
	}
	f.src, f.dst = netip.AddrPortFrom(s, sport), netip.AddrPortFrom(d, dport)
	return f, true
}

// outward lets a packet of the client's pass, or not. The caller holds mu.
func (p *path) outward(b []byte) bool {
	f, ok := parseFlow(b)
	if !ok || f.fragment && p.rules.fragments {
		p.stats.fragments++
		return false
	}
	if p.rules.blockSMTP && f.proto == unix.IPPROTO_TCP && f.dst.Port() == 25 {
		p.stats.blocked++
		return false
	}
	if f.dst.Port() != 53 || f.dst.Addr() == p.rules.spare {
		return true
	}
	switch udp := f.proto == unix.IPPROTO_UDP; {
	case udp && p.rules.blockUDP, !udp && p.rules.blockTCP, udp && p.rules.redirect.IsValid() && !f.v4:
		p.stats.blocked++
		return false
	case udp && p.rules.redirect.IsValid():
		p.nat[f.src] = f.dst.Addr()
		p.stats.redirected++
		readdress(b, f, 16, p.rules.redirect)
	}
	return true
}

// homeward gives redirected answers the address that was asked.
func (p *path) homeward(b []byte) bool {
	f, ok := parseFlow(b)
	if !ok || f.fragment && p.rules.fragments {
		p.stats.fragments++
		return false
	}
	if f.proto == unix.IPPROTO_UDP && f.src == netip.AddrPortFrom(p.rules.redirect, 53) {
		if asked, ok := p.nat[f.dst]; ok {
			readdress(b, f, 12, asked)
		}
	}
	return true
}

// readdress writes an IPv4 address at an offset of the header and makes the
// checksums fit: that of UDP may be left out (RFC 768).
func readdress(b []byte, f flow, at int, a netip.Addr) {
	ip := a.As4()
	copy(b[at:], ip[:])
	binary.BigEndian.PutUint16(b[f.payload+6:], 0)
	binary.BigEndian.PutUint16(b[10:], 0)
	sum := uint32(0)
	for i := 0; i < f.payload; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
}

// firewall puts nftables chains where the path enters this namespace, as a
// router on the way would have them, in the place of those before; "" for none.
// IN stands for the device. It reports false where the kernel has no nftables.
func (p *path) firewall(t *testing.T, chains string) bool {
	t.Helper()
	table := fmt.Sprintf("table inet faults%d", p.number)
	text := fmt.Sprintf("%s\ndelete %[1]s\n%[1]s {\n%[2]s\n}\n", table, strings.ReplaceAll(chains, "IN", p.nearDev()))
	file := filepath.Join(os.Getenv(workVar), p.name+".nft")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := command("nft", "-f", file)
	if err != nil && strings.Contains(err.Error(), "syntax error") {
		t.Fatal(err)
	}
	if strings.Contains(chains, "dnat") { // the kernel must forget soon whom it redirected
		for _, name := range []string{"udp_timeout", "udp_timeout_stream"} {
			os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_"+name, []byte("1"), 0o644) //nolint:errcheck // where it is absent nothing is kept
		}
	}
	return err == nil
}

// inState puts the path into a state, by nftables if told so and the kernel has
// them, and returns by what; "" where it cannot be had.
func (p *path) inState(t *testing.T, nft string, r rules, byNftables bool) string {
	t.Helper()
	p.open(t)
	switch {
	case byNftables && p.firewall(t, nft):
		return "nftables"
	case byNftables && r == (rules{}):
		return ""
	}
	p.set(r)
	return "relay"
}

// open lets everything pass.
func (p *path) open(t *testing.T) {
	t.Helper()
	p.set(rules{})
	p.firewall(t, "")
}
