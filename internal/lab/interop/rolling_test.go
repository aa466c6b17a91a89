//go:build interop

package interop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Keys are rolled while look-ups go on: by Knot's automation, which replaces
// keys on its own as their lifetimes end, and by named as an administrator
// tells it. The parent's DS records follow the children's CDS records (RFC
// 7344), and in the end both change their algorithm.

// rollTTL is the TTL, in seconds, of all that a roll-over has to wait for.
const rollTTL = 2

// startRollingKnot serves a zone whose keys live for seconds.
func (t *tree) startRollingKnot(s *server, dir string, zones []*zone) (*daemon, error) {
	if err := writeFiles(dir, map[string]string{"knot.conf": t.rollingKnotConf(s, dir, zones[0], "ecdsap256sha256")}); err != nil {
		return nil, err
	}
	return startDaemon(s.name(), dir, "knotd", "-c", filepath.Join(dir, "knot.conf"))
}

func (t *tree) rollingKnotConf(s *server, dir string, z *zone, algorithm string) string {
	return fmt.Sprintf(`server:
    rundir: %[1]q
    listen: [ "%[2]s@53", "%[3]s@53" ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: %[1]q
    journal-db-max-size: 32M
    kasp-db-max-size: 32M
    timer-db-max-size: 4M
remote:
  - id: parent
    address: %[4]s@53
submission:
  - id: submission
    parent: parent
    check-interval: 1
policy:
  - id: roll
    algorithm: %[5]s
    ksk-lifetime: 14
    zsk-lifetime: 8
    dnskey-ttl: %[6]d
    zone-max-ttl: %[6]d
    propagation-delay: 1
    rrsig-lifetime: 30
    rrsig-refresh: 10
    rrsig-pre-refresh: 2
    delete-delay: 0
    ksk-submission: submission
    cds-cdnskey-publish: always
template:
  - id: default
    storage: %[1]q
    zonefile-sync: -1
    zonefile-load: whole
zone:
  - domain: %[7]q
    file: %[8]q
    dnssec-signing: on
    dnssec-policy: roll
`, dir, s.v4, s.v6, t.servers["named-rolls"].v4, algorithm, rollTTL, z.name, z.file())
}

// startRollingNamed serves a zone whose keys are rolled by rndc.
func (t *tree) startRollingNamed(s *server, dir string, zones []*zone) (*daemon, error) {
	secret := "c2hvcnQgdGltaW5ncyBhcmUgZm9yIHRlc3RzIG9ubHk="
	key := fmt.Sprintf("key rolling { algorithm hmac-sha256; secret %q; };\n", secret)
	err := writeFiles(dir, map[string]string{
		"named.conf": key + t.rollingNamedConf(s, dir, zones[0], dns.ECDSAP256SHA256),
		"rndc.conf":  key + "options { default-key rolling; default-server 127.0.0.1; default-port 9953; };\n",
	})
	if err != nil {
		return nil, err
	}
	return startDaemon(s.name(), dir, "named", "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
}

func (t *tree) rollingNamedConf(s *server, dir string, z *zone, algorithm uint8) string {
	return fmt.Sprintf(`options { directory %[1]q; pid-file "named.pid"; session-keyfile "session.key"; lock-file none;
  listen-on port 53 { %[2]s; }; listen-on-v6 port 53 { %[3]s; }; recursion no; dnssec-validation no; notify no;
  allow-transfer { none; }; };
controls { inet 127.0.0.1 port 9953 allow { 127.0.0.1; } keys { rolling; }; };
dnssec-policy roll {
  keys { ksk lifetime unlimited algorithm %[4]d; zsk lifetime unlimited algorithm %[4]d; };
  nsec3param iterations 0 optout no salt-length 0;
  dnskey-ttl PT%[5]dS; max-zone-ttl PT%[5]dS; zone-propagation-delay PT1S; publish-safety PT1S; retire-safety PT1S;
  parent-ds-ttl PT%[5]dS; parent-propagation-delay PT1S; purge-keys PT0S;
  signatures-refresh PT44S; signatures-jitter PT0S; signatures-validity PT50S; signatures-validity-dnskey PT50S;
};
zone %[6]q { type primary; file %[7]q; inline-signing yes; dnssec-policy roll; };
`, dir, s.v4, s.v6, algorithm, rollTTL, z.name, z.file())
}

// roller keeps the parent's DS records in step and notes what has been seen.
type roller struct {
	tree *tree

	mu    sync.Mutex
	ds    map[string][]dns.RR        // now at the parent, by zone
	swaps map[string]int             // of the DS set
	keys  map[string]map[uint16]bool // tags seen in the DNSKEY set
	algs  map[string]map[uint8]bool
}

func newRoller(t *tree) *roller {
	r := &roller{tree: t, ds: map[string][]dns.RR{}, swaps: map[string]int{}, keys: map[string]map[uint16]bool{}, algs: map[string]map[uint8]bool{}}
	for _, z := range t.rolling {
		r.ds[z.name] = z.ds
		r.keys[z.name], r.algs[z.name] = map[uint16]bool{}, map[uint8]bool{}
	}
	return r
}

// look reads the zone's DNSKEY and CDS sets and carries the latter to the parent.
func (r *roller) look(z *zone) error {
	m, err := ask(z.server.v4, z.name, dns.TypeDNSKEY)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, rr := range m.Answer {
		if k, ok := rr.(*dns.DNSKEY); ok {
			r.keys[z.name][k.KeyTag()], r.algs[z.name][k.Algorithm] = true, true
		}
	}
	r.mu.Unlock()
	if m, err = ask(z.server.v4, z.name, dns.TypeCDS); err != nil {
		return err
	}
	var want []dns.RR
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CDS); ok && c.Algorithm != 0 {
			d := c.DS
			d.Hdr = dns.RR_Header{Name: z.name, Rrtype: dns.TypeDS, Class: dns.ClassINET, Ttl: rollTTL}
			want = append(want, &d)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(want) == 0 || sameRecords(want, r.ds[z.name]) {
		return nil
	}
	if err := r.publish(z, want); err != nil {
		return err
	}
	old := r.ds[z.name]
	r.ds[z.name] = want
	r.swaps[z.name]++
	if z.server.software == "named" {
		return tellNamed(z, old, want)
	}
	return nil
}

func sameRecords(a, b []dns.RR) bool {
	text := func(rrs []dns.RR) (out []string) {
		for _, rr := range rrs {
			out = append(out, normal(rr))
		}
		return sorted(out)
	}
	return slices.Equal(text(a), text(b))
}

// publish puts a DS set into the parent by dynamic update (RFC 2136 §2.5).
func (r *roller) publish(z *zone, ds []dns.RR) error {
	m := new(dns.Msg).SetUpdate("rolls.")
	m.RemoveRRset([]dns.RR{&dns.DS{Hdr: dns.RR_Header{Name: z.name, Rrtype: dns.TypeDS}}})
	m.Insert(ds)
	to := net.JoinHostPort(r.tree.servers["named-rolls"].v4.String(), "53")
	reply, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, to)
	if err == nil && reply.Rcode != dns.RcodeSuccess {
		err = errors.New(dns.RcodeToString[reply.Rcode])
	}
	if err != nil {
		return fmt.Errorf("update of rolls.: %w", err)
	}
	return nil
}

