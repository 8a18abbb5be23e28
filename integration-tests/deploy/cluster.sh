# To be sourced: a cluster of four hosts (inventory.yml) that the playbook is run on, and the cases of its beginning.

export ANSIBLE_HOME=$bed/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 ANSIBLE_SSH_CONTROL_PATH_DIR=$bed/ssh ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
export ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=$bed/known_hosts -i $bed/id"
binaries=$(realpath "${BINARIES:-$top/target/debug}")
secrets=$bed/secrets
# How long a sector may take. C2 alone takes a minute on two cores.
seal_secs=600
# Further variables of every run.
in_a_hurry=

# play [ARGUMENT…]: runs the playbook. Its output is in $bed/log.
play() {
    PYTHONPATH=$cache/ansible "$cache/ansible/bin/ansible-playbook" --inventory "$here/inventory.yml" \
        --extra-vars "sealbus_binaries=$binaries sealbus_nats_server_binary=$cache/bin/nats-server sealbus_secrets=$secrets" \
        --extra-vars "sealbus_operator_nkey=$(cat "$secrets/operator.pub") $in_a_hurry" \
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

manager() { on manager-1 runuser -u sealbus -- sealbus-manager "$@"; }

# sectors_begin COUNT: pledges sectors, and watches them in the background.
sectors_begin() {
    on manager-1 "python3 - $seal_secs $1" <"$here/seal.py" >"$bed/sectors" 2>&1 &
    sealing=$!
}

they_are_proven() {
    wait "$sealing" || { tail -n 3 "$bed/sectors" >"$bed/log"; die "not all sectors are proven"; }
}

a_sector_is_proven() {
    sectors_begin 1
    they_are_proven
}

from_nothing() {
    play || die "the playbook fails"
}

a_check_of_fresh_hosts() {
    play --check || die "--check fails on fresh hosts"
}

a_second_run_changes_nothing() {
    changes_nothing
}

a_check_changes_nothing() {
    changes_nothing --check
}
