#!/bin/sh
# Builds the static binary for every target into dist/, a Debian package for
# those that Debian has and an OpenWrt package for those that OpenWrt has, and
# prints a table of sizes. With qemu-user installed each foreign binary is also
# run: it must print its version and read a configuration. Root also tries the
# packages out (try.sh).
set -eu
cd "$(dirname "$0")/.."
out=dist
rm -rf "$out"
mkdir -p "$out"

# GOARCH variant debian-arch openwrt qemu
targets="amd64 - amd64 x86_64 -
arm 5 armel arm_v5 qemu-arm
arm 6 - arm_v6 qemu-arm
arm 7 armhf arm_v7 qemu-arm
arm64 - arm64 aarch64 qemu-aarch64
mipsle softfloat - mipsel_softfloat qemu-mipsel
riscv64 - riscv64 riscv64 qemu-riscv64"

smoke() { # binary, emulator
	emu=$2
	if [ "$emu" = - ]; then
		emu=""
	elif command -v "$emu-static" >/dev/null; then
		emu="$emu-static"
	elif ! command -v "$emu" >/dev/null; then
		echo "not run: no $emu"
		return
	fi
	$emu "$1" version >/dev/null && $emu "$1" --state-dir "$out/state" config check >/dev/null && echo "runs"
}

# version is what the binary will say of itself.
version() { # binary
	v=$(${GO:-go} version -m "$1" | awk '$1 == "mod" {print $3}')
	case $v in v[0-9]*) echo "${v#v}" ;; *) echo devel ;; esac
}

# package_version is the same as package managers order it: what stands before
# a release is older than the release.
package_version() { # version
	case $1 in devel) echo "0~devel" ;; *) echo "$1" | tr - '~' ;; esac
}

# files puts what every package has into a directory.
files() { # binary, directory
	mkdir -p "$2/usr/bin" "$2/usr/sbin" "$2/usr/lib/danepost"
	cp "$1" "$2/usr/bin/danepost"
	cp packaging/setup.sh "$2/usr/lib/danepost/setup"
	chmod 755 "$2/usr/bin/danepost" "$2/usr/lib/danepost/setup"
	ln -s ../bin/danepost "$2/usr/sbin/sendmail"
	ln -s ../sbin/sendmail "$2/usr/lib/sendmail"
	ln -s danepost "$2/usr/bin/mailq"
	ln -s danepost "$2/usr/bin/newaliases"
}

# control fills a template in.
control() { # template, architecture, version, binary
	sed -e "s/@ARCH@/$2/" -e "s/@VERSION@/$(package_version "$3")/" -e "s/@SIZE@/$(($(wc -c <"$4") / 1024))/" "$1"
}

debian() { # binary, architecture
	root=$(mktemp -d)
	v=$(version "$1")
	files "$1" "$root"
	mkdir -p "$root/DEBIAN" "$root/usr/lib/systemd/system" "$root/usr/share/man/man8" "$root/usr/share/doc/danepost" \
		"$root/usr/share/bash-completion/completions"
	cp packaging/systemd/danepost.service "$root/usr/lib/systemd/system/"
	packaging/manual.sh "$v" | gzip -9nc >"$root/usr/share/man/man8/danepost.8.gz"
	for page in sendmail mailq newaliases; do
		ln -s danepost.8.gz "$root/usr/share/man/man8/$page.8.gz"
	done
	cp LICENSE "$root/usr/share/doc/danepost/copyright"
	cp packaging/completions/danepost.bash "$root/usr/share/bash-completion/completions/danepost"
	for script in postinst prerm postrm; do
		cp "packaging/deb/$script" "$root/DEBIAN/"
		chmod 755 "$root/DEBIAN/$script"
	done
	control packaging/deb/control "$2" "$v" "$1" >"$root/DEBIAN/control"
	chmod -R go-w "$root"
	chmod 755 "$root"
	dpkg-deb --root-owner-group --build "$root" "$out/danepost_$(package_version "$v")_$2.deb" >/dev/null
	rm -rf "$root"
}

# archive packs a directory as OpenWrt's packages are: tar in gzip, owned by root.
archive() { # directory, file
	tar -C "$1" --format=gnu --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -cf - . | gzip -9nc >"$2"
}

openwrt() { # binary, name
	root=$(mktemp -d)
	v=$(version "$1")
	files "$1" "$root/data"
	mkdir -p "$root/control" "$root/data/etc/init.d" "$root/data/etc/config" "$root/ipk"
	cp packaging/openwrt/danepost.init "$root/data/etc/init.d/danepost"
	cp packaging/openwrt/danepost.uci "$root/data/etc/config/danepost"
	cp packaging/openwrt/postinst packaging/openwrt/prerm packaging/openwrt/conffiles "$root/control/"
	control packaging/openwrt/control "$2" "$v" "$1" >"$root/control/control"
	chmod 755 "$root/data/etc/init.d/danepost" "$root/control/postinst" "$root/control/prerm"
	chmod -R go-w "$root"
	chmod 755 "$root/data" "$root/control"
	archive "$root/control" "$root/ipk/control.tar.gz"
	archive "$root/data" "$root/ipk/data.tar.gz"
	echo 2.0 >"$root/ipk/debian-binary"
	archive "$root/ipk" "$out/danepost_$(package_version "$v")_$2.ipk"
	rm -rf "$root"
}

vcs=true
git rev-parse HEAD >/dev/null 2>&1 || vcs=false
printf '%-16s %10s %10s  %s\n' target bytes xz smoke
echo "$targets" | while read -r arch variant deb wrt emu; do
	name=danepost-linux-$arch
	[ "$variant" = - ] || name=$name-$variant
	arm="" mips=""
	case $arch in arm) arm=$variant ;; mipsle) mips=$variant ;; esac
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=$arm GOMIPS=$mips \
		${GO:-go} build -buildvcs=$vcs -trimpath -ldflags '-s -w' -o "$out/$name" .
	xz=-
	command -v xz >/dev/null && xz=$(xz -9 -c "$out/$name" | wc -c)
	result=$(smoke "$out/$name" "$emu") || { echo "$name does not run" >&2; exit 1; }
	printf '%-16s %10d %10s  %s\n' "${name#danepost-linux-}" "$(wc -c <"$out/$name")" "$xz" "$result"
	if [ "$deb" != - ] && command -v dpkg-deb >/dev/null; then
		debian "$out/$name" "$deb"
	fi
	openwrt "$out/$name" "$wrt"
done
packaging/try.sh "$out"
