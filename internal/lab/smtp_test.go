package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/smtp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// send delivers one message the way a plain client does: STARTTLS if offered,
// any certificate; it returns the leaf that it saw.
func send(t *testing.T, l *Lab, addr, body string) (*x509.Certificate, error) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(addr, strconv.Itoa(l.SMTPPort())))
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "mx.test")
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer c.Close()
	var leaf *x509.Certificate
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			return nil, err
		}
		state, _ := c.TLSConnectionState()
		leaf = state.PeerCertificates[0]
	}
	if err := c.Mail("a@home.demo"); err != nil {
		return leaf, err
	}
	if err := c.Rcpt("b@there.demo"); err != nil {
		return leaf, err
	}
	w, err := c.Data()
	if err != nil {
		return leaf, err
	}
	if _, err := w.Write([]byte(body)); err != nil {
		return leaf, err
	}
	if err := w.Close(); err != nil {
		return leaf, err
	}
	return leaf, c.Quit()
}

const secret = "Subject: s\r\n\r\n.the marker 4711\r\n..\r\n"

func TestReceiver(t *testing.T) {
	var r, bare *Receiver
	l := started(t, func(l *Lab) {
		r = l.Receiver("mx.there.demo", NewAuthority("CA").Issue("mx.there.demo"))
		bare = l.Receiver("mx.bare.demo", nil)
	})
	leaf, err := send(t, l, r.Addr(), secret)
	if err != nil || !leaf.Equal(r.Identity().Leaf()) {
		t.Fatalf("leaf %v, error %v", leaf, err)
	}
	if _, err := send(t, l, bare.Addr(), secret); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, x := range []*Receiver{r, bare} {
		m, err := x.Wait(ctx, func(m Message) bool { return strings.Contains(m.Data, "4711") })
		if err != nil {
			t.Fatal(err)
		}
		if m.Data != secret || m.From != "a@home.demo" || len(m.To) != 1 || m.To[0] != "b@there.demo" || (m.TLS != nil) != (x == r) {
			t.Errorf("%s got %+v", x.Name(), m)
		}
	}
}

func TestFaults(t *testing.T) {
	var refuses, grey, drops *Receiver
	l := started(t, func(l *Lab) {
		id := SelfSigned("mx")
		refuses = l.Receiver("mx", id).Wrap(Answer("RCPT", 550, "5.1.1 nobody"))
		grey = l.Receiver("mx", id).Wrap(Greylist(10 * time.Millisecond))
		drops = l.Receiver("mx", id).Wrap(Times(1, "BODY", Answer("BODY", 0, "")))
	})
	if _, err := send(t, l, refuses.Addr(), secret); err == nil || !strings.Contains(err.Error(), "5.1.1 nobody") {
		t.Errorf("refuses: %v", err)
	}
	for _, r := range []*Receiver{grey, drops} {
		if _, err := send(t, l, r.Addr(), secret); err == nil || len(r.Messages()) != 0 {
			t.Errorf("first attempt: %v, %d messages", err, len(r.Messages()))
		}
		time.Sleep(20 * time.Millisecond)
		if _, err := send(t, l, r.Addr(), secret); err != nil || len(r.Messages()) != 1 {
			t.Errorf("second attempt: %v, %d messages", err, len(r.Messages()))
		}
	}
}

// TestPaths shows what each attacker gets from a client that takes any
// certificate and falls back to plaintext.
func TestPaths(t *testing.T) {
	var r *Receiver
	var tap, strip, swap *Path
	stranger := SelfSigned("mx.there.demo")
	l := started(t, func(l *Lab) {
		r = l.Receiver("mx.there.demo", SelfSigned("mx.there.demo"))
		tap, strip, swap = l.Eavesdrop(r), l.StripSTARTTLS(r), l.Swap(r, stranger)
	})
	for _, tt := range []struct {
		name  string
		p     *Path
		reads bool
		leaf  *x509.Certificate
	}{
		{"eavesdrop", tap, false, r.Identity().Leaf()},
		{"strip", strip, true, nil},
		{"swap", swap, true, stranger.Leaf()},
	} {
		before := len(r.Messages())
		leaf, err := send(t, l, tt.p.Addr(), secret)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if n := len(r.Messages()) - before; n != 1 || r.Messages()[before].Data != secret {
			t.Errorf("%s: %d messages arrived", tt.name, n)
		}
		if (leaf == nil) != (tt.leaf == nil) || leaf != nil && !leaf.Equal(tt.leaf) {
			t.Errorf("%s: another certificate", tt.name)
		}
		if got := bytes.Contains(tt.p.Seen(), []byte("marker 4711")); got != tt.reads || tt.p.Sessions() != 1 {
			t.Errorf("%s: attacker reads it: %v, %d sessions", tt.name, got, tt.p.Sessions())
		}
	}
}

func TestWriteConfig(t *testing.T) {
	l := started(t, func(l *Lab) { l.Receiver("mx", nil) })
	c, err := l.WriteConfig(t.TempDir(), `queue.retry_first = "1s"`, `log = "text"`, `deliver.timeouts.connect = "2s"`)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Log      string
		Resolver struct{ Port int }
		Queue    struct {
			RetryFirst string `toml:"retry_first"`
		}
		Deliver struct {
			Port     int
			Timeouts struct{ Connect string }
		}
	}
	if _, err := toml.DecodeFile(c.File, &got); err != nil {
		t.Fatal(err)
	}
	if got.Log != "text" || got.Resolver.Port != l.DNSPort() || got.Deliver.Port != l.SMTPPort() || got.Queue.RetryFirst != "1s" || got.Deliver.Timeouts.Connect != "2s" {
		t.Errorf("got %+v", got)
	}
}
