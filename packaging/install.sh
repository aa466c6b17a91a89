#!/bin/sh
# Installs the binary under PREFIX (default /usr/local) with the names that
# make it sendmail, its man page, bash completion and systemd unit. An existing
# sendmail of another program is left alone. Run by root without DESTDIR, it
# also makes the groups and the maildrop (setup.sh); with DESTDIR nothing but
# what lies below that is touched.
set -eu
bin=$1
here=$(dirname "$0")
prefix=${PREFIX:-/usr/local}
to=${DESTDIR:-}$prefix
version=$("$bin" version | cut -d ' ' -f 2)

install -Dm755 "$bin" "$to/bin/danepost"
install -Dm755 "$here/setup.sh" "$to/lib/danepost/setup"
mkdir -p "$to/share/man/man8" "$to/lib/systemd/system" "$to/sbin"
"$here/manual.sh" "$version" >"$to/share/man/man8/danepost.8"
sed "s,/usr/bin/danepost,$prefix/bin/danepost," "$here/systemd/danepost.service" >"$to/lib/systemd/system/danepost.service"
chmod 644 "$to/share/man/man8/danepost.8" "$to/lib/systemd/system/danepost.service"
install -Dm644 "$here/completions/danepost.bash" "$to/share/bash-completion/completions/danepost"
for name in "$to/sbin/sendmail" "$to/bin/mailq" "$to/bin/newaliases"; do
	if { [ -e "$name" ] || [ -L "$name" ]; } && [ "$(readlink "$name")" != "$prefix/bin/danepost" ]; then
		echo "$name exists and is not danepost's; left as it is"
		continue
	fi
	ln -sf "$prefix/bin/danepost" "$name"
done
echo "danepost $version is installed in $to"

if [ -n "${DESTDIR:-}" ]; then
	echo "once it is in place, as root: $prefix/lib/danepost/setup $prefix/bin/danepost"
elif [ "$(id -u)" != 0 ]; then
	echo "not root: it works for you alone; other users need $prefix/lib/danepost/setup $prefix/bin/danepost, by root"
else
	"$prefix/lib/danepost/setup" "$prefix/bin/danepost"
	echo "groups danepost-drop and danepost-adm and the maildrop are ready; systemctl enable --now danepost starts the service"
fi
