package crash

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDisk follows a file through the usual dance: it has its bytes when it
// was synced, and its name when the directory was.
func TestDisk(t *testing.T) {
	const trace = `1 openat(AT_FDCWD, "/s", O_RDONLY|O_CLOEXEC) = 3
1 openat(AT_FDCWD, "/s/new", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 4
1 write(4, "hello", 5 <unfinished ...>
2 fsync(4 <unfinished ...>
1 <... write resumed>) = 5
2 <... fsync resumed>) = 0
1 fsync(4) = 0
1 close(4) = 0
1 renameat(AT_FDCWD, "/s/new", AT_FDCWD, "/s/name") = 0
1 fsync(3) = 0
1 write(1, "done\n", 5) = 5
1 pwrite64(9, "other file", 10, 0) = -1 EBADF (Bad file descriptor)
1 unlinkat(AT_FDCWD, "/s/name", 0) = 0
`
	want := []string{ // after each call, with nothing unsynced surviving, and with all
		"", "", "", "new=", "", "new=hello", "", "new=hello", "", "new=hello", "", "new=hello",
		"", "name=hello", "name=hello", "name=hello", "name=hello", "name=hello", "name=hello", "",
	}
	d := NewDisk("/s")
	var got []string
	err := Parse(strings.NewReader(encode(trace)), func(c Call) error {
		if err := d.Do(c); err != nil || c.Begin {
			return err
		}
		for _, how := range []Survival{Nothing, All} {
			got = append(got, look(t, d, how))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if g, w := strings.Join(got, "|"), strings.Join(want, "|"); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if len(d.Acknowledged) != 1 || d.Acknowledged[0] != "done" {
		t.Errorf("acknowledged %q", d.Acknowledged)
	}
}

// encode writes a trace's strings as strace -xx does.
func encode(trace string) string {
	var b strings.Builder
	for i, part := range strings.Split(trace, `"`) {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		b.WriteString(`"`)
		for _, c := range []byte(strings.ReplaceAll(part, `\n`, "\n")) {
			b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		}
		b.WriteString(`"`)
	}
	return b.String()
}

func look(t *testing.T, d *Disk, how Survival) string {
	dir := t.TempDir()
	if err := d.Cut(dir, how, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, f.Name()+"="+string(b))
	}
	return strings.Join(s, " ")
}
