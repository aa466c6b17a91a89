//go:build interop

package interop

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// raise starts the whole tree from the leaves up, since a parent needs its
// children's DS records.
func (t *tree) raise(tb *testing.T) error {
	if err := t.addresses(tb); err != nil {
		return err
	}
	for _, level := range []string{"plain", "leaf", "rolling", "rolls", "tld", "root"} {
		var starts []func() error
		for _, s := range t.servers {
			if s.level == level {
				starts = append(starts, func() error { return t.start(tb, s) })
			}
		}
		if err := inParallel(starts); err != nil {
			return fmt.Errorf("level %s: %w", level, err)
		}
		t.delegate(level)
	}
	return nil
}

// addresses takes what the servers, and the one that never answers, stand on.
func (t *tree) addresses(tb *testing.T) error {
	for _, s := range t.servers {
		for _, a := range []netip.Addr{s.v4, s.v6} {
			if err := ownAddress(a); err != nil {
				return err
			}
		}
	}
	mute, err := net.ListenPacket("udp", net.JoinHostPort(silent, "53"))
	if err != nil {
		return err
	}
	tb.Cleanup(func() { mute.Close() })
	return nil
}

// delegate writes into the parents what the zones of a level look like.
func (t *tree) delegate(level string) {
	switch level {
	case "leaf", "rolling":
		for _, z := range map[string][]*zone{"leaf": append(slices.Clone(t.leaves), t.mail), "rolling": t.rolling}[level] {
			for _, p := range t.tlds {
				if dns.IsSubDomain(p.name, z.name) {
					p.records = append(p.records, z.delegation()...)
				}
			}
		}
		for _, s := range t.servers {
			if level == "rolling" {
				break
			}
			t.tlds[0].records = append(t.tlds[0].records, s.host()+" A "+s.v4.String(), s.host()+" AAAA "+s.v6.String())
		}
	case "tld":
		for _, z := range t.tlds {
			t.root.records = append(t.root.records, z.delegation()...)
		}
	}
}

// start signs and serves all zones of one process, and learns their keys.
func (t *tree) start(tb *testing.T, s *server) error {
	dir, err := workDir("tree", s.name())
	if err != nil {
		return err
	}
	zones := t.on(s)
	for _, z := range zones {
		if err := os.WriteFile(filepath.Join(dir, z.file()), []byte(z.text()), 0o644); err != nil {
			return err
		}
	}
	run := map[string]func(*server, string, []*zone) (*daemon, error){
		"named": startNamed, "nsd": startNSD, "knot": startKnot, "pdns": startPDNS,
	}[s.software]
	if s.level == "rolling" {
		run = map[string]func(*server, string, []*zone) (*daemon, error){"named": t.startRollingNamed, "knot": t.startRollingKnot}[s.software]
	}
	begin := time.Now()
	d, err := run(s, dir, zones)
	if err != nil {
		return err
	}
	d.stopAtEnd(tb)
	prepared := time.Since(begin)
	defer func() {
		tb.Logf("%s: %d zones, prepared in %v, served %v later", s.name(), len(zones), prepared.Round(time.Millisecond), (time.Since(begin) - prepared).Round(time.Millisecond))
	}()
	for _, z := range zones {
		if err := d.ready(40*time.Second, z.published); err != nil {
			return err
		}
		if z.algorithm == 0 {
			continue
		}
		if err := z.learnDS(); err != nil {
			return err
		}
	}
	return nil
}

// file is the name of the zone file.
func (z *zone) file() string { return strings.TrimSuffix("zone."+z.name, ".") }

// word is how the programs call an algorithm, and the key size it needs.
func word(algorithm uint8) (name string, bits int) {
	bits = map[uint8]int{dns.ECDSAP256SHA256: 256, dns.ECDSAP384SHA384: 384, dns.ED25519: 256}[algorithm]
	if bits == 0 {
		bits = 2048
	}
	return dns.AlgorithmToString[algorithm], bits
}

