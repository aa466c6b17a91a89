//go:build interop

package interop

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"danepost/internal/lab"
)

// submitter is a program that people send mail with, run as they run it.
type submitter struct {
	name   string
	user   string // default www-data
	script string // for the shell, with $TO, $CC, $BCC, $TOKEN in its environment
	from   string // envelope sender; default the user's address
	to     string // who gets it: of "to", "cc", "bcc"
	attach bool   // blob.bin is a part of it
	smtp   bool   // to the listener: only where a daemon runs
}

// submitters lists them. What each must do is the same: everybody named gets
// one copy, Bcc stays secret, subject and body are there.
func submitters() []submitter {
	const robot = "robot@home.demo"
	perl := func(code string) string { return "perl -e '" + code + "'" }
	python := func(code string) string { return "python3 - <<'END'\nimport os\nE = os.environ\n" + code + "\nEND" }
	php := func(last string) string {
		return `$(ls /usr/bin/php[0-9]* | head -1) -r 'exit(mail(getenv("TO"), "subject ".getenv("TOKEN"), "body ".getenv("TOKEN")."\n.\nbehind the dot\n", ` +
			`"From: Robot <robot@home.demo>\r\nCc: ".getenv("CC")."\r\nBcc: ".getenv("BCC")` + last + `) ? 0 : 1);'`
	}
	message := `"From: Robot <robot@home.demo>\nTo: " . $ENV{TO} . "\nCc: " . $ENV{CC} . "\nBcc: " . $ENV{BCC} . "\nSubject: subject " . $ENV{TOKEN} . "\n\nbody " . $ENV{TOKEN} . "\n.\nbehind the dot\n"`
	return []submitter{
		{name: "bsd-mailx", to: "to cc bcc", script: `echo "body $TOKEN" | bsd-mailx -s "subject $TOKEN" -c $CC -b $BCC $TO`},
		{name: "bsd-mailx -r", to: "to", from: robot, script: `echo "body $TOKEN" | bsd-mailx -a "From: Robot <robot@home.demo>" -r robot@home.demo -s "subject $TOKEN" $TO`},
		{name: "s-nail", to: "to cc bcc", attach: true, script: `echo "body $TOKEN" | s-nail -n -s "subject $TOKEN" -c $CC -b $BCC -a /etc/interop/blob.bin $TO`},
		{name: "s-nail -r", to: "to", from: robot, script: `echo "body $TOKEN" | s-nail -n -r robot@home.demo -s "subject $TOKEN" $TO`},
		{name: "mutt", to: "to cc bcc", attach: true, script: `echo "body $TOKEN" | mutt -n -F /dev/null -s "subject $TOKEN" -c $CC -b $BCC -a /etc/interop/blob.bin -- $TO`},
		{name: "mutt with an envelope sender", to: "to", from: robot,
			script: `echo "body $TOKEN" | mutt -n -F /dev/null -e 'set from=robot@home.demo use_envelope_from=yes' -s "subject $TOKEN" -- $TO`},
		{name: "mailutils", to: "to cc bcc", script: `echo "body $TOKEN" | mail.mailutils -s "subject $TOKEN" -a "Cc: $CC" -a "Bcc: $BCC" $TO`},
		{name: "mailutils -r", to: "to", from: robot, script: `echo "body $TOKEN" | mail.mailutils -r robot@home.demo -s "subject $TOKEN" $TO`},
		{name: "git send-email", to: "to cc bcc", from: robot, script: `
printf 'From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: Robot <robot@home.demo>\nDate: Sun, 22 Nov 2026 01:02:03 +0000\nSubject: [PATCH] subject %s\n\nbody %s\n---\n f | 1 +\n 1 file changed, 1 insertion(+)\n\ndiff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+.\n-- \n2.39.5\n' $TOKEN $TOKEN > $HOME/0001.patch
git send-email --confirm=never --suppress-cc=all --from=robot@home.demo --envelope-sender=auto --to=$TO --cc=$CC --bcc=$BCC $HOME/0001.patch`},
		{name: "PHP mail()", to: "to cc bcc", script: php("")},
		{name: "PHP mail() with -f", to: "to cc bcc", from: robot, script: php(`, "-frobot@home.demo"`)},
		{name: "Python subprocess", to: "to cc bcc", script: python(`
import subprocess, email.message
m = email.message.EmailMessage()
m["From"], m["To"], m["Cc"], m["Bcc"], m["Subject"] = "Robot <robot@home.demo>", E["TO"], E["CC"], E["BCC"], "subject " + E["TOKEN"]
m.set_content("body " + E["TOKEN"] + "\nGrüße\n", cte="8bit")
subprocess.run(["/usr/sbin/sendmail", "-t", "-oi"], input=m.as_bytes(), check=True)`)},
		{name: "Python smtplib", smtp: true, to: "to cc bcc", from: robot, script: python(`
import smtplib, email.message
m = email.message.EmailMessage()
m["From"], m["To"], m["Cc"], m["Bcc"], m["Subject"] = "Robot <robot@home.demo>", E["TO"], E["CC"], E["BCC"], "subject " + E["TOKEN"]
m.set_content("body " + E["TOKEN"] + "\n.\nGrüße\n")
with smtplib.SMTP("127.0.0.1") as s:
    s.send_message(m)`)},
		{name: "Perl, a pipe to sendmail", to: "to cc bcc", script: perl(`open(my $m, "|-", "/usr/sbin/sendmail -t -i") or die; print $m ` + message + `; close($m) or die $?`)},
		{name: "Perl MIME::Lite", to: "to cc bcc", from: robot, script: perl(`use MIME::Lite; MIME::Lite->new(From => "Robot <robot\@home.demo>", To => $ENV{TO}, Cc => $ENV{CC}, Bcc => $ENV{BCC}, Subject => "subject $ENV{TOKEN}", Data => "body $ENV{TOKEN}\n.\nbehind the dot\n")->send or die`)},
		{name: "Perl Email::Sender", to: "to", from: robot, script: perl(`use Email::Sender::Simple qw(sendmail); use Email::Sender::Transport::Sendmail; use Email::Simple; ` +
			`sendmail(Email::Simple->new("From: robot\@home.demo\nTo: $ENV{TO}\nSubject: subject $ENV{TOKEN}\n\nbody $ENV{TOKEN}\n.\nbehind the dot\n"), { transport => Email::Sender::Transport::Sendmail->new })`)},
		{name: "Perl Mail::Mailer", to: "to cc bcc", script: perl(`use Mail::Mailer; my $m = Mail::Mailer->new("sendmail"); $m->open({From => "robot\@home.demo", To => $ENV{TO}, Cc => $ENV{CC}, Bcc => $ENV{BCC}, Subject => "subject $ENV{TOKEN}"}); print $m "body $ENV{TOKEN}\n"; $m->close or die`)},
		{name: "Perl Mail::Sendmail", smtp: true, to: "to cc bcc", from: robot, script: perl(`use Mail::Sendmail; sendmail(From => "Robot <robot\@home.demo>", To => $ENV{TO}, Cc => $ENV{CC}, Bcc => $ENV{BCC}, Subject => "subject $ENV{TOKEN}", Message => "body $ENV{TOKEN}\n.\nbehind the dot\n", Smtp => "127.0.0.1") or die $Mail::Sendmail::error`)},
		{name: "logwatch", user: "root", to: "to", script: `mkdir -p /var/cache/logwatch; logwatch --output mail --format text --range all --service zz-sys --mailto $TO --subject "subject $TOKEN, body $TOKEN"`},
		{name: "swaks", smtp: true, to: "to", from: robot, script: `swaks --server 127.0.0.1 --from robot@home.demo --to $TO --header "Subject: subject $TOKEN" --body "body $TOKEN"`},
		{name: "swaks to sendmail -bs", to: "to", from: robot, script: `swaks --pipe "/usr/sbin/sendmail -bs" --from robot@home.demo --to $TO --header "Subject: subject $TOKEN" --body "body $TOKEN"`},
		{name: "a web server's program", to: "to cc bcc", script: `printf 'To: %s\nCc: %s\nBcc: %s\nSubject: subject %s\n\nbody %s\n' $TO $CC $BCC $TOKEN $TOKEN | /usr/sbin/sendmail -t`},
		{name: "a user without shell and home", user: "noshell", to: "to", script: `printf 'Subject: subject %s\n\nbody %s\n' $TOKEN $TOKEN | /usr/sbin/sendmail $TO`},
		{name: "a user without a name", user: "54321:54321", to: "to", from: "54321@host.home.demo", script: `printf 'Subject: subject %s\n\nbody %s\n' $TOKEN $TOKEN | /usr/sbin/sendmail -i $TO`},
	}
}

