package bench

import (
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Where Postfix takes mail here: the second port puts it on hold.
const (
	postfixPort = "127.0.0.1:2525"
	holdPort    = "127.0.0.1:2526"
)

func (l *lab) postfixDir() string { return filepath.Join(l.scratch, "postfix") }

// configurePostfix gives Postfix an empty queue and Debian's configuration
// with DANE switched on.
func (l *lab) configurePostfix(more ...string) error {
	dir := l.postfixDir()
	if err := l.discard(dir); err != nil {
		return err
	}
	for _, d := range []string{"spool", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if _, err := run("chown", "postfix", filepath.Join(dir, "data")); err != nil {
		return err
	}
	main := append([]string{
		// as Debian installs it
		"compatibility_level = 3.6", "biff = no", "append_dot_mydomain = no", "mailbox_size_limit = 0",
		"smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache", "smtp_tls_CApath = /etc/ssl/certs",
		"smtpd_relay_restrictions = permit_mynetworks defer_unauth_destination",
		// DANE
		"smtp_dns_support_level = dnssec", "smtp_tls_security_level = dane", "smtp_tls_loglevel = 1",
		// this network
		"myhostname = client.bench", "mydestination =", "mynetworks = 127.0.0.0/8", "inet_interfaces = 127.0.0.1",
		"alias_maps =", "alias_database =", "local_recipient_maps =",
		"queue_directory = " + filepath.Join(dir, "spool"), "data_directory = " + filepath.Join(dir, "data"),
		"maillog_file = " + l.postfixLog(), "maillog_file_prefixes = /var, /dev/stdout, " + l.scratch,
	}, more...)
	if err := os.WriteFile("/etc/postfix/main.cf", []byte(strings.Join(main, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	if err := l.postfixServices(); err != nil {
		return err
	}
	_, err := run("postfix", "check")
	return err
}

// postfixServices writes master.cf: Debian's, without chroot, with listeners
// on ports of this program and with tlsproxy, which Debian leaves out and
// without which Postfix cannot use a TLS connection twice.
func (l *lab) postfixServices() error {
	original := filepath.Join(l.scratch, "master.cf")
	if _, err := os.Stat(original); err != nil {
		if _, err := run("cp", "/etc/postfix/master.cf", original); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(original)
	if err != nil {
		return err
	}
	var b strings.Builder
	skip := false
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if strings.TrimLeft(line, " \t#") == "" || line[0] == '#' {
			continue
		}
		if line[0] != ' ' && line[0] != '\t' && len(f) >= 8 {
			if skip = f[1] == "inet" || f[0] == "tlsproxy"; skip {
				continue
			}
			f[4] = "n"
			line = strings.Join(f, " ") + "\n"
		}
		if !skip {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "tlsproxy unix - - n - 0 tlsproxy\n%s inet n - n - - smtpd\n%s inet n - n - - smtpd\n"+
		"  -o { smtpd_client_restrictions = check_client_access static:hold }\n", postfixPort, holdPort)
	return os.WriteFile("/etc/postfix/master.cf", []byte(b.String()), 0o644)
}

func (l *lab) postfixLog() string { return filepath.Join(l.postfixDir(), "mail.log") }

// startPostfix starts what configurePostfix set up.
func (l *lab) startPostfix() (*daemon, error) {
	d, err := start(l.scratch, "postfix", "postfix", "start-fg")
	if err != nil {
		return nil, err
	}
	return d, d.await(20*time.Second, func() bool {
		data, err := os.ReadFile(l.postfixLog())
		return err == nil && strings.Contains(string(data), "daemon started")
	})
}

// postfixLogged is what Postfix says it did.
type postfixLogged struct {
	Sent, Verified, Reused, Deferred, Bounced, OtherTLS int
}

func (l *lab) postfixLogged() (postfixLogged, error) {
	data, err := os.ReadFile(l.postfixLog())
	count := func(s string) int { return strings.Count(string(data), s) }
	return postfixLogged{
		Sent: count("status=sent"), Verified: count(": Verified TLS connection established to"), Reused: count(": Verified TLS connection reused"),
		Deferred: count("status=deferred"), Bounced: count("status=bounced"),
		OtherTLS: count(": Trusted TLS connection") + count(": Untrusted TLS connection") + count(": Anonymous TLS connection"),
	}, err
}

// fillPostfix puts n held messages into Postfix's queue.
func (l *lab) fillPostfix(n int, to func(int) string) error {
	var next, failed atomic.Int64
	var first atomic.Value
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := smtp.Dial(holdPort)
			for i := int(next.Add(1)) - 1; err == nil && i < n; i = int(next.Add(1)) - 1 {
				err = l.submit(c, to(i), i)
			}
			if err != nil {
				failed.Add(1)
				first.CompareAndSwap(nil, err.Error())
				return
			}
			c.Quit()
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		return fmt.Errorf("filling Postfix's queue: %v", first.Load())
	}
	return nil
}

func (l *lab) submit(c *smtp.Client, to string, i int) error {
	if err := c.Mail(sender); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(l.message(to, i)); err != nil {
		return err
	}
	return w.Close()
}

// sender of all messages. They are never returned: nobody answers for it.
const sender = "bench@client.bench"

// message is one message of the size wanted, with CRLF.
func (l *lab) message(to string, i int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: message %d\r\nMessage-ID: <%d.%d@client.bench>\r\nDate: %s\r\n\r\n",
		sender, to, i, l.begun.UnixNano(), i, l.begun.Format(time.RFC1123Z))
	line := strings.Repeat("x", 62) + "\r\n"
	for b.Len()+len(line) <= l.o.Size {
		b.WriteString(line)
	}
	return []byte(b.String())
}
