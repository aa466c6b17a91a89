package tour

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"strconv"
	"strings"
	"testing"

	"danepost/internal/lab"
)

// naive delivers as a client without DANE does: to whatever address it is
// told, with TLS if it happens to be offered, whoever is at the other end.
func naive(t *testing.T, w *World, addr, to, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(addr, strconv.Itoa(w.Lab.SMTPPort())))
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "mail.home.demo")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{c.Mail(Sender), c.Rcpt(to)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(data, "Subject: s\r\n\r\n%s\r\n", body)
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	c.Quit() //nolint:errcheck // it has the message
}

// TestGroundTruth has mail delivered as the attackers would like it, and
// demands that the judge says so whatever the log says.
func TestGroundTruth(t *testing.T) {
	t.Parallel()
	w := New(lab.Options{})
	if err := w.Lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Lab.Close)
	stop := func(domain string) *Stop {
		for _, s := range w.Stops {
			if s.Domain == domain {
				return s
			}
		}
		t.Fatal("no stop " + domain)
		return nil
	}
	for _, tt := range []struct {
		domain, addr string // addr "": the first attacker's or the receiver's
		want         string
	}{
		{"stripped.demo", "", "the attacker read the message"},
		{"swapped.demo", "", "the attacker read the message"},
		{"forged.demo", w.Evil.Addr(), "mx.evil.demo got the message"},
		{"nomail.demo", w.Evil.Addr(), "0 bounces"},
		{"ee.demo", w.Evil.Addr(), "0 copies"},
		{"tapped.demo", "", ""},
		{"open.optout", "", ""},
	} {
		s := stop(tt.domain)
		if tt.addr == "" {
			tt.addr = s.Paths[0].Addr()
		}
		v := &Visit{Stop: s, marker: "MARKER " + strings.ToUpper(tt.domain)}
		naive(t, w, tt.addr, s.Address(), "it says "+v.marker)
		w.groundTruth(v)
		got := strings.Join(v.Wrong, "; ")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: judged %q, want %q", tt.domain, got, tt.want)
		}
	}
}
