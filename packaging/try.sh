#!/bin/sh
# try.sh DIST tries this machine's packages out: dpkg installs, upgrades,
# removes and purges the .deb in a root of its own, and OpenWrt's scripts run
# under busybox in another. Needs root and namespaces, and says where it lacks
# them. The host's files are only read.
set -eu
cd "$1"
arch=$(dpkg --print-architecture 2>/dev/null || echo none)
deb=$(ls danepost_*_"$arch".deb 2>/dev/null || true)
if [ -z "$deb" ]; then
	echo "packages not tried: this machine has no dpkg"
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! unshare --mount --net --pid --fork true 2>/dev/null; then
	echo "packages not tried: that needs root and namespaces"
	exit 0
fi
if [ -z "${DANEPOST_TRY:-}" ]; then
	DANEPOST_TRY=1 exec unshare --mount --net --pid --fork --propagation private sh "$OLDPWD/packaging/try.sh" "$PWD"
fi

fail() {
	echo "$*" >&2
	exit 1
}
# is FILE WANT compares mode, owner and group of a file in the root.
is() {
	got=$(chroot "$root" stat -c '%a %U %G' "$1") || fail "$1 is missing"
	[ "$got" = "$2" ] || fail "$1 is $got, wanted $2"
}
absent() { [ ! -e "$root$1" ] && [ ! -L "$root$1" ] || fail "$1 is still there"; }
# quietly shows what a command said only when it fails.
quietly() { said=$("$@" 2>&1) || fail "$*: $said"; }
inside() { chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
as_nobody() { chroot --userspec=nobody:nogroup "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
# called checks what systemctl was called with since the last time.
called() {
	got=$(cat "$root/tmp/systemctl" 2>/dev/null | tr '\n' ';')
	: >"$root/tmp/systemctl"
	[ "$got" = "$1" ] || fail "systemctl was called with '$got', wanted '$1'"
}
drops() { ls "$root/var/lib/danepost/maildrop" | wc -l; }

# --- Debian: this system's programs, and a package database that is empty.
top=$(mktemp -d)
trap 'umount -l "$top" 2>/dev/null; rmdir "$top"' EXIT
mount -t tmpfs -o mode=755 danepost-try "$top"
root=$top/root
mkdir -p "$root/proc" "$root/dev" "$root/run/systemd/system" "$root/tmp" "$root/root"
for d in usr etc var; do
	mkdir -p "$root/$d" "$top/changed/$d" "$top/scratch/$d"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$top/changed/$d,workdir=$top/scratch/$d" "$root/$d"
done
for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
rm -rf "$root/var/lib/danepost" "$root/etc/danepost.toml" "$root/usr/sbin/sendmail" "$root/usr/lib/sendmail" "$root/usr/bin/mailq" "$root/usr/bin/newaliases" "$root/usr/bin/danepost"
inside sed -i '/^danepost-/d' /etc/group
mkdir -p "$root/usr/local/bin"
printf '#!/bin/sh\necho "$*" >>/tmp/systemctl\n' >"$root/usr/local/bin/systemctl"
chmod 755 "$root/usr/local/bin/systemctl"
printf 'Package: passwd\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n' >"$root/var/lib/dpkg/status"
cp "$deb" "$root/tmp/first.deb"
dpkg-deb -R "$deb" "$top/next"
sed -i 's/^Version: .*/&+next/' "$top/next/DEBIAN/control"
dpkg-deb --root-owner-group --build "$top/next" "$root/tmp/next.deb" >/dev/null

quietly inside dpkg -i /tmp/first.deb
called 'daemon-reload;enable --now danepost.service;'
set_up() {
	is /usr/bin/danepost '2755 root danepost-drop'
	is /var/lib/danepost '711 root root'
	is /var/lib/danepost/maildrop '1730 root danepost-drop'
	is /usr/sbin/sendmail '777 root root'
	inside getent group danepost-adm >/dev/null || fail "there is no group danepost-adm"
}
set_up
said=$(inside danepost version)
have=$(inside dpkg-query -W -f '${Version}' danepost)
case $said in "danepost $(echo "$have" | sed 's/^0~devel$/devel/' | tr '~' -) "*) ;; *) fail "the package is $have, the binary '$said'" ;; esac
zcat "$root/usr/share/man/man8/danepost.8.gz" | grep -q "^\.TH .*\"danepost $(echo "$said" | cut -d ' ' -f 2)\"" || fail "the man page is not of version $said"
printf 'Subject: x\n\nx\n' | as_nobody /usr/lib/sendmail -i bob@there.example || fail "a user without a home cannot send"
[ "$(drops)" = 1 ] || fail "the message is not in the maildrop"
is "/var/lib/danepost/maildrop/$(ls "$root/var/lib/danepost/maildrop")" '640 nobody danepost-drop'
said=$(as_nobody mailq 2>&1) || fail "mailq of a user without a home: $said"
case $said in *"in the maildrop is not shown"*) ;; *) fail "mailq says nothing of the maildrop: $said" ;; esac
! as_nobody ls /var/lib/danepost/maildrop >/dev/null 2>&1 || fail "anybody can list the maildrop"

