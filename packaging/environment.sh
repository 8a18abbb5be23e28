# Sourced, with the checkout as the working directory: the environment in which the same commit gives the same bytes, wherever the
# checkout and cargo's directory are. No path of this machine gets in, and no time.
SEALBUS_VERSION=$(bash packaging/version.sh)
# The date in C sources. The commit's would compile the C libraries, and all that needs them, anew for each commit.
SOURCE_DATE_EPOCH=0
export SEALBUS_VERSION SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
cargo=${CARGO_HOME:-$HOME/.cargo}
RUSTFLAGS="--remap-path-prefix=$PWD=/usr/src/sealbus --remap-path-prefix=$cargo=/usr/src/cargo"
CFLAGS="-ffile-prefix-map=$PWD=/usr/src/sealbus -ffile-prefix-map=$cargo=/usr/src/cargo"
export RUSTFLAGS CFLAGS CXXFLAGS=$CFLAGS