// startNamed has BIND sign by dnssec-policy: NSEC with a key for keys and one
// for the zone, NSEC3 with one key for both.
func startNamed(s *server, dir string, zones []*zone) (*daemon, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `options { directory %q; pid-file "named.pid"; session-keyfile "session.key"; lock-file none;
  listen-on port 53 { %s; }; listen-on-v6 port 53 { %s; }; recursion no; dnssec-validation no; notify no;
  allow-transfer { none; }; };
controls { };
`, dir, s.v4, s.v6)
	for _, a := range algorithms() {
		fmt.Fprintf(&b, "dnssec-policy nsec-%d { keys { ksk lifetime unlimited algorithm %d; zsk lifetime unlimited algorithm %d; }; };\n", a, a, a)
		for _, out := range []string{"no", "yes"} {
			fmt.Fprintf(&b, "dnssec-policy nsec3-%s-%d { keys { csk lifetime unlimited algorithm %d; }; nsec3param iterations 0 optout %s salt-length 0; };\n", out, a, a, out)
		}
	}
	for _, z := range zones {
		fmt.Fprintf(&b, "zone %q { type primary; file %q; ", z.name, z.file())
		if z.algorithm != 0 {
			policy := map[denial]string{nsec: "nsec", nsec3: "nsec3-no", optOut: "nsec3-yes"}[z.method.denial]
			signing := "inline-signing yes"
			if z.updates {
				signing = "inline-signing no; allow-update { any; }"
			}
			fmt.Fprintf(&b, "%s; dnssec-policy %s-%d; ", signing, policy, z.algorithm)
		}
		b.WriteString("};\n")
	}
	if err := writeFiles(dir, map[string]string{"named.conf": b.String()}); err != nil {
		return nil, err
	}
	return startDaemon(s.name(), dir, "named", "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
}

// startNSD signs with ldns-signzone, a key for keys and one for the zone.
func startNSD(s *server, dir string, zones []*zone) (*daemon, error) {
	var signs []func() error
	for _, z := range zones {
		if z.algorithm != 0 {
			signs = append(signs, func() error { return ldnsSign(dir, z) })
		}
	}
	if err := inParallel(signs); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  ip-address: %s
  ip-address: %s
  username: ""
  chroot: ""
  database: ""
  zonesdir: %q
  pidfile: "nsd.pid"
  zonelistfile: "zone.list"
  xfrdfile: "xfrd.state"
  server-count: 1
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
  verbosity: 1
remote-control:
  control-enable: no
`, s.v4, s.v6, dir)
	for _, z := range zones {
		file := z.file()
		if z.algorithm != 0 {
			file += ".signed"
		}
		fmt.Fprintf(&b, "zone:\n  name: %q\n  zonefile: %q\n", z.name, file)
	}
	if err := writeFiles(dir, map[string]string{"nsd.conf": b.String()}); err != nil {
		return nil, err
	}
	return startDaemon(s.name(), dir, "nsd", "-d", "-c", filepath.Join(dir, "nsd.conf"))
}

func ldnsSign(dir string, z *zone) error {
	alg, bits := word(z.algorithm)
	args := []string{"-o", z.name, "-f", z.file() + ".signed"}
	if z.method.denial != nsec {
		args = append(args, "-n", "-t", "0", "-s", "")
	}
	if z.method.denial == optOut {
		args = append(args, "-p")
	}
	args = append(args, z.file())
	for _, kind := range [][]string{{"-k"}, nil} {
		key, err := commandIn(dir, "ldns-keygen", append(append([]string{"-a", alg, "-b", fmt.Sprint(bits), "-r", "/dev/urandom"}, kind...), z.name)...)
		if err != nil {
			return err
		}
		args = append(args, strings.TrimSpace(key))
	}
	_, err := commandIn(dir, "ldns-signzone", args...)
	return err
}

// startKnot signs by Knot's automation, and for the minimal NSEC at the time
// of the query.
func startKnot(s *server, dir string, zones []*zone) (*daemon, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
    rundir: %q
    listen: [ "%s@53", "%s@53" ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2
log:
  - target: stderr
    any: info
database:
    storage: %q
    journal-db-max-size: 32M
    kasp-db-max-size: 32M
    timer-db-max-size: 4M
policy:
`, dir, s.v4, s.v6, dir)
	for _, a := range algorithms() {
		name, bits := word(a)
		for _, n3 := range []string{"off", "on"} {
			fmt.Fprintf(&b, "  - id: nsec3-%s-%d\n    algorithm: %s\n    ksk-size: %d\n    zsk-size: %d\n    nsec3: %s\n    nsec3-iterations: 0\n    nsec3-salt-length: 0\n",
				n3, a, strings.ToLower(name), bits, bits, n3)
		}
		fmt.Fprintf(&b, "  - id: single-%d\n    algorithm: %s\n    ksk-size: %d\n    single-type-signing: on\n", a, strings.ToLower(name), bits)
	}
	b.WriteString("mod-onlinesign:\n")
	for _, a := range algorithms() {
		fmt.Fprintf(&b, "  - id: online-%d\n    policy: single-%d\n", a, a)
	}
	fmt.Fprintf(&b, "template:\n  - id: default\n    storage: %q\n    zonefile-sync: -1\n    zonefile-load: whole\nzone:\n", dir)
	for _, z := range zones {
		fmt.Fprintf(&b, "  - domain: %q\n    file: %q\n", z.name, z.file())
		switch {
		case z.algorithm == 0:
		case z.method.denial == minimal:
			fmt.Fprintf(&b, "    module: mod-onlinesign/online-%d\n", z.algorithm)
		default:
			fmt.Fprintf(&b, "    dnssec-signing: on\n    dnssec-policy: nsec3-%s-%d\n", map[bool]string{true: "on", false: "off"}[z.method.denial == nsec3], z.algorithm)
		}
	}
	if err := writeFiles(dir, map[string]string{"knot.conf": b.String()}); err != nil {
		return nil, err
	}
	return startDaemon(s.name(), dir, "knotd", "-c", filepath.Join(dir, "knot.conf"))
}

