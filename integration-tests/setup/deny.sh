#!/usr/bin/env bash
# Audits the dependencies with cargo-deny, which is built once a machine, into the cache that all checkouts share.
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted=$(sed -n 's/^# cargo-deny //p' .deny.toml)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealbus
deny=$cache/bin/cargo-deny
if ! "$deny" --version 2>/dev/null | grep -q " $wanted$"; then
    printf 'tools: building cargo-deny %s\n' "$wanted" >&2
    # Unoptimised: it runs for seconds, and building it optimised takes minutes.
    cargo install --quiet --locked --debug --root "$cache" "cargo-deny@$wanted"
fi
"$deny" --log-level error check bans licenses sources
# The advisories come from a git repository; say so where it cannot be reached instead of passing for checked.
if timeout 120 "$deny" --log-level off fetch db >/dev/null 2>&1; then
    "$deny" --log-level error check advisories
else
    printf 'deny: advisories NOT checked: the advisory database is not reachable from here\n' >&2
fi
