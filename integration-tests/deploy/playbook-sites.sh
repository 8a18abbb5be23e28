# To be sourced by test.sh: the cluster of docs/deploy.md, but one worker is at another site. The line between the sites is cut while it seals a sector.

. ./cluster.sh
. ./life.sh

site_hosts=(site-1)
in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
inventory_of 'Another site'
# Longer than the manager waits before it takes a worker for gone.
cut_secs=75

# The site's server is the only one that knows the way, so its worker is cut off with it.
cut_the_line() { ip -n site-1 route add blackhole "${address[nats-1]}/32"; }
mend_the_line() { ip -n site-1 route del blackhole "${address[nats-1]}/32"; }

# lease NUMBER: whose sector it is, and by which claim.
lease() { manager sectors show "f01000/$1" --json | python3 -c 'import json, sys; shown = json.load(sys.stdin); print(shown["worker"], shown["token"])'; }

a_sector_survives_a_cut_of_the_line() {
    local owner
    manager workers drain seal-1 --why test >"$bed/log" 2>&1 || die "seal-1 does not drain"
    sectors_begin 1
    all_are_claimed seal-2
    owner=$(lease 1)
    cut_the_line
    sleep 5
    nats_knows "$secrets/seal-2.nk" || die "NATS itself cannot be reached"
    sleep "$cut_secs"
    manager workers show seal-2 --json >"$bed/log"
    grep -E '"presence": *"here"' "$bed/log" >/dev/null && die "seal-2 was not cut off"
    [ "$(lease 1)" = "$owner" ] || die "the owner has changed from $owner to $(lease 1)"
    mend_the_line
    they_are_proven
}

set_up
run_cases \
    from_nothing \
    a_second_run_changes_nothing \
    a_sector_survives_a_cut_of_the_line
