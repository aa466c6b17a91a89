//go:build interop

package interop

import (
	"fmt"
	"strings"
)

// eximReceiver is Exim (with GnuTLS, as Debian builds it).
func eximReceiver() *receiver {
	v := &receiver{software: "exim", net: 26, maildir: "/var/mail/v/box/", logs: []string{"/var/log/exim4/main.log", "/var/log/exim4/panic.log"}}
	v.start = func() (*daemon, error) {
		if err := v.root.user("Debian-exim", 978, "/var/spool/exim4"); err != nil {
			return nil, err
		}
		var addresses, certificates []string
		plain := ""
		for i, w := range v.ways {
			addresses = append(addresses, v.address(i))
			if w.id == nil {
				plain = v.address(i)
			}
			certificates = append(certificates, fmt.Sprintf("%s: %s\n", v.address(i), w.label))
		}
		shown := "${lookup{$received_ip_address}lsearch{/etc/interop/shown}{/etc/interop/$value.%s}fail}"
		if err := v.root.write(map[string]string{
			"/etc/interop/shown": strings.Join(certificates, ""),
			"/etc/exim4/exim4.conf": `primary_hostname = mx.exim.interop
daemon_smtp_ports = 25
local_interfaces = ` + strings.Join(addresses, " : ") + `
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
tls_advertise_hosts = ${if eq{$received_ip_address}{` + plain + `}{}{*}}
tls_certificate = ` + fmt.Sprintf(shown, "crt") + `
tls_privatekey = ` + fmt.Sprintf(shown, "key") + `
acl_smtp_rcpt = accept
acl_smtp_data = accept
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 100
smtp_accept_max_per_connection = 0
keep_environment =
begin routers
box:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = /var/mail/v/box
  create_directory
  maildir_format
  return_path_add
  envelope_to_add
  delivery_date_add
  user = mail
  group = mail
`}); err != nil {
			return nil, err
		}
		for dir, owner := range map[string]string{
			"/var/spool/exim4": "Debian-exim", "/var/log/exim4": "Debian-exim", "/var/mail/v": "mail",
		} {
			if err := v.root.own(owner, dir); err != nil {
				return nil, err
			}
		}
		if _, err := v.root.run("chown", "-R", "Debian-exim", "/etc/interop"); err != nil {
			return nil, err
		}
		return v.root.start("exim", "/usr/sbin/exim4", "-bdf", "-q10s")
	}
	return v
}
