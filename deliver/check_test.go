package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"danepost/queue"
)

// TestCheckJSON: the report of one domain with a good and a bad host, against
// a golden file; digests and dates of the moment are blanked.
func TestCheckJSON(t *testing.T) {
	p := thePKI()
	r := newRig(t, "good.example MX secure 10 mx1.good.example | 20 mx.good.example | 30 mx3.good.example\n"+
		"mx1.good.example A secure 192.0.2.9 | 192.0.2.8\nmx1.good.example AAAA secure nodata\n_25._tcp.mx1.good.example TLSA secure "+p.other.tlsa(3, 1, 1)+"\n"+
		"mx.good.example A secure 192.0.2.1\nmx.good.example AAAA secure 2001:db8::1\n_25._tcp.mx.good.example TLSA secure "+p.self.tlsa(3, 1, 1)+"\n"+
		"mx3.good.example A secure 192.0.2.1\nmx3.good.example AAAA secure nodata\n_25._tcp.mx3.good.example TLSA bogus")
	rec := r.at("192.0.2.1", &receiver{cert: p.self.chain()})
	r.at("192.0.2.9", &receiver{cert: p.self.chain()})
	rep := r.Check(context.Background(), "Good.example.")
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rep); err != nil {
		t.Fatal(err)
	}
	out := regexp.MustCompile(`[0-9a-f]{16}(…|[0-9a-f]{48})`).ReplaceAll(b.Bytes(), []byte("HEX"))
	out = regexp.MustCompile(`CN=test \d+`).ReplaceAll(out, []byte("CN=test N"))
	golden(t, "testdata/check.json", out)
	if len(rec.messages()) > 0 || len(commandsWith(rec, "MAIL")) > 0 {
		t.Error("a check sent mail")
	}
}

func TestCheckVerdicts(t *testing.T) {
	p := thePKI()
	good := goodHost("good.example", "mx.good.example", "192.0.2.1", p.self.tlsa(3, 1, 1))
	for _, tc := range []struct {
		name, facts string
		rec         *receiver
		verdict     string
		probe       string
		mx          string
		reason      string
	}{
		{"good", good, &receiver{cert: p.self.chain()}, "deliverable", "dane-verified", "secure", "verified by its TLSA records"},
		{"wrong key", good, &receiver{cert: p.other.chain()}, "defer", "failed", "secure", "does not match its published TLSA record"},
		{"STARTTLS stripped", good, &receiver{plain: true}, "defer", "failed", "secure", "does not offer STARTTLS"},
		{"greeting 554", good, &receiver{say: map[string]string{"greeting": "554 go away"}}, "defer", "failed", "secure", "554 go away"},
		{"null MX", "good.example MX secure 0 .", &receiver{}, "reject", "", "null", "takes no mail"},
		{"no such domain", "good.example MX secure nxdomain", &receiver{}, "reject", "", "none", "does not exist"},
		{"forged MX", "good.example MX bogus", &receiver{}, "defer", "", "bogus", "DNSSEC"},
		{"no addresses", "good.example MX secure 10 mx.good.example", &receiver{}, "reject", "", "secure", "has no address"},
		{"unsigned", strings.ReplaceAll(good, "secure", "insecure"), &receiver{cert: p.self.chain()}, "deliverable", "encrypted", "insecure", "nobody is verified"},
		{"unsigned in the clear", strings.ReplaceAll(good, "secure", "insecure"), &receiver{plain: true}, "deliverable", "plaintext", "insecure", "in the clear"},
		{"unsigned, handshake fails", strings.ReplaceAll(good, "secure", "insecure"), &receiver{cert: p.self.chain(), tlsConfig: failHandshake}, "deliverable", "plaintext", "insecure", "in the clear"},
		{"MX unsigned", strings.Replace(good, "MX secure", "MX insecure", 1), &receiver{cert: p.self.chain()}, "deliverable", "dane-host", "insecure", "MX records are not signed"},
		{"unusable", goodHost("good.example", "mx.good.example", "192.0.2.1", "1 1 1 "+strings.Repeat("ab", 32)), &receiver{cert: p.self.chain()}, "deliverable", "dane-unauthenticated", "secure", "unusable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.facts)
			r.at("192.0.2.1", tc.rec)
			rep := r.Check(context.Background(), "good.example")
			probe := ""
			if len(rep.Hosts) > 0 && len(rep.Hosts[0].Probes) > 0 {
				probe = rep.Hosts[0].Probes[0].Verdict
			}
			if rep.Verdict != tc.verdict || probe != tc.probe || rep.MXStatus != tc.mx || !strings.Contains(rep.Reason, tc.reason) {
				b, _ := json.MarshalIndent(rep, "", " ")
				t.Errorf("%s", b)
			}
			// What check says is what delivery does.
			res := r.one()
			want := map[string]queue.Outcome{"deliverable": queue.Delivered, "defer": queue.Later, "reject": queue.Failed}[tc.verdict]
			if res.Outcome != want || (want == queue.Delivered && res.Security != tc.probe) {
				t.Errorf("delivery: %+v", res)
			}
		})
	}
}