// tellNamed confirms to named which DS records came and went at the parent.
func tellNamed(z *zone, old, now []dns.RR) error {
	has := func(set []dns.RR, tag uint16) bool {
		return slices.ContainsFunc(set, func(rr dns.RR) bool { return rr.(*dns.DS).KeyTag == tag })
	}
	for _, rr := range append(slices.Clone(old), now...) {
		d := rr.(*dns.DS)
		word := "published"
		if !has(now, d.KeyTag) {
			word = "withdrawn"
		} else if has(old, d.KeyTag) {
			continue
		}
		if err := rndc(z, "dnssec", "-checkds", "-key", fmt.Sprint(d.KeyTag), "-alg", fmt.Sprint(d.Algorithm), word, z.name); err != nil {
			return err
		}
	}
	return nil
}

func rndc(z *zone, args ...string) error {
	_, err := rndcOutput(z, args...)
	return err
}

func rndcOutput(z *zone, args ...string) (string, error) {
	dir, err := workDir("tree", z.server.name())
	if err != nil {
		return "", err
	}
	return command("rndc", append([]string{"-c", filepath.Join(dir, "rndc.conf")}, args...)...)
}

// newAlgorithm has both servers move to Ed25519.
func (r *roller) newAlgorithm() error {
	for _, z := range r.tree.rolling {
		dir, err := workDir("tree", z.server.name())
		if err != nil {
			return err
		}
		if z.server.software == "knot" {
			if err := writeFiles(dir, map[string]string{"knot.conf": r.tree.rollingKnotConf(z.server, dir, z, "ed25519")}); err != nil {
				return err
			}
			if _, err := command("knotc", "-s", filepath.Join(dir, "knot.sock"), "reload"); err != nil {
				return err
			}
			continue
		}
		old, err := os.ReadFile(filepath.Join(dir, "named.conf"))
		if err != nil {
			return err
		}
		key, _, _ := strings.Cut(string(old), "\n")
		conf := key + "\n" + r.tree.rollingNamedConf(z.server, dir, z, dns.ED25519)
		if err := writeFiles(dir, map[string]string{"named.conf": conf}); err != nil {
			return err
		}
		if err := rndc(z, "reconfig"); err != nil {
			return err
		}
	}
	return nil
}

