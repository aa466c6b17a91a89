package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// defaultConfigFile is read when neither --config nor, for the sendmail
// programs, $DANEPOST_CONFIG names a file. Its absence is fine.
const defaultConfigFile = "/etc/danepost.toml"

// Config is the configuration file (TOML) laid over the defaults. It is
// read-only once loaded.
type Config struct {
	File string `toml:"-"` // where it was read from; "" when there was no file

	asksSystem bool  // see sockets
	unread     error // why the default file, which is there, was not read

	Hostname   string `toml:"hostname"`
	StateDir   string `toml:"state_dir"`
	Socket     string `toml:"socket"`
	Maildrop   string `toml:"maildrop"`
	Postmaster string `toml:"postmaster"`
	Log        string `toml:"log"`

	Resolver   ResolverConfig   `toml:"resolver"`
	Queue      QueueConfig      `toml:"queue"`
	Deliver    DeliverConfig    `toml:"deliver"`
	Policy     []PolicyConfig   `toml:"policy"`
	Relay      RelayConfig      `toml:"relay"`
	Rewrite    RewriteConfig    `toml:"rewrite"`
	Submission SubmissionConfig `toml:"submission"`
	Metrics    MetricsConfig    `toml:"metrics"`
}

// ResolverConfig is [resolver].
type ResolverConfig struct {
	RootHints            string   `toml:"root_hints"`
	TrustAnchor          string   `toml:"trust_anchor"`
	TrustAnchorSignature string   `toml:"trust_anchor_signature"`
	Forward              Forward  `toml:"forward"`
	Port                 uint16   `toml:"port"`
	Listen               string   `toml:"listen"`
	ListenAllow          []string `toml:"listen_allow"`
	TimeServers          []string `toml:"time_servers"`
	CacheMB              int      `toml:"cache_mb"`
	NSEC3MaxIterations   *uint16  `toml:"nsec3_max_iterations"`
	SHA1                 string   `toml:"sha1"`
	NegativeTrustAnchors []string `toml:"negative_trust_anchors"`
}

// QueueConfig is [queue].
type QueueConfig struct {
	MaxAge       Duration `toml:"max_age"`
	WarnAfter    Duration `toml:"warn_after"`
	MaxMessageMB int      `toml:"max_message_mb"`
	MinFreeMB    int      `toml:"min_free_mb"`
	RetryFirst   Duration `toml:"retry_first"`
	RetryMax     Duration `toml:"retry_max"`
}

// DeliverConfig is [deliver].
type DeliverConfig struct {
	Port                      uint16         `toml:"port"`
	SourceIPv4                string         `toml:"source_ipv4"`
	SourceIPv6                string         `toml:"source_ipv6"`
	Connections               int            `toml:"connections"`
	ConnectionsPerDestination int            `toml:"connections_per_destination"`
	TLS                       string         `toml:"tls"`
	CAFile                    string         `toml:"ca_file"`
	Timeouts                  TimeoutsConfig `toml:"timeouts"`
}

// TimeoutsConfig is [deliver.timeouts], the names of RFC 5321 §4.5.3.2.
type TimeoutsConfig struct {
	Connect  Duration `toml:"connect"`
	Greeting Duration `toml:"greeting"`
	EHLO     Duration `toml:"ehlo"`
	STARTTLS Duration `toml:"starttls"`
	Mail     Duration `toml:"mail"`
	Rcpt     Duration `toml:"rcpt"`
	Data     Duration `toml:"data"`
	Block    Duration `toml:"block"`
	Dot      Duration `toml:"dot"`
}

// PolicyConfig is one [[policy]].
type PolicyConfig struct {
	Domain       string   `toml:"domain"`
	TLS          string   `toml:"tls"`
	Fingerprints []string `toml:"fingerprints"`
	Via          string   `toml:"via"`
	Username     string   `toml:"username"`
	PasswordFile string   `toml:"password_file"`
}

// RelayConfig is [relay].
type RelayConfig struct {
	Host         string `toml:"host"`
	Port         uint16 `toml:"port"`
	Username     string `toml:"username"`
	PasswordFile string `toml:"password_file"`
}