func TestCheckWarnings(t *testing.T) {
	p := thePKI()
	soon := makeCert(t, certSpec{names: []string{"mx.good.example"}, from: testNow.Add(-time.Hour), to: testNow.Add(3 * 24 * time.Hour), issuer: p.ca})
	for _, tc := range []struct {
		name, tlsa string
		rec        *receiver
		end        time.Time // of the TLSA signature
		want       []string
	}{
		{"nothing", p.self.tlsa(3, 1, 1), &receiver{cert: p.self.chain()}, testNow.Add(30 * 24 * time.Hour), nil},
		{"certificate ends", p.ca.tlsa(2, 0, 1), &receiver{cert: soon.chain(p.ca)}, testNow.Add(30 * 24 * time.Hour), []string{"the certificate of mx.good.example[192.0.2.1] ends 2026-11-25T12:00:00Z"}},
		{"certificate has ended, of no consequence", p.expired.tlsa(3, 1, 1), &receiver{cert: p.expired.chain()}, testNow.Add(30 * 24 * time.Hour), []string{"the certificate of mx.good.example[192.0.2.1] ended 2026-11-20T12:00:00Z (of no consequence under DANE-EE)"}},
		{"signature ends", p.self.tlsa(3, 1, 1), &receiver{cert: p.self.chain()}, testNow.Add(24 * time.Hour), []string{"the signature of the TLSA records of mx.good.example ends 2026-11-23T12:00:00Z"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, goodHost("good.example", "mx.good.example", "192.0.2.1", tc.tlsa))
			r.dns.answers["_25._tcp.mx.good.example TLSA"].SignatureEnd = tc.end
			r.at("192.0.2.1", tc.rec)
			if diff := cmp.Diff(tc.want, r.Check(context.Background(), "good.example").Warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLogLine: the keys that others rely on, each once, in every outcome.
func TestLogLine(t *testing.T) {
	want := strings.Fields("time level msg id from to domain host address security tls match mx_status reply dsn attempts delay_ms")
	for reply, msg := range map[string]string{"": "delivered", "450 4.2.0 later": "deferred", "550 5.1.1 no": "bounced"} {
		var b bytes.Buffer
		rec := &receiver{say: map[string]string{"RCPT": reply}}
		r := goodRig(t, rec, func(c *Config) { c.Log = slog.New(slog.NewJSONHandler(&b, nil)) })
		it := item(testMessage, "b@good.example")
		it.Attempts = 2
		r.send(it)
		var line map[string]any
		if err := json.Unmarshal(b.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, b.String())
		}
		keys := slices.Clone(want)
		if msg != "delivered" {
			keys = append(keys, "reason")
		}
		for _, k := range keys {
			if _, ok := line[k]; !ok {
				t.Errorf("%s: no %s", msg, k)
			}
		}
		if len(line) != len(keys) {
			t.Errorf("%s: %d keys, want %d: %s", msg, len(line), len(keys), b.String())
		}
		if line["msg"] != msg || line["security"] != "dane-verified" || line["tls"] != "TLSv1.3" || line["attempts"] != 3.0 || line["delay_ms"] != 1000.0 ||
			line["domain"] != "good.example" || line["address"] != "192.0.2.1" || !strings.HasPrefix(line["match"].(string), "3 1 1 ") {
			t.Errorf("%s", b.String())
		}
	}
}
