package submit

import (
	"bufio"
	"os"
	"strconv"
	"strings"
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
