#!/bin/sh
# A stand-in for the official Python image where no image registry can be reached: `base.sh FILE.tar`, as root.
# Debian's own packages by debootstrap; `podman import FILE.tar NAME` makes an image of it, `build.sh --base NAME` uses it.
set -eu
[ $# = 1 ] || { echo "usage: base.sh FILE.tar" >&2 && exit 2; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,tini bookworm "$root" >&2
# What differs from one day or machine to the next, and what nobody reads in a container.
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/machine-id" "$root/var/cache/ldconfig/aux-cache"
tar --sort=name --numeric-owner -C "$root" -cf "$1.part" .
mv "$1.part" "$1"
