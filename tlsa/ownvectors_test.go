package tlsa

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "mint testdata/vectors anew")

// TestOwnVectors runs the cases of testdata/vectors. A file holds numbered
// certificates and then cases:
//
//	certificate 1: what it is, for the reader, and PEM (or "bytes 1 hex")
//	case NAME
//	# what it shows
//	names REFERENCE...
//	tlsa 3 1 1 hex     or  tlsa \# 2 0301
//	chain 1 2 3
//	want OUTCOME CAUSE depth N record N
func TestOwnVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	seen := 0
	for file := range caseFiles() {
		for _, c := range readVectors(t, filepath.Join("testdata", "vectors", file+".txt")) {
			seen++
			t.Run(file+"/"+c.name, func(t *testing.T) {
				got := Verify(Query{Records: c.records, Chain: c.chain, Names: c.names, Now: mustTime(t, vectorTime)})
				if line := verdictLine(got, c.records); line != c.wantLine {
					t.Errorf("%s\n got %s\nwant %s\n(%s)", c.about, line, c.wantLine, got.Reason)
				}
				if got.Reason == "" || strings.ContainsAny(got.Reason, "\n\r\x00\x1b") {
					t.Errorf("reason is %q", got.Reason)
				}
				t.Log(got.Reason)
			})
		}
	}
	if seen < 120 {
		t.Errorf("only %d cases", seen)
	}
}

// vectorCase is a case as read from its file.
type vectorCase struct {
	ownCase
	wantLine string
}

// verdictLine is a verdict as the files state it.
func verdictLine(v Verdict, records []Record) string {
	w := wanted{Outcome: v.Outcome, Cause: v.Cause, Depth: v.Depth}
	if v.Outcome == Matched || v.Outcome == Untrusted {
		w.Record = 1 + slices.IndexFunc(records, func(r Record) bool { return r.String() == v.Record.String() })
	}
	return w.line()
}

func (w wanted) line() string {
	cause := w.Cause
	if cause == CauseNone {
		cause = "-"
	}
	return fmt.Sprintf("%s %s depth %d record %d", w.Outcome, cause, w.Depth, w.Record)
}

func readVectors(t testing.TB, path string) []vectorCase {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	certs := map[string][]byte{}
	var out []vectorCase
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		word, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		text = rest
		var c *vectorCase
		if len(out) > 0 {
			c = &out[len(out)-1]
		}
		switch word {
		case "":
		case "#":
			if c != nil {
				c.about = arg
			}
		case "certificate":
			id, _, _ := strings.Cut(arg, ":")
			block, after := pem.Decode(text)
			if block == nil {
				t.Fatalf("%s: certificate %s has no PEM", path, id)
			}
			certs[id], text = block.Bytes, after
		case "bytes":
			id, data, _ := strings.Cut(arg, " ")
			certs[id], err = hex.DecodeString(data)
			must(t, err)
		case "case":
			out = append(out, vectorCase{ownCase: ownCase{name: arg}})
		case "names":
			c.names = strings.Split(arg, " ")
		case "tlsa":
			c.records = append(c.records, recordOf(t, arg))
		case "chain":
			for _, id := range strings.Fields(arg) {
				if certs[id] == nil {
					t.Fatalf("%s: %s: no certificate %s", path, c.name, id)
				}
				c.chain = append(c.chain, certs[id])
			}
		case "want":
			c.wantLine = arg
		default:
			t.Fatalf("%s: %q", path, line)
		}
	}
	return out
}

// recordOf reads a record in presentation format.
func recordOf(t testing.TB, s string) Record {
	t.Helper()
	if generic, ok := strings.CutPrefix(s, `\# `); ok {
		_, data, _ := strings.Cut(generic, " ")
		b, err := hex.DecodeString(data)
		must(t, err)
		return ParseRecord(b)
	}
	var u, sel, m uint8
	var data string
	if n, err := fmt.Sscanf(s, "%d %d %d %s", &u, &sel, &m, &data); n < 3 {
		t.Fatalf("%q: %v", s, err)
	}
	b, err := hex.DecodeString(data)
	must(t, err)
	return ParseRecord(append([]byte{u, sel, m}, b...))
}

func writeVectors(t *testing.T) {
	dir := filepath.Join("testdata", "vectors")
	must(t, os.MkdirAll(dir, 0o755))
	for file, cases := range caseFiles() {
		m := &mint{t: t, now: mustTime(t, vectorTime)}
		must(t, os.WriteFile(filepath.Join(dir, file+".txt"), formatVectors(cases(m)), 0o644))
	}
}

func formatVectors(cases []ownCase) []byte {
	var certs, body bytes.Buffer
	ids := map[string]int{}
	fmt.Fprintf(&certs, "# Time of judgement: %s\n", vectorTime)
	for _, c := range cases {
		fmt.Fprintf(&body, "\ncase %s\n", c.name)
		if c.about != "" {
			fmt.Fprintf(&body, "# %s\n", c.about)
		}
		if c.names == nil {
			c.names = []string{mx, "example.com"}
		}
		fmt.Fprintf(&body, "names %s\n", strings.Join(c.names, " "))
		for _, r := range c.records {
			fmt.Fprintf(&body, "tlsa %s\n", r)
		}
		fmt.Fprint(&body, "chain")
		for _, der := range c.chain {
			id, ok := ids[string(der)]
			if !ok {
				id = len(ids) + 1
				ids[string(der)] = id
				formatCertificate(&certs, id, der)
			}
			fmt.Fprintf(&body, " %d", id)
		}
		fmt.Fprintf(&body, "\nwant %s\n", c.want.line())
	}
	return append(certs.Bytes(), body.Bytes()...)
}

func formatCertificate(w *bytes.Buffer, id int, der []byte) {
	if _, ok := publicKeyOf(der); !ok {
		fmt.Fprintf(w, "\nbytes %d %x\n", id, der)
		return
	}
	about := "cannot be parsed"
	if c, err := x509.ParseCertificate(der); err == nil {
		about = fmt.Sprintf("%s %v, issuer %s, %s to %s", c.Subject, c.DNSNames, c.Issuer,
			c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
	}
	fmt.Fprintf(w, "\ncertificate %d: %q\n%s", id, about, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
