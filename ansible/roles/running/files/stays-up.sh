#!/bin/sh
# Succeeds if a service becomes ready and is then still the same process some seconds later; prints its status. Otherwise prints
# why not.
#   $1  the unit's name without .service
#   $2  how many seconds it has to become ready
#   $3  how many seconds it must then stay up
set -eu
unit=$1.service
get() { systemctl show --value --property "$1" "$unit"; }
fail() {
    status=$(get StatusText)
    printf '%s %s%s. The end of its log:\n' "$unit" "$1" "${status:+ ($status)}"
    journalctl --unit "$unit" --lines 15 --no-pager --output cat
    exit 1
}

tries=$(($2 * 2))
restarts=$(get NRestarts)
while [ "$(get ActiveState)" != active ]; do
    tries=$((tries - 1))
    if [ "$(get ActiveState)" = failed ]; then fail "has failed"; fi
    if [ "$(get NRestarts)" -ge $((restarts + 2)) ]; then fail "ends again and again"; fi
    if [ "$tries" -le 0 ]; then fail "is not ready after $2 s"; fi
    sleep 0.5
done
process=$(get MainPID)
sleep "$3"
if [ "$(get ActiveState)" != active ] || [ "$(get MainPID)" != "$process" ]; then fail "does not stay up"; fi
get StatusText