// blob is an attachment.
func blob() []byte {
	b := make([]byte, 20_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// testSubmitters runs all of them with the daemon up and, in a root of its
// own, with the daemon down; there it comes up when they are done.
func testSubmitters(t *testing.T) {
	h := newHome()
	h.start(t)
	t.Run("programs", func(t *testing.T) {
		for name, up := range map[string]bool{"up": true, "down": false} {
			r := newRoot(t, "submitters-"+name, "submitters")
			if err := h.prepare(r, up); err != nil {
				t.Fatal(err)
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h.testPrograms(t, r, up)
			})
		}
	})
}

// prepare makes a root in which all of the submitters can work.
func (h *home) prepare(r *root, up bool) error {
	var more []string
	if up {
		more = []string{"[submission]", `listen = "127.0.0.1:25"`}
	}
	if err := h.install(r, more...); err != nil {
		return err
	}
	if err := r.user("noshell", 970, "/nonexistent"); err != nil {
		return err
	}
	token := "cron-" + r.name
	err := r.write(map[string]string{
		"/etc/interop/blob.bin": string(blob()),
		"/etc/mailname":         "host.home.demo\n",
		"/etc/cron.d/interop":   fmt.Sprintf("* * * * * root echo body %s-root\nMAILTO=%s-to@inbox.demo\n* * * * * www-data echo body %s-www\n", token, token, token),
	})
	if err != nil {
		return err
	}
	for user, dir := range map[string]string{"root": "/var/spool/cron/crontabs", "www-data": "/home/www"} {
		if err := r.own(user, dir); err != nil {
			return err
		}
	}
	_, err = r.run("chmod", "1777", "/tmp")
	return err
}

func (h *home) testPrograms(t *testing.T, r *root, up bool) {
	if up {
		if err := serve(t, r); err != nil {
			t.Fatal(err)
		}
	}
	cron, err := r.start("cron", "/usr/sbin/cron", "-f", "-L", "15")
	if err != nil {
		t.Fatal(err)
	}
	cron.stopAtEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	sent := map[string]submitter{}
	for i, s := range submitters() {
		if s.smtp && !up {
			continue
		}
		token := fmt.Sprintf("%s-%d-end", r.name, i)
		sent[token] = s
		if err := s.run(r, token); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if !up {
		// Root's cron job delivers, and what lies in the maildrop with it;
		// whatever is left is the daemon's when it comes up.
		if err := h.checkCron(ctx, r); err != nil {
			t.Error(err)
		}
		if err := serve(t, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, token := range sortedKeys(sent) {
		limit, cancel := context.WithTimeout(ctx, 15*time.Second)
		if err := h.check(limit, sent[token], token); err != nil {
			t.Errorf("%s: %v", sent[token].name, err)
		}
		cancel()
	}
	if up {
		if err := h.checkCron(ctx, r); err != nil {
			t.Error(err)
		}
		section(t, "80-submitters", submittersTable())
	}
	if t.Failed() {
		text, _ := os.ReadFile(cron.log)
		t.Logf("cron: %s", text)
	}
}

// submittersTable lists the programs; a run that failed shows no report.
func submittersTable() string {
	var names []string
	for _, s := range submitters() {
		names = append(names, s.name)
	}
	return fmt.Sprintf("\n## Mail programs\n\nIn the place of the host's sendmail, with the daemon up and with it down: %d ways of handing over and two jobs of cron, each copy looked\n"+
		"at (sender, recipients, body, attachment, no Bcc, TLS). %s.\n", len(names), strings.Join(names, "; "))
}

func address(who, token string) string { return who + "-" + token + "@inbox.demo" }

func (s submitter) run(r *root, token string) error {
	if s.user == "" {
		s.user = "www-data"
	}
	homeDir := map[string]string{"www-data": "/home/www", "root": "/root"}[s.user]
	if homeDir == "" {
		homeDir = "/nonexistent"
	}
	out, err := r.do(call{user: s.user, argv: []string{"/bin/sh", "-c", s.script}, env: []string{
		"TOKEN=" + token, "TO=" + address("to", token), "CC=" + address("cc", token), "BCC=" + address("bcc", token),
		"HOME=" + homeDir, "USER=" + s.user, "LOGNAME=" + s.user,
	}})
	if err == nil && out.code != 0 {
		err = fmt.Errorf("exit status %d\n%s%s", out.code, out.stdout, out.stderr)
	}
	return err
}

// check waits for the submitter's mail and looks at every copy.
func (h *home) check(ctx context.Context, s submitter, token string) error {
	var to []string
	for _, who := range strings.Fields(s.to) {
		to = append(to, address(who, token))
	}
	if s.from == "" {
		s.from = s.user + "@host.home.demo"
		if s.user == "" {
			s.from = "www-data@host.home.demo"
		}
	}
	got, err := received(ctx, h.inbox, "subject "+token, to...)
	if err != nil {
		return err
	}
	var wrong []string
	for _, m := range got {
		if m.From != s.from {
			wrong = append(wrong, fmt.Sprintf("envelope sender %q, want %q", m.From, s.from))
		}
		wrong = append(wrong, wellFormed(m.Data, address("bcc", token))...)
		if !strings.Contains(m.Data, "body "+token) {
			wrong = append(wrong, "the body is not there")
		}
		if s.attach {
			if ok, err := attached(m); err != nil || !ok {
				wrong = append(wrong, fmt.Sprintf("the attachment is not what was attached (%v)", err))
			}
		}
		if m.TLS == nil {
			wrong = append(wrong, "it came in the clear")
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s; the message:\n%.1500s", strings.Join(wrong, "; "), got[0].Data)
	}
	return nil
}

// attached reports whether the message has a part that is blob.
func attached(m lab.Message) (bool, error) {
	msg, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		return false, err
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return false, err
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		p, err := parts.NextPart()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if p.FileName() == "blob.bin" {
			b, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
			return slices.Equal(b, blob()), err
		}
	}
}

// checkCron waits for what the two jobs said: root's goes to the postmaster,
// that of www-data where MAILTO says.
func (h *home) checkCron(ctx context.Context, r *root) error {
	for marker, to := range map[string]string{"-root": "admin@inbox.demo", "-www": "cron-" + r.name + "-to@inbox.demo"} {
		limit, cancel := context.WithTimeout(ctx, 90*time.Second)
		m, err := h.inbox.Wait(limit, func(m lab.Message) bool {
			return strings.Contains(m.Data, "body cron-"+r.name+marker) && slices.Equal(m.To, []string{to})
		})
		cancel()
		if err != nil {
			return fmt.Errorf("cron, job %s: %w", marker, err)
		}
		if wrong := wellFormed(m.Data); len(wrong) > 0 || !strings.Contains(m.Data, "\r\nX-Cron-Env: ") {
			return fmt.Errorf("cron, job %s: %v\n%s", marker, wrong, m.Data)
		}
	}
	return nil
}
