//go:build interop

package interop

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"danepost/internal/lab"
)

// posttls-finger is Postfix's own code for finding out, up to EHLO over TLS,
// what its delivery to a domain would do. Here it and danepost check judge the
// same random set-ups of certificates and TLSA records.

// validatorAddr is where Postfix, which has no validator of its own, asks.
const validatorAddr = "10.53.28.53"

// setup is one domain.
type setup struct {
	domain string
	words  []string // what is special about it
	id     *lab.Identity
}

func (s *setup) is(format string, args ...any) {
	s.words = append(s.words, fmt.Sprintf(format, args...))
}

// fingerNet builds the domains. The random numbers decide everything but the keys.
type fingerNet struct {
	rng      *rand.Rand
	lab      *lab.Lab
	signed   *lab.Zone
	unsigned *lab.Zone
	setups   []*setup
}

// Where the MX host's name is, and what its zone does.
const (
	inSigned   = iota
	inUnsigned // no TLSA can be had
	mxUnsigned // the domain itself is unsigned, its MX host is not
	aliased    // the MX host is an alias into the signed zone, TLSA at the target
	aliasOwn   // likewise, TLSA at the alias
	aliasOut   // an alias into the unsigned zone
	tlsaAlias  // the TLSA owner is an alias
	tlsaFails  // SERVFAIL for the TLSA records
	tlsaForged // TLSA records without their signatures
	noMX       // the domain is its own mail server
	places
)

func newFingerNet(seed uint64) *fingerNet {
	f := &fingerNet{rng: rand.New(rand.NewPCG(seed, 7672)), lab: lab.New(lab.Options{DNSPort: 53, SMTPPort: 25})}
	f.lab.Zone("finger.", lab.Signing{})
	f.signed = f.lab.Zone("signed.finger.", lab.Signing{Denial: lab.NSEC3})
	f.unsigned = f.lab.Zone("unsigned.finger.", lab.Signing{None: true})
	return f
}

// add makes one more domain.
func (f *fingerNet) add(place int) {
	n := len(f.setups)
	s := &setup{domain: fmt.Sprintf("d%d.signed.finger", n)}
	host := fmt.Sprintf("mx%d.signed.finger", n)
	switch place {
	case inUnsigned:
		host = fmt.Sprintf("mx%d.unsigned.finger", n)
	case mxUnsigned:
		s.domain = fmt.Sprintf("d%d.unsigned.finger", n)
	case noMX:
		host = s.domain
	}
	ids := f.certificates(s, host)
	r := f.lab.Receiver(host, s.id)
	base, at := host, f.zone(host)
	at.Add(host + ". A " + r.Addr())
	if place != noMX {
		f.zone(s.domain).Add(fmt.Sprintf("%s. MX 10 %s.", s.domain, f.mx(place, n, host, &base)))
	}
	owner := "_25._tcp." + base + "."
	switch place {
	case tlsaAlias:
		f.signed.Add(owner + " CNAME tlsa.d" + fmt.Sprint(n))
		owner = fmt.Sprintf("tlsa.d%d.signed.finger.", n)
	case tlsaFails:
		f.signed.Wrap(lab.At(owner, lab.Fail(dns.RcodeServerFailure, dns.TypeTLSA)))
	case tlsaForged:
		f.signed.Wrap(lab.At(owner, lab.StripSignatures))
	}
	s.is("%s", []string{"MX signed", "MX host unsigned", "MX unsigned, its host signed", "MX host is an alias, TLSA at the target", "MX host is an alias, TLSA at the alias",
		"MX host is an alias into an unsigned zone", "TLSA owner is an alias", "TLSA: SERVFAIL", "TLSA: signatures stripped", "no MX"}[place])
	for range 1 + f.rng.IntN(3) {
		f.zone(owner).Add(owner + " TLSA " + f.tlsa(s, ids))
	}
	f.setups = append(f.setups, s)
}

