package tlsa

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// opensslCase is one case of OpenSSL's DANE test data.
type opensslCase struct {
	Records  []Record
	Chain    [][]byte
	NoNames  bool
	Want     int // X509_V_ERR_*
	Depth    int
	LineNo   int
	Declared int
}

// OpenSSL's error numbers, as its data states them.
const (
	vOK              = 0
	vNoLocalIssuer   = 20
	vHostMismatch    = 62
	vDANENoMatch     = 65
	vectorTime       = "2026-06-01T00:00:00Z"
	vectorsReference = "example.com"
)

func vectorFile(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("DANEPOST_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("recorded vectors are not here: %v", err)
	}
	return b
}

// readOpenSSL reads the format that the data's own head describes. A case
// begins with five numbers; records and certificates follow until the next.
func readOpenSSL(t *testing.T, text []byte) []opensslCase {
	t.Helper()
	var out []opensslCase
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		f := strings.Fields(line)
		switch {
		case line == "" || line[0] == '#':
		case len(f) == 5 && !strings.Contains(line, "="):
			var n [5]int
			for j := range n {
				v, err := strconv.Atoi(f[j])
				if err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
				n[j] = v
			}
			out = append(out, opensslCase{Declared: n[0], NoNames: n[2] == 1, Want: n[3], Depth: n[4], LineNo: i + 1})
		case len(f) == 4 && len(out) > 0 && len(f[0]) == 1:
			c := &out[len(out)-1]
			if len(c.Records) < c.Declared {
				c.Records = append(c.Records, mustRecord(t, line))
			}
		case strings.HasPrefix(line, "-----BEGIN"):
			block, rest := pem.Decode([]byte(strings.Join(lines[i:], "\n")))
			if block == nil {
				t.Fatalf("line %d: broken PEM", i+1)
			}
			c := &out[len(out)-1]
			c.Chain = append(c.Chain, block.Bytes)
			i = len(lines) - len(bytes.Split(rest, []byte("\n"))) - 1
		}
	}
	return out
}

func mustRecord(t *testing.T, line string) Record {
	t.Helper()
	var u, s, m uint8
	var data string
	if _, err := fmt.Sscanf(line, "%d %d %d %s", &u, &s, &m, &data); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	b, err := hex.DecodeString(data)
	if err != nil {
		t.Fatal(err)
	}
	return ParseRecord(append([]byte{u, s, m}, b...))
}

func mustTime(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestOpenSSLVectors(t *testing.T) {
	for _, set := range []struct {
		file, name string
		cases      int
	}{
		{"danetest.in", "example.com", 54},
		{"dane-cross.in", "server.example", 1},
	} {
		cases := readOpenSSL(t, vectorFile(t, set.file))
		if len(cases) != set.cases {
			t.Errorf("%s: %d cases, want %d", set.file, len(cases), set.cases)
		}
		for i, c := range cases {
			t.Run(fmt.Sprintf("%s/%d", set.file, i+1), func(t *testing.T) {
				got := Verify(Query{Records: c.Records, Chain: c.Chain, Names: []string{set.name}, Now: mustTime(t, vectorTime)})
				c.compare(t, got)
			})
		}
	}
}

// compare holds a verdict to OpenSSL's, but for what SMTP decides otherwise.
func (c opensslCase) compare(t *testing.T, got Verdict) {
	t.Helper()
	want, depth := Verdict{}, c.Depth
	switch {
	case len(Usable(c.Records)) == 0:
		want.Outcome, depth = Unusable, -1 // RFC 7672 §3.1.3
	case c.Want == vOK:
		want.Outcome = Matched
	case c.Want == vHostMismatch && c.Records[0].Usage == DANEEE:
		want.Outcome = Matched // RFC 7672 §3.1.1: names do not count
	case c.Want == vHostMismatch:
		want.Outcome, want.Cause = Untrusted, CauseWrongName
	case c.Want == vDANENoMatch || c.Want == vNoLocalIssuer:
		want.Outcome = NoMatch
	default:
		t.Fatalf("line %d: no rule for error %d", c.LineNo, c.Want)
	}
	if got.Outcome != want.Outcome || got.Depth != depth || want.Cause != CauseNone && got.Cause != want.Cause {
		t.Errorf("line %d: %v at depth %d (%s), want %v at depth %d", c.LineNo, got.Outcome, got.Depth, got.Reason, want.Outcome, depth)
	}
}