// RewriteConfig is [rewrite].
type RewriteConfig struct {
	Aliases       string   `toml:"aliases"`
	Sender        Rewrites `toml:"sender"`
	From          Rewrites `toml:"from"`
	QualifyDomain string   `toml:"qualify_domain"`
}

// SubmissionConfig is [submission].
type SubmissionConfig struct {
	Listen    string   `toml:"listen"`
	Allow     []string `toml:"allow"`
	UsersFile string   `toml:"users_file"`
	TLSCert   string   `toml:"tls_cert"`
	TLSKey    string   `toml:"tls_key"`
}

// MetricsConfig is [metrics].
type MetricsConfig struct {
	Listen string `toml:"listen"`
}

// Duration is a time.ParseDuration text that may also use d for days.
type Duration time.Duration

// UnmarshalText reads "5d", "4h", "1d12h", "90s".
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days time.Duration
	if head, rest, ok := strings.Cut(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(head+" ", "%d ", &n); err != nil || n < 0 || n > 36500 || fmt.Sprint(n) != head {
			return fmt.Errorf("%q is no duration; write it like \"5d\", \"4h\" or \"30s\"", s)
		}
		days, s = time.Duration(n)*24*time.Hour, rest
	}
	if s != "" {
		v, err := time.ParseDuration(s)
		if err != nil || v < 0 {
			return fmt.Errorf("%q is no duration; write it like \"5d\", \"4h\" or \"30s\"", text)
		}
		days += v
	}
	*d = Duration(days)
	return nil
}

// Forward is [resolver] forward: "auto", "off" or a list of "ip[:port]".
type Forward struct {
	Mode    string // "auto", "off" or "list"
	Servers []netip.AddrPort
}

// UnmarshalTOML accepts a word or a list.
func (f *Forward) UnmarshalTOML(v any) error {
	switch v := v.(type) {
	case string:
		if v != "auto" && v != "off" {
			return fmt.Errorf("forward = %q: use \"auto\", \"off\" or a list like [\"192.0.2.1\"]", v)
		}
		f.Mode = v
	case []any:
		f.Mode = "list"
		for _, e := range v {
			ap, err := parseServer(fmt.Sprint(e))
			if err != nil {
				return fmt.Errorf("forward: %w", err)
			}
			f.Servers = append(f.Servers, ap)
		}
		if len(f.Servers) == 0 {
			return errors.New(`forward = []: the list is empty; use "off" for none`)
		}
	default:
		return fmt.Errorf("forward: use \"auto\", \"off\" or a list like [\"192.0.2.1\"]")
	}
	return nil
}

// Rewrites says which address replaces which: one address for everything, or a
// table from login names, addresses, "@domain" and "*" to addresses.
type Rewrites map[string]string

// UnmarshalTOML accepts an address or a table.
func (r *Rewrites) UnmarshalTOML(v any) error {
	*r = Rewrites{}
	switch v := v.(type) {
	case string:
		(*r)["*"] = v
	case map[string]any:
		for from, to := range v {
			s, ok := to.(string)
			if !ok {
				return fmt.Errorf("%q: write an address in quotes", from)
			}
			(*r)[from] = s
		}
	default:
		return errors.New("write an address, or a table like { root = \"admin@example.com\" }")
	}
	for _, to := range *r {
		if err := mailbox(to); err != nil {
			return err
		}
	}
	return nil
}

// parseServer reads "ip" or "ip:port"; the port defaults to 53.
func parseServer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, 53), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address; write \"192.0.2.1\", \"192.0.2.1:53\" or \"[2001:db8::1]:53\"", s)
	}
	return ap, nil
}

