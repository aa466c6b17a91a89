package replay_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"danepost/internal/lab/replay"

	"github.com/miekg/dns"
)

// relay is the least resolver: it passes each question on to the first
// server of the configuration and believes what it hears.
type relay struct {
	server  netip.Addr
	network *replay.Network
}

func (r *relay) Resolve(ctx context.Context, q replay.Question) *replay.Answer {
	failed := &replay.Answer{Rcode: dns.RcodeServerFailure}
	ask := new(dns.Msg).SetQuestion(q.Name, q.Type)
	packed, err := ask.Pack()
	if err != nil {
		return failed
	}
	reply, err := r.network.Exchange(ctx, r.server, false, packed)
	var msg dns.Msg
	if err != nil || msg.Unpack(reply) != nil || msg.Id != ask.Id || msg.Question[0] != ask.Question[0] {
		return failed
	}
	return &replay.Answer{Rcode: msg.Rcode, Answer: wire(msg.Answer), Authority: wire(msg.Ns), Additional: wire(msg.Extra)}
}

func wire(rrs []dns.RR) []replay.RR {
	var out []replay.RR
	for _, rr := range rrs {
		buf := make([]byte, 4096)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			panic(err)
		}
		_, at, _ := dns.UnpackDomainName(buf, 0)
		h := rr.Header()
		out = append(out, replay.RR{Name: h.Name, Type: h.Rrtype, Class: h.Class, TTL: h.Ttl, Data: buf[at+10 : n]})
	}
	return out
}

func (r *relay) ClockMoved()              {}
func (r *relay) NextTimer() time.Duration { return 0 }
func (r *relay) AnchorState(zone string) (*replay.AnchorState, error) {
	return &replay.AnchorState{Zone: zone + "."}, nil
}

// play parses and plays a file's text against a relay.
func play(t *testing.T, name, text string) (err error) {
	t.Helper()
	s, err := replay.Parse(name, []byte(text))
	if err != nil {
		return err
	}
	settings, err := s.Settings()
	if err != nil {
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		network := &replay.Network{}
		p := &replay.Player{
			Scenario: s, Network: network, Subject: &relay{server: settings.Hints[0], network: network},
			Settle: synctest.Wait, Pause: time.Sleep,
		}
		err = p.Run(t.Context())
		if err != nil {
			t.Log(strings.Join(network.Log(), "\n"))
		}
	})
	return err
}

func TestPlay(t *testing.T) {
	forEach(t, "testdata/pass/*.rpl", func(t *testing.T, name, text string) {
		if err := play(t, name, text); err != nil {
			t.Error(err)
		}
	})
}

// TestPlayFails holds scenarios that must not pass, with the reason they must
// give in their first line.
func TestPlayFails(t *testing.T) {
	for _, glob := range []string{"testdata/fail/*.rpl", "testdata/syntax/*.rpl"} {
		forEach(t, glob, func(t *testing.T, name, text string) {
			first, _, _ := strings.Cut(text, "\n")
			want, found := strings.CutPrefix(first, "; want: ")
			if !found {
				t.Fatal("no expectation in the first line")
			}
			if err := play(t, name, text); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one that says %q", err, want)
			}
		})
	}
}

// TestExpectationsBite changes one expected thing at a time in a scenario
// that passes.
func TestExpectationsBite(t *testing.T) {
	b, err := os.ReadFile("testdata/pass/basic.rpl")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, c := range []struct{ name, old, new, want string }{
		{"rcode", "REPLY QR RD RA NOERROR", "REPLY QR RD RA NXDOMAIN", "rcode is NOERROR, want NXDOMAIN"},
		{"AD", "REPLY QR RD RA NOERROR", "REPLY QR RD RA AD NOERROR", "AD is false, want true"},
		{"record", "WWW.lab.test. IN A 198.51.100.2", "WWW.lab.test. IN A 198.51.100.9", "answer section differs"},
		{"record missing", "WWW.lab.test. IN A 198.51.100.2\n", "", "answer section differs"},
		{"ttl", "MATCH all", "MATCH all ttl", "answer section differs"},
		{"ede", "MATCH all", "MATCH all ede=6", "extended errors are [], want 6"},
		{"authority", "me.lab.test. 1 2 3 4 5", "me.lab.test. 1 2 3 4 6", "authority section differs"},
		{"time", "${range 80 ${time} 80}", "${range 81 ${time} 99}", "80 is not between 81 and 99"},
		{"id", "ADJUST copy_id\n", "", "rcode is SERVFAIL"},
		{"address", "ADDRESS 192.0.2.1", "ADDRESS 192.0.2.2", "rcode is SERVFAIL"},
		{"range", "RANGE_BEGIN 0 15", "RANGE_BEGIN 0 9", "rcode is SERVFAIL"},
		{"question", "\nwww.lab.test. IN A\nENTRY_END\nSTEP 10", "\nw.lab.test. IN A\nENTRY_END\nSTEP 10", "no question www.lab.test."},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatal("nothing changed")
			}
			if err := play(t, "basic.rpl", changed); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one that says %q", err, c.want)
			}
		})
	}
}

func forEach(t *testing.T, glob string, f func(t *testing.T, name, text string)) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatal(errors.New("no files match "+glob), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) { f(t, filepath.Base(file), string(b)) })
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.rpl")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := replay.Parse("fuzz.rpl", b); err == nil {
			_, _ = s.Settings()
		}
	})
}