// rollNamed starts the roll-over of every key that named shows now.
func (r *roller) rollNamed() error {
	z := r.named()
	m, err := ask(z.server.v4, z.name, dns.TypeDNSKEY)
	if err != nil {
		return err
	}
	for _, rr := range m.Answer {
		if k, ok := rr.(*dns.DNSKEY); ok {
			if err := rndc(z, "dnssec", "-rollover", "-key", fmt.Sprint(k.KeyTag()), "-alg", fmt.Sprint(k.Algorithm), z.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *roller) named() *zone {
	i := slices.IndexFunc(r.tree.rolling, func(z *zone) bool { return z.server.software == "named" })
	return r.tree.rolling[i]
}

// settled reports whether named takes all its keys and signatures, and what the
// parent says of them, for known to everyone. It removes at once a key that is
// rolled before that.
func (r *roller) settled() (bool, error) {
	status, err := rndcOutput(r.named(), "dnssec", "-status", r.named().name)
	return err == nil && strings.Contains(status, "omnipresent") && !strings.Contains(status, "rumoured") && !strings.Contains(status, "unretentive"), err
}

// rolled reports whether both zones have had a new key of each kind.
func (r *roller) rolled() (bool, error) {
	r.mu.Lock()
	enough := true
	for _, z := range r.tree.rolling {
		enough = enough && r.swaps[z.name] >= 1 && len(r.keys[z.name]) >= 4
	}
	r.mu.Unlock()
	if !enough {
		return false, nil
	}
	return r.settled()
}

// done reports whether all that is wanted has been seen in both zones: new keys
// of both kinds, two changes of the DS set and nothing left of the old algorithm.
func (r *roller) done() (bool, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, words := true, []string{}
	for _, z := range r.tree.rolling {
		old := slices.ContainsFunc(r.ds[z.name], func(rr dns.RR) bool { return rr.(*dns.DS).Algorithm != dns.ED25519 })
		m, err := ask(z.server.v4, z.name, dns.TypeDNSKEY)
		left := err != nil || slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
			k, ok := rr.(*dns.DNSKEY)
			return ok && k.Algorithm != dns.ED25519
		})
		all = all && r.swaps[z.name] >= 2 && len(r.keys[z.name]) >= 6 && !old && !left
		words = append(words, fmt.Sprintf("%s %d keys, %d changes of the DS set, old algorithm gone: %v", z.name, len(r.keys[z.name]), r.swaps[z.name], !old && !left))
	}
	return all, strings.Join(words, "; ")
}

// testRolling asks for things in both zones, from an empty cache and from one
// that lives on, while keys come and go.
func testRolling(t *testing.T, tr *tree, n *network, o *oracles) {
	r := newRoller(tr)
	lasting := n.openResolver(t, nil)
	start := time.Now()
	if err := tellNamed(r.named(), nil, r.named().ds); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		when func() (bool, error)
		do   func() error
	}{
		{"new keys at named", r.settled, r.rollNamed},
		{"another algorithm", r.rolled, r.newAlgorithm},
	}
	asked, end := 0, start.Add(120*time.Second)
	finished, words := false, ""
	for round := 0; !finished && time.Now().Before(end); round++ {
		if len(steps) > 0 {
			due, err := steps[0].when()
			if due {
				t.Logf("%s after %v", steps[0].name, time.Since(start).Round(time.Second))
				err, steps = steps[0].do(), steps[1:]
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, z := range tr.rolling {
			if err := r.look(z); err != nil {
				t.Errorf("%s: %v", z.name, err)
			}
			for _, q := range z.rollingQuestions(round) {
				asked += 2
				fresh := n.openResolver(t, nil)
				answers := map[string]result{
					"an empty cache":  judged(fresh.Lookup(t.Context(), q.name, q.qtype)),
					"a lasting cache": judged(lasting.Lookup(t.Context(), q.name, q.qtype)),
				}
				for who, mine := range answers {
					if !q.want.meets(mine) {
						u, err := o.unbound(q)
						t.Errorf("%v after the start, from %s: %s: %v; built as %v; unbound %v %v", time.Since(start).Round(time.Second), who, q, mine, q.want, u, err)
					}
				}
				fresh.Close()
			}
		}
		finished, words = r.done()
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d look-ups while keys were rolled for %v: %s", asked, time.Since(start).Round(time.Second), words)
	section(t, "40-rolling", fmt.Sprintf("\n## Keys rolled while look-ups go on\n\nKSK, ZSK and algorithm, by Knot's automation and by named as told; the parent follows their CDS records. %d look-ups in %v,\n"+
		"half of them from a cache that lives on, all right: %s.\n", asked, time.Since(start).Round(time.Second), words))
	if !finished {
		t.Error("the roll-overs did not come to their end")
	}
}

// rollingQuestions takes turns among data and denials.
func (z *zone) rollingQuestions(round int) []question {
	all := []question{
		{z.under("_25._tcp.mx"), dns.TypeTLSA, want{dns.RcodeSuccess, 1, "secure"}},
		{z.under("_25._tcp.nope"), dns.TypeTLSA, want{dns.RcodeNameError, 0, "secure"}},
		{z.name, dns.TypeMX, want{dns.RcodeSuccess, 2, "secure"}},
		{z.under("mx"), dns.TypeTLSA, want{dns.RcodeSuccess, 0, "secure"}},
		{z.under("x.wild"), dns.TypeA, want{dns.RcodeSuccess, 1, "secure"}},
	}
	return []question{all[0], all[1+round%(len(all)-1)]}
}
