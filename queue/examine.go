package queue

// Place is what a directory offers a queue.
type Place struct {
	Filesystem string // its name where that matters, else ""
	Unsuitable string // why no queue can be there, "" if one can
	Volatile   bool   // what is there is gone with the power
	Free       int64  // bytes an unprivileged process may still write
}

// Examine says what dir is worth as a queue's directory. It changes nothing.
func Examine(dir string) (Place, error) {
	kind, err := filesystem(dir)
	if err != nil {
		return Place{}, err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return Place{}, err
	}
	p := Place{Filesystem: kind.name, Volatile: kind.fit == volatile, Free: free}
	if kind.fit == unsuitable {
		p.Unsuitable = kind.why
	}
	return p, nil
}
