# To be sourced: cases of a cluster's life, after its beginning: packages, upgrades, workers that leave and come. In them sectors are being sealed.

make_later_packages() {
    local name
    for name in manager worker; do repack "$bed/debs/first" $name "$bed/debs/later" .later; done
    make_a_broken sealbus-worker
    repack "$bed/debs/first" worker "$bed/debs/broken" .latest "$bed/broken/sealbus-worker"
    cp "$bed"/debs/later/sealbus-manager_* "$bed/debs/broken"
}

# all_are_claimed [WORKER]: waits until no sector waits for a worker, or WORKER has one.
all_are_claimed() {
    local since=$SECONDS
    until manager sectors list --json | python3 -c '
import json, sys
live = [sector for sector in json.load(sys.stdin) if sector["state"] != "proving"]
worker = (sys.argv[1:] + [""])[0]
sys.exit(not live or not all(sector["worker"] == worker if worker else sector["worker"] for sector in live))' "$@"; do
        [ $((SECONDS - since)) -lt 60 ] || die "the sectors find no worker"
        sleep 0.5
    done
}

a_rolling_upgrade_loses_no_sector() {
    make_later_packages
    sectors_begin 3
    all_are_claimed
    use_packages later
    play || die "the upgrade fails"
    has_packages later "${managers[@]}" seal-1 seal-2
    they_are_proven
}

an_upgrade_that_fails_stops_before_the_next_worker() {
    use_packages broken
    fails_naming seal-1 'ends again and again.*this one is broken'
    has_packages later "${managers[@]}" seal-2
}

a_roll_back_loses_no_sector() {
    # seal-2 takes it, because the worker of seal-1 is broken.
    sectors_begin 1
    all_are_claimed
    use_packages first
    guide 'Roll back'
    has_packages first "${managers[@]}" seal-1 seal-2
    they_are_proven
}

a_drained_worker_takes_sectors_again() {
    sectors_begin 1
    all_are_claimed
    use_packages later
    guide Upgrade
    has_packages later "${managers[@]}" seal-1 seal-2
    they_are_proven
    manager workers show seal-1 | grep 'takes  *sectors' >/dev/null || die "seal-1 takes nothing"
}

# nats_knows FILE [HOST]: whether NATS lets somebody in with this key.
nats_knows() {
    "$cache/bin/nats" --server "tls://${2:-nats-1}:4222" --tlsca "$secrets/ca/ca.pem" --nkey "$1" rtt >"$bed/log" 2>&1
    # It succeeds also if it could not connect.
    ! grep -E 'failed|Failed' "$bed/log" >/dev/null
}

a_retired_worker_loses_its_account_and_no_sector() {
    manager workers drain seal-1 --why test >"$bed/log" 2>&1
    sectors_begin 1
    all_are_claimed seal-2
    manager workers resume seal-1 --why test >"$bed/log" 2>&1
    nats_knows "$secrets/seal-2.nk" || die "NATS refuses the key before"
    cp "$secrets/seal-2.nk" "$bed/stolen.nk"
    guide 'Retire a worker'
    if nats_knows "$bed/stolen.nk"; then die "NATS still takes the key"; fi
    grep 'Authorization Violation' "$bed/log" >/dev/null || die "NATS cannot be reached"
    if on seal-2 'systemctl is-active --quiet sealbus-worker || test -e /etc/sealbus/worker.nk'; then die "something is left"; fi
    they_are_proven
}

a_worker_that_comes_takes_sectors() {
    # Under the name of the one that left, with a key of its own.
    guide 'Add a worker'
    manager workers drain seal-1 --why test >"$bed/log" 2>&1
    sectors_begin 1
    all_are_claimed seal-2
    manager workers resume seal-1 --why test >"$bed/log" 2>&1
    they_are_proven
}

stolen_secrets_are_replaced_without_a_loss() {
    local name before
    sectors_begin 1
    all_are_claimed
    for name in manager operator seal-1 seal-2; do cp "$secrets/$name.nk" "$bed/stolen-$name.nk"; done
    before=$(on nats-1 systemctl show --value --property MainPID nats)
    guide 'Replace secrets'
    [ "$(on nats-1 systemctl show --value --property MainPID nats)" = "$before" ] || die "NATS was restarted"
    for name in manager operator seal-1 seal-2; do
        nats_knows "$secrets/$name.nk" || die "NATS does not know the new key of $name"
        if nats_knows "$bed/stolen-$name.nk"; then die "NATS still takes the old key of $name"; fi
    done
    they_are_proven
}

the_manager_moves_while_a_sector_is_sealed() {
    sectors_begin 1
    all_are_claimed
    guide 'Move the manager' 1
    sed -i 's/manager-1:/manager-2:/' "$control/inventory.yml"
    managers=(manager-2)
    guide 'Move the manager' 2
    has_packages later manager-2
    # It was watched on the old machine.
    kill "$sealing" 2>/dev/null || true
    watch_sectors 0
    they_are_proven
    changes_nothing
}

a_removal_leaves_only_data() {
    guide 'Remove it'
    local host
    for host in nats-1 "${managers[@]}" seal-1 seal-2; do
        on "$host" '! systemctl list-unit-files --no-legend "sealbus*" nats.service | grep . &&
            ! ls -d /etc/sealbus /etc/nats /usr/bin/sealbus-* /usr/local/bin/* /usr/local/lib/sealbus /var/cache/sealbus 2>/dev/null' >"$bed/log" 2>&1 ||
            die "$host has something left"
    done
    on "${managers[0]}" test -s /var/lib/sealbus/manager.db || die "the database is gone"
    on nats-1 test -d /var/lib/nats/jetstream/jetstream/SEALBUS || die "the queues are gone"
    [ -n "$(ls "$bed/store/sealed")" ] || die "the sealed sectors are gone"
}
