//go:build interop

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"danepost/resolver"
	"danepost/resolver/dnssec"
	"danepost/trustanchor"
)

// network is an internet that validators can be pointed at.
type network struct {
	dir    string // of the files below
	hints  string
	anchor string // DS records
	config string // danepost.toml
	ds     []dns.RR
	in     string // the network namespace that the binary runs in; "" for this one
}

// writeNetwork writes what danepost and the oracles need to know of a root.
func writeNetwork(dir string, roots []netip.Addr, ds []dns.RR, more ...string) (*network, error) {
	n := &network{dir, filepath.Join(dir, "root.hints"), filepath.Join(dir, "root.ds"), filepath.Join(dir, "danepost.toml"), ds, ""}
	var hints, anchor strings.Builder
	for i, a := range roots {
		name := fmt.Sprintf("%c.root-servers.", 'a'+i)
		fmt.Fprintf(&hints, ". 518400 IN NS %s\n%s 518400 IN %s %s\n", name, name, map[bool]string{true: "A", false: "AAAA"}[a.Is4()], a)
	}
	for _, rr := range ds {
		anchor.WriteString(rr.String() + "\n")
	}
	config := fmt.Sprintf("hostname = \"interop.test\"\nstate_dir = %q\n[resolver]\nroot_hints = %q\ntrust_anchor = %q\n%s\n",
		filepath.Join(dir, "state"), n.hints, n.anchor, strings.Join(more, "\n"))
	return n, writeFiles(dir, map[string]string{"root.hints": hints.String(), "root.ds": anchor.String(), "danepost.toml": config})
}

// openResolver makes danepost's resolver for a network, in this process and
// over real sockets.
func (n *network) openResolver(t *testing.T, adapt func(*resolver.Config)) *resolver.Resolver {
	t.Helper()
	hints, err := os.ReadFile(n.hints)
	if err != nil {
		t.Fatal(err)
	}
	var c resolver.Config
	if c.Hints, err = resolver.ParseHints(hints, n.hints); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.anchor)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := trustanchor.ParseFile(n.anchor, text)
	if err != nil {
		t.Fatal(err)
	}
	c.Anchors = func() []dnssec.Anchor { return anchors }
	if adapt != nil {
		adapt(&c)
	}
	r := resolver.New(c)
	t.Cleanup(func() { r.Close() })
	return r
}

// judged turns an answer of package resolver into a result.
func judged(a *resolver.Answer) result {
	r := result{rcode: a.Rcode, status: a.Status.String(), note: a.Text}
	if r.note == "" {
		r.note = string(a.Reason)
	}
	if a.Status == dnssec.Bogus || a.Status == dnssec.Indeterminate {
		r.note, r.status, r.rcode = r.status+": "+r.note, refused, dns.RcodeServerFailure
		return r
	}
	for _, rr := range a.RRs {
		r.records = append(r.records, normal(unpacked(rr)))
	}
	r.records = sorted(r.records)
	return r
}

// sorted orders records; what is there twice counts once (RFC 2181 §5).
func sorted(records []string) []string {
	slices.Sort(records)
	return slices.Compact(records)
}

// unpacked is the record as package dns has it; RDATA that is not what the
// type demands stays as it is.
func unpacked(rr resolver.RR) dns.RR {
	wire := append([]byte(rr.Name), byte(rr.Type>>8), byte(rr.Type), 0, 1, 0, 0, 0, 0, byte(len(rr.Data)>>8), byte(len(rr.Data)))
	parsed, _, err := dns.UnpackRR(append(wire, rr.Data...), 0)
	if err == nil {
		return parsed
	}
	return &dns.RFC3597{Hdr: dns.RR_Header{Name: rr.Name.String(), Rrtype: rr.Type, Class: dns.ClassINET}, Rdata: fmt.Sprintf("%x", rr.Data)}
}

// lookupJSON is what others may rely on in `danepost lookup --json`.
type lookupJSON struct {
	Name, Type, Rcode, Status, Reason string
	Answer                            []string
	Queries                           int
	ElapsedMS                         int `json:"elapsed_ms"`
}

// lookup asks the real binary, which starts with an empty cache.
func (n *network) lookup(ctx context.Context, q question) (result, lookupJSON, error) {
	stdout, stderr, code, err := runBinaryIn(ctx, n.in, "--config", n.config, "lookup", "--json", q.name, dns.TypeToString[q.qtype])
	var o lookupJSON
	if err == nil {
		err = json.Unmarshal([]byte(stdout), &o)
	}
	if err != nil {
		return result{}, o, fmt.Errorf("danepost lookup %s: %w (exit status %d)\n%s%s", q, err, code, stdout, stderr)
	}
	r := result{rcode: dns.StringToRcode[o.Rcode], status: o.Status, note: o.Reason}
	if fails := o.Status == "bogus" || o.Status == "indeterminate"; fails != (code == 1) || !fails && code != 0 {
		return r, o, fmt.Errorf("danepost lookup %s: %s with exit status %d", q, o.Status, code)
	} else if fails {
		r.note, r.status = r.status+": "+r.note, refused
		return r, o, nil
	}
	for _, text := range o.Answer {
		rr, err := dns.NewRR(text)
		if err != nil {
			return r, o, fmt.Errorf("danepost lookup %s: %q: %w", q, text, err)
		}
		r.records = append(r.records, normal(rr))
	}
	r.records = sorted(r.records)
	return r, o, nil
}
