#!/usr/bin/env bash
# Prints the version of what `make release` builds: that of Cargo.toml, with the commit and its date in UTC, so that a later
# commit has a higher version. "dirty" if the tree differs from the commit.
set -euo pipefail
cd "$(dirname "$0")/.."
base=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
dirty=
[ -z "$(git status --porcelain --untracked-files=no)" ] || dirty=.dirty
printf '%s+%s.%s%s\n' "$base" "$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S)" "$(git rev-parse --short=12 HEAD)" "$dirty"
