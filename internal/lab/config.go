package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// Config is where WriteConfig left what a program needs to use the lab.
type Config struct {
	Dir   string // all files are in it
	File  string // danepost.toml
	State string // the state directory named there; not made
}

// WriteConfig writes root hints, trust anchor and a configuration that names
// them into dir, which is made if need be. overrides are lines of TOML; each
// stands in the section it names ("queue.retry_first = \"1s\"", or a bare key)
// and replaces a line of the same key. It may be called once the lab runs.
func (l *Lab) WriteConfig(dir string, overrides ...string) (Config, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Config{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Config{}, err
	}
	c := Config{Dir: dir, File: filepath.Join(dir, "danepost.toml"), State: filepath.Join(dir, "state")}
	ns := dns.Fqdn(l.root.ns)
	hints := fmt.Sprintf(". 518400 IN NS %s\n%s 518400 IN A %s\n", ns, ns, l.root.Addr())
	files := map[string]string{
		"root.hints":          hints,
		"root.key":            "; the root key of this test internet\n" + l.root.DS().String() + "\n",
		filepath.Base(c.File): l.toml(c, overrides),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// toml composes the configuration: sections in order, overrides in place.
func (l *Lab) toml(c Config, overrides []string) string {
	sections := []string{"", "resolver", "queue", "deliver"}
	lines := map[string][]string{
		"": {
			`hostname = "mail.home.demo"`,
			fmt.Sprintf("state_dir = %q", c.State),
			fmt.Sprintf("socket = %q", filepath.Join(c.Dir, "danepost.sock")),
			fmt.Sprintf("maildrop = %q", filepath.Join(c.Dir, "maildrop")),
			`postmaster = "postmaster@home.demo"`,
			`log = "json"`,
		},
		"resolver": {
			fmt.Sprintf("root_hints = %q", filepath.Join(c.Dir, "root.hints")),
			fmt.Sprintf("trust_anchor = %q", filepath.Join(c.Dir, "root.key")),
			fmt.Sprintf("port = %d", l.opts.DNSPort),
			`forward = "off"`,
		},
		"queue":   {"min_free_mb = 1"},
		"deliver": {fmt.Sprintf("port = %d", l.opts.SMTPPort)},
	}
	for _, o := range overrides {
		path, value, ok := strings.Cut(o, "=")
		path = strings.TrimSpace(path)
		section, key := "", path
		if i := strings.LastIndexByte(path, '.'); i >= 0 {
			section, key = path[:i], path[i+1:]
		}
		if !ok || key == "" {
			panic("lab: configuration override " + o)
		}
		if _, known := lines[section]; !known {
			sections = append(sections, section)
		}
		lines[section] = setLine(lines[section], key, strings.TrimSpace(value))
	}
	var b strings.Builder
	b.WriteString("# Points danepost at a running test internet.\n")
	for _, s := range sections {
		if s != "" {
			fmt.Fprintf(&b, "\n[%s]\n", s)
		}
		b.WriteString(strings.Join(lines[s], "\n") + "\n")
	}
	return b.String()
}

func setLine(lines []string, key, value string) []string {
	line := key + " = " + value
	for i, l := range lines {
		if strings.HasPrefix(l, key+" ") {
			lines[i] = line
			return lines
		}
	}
	return append(lines, line)
}
