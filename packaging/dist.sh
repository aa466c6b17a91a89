#!/bin/sh
# Builds the static binary for every target into dist/, a Debian package for
# those that Debian has, and prints a table of sizes. With qemu-user installed
# each foreign binary is also run: it must print its version and read a
# configuration.
set -eu
cd "$(dirname "$0")/.."
out=dist
rm -rf "$out"
mkdir -p "$out"

# GOARCH variant debian-arch qemu
targets="amd64 - amd64 -
arm 5 armel qemu-arm
arm 6 - qemu-arm
arm 7 armhf qemu-arm
arm64 - arm64 qemu-aarch64
mipsle softfloat - qemu-mipsel
riscv64 - riscv64 qemu-riscv64"

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

debian() { # binary, architecture
	root=$(mktemp -d)
	mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/lib/systemd/system" "$root/usr/share/man/man8" "$root/usr/share/doc/danepost" \
		"$root/usr/share/bash-completion/completions"
	cp "$1" "$root/usr/bin/danepost"
	cp packaging/systemd/danepost.service "$root/lib/systemd/system/"
	gzip -9nc packaging/man/danepost.8 >"$root/usr/share/man/man8/danepost.8.gz"
	cp LICENSE "$root/usr/share/doc/danepost/copyright"
	cp packaging/completions/danepost.bash "$root/usr/share/bash-completion/completions/danepost"
	cp packaging/deb/postinst packaging/deb/prerm "$root/DEBIAN/"
	chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm"
	sed -e "s/@ARCH@/$2/" -e "s/@VERSION@/$version/" -e "s/@SIZE@/$(($(wc -c <"$1") / 1024))/" packaging/deb/control >"$root/DEBIAN/control"
	chmod -R go-w "$root"
	dpkg-deb --root-owner-group --build "$root" "$out/danepost_${version}_$2.deb" >/dev/null
	rm -rf "$root"
}

version=0.1.$(git rev-list --count HEAD 2>/dev/null || echo 0)
printf '%-16s %10s %10s  %s\n' target bytes xz smoke
echo "$targets" | while read -r arch variant deb emu; do
	name=danepost-linux-$arch
	[ "$variant" = - ] || name=$name-$variant
	arm="" mips=""
	case $arch in arm) arm=$variant ;; mipsle) mips=$variant ;; esac
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=$arm GOMIPS=$mips \
		${GO:-go} build -trimpath -ldflags '-s -w' -o "$out/$name" .
	xz=-
	command -v xz >/dev/null && xz=$(xz -9 -c "$out/$name" | wc -c)
	result=$(smoke "$out/$name" "$emu") || { echo "$name does not run" >&2; exit 1; }
	printf '%-16s %10d %10s  %s\n' "${name#danepost-linux-}" "$(wc -c <"$out/$name")" "$xz" "$result"
	if [ "$deb" != - ] && command -v dpkg-deb >/dev/null; then
		debian "$out/$name" "$deb"
	fi
done
