package deliver

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"danepost/resolver"
	"danepost/resolver/dnssec"
)

// fakeDNS answers from a list of facts, one a line:
//
//	NAME TYPE [link STATUS TARGET]... STATUS DATA...
//
// DATA is nodata, nxdomain, or records separated by " | "; STATUS bogus and
// indeterminate take no data. What is not listed is a secure NXDOMAIN. It
// remembers what it was asked.
type fakeDNS struct {
	t       testing.TB
	answers map[string]*resolver.Answer

	mu    sync.Mutex
	asked []string
	hook  func(key string) // called for each question
}

var typeNumbers = map[string]uint16{"A": resolver.TypeA, "AAAA": resolver.TypeAAAA, "MX": resolver.TypeMX, "TLSA": resolver.TypeTLSA}

func newDNS(t testing.TB, facts ...string) *fakeDNS {
	f := &fakeDNS{t: t, answers: map[string]*resolver.Answer{}}
	for _, group := range facts {
		for _, line := range strings.Split(group, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				f.add(line)
			}
		}
	}
	return f
}

func mustName(t testing.TB, s string) dnssec.Name {
	n, err := dnssec.ParseName(s)
	if err != nil {
		t.Fatalf("name %q: %v", s, err)
	}
	return n
}

func parseStatus(t testing.TB, s string) dnssec.Status {
	for _, x := range []dnssec.Status{dnssec.Secure, dnssec.Insecure, dnssec.Bogus, dnssec.Indeterminate} {
		if x.String() == s {
			return x
		}
	}
	t.Fatalf("no status: %q", s)
	return 0
}

func (f *fakeDNS) add(line string) {
	words := strings.Fields(line)
	if len(words) < 3 {
		f.t.Fatalf("fact %q", line)
	}
	name, typ := words[0], words[1]
	a := &resolver.Answer{Name: mustName(f.t, name), Type: typeNumbers[typ], Final: mustName(f.t, name)}
	worst := dnssec.Secure
	words = words[2:]
	for words[0] == "link" {
		st := parseStatus(f.t, words[1])
		to := mustName(f.t, words[2])
		a.Links = append(a.Links, resolver.Link{Owner: a.Final, Target: to, Type: resolver.TypeCNAME, Status: st})
		a.Final, worst, words = to, worst.Weaker(st), words[3:]
	}
	a.FinalStatus = parseStatus(f.t, words[0])
	a.Status = worst.Weaker(a.FinalStatus)
	data := strings.Join(words[1:], " ")
	switch {
	case a.Status == dnssec.Bogus || a.Status == dnssec.Indeterminate:
		a.Rcode, a.Text = 2, "test says so"
	case data == "nxdomain":
		a.Rcode = 3
	case data == "nodata":
	default:
		for _, rec := range strings.Split(data, " | ") {
			a.RRs = append(a.RRs, resolver.RR{Name: a.Final, Type: a.Type, TTL: 300, Data: f.rdata(a.Type, rec)})
		}
	}
	if a.Status == dnssec.Secure {
		a.SignatureEnd = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	f.answers[strings.ToLower(name)+" "+typ] = a
}

func (f *fakeDNS) rdata(typ uint16, s string) []byte {
	w := strings.Fields(s)
	switch typ {
	case resolver.TypeMX:
		n, _ := strconv.Atoi(w[0])
		return append([]byte{byte(n >> 8), byte(n)}, mustName(f.t, w[1])...)
	case resolver.TypeTLSA:
		if w[0] == "raw" {
			b, _ := hex.DecodeString(strings.Join(w[1:], ""))
			return b
		}
		var b []byte
		for _, x := range w[:3] {
			n, _ := strconv.Atoi(x)
			b = append(b, byte(n))
		}
		data, err := hex.DecodeString(w[3])
		if err != nil {
			f.t.Fatalf("TLSA %q: %v", s, err)
		}
		return append(b, data...)
	}
	ip, err := netip.ParseAddr(w[0])
	if err != nil {
		f.t.Fatalf("address %q: %v", s, err)
	}
	return ip.AsSlice()
}

func (f *fakeDNS) Lookup(ctx context.Context, name string, qtype uint16) *resolver.Answer {
	typ := map[uint16]string{resolver.TypeA: "A", resolver.TypeAAAA: "AAAA", resolver.TypeMX: "MX", resolver.TypeTLSA: "TLSA"}[qtype]
	key := strings.ToLower(strings.TrimSuffix(name, ".")) + " " + typ
	f.mu.Lock()
	f.asked = append(f.asked, key)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		hook(key)
	}
	if a := f.answers[key]; a != nil {
		return a
	}
	a := &resolver.Answer{Type: qtype, Rcode: 3, FinalStatus: dnssec.Secure}
	a.Name, a.Final = mustName(f.t, name), mustName(f.t, name)
	a.Status = dnssec.Secure
	return a
}

// goodHost returns the facts of a signed domain with one host at ip.
func goodHost(domain, host, ip, tlsa string) string {
	return fmt.Sprintf("%s MX secure 10 %s\n%s A secure %s\n%s AAAA secure nodata\n_25._tcp.%s TLSA secure %s\n",
		domain, host, host, ip, host, host, tlsa)
}
