#!/usr/bin/env bash
# Audits the dependencies with cargo-deny.
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh
cargo_tool cargo-deny "$(sed -n 's/^# cargo-deny //p' .deny.toml)"
deny=$programs/cargo-deny
"$deny" --log-level error check bans licenses sources
# The advisories come from a git repository. If it cannot be reached, say so rather than pretend that they were checked.
if timeout 120 "$deny" --log-level off fetch db >/dev/null 2>&1; then
    "$deny" --log-level error check advisories
else
    printf 'deny: advisories NOT checked: the advisory database is not reachable from here\n' >&2
fi
