#!/usr/bin/env bash
# Installs Ansible and its linter from PyPI. Safe to run again.
#   ansible.sh         the programs, for `make ansible-lint`; needs no root
#   ansible.sh hosts   also the Debian packages that the hosts of `make ansible-test` and `make deb-test` are made with
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh
core=2.19.14
lint=26.10.1
directory=$(dirname "$programs")/ansible

if [ "$(cat "$directory/versions" 2>/dev/null)" != "$core $lint" ]; then
    say "installing ansible-core $core and ansible-lint $lint"
    rm -rf "$directory" "$directory.new"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-warn-script-location \
        --target "$directory.new" "ansible-core==$core" "ansible-lint==$lint"
    echo "$core $lint" >"$directory.new/versions"
    mv "$directory.new" "$directory"
fi

[ "${1:-}" = hosts ] || exit 0
missing=()
for package in systemd-container mmdebstrap debian-archive-keyring debhelper openssh-client iproute2 procps; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep 'install ok installed' >/dev/null || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then install_packages "${missing[@]}"; fi
bash integration-tests/setup/nats-cli.sh