// mx is the name in the MX record; base becomes the name that has the TLSA records.
func (f *fingerNet) mx(place, n int, host string, base *string) string {
	alias := fmt.Sprintf("alias%d.signed.finger", n)
	switch place {
	case aliased:
		f.signed.Add(alias + ". CNAME " + host + ".")
		return alias
	case aliasOwn:
		f.signed.Add(alias + ". CNAME " + host + ".")
		*base = alias
		return alias
	case aliasOut:
		f.signed.Add(alias + fmt.Sprintf(". CNAME alias%d.unsigned.finger.", n))
		f.unsigned.Add(fmt.Sprintf("alias%d.unsigned.finger. CNAME %s.", n, host))
		*base = alias
		return alias
	}
	return host
}

func (f *fingerNet) zone(name string) *lab.Zone {
	if strings.Contains(name, "unsigned") {
		return f.unsigned
	}
	return f.signed
}

// certificates chooses what the receiver shows and returns what TLSA records
// may be about: the leaf, those above it, and a stranger's.
func (f *fingerNet) certificates(s *setup, host string) []*x509.Certificate {
	root := issuer{}.authority("root of "+host, nil)
	mid := root.authority("intermediate of "+host, nil)
	stranger := issuer{}.newCert(ecKey(), nil, host)
	send := func(c issuer, above ...issuer) []*x509.Certificate {
		chain := []*x509.Certificate{c.cert}
		for _, a := range above {
			chain = append(chain, a.cert)
		}
		s.id = lab.NewIdentity(c.key, chain...)
		return append(chain, root.cert, stranger.cert)
	}
	key := ecKey()
	if f.rng.IntN(6) == 0 {
		key = rsaKey()
	}
	switch f.rng.IntN(20) {
	case 0:
		s.is("self-signed")
		return send(issuer{}.newCert(key, nil, host))
	case 1:
		s.is("self-signed for another name, expired")
		return send(issuer{}.newCert(key, expired, "other.test"))
	case 2:
		s.is("self-signed CA")
		return send(issuer{}.newCert(key, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }, host))
	case 3, 4:
		s.is("leaf and root")
		return send(root.newCert(key, nil, host), root)
	case 5:
		s.is("leaf without its root")
		return send(root.newCert(key, nil, host))
	case 6:
		s.is("leaf, intermediate, root")
		return send(mid.newCert(key, nil, host), mid, root)
	case 7:
		s.is("leaf and intermediate without the root")
		return send(mid.newCert(key, nil, host), mid)
	case 8:
		s.is("expired leaf")
		return send(root.newCert(key, expired, host), root)
	case 9:
		s.is("expired intermediate")
		old := root.authority("old intermediate of "+host, expired)
		return send(old.newCert(key, nil, host), old, root)
	case 10:
		s.is("leaf for another name")
		return send(root.newCert(key, nil, "other.test"), root)
	case 11:
		s.is("leaf for the domain, not its host")
		return send(root.newCert(key, nil, s.domain), root)
	case 12:
		s.is("leaf for a wildcard")
		return send(root.newCert(key, nil, "*"+host[strings.Index(host, "."):]), root)
	case 13:
		s.is("leaf with its name in the CN only")
		return send(root.newCert(key, func(c *x509.Certificate) { c.DNSNames = nil }, host), root)
	case 14:
		s.is("leaf with its name in the CN, another in the SAN")
		return send(root.newCert(key, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }, host), root)
	case 15:
		s.is("intermediate that is no CA")
		fake := root.newCert(ecKey(), nil, "not a CA")
		return send(fake.newCert(key, nil, host), fake, root)
	case 16:
		s.is("path length exceeded")
		short := root.authority("path length 0", func(c *x509.Certificate) { c.MaxPathLenZero = true })
		deep := short.authority("one too deep", nil)
		return send(deep.newCert(key, nil, host), deep, short, root)
	case 17:
		s.is("leaf for clients only")
		return send(root.newCert(key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, host), root)
	}
	s.is("no STARTTLS")
	return []*x509.Certificate{stranger.cert}
}

// tlsa makes a record about one of the certificates.
func (f *fingerNet) tlsa(s *setup, about []*x509.Certificate) string {
	i := f.rng.IntN(len(about))
	usage := uint8(2)
	if i == 0 {
		usage = 3
	}
	switch f.rng.IntN(10) {
	case 0:
		usage = uint8(f.rng.IntN(4))
	case 1:
		usage ^= 1
	}
	data := lab.TLSA(usage, uint8(f.rng.IntN(2)), uint8(f.rng.IntN(3)), about[i])
	note := ""
	switch f.rng.IntN(16) {
	case 0:
		data, note = data[:len(data)-2], " cut short"
	case 1:
		data, note = data[:4]+"3"+data[5:], " (matching type 3)"
	case 2:
		data, note = data[:2]+"2"+data[3:], " (selector 2)"
	}
	who := "certificate above it"
	switch {
	case i == len(about)-1:
		who = "stranger"
	case i == 0:
		who = "leaf"
	case about[i].Equal(about[len(about)-2]):
		who = "root"
	}
	s.is("%s of the %s%s", data[:5], who, note)
	return data
}

