#!/usr/bin/env bash
# Runs the tests with cargo-nextest, and prints the ten slowest. The arguments are passed to `cargo nextest run`.
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh
cargo_tool cargo-nextest 0.9.148
report=${CARGO_TARGET_DIR:-target}/nextest/${NEXTEST_PROFILE:-default}/junit.xml
rm -f "$report"
outcome=0
"$programs/cargo-nextest" nextest run --features toy-workflow "$@" || outcome=$?
if [ -e "$report" ]; then
    printf '\nThe ten slowest tests, in seconds:\n'
    sed -nE 's/.*<testcase name="([^"]*)" classname="([^"]*)".* time="([0-9.]+)".*/\3 \2 \1/p' "$report" | sort -rn |
        sed -n 1,10p |
        while read -r seconds binary name; do printf '%8.1f  %s %s\n' "$seconds" "$binary" "$name"; done
fi
exit "$outcome"
