//go:build interop

package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// workVar names the directory of the inner run; that it is set tells the
// inner run from the outer one.
const workVar = "DANEPOST_INTEROP_WORK"

func TestMain(m *testing.M) {
	if work := os.Getenv(workVar); work != "" {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "interop: preparing the namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	code, err := outer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
	}
	os.Exit(code)
}

// outer prepares what needs the host's network and runs the tests inside.
func outer() (int, error) {
	if os.Geteuid() != 0 {
		fmt.Println("interop: skipped: other people's servers run on port 53 of a network namespace, which needs root")
		return 0, nil
	}
	if err := mayIsolate(); err != nil {
		fmt.Println("interop: skipped: this kernel gives out no namespaces:", err)
		return 0, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		fmt.Println("interop: skipped: the other people's programs are taken from Debian's packages:", err)
		return 0, nil
	}
	if err := unpackRoots(); err != nil {
		return 1, err
	}
	work, err := os.MkdirTemp("", "danepost-interop-")
	if err != nil {
		return 1, err
	}
	if err := os.Chmod(work, 0o755); err != nil { // daemons that give up root read below it
		return 1, err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(work, "danepost"), "danepost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	code, err := isolated(work)
	if code == 0 && err == nil {
		return 0, errors.Join(writeReport(work), os.RemoveAll(work))
	}
	fmt.Println("interop: configurations and logs are kept in", work)
	return code, err
}

func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL, // as process 1 of its namespace it takes all daemons along
	}
}

func mayIsolate() error {
	runtime.LockOSThread() // Pdeathsig watches the thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command("true")
	cmd.SysProcAttr = namespaces()
	return cmd.Run()
}

// isolated runs this program again, with the same arguments, in namespaces.
func isolated(work string) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", append(os.Args[1:], "-test.parallel=8")...) // those that run in parallel wait
	cmd.Env = append(os.Environ(), workVar+"="+work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaces()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan struct{})
	go func() {
		select {
		case <-stop:
			cmd.Process.Kill() //nolint:errcheck // it may be gone already
		case <-ended:
		}
	}()
	err := cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// enter makes the namespaces usable: mounts that the host does not see, its
// own /proc and /run, and the addresses.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := layServers(); err != nil {
		return err
	}
	if err := roomForRoots(); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	if err := unix.Sethostname([]byte("host.home.demo")); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if _, err := command("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	_, err := command("ip", "addr", "add", "10.53.0.1/16", "dev", "lo")
	return err
}

// ownAddress gives the namespace an address. Any of 10.53/16 can be bound
// without, but some daemons listen only where an interface has the address.
func ownAddress(a netip.Addr) error {
	_, err := command("ip", "addr", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "lo", "nodad")
	return err
}