// checkJSON is what others may rely on in `danepost check --json`.
type checkJSON struct {
	Verdict string
	Reason  string
	Hosts   []struct {
		Level, Error string
		Probes       []struct{ Verdict, Error string }
	}
}

// ours is danepost's verdict in one of four words, and why.
func (n *network) ours(ctx context.Context, domain string) (verdict, why string, err error) {
	stdout, stderr, code, err := runBinary(ctx, n.config, "check", "--json", domain)
	var c checkJSON
	if err == nil {
		err = json.Unmarshal([]byte(stdout), &c)
	}
	if err != nil {
		return "", "", fmt.Errorf("danepost check %s: %w (exit status %d)\n%s%s", domain, err, code, stdout, stderr)
	}
	if (c.Verdict == "deliverable") != (code == 0) {
		return "", "", fmt.Errorf("danepost check %s: %s with exit status %d", domain, c.Verdict, code)
	}
	if len(c.Hosts) != 1 || len(c.Hosts[0].Probes) == 0 {
		why = c.Reason
		if len(c.Hosts) > 0 {
			why += c.Hosts[0].Error
		}
		return "refused", why, nil
	}
	p := c.Hosts[0].Probes[0]
	words := map[string]string{
		"dane-verified": "verified", "dane-host": "verified", "dane-unauthenticated": "encrypted",
		"encrypted": "encrypted", "plaintext": "plaintext", "failed": "refused",
	}
	verdict = words[p.Verdict]
	if verdict == "" || (verdict == "refused") == (code == 0) {
		return "", "", fmt.Errorf("danepost check %s: probe %q with exit status %d", domain, p.Verdict, code)
	}
	return verdict, p.Error, nil
}

func testFinger(t *testing.T) {
	const count = 120
	seed := *brokenSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d set-ups; the same again: go test -tags interop -count 1 -v ./internal/lab/interop -run TestMail/Finger -args -seed %d", count, seed)
	f := newFingerNet(seed)
	for i := range count {
		place := i / 2 % places // each of them, and half of all in the plain one
		if i%2 == 1 {
			place = inSigned
		}
		f.add(place)
	}
	if err := f.lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.lab.Close()
	dir, err := workDir("finger")
	if err != nil {
		t.Fatal(err)
	}
	n, err := writeNetwork(dir, []netip.Addr{netip.MustParseAddr(f.lab.Root().Addr())}, []dns.RR{f.lab.Root().DS()})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoot(t, "finger", "postfix")
	validator, err := n.startUnbound("unbound", "validator iterator", netip.MustParseAddr(validatorAddr))
	if err != nil {
		t.Fatal(err)
	}
	validator.stopAtEnd(t)
	if err := r.write(map[string]string{
		"/etc/resolv.conf": "nameserver " + validatorAddr + "\noptions edns0 trust-ad timeout:5\n",
	}); err != nil {
		t.Fatal(err)
	}
	f.compare(t, n, r)
}

