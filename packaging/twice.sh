#!/usr/bin/env bash
# Builds this commit twice, in clones at different places with nothing in common but cargo's directory, and compares the bytes.
#   twice.sh            the programs, as `make release` makes them: twice half an hour on two cores
#   twice.sh PACKAGE…   libraries only: each archive that they and their dependencies are compiled to
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(mktemp -d "${TWICE_DIR:-${TMPDIR:-/tmp}}/sealbus-twice.XXXXXX")
trap 'rm -rf "$root"' EXIT
for place in one a/longer/path/than/the/first; do
    git clone --quiet --no-hardlinks . "$root/$place"
    # A clone has no tools of its own; the bills of materials need one.
    [ -d .tools ] && cp -r .tools "$root/$place/" || true
    cd "$root/$place"
    if [ $# -eq 0 ]; then
        bash packaging/release.sh >/dev/null
        cp target/release/SHA256SUMS "$root/sums.${place%%/*}"
    else
        (
            . packaging/environment.sh
            cargo build --release --locked --lib $(printf -- ' --package %s' "$@")
        )
        (cd target/release/deps && find . -name '*.rlib' -print0 | sort -z | xargs -0 sha256sum) >"$root/sums.${place%%/*}"
    fi
    rm -rf target
    cd - >/dev/null
done
diff "$root/sums.one" "$root/sums.a"
printf 'the same bytes in both builds of %s: %s files\n' "$(git rev-parse --short HEAD)" "$(wc -l <"$root/sums.one")"
