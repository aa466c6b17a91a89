package crash

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inNamespace says whether the test runs in a mount namespace of its own. If
// not, it runs it in one, in a process of its own, and the test is over.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "CRASH_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a filesystem")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skip("mount namespaces cannot be made here: ", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	default:
		t.Logf("%s", out)
	}
	return false
}

// disk is a small ext4 filesystem in a file.
type disk struct {
	t            *testing.T
	image, mount string
}

func newDisk(t *testing.T, mount string) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), mount: mount}
	for _, err := range []error{os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 64<<20), os.MkdirAll(mount, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("an ext4 filesystem cannot be made here: %v %s", err, out)
	}
	if out, err := d.attach(); err != nil {
		t.Skipf("it cannot be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() { syscall.Unmount(d.mount, syscall.MNT_DETACH) })
	return d
}

func (d *disk) attach() ([]byte, error) {
	return exec.Command("mount", "-o", "loop,errors=remount-ro", d.image, d.mount).CombinedOutput()
}

// fail has the kernel find an error in the filesystem: it makes it read-only
// under everyone who works on it.
func (d *disk) fail() {
	d.t.Helper()
	source, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.mount).Output()
	if err == nil {
		name := filepath.Base(strings.TrimSpace(string(source)))
		err = os.WriteFile("/sys/fs/ext4/"+name+"/trigger_fs_error", []byte("a test"), 0)
	}
	if err != nil {
		d.t.Skip("this kernel cannot be made to find an error: ", err)
	}
}

// repair unmounts the filesystem, checks it and mounts it again.
func (d *disk) repair() {
	d.t.Helper()
	if err := syscall.Unmount(d.mount, 0); err != nil {
		d.t.Fatal("unmount: ", err)
	}
	var exit *exec.ExitError
	// 1 says that errors were corrected.
	if out, err := exec.Command("fsck.ext4", "-f", "-y", d.image).CombinedOutput(); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		d.t.Fatalf("fsck: %v %s", err, out)
	}
	if out, err := d.attach(); err != nil {
		d.t.Fatalf("mount again: %v %s", err, out)
	}
}

// TestReadOnlyRemount lets the kernel make the filesystem of the queue
// read-only under load, as it does when it finds an error. From then on mail
// is refused, for now and in one line that says why; a daemon does not start
// and says so without calling the queue damaged. When the disk was checked and
// mounted again, all that was acknowledged arrives.
func TestReadOnlyRemount(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := startSink(t)
	h := newHost(t, s.listener.Addr().String())
	d := newDisk(t, filepath.Join(filepath.Dir(h.config), "state"))
	daemon := h.serve()
	load := startLoad(h, 4)
	defer load.end()
	time.Sleep(2 * time.Second)
	d.fail()
	failed := time.Now()
	before := 0
	load.pause(func() { before = len(load.acknowledged) }) // those under way have ended
	time.Sleep(time.Second)
	h.mustRefuse("with the daemon", "sendmail", "-i", "a@sink.example")
	end := os.Kill
	if soak() { // it tries for 20 seconds to record what became of the last mail
		end = os.Interrupt
	}
	if err := daemon.Process.Signal(end); err != nil {
		t.Fatal(err)
	}
	daemon.Wait() // whatever it says: it could not note that it ended
	h.mustRefuse("alone", "sendmail", "-i", "a@sink.example")
	h.mustRefuse("the daemon", "serve")
	acknowledged, tried := load.end()
	if len(acknowledged) != before {
		t.Errorf("%d messages acknowledged while the disk was read-only", len(acknowledged)-before)
	}
	d.repair()
	daemon = h.serve()
	if left := h.drain(2 * time.Minute); left != 0 {
		t.Errorf("%d messages are still waiting", left)
	}
	if err := errors.Join(daemon.Process.Signal(os.Interrupt), daemon.Wait()); err != nil {
		t.Errorf("shut down: %v", err)
	}
	s.check(t, acknowledged, tried, []time.Time{failed})
}

// mustRefuse runs danepost on a disk that is read-only.
func (h *host) mustRefuse(what string, args ...string) {
	h.t.Helper()
	cmd := exec.Command(h.binary, append([]string{"--config", h.config}, args...)...)
	cmd.Stdin = strings.NewReader("Subject: number -1\n\nnever accepted\n")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 75 {
		h.t.Errorf("%s: %v, want exit code 75", what, err)
	}
	text := string(out)
	if !strings.Contains(text, "read-only file system") || strings.Contains(text, "damaged") || strings.Count(text, "\n") != 1 {
		h.t.Errorf("%s: %q, want one line about the read-only disk", what, text)
	}
}
