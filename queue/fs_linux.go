package queue

import "golang.org/x/sys/unix"

// filesystem says what dir is on.
func filesystem(dir string) (filesystemKind, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return filesystemKind{}, err
	}
	return classify(uint32(st.Type)), nil
}

// unmap takes mapped pages of a file out of the process's memory; what is
// looked at again comes back from the kernel's cache.
func unmap(address uintptr, size int64) {
	if address != 0 && size > 0 {
		unix.Syscall(unix.SYS_MADVISE, address, uintptr(size), unix.MADV_DONTNEED) //nolint:errcheck // no more than a wish
	}
}

// freeBytes is the room on dir's disk for an unprivileged process.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
