#!/usr/bin/env bash
# Writes what the programs consist of, in CycloneDX's format: DIRECTORY/sealbus-manager.cdx.json and sealbus-worker.cdx.json. The same commit gives the
# same bytes.
#   sbom.sh DIRECTORY
set -euo pipefail
out=$(realpath "$1")
cd "$(dirname "$0")/.."
. integration-tests/setup/programs.sh
wanted=0.5.7
installed=$(sed -n 's/^"cargo-cyclonedx \([0-9.]*\) .*/\1/p' "$(dirname "$programs")/.crates.toml" 2>/dev/null || true)
if [ "$installed" != "$wanted" ]; then
    say "building cargo-cyclonedx $wanted"
    cargo install --quiet --locked --debug --root "$(dirname "$programs")" "cargo-cyclonedx@$wanted"
fi
# It writes its files beside each Cargo.toml, so it works on copies.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git ls-files -z -- '*Cargo.toml' Cargo.lock '*.rs' .cargo | xargs -0 cp --parents -t "$scratch"
(cd "$scratch" && "$programs/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename sbom)
for name in manager worker; do
    SEALBUS_VERSION=$(bash packaging/version.sh) python3 - "$scratch/$name/sbom.json" "$scratch" >"$out/sealbus-$name.cdx.json" <<'PROGRAM'
"""Takes out what differs from one machine and moment to the next, and names the version of the release."""
import json, os, sys
path, scratch = sys.argv[1:]
sbom = json.loads(open(path, encoding="utf-8").read().replace(scratch, "/usr/src/sealbus"))
del sbom["serialNumber"], sbom["metadata"]["timestamp"]
sbom["metadata"]["component"]["version"] = os.environ["SEALBUS_VERSION"]
json.dump(sbom, sys.stdout, indent=1, sort_keys=True)
print()
PROGRAM
done
