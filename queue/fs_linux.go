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

// freeBytes is the room on dir's disk for an unprivileged process.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
