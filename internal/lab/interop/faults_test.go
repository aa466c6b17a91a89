//go:build interop

package interop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// fault is one thing wrong with the path, and what the binary must make of it.
type fault struct {
	name  string
	rules rules
	nft   string // the same by nftables; "" where only the relay can do it
	// configured is the resolver that /etc/resolv.conf names; it counts with
	// forward = "auto".
	forward    string
	configured netip.Addr
	ask        string  // "mail" (default): small answers; "big": one that needs TCP
	right      float64 // least share of look-ups that must come out as built; the others must be refused
	says       string  // regular expression for what the reason of a refused one must tell
}

// incoming is an nftables chain over what comes along the path.
func incoming(statements ...string) string {
	return " chain filter { type filter hook input priority 0;\n  iifname != IN accept\n  " + strings.Join(statements, "\n  ") + "\n }\n"
}

func redirect53(to, except netip.Addr) string {
	return incoming("meta nfproto ipv6 udp dport 53 drop") +
		fmt.Sprintf(" chain nat { type nat hook prerouting priority -100;\n  iifname IN ip daddr != %s udp dport 53 dnat ip to %s\n }\n", except, to)
}

// overPaths lists the faults that are tried at the same time, each list on a
// path of its own. honest is a recursive server that validates nothing and
// passes everything on; thief one that strips DNSSEC.
func overPaths(honest, thief netip.Addr) map[string][]fault {
	nowhere := netip.MustParseAddr("10.53.254.9")
	return map[string][]fault{
		"Loss": {
			{name: "nothing", right: 1},
			{name: "loss of 20 % each way", rules: rules{loss: 0.2}, right: 0.9, says: "timed out"},
			{name: "delay of 150 ms", rules: rules{delay: 150 * time.Millisecond}, right: 1},
			{name: "delay of 60 to 140 ms, reordered", rules: rules{delay: 100 * time.Millisecond, jitter: 40 * time.Millisecond}, right: 1},
			{name: "loss of 10 % and delay, reordered", rules: rules{loss: 0.1, delay: 50 * time.Millisecond, jitter: 40 * time.Millisecond}, right: 0.9, says: "timed out"},
			{name: "fragments dropped, answers that need TCP", rules: rules{fragments: true}, ask: "big", right: 1},
			{name: "TCP 53 dropped", rules: rules{blockTCP: true}, nft: incoming("tcp dport 53 drop"), right: 0.9, says: `\(TCP\)`},
		},
		"Blocked": {
			{name: "TCP 53 dropped, answers that need it", rules: rules{blockTCP: true}, nft: incoming("tcp dport 53 drop"), ask: "big", says: `\(TCP\)`},
			{name: "TCP 53 refused, answers that need it", nft: incoming("tcp dport 53 reject with tcp reset"), ask: "big", says: `\(TCP\)`},
			{name: "UDP 53 dropped", rules: rules{blockUDP: true}, nft: incoming("udp dport 53 drop"), says: "timed out"},
		},
		"Refused": {
			{name: "UDP 53 forbidden by ICMP", nft: incoming("udp dport 53 reject with icmpx admin-prohibited"), says: "no route|prohibited|permission|timed out"},
			{name: "UDP 53 intercepted by a thief, no forwarding", rules: rules{redirect: thief}, nft: redirect53(thief, nowhere), says: "has no RRSIG"},
		},
		"Resolver": { // the only ones that read /etc/resolv.conf
			{name: "UDP 53 dropped, a resolver at hand", rules: rules{blockUDP: true, spare: honest},
				nft: incoming("ip daddr "+honest.String()+" accept", "udp dport 53 drop"), forward: "auto", configured: honest, right: 1},
			{name: "UDP and TCP 53 dropped, a dead resolver", rules: rules{blockUDP: true, blockTCP: true}, forward: "auto", configured: nowhere, says: "timed out"},
			{name: "UDP 53 intercepted by an honest resolver", rules: rules{redirect: honest},
				nft: redirect53(honest, nowhere), forward: "auto", configured: honest, right: 1},
			{name: "UDP 53 intercepted by a thief, a resolver at hand", rules: rules{redirect: thief, spare: honest},
				nft: redirect53(thief, honest), forward: "auto", configured: honest, right: 1},
			{name: "UDP 53 intercepted by a thief, the resolver's too", rules: rules{redirect: thief},
				nft: redirect53(thief, nowhere), forward: "auto", configured: honest, says: "forwarder .* leaves out DNSSEC"},
		},
	}
}

// testFaults runs the real binary behind paths in every state.
func testFaults(t *testing.T, tr *tree, n *network, o *oracles) {
	thief := serveThief(t, o.carrier)
	resolv, err := ownResolvConf()
	if err != nil {
		t.Fatal(err)
	}
	lists := overPaths(o.carrier, thief)
	section(t, "50-faults", "\n## Faults in the path\n\nThe binary in a network namespace whose only way to the servers is a relay that does this, or nftables before it. What does not\n"+
		"come out right must be refused, with a reason that says why.\n"+heading("fault", "by", "right", "slowest", "a reason of the others"))
	for i, name := range sortedKeys(lists) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := openPath(t, i+1)
			rows := ""
			defer func() { section(t, "51-faults-"+name, rows) }()
			for _, f := range lists[name] {
				if f.configured.IsValid() {
					if err := os.WriteFile(resolv, []byte("nameserver "+f.configured.String()+"\n"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				rows += f.inEachWay(t, p, tr, n)
			}
		})
	}
	t.Run("SMTP", func(t *testing.T) {
		t.Parallel()
		testBlockedSMTP(t, openPath(t, len(lists)+1), tr, n)
	})
}

