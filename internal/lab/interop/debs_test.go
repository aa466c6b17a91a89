//go:build interop

package interop

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Debian's mail servers conflict with each other, and installing one changes
// what /usr/sbin/sendmail of the host is. So none is installed: their packages
// are unpacked beside the host's files, one directory for each, and seen only
// where a private root (roots_test.go) lays them over the host's.
//
// Name servers would start with the host, each on port 53: they are unpacked
// as well, and laid over /usr for the tests alone.

// servers names what is laid over /usr itself.
const servers = "servers"

// rootPackages lists what each private root holds besides the host's files.
func rootPackages() map[string][]string {
	return map[string][]string{
		servers: {
			"bind9", "bind9-dnsutils", "bind9-utils", "nsd", "ldnsutils", "knot", "pdns-server", "pdns-backend-bind", "unbound", "iproute2", "nftables",
		},
		"postfix":    {"postfix", "time"},
		"exim":       {"exim4-daemon-light"},
		"opensmtpd":  {"opensmtpd"},
		"dma":        {"dma"},
		"msmtp":      {"msmtp-mta"},
		"nullmailer": {"nullmailer"},
		"danepost":   {"time"},
		"submitters": {
			"cron", "bsd-mailx", "s-nail", "mutt", "mailutils", "git", "git-email", "php-cli", "python3", "perl", "libmime-lite-perl",
			"libemail-sender-perl", "libmail-sendmail-perl", "libmailtools-perl", "logwatch", "swaks",
		},
	}
}

// rootsVar tells the inner run where the packages lie unpacked.
const rootsVar = "DANEPOST_INTEROP_ROOTS"

// unpackRoots fetches and unpacks what is missing. The cache lasts until
// Debian's package database changes.
func unpackRoots() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "danepost-interop")
	os.Setenv(rootsVar, cache)
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(rootPackages()) {
		packages := rootPackages()[name]
		sum := sha256.Sum256(append(status, strings.Join(packages, " ")...))
		stamp := hex.EncodeToString(sum[:])
		dir := filepath.Join(cache, name)
		if have, err := os.ReadFile(filepath.Join(dir, ".stamp")); err == nil && string(have) == stamp {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := unpack(dir, packages); err != nil {
			return fmt.Errorf("packages of %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".stamp"), []byte(stamp), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// unpack puts the packages, and those of their dependencies that the host
// does not have, into dir. What apt would remove for them does not matter.
func unpack(dir string, packages []string) error {
	a := apt{}
	if packages[0] == "opensmtpd" {
		var err error
		if a, err = withBackports(); err != nil {
			return err
		}
	}
	out, err := a.get("", append([]string{"-s", "install", "--no-install-recommends"}, packages...)...)
	if err != nil {
		return err
	}
	var wanted []string
	for _, m := range regexp.MustCompile(`(?m)^Inst (\S+) (?:\[\S+\] )?\((\S+)`).FindAllStringSubmatch(out, -1) {
		wanted = append(wanted, m[1]+"="+m[2])
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeFiles(dir, map[string]string{".packages": strings.Join(wanted, "\n") + "\n"}); err != nil || len(wanted) == 0 {
		return err
	}
	fmt.Printf("interop: fetching %d packages for %s\n", len(wanted), packages[0])
	debs, err := os.MkdirTemp(dir, ".debs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	if _, err := a.get(debs, append([]string{"-o", "APT::Sandbox::User=root", "download"}, wanted...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if _, err := command("dpkg-deb", "-x", file, dir); err != nil {
			return err
		}
	}
	return mergeUsr(dir)
}

// layServers makes the name servers' files appear in /usr, for this mount
// namespace. What private roots take of the host is not under them: there is a
// limit to how many overlays may lie on one another.
func layServers() error {
	packages := filepath.Join(os.Getenv(rootsVar), servers, "usr")
	if !exists(packages) {
		return nil // the host has them all
	}
	host, err := workDir("host", "usr")
	if err != nil {
		return err
	}
	if err := unix.Mount("/usr", host, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("the host's /usr: %w", err)
	}
	if err := unix.Mount("overlay", "/usr", "overlay", unix.MS_RDONLY, "lowerdir="+packages+":"+host); err != nil {
		return fmt.Errorf("overlay on /usr: %w", err)
	}
	return nil
}

// hostTree is where the host's own /usr, /etc or /var is seen.
func hostTree(name string) string {
	if moved := filepath.Join(os.Getenv(workVar), "host", name); exists(moved) {
		return moved
	}
	return "/" + name
}

// packageVersion is the version of a root's package, unpacked or the host's.
func packageVersion(root, name string) string {
	text, err := os.ReadFile(filepath.Join(os.Getenv(rootsVar), root, ".packages"))
	for line := range strings.Lines(string(text)) {
		if version, ok := strings.CutPrefix(line, name+"="); ok && err == nil {
			return strings.TrimSpace(version)
		}
	}
	out, err := command("dpkg-query", "-W", "-f", "${Version}", name)
	if err != nil {
		return "?"
	}
	return out
}

// apt is a way of asking apt-get: options to begin with.
type apt []string

// get runs apt-get in dir; when it fails, once more with new package lists.
func (a apt) get(dir string, args ...string) (string, error) {
	args = append(append([]string{"-q"}, a...), args...)
	out, err := commandIn(dir, "apt-get", args...)
	if err == nil {
		return out, nil
	}
	if _, err := command("apt-get", append(append([]string{"-q"}, a...), "update")...); err != nil {
		return "", err
	}
	return commandIn(dir, "apt-get", args...)
}

// withBackports has package lists of its own, to which Debian 12 adds its
// backports: its OpenSMTPD 6.8.0p2 cannot use a private key with OpenSSL 3
// (OpenSMTPD's issue 1171), so that every TLS handshake with it fails.
func withBackports() (apt, error) {
	targets, err := command("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	uri, _, found := strings.Cut(targets, " bookworm\n")
	if !found {
		return nil, nil // a later Debian has a later one
	}
	uri = uri[strings.LastIndex(uri, "\n")+1:]
	dir := filepath.Join(os.Getenv(rootsVar), "apt")
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	sources, err := os.ReadFile("/etc/apt/sources.list")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text := fmt.Sprintf("%s\ndeb %s bookworm-backports main\n", sources, uri)
	return apt{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"), "-o", "Dir::State::lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Default-Release=bookworm-backports", "-o", "APT::Sandbox::User=root",
	}, writeFiles(dir, map[string]string{"sources.list": text})
}

// mergeUsr moves what packages still ship in /bin, /sbin and /lib to where
// these names lead (they are links into /usr in every private root).
func mergeUsr(dir string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		from, to := filepath.Join(dir, name), filepath.Join(dir, "usr", name)
		if _, err := os.Lstat(from); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
			return fmt.Errorf("cp %s: %w\n%s", from, err, out)
		}
		if err := os.RemoveAll(from); err != nil {
			return err
		}
	}
	return nil
}
