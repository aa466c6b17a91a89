package cli

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"danepost/queue/submit"
)

// user runs sendmail as somebody who is not root, with a home of his own.
type user struct {
	t         *testing.T
	exe, home string
	config    string
	attr      *syscall.SysProcAttr
}

// otherUser makes the user; where the test does not run as root it is the one
// who runs it.
func otherUser(t *testing.T, config string) *user {
	t.Helper()
	dir := t.TempDir()
	for d := dir; os.Geteuid() == 0 && d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	u := &user{t: t, exe: filepath.Join(dir, "sendmail"), home: filepath.Join(dir, "home"), config: filepath.Join(dir, "danepost.toml")}
	b, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(u.exe, b, 0o755))
	must(t, os.Mkdir(u.home, 0o700))
	must(t, os.WriteFile(u.config, []byte(config), 0o644))
	if os.Geteuid() == 0 {
		const uid = 61000
		must(t, os.Chown(u.home, uid, uid))
		u.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return u
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sendmail hands a message over and returns the exit status and what was said.
func (u *user) sendmail(args ...string) (status int, said string) {
	u.t.Helper()
	return u.run("sendmail", args...)
}

// run runs the program under a name.
func (u *user) run(name string, args ...string) (status int, said string) {
	u.t.Helper()
	cmd := &exec.Cmd{
		Path: u.exe, Args: append([]string{name}, args...), Dir: "/", SysProcAttr: u.attr,
		Env:   []string{"HOME=" + u.home, "DANEPOST_CONFIG=" + u.config, "PATH=" + os.Getenv("PATH")},
		Stdin: strings.NewReader("Subject: x\n\nx\n"),
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestUnreadableConfiguration: who may not read the system's policies does not
// deliver past them.
func TestUnreadableConfiguration(t *testing.T) {
	c, err := loadConfig("", t.TempDir(), false)
	must(t, err)
	if err := mayDeliver(c); err != nil {
		t.Error(err)
	}
	c.unread = &fs.PathError{Op: "open", Path: defaultConfigFile, Err: fs.ErrPermission}
	if err := mayDeliver(c); submit.ExitCode(err) != submit.ExitNoPerm || !strings.Contains(err.Error(), defaultConfigFile) {
		t.Errorf("%v", err)
	}
	if _, err := openAppliance(c, quiet()); err == nil || !strings.Contains(err.Error(), defaultConfigFile) {
		t.Errorf("a run: %v", err)
	}
	if a, err := openIdle(c, quiet()); err != nil {
		t.Errorf("looking at the queue: %v", err)
	} else {
		must(t, a.close())
	}
}

// TestUnreadablePassword: without a daemon nothing is accepted that the
// caller's own runs could never deliver.
func TestUnreadablePassword(t *testing.T) {
	t.Parallel()
	u := otherUser(t, `
hostname = "mail.here.example"
[queue]
min_free_mb = 0
[relay]
host = "relay.here.example"
username = "me"
password_file = "password"
`)
	password, unreadable := filepath.Join(filepath.Dir(u.config), "password"), os.FileMode(0o600)
	must(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	if u.attr == nil {
		unreadable = 0
	}
	must(t, os.Chmod(password, unreadable))
	for _, attempt := range []string{"-odb", "-odi", "-odq"} {
		status, said := u.sendmail(attempt, "-i", "bob@there.example")
		if status != 77 || strings.Count(said, "\n") != 1 || !strings.Contains(said, password) || !strings.Contains(said, "danepost serve") {
			t.Errorf("%s: exit %d: %s", attempt, status, said)
		}
	}
	for _, name := range []string{"mailq", "newaliases"} {
		if status, said := u.run(name); status != 0 {
			t.Errorf("%s: exit %d: %s", name, status, said)
		}
	}
	if status, said := u.run("sendmail", "-q"); status != 0 {
		t.Errorf("sendmail -q: exit %d: %s", status, said)
	}
	if list, _ := os.ReadDir(u.home); len(list) > 0 {
		t.Errorf("something was kept: %v", list)
	}

	// What he queued before is his to see.
	must(t, os.Chmod(password, 0o644))
	if status, said := u.sendmail("-odq", "-i", "bob@there.example"); status != 0 || said != "" {
		t.Errorf("with a password that he may read: exit %d: %s", status, said)
	}
	must(t, os.Chmod(password, unreadable))
	if status, said := u.run("mailq"); status != 0 || !strings.Contains(said, "bob@there.example") {
		t.Errorf("mailq: exit %d: %s", status, said)
	}

	// A mistake that can be mended keeps the message, and is told.
	must(t, os.Remove(password))
	status, said := u.sendmail("-i", "bob@there.example")
	if status != 0 || !strings.Contains(said, "warning: the message is kept") || !strings.Contains(said, password) {
		t.Errorf("without the file: exit %d: %s", status, said)
	}
}
