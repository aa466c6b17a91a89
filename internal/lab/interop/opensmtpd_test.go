//go:build interop

package interop

import (
	"fmt"
	"strings"
)

// smtpdReceiver is OpenSMTPD.
func smtpdReceiver() *receiver {
	v := &receiver{software: "opensmtpd", net: 27, maildir: "/home/box/Maildir"}
	v.start = func() (*daemon, error) {
		for name, id := range map[string]int{"opensmtpd": 977, "opensmtpq": 976, "box": 975} {
			home := "/var/lib/opensmtpd/empty"
			if name == "box" {
				home = "/home/box"
			}
			if err := v.root.user(name, id, home); err != nil {
				return nil, err
			}
		}
		var c strings.Builder
		c.WriteString("smtp max-message-size \"60M\"\n")
		for _, w := range v.ways {
			if w.id != nil {
				fmt.Fprintf(&c, "pki %q cert \"/etc/interop/%[2]s.crt\"\npki %[1]q key \"/etc/interop/%[2]s.key\"\n", v.host(w.label), w.label)
			}
		}
		for i, w := range v.ways {
			fmt.Fprintf(&c, "listen on %s", v.address(i))
			if w.id != nil {
				fmt.Fprintf(&c, " tls pki %q", v.host(w.label))
			}
			c.WriteString(" hostname \"mx.opensmtpd.interop\"\n")
		}
		c.WriteString("action \"box\" maildir \"" + v.maildir + "\"\nmatch from any for any action \"box\"\n")
		if err := v.root.write(map[string]string{"/etc/smtpd.conf": c.String(), "/etc/mailname": "mx.opensmtpd.interop\n"}); err != nil {
			return nil, err
		}
		for dir, owner := range map[string]string{"/var/lib/opensmtpd/empty": "root", "/var/spool/smtpd": "root", "/home/box": "box"} {
			if err := v.root.own(owner, dir); err != nil {
				return nil, err
			}
		}
		if _, err := v.root.run("chmod", "711", "/var/spool/smtpd"); err != nil {
			return nil, err
		}
		return v.root.start("smtpd", "/usr/sbin/smtpd", "-d")
	}
	return v
}
