package tlsa

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"testing"
	"time"
)

func (m *mint) padded(s spec, size int) *minted {
	s.Extra = append(s.Extra, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: bytes.Repeat([]byte{4}, size)})
	return m.make(s)
}

func TestChainBytes(t *testing.T) {
	m := &mint{t: t, now: mustTime(t, vectorTime)}
	h := m.house()
	fat := m.padded(spec{CN: "Fat", CA: true}, 40<<10)
	big := m.padded(spec{CN: mx, DNS: []string{mx}, Issuer: h.ca}, 200<<10)
	for _, c := range []struct {
		name  string
		rec   Record
		chain [][]byte
		want  Outcome
	}{
		{"anchor before the bound", h.ca.tlsa(2, 1, 1), ders(h.leaf, h.ca, fat, fat), Matched},
		{"one fat neighbour", h.ca.tlsa(2, 1, 1), ders(h.leaf, fat, h.ca), Matched},
		{"anchor beyond the bound", h.ca.tlsa(2, 1, 1), ders(h.leaf, fat, fat, h.ca), Malformed},
		{"a huge certificate under DANE-EE", big.tlsa(3, 1, 1), ders(big, h.ca), Matched},
		{"a huge certificate under DANE-TA", h.ca.tlsa(2, 1, 1), ders(big, h.ca), Malformed},
	} {
		got := Verify(Query{Records: rs(c.rec), Chain: c.chain, Names: []string{mx}, Now: m.now})
		if got.Outcome != c.want {
			t.Errorf("%s: %v (%s), want %v", c.name, got.Outcome, got.Reason, c.want)
		}
	}
}

// TestMaze gives the search more ways than it may walk: authorities of one
// name and key that all issue each other, in chain and records.
func TestMaze(t *testing.T) {
	m := &mint{t: t, now: mustTime(t, vectorTime)}
	root := m.make(spec{CN: "Root", CA: true})
	key := m.newKey()
	var chain [][]byte
	maze := m.make(spec{CN: "Maze", CA: true, Key: key, Issuer: m.make(spec{CN: "Gone", CA: true})})
	leaf := m.make(spec{CN: mx, DNS: []string{mx}, Issuer: maze})
	chain = append(chain, leaf.der)
	records := rs(root.tlsa(2, 0, 1))
	for i := range 60 {
		// Two names in turn, so that none is self-issued.
		issuer := maze
		if i%2 == 0 {
			issuer = m.make(spec{CN: "Zam", CA: true, Key: key})
		}
		c := m.make(spec{CN: []string{"Maze", "Zam"}[i%2], CA: true, Key: key, Issuer: issuer})
		if i < 9 {
			chain = append(chain, c.der)
			continue
		}
		records = append(records, c.tlsa(2, 0, 0))
	}
	// The records' own certificates are anchors, so make their names the only flaw.
	start := time.Now()
	got := Verify(Query{Records: records, Chain: chain, Names: []string{"elsewhere.example"}, Now: m.now})
	if got.Outcome != Untrusted && got.Outcome != Malformed {
		t.Errorf("%v: %s", got.Outcome, got.Reason)
	}
	got = Verify(Query{Records: records[:1], Chain: chain, Names: []string{mx}, Now: m.now})
	if got.Outcome != Malformed || got.Cause != CauseTooMuchWork {
		t.Errorf("%v (%s): %s", got.Outcome, got.Cause, got.Reason)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestManyConstraints: names times constraints are bounded.
func TestManyConstraints(t *testing.T) {
	m := &mint{t: t, now: mustTime(t, vectorTime)}
	ca := m.make(spec{CN: "Limited", CA: true, Tweak: func(c *x509.Certificate) {
		for i := range 1000 {
			c.ExcludedDNSDomains = append(c.ExcludedDNSDomains, fmt.Sprintf("h%d.example.org", i))
		}
	}})
	names := []string{mx}
	for i := range 1000 {
		names = append(names, fmt.Sprintf("m%d.example.com", i))
	}
	many := m.make(spec{CN: "x", DNS: names, Issuer: ca})
	few := m.make(spec{CN: "x", DNS: names[:50], Issuer: ca})
	for leaf, want := range map[*minted]Cause{many: CauseTooMuchWork, few: CauseNone} {
		got := Verify(Query{Records: rs(ca.tlsa(2, 1, 1)), Chain: ders(leaf, ca), Names: []string{mx}, Now: m.now})
		if got.Cause != want {
			t.Errorf("%d names: %v (%s), want cause %q", len(leaf.cert.DNSNames), got.Outcome, got.Reason, want)
		}
	}
}

// TestManyRecords: a certificate is hashed once, however many records there are.
func TestManyRecords(t *testing.T) {
	m := &mint{t: t, now: mustTime(t, vectorTime)}
	leaf := m.padded(spec{CN: mx, DNS: []string{mx}}, 60<<10)
	good := leaf.tlsa(3, 0, 1)
	var records []Record
	for range 2000 {
		records = append(records, wrong(good))
	}
	start := time.Now()
	if got := Verify(Query{Records: append(records, good), Chain: ders(leaf), Now: m.now}); got.Outcome != Matched {
		t.Error(got.Reason)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
}
