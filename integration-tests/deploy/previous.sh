#!/usr/bin/env bash
# Builds the manager and the worker of an earlier commit, for the test of upgrades, and prints the directory that they are in. It needs no network
# beyond what this commit's build needed: dependencies that have not changed are taken from this checkout's target directory.
#   PREVIOUS  the commit; by default the one before the programs changed last
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
programs=(--workspace --features toy-workflow --bin sealbus-manager --bin sealbus-worker)
commit=$(git rev-parse --verify --quiet "${PREVIOUS:-$(git log -1 --format=%H -- manager nats schema worker)^}^{commit}") ||
    { echo "this clone has no earlier commit" >&2; exit 1; }
out=$target/previous/$commit
if [ ! -e "$out/built" ]; then
    rm -rf "$target/previous"
    mkdir -p "$target/previous/source" "$out"
    git archive "$commit" | tar --extract --directory "$target/previous/source"
    # With a version of its own, nothing of it is mistaken for something of this commit. It is a lower one for Debian too.
    sed -i '/^\[workspace.package\]/,/^\[/s/^version = .*/version = "0.0.0"/' "$target/previous/source/Cargo.toml"
    (cd "$target/previous/source" && CARGO_TARGET_DIR=$target cargo build "${programs[@]}") >&2
    mv "$target"/debug/sealbus-{manager,worker} "$out"
    # Puts this commit's programs back.
    cargo build "${programs[@]}" >&2
    rm -r "$target/previous/source"
    echo "$commit" >"$out/built"
fi
printf '%s\n' "$out"