// startPDNS has PowerDNS sign at the time of the query, with its three ways
// of denial, and serve what dnssec-signzone signed before.
func startPDNS(s *server, dir string, zones []*zone) (*daemon, error) {
	var list strings.Builder
	sort.Slice(zones, func(i, j int) bool { return zones[i].name < zones[j].name })
	for _, z := range zones {
		file := z.file()
		if z.method.name == "pdns-presigned" {
			if err := dnssecSignzone(dir, z); err != nil {
				return nil, err
			}
			file += ".signed"
		}
		fmt.Fprintf(&list, "zone %q { type master; file %q; };\n", z.name, filepath.Join(dir, file))
	}
	db := "/run/" + s.name() + ".db" // in memory: each pdnsutil commits
	conf := fmt.Sprintf(`launch=bind
bind-config=%[1]s/zones.conf
bind-dnssec-db=%[4]s
local-address=%[2]s,%[3]s
local-port=53
socket-dir=%[1]s
daemon=no
guardian=no
dname-processing=yes
receiver-threads=1
distributor-threads=2
queue-limit=8000
security-poll-suffix=
version-string=anonymous
`, dir, s.v4, s.v6, db)
	if err := writeFiles(dir, map[string]string{"pdns.conf": conf, "zones.conf": list.String()}); err != nil {
		return nil, err
	}
	util := func(args ...string) error {
		_, err := command("pdnsutil", append([]string{"--config-dir=" + dir}, args...)...)
		return err
	}
	if err := util("create-bind-db", db); err != nil {
		return nil, err
	}
	for _, z := range zones {
		for _, step := range pdnsSteps(z) {
			if err := util(step...); err != nil {
				return nil, err
			}
		}
	}
	return startDaemon(s.name(), dir, "pdns_server", "--config-dir="+dir)
}

// pdnsSteps are the pdnsutil commands that make a zone signed.
func pdnsSteps(z *zone) [][]string {
	if z.algorithm == 0 {
		return nil
	}
	if z.method.name == "pdns-presigned" {
		return [][]string{{"set-nsec3", z.name, "1 0 0 -"}, {"set-presigned", z.name}}
	}
	alg, bits := word(z.algorithm)
	key := []string{"add-zone-key", z.name, "ksk", "active"}
	if bits >= 1024 {
		key = append(key, fmt.Sprint(bits))
	}
	steps := [][]string{append(key, strings.ToLower(alg))}
	switch z.method.denial {
	case nsec3:
		steps = append(steps, []string{"set-nsec3", z.name, "1 0 0 -"})
	case narrow:
		steps = append(steps, []string{"set-nsec3", z.name, "1 0 0 -", "narrow"})
	}
	return steps
}

// dnssecSignzone signs with BIND's tools, NSEC3 without salt.
func dnssecSignzone(dir string, z *zone) error {
	alg, bits := word(z.algorithm)
	var keys []string
	for _, kind := range [][]string{{"-f", "KSK"}, nil} {
		args := append([]string{"-q", "-a", alg}, kind...)
		if bits >= 1024 {
			args = append(args, "-b", fmt.Sprint(bits))
		}
		key, err := commandIn(dir, "dnssec-keygen", append(args, z.name)...)
		if err != nil {
			return err
		}
		keys = append(keys, strings.TrimSpace(key))
	}
	_, err := commandIn(dir, "dnssec-signzone", append([]string{"-S", "-K", dir, "-3", "-", "-H", "0", "-o", z.name, "-f", z.file() + ".signed", z.file()}, keys...)...)
	return err
}
