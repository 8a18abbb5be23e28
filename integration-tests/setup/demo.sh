#!/usr/bin/env bash
# `make demo`: builds only what the demo runs, announces each step, and prints how long each took.
# The arguments are passed to sealbus-demo.
set -euo pipefail
cd "$(dirname "$0")/../.."

total=5
number=0
steps=()
began=$SECONDS

# step TITLE COMMAND...: runs the command and records its time.
step() {
    local title=$1 start=$SECONDS
    shift
    number=$((number + 1))
    printf 'demo: step %d of %d: %s\n' "$number" "$total" "$title" >&2
    "$@"
    steps+=("$(printf '%5d s  %s' "$((SECONDS - start))" "$title")")
}

build() {
    # `--workspace` gives all dependencies the same features as in `make test`, so that nothing is built twice.
    cargo build --workspace --bin sealbus-manager --bin sealbus-worker --bin sealbus-devnet --bin sealbus-devnet-params --bin sealbus-demo
}

parameters() {
    RUST_LOG=warn target/debug/sealbus-devnet-params --sector-size 2KiB --out "$SEALBUS_PARAMS"
}

step 'install what is missing' bash integration-tests/setup/tools.sh
step 'download the sources of the dependencies' cargo fetch --quiet
step 'build the manager, the worker, the test chain and the demo' build
step 'make the Groth16 parameters for 2 KiB sectors, once per machine' parameters
step 'seal a sector, and prove it by its first window PoSt' target/debug/sealbus-demo "$@"

printf '\nThe steps took\n' >&2
printf '  %s\n' "${steps[@]}" >&2
printf '  %5d s  in total\n' "$((SECONDS - began))" >&2
