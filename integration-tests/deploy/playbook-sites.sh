# To be sourced by test.sh: the cluster of docs/deploy.md, but one worker is at another site. The line between the sites is cut while that worker has a
# sector in each phase.

. ./cluster.sh
. ./life.sh

site_hosts=(site-1)
in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
inventory_of 'Another site'
further_inventories+=("$here/gates.yml")
# Longer than the manager waits before it takes a worker for gone.
cut_secs=75
# Which step each sector is in when the line is cut, by number.
declare -A wanted=([1]=c2 [2]=c1 [3]=awaiting_seed [4]=awaiting_pre_commit [5]=transferring [6]=pc2 [7]=pc1 [8]=adding_pieces)
# The gates that keep them there, or keep them back until the others are where they belong.
closed=(c2-1 c1-2 pc2-3 pc2-4 transfer-5 pc2-6 pc1-7 add_pieces-8)

# Nothing goes either way. The site's server is the only one that knows the way, so its worker is cut off with it.
cut_the_line() {
    ip -n site-1 route add blackhole "${address[nats-1]}/32"
    ip -n nats-1 route add blackhole "${address[site-1]}/32"
}
mend_the_line() {
    ip -n site-1 route del blackhole "${address[nats-1]}/32"
    ip -n nats-1 route del blackhole "${address[site-1]}/32"
}

# The worker's processors at the other site wait at gates, so that a phase lasts as long as it is wanted.
make_the_gates() {
    mkdir -p "$bed/seal-2/root/opt/gates"
    install "$here/gate.sh" "$bed/seal-2/root/opt/gates/pass"
}
open_gate() { rm "$bed/seal-2/root/opt/gates/$1"; }


# devnet METHOD PARAMETERS: asks the chain's node.
devnet() {
    ip netns exec manager-1 curl --silent --show-error --fail --header "Authorization: Bearer $(cat "$bed/devnet/token-admin")" \
        --json "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Devnet.$1\",\"params\":$2}" http://127.0.0.1:1234/rpc/v1 >"$bed/devnet-answer" 2>"$bed/log" &&
        ! grep '"error"' "$bed/devnet-answer" || die "the devnet refuses $1"
}

steps() { python3 "$here/steps.py" "$bed/seal-2/nvme0" | sort -n; }

# until_step NUMBER…: waits until these sectors are where they are wanted.
until_step() {
    local number since=$SECONDS
    for number in "$@"; do
        until steps | grep -x "$number ${wanted[$number]}" >/dev/null; do
            [ $((SECONDS - since)) -lt 300 ] || { steps >"$bed/log"; die "sector $number does not come to ${wanted[$number]}"; }
            sleep 0.2
        done
    done
}

# leases: each sector's number, worker and token.
leases() {
    local number
    for number in "${!wanted[@]}"; do
        manager sectors show "f01000/$number" --json | python3 -c 'import json, sys; shown = json.load(sys.stdin); print(sys.argv[1], shown["worker"], shown["token"])' "$number"
    done | sort -n
}

the_other_site_is_configured_by_a_plan() {
    local file=/etc/sealbus/worker.toml
    [ "$(on seal-2 "grep -c '^path = \"/mnt/nvme0/slot[0-7]\"' $file; grep -c '^stage' $file; grep -c '^bin' $file")" = $'8\n7\n6' ] ||
        die "it has other slots and processors than planned and said"
    on seal-2 "grep -x 'c2 = 1' $file && grep -x 'pc1 = 8' $file && grep '^# .*pc2' $file" >"$bed/log" 2>&1 || die "it lacks the plan's limits, those of the inventory, or the reasons"
}

a_cut_of_the_line_loses_no_sector_in_any_phase() {
    local gate number
    manager workers drain seal-1 --why test >"$bed/log" 2>&1 || die "seal-1 does not drain"
    for gate in "${closed[@]}"; do touch "$bed/seal-2/root/opt/gates/$gate"; done
    sectors_begin "${#wanted[@]}"
    until_step 1 2 5 6 7 8
    # What the chain is waited for with comes slowly, and then not at all.
    devnet SetEpochMillis '[3000]'
    open_gate pc2-3
    until_step 3
    devnet SetEpochMillis '[0]'
    open_gate pc2-4
    until_step 4
    sleep 3
    steps >"$bed/at-the-cut"
    leases >"$bed/leases-at-the-cut"
    cut_the_line
    sleep 10
    nats_knows "$secrets/seal-2.nk" || die "NATS itself cannot be reached"
    # Everybody goes on with what they have.
    devnet SetEpochMillis '[500]'
    for gate in c2-1 c1-2 transfer-5 pc2-6 pc1-7 add_pieces-8; do open_gate "$gate"; done
    sleep "$cut_secs"
    manager workers show seal-2 --json >"$bed/log"
    grep -E '"presence": *"here"' "$bed/log" >/dev/null && die "seal-2 was not cut off"
    steps >"$bed/at-the-mend"
    leases >"$bed/leases-at-the-mend"
    mend_the_line
    they_are_proven
    devnet Stats '[]'
    python3 "$here/cut.py" "$bed" >"$bed/log" 2>&1 || die "sectors are not what they should be"
    while IFS= read -r line; do say "$line"; done <"$bed/log"
}

set_up
make_the_gates
run_cases \
    from_nothing \
    the_other_site_is_configured_by_a_plan \
    a_second_run_changes_nothing \
    a_cut_of_the_line_loses_no_sector_in_any_phase
