# To be sourced by test.sh: the cluster of docs/deploy.md with three NATS servers, one of which is replaced while a sector is sealed.

. ./cluster.sh
. ./life.sh

nats_hosts=(nats-1 nats-2 nats-3)
in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
inventory_of 'Three NATS servers'
inventory_of 'A fleet in groups by hardware'

# streams_are_whole: whether every stream has three copies that are up to date.
streams_are_whole() {
    local stream
    for stream in SEAL_SECTORS SEAL_INTENTS SEAL_COMMANDS; do
        "$cache/bin/nats" --server tls://nats-1:4222,tls://nats-3:4222 --tlsca "$secrets/ca/ca.pem" --nkey "$secrets/manager.nk" --inbox-prefix _INBOX_manager \
            stream info "$stream" --json >"$bed/log" 2>&1 || die "$stream cannot be read"
        python3 -c '
import json, sys
replicas = json.load(sys.stdin)["cluster"].get("replicas", [])
sys.exit(not (len(replicas) == 2 and all(replica["current"] and not replica.get("offline") for replica in replicas)))' <"$bed/log" ||
            die "$stream lacks a copy"
    done
}

a_nats_server_is_replaced_while_a_sector_is_sealed() {
    streams_are_whole
    sectors_begin 1
    all_are_claimed
    power_off nats-2
    # What was connected to the old one.
    rm -rf "$bed/ssh"
    make_root nats-2 "$(base_image bookworm)"
    boot nats-2
    wait_for_hosts nats-2
    guide 'Three NATS servers'
    streams_are_whole
    they_are_proven
}

a_worker_that_comes_reaches_each_server() {
    # Each run wants a sign of life from every worker.
    guide 'Retire a worker'
    guide 'Add a worker'
    local server
    for server in "${nats_hosts[@]}"; do
        nats_knows "$secrets/seal-2.nk" "$server" || die "$server does not know the new key"
        "$cache/bin/nats" --server "tls://$server:4222" --tlsca "$secrets/ca/ca.pem" --nkey "$secrets/seal-2.nk" --inbox-prefix _INBOX_seal-2 \
            request SEALBUS.API.STREAM.INFO.SEAL_SECTORS '' >"$bed/log" 2>&1 && grep SEAL_SECTORS "$bed/log" >/dev/null || die "at $server its account does not work"
    done
}

a_server_is_left_alone_while_another_one_is_away() {
    on nats-3 systemctl stop nats
    fails_naming nats-1 'nats-1: it is left as it is, because nats-3 is not well: .*Connection refused' --limit nats-1 --extra-vars sealbus_nats_well_secs=4
    on nats-3 systemctl start nats
}

# stages HOST: the stage and the number of each group of processors.
stages() { on "$1" "sed -n 's/^stage = \"\\(.*\\)\"/\\1/p; s/^count = //p' /etc/sealbus/worker.toml" | paste -sd ' '; }

each_machine_is_configured_by_a_plan_and_what_its_group_says() {
    # The log is that of the second run, which plans too.
    grep 'sectors a day are expected' "$bed/log" >/dev/null || die "the run does not print the plans"
    local others='pc2 1 transfer 1 c1 1 c2 1'
    [ "$(stages seal-1)" = "add_pieces 1 tree_d 1 $others pc1 4" ] || die "seal-1 has these processors: $(stages seal-1)"
    [[ $(stages seal-2) =~ ^'add_pieces 1 tree_d 1 pc1 '[0-9]+" $others"$ ]] || die "seal-2 has these processors: $(stages seal-2)"
    on seal-2 "grep '^# pc1: ' /etc/sealbus/worker.toml && grep -x '\"cpu\" = 1' /etc/sealbus/worker.toml" >"$bed/log" 2>&1 || die "the plan's reasons and locks are missing"
}

set_up
run_cases \
    from_nothing \
    a_second_run_changes_nothing \
    each_machine_is_configured_by_a_plan_and_what_its_group_says \
    a_nats_server_is_replaced_while_a_sector_is_sealed \
    a_worker_that_comes_reaches_each_server \
    a_server_is_left_alone_while_another_one_is_away
