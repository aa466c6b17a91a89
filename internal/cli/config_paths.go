package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"danepost/queue/submit"
)

// resolvePaths makes the names of files absolute, for the programs that read
// one configuration stand in different directories: what the file says counts
// from where the file is.
func (c *Config) resolvePaths() error {
	if c.File == "" {
		return nil
	}
	var err error
	if c.File, err = filepath.Abs(c.File); err != nil {
		return err
	}
	for _, path := range c.paths() {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(c.File), *path)
		}
	}
	return nil
}

// paths are the values that name a file or a directory.
func (c *Config) paths() []*string {
	list := []*string{
		&c.StateDir, &c.Socket, &c.Maildrop,
		&c.Resolver.RootHints, &c.Resolver.TrustAnchor, &c.Resolver.TrustAnchorSignature,
		&c.Deliver.CAFile, &c.Relay.PasswordFile, &c.Rewrite.Aliases,
		&c.Submission.UsersFile, &c.Submission.TLSCert, &c.Submission.TLSKey,
	}
	for i := range c.Policy {
		list = append(list, &c.Policy[i].PasswordFile)
	}
	return list
}

// derive applies --state-dir, which counts from where the caller stands, and
// fills the paths that depend on others. Another state directory than the
// configured one is another danepost, with a socket of its own.
func (c *Config) derive(stateDir string, system bool) error {
	moved := false
	if stateDir != "" {
		dir, err := filepath.Abs(stateDir)
		if err != nil {
			return err
		}
		c.StateDir, moved = dir, dir != filepath.Clean(c.StateDir)
	}
	if c.Maildrop == "" {
		c.Maildrop = filepath.Join(c.StateDir, "maildrop")
	}
	switch {
	case c.Socket != "":
	case system && !moved:
		c.Socket = systemSocket
	default:
		c.Socket = filepath.Join(c.StateDir, "danepost.sock")
		c.asksSystem = !moved && (c.File == "" || c.File == defaultConfigFile)
	}
	return nil
}

// sockets are the places where a daemon may answer this caller: root's first,
// unless the caller has a configuration or a state directory of his own.
func (c *Config) sockets() []string {
	if c.asksSystem {
		return []string{systemSocket, c.Socket}
	}
	return []string{c.Socket}
}

// untouched reports whether there is no state of this caller: nobody of his
// kind ever queued a message, and none waits in the maildrop.
func (c *Config) untouched() bool {
	_, err := os.Stat(c.StateDir)
	// A home that is not his to look into, as with su, has no mail of his.
	none := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || c.asksSystem && errors.Is(err, fs.ErrPermission)
	return none && !(&submit.Maildrop{Dir: c.Maildrop}).Pending()
}

// systemSocket is where root's daemon listens and every user's sendmail looks.
const systemSocket = "/run/danepost.sock"

func defaultStateDir(system bool) string {
	if system {
		return "/var/lib/danepost"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "danepost")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local/state/danepost")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("danepost-%d", os.Getuid()))
}

// hostFQDN returns the host's name; with its domain when /etc/hosts has it.
// It asks no resolver: nothing at start may wait for the network.
func hostFQDN() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	if strings.Contains(name, ".") {
		return strings.TrimSuffix(name, ".")
	}
	data, _ := os.ReadFile("/etc/hosts")
	for line := range strings.SplitSeq(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || !containsFold(fields[1:], name) {
			continue
		}
		for _, f := range fields[1:] {
			if strings.HasPrefix(strings.ToLower(f), strings.ToLower(name)+".") && !strings.HasSuffix(f, ".localdomain") {
				return f
			}
		}
	}
	return name
}

func containsFold(list []string, s string) bool {
	for _, e := range list {
		if strings.EqualFold(e, s) {
			return true
		}
	}
	return false
}
