#!/bin/sh
# Installs the binary under PREFIX (default /usr/local), with the names that
# make it sendmail. An existing sendmail of another program is left alone.
set -eu
bin=$1
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
install -Dm755 "$bin" "$prefix/bin/danepost"
install -Dm644 "$(dirname "$0")/man/danepost.8" "$prefix/share/man/man8/danepost.8"
mkdir -p "$prefix/sbin"
for name in "$prefix/sbin/sendmail" "$prefix/bin/mailq" "$prefix/bin/newaliases"; do
	if [ -e "$name" ] && [ "$(readlink "$name")" != "${PREFIX:-/usr/local}/bin/danepost" ]; then
		echo "$name exists and is not danepost's; left as it is"
		continue
	fi
	ln -sf "${PREFIX:-/usr/local}/bin/danepost" "$name"
done
echo "installed in $prefix; as root: cp packaging/systemd/danepost.service /etc/systemd/system/ to run it as a service"
