# To be sourced by test.sh: runs the playbook on four hosts, from nothing to a sector that is active on the devnet, then again,
# then with one thing wrong at a time.

export ANSIBLE_HOME=$bed/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 ANSIBLE_SSH_CONTROL_PATH_DIR=$bed/ssh ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
export ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=$bed/known_hosts -i $bed/id"
binaries=$(realpath "${BINARIES:-$top/target/debug}")
secrets=$bed/secrets
# How long a sector may take. C2 alone takes a minute on two cores.
seal_secs=600

# play [ARGUMENT…]: runs the playbook. Its output is in $bed/log.
play() {
    PYTHONPATH=$cache/ansible "$cache/ansible/bin/ansible-playbook" --inventory "$here/inventory.yml" \
        --extra-vars "sealbus_binaries=$binaries sealbus_nats_server_binary=$cache/bin/nats-server sealbus_secrets=$secrets" \
        --extra-vars "sealbus_operator_nkey=$(cat "$secrets/operator.pub")" \
        "$@" "$top/ansible/site.yml" >"$bed/log" 2>&1 </dev/null
}

new_key() {
    "$cache/bin/nats" auth nkey gen user --output "$secrets/$1.nk" >/dev/null
    "$cache/bin/nats" auth nkey show "$secrets/$1.nk" >"$secrets/$1.pub"
}

boot_worker() {
    boot "$1" "$bed/store:/mnt/store" "$bed/$1/nvme0:/mnt/nvme0" "$bed/$1/params:/mnt/params"
}

set_up() {
    local host image
    say "making the hosts"
    image=$(base_image bookworm)
    mkdir -p "$secrets" "$bed/store"
    for host in manager operator seal-1 seal-2; do new_key "$host"; done
    # The number that the playbook gives to the user sealbus.
    chown 640:640 "$bed/store"
    make_network
    make_host nats-1 10 "$image"
    make_host manager-1 20 "$image"
    make_host seal-1 31 "$image"
    make_host seal-2 32 "$image"
    name_hosts
    boot nats-1
    boot manager-1 "$bed/store:/mnt/store" "$binaries:/opt/sealbus" "$SEALBUS_PARAMS:/opt/params"
    for host in seal-1 seal-2; do
        mkdir -p "$bed/$host"/{nvme0,params-upper,params-work,params}
        # A host may change the owner of its own view of the parameters.
        mount -t overlay overlay -o "lowerdir=$SEALBUS_PARAMS,upperdir=$bed/$host/params-upper,workdir=$bed/$host/params-work" "$bed/$host/params"
        boot_worker "$host"
    done
    wait_for_hosts nats-1 manager-1 seal-1 seal-2
    # The chain's node listens on loopback only, so it is the manager's neighbour.
    on manager-1 'systemd-run --quiet --unit=devnet --setenv=FIL_PROOFS_PARAMETER_CACHE=/opt/params \
        /opt/sealbus/sealbus-devnet --data-dir /srv/devnet --listen 127.0.0.1:1234 --epoch-millis 500 &&
        until [ -e /srv/devnet/rpc-addr ]; do sleep 0.1; done'
    on manager-1 cat /srv/devnet/token-sign >"$secrets/node-token"
    # The playbook copies no parameters.
    on manager-1 'mkdir -p /var/lib/sealbus/params && cp /opt/params/*.vk /var/lib/sealbus/params'
}

# fails_naming HOST PATTERN [ARGUMENT…]: the playbook must fail, and say which host and why.
fails_naming() {
    local host=$1 pattern=$2
    shift 2
    if play "$@"; then die "the playbook succeeded"; fi
    grep -E "(fatal|failed): \[$host\]" "$bed/log" | grep -E -e "$pattern" >/dev/null || die "no line names $host and '$pattern'"
}

# The numbers of the recap's columns, such as `changed`, by host.
recap() { sed -n "s/^\([a-z0-9-]*\) *:.* $1=\([0-9]*\).*/\1 \2/p" "$bed/log"; }

changes_nothing() {
    play "$@" || die "a run that has nothing to do fails"
    recap changed | grep -v ' 0$' && die "a run that has nothing to do changes something"
    return 0
}

a_sector_is_proven() {
    on manager-1 "python3 - $seal_secs" <"$here/seal.py" >"$bed/log" 2>&1 || die "no sector is proven"
}

from_nothing() {
    play --check || die "--check fails on fresh hosts"
    play || die "the playbook fails"
}

a_second_run_changes_nothing() {
    changes_nothing
    changes_nothing --check
}

