package queue

// fitness says what a filesystem is worth for a queue.
type fitness uint8

const (
	fit        fitness = iota
	volatile           // works, and is gone with the power
	unsuitable         // the database cannot work on it
)

// filesystemKind is a filesystem by its name.
type filesystemKind struct {
	name string
	fit  fitness
	why  string // it is unsuitable
}

// classify maps the magic numbers of statfs(2) that matter; all others fit.
func classify(magic uint32) filesystemKind {
	const noSharedMmap = "cannot map files as shared memory"
	const remote = "does not promise that locks and synced writes hold"
	switch magic {
	case 0x72b6:
		return filesystemKind{"JFFS2", unsuitable, noSharedMmap}
	case 0x6969:
		return filesystemKind{"NFS", unsuitable, remote}
	case 0x517b, 0xff534d42, 0xfe534d42:
		return filesystemKind{"SMB", unsuitable, remote}
	case 0x01021994:
		return filesystemKind{"tmpfs", volatile, ""}
	case 0x858458f6:
		return filesystemKind{"ramfs", volatile, ""}
	}
	return filesystemKind{}
}
