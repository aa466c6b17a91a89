package submit

import (
	"bufio"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LocalUser describes a local caller by its uid with what passwdFile (as a
// rule /etc/passwd) knows. Callers without an entry are named by their number,
// so that nothing depends on a name service.
func LocalUser(uid uint32, passwdFile string) Source {
	s := Source{UID: uid, User: strconv.FormatUint(uint64(uid), 10)}
	f, err := os.Open(passwdFile)
	if err != nil {
		return s
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		part := strings.Split(sc.Text(), ":")
		if len(part) < 5 || part[2] != s.User || checkLocal(part[0]) != nil {
			continue
		}
		name := part[0]
		// finger's gecos: the first comma field is the name, & the login name.
		gecos, _, _ := strings.Cut(part[4], ",")
		if len(name) > 0 {
			gecos = strings.ReplaceAll(gecos, "&", strings.ToUpper(name[:1])+name[1:])
		}
		return Source{UID: uid, User: name, Gecos: gecos}
	}
	return s
}

// knownUsers remembers what LocalUser found, for as long as the file stays as
// it is: a busy daemon would else read it for every message.
type knownUsers struct {
	mu     sync.Mutex
	looked time.Time
	file   fs.FileInfo
	of     map[uint32]Source
}

const (
	usersKept = 1000        // bounds the memory
	usersLook = time.Second // between two looks whether the file changed
)

func (k *knownUsers) source(uid uint32, passwdFile string) Source {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, known := k.of[uid]; known && time.Since(k.looked) < usersLook {
		return s
	}
	file, err := os.Stat(passwdFile)
	if err != nil {
		return LocalUser(uid, passwdFile)
	}
	k.looked = time.Now()
	if k.file == nil || !os.SameFile(k.file, file) || k.file.Size() != file.Size() || !k.file.ModTime().Equal(file.ModTime()) || len(k.of) >= usersKept {
		k.file, k.of = file, map[uint32]Source{}
	}
	s, known := k.of[uid]
	if !known {
		s = LocalUser(uid, passwdFile)
		k.of[uid] = s
	}
	return s
}
