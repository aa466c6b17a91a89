package deliver

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"danepost/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a Deliverer on a network in memory.
type rig struct {
	*Deliverer
	t   testing.TB
	net *memNet
	dns *fakeDNS
	log *bytes.Buffer
}

func newRig(t testing.TB, facts string, change ...func(*Config)) *rig {
	r := &rig{t: t, net: newMemNet(t), dns: newDNS(t, facts), log: &bytes.Buffer{}}
	cfg := Config{Hostname: "out.sender.example", Dial: r.net.dial, Now: func() time.Time { return testNow },
		Log: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, c := range change {
		c(&cfg)
	}
	r.Deliverer = New(cfg, r.dns)
	t.Cleanup(r.Deliverer.Close)
	return r
}

// at puts a receiver at an address, port 25 unless said.
func (r *rig) at(ip string, rec *receiver) *receiver {
	address := ip
	if !strings.Contains(strings.TrimPrefix(ip, "["), ":") {
		address = ip + ":25"
	}
	r.net.listen(address, rec.serve)
	return rec
}

const testMessage = "From: a@sender.example\r\nTo: b@good.example\r\nSubject: hello\r\n\r\nsecret words\r\n.dot\r\n"

type memFile struct{ *bytes.Reader }

func (memFile) Close() error { return nil }

// item makes a message for recipients.
func item(content string, to ...string) *queue.Item {
	it := &queue.Item{ID: "4rtest", Envelope: queue.Envelope{Sender: "a@sender.example"}, Arrived: testNow.Add(-time.Second),
		Size: int64(len(content)),
		Open: func() (io.ReadSeekCloser, error) { return memFile{bytes.NewReader([]byte(content))}, nil }}
	for i, a := range to {
		it.Recipients = append(it.Recipients, queue.ItemRecipient{Index: i, Recipient: queue.Recipient{Address: a}})
	}
	return it
}

// send delivers and returns the results by recipient.
func (r *rig) send(it *queue.Item) map[string]queue.Result {
	out := map[string]queue.Result{}
	r.Deliver(context.Background(), it, func(res queue.Result) {
		if _, twice := out[res.Address]; twice {
			r.t.Errorf("%s reported twice", res.Address)
		}
		out[res.Address] = res
	})
	return out
}

// one delivers one message to b@good.example.
func (r *rig) one() queue.Result {
	return r.send(item(testMessage, "b@good.example"))["b@good.example"]
}

func TestDeliverDANE(t *testing.T) {
	p := thePKI()
	for _, tc := range []struct {
		name, tlsa string
		chain      *receiver
		security   string
		code       string // when not delivered
	}{
		{"3 1 1", p.self.tlsa(3, 1, 1), &receiver{cert: p.self.chain()}, "dane-verified", ""},
		{"2 0 1", p.ca.tlsa(2, 0, 1), &receiver{cert: p.leaf.chain(p.ca)}, "dane-verified", ""},
		{"no match", p.other.tlsa(3, 1, 1), &receiver{cert: p.self.chain()}, "", "4.7.5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", tc.tlsa))
			rec := r.at("192.0.2.1", tc.chain)
			res := r.one()
			if tc.code == "" {
				if res.Outcome != queue.Delivered || res.Security != tc.security {
					t.Fatalf("got %+v\n%s", res, r.log)
				}
				got := rec.messages()
				if len(got) != 1 || got[0].content != testMessage || !got[0].tls {
					t.Fatalf("arrived: %+v", got)
				}
			} else if res.Outcome != queue.Later || res.DSN != tc.code || len(rec.messages()) != 0 {
				t.Fatalf("got %+v", res)
			}
			t.Log(r.log)
		})
	}
}
