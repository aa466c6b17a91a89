package submit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzMessage: whatever is handed in with -t, what is queued has clean lines
// of a length SMTP takes and the fields that must be there, and no address
// that only Bcc named appears in it; the queue's copy, handed in again, is
// accepted.
func FuzzMessage(f *testing.F) {
	files, err := filepath.Glob("testdata/messages/*.in")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, in, _ := strings.Cut(string(b), "\n")
		if in = unescape(in); len(in) < 8<<10 {
			f.Add(in)
		}
	}
	const secret = "secretblindcopy@hidden.example"
	f.Fuzz(func(t *testing.T, in string) {
		if strings.Contains(strings.ToLower(in), "secretblind") {
			return
		}
		p := Policy{Hostname: "host.example.com", SpoolDir: os.TempDir(), MaxSize: 1 << 20}
		gate, q := testGate(t, p)
		ctx := context.Background()
		_, err := gate.Accept(ctx, &Request{FromHeaders: true, Recipients: to("b@example.net")}, alice,
			strings.NewReader("Bcc: "+secret+",\n "+secret+"\n"+in))
		if err != nil {
			if len(q.all()) > 0 {
				t.Fatal("refused, but queued")
			}
			return
		}
		m := q.last(t)
		checkWire(t, m.body)
		if strings.Contains(strings.ToLower(m.body), "secretblind") {
			t.Fatalf("a blind copy's address is in the content: %q", m.body)
		}
		if addr := addresses(m.env); !strings.Contains(addr, secret) && !strings.Contains(strings.ToLower(m.body), "resent-") {
			t.Fatalf("the blind copy's recipient was lost: %q", addr)
		}
		if _, err := gate.Accept(ctx, &Request{Recipients: to("b@example.net")}, alice, strings.NewReader(m.body)); err != nil && !strings.Contains(err.Error(), "header is larger") {
			t.Fatalf("handed in again: %v", err)
		}
	})
}
