package submit

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sender(s string) *string { return &s }

// TestCallers has the literal command lines of programs that send mail.
func TestCallers(t *testing.T) {
	tests := []struct {
		who  string
		argv []string
		want Args
	}{
		{"cron", []string{"/usr/sbin/sendmail", "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"},
			Args{IgnoreDots: true, FullName: "CronDaemon", Body: "8BITMIME", Recipients: []string{"root"}}},
		{"systemd-cron", []string{"sendmail", "-i", "-B8BITMIME", "x"},
			Args{IgnoreDots: true, Body: "8BITMIME", Recipients: []string{"x"}}},
		{"PHP", []string{"sendmail", "-t", "-i"},
			Args{FromHeaders: true, IgnoreDots: true, Recipients: []string{}}},
		{"PHP with -f", []string{"sendmail", "-t", "-i", "-fwww@example.org"},
			Args{FromHeaders: true, IgnoreDots: true, Sender: sender("www@example.org"), Recipients: []string{}}},
		{"git send-email", []string{"sendmail", "-f", "a@example.org", "-i", "rcpt@example.net"},
			Args{IgnoreDots: true, Sender: sender("a@example.org"), Recipients: []string{"rcpt@example.net"}}},
		{"mutt", []string{"sendmail", "-oem", "-oi", "-f", "a@example.org", "--", "rcpt@example.net", "b@example.net"},
			Args{IgnoreDots: true, Sender: sender("a@example.org"), Recipients: []string{"rcpt@example.net", "b@example.net"}}},
		{"MIME::Lite", []string{"sendmail", "-t", "-oi", "-oem", "-fA"},
			Args{FromHeaders: true, IgnoreDots: true, Sender: sender("A"), Recipients: []string{}}},
		{"Ruby Mail", []string{"sendmail", "-i", "-f", "a@example.org", "--", "rcpt@example.net"},
			Args{IgnoreDots: true, Sender: sender("a@example.org"), Recipients: []string{"rcpt@example.net"}}},
		{"PHPMailer", []string{"sendmail", "-oi", "-fX@example.org", "-t"},
			Args{FromHeaders: true, IgnoreDots: true, Sender: sender("X@example.org"), Recipients: []string{}}},
		{"Symfony", []string{"sendmail", "-bs"}, Args{Mode: ModeSMTP, Recipients: []string{}}},
		{"fail2ban", []string{"sendmail", "-f", "fail2ban@example.org", "dest@example.net"},
			Args{Sender: sender("fail2ban@example.org"), Recipients: []string{"dest@example.net"}}},
		{"unattended-upgrades", []string{"sendmail", "-oi", "-t"},
			Args{FromHeaders: true, IgnoreDots: true, Recipients: []string{}}},
		{"mailutils", []string{"sendmail", "-oi", "-t"},
			Args{FromHeaders: true, IgnoreDots: true, Recipients: []string{}}},
		{"mailutils mail -r", []string{"sendmail", "-f", "a@example.org", "-oi", "-t"},
			Args{FromHeaders: true, IgnoreDots: true, Sender: sender("a@example.org"), Recipients: []string{}}},
		{"bsd-mailx", []string{"send-mail", "-i", "root"},
			Args{IgnoreDots: true, Recipients: []string{"root"}}},
		{"s-nail", []string{"sendmail", "-i", "-r", "a@example.org", "--", "rcpt@example.net"},
			Args{IgnoreDots: true, Sender: sender("a@example.org"), Recipients: []string{"rcpt@example.net"}}},
		{"heirloom mailx with metoo", []string{"sendmail", "-i", "-m", "-v", "rcpt@example.net"},
			Args{IgnoreDots: true, Verbose: true, Recipients: []string{"rcpt@example.net"}}},
		{"mdadm, logwatch", []string{"/usr/sbin/sendmail", "-t"},
			Args{FromHeaders: true, Recipients: []string{}}},
		{"mailq", []string{"/usr/bin/mailq"}, Args{Mode: ModeList, Recipients: []string{}}},
		{"newaliases", []string{"newaliases"}, Args{Mode: ModeAliases, Recipients: []string{}}},
	}
	for _, tt := range tests {
		t.Run(tt.who, func(t *testing.T) {
			got, err := ParseArgs(tt.argv)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestParseArgs(t *testing.T) {
	tests := []struct {
		line string
		want Args
	}{
		{"-ti", Args{FromHeaders: true, IgnoreDots: true}},
		{"-it", Args{FromHeaders: true, IgnoreDots: true}},
		{"-vtf a@b x", Args{Verbose: true, FromHeaders: true, Sender: sender("a@b"), Recipients: []string{"x"}}},
		{"-f <> x", Args{Sender: sender("<>"), Recipients: []string{"x"}}},
		{"-f '' x", Args{Sender: sender(""), Recipients: []string{"x"}}},
		{"-r a@b x", Args{Sender: sender("a@b"), Recipients: []string{"x"}}},
		{"-o i x", Args{IgnoreDots: true, Recipients: []string{"x"}}},
		{"-odi x", Args{Attempt: AttemptWait, Recipients: []string{"x"}}},
		{"-odb x", Args{Recipients: []string{"x"}}},
		{"-odq x", Args{Attempt: AttemptNone, Recipients: []string{"x"}}},
		{"-oee -oep -oQ/tmp -oZ x", Args{Recipients: []string{"x"}}},
		{"-em x", Args{Recipients: []string{"x"}}},
		{"-B 7bit x", Args{Body: "7BIT", Recipients: []string{"x"}}},
		{"-N failure,delay -R hdrs -V id7 x", Args{Notify: "FAILURE,DELAY", Ret: "HDRS", EnvID: "id7", Recipients: []string{"x"}}},
		{"-N never x", Args{Notify: "NEVER", Recipients: []string{"x"}}},
		{"-O requiretls -Osmtputf8 -O DeliveryMode=b -O QueueLA=9 x", Args{RequireTLS: true, SMTPUTF8: true, Recipients: []string{"x"}}},
		{"-Ac -Am -G -L tag -h 3 -n -U -X /tmp/log -C /etc/passwd -C/x -d0.1 -d x", Args{Recipients: []string{"x"}}},
		{"-bm x", Args{Recipients: []string{"x"}}},
		{"-bp", Args{Mode: ModeList}},
		{"-bi", Args{Mode: ModeAliases}},
		{"-bv x", Args{Mode: ModeVerify, Recipients: []string{"x"}}},
		{"-bd", Args{Mode: ModeServe}},
		{"-bd -q30m", Args{Mode: ModeServe, Interval: 30 * time.Minute}},
		{"-q30m -bd", Args{Mode: ModeServe, Interval: 30 * time.Minute}},
		{"-q1h30m", Args{Mode: ModeServe, Interval: 90 * time.Minute}},
		{"-q15", Args{Mode: ModeServe, Interval: 15 * time.Minute}},
		{"-q", Args{Mode: ModeRun}},
		{"-qf", Args{Mode: ModeRun}},
		{"-qIabc", Args{Mode: ModeRun, Select: Selector{ID: "abc"}}},
		{"-qR@example.net -v", Args{Mode: ModeRun, Verbose: true, Select: Selector{Recipient: "@example.net"}}},
		{"-qSroot", Args{Mode: ModeRun, Select: Selector{Sender: "root"}}},
		{"-- -odd@example.net", Args{Recipients: []string{"-odd@example.net"}}},
		{"-i -- -f x", Args{IgnoreDots: true, Recipients: []string{"-f", "x"}}},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			argv := []string{"sendmail"}
			for _, w := range strings.Fields(tt.line) {
				argv = append(argv, strings.ReplaceAll(w, "''", ""))
			}
			got, err := ParseArgs(argv)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Recipients) == 0 {
				got.Recipients = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestParseArgsRefuses(t *testing.T) {
	for _, line := range []string{
		"-Z x", "-tZ", "-bz", "-b", "-bs2", "--help", "-f", "-B 9BIT x", "-N sometimes x", "-N never,delay x",
		"-R all x", "-q30x", "-qI", "-q0", "-q99999999h", "x -f y", "x --", "-",
	} {
		t.Run(line, func(t *testing.T) {
			a, err := ParseArgs(append([]string{"sendmail"}, strings.Fields(line)...))
			if ExitCode(err) != ExitUsage {
				t.Errorf("got %+v, error %v; want EX_USAGE", a, err)
			}
		})
	}
}
