package submit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// dropTest is a maildrop with a gate, and the log of what it said.
type dropTest struct {
	*Maildrop
	gate *Gate
	q    *memQueue
	log  *bytes.Buffer
	src  Source
}

func newDropTest(t *testing.T) *dropTest {
	t.Helper()
	d := &dropTest{Maildrop: &Maildrop{Dir: t.TempDir()}, q: &memQueue{}, log: &bytes.Buffer{}}
	p := testPolicy(t)
	p.MaxSize = 1 << 20
	d.gate = NewGate(p, Deps{Queue: d.q, Now: func() time.Time { return testTime }, Log: slog.New(slog.NewTextHandler(d.log, nil))})
	d.src = Source{UID: uint32(os.Getuid()), User: "alice"}
	return d
}

func (d *dropTest) key() string { return NewKey(testTime, d.src.UID) }

// drop writes one good message and returns its file's path.
func (d *dropTest) drop(t *testing.T, content string) string {
	t.Helper()
	r := &Request{Recipients: to("b@example.net"), Key: d.key()}
	if err := d.Write(d.gate, r, d.src, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d.Dir, r.Key)
}

// files are the names in the maildrop.
func (d *dropTest) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestMaildrop(t *testing.T) {
	d := newDropTest(t)
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	sender := "s@example.org"
	r := &Request{Sender: &sender, FromHeaders: true, Notify: "NEVER", Key: d.key(), RequireTLS: true}
	in := "To: b@example.net\nBcc: hidden@example.net\nSubject: x\n\nbody\n"
	if err := d.Write(d.gate, r, d.src, strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(d.Dir, r.Key))
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("mode %v, %v; want 0640 whatever the umask", st.Mode(), err)
	}
	if !d.Pending() {
		t.Error("nothing pending after a message was dropped")
	}
	if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
		t.Fatalf("imported %d, %v\n%s", n, err, d.log)
	}
	m := d.q.last(t)
	if m.env.Sender != sender || addresses(m.env) != "b@example.net hidden@example.net" || m.env.Recipients[0].Notify != "NEVER" || !m.env.RequireTLS || m.env.UID != d.src.UID {
		t.Errorf("envelope %+v", m.env)
	}
	if want := fmt.Sprintf("%d.%s", d.src.UID, r.Key); m.env.DropKey != want {
		t.Errorf("key %q, want %q", m.env.DropKey, want)
	}
	checkWire(t, m.body)
	if strings.Contains(m.body, "hidden") {
		t.Error("a Bcc address is in the content")
	}
	if files := d.files(t); len(files) != 0 || d.Pending() {
		t.Errorf("left in the maildrop: %v", files)
	}
}

// TestDropRefuses: what would be refused later is refused now, with the exit
// code, and nothing stays behind.
func TestDropRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		r        Request
		want     int
	}{
		{"no recipients", "Subject: x\n\nx\n", Request{FromHeaders: true}, ExitUsage},
		{"bad address", "To: <x\n\nx\n", Request{FromHeaders: true}, ExitDataErr},
		{"NUL", "Subject: x\n\na\x00b\n", Request{Recipients: to("b@example.net")}, ExitDataErr},
		{"too large", "\n" + strings.Repeat("x\n", 600<<10), Request{Recipients: to("b@example.net")}, ExitDataErr},
		{"header too large", "X: " + strings.Repeat("x", maxHeader) + "\n\nx\n", Request{Recipients: to("b@example.net")}, ExitDataErr},
		{"newline in the recipient", "\nx\n", Request{Recipients: to("\"a\\\nb\"@example.net")}, ExitDataErr},
		{"envelope id", "\nx\n", Request{Recipients: to("b@example.net"), EnvID: "a\nb"}, ExitDataErr},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDropTest(t)
			tt.r.Key = d.key()
			err := d.Write(d.gate, &tt.r, d.src, strings.NewReader(tt.in))
			if ExitCode(err) != tt.want {
				t.Errorf("error %v (exit %d), want exit %d", err, ExitCode(err), tt.want)
			}
			if files := d.files(t); len(files) != 0 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
	d := newDropTest(t)
	gone := &Maildrop{Dir: filepath.Join(d.Dir, "none")}
	if err := gone.Write(d.gate, &Request{Recipients: to("b@example.net"), Key: d.key()}, d.src, strings.NewReader("\nx")); ExitCode(err) != ExitUnavailable {
		t.Errorf("no maildrop: %v", err)
	}
	if n, err := gone.Import(context.Background(), d.gate); n != 0 || err != nil {
		t.Errorf("import from no maildrop: %d, %v", n, err)
	}
}

