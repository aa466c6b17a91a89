package deliver

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"danepost/queue"
)

// TestPolicyTable reads testdata/policy.txt, which says in its head how.
func TestPolicyTable(t *testing.T) {
	text, err := os.ReadFile("testdata/policy.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), "\n== ")
	if len(cases) < 50 {
		t.Fatalf("only %d cases", len(cases)-1)
	}
	for _, c := range cases[1:] {
		title, body, _ := strings.Cut(c, "\n")
		t.Run(title, func(t *testing.T) { runPolicyCase(t, body) })
	}
}

func runPolicyCase(t *testing.T, body string) {
	cfg := Config{Hostname: "out.sender.example"}
	to := "good.example"
	var facts, want []string
	require := false
	for _, line := range strings.Split(body, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		switch w[0] {
		case "policy":
			level, err := ParseLevel(w[2])
			if err != nil {
				t.Fatal(err)
			}
			p := Policy{Domain: w[1], TLS: level}
			if len(w) == 5 {
				p.Via = w[4]
			}
			cfg.Policies = append(cfg.Policies, p)
		case "relay":
			host, port, _ := strings.Cut(w[1], ":")
			n, _ := strconv.Atoi(port)
			cfg.Relay = &Relay{Host: host, Port: uint16(n)}
		case "hostname":
			cfg.Hostname = w[1]
		case "to":
			to = w[1]
		case "requiretls":
			require = true
		case ">":
			want = append(want, strings.Join(w[1:], " "))
		default:
			line = strings.ReplaceAll(line, " H", " "+strings.Repeat("ab", 32))
			facts = append(facts, strings.ReplaceAll(line, " S", " "+strings.Repeat("cd", 64)))
		}
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	dns := newDNS(t, facts...)
	d := New(cfg, dns)
	defer d.Close()
	got := renderPlan(d, to, require)
	if diff := cmp.Diff(want, append(got, askedTLSA(dns))); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func renderPlan(d *Deliverer, to string, require bool) []string {
	ctx := context.Background()
	r := d.findRoute(ctx, d.cfg.hopFor(domainOf("someone@"+to)))
	if r.problem != nil {
		return []string{"route " + r.mxStatus + " " + renderProblem(r.problem)}
	}
	out := []string{"route " + r.mxStatus}
	for i := 0; i < len(r.groups); i++ {
		for _, f := range d.findGroup(ctx, &r, i) {
			p := d.findPlan(ctx, &r, f)
			if require {
				p.demandRequireTLS(&r)
			}
			s := fmt.Sprintf("host %s %d %s/%s ", p.host, p.preference, p.addressStatus, p.tlsaStatus)
			if p.problem != nil {
				out = append(out, s+renderProblem(p.problem))
				continue
			}
			way := "insecure"
			if p.secure {
				way = "secure"
			}
			s += fmt.Sprintf("%s base=%s names=%s way=%s", p.level, p.base, strings.Join(p.names, ","), way)
			if p.unauthenticated {
				s += " unauthenticated"
			}
			out = append(out, s)
		}
	}
	return out
}

func renderProblem(f *failure) string {
	if f.permanent {
		return "reject " + f.code
	}
	return "defer " + f.code
}

func askedTLSA(dns *fakeDNS) string {
	s := "tlsa"
	for _, q := range dns.asked {
		if name, ok := strings.CutSuffix(q, " TLSA"); ok {
			_, base, _ := strings.Cut(name, "._tcp.")
			s += " " + base
		}
	}
	if s == "tlsa" {
		return "tlsa none"
	}
	return s
}

func TestDestination(t *testing.T) {
	d := New(Config{Relay: &Relay{Host: "Smtp.Relay.example"}, Policies: []Policy{
		{Domain: "partner.example", Via: "mx.partner.example:26"},
		{Domain: ".lan.example", Via: "192.0.2.1"},
	}}, nil)
	for in, want := range map[string]string{
		"a@Anything.example":    "smtp.relay.example:587",
		"a@PARTNER.example":     "mx.partner.example:26/partner.example",
		"a@b.lan.example":       "192.0.2.1/.lan.example",
		"no-domain":             "smtp.relay.example:587",
		`"a@b"@partner.example`: "mx.partner.example:26/partner.example",
	} {
		if got := d.Destination(in); got != want {
			t.Errorf("Destination(%q) = %q, want %q", in, got, want)
		}
	}
	if got := New(Config{}, nil).Destination("a@EXAMPLE.org."); got != "example.org" {
		t.Errorf("got %q", got)
	}
	var _ queue.Handler = d
}

func TestValidate(t *testing.T) {
	good := strings.Repeat("ab:", 31) + "ab"
	for _, tc := range []struct {
		name string
		cfg  Config
		want string // part of the error, "" for none
	}{
		{"empty", Config{}, ""},
		{"fingerprint", Config{Policies: []Policy{{Domain: "a", TLS: LevelFingerprint, Fingerprints: []string{good}}}}, ""},
		{"no fingerprints", Config{Policies: []Policy{{Domain: "a", TLS: LevelFingerprint}}}, "needs fingerprints"},
		{"bad fingerprint", Config{Policies: []Policy{{Domain: "a", TLS: LevelFingerprint, Fingerprints: []string{"abcd"}}}}, "not a SHA-256"},
		{"stray fingerprints", Config{Policies: []Policy{{Domain: "a", Fingerprints: []string{good}}}}, `need tls = "fingerprint"`},
		{"fingerprint for all", Config{TLS: LevelFingerprint}, "only in a policy"},
		{"no domain", Config{Policies: []Policy{{}}}, "domain is missing"},
		{"bad via", Config{Policies: []Policy{{Domain: "a", Via: "host:port"}}}, "not \"host:port\""},
		{"password without via", Config{Policies: []Policy{{Domain: "a", Username: "u"}}}, "needs via"},
		{"password in the clear", Config{Policies: []Policy{{Domain: "a", Via: "b:25", Username: "u", TLS: LevelMay}}}, "verifies the host"},
		{"relay without host", Config{Relay: &Relay{}}, "host is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.cfg.Validate()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestPlanNeverWeakens: over random look-up results, a secure TLSA record set
// always makes TLS mandatory, a failed look-up is always a deferral, and
// nothing unproved is called secure.
func TestPlanNeverWeakens(t *testing.T) {
	status := rapid.SampledFrom([]string{"secure", "insecure", "bogus", "indeterminate"})
	rapid.Check(t, func(rt *rapid.T) {
		mx, a, tl := status.Draw(rt, "mx"), status.Draw(rt, "a"), status.Draw(rt, "tlsa")
		aaaa := status.Draw(rt, "aaaa")
		sixes := rapid.SampledFrom([]string{"nodata", "2001:db8::1"}).Draw(rt, "sixes")
		records := rapid.SampledFrom([]string{"nodata", "nxdomain", "3 1 1 " + strings.Repeat("ab", 32), "1 1 1 " + strings.Repeat("ab", 32), "raw 03"}).Draw(rt, "records")
		level := rapid.SampledFrom([]Level{LevelDANE, LevelDANEOnly}).Draw(rt, "level")
		dns := newDNS(t, fmt.Sprintf("good.example MX %s 10 mx.good.example\nmx.good.example A %s 192.0.2.1\nmx.good.example AAAA %s %s\n_25._tcp.mx.good.example TLSA %s %s", mx, a, aaaa, sixes, tl, records))
		d := New(Config{TLS: level}, dns)
		ctx := context.Background()
		r := d.findRoute(ctx, d.cfg.hopFor("good.example"))
		bad := func(s string) bool { return s == "bogus" || s == "indeterminate" }
		if bad(mx) != (r.problem != nil) || (r.problem != nil && r.problem.permanent) {
			rt.Fatalf("route %+v", r.problem)
		}
		if r.problem != nil {
			return
		}
		p := d.findPlan(ctx, &r, d.findGroup(ctx, &r, 0)[0])
		asked := slices.Contains(dns.asked, "_25._tcp.mx.good.example TLSA")
		secureAddress := a == "secure" || aaaa == "secure" && sixes != "nodata"
		exists := strings.HasPrefix(records, "3") || strings.HasPrefix(records, "1") || strings.HasPrefix(records, "raw")
		switch {
		case p.problem != nil && p.problem.permanent:
			rt.Fatalf("rejected: %+v", p.problem)
		case asked && !secureAddress:
			rt.Fatal("TLSA asked for an unsigned host")
		case asked && bad(tl) && p.problem == nil:
			rt.Fatal("a failed TLSA look-up was passed over")
		case p.problem == nil && asked && tl == "secure" && exists && !p.demandsTLS():
			rt.Fatalf("TLS is not mandatory: %+v", p)
		case p.problem == nil && secureAddress && !asked:
			rt.Fatal("TLSA was not asked for")
		case p.secure && mx != "secure":
			rt.Fatal("called secure")
		case p.problem == nil && level == LevelDANEOnly && p.level != LevelDANEOnly:
			rt.Fatalf("dane-only became %s", p.level)
		}
	})
}
