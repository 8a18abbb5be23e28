#!/usr/bin/env bash
# Builds the programs as they are installed, into target/release, with what they consist of (CycloneDX) and SHA256SUMS. The same commit and toolchain
# give the same bytes, wherever the checkout is (twice.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/environment.sh
# Only what is installed. Another selection of packages would have other features.
cargo build --release --locked --package sealbus-manager --package sealbus-worker --bins
unset RUSTFLAGS CFLAGS CXXFLAGS
bash packaging/sbom.sh target/release
(cd target/release && sha256sum sealbus-manager sealbus-worker sealbus-manager.cdx.json sealbus-worker.cdx.json | tee SHA256SUMS)
