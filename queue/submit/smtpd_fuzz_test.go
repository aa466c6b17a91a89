package submit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzSMTP: whatever a program says to -bs, what is queued is clean and goes
// to addresses that a RCPT command named.
func FuzzSMTP(f *testing.F) {
	f.Add("EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n.\r\r\n..x\r\n.\r\nQUIT\r\n")
	f.Add("EHLO x\nMAIL FROM:<>\nRCPT TO:<root>\nBDAT 3\nabcBDAT 0 LAST\nMAIL FROM:a\n")
	f.Add("HELO x\r\nMAIL FROM:<\"a b\"@b.example> SMTPUTF8 ENVID=+41\r\nRCPT TO:<@r:c@d.example> NOTIFY=NEVER ORCPT=utf-8;\\x{FC}@x\r\nDATA\r\n\n.\n\r.\r\r\n.\r\n")
	f.Fuzz(func(t *testing.T, script string) {
		gate, q := testGate(t, Policy{Hostname: "host.example.com", SpoolDir: os.TempDir(), Postmaster: "pm@example.net", MaxSize: 1 << 20})
		s := &SMTP{Submit: gate.Accept, MaxSize: 1 << 20}
		if err := s.ServeStdio(context.Background(), alice, strings.NewReader(script), io.Discard); err != nil {
			t.Fatal(err)
		}
		for _, m := range q.all() {
			checkWire(t, m.body)
			for _, r := range m.env.Recipients {
				if _, err := ParseRecipients(r.Address); err != nil || strings.ContainsAny(r.Address, "\r\n\x00") {
					t.Fatalf("recipient %q: %v", r.Address, err)
				}
			}
		}
	})
}

// FuzzDrop: no bytes in a drop file whose checksum fits do more than be
// refused or read.
func FuzzDrop(f *testing.F) {
	f.Add([]byte("danepost-drop 1 2\n{}\nx\n"))
	f.Add([]byte("danepost-drop 1 -2\n{}"))
	f.Add([]byte("danepost-drop 1 99\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		name := filepath.Join(t.TempDir(), "drop")
		whole := append(bytes.Clone(b), dropTail(int64(len(b)), sum[:])...)
		must(t, os.WriteFile(name, whole, 0o600))
		file, err := os.Open(name)
		must(t, err)
		defer file.Close()
		r, body, err := openDrop(file)
		if err != nil {
			if ExitCode(err) != ExitDataErr {
				t.Fatalf("%v (exit %d)", err, ExitCode(err))
			}
			return
		}
		content, err := io.ReadAll(body)
		if r == nil || err != nil || !bytes.HasSuffix(b, content) {
			t.Fatalf("%+v, %q, %v", r, content, err)
		}
	})
}