// TestImportRefuses: files that are not what a caller alone wrote are set
// aside with one line, and the good one beside them is imported.
func TestImportRefuses(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, d *dropTest, path string) string // returns the name that must be set aside
		want   string
	}{
		{"symbolic link", func(t *testing.T, d *dropTest, path string) string {
			key := d.key()
			must(t, os.Rename(path, filepath.Join(d.gate.SpoolDir, key)))
			must(t, os.Symlink(filepath.Join(d.gate.SpoolDir, key), filepath.Join(d.Dir, key)))
			return key
		}, "symbolic link"},
		{"two links", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Link(path, filepath.Join(d.gate.SpoolDir, "second")))
			return filepath.Base(path)
		}, "2 links"},
		{"other owner's name", func(t *testing.T, d *dropTest, path string) string {
			key := NewKey(testTime, d.src.UID+1)
			must(t, os.Rename(path, filepath.Join(d.Dir, key)))
			return key
		}, "belongs to user"},
		{"other name", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Rename(path, filepath.Join(d.Dir, "README")))
			return "README"
		}, "not one that danepost gives"},
		{"writable by others", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Chmod(path, 0o666))
			return filepath.Base(path)
		}, "may write it"},
		{"fifo", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o600))
			return filepath.Base(path)
		}, "no regular file"},
		{"directory", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
			return filepath.Base(path)
		}, "no regular file"},
		{"socket", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Remove(path))
			must(t, syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0))
			return filepath.Base(path)
		}, "cannot be opened"},
		{"empty", func(t *testing.T, d *dropTest, path string) string {
			must(t, os.Truncate(path, 0))
			return filepath.Base(path)
		}, "cut off"},
		{"other version", func(t *testing.T, d *dropTest, path string) string {
			rewriteDrop(t, path, func(b []byte) []byte {
				return bytes.Replace(b, []byte("danepost-drop 1"), []byte("danepost-drop 9"), 1)
			})
			return filepath.Base(path)
		}, "no drop file of this version"},
		{"request is no JSON", func(t *testing.T, d *dropTest, path string) string {
			rewriteDrop(t, path, func(b []byte) []byte { return bytes.Replace(b, []byte("{"), []byte("["), 1) })
			return filepath.Base(path)
		}, "request cannot be read"},
		{"request length too large", func(t *testing.T, d *dropTest, path string) string {
			rewriteDrop(t, path, func(b []byte) []byte { return bytes.Replace(b, []byte("drop 1 "), []byte("drop 1 99999"), 1) })
			return filepath.Base(path)
		}, "no drop file of this version"},
		{"parameters no client sends", func(t *testing.T, d *dropTest, path string) string {
			rewriteDrop(t, path, func(b []byte) []byte {
				b = bytes.Replace(b, []byte(`"recipients"`), []byte(`"envid":"a\nb","recipients"`), 1)
				head, rest, _ := bytes.Cut(b, []byte("\n"))
				var n int
				fmt.Sscanf(string(head), dropMagic+"%d", &n)
				return append(fmt.Appendf(nil, "%s%d\n", dropMagic, n+len(`"envid":"a\nb",`)), rest...)
			})
			return filepath.Base(path)
		}, "ENVID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDropTest(t)
			bad := tt.damage(t, d, d.drop(t, "Subject: bad\n\nx\n"))
			d.drop(t, "Subject: good\n\nx\n")
			n, err := d.Import(context.Background(), d.gate)
			if n != 1 || err != nil || len(d.q.all()) != 1 || !strings.Contains(d.q.last(t).body, "Subject: good") {
				t.Errorf("imported %d, %v, queued %d\n%s", n, err, len(d.q.all()), d.log)
			}
			if files := d.files(t); len(files) != 1 || files[0] != asidePrefix+bad {
				t.Errorf("in the maildrop: %v, want %s set aside", files, bad)
			}
			if said := strings.Count(d.log.String(), "level=ERROR"); said != 1 || !strings.Contains(d.log.String(), tt.want) {
				t.Errorf("%d errors logged, want one that says %q:\n%s", said, tt.want, d.log)
			}
			if n, err := d.Import(context.Background(), d.gate); n != 0 || err != nil || strings.Count(d.log.String(), "level=ERROR") != 1 {
				t.Errorf("second import: %d, %v\n%s", n, err, d.log)
			}
		})
	}
}

