//go:build interop

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// root is a private root directory: the host's /usr, /etc and /var with
// packages laid over them and a layer for changes on top, and empty /tmp, /run
// and /home. A program in it is installed as Debian has it, at the paths that
// Debian gives it, and the host sees nothing of it.
type root struct {
	name     string
	packages string
	dir      string
}

// newRoot mounts a private root under a name of its own, with the packages of
// that name in rootPackages or, if given, of another one there. It is gone
// with the test binary's namespace.
func newRoot(t *testing.T, name string, packages ...string) *root {
	t.Helper()
	r, err := mountRoot(name, append(packages, name)[0])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mountRoot(name, packages string) (*root, error) {
	base, err := workDir("roots", name)
	if err != nil {
		return nil, err
	}
	r := &root{name, packages, filepath.Join(base, "root")}
	for _, d := range []string{"proc", "dev", "tmp", "run", "home", "root", "usr", "etc", "var", "srv"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(r.path("tmp"), 0o777|os.ModeSticky); err != nil {
		return nil, err
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+d, r.path(d)); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"usr", "etc", "var"} {
		if err := r.overlay(base, d); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("proc", r.path("proc"), "proc", 0, ""); err != nil {
		return nil, fmt.Errorf("/proc of %s: %w", name, err)
	}
	return r, unix.Mount("/dev", r.path("dev"), "", unix.MS_BIND|unix.MS_REC, "")
}

// roomForRoots keeps private roots in memory where the file system of the
// working directory takes no changes of an overlay: that of a container does not.
func roomForRoots() error {
	base, err := workDir("roots")
	if err != nil {
		return err
	}
	probe, err := workDir("roots", "probe", "root", "usr")
	if err != nil {
		return err
	}
	r := &root{name: "probe", dir: filepath.Dir(probe)}
	if r.overlay(filepath.Dir(r.dir), "usr") == nil {
		return unix.Unmount(probe, 0)
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("a file system in memory: %w", err)
	}
	return nil
}

// overlay mounts one top directory: changes over packages over the host's.
func (r *root) overlay(base, d string) error {
	lower := hostTree(d)
	if packages := filepath.Join(os.Getenv(rootsVar), r.packages, d); exists(packages) {
		lower = packages + ":" + lower
	}
	upper, scratch := filepath.Join(base, "changed", d), filepath.Join(base, "scratch", d)
	for _, p := range []string{upper, scratch} {
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, scratch)
	if err := unix.Mount("overlay", r.path(d), "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay on /%s of %s: %w", d, r.name, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// path is where a path of the root is seen from outside.
func (r *root) path(name string) string { return filepath.Join(r.dir, name) }

// write puts files, by absolute name, into the root.
func (r *root) write(files map[string]string) error {
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// user adds a system user and his group to the root where they are missing.
func (r *root) user(name string, id int, home string) error {
	for file, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:x:%d:%d:%s:%s:/usr/sbin/nologin\n", name, id, id, name, home),
		"/etc/group":  fmt.Sprintf("%s:x:%d:\n", name, id),
	} {
		text, err := os.ReadFile(r.path(file))
		if err != nil {
			return err
		}
		if bytes.HasPrefix(text, []byte(name+":")) || bytes.Contains(text, []byte("\n"+name+":")) {
			continue
		}
		if err := os.WriteFile(r.path(file), append(text, line...), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// argv is the command line that runs a program in the root as a user.
func (r *root) argv(user string, args ...string) []string {
	out := []string{"chroot"}
	if user != "" && user != "root" {
		out = append(out, "--userspec="+user)
	}
	return append(append(out, r.dir), args...)
}

// run runs a program of the root as root to its end and returns its output.
func (r *root) run(args ...string) (string, error) {
	argv := r.argv("", args...)
	return command(argv[0], argv[1:]...)
}

// start starts a program that stays in the foreground.
func (r *root) start(name string, args ...string) (*daemon, error) {
	return startDaemon(name, filepath.Dir(r.dir), r.argv("", args...)...)
}

// ran is how a program ended.
type ran struct {
	stdout, stderr string
	code           int
}

// call is one run of a program in a root.
type call struct {
	user  string // "" is root
	env   []string
	stdin string
	argv  []string
}

// do runs a call; the error is about starting it, not about its exit status.
func (r *root) do(c call) (ran, error) {
	argv := r.argv(c.user, c.argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = r.dir
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, c.env...)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	code := -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return ran{out.String(), errs.String(), code}, err
}

// own makes the user the owner of a directory of the root, made if need be.
func (r *root) own(user, dir string) error {
	if err := os.MkdirAll(r.path(dir), 0o755); err != nil {
		return err
	}
	_, err := r.run("chown", user, dir)
	return err
}
