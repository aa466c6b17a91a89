#!/bin/sh
# setup BINARY: lets every user's sendmail take mail while no daemon runs. The
# binary becomes setgid danepost-drop, which is good for one thing: to add a
# file to the maildrop, where nobody but the daemon can list or read. Members
# of danepost-adm may act on the queue as root may. As root; safe to repeat.
set -eu
bin=$1

add_group() {
	if grep -q "^$1:" /etc/group; then
		return
	elif command -v groupadd >/dev/null; then
		groupadd --system "$1"
	elif command -v addgroup >/dev/null; then
		addgroup -S "$1" # busybox
	else
		# OpenWrt has neither by default; its functions use unset variables.
		(
			set +eu
			. /lib/functions.sh
			group_add_next "$1" >/dev/null
		)
	fi
}
add_group danepost-drop
add_group danepost-adm

# The administrator's own rights for the binary stay (Debian).
if ! { command -v dpkg-statoverride && dpkg-statoverride --list "$bin"; } >/dev/null 2>&1; then
	chgrp danepost-drop "$bin"
	chmod 2755 "$bin"
fi

# Where the configuration puts them; the defaults, should it not be in order.
named() { "$bin" config check 2>/dev/null | sed -n "s/^$1  *//p"; }
state=$(named state)
maildrop=$(named maildrop)
: "${state:=/var/lib/danepost}"
: "${maildrop:=$state/maildrop}"

[ -d "$state" ] || mkdir -p -m 711 "$state"
chmod a+x "$state" # who drops mail must be able to pass
[ -d "$maildrop" ] || mkdir -p -m 700 "$maildrop"
owner=$(ls -ldn "$state" | awk '{print $3}')
chown "$owner" "$maildrop"
chgrp danepost-drop "$maildrop"
chmod 1730 "$maildrop"