// compare lets both judge all set-ups. What posttls-finger does not say is what
// Postfix would make of a connection that is not verified: that its delivery shows.
func (f *fingerNet) compare(t *testing.T, n *network, r *root) {
	delivered, err := f.deliver(t, r)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownDifferences("testdata/finger.txt")
	if err != nil {
		t.Fatal(err)
	}
	var jobs []func() error
	var mu sync.Mutex
	counts, explained := map[string]int{}, map[string]int{}
	for _, s := range f.setups {
		jobs = append(jobs, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			ours, why, err := n.ours(ctx, s.domain)
			if err != nil {
				return err
			}
			out, err := r.do(call{argv: []string{"posttls-finger", "-c", "-t", "10", "-T", "10", "-l", "dane", "-L", "summary", s.domain}})
			if err != nil {
				return err
			}
			theirs := theirVerdict(out.stdout+out.stderr, delivered[s.domain])
			reason := known.find(ours, theirs, s.words)
			mu.Lock()
			defer mu.Unlock()
			if counts[ours]++; ours == theirs {
				return nil
			} else if reason != "" {
				explained[fmt.Sprintf("%s here, %s to Postfix: %s", ours, theirs, reason)]++
				t.Logf("%s %s, to Postfix %s: %s", s.domain, ours, theirs, reason)
				return nil
			}
			return fmt.Errorf("%s (%s): %s (%s); to Postfix it is %s:\n%s%s%s", s.domain, strings.Join(s.words, "; "), ours, why, theirs,
				out.stdout, out.stderr, delivered[s.domain])
		})
	}
	if errs := runAll(jobs, 4); len(errs) > 0 {
		t.Error(errors.Join(errs...))
	}
	t.Logf("danepost's verdicts: %v", counts)
	section(t, "70-finger", fingerTable(len(f.setups), counts, explained))
}

// theirVerdict is Postfix's verdict in the words of ours.
func theirVerdict(finger, delivery string) string {
	insecure := strings.Contains(finger, "MX RRset insecure") // then nothing is called verified
	switch {
	case strings.Contains(finger, "Verified TLS connection"), insecure && strings.Contains(finger, "Trusted TLS connection"):
		return "verified"
	case !strings.Contains(delivery, "status=sent"):
		return "refused"
	case strings.Contains(finger, "TLS connection established"):
		return "encrypted"
	}
	return "plaintext"
}

// deliver has Postfix send one message to all domains and returns its log
// line about each.
func (f *fingerNet) deliver(t *testing.T, r *root) (map[string]string, error) {
	d, err := startPostfix(r, fingerMain, "")
	if err != nil {
		return nil, err
	}
	d.stopAtEnd(t)
	argv := []string{"sendmail", "-f", "alice@interop.test", "-i"}
	for _, s := range f.setups {
		argv = append(argv, "box@"+s.domain)
	}
	pattern := regexp.MustCompile(`to=<box@([^>]+)>.* status=.*`)
	out := map[string]string{}
	if err := d.ready(20*time.Second, func() error {
		if !exists(r.path("/var/spool/postfix/public/pickup")) {
			return errors.New("no pickup")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if ran, err := r.do(call{argv: argv, stdin: "Subject: one for all\n\nthe body\n"}); err != nil || ran.code != 0 {
		return nil, fmt.Errorf("Postfix's sendmail: %v, exit status %d: %s", err, ran.code, ran.stderr)
	}
	return out, d.ready(90*time.Second, func() error {
		text, err := os.ReadFile(r.path("/var/log/postfix.log"))
		if err != nil {
			return err
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			out[m[1]] = m[0]
		}
		if len(out) < len(f.setups) {
			return fmt.Errorf("Postfix has tried %d of %d domains", len(out), len(f.setups))
		}
		return nil
	})
}

const fingerMain = `myhostname = interop.test
alias_maps =
mydestination =
smtp_tls_security_level = dane
smtp_dns_support_level = dnssec
smtp_host_lookup = dns
smtp_tls_loglevel = 1
`

// difference is a verdict in which danepost and another program are known to differ.
type difference struct {
	ours, theirs string
	words        []string // of the set-up, all of which must be there
	reason       string
}

type differences []difference

// knownDifferences reads lines of the form "ours | theirs | word; word | reason".
func knownDifferences(file string) (differences, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out differences
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.SplitN(line, " | ", 4)
		if len(part) != 4 {
			return nil, fmt.Errorf("%s: %q", file, line)
		}
		out = append(out, difference{part[0], part[1], strings.Split(part[2], "; "), part[3]})
	}
	return out, nil
}

// find returns the reason for a difference, "" for one that nobody explained.
func (known differences) find(ours, theirs string, words []string) string {
	for _, d := range known {
		if d.ours != ours || d.theirs != theirs {
			continue
		}
		if !slices.ContainsFunc(d.words, func(w string) bool {
			return !slices.ContainsFunc(words, func(have string) bool { return strings.Contains(have, w) })
		}) {
			return d.reason
		}
	}
	return ""
}