// loadConfig reads file, or the default file when file is "". With system the
// default paths are root's, whatever the environment says. Problems come back
// as one line that names file, line and key.
func loadConfig(file, stateDir string, system bool) (*Config, error) {
	c := defaults(system)
	c.File = or(file != "", file, defaultConfigFile)
	data, err := os.ReadFile(c.File)
	switch {
	case err == nil:
		if err := c.parse(data); err != nil {
			return nil, err
		}
	case file == "" && errors.Is(err, fs.ErrNotExist):
		c.File = ""
	case file == "" && errors.Is(err, fs.ErrPermission):
		// Enough to reach the daemon; see deliverConfig.
		c.File, c.unread = "", err
	default:
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.Hostname == "" {
		c.Hostname = hostFQDN()
	}
	if c.StateDir == "" {
		c.StateDir = defaultStateDir(system)
	}
	if err := c.resolvePaths(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := c.derive(stateDir, system); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := c.validate(data); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) parse(data []byte) error {
	meta, err := toml.Decode(string(data), c)
	if err != nil {
		return c.decodeError(err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		key := unknown[0]
		return fmt.Errorf("%s:%d: unknown key %q", c.File, lineOf(data, key), key.String())
	}
	return nil
}

// decodeError words what the decoder refused. For values of the wrong type it
// gives the line only inside its text.
func (c *Config) decodeError(err error) error {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s:%d: %s", c.File, pe.Position.Line, or(pe.LastKey == "", "", pe.LastKey+": ")+pe.Message)
	}
	text := strings.TrimPrefix(err.Error(), "toml: ")
	var line int
	if _, scanErr := fmt.Sscanf(text, "line %d ", &line); scanErr == nil {
		_, text, _ = strings.Cut(text, "(last key ")
		text = strings.Replace(text, "):", ":", 1)
		return fmt.Errorf("%s:%d: %s", c.File, line, plainTypes(text))
	}
	return fmt.Errorf("%s: %s", c.File, text)
}

// plainTypes says in the words of TOML what the decoder says in those of Go.
func plainTypes(text string) string {
	if key, _, ok := strings.Cut(text, ": type mismatch for "); ok {
		return key + ": a table was expected"
	}
	key, rest, ok := strings.Cut(text, ": incompatible types: ")
	_, want, _ := strings.Cut(rest, "destination has type ")
	kind := map[string]string{
		"string": "a text in quotes", "integer": "a whole number", "slice": "a list", "boolean": "true or false",
	}[want]
	if !ok || kind == "" {
		return text
	}
	return key + ": " + kind + " was expected"
}

// lineOf finds the line on which key is set, 1 when it cannot tell. The
// decoder reports no position for keys that it did not use.
func lineOf(data []byte, key toml.Key) int {
	table := ""
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			line, _, _ = strings.Cut(line, "#")
			table = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "[]"), " ", "")
			if table == key.String() {
				return i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		full := strings.Trim(strings.ReplaceAll(name, " ", ""), `"'`)
		if table != "" {
			full = table + "." + full
		}
		if full == key.String() {
			return i + 1
		}
	}
	return 1
}

const day = 24 * time.Hour

// defaults are in force where the file says nothing. The timeouts of
// [deliver.timeouts] stay zero: the deliver room knows theirs.
func defaults(system bool) *Config {
	return &Config{
		StateDir: defaultStateDir(system),
		Log:      "text",
		Resolver: ResolverConfig{
			Forward: Forward{Mode: "auto"}, Port: 53, CacheMB: 8, SHA1: "insecure",
			TimeServers: defaultTimeServers(),
		},
		Queue: QueueConfig{
			MaxAge: Duration(5 * day), WarnAfter: Duration(4 * time.Hour),
			MaxMessageMB: 50, MinFreeMB: 100,
			RetryFirst: Duration(5 * time.Minute), RetryMax: Duration(68 * time.Minute),
		},
		Deliver: DeliverConfig{Port: 25, Connections: 50, ConnectionsPerDestination: 5, TLS: "dane"},
	}
}

// defaultTimeServers are the names that the NTP clients of common systems ask
// for. Through [resolver] listen they are answered even while the clock is
// not set, or it never would be.
func defaultTimeServers() []string {
	out := []string{"pool.ntp.org", "time.cloudflare.com", "ntp.ubuntu.com", "time.google.com"}
	for _, pool := range []string{"pool.ntp.org", "debian.pool.ntp.org", "openwrt.pool.ntp.org", "ubuntu.pool.ntp.org", "arch.pool.ntp.org"} {
		for n := range 4 {
			out = append(out, fmt.Sprintf("%d.%s", n, pool))
		}
	}
	return out
}