quietly inside dpkg -i /tmp/next.deb
called 'daemon-reload;daemon-reload;try-restart danepost.service;'
set_up
[ "$(drops)" = 1 ] || fail "the upgrade lost a message"

# A right that the administrator gave outlives upgrades.
quietly inside dpkg-statoverride --update --add root root 0755 /usr/bin/danepost
quietly inside dpkg -i /tmp/next.deb
is /usr/bin/danepost '755 root root'
quietly inside dpkg-statoverride --remove /usr/bin/danepost
: >"$root/tmp/systemctl"

quietly inside dpkg -r danepost
called 'disable --now danepost.service;daemon-reload;'
absent /usr/sbin/sendmail
absent /usr/bin/danepost
[ "$(drops)" = 1 ] || fail "removing the package lost a message"
quietly inside dpkg -i /tmp/first.deb
set_up
[ "$(drops)" = 1 ] || fail "installing again lost a message"
echo '# mine' >"$root/etc/danepost.toml"
quietly inside dpkg --purge danepost
absent /var/lib/danepost
absent /usr/lib/danepost
[ -e "$root/etc/danepost.toml" ] || fail "purging took a configuration that a person wrote"
! inside getent group danepost-drop >/dev/null || fail "the group danepost-drop is still there"
echo "$deb: installed, upgraded, removed, purged"

# --- make install, in the same root: with DESTDIR nothing else is touched;
# without, twice, it sets everything up and leaves another's program alone.
cp -r ../packaging "$root/tmp/packaging"
cp "$top/next/usr/bin/danepost" "$root/tmp/danepost"
quietly inside DESTDIR=/tmp/dest sh /tmp/packaging/install.sh /tmp/danepost
absent /usr/local/bin/danepost
absent /var/lib/danepost
! inside getent group danepost-drop >/dev/null || fail "DESTDIR did not keep the groups from being made"
is /tmp/dest/usr/local/bin/danepost '755 root root'
is /tmp/dest/usr/local/lib/danepost/setup '755 root root'
grep -q '^ExecStart=/usr/local/bin/danepost serve$' "$root/tmp/dest/usr/local/lib/systemd/system/danepost.service" || fail "the unit starts another program"
[ "$(readlink "$root/tmp/dest/usr/local/sbin/sendmail")" = /usr/local/bin/danepost ] || fail "sendmail leads elsewhere"
mkdir -p "$root/usr/local/bin" "$root/usr/local/sbin"
echo other >"$root/usr/local/bin/mailq"
for time in first second; do
	quietly inside sh /tmp/packaging/install.sh /tmp/danepost
	is /usr/local/bin/danepost '2755 root danepost-drop'
	is /var/lib/danepost '711 root root'
	is /var/lib/danepost/maildrop '1730 root danepost-drop'
	[ "$(cat "$root/usr/local/bin/mailq")" = other ] || fail "the $time make install overwrote another's mailq"
done
printf 'Subject: x\n\nx\n' | chroot --userspec=nobody:nogroup "$root" /usr/local/sbin/sendmail -i bob@there.example || fail "after make install a user without a home cannot send"
[ "$(drops)" = 1 ] || fail "the message is not in the maildrop"
echo "make install: with and without DESTDIR, twice"

