//go:build interop

package interop

import (
	"fmt"
	"strings"

	"danepost/internal/lab"
)

// Postfix, in a root of its own with the layout that Debian gives it.

// postfixServices is master.cf without the network's side.
const postfixServices = `
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
tlsproxy  unix  -       -       n       -       0       tlsproxy
dnsblog   unix  -       -       n       -       0       dnsblog
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`

// postfixMain is what every main.cf here begins with.
const postfixMain = `compatibility_level = 3.6
queue_directory = /var/spool/postfix
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = /var/log/postfix.log
biff = no
smtputf8_enable = yes
message_size_limit = 60000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
default_database_type = texthash
alias_database =
`

// startPostfix starts an instance in r; main and master are added to its
// configuration.
func startPostfix(r *root, main, master string) (*daemon, error) {
	for _, u := range []struct {
		name string
		id   int
	}{{"postfix", 980}, {"postdrop", 979}} {
		if err := r.user(u.name, u.id, "/var/spool/postfix"); err != nil {
			return nil, err
		}
	}
	err := r.write(map[string]string{
		"/etc/postfix/main.cf":        postfixMain + main,
		"/etc/postfix/master.cf":      strings.TrimLeft(postfixServices, "\n") + master,
		"/etc/postfix/dynamicmaps.cf": "",
		"/var/log/postfix.log":        "",
	})
	if err != nil {
		return nil, err
	}
	// What Debian's package does when it is installed: directories, owners
	// and the setgid bits of postdrop and postqueue.
	if _, err := r.run("postfix", "set-permissions", "create-missing"); err != nil {
		return nil, err
	}
	return r.start("postfix", "postfix", "start-fg")
}

// postfixReceiver is Postfix with its TLS levels, its delays and postscreen
// before it.
func postfixReceiver() *receiver {
	v := &receiver{software: "postfix", net: 25, maildir: "/var/mail/v/box/", logs: []string{"/var/log/postfix.log"}}
	options := map[string]string{
		"notls":   "-o smtpd_tls_security_level=none",
		"encrypt": "-o smtpd_tls_security_level=encrypt",
		"tls12":   "-o smtpd_tls_protocols=!TLSv1.3,!TLSv1.1,!TLSv1",
		"tls13":   "-o smtpd_tls_protocols=TLSv1.3",
		"askcert": "-o smtpd_tls_ask_ccert=yes",
		"fewcaps": "-o smtpd_discard_ehlo_keywords=pipelining,8bitmime,chunking,smtputf8,dsn,size",
		"slow":    "-o smtpd_client_restrictions=sleep2,permit -o smtpd_recipient_restrictions=sleep2,permit",
	}
	for _, label := range sortedKeys(options) {
		if label != "notls" {
			id := lab.SelfSigned(v.host(label))
			v.ways = append(v.ways, shown{label, id, []string{lab.TLSA(3, 1, 1, id.Leaf())}, "dane-verified", ""})
		}
	}
	id := lab.SelfSigned(v.host("postscreen"))
	v.ways = append(v.ways, shown{"postscreen", id, []string{lab.TLSA(3, 1, 1, id.Leaf())}, "dane-verified", ""})
	v.start = func() (*daemon, error) {
		var master strings.Builder
		master.WriteString("smtpd pass - - n - - smtpd -o smtpd_tls_chain_files=/etc/interop/postscreen.pem\n")
		for i, w := range v.ways {
			service, limit := "smtpd", "-"
			if w.label == "postscreen" {
				service, limit = "postscreen", "1"
			}
			fmt.Fprintf(&master, "%s:25 inet n - n - %s %s\n", v.address(i), limit, service)
			if w.id != nil {
				fmt.Fprintf(&master, "  -o smtpd_tls_chain_files=/etc/interop/%s.pem\n", w.label)
			}
			if o := options[w.label]; o != "" {
				fmt.Fprintf(&master, "  %s\n", o)
			}
		}
		if err := v.root.own("mail", "/var/mail/v"); err != nil {
			return nil, err
		}
		return startPostfix(v.root, `myhostname = mx.postfix.interop
alias_maps =
mydestination =
virtual_mailbox_domains = static:all
virtual_mailbox_base = /var/mail/v
virtual_mailbox_maps = static:box/
virtual_minimum_uid = 1
virtual_uid_maps = static:8
virtual_gid_maps = static:8
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_relay_restrictions = permit_auth_destination, reject
smtpd_recipient_restrictions =
smtpd_peername_lookup = no
sleep2 = sleep 2
smtpd_restriction_classes = sleep2
mynetworks = 127.0.0.1/32
tlsproxy_tls_chain_files = /etc/interop/postscreen.pem
postscreen_greet_wait = 3s
postscreen_greet_action = enforce
postscreen_pipelining_enable = yes
postscreen_pipelining_action = enforce
postscreen_non_smtp_command_enable = yes
postscreen_bare_newline_enable = yes
postscreen_bare_newline_action = enforce
`, master.String())
	}
	return v
}