// inEachWay runs the fault by nftables where it can be, and also by the relay
// where that does more than to drop, so that what kernels without nftables need
// is tried as well.
func (f *fault) inEachWay(t *testing.T, p *path, tr *tree, n *network) (rows string) {
	ways := []bool{f.nft != ""}
	if f.nft != "" && (f.rules.redirect.IsValid() || f.rules.spare.IsValid()) {
		ways = append(ways, false)
	}
	for _, byNftables := range ways {
		if f.rules.redirect.IsValid() {
			p.open(t)
			time.Sleep(1500 * time.Millisecond) // the kernel forgets old redirections
		}
		way := p.inState(t, f.nft, f.rules, byNftables)
		if way == "" {
			t.Logf("%s: left out, the kernel has no nftables", f.name)
			continue
		}
		rows += f.run(t, p, tr, n, way)
		if s := p.counted(); s.packets == 0 {
			t.Errorf("%s: no packet came along the path", f.name)
		}
	}
	return rows
}

// ownResolvConf puts a file of ours in the place of /etc/resolv.conf, for this
// mount namespace, and returns its name.
func ownResolvConf() (string, error) {
	dir, err := workDir("tree")
	if err != nil {
		return "", err
	}
	file := dir + "/resolv.conf"
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return "", err
	}
	return file, unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, "")
}

// run asks for things in zones of every kind and judges what came of it.
func (f *fault) run(t *testing.T, p *path, tr *tree, n *network, way string) string {
	config := strings.TrimSuffix(n.config, ".toml") + "-" + p.name + ".toml"
	text, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	forward := f.forward
	if forward == "" {
		forward = "off"
	}
	if err := os.WriteFile(config, append(text, fmt.Sprintf("forward = %q\n", forward)...), 0o644); err != nil {
		t.Fatal(err)
	}
	far := *n
	far.config, far.in = config, p.name
	says := regexp.MustCompile(f.says)
	var mu sync.Mutex
	var jobs []func() error
	right, refusals, slowest := 0, map[string]int{}, time.Duration(0)
	for i, z := range tr.leaves {
		if i%3 != 0 {
			continue
		}
		q := []question{
			{z.under("_25._tcp.mx"), dns.TypeTLSA, want{dns.RcodeSuccess, 1, "secure"}},
			{z.name, dns.TypeMX, want{dns.RcodeSuccess, 2, "secure"}},
			{z.under("www.plain"), dns.TypeA, want{dns.RcodeSuccess, 1, "insecure"}},
		}[i/3%3]
		if f.ask == "big" {
			q = question{z.under("big"), dns.TypeTXT, want{dns.RcodeSuccess, 10, "secure"}}
		}
		jobs = append(jobs, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
			defer cancel()
			r, out, err := far.lookup(ctx, q)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, time.Duration(out.ElapsedMS)*time.Millisecond)
			switch {
			case q.want.meets(r):
				right++
			case r.status != refused:
				return fmt.Errorf("%s (%s): %s: %v; built as %v", f.name, way, q, r, q.want)
			default:
				refusals[r.note]++
				if !says.MatchString(r.note) || f.says == "" {
					return fmt.Errorf("%s (%s): %s: the reason %q does not match %q", f.name, way, q, r.note, f.says)
				}
			}
			return nil
		})
	}
	start := time.Now()
	for i, err := range runAll(jobs, 22) {
		if i < 3 {
			t.Error(err)
		}
	}
	share := float64(right) / float64(len(jobs))
	if share < f.right || f.right == 0 && right > 0 {
		t.Errorf("%s (%s): %d of %d look-ups came out right", f.name, way, right, len(jobs))
	}
	t.Logf("%-55s %-9s %2d of %2d right, slowest %.1f s, all in %.1f s; %s", f.name, way, right, len(jobs), slowest.Seconds(), time.Since(start).Seconds(), common(refusals))
	return row(f.name, way, fmt.Sprintf("%d of %d", right, len(jobs)), fmt.Sprintf("%.1f s", slowest.Seconds()), common(refusals))
}

// common shows one of the reasons given.
func common(reasons map[string]int) string {
	for r := range reasons {
		if len(r) > 160 {
			r = r[:160] + "..."
		}
		return r
	}
	return ""
}

// serveThief runs a resolver that answers by way of another and takes all of
// DNSSEC out, as boxes in hotels do.
func serveThief(t *testing.T, honest netip.Addr) netip.Addr {
	t.Helper()
	at := honest.Next()
	if err := ownAddress(at); err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", net.JoinHostPort(at.String(), "53"))
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if len(q.Question) != 1 {
			return
		}
		m, err := recurse(honest, question{name: q.Question[0].Name, qtype: q.Question[0].Qtype}, true)
		if err != nil {
			return
		}
		out := new(dns.Msg).SetReply(q)
		out.RecursionAvailable, out.Rcode = true, m.Rcode
		keep := func(rrs []dns.RR) (kept []dns.RR) {
			for _, rr := range rrs {
				switch rr.Header().Rrtype {
				case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeOPT:
				default:
					kept = append(kept, rr)
				}
			}
			return kept
		}
		out.Answer, out.Ns = keep(m.Answer), keep(m.Ns)
		out.Compress = true
		w.WriteMsg(out) //nolint:errcheck // the client is gone
	})
	s := &dns.Server{PacketConn: pc, Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ActivateAndServe() //nolint:errcheck // it returns when it is shut down
	}()
	t.Cleanup(func() {
		s.Shutdown() //nolint:errcheck // "not started" is as good
		pc.Close()
		<-done
	})
	return at
}
