#!/usr/bin/env bash
# Puts Debian's `prometheus` and `promtool` into .tools/bin, for the tests of the alarms. The package is only unpacked: installed, it
# would start a service here. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh
tools=$PWD/.tools/bin
mkdir -p "$tools"

if ! "$programs/promtool" --version >/dev/null 2>&1 || ! "$programs/prometheus" --version >/dev/null 2>&1; then
    say "unpacking prometheus"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # apt-get reads the package as a user of its own.
    chmod 755 "$scratch"
    fetch() { (cd "$scratch" && apt-get download -qq prometheus >/dev/null 2>&1); }
    fetch || { "${sudo[@]}" apt-get update -qq && fetch; }
    dpkg-deb --extract "$scratch"/prometheus_*.deb "$scratch/files"
    for program in prometheus promtool; do
        install -m 0755 "$scratch/files/usr/bin/$program" "$programs/$program.new"
        mv "$programs/$program.new" "$programs/$program"
    done
fi
for program in prometheus promtool; do
    cmp -s "$programs/$program" "$tools/$program" || { install -m 0755 "$programs/$program" "$tools/$program.new" && mv "$tools/$program.new" "$tools/$program"; }
done
say "ready: $("$tools/prometheus" --version 2>&1 | sed -n 1p)"