a_configuration_that_nats_refuses() {
    fails_naming nats-1 'Not a valid public nkey' --limit nats-1 --extra-vars sealbus_operator_nkey=UNONSENSE
}

a_tls_key_that_nats_may_not_read() {
    on nats-1 'openssl req -x509 -newkey ed25519 -noenc -subj /CN=nats-1 -days 1 -keyout /etc/nats/given.key -out /etc/nats/given.pem 2>/dev/null'
    fails_naming nats-1 'given.key: permission denied' --limit nats-1 \
        --extra-vars '{"sealbus_nats_tls": {"cert_file": "/etc/nats/given.pem", "key_file": "/etc/nats/given.key"}}'
}

a_certificate_is_renewed_without_a_stop() {
    local before shown
    before=$(on nats-1 'systemctl show --value --property MainPID nats; sha256sum </etc/nats/tls.pem')
    # One that has fewer days left than wanted.
    play --limit nats-1 --extra-vars sealbus_certificate_days_left=366 || die "the certificate is not renewed"
    grep 'NATS runs with this configuration' -A 1 "$bed/log" | grep '^changed' >/dev/null || die "NATS has not taken it over"
    shown=$(on nats-1 'systemctl show --value --property MainPID nats; sha256sum </etc/nats/tls.pem')
    [ "${shown%%$'\n'*}" = "${before%%$'\n'*}" ] || die "NATS was restarted"
    [ "$shown" != "$before" ] || die "the certificate is the same"
}

a_store_that_may_not_be_written() {
    chmod 755 "$bed/store"
    chown 0:0 "$bed/store"
    fails_naming seal-1 'seal-1: .*cannot write to /mnt/store: Permission denied' --limit seal-1
    chown 640:640 "$bed/store"
}

a_program_that_exits() {
    mkdir -p "$bed/broken"
    printf '#!/bin/sh\ncase $1 in --version) echo sealbus-worker 0;; run) echo "this one is broken" >&2; exit 3;; esac\n' >"$bed/broken/sealbus-worker"
    fails_naming seal-1 'ends again and again.*this one is broken' --limit seal-1 --extra-vars "sealbus_binaries=$bed/broken"
}

a_worker_with_the_key_of_another() {
    mkdir -p "$bed/swapped"
    cp "$secrets/seal-2.nk" "$bed/swapped/seal-1.nk"
    fails_naming seal-1 'is not ready after.*seal.hb.seal-1' --limit seal-1 --extra-vars "sealbus_secrets=$bed/swapped sealbus_ready_secs=10"
}

a_store_that_is_not_mounted() {
    on seal-2 umount --lazy /mnt/store
    fails_naming seal-2 'seal-2: /mnt/store is not mounted' --limit seal-2
}

a_disk_that_is_missing() {
    on seal-2 umount --lazy /mnt/nvme0
    fails_naming seal-2 'seal-2: /mnt/nvme0 is not mounted' --limit seal-2
}

a_host_that_is_down() {
    power_off seal-2
    fails_naming seal-2 'UNREACHABLE'
    recap changed | grep -v ' 0$' && die "something was changed"
    boot_worker seal-2
    wait_for_hosts seal-2
}

a_token_that_the_node_refuses() {
    cp -r "$secrets" "$bed/refused"
    echo nonsense >"$bed/refused/node-token"
    fails_naming manager-1 'is not ready after.*waiting for the chain node' --limit manager-1 --extra-vars "sealbus_secrets=$bed/refused sealbus_ready_secs=10"
}

a_corrected_run_finishes_the_job() {
    local installed running
    play || die "the corrected run fails"
    changes_nothing
    # The broken program had been installed on this one.
    running=$(on seal-1 'sha256sum <"/proc/$(systemctl show --value --property MainPID sealbus-worker)/exe"')
    installed=$(sha256sum <"$binaries/sealbus-worker")
    [ "$running" = "$installed" ] || die "seal-1 runs another executable than the one that was built"
    a_sector_is_proven
}

set_up
run_cases \
    from_nothing \
    a_sector_is_proven \
    a_second_run_changes_nothing \
    a_configuration_that_nats_refuses \
    a_tls_key_that_nats_may_not_read \
    a_certificate_is_renewed_without_a_stop \
    a_store_that_may_not_be_written \
    a_program_that_exits \
    a_worker_with_the_key_of_another \
    a_store_that_is_not_mounted \
    a_disk_that_is_missing \
    a_host_that_is_down \
    a_token_that_the_node_refuses \
    a_corrected_run_finishes_the_job