# --- OpenWrt: busybox, and what /lib/functions.sh and rc.common do there, as
# far as the package's scripts use it.
busybox=$(command -v busybox || true)
ipk=$(ls danepost_*_x86_64.ipk 2>/dev/null || true)
if [ "$arch" != amd64 ] || [ -z "$busybox" ] || "$busybox" ldd "$busybox" >/dev/null 2>&1; then
	echo "OpenWrt's package not tried: that needs a static busybox (busybox-static) on amd64"
	exit 0
fi
root=$top/openwrt
mkdir -p "$root/bin" "$root/lib" "$root/etc" "$root/tmp" "$root/dev"
cp "$busybox" "$root/bin/busybox"
mount --bind /dev "$root/dev"
for applet in $("$busybox" --list); do
	case $applet in busybox | addgroup | groupadd | install) ;; *) ln -s busybox "$root/bin/$applet" ;; esac
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
cat >"$root/lib/functions.sh" <<'EOF'
config_load() { :; }
config_get() { # variable section option default
	set -- "$1" "$4" "$(sed -n "s/^[[:space:]]*option $3 '\\(.*\\)'$/\\1/p" /etc/config/danepost)"
	eval "$1=\${3:-\$2}"
}
[ -z "$IPKG_INSTROOT" ] && [ -f /lib/config/uci.sh ] && . /lib/config/uci.sh
group_add_next() {
	echo "$1:x:$((65536 + $(wc -l </etc/group))):" >>/etc/group
}
EOF
cat >"$root/etc/rc.common" <<'EOF'
. /lib/functions.sh
. "$1"
for f in open_instance set_param close_instance; do
	eval "procd_$f() { echo procd_$f \"\$@\" >>/tmp/procd; }"
done
echo "$2" >>/tmp/actions
[ "$2" != restart ] || start_service
EOF
mkdir "$top/ipk"
tar -C "$top/ipk" -xzf "$ipk"
tar -C "$root" -xzf "$top/ipk/data.tar.gz"
tar -C "$root/tmp" -xzf "$top/ipk/control.tar.gz"
wrt() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

wrt IPKG_INSTROOT=/somewhere /tmp/postinst
[ ! -e "$root/tmp/actions" ] && [ ! -e "$root/etc/danepost.toml" ] || fail "the package runs things while an image is built"
wrt /tmp/postinst
is /usr/bin/danepost '2755 root danepost-drop'
is /etc/danepost-state '711 root root'
is /etc/danepost-state/maildrop '1730 root danepost-drop'
grep -q '^danepost-adm:' "$root/etc/group" || fail "there is no group danepost-adm"
grep -q '^procd_set_param command /usr/bin/danepost serve$' "$root/tmp/procd" || fail "procd was not told to serve"
wrt danepost config check | grep -q '^state  */etc/danepost-state$' || fail "the state is not where the configuration says"
cat >>"$root/etc/config/danepost" <<'EOF'
	option hostname 'router.example'
	option postmaster 'o"brien\x@example.com'
	option relay 'smtp.example.com'
	option relay_port '465'
	option relay_username 'me'
	option relay_password_file '/etc/secret'
EOF
echo secret >"$root/etc/secret"
wrt /etc/init.d/danepost restart
said=$(wrt danepost config check) || fail "the configuration made from UCI is refused: $(cat "$root/etc/danepost.toml")"
for want in router.example 'o"brien\x@example.com' smtp.example.com; do
	echo "$said" | grep -qF "$want" || fail "$want is not in the configuration: $said"
done
echo '# mine' >"$root/etc/danepost.toml"
wrt /etc/init.d/danepost restart
[ "$(cat "$root/etc/danepost.toml")" = '# mine' ] || fail "a configuration that a person wrote was overwritten"
wrt /tmp/prerm
[ "$(tail -n 2 "$root/tmp/actions" | tr '\n' ' ')" = 'stop disable ' ] || fail "the service is not stopped and disabled"
echo "$ipk: set up, configured from UCI, removed"
