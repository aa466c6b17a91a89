package resolver

import (
	"context"
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"

	"danepost/resolver/dnssec"
)

// FuzzMessage: no octets make the parser panic, and what it returns is within its limits.
func FuzzMessage(f *testing.F) {
	n := small(f)
	r := n.resolver(nil)
	for _, name := range []string{"mx.signed.example.", "none.signed.example.", "signed.example.", "www.signed.example."} {
		m := new(dns.Msg)
		m.SetReply(clientQuery(name, dns.TypeMX, withDO))
		m.Compress = true
		n.zones["signed.example."].answer(m, name, dns.TypeMX)
		f.Add(pack(m))
	}
	loop, _ := hex.DecodeString("000084000001000000000000c00c00010001")
	f.Add(loop)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b, &r.lim)
		if err != nil {
			return
		}
		for _, sets := range [][]*dnssec.RRset{m.answer, m.authority, m.additional} {
			for _, s := range sets {
				if !s.Name.Valid() || len(s.Data) > r.lim.RRsPerRRset || len(s.Sigs) > r.lim.SigsPerRRset {
					t.Errorf("%+v", s)
				}
				for _, d := range s.Data {
					if form := layout(s.Type); form == "n" && !target(d).Valid() {
						t.Errorf("type %d: %x holds no name", s.Type, d)
					}
				}
				compact(s)
			}
		}
	})
}

// FuzzResolution changes one reply of a resolution at will: it ends within its
// limits, and is never Secure with other data than the zone's own.
func FuzzResolution(f *testing.F) {
	n := small(f)
	truth := map[string]string{
		"mx.signed.example.":   "secure NOERROR 192.0.2.80",
		"none.signed.example.": "secure NXDOMAIN",
		"www.signed.example.":  "secure NOERROR 192.0.2.80 via mx.signed.example.:secure",
	}
	names := []string{"mx.signed.example.", "none.signed.example.", "www.signed.example."}
	f.Add(uint8(0), uint8(3), false, []byte{0, 0, 4})
	f.Add(uint8(1), uint8(4), false, []byte{0, 3})
	f.Add(uint8(2), uint8(2), true, []byte("\x85\x00\x00\x01\x00\x00\x00\x00\x00\x00"))
	var at uint8
	var replace bool
	var change []byte
	var sent uint8
	n.raw = func(x Exchange, reply []byte) ([]byte, error) {
		sent++
		if sent-1 != at {
			return reply, nil
		}
		if replace {
			return append(reply[:2:2], change...), nil
		}
		for i := range min(len(change), len(reply)-2) {
			reply[2+i] ^= change[i]
		}
		return reply, nil
	}
	f.Fuzz(func(t *testing.T, which, when uint8, whole bool, data []byte) {
		at, replace, change, sent = when%12, whole, data, 0
		name := names[int(which)%len(names)]
		r := New(n.config())
		a := r.Lookup(context.Background(), name, TypeA)
		if a.Status == dnssec.Secure && summary(a) != truth[name] {
			t.Errorf("%s became %s", name, summary(a))
		}
		if a.Status == dnssec.Insecure {
			t.Errorf("%s became insecure: %s", name, a.Text)
		}
		if q := n.drain(); len(q) > r.lim.Packets {
			t.Errorf("%d packets", len(q))
		}
	})
}
