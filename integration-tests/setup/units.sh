#!/usr/bin/env bash
# What `systemd-analyze security` says of the units, in the packages and in the playbook: from 0 (confined) to 10. Fails above the limits.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! systemd-analyze security --help 2>/dev/null | grep -- '--offline' >/dev/null; then
    echo 'skipped: no systemd-analyze that rates unit files (systemd 250 and later)'
    exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# rate LIMIT SOURCE: LIMIT in tenths.
rate() {
    local unit=${2##*/}
    unit=$directory/${unit%.j2}
    # Whatever stands for a path is one, and the command exists.
    sed -E 's/\{\{[^}]*\}\}/\/usr/g; s/^ExecStart=.*/ExecStart=\/bin\/true/' "$2" >"$unit"
    local told
    if ! told=$(systemd-analyze security --offline=true --threshold="$1" --no-pager "$unit" 2>"$directory/errors"); then
        printf '%s\n' "$told" >&2
        cat "$directory/errors" >&2
        printf '%s is rated above %s\n' "$2" "$(tenths "$1")" >&2
        exit 1
    fi
    printf '%-55s %s (at most %s)\n' "$2" "$(sed -nE 's/.*exposure level for .*: ([0-9.]+).*/\1/p' <<<"$told")" "$(tenths "$1")"
}

tenths() { printf '%s.%s' "$(($1 / 10))" "$(($1 % 10))"; }

rate 30 packaging/debian/sealbus-manager.service
rate 30 ansible/roles/manager/templates/sealbus-manager.service.j2
rate 30 ansible/roles/nats/templates/nats.service.j2
rate 40 packaging/debian/sealbus-worker.service
rate 40 ansible/roles/worker/templates/sealbus-worker.service.j2