// TestImportUnreadable: a file that the daemon's user may not open was
// accepted, so it waits for better rights, and holds up no other.
func TestImportUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	d := newDropTest(t)
	shut := d.drop(t, "Subject: shut\n\nx\n")
	must(t, os.Chmod(shut, 0))
	d.drop(t, "Subject: good\n\nx\n")
	n, err := d.Import(context.Background(), d.gate)
	if n != 1 || ExitCode(err) != ExitTempFail || !strings.Contains(err.Error(), filepath.Base(shut)) {
		t.Errorf("imported %d, %v", n, err)
	}
	must(t, os.Chmod(shut, 0o600))
	if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
		t.Errorf("with rights: imported %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rewriteDrop changes a drop file and gives it a trailer that fits.
func rewriteDrop(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	b = change(b[:len(b)-dropTrailer])
	sum := sha256.Sum256(b)
	must(t, os.WriteFile(path, append(b, dropTail(int64(len(b)), sum[:])...), 0o640))
}

// TestDropDamage: a drop file that is cut anywhere or has any byte changed is
// never imported.
func TestDropDamage(t *testing.T) {
	d := newDropTest(t)
	path := d.drop(t, "Subject: x\n\n"+strings.Repeat("a line of text\n", 20))
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Remove(path))
	rapid.Check(t, func(rt *rapid.T) {
		b := bytes.Clone(whole)
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 0:
			b = b[:rapid.IntRange(0, len(b)-1).Draw(rt, "length")]
		case 1:
			b[rapid.IntRange(0, len(b)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
		case 2:
			b = append(b, rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(rt, "tail")...)
		}
		if err := os.WriteFile(path, b, 0o640); err != nil {
			rt.Fatal(err)
		}
		if n, err := d.Import(context.Background(), d.gate); n != 0 || err != nil || len(d.q.all()) != 0 {
			rt.Fatalf("a damaged file was imported (%d, %v)", n, err)
		}
	})
	must(t, os.WriteFile(path, whole, 0o640))
	if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
		t.Errorf("the undamaged file: %d, %v", n, err)
	}
}

// TestImportTwice: an import that died between queueing and removing queues
// nothing twice.
func TestImportTwice(t *testing.T) {
	d := newDropTest(t)
	path := d.drop(t, "Subject: x\n\nx\n")
	b, err := os.ReadFile(path)
	must(t, err)
	for range 2 {
		if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
			t.Fatalf("imported %d, %v", n, err)
		}
		must(t, os.WriteFile(path, b, 0o640))
	}
	if n := len(d.q.all()); n != 1 {
		t.Errorf("%d messages queued", n)
	}
}

// TestImportLater: when the queue cannot take mail the files stay.
func TestImportLater(t *testing.T) {
	d := newDropTest(t)
	d.drop(t, "Subject: x\n\nx\n")
	d.q.fail = errFull
	if n, err := d.Import(context.Background(), d.gate); n != 0 || ExitCode(err) != ExitTempFail {
		t.Errorf("imported %d, %v", n, err)
	}
	if files := d.files(t); len(files) != 1 || !d.Pending() {
		t.Errorf("in the maildrop: %v", files)
	}
	d.q.fail = nil
	if n, err := d.Import(context.Background(), d.gate); n != 1 || err != nil {
		t.Errorf("imported %d, %v", n, err)
	}
}

// TestHalfWritten: what a dead writer left stays alone while it may be alive,
// and is set aside later.
func TestHalfWritten(t *testing.T) {
	d := newDropTest(t)
	temp := filepath.Join(d.Dir, tempPrefix+d.key())
	must(t, os.WriteFile(temp, []byte("danepost-drop 1 "), 0o600))
	must(t, os.Chtimes(temp, testTime, testTime.Add(-time.Hour)))
	if n, err := d.Import(context.Background(), d.gate); n != 0 || err != nil || d.log.Len() > 0 || d.Pending() {
		t.Errorf("young: %d, %v\n%s", n, err, d.log)
	}
	must(t, os.Chtimes(temp, testTime, testTime.Add(-2*staleTempFile)))
	if n, err := d.Import(context.Background(), d.gate); n != 0 || err != nil || !strings.Contains(d.log.String(), "writer died") {
		t.Errorf("old: %d, %v\n%s", n, err, d.log)
	}
	if files := d.files(t); len(files) != 1 || !strings.HasPrefix(files[0], asidePrefix) {
		t.Errorf("in the maildrop: %v", files)
	}
}

func TestRemembers(t *testing.T) {
	d := newDropTest(t)
	name := filepath.Base(d.drop(t, "\nx\n"))
	later := testTime.Add(100 * keyLife)
	tests := []struct {
		key  string
		now  time.Time
		want bool
	}{
		{"0." + name, later, true}, // its file is there
		{"0." + NewKey(testTime, 0), testTime.Add(keyLife / 2), true},
		{"0." + NewKey(testTime, 0), later, false},
		{"release.X.a@example.net", testTime, false},
		{"", testTime, false},
	}
	for _, tt := range tests {
		if got := d.remembers(tt.key, tt.now); got != tt.want {
			t.Errorf("%q: %v", tt.key, got)
		}
	}
}
