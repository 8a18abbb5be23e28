# To be sourced by test.sh: the cluster of docs/deploy.md with three NATS servers, one of which is replaced while a sector is sealed.

. ./cluster.sh
. ./life.sh

nats_hosts=(nats-1 nats-2 nats-3)
in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
further_inventory=$here/three.yml

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
    play || die "the playbook fails"
    streams_are_whole
    they_are_proven
}

a_server_is_left_alone_while_another_one_is_away() {
    on nats-3 systemctl stop nats
    fails_naming nats-1 'localhost|nats-3' --limit nats-1 --extra-vars sealbus_nats_well_secs=4
    on nats-3 systemctl start nats
}

set_up
run_cases \
    from_nothing \
    a_second_run_changes_nothing \
    a_nats_server_is_replaced_while_a_sector_is_sealed \
    a_server_is_left_alone_while_another_one_is_away
