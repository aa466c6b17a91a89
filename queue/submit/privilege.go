package submit

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// DropGroup is the group a setgid binary runs with. The bit covers the whole
// program while only writing a drop file needs it: a program calls HoldGroup
// before anything else, which lowers the group, and raises it for Do alone.
type DropGroup struct {
	real, drop int
}

// HoldGroup lowers the effective group to the caller's own. Setgid reports
// whether there was anything to lower; then the caller is not the one whose
// files the program works with, and neither its environment nor a file it
// names may configure anything. Root needs no group to write anywhere, and may
// name what he likes.
func HoldGroup() (*DropGroup, error) {
	g := &DropGroup{real: os.Getgid(), drop: os.Getegid()}
	if !g.Setgid() {
		return g, nil
	}
	if os.Getuid() == 0 {
		return g, g.Release()
	}
	if err := syscall.Setresgid(-1, g.real, -1); err != nil {
		return nil, &Error{Code: ExitOSErr, Text: "cannot lower the group", Err: err}
	}
	return g, nil
}

// Setgid reports whether the program was started with a group that its caller
// does not have.
func (g *DropGroup) Setgid() bool { return g.real != g.drop }

// Do runs f with the drop group as that of its accesses to files, as
// setfsgid(2) has it, on the thread that it runs on: what f starts on other
// threads has none of it, and the runtime need not stop them all, which cost
// more than f itself. Not for concurrent use.
func (g *DropGroup) Do(f func() error) error {
	if !g.Setgid() {
		return f()
	}
	runtime.LockOSThread()
	if err := accessAs(g.drop); err != nil {
		return &Error{Code: ExitOSErr, Text: "cannot take the group of the maildrop", Err: err}
	}
	defer func() {
		// A thread that cannot be lowered stays locked: it ends with its
		// goroutine and nothing else ever runs on it.
		if accessAs(g.real) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// accessAs sets the filesystem group of this thread. The call itself reports
// no failure, only what was in force before it.
func accessAs(gid int) error {
	if _, err := unix.SetfsgidRetGid(gid); err != nil {
		return err
	}
	if now, err := unix.SetfsgidRetGid(-1); err != nil || now != gid {
		return fmt.Errorf("setfsgid %d is not allowed", gid)
	}
	return nil
}

// Release gives the drop group up for good; every way but the drop does that
// first.
func (g *DropGroup) Release() error {
	if !g.Setgid() {
		return nil
	}
	g.drop = g.real
	if err := syscall.Setresgid(g.real, g.real, g.real); err != nil {
		return &Error{Code: ExitOSErr, Text: "cannot give up the group of the maildrop", Err: err}
	}
	return nil
}

// BecomeOwner makes root the owner of dir for good, so that what it writes in
// there stays readable to the daemon, with the groups of dir and of those
// directories that exist: what others dropped is theirs to read. Callers who
// are not root, and root where it owns dir, stay who they are.
func BecomeOwner(dir string, groupsOf ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := ownerOf(dir)
	if err != nil {
		return &Error{Code: ExitOSErr, Text: "cannot see whose the state directory is", Err: err}
	}
	if uid == 0 {
		return nil
	}
	groups := []int{gid}
	for _, d := range groupsOf {
		if _, g, err := ownerOf(d); err == nil && g != 0 {
			groups = append(groups, g)
		}
	}
	if err = syscall.Setgroups(groups); err == nil {
		err = syscall.Setresgid(gid, gid, gid)
	}
	if err == nil {
		err = syscall.Setresuid(uid, uid, uid)
	}
	if err != nil {
		return &Error{Code: ExitOSErr, Text: fmt.Sprintf("cannot become user %d, the owner of %s", uid, dir), Err: err}
	}
	return nil
}

func ownerOf(dir string) (uid, gid int, err error) {
	var st syscall.Stat_t
	err = syscall.Stat(dir, &st)
	return int(st.Uid), int(st.Gid), err
}
