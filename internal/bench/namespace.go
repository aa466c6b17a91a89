package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// packages are what the measurements need of Debian: a program, and the
// package that has it.
var packages = [][2]string{
	{"postfix", "postfix"}, {"unbound", "unbound"}, {"unbound-control", "unbound"},
	{"nsd", "nsd"}, {"nsd-control", "nsd"}, {"ip", "iproute2"},
}

// install installs the packages that are missing. Debian starts the daemons
// of a package as it installs it; here a policy-rc.d forbids that for as
// long as it takes.
func install(report func(string, ...any)) error {
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p[0]); err != nil {
			missing = append(missing, p[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	report("installing %s", strings.Join(missing, ", "))
	const policy = "/usr/sbin/policy-rc.d"
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(policy)
	}
	os.Setenv("DEBIAN_FRONTEND", "noninteractive")
	if _, err := run("apt-get", "-q", "update"); err != nil {
		return err
	}
	_, err := run(append([]string{"apt-get", "-q", "install", "-y", "--no-install-recommends"}, missing...)...)
	return err
}

// inNamespaces runs this program again with the same arguments, preceded by
// role, in network, mount and process namespaces of its own: nothing reaches
// the network, nothing of /etc is changed, and when it ends, every daemon
// that it started ends with it.
func inNamespaces(role string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, append([]string{role}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(ended.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("entering namespaces of its own (root is needed): %w", err)
	}
	return 0, nil
}

// furnish makes the fresh namespaces usable: a /proc of these processes, the
// addresses of the mini-internet, and a copy of /etc to write to.
func furnish(scratch string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, argv := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", network, "dev", "lo"},
	} {
		if _, err := run(argv...); err != nil {
			return err
		}
	}
	etc := filepath.Join(scratch, "etc")
	if err := os.RemoveAll(etc); err != nil {
		return err
	}
	if _, err := run("cp", "-a", "/etc", etc); err != nil {
		return err
	}
	if err := syscall.Mount(etc, "/etc", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("a private /etc: %w", err)
	}
	if err := os.Remove("/etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/etc/resolv.conf", []byte("nameserver 127.0.0.1\noptions trust-ad edns0\n"), 0o644)
}
