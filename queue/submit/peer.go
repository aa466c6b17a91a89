package submit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is the process at the other end of a Unix socket, as the kernel knows it.
type peer struct {
	uid, gid uint32
	raw      syscall.RawConn
}

// peerOf asks the kernel who connected (SO_PEERCRED).
func peerOf(c *net.UnixConn) (peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var p peer
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			credErr = err
			return
		}
		p = peer{uid: cred.Uid, gid: cred.Gid, raw: raw}
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return peer{}, fmt.Errorf("cannot tell who is calling: %w", err)
	}
	return p, nil
}

// peerGroups is the caller's supplementary groups (SO_PEERGROUPS); none where the kernel does
// not tell (before Linux 4.13).
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 1024)
	for range 2 {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4]
		case unix.ERANGE:
			groups = make([]uint32, size/4+1)
		default:
			return nil
		}
	}
	return nil
}

// in asks whether the caller is in a group. Few calls depend on that.
func (p peer) in(gid uint32) bool {
	if p.gid == gid {
		return true
	}
	var groups []uint32
	err := p.raw.Control(func(fd uintptr) { groups = peerGroups(fd) })
	return err == nil && slices.Contains(groups, gid)
}

// GroupID looks a group up in a file such as /etc/group.
func GroupID(name, groupFile string) (gid uint32, ok bool) {
	f, err := os.Open(groupFile)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		part := strings.Split(sc.Text(), ":")
		if len(part) < 3 || part[0] != name {
			continue
		}
		n, err := strconv.ParseUint(part[2], 10, 32)
		return uint32(n), err == nil
	}
	return 0, false
}
