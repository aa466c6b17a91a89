package tlsa

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzRecord: any RDATA is a record, says what it is, and never changes.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 1, 1})
	f.Add(append([]byte{3, 1, 1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, rdata []byte) {
		before := bytes.Clone(rdata)
		r := ParseRecord(rdata)
		ok, why := r.Usable()
		if ok == (why != "") {
			t.Errorf("usable %v, reason %q", ok, why)
		}
		if ok && (r.Usage != DANETA && r.Usage != DANEEE || len(r.Data) == 0 || r.Selector > 1 || r.Matching > 2) {
			t.Errorf("%s is usable", r)
		}
		if again := recordOf(t, r.String()); again.String() != r.String() {
			t.Errorf("%s reads back as %s", r, again)
		}
		if strings.ContainsAny(r.Short()+why, "\n\x1b") || !bytes.Equal(rdata, before) {
			t.Error("unclean")
		}
	})
}

// FuzzVerify: whatever a server sends, the verdict comes, is explained, and is
// Matched only where the bytes bear it out.
func FuzzVerify(f *testing.F) {
	for file := range caseFiles() {
		for i, c := range readVectors(f, filepath.Join("testdata", "vectors", file+".txt")) {
			if i%4 != 0 || len(c.records) == 0 || len(c.chain) == 0 {
				continue
			}
			rest := c.chain[1:min(3, len(c.chain))]
			r := c.records[0]
			f.Add(append([]byte{r.Usage, r.Selector, r.Matching}, r.Data...), c.chain[0], bytes.Join(rest, nil), len(c.chain[min(1, len(c.chain)-1)]))
		}
	}
	now := mustTime(f, vectorTime)
	f.Fuzz(func(t *testing.T, rdata, leaf, rest []byte, cut int) {
		chain := [][]byte{leaf, rest}
		if cut >= 0 && cut < len(rest) {
			chain = [][]byte{leaf, rest[:cut], rest[cut:]}
		}
		r := ParseRecord(rdata)
		v := Verify(Query{Records: []Record{r}, Chain: chain, Names: []string{mx}, Now: now})
		if v.Reason == "" || strings.ContainsAny(v.Reason, "\n\r\x00\x1b") {
			t.Errorf("reason %q", v.Reason)
		}
		if ok, _ := r.Usable(); ok == (v.Outcome == Unusable) {
			t.Errorf("usable %v, outcome %v", ok, v.Outcome)
		}
		if (v.Outcome == Matched) != (v.Cause == CauseNone) {
			t.Errorf("outcome %v, cause %q", v.Outcome, v.Cause)
		}
		if v.Outcome == Matched {
			borneOut(t, r, v, chain, now.Unix())
		}
		if c, err := x509.ParseCertificate(leaf); err == nil {
			if key, ok := publicKeyOf(leaf); !ok || !bytes.Equal(key, c.RawSubjectPublicKeyInfo) {
				t.Error("the key found is not the parser's")
			}
		}
	})
}

// borneOut checks a match by other means than the package's.
func borneOut(t *testing.T, r Record, v Verdict, chain [][]byte, now int64) {
	t.Helper()
	if r.Usage == DANEEE {
		if v.Depth != 0 || r.Selector == Cert && !digestIs(r, chain[0]) {
			t.Errorf("%s does not name the server's certificate", r)
		}
		return
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || leaf.NotAfter.Unix() < now || leaf.NotBefore.Unix() > now {
		t.Errorf("matched by an authority, but %v", err)
	}
	if r.Matching == Full {
		return // the authority may be absent
	}
	for _, der := range chain[1:] {
		if c, err := x509.ParseCertificate(der); err == nil && c.IsCA {
			if r.Selector == SPKI && digestIs(r, c.RawSubjectPublicKeyInfo) || r.Selector == Cert && digestIs(r, der) {
				return
			}
		}
	}
	t.Errorf("no authority of the chain is %s", r)
}

func digestIs(r Record, data []byte) bool {
	switch r.Matching {
	case SHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case SHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(r.Data, data)
}
