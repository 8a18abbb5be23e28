#!/usr/bin/env bash
# Builds the programs as they are installed, into target/release, with what they consist of (CycloneDX) and SHA256SUMS. The same commit and toolchain
# give the same bytes, wherever the checkout is: no path of this machine gets in.
set -euo pipefail
cd "$(dirname "$0")/.."
SEALBUS_VERSION=$(bash packaging/version.sh)
# The date in C sources. The commit's would compile the C libraries, and all that needs them, anew for each commit.
SOURCE_DATE_EPOCH=0
export SEALBUS_VERSION SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
cargo=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="--remap-path-prefix=$PWD=/usr/src/sealbus --remap-path-prefix=$cargo=/usr/src/cargo"
CFLAGS="-ffile-prefix-map=$PWD=/usr/src/sealbus -ffile-prefix-map=$cargo=/usr/src/cargo"
export RUSTFLAGS CFLAGS CXXFLAGS=$CFLAGS
# Only what is installed. Another selection of packages would have other features.
cargo build --release --locked --package sealbus-manager --package sealbus-worker --bins
unset RUSTFLAGS CFLAGS CXXFLAGS
bash packaging/sbom.sh target/release
(cd target/release && sha256sum sealbus-manager sealbus-worker sealbus-manager.cdx.json sealbus-worker.cdx.json | tee SHA256SUMS)
