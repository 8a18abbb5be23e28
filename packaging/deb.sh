#!/usr/bin/env bash
# Packs the programs of `make release` into target/deb: two packages, two with their debug symbols, the bills of materials, and
# SHA256SUMS.
#   PROGRAMS  the directory of the programs, target/release by default
#   DEBS      where the packages are put, instead of target/deb
set -euo pipefail
cd "$(dirname "$0")/.."
. integration-tests/setup/programs.sh
dpkg-query -W -f='${Status}' debhelper 2>/dev/null | grep 'install ok installed' >/dev/null || install_packages debhelper

SEALBUS_PROGRAMS=$(realpath "${PROGRAMS:-target/release}")
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SEALBUS_PROGRAMS SOURCE_DATE_EPOCH
version=$("$SEALBUS_PROGRAMS/sealbus-manager" --version)
version=${version##* }
out=${DEBS:-$PWD/target/deb}
rm -rf "$out"/sealbus "$out"/*.deb "$out"/SHA256SUMS
mkdir -p "$out/sealbus/etc"
cp -r packaging/debian "$out/sealbus/"
cp docs/examples/manager.toml packaging/worker.toml "$out/sealbus/etc/"
cp docs/examples/worker.toml "$out/sealbus/"
cp -r monitoring "$out/sealbus/"
cat >"$out/sealbus/debian/changelog" <<CHANGELOG
sealbus ($version) unstable; urgency=medium

  * Built from the commit in the version; CHANGELOG.md of the sources tells what has changed.

 -- The Sealbus developers <sealbus@localhost>  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
CHANGELOG
(cd "$out/sealbus" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps) >"$out/log" 2>&1 || { tail -n 40 "$out/log" >&2; exit 1; }
rm -rf "$out"/sealbus "$out"/*.buildinfo "$out"/*.changes
# What the programs consist of, if `make release` has told.
cp "$SEALBUS_PROGRAMS"/sealbus-*.cdx.json "$out" 2>/dev/null || rm -f "$out"/*.cdx.json
cd "$out"
find . -maxdepth 1 \( -name '*.deb' -o -name '*.cdx.json' \) -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS
ls -l --block-size=K ./*.deb
