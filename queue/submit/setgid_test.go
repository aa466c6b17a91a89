package submit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"danepost/queue"
)

// TestSetgidDrop runs this test binary setgid, as a user who has nothing but
// that, and imports what it dropped. Needs root.
func TestSetgidDrop(t *testing.T) {
	if dir := os.Getenv("SUBMIT_TEST_MAILDROP"); dir != "" {
		dropAsOther(t, &Maildrop{Dir: dir})
		return
	}
	if dir := os.Getenv("SUBMIT_TEST_IMPORT"); dir != "" {
		importAsOwner(t, dir)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to make a setgid program")
	}
	const group, user = 60998, 61000
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	drop := filepath.Join(dir, "maildrop")
	must(t, os.Mkdir(drop, 0o700))
	must(t, os.Chown(drop, 60997, group))
	must(t, os.Chmod(drop, 0o730|fs.ModeSticky))
	b, err := os.ReadFile(os.Args[0])
	must(t, err)
	exe := filepath.Join(dir, "submit.test")
	must(t, os.WriteFile(exe, b, 0o755))
	must(t, os.Chown(exe, 0, group))
	must(t, os.Chmod(exe, 0o755|fs.ModeSetgid))
	cmd := exec.Command(exe, "-test.run=^TestSetgidDrop$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SUBMIT_TEST_MAILDROP="+drop)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "not setgid") {
			t.Skip("the temporary directory's filesystem ignores setgid bits")
		}
		t.Fatalf("%v\n%s", err, out)
	}
	// Root drops as well, and imports both as the one who owns it all.
	must(t, os.Chown(dir, 60997, 60997))
	gate, _ := testGate(t, testPolicy(t))
	must(t, (&Maildrop{Dir: drop}).Write(gate, &Request{Recipients: to("b@example.net"), Key: NewKey(time.Now(), 0)}, Source{User: "root"}, strings.NewReader("Subject: root\n\nx\n")))
	cmd = exec.Command(exe, "-test.run=^TestSetgidDrop$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SUBMIT_TEST_IMPORT="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// importAsOwner begins as root.
func importAsOwner(t *testing.T, dir string) {
	if g, err := HoldGroup(); err != nil || g.Setgid() || os.Getegid() != os.Getgid() {
		t.Fatalf("root is taken for somebody else: %v", err)
	}
	d := &Maildrop{Dir: filepath.Join(dir, "maildrop")}
	must(t, BecomeOwner(dir, d.Dir))
	if os.Geteuid() != 60997 || syscall.Setresuid(-1, 0, -1) == nil {
		t.Fatal("still root")
	}
	q := &memQueue{}
	gate := NewGate(Policy{Hostname: "host.example.com"}, Deps{Queue: q})
	if n, err := d.Import(context.Background(), gate); n != 2 || err != nil {
		entries, _ := os.ReadDir(d.Dir)
		t.Fatalf("imported %d, %v; there are %v", n, err, entries)
	}
	of := map[uint32]string{}
	for _, m := range q.all() {
		of[m.env.UID] = m.env.Sender
	}
	if of[61000] != "61000@host.example.com" || of[0] != "root@host.example.com" {
		t.Errorf("imported %v", of)
	}
}

func dropAsOther(t *testing.T, d *Maildrop) {
	g, err := HoldGroup()
	must(t, err)
	if !g.Setgid() {
		t.Fatal("not setgid")
	}
	try := filepath.Join(d.Dir, "try")
	if os.Getegid() != os.Getgid() || !errors.Is(os.WriteFile(try, nil, 0o600), fs.ErrPermission) {
		t.Error("the group is not lowered")
	}
	gate := NewGate(Policy{Hostname: "host.example.com"}, Deps{})
	src := LocalUser(uint32(os.Getuid()), "/nonexistent")
	r := &Request{Recipients: to("b@example.net"), Key: NewKey(time.Now(), src.UID)}
	must(t, g.Do(func() error {
		if _, err := os.ReadDir(d.Dir); !errors.Is(err, fs.ErrPermission) {
			t.Error("the maildrop can be listed")
		}
		elsewhere := make(chan error)
		go func() { elsewhere <- os.WriteFile(try, nil, 0o600) }()
		if err := <-elsewhere; !errors.Is(err, fs.ErrPermission) {
			t.Errorf("another thread has the group as well: %v", err)
		}
		return d.Write(gate, r, src, strings.NewReader("Subject: x\n\nx\n"))
	}))
	if !errors.Is(os.WriteFile(try, nil, 0o600), fs.ErrPermission) {
		t.Error("the group stayed raised")
	}
	must(t, g.Release())
	if g.Setgid() || syscall.Setresgid(-1, 60998, -1) == nil {
		t.Error("the group can be taken back after it was given up")
	}
}

func TestLocalNotices(t *testing.T) {
	p := Policy{Hostname: "host.example.com", Postmaster: "admin@example.net"}
	for to, want := range map[string]string{"root@host.example.com": "admin@example.net", "a@example.org": "a@example.org"} {
		h := LocalNotices{Handler: noticer{to}, Policy: &p}
		if n := h.Notice(nil, 0, nil); addresses(n.Envelope) != want {
			t.Errorf("notice for %s goes to %s, want %s", to, addresses(n.Envelope), want)
		}
	}
	if n := (LocalNotices{Handler: noticer{}, Policy: &p}).Notice(nil, 0, nil); n != nil {
		t.Errorf("a notice where there was none: %+v", n)
	}
}

// noticer composes notices to one address.
type noticer struct{ to string }

func (noticer) Destination(string) string                                { return "" }
func (noticer) Deliver(context.Context, *queue.Item, func(queue.Result)) {}
func (n noticer) Notice(*queue.Item, queue.NoticeKind, []queue.Result) *queue.Notice {
	if n.to == "" {
		return nil
	}
	return &queue.Notice{Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: n.to}}}}
}
