# To be sourced: the cluster of docs/deploy.md, which the playbook is run on, and the cases of its beginning.

export ANSIBLE_HOME=$bed/ansible-home ANSIBLE_NOCOLOR=1 ANSIBLE_PIPELINING=1 ANSIBLE_SSH_CONTROL_PATH_DIR=$bed/ssh ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
export ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=$bed/known_hosts -i $bed/id"
binaries=$(realpath "${BINARIES:-$top/target/debug}")
# A deployer's checkout, and the page that leads him.
control=$bed/ansible
guidebook=$top/docs/deploy.md
secrets=$control/secrets
# How long sectors may take. C2 alone takes a minute on two cores, when nobody else uses them.
seal_secs=1500
# How many have been pledged.
pledged=0
# Further variables of every run.
export in_a_hurry=
# The machines but for the workers, and what else the inventory has.
nats_hosts=(nats-1)
site_hosts=()
database_hosts=()
managers=(manager-1)
# Machines that may become managers.
spare_hosts=()
further_inventories=()

# What a deployer has: the playbook, the built programs, and commands that know this cluster.
make_the_control_node() {
    mkdir -p "$bed/bin" "$bed/target" "$bed/.tools"
    cp -r "$top/ansible" "$control"
    rm -rf "$control/inventory.yml" "$secrets"
    ln -s "$cache/bin" "$bed/.tools/bin"
    ln -s "$binaries" "$bed/target/release"
    cat >"$bed/bin/ansible-playbook" <<PROGRAM
#!/bin/sh
PYTHONPATH=$cache/ansible exec "$cache/ansible/bin/ansible-playbook" "\$@" --inventory "$here/differences.yml" ${further_inventories[*]/#/--inventory=} \${in_a_hurry:+--extra-vars "\$in_a_hurry"}
PROGRAM
    cat >"$bed/bin/ssh" <<PROGRAM
#!/bin/sh
exec /usr/bin/ssh -q -i "$bed/id" -o UserKnownHostsFile="$bed/known_hosts" -o ConnectTimeout=5 "\$@"
PROGRAM
    chmod 755 "$bed"/bin/*
    PATH=$bed/bin:$PATH
}

# page SECTION LANGUAGE [NUMBER]: prints the blocks of a section of docs/deploy.md in a language, as they stand there, or only one of them.
page() {
    awk -v heading="## $1" -v fence="\`\`\`$2" -v wanted="${3:-0}" '
        /^## / { here = $0 == heading }
        /^```/ { code = here && $0 == fence; if (code) number++; next }
        code && (!wanted || number == wanted)' "$guidebook" >"$bed/page"
    [ -s "$bed/page" ] || die "docs/deploy.md has no such $2 in the section '$1'"
    cat "$bed/page"
}

# guide SECTION [NUMBER]: runs the commands of a section of docs/deploy.md, or of one block of it.
guide() {
    page "$1" sh "${2:-}" >"$bed/commands"
    (cd "$control" && bash -euo pipefail "$bed/commands") >"$bed/log" 2>&1 </dev/null || die "the commands of '$1' fail"
}

# inventory_of SECTION: the inventory has what this section of docs/deploy.md adds to it.
inventory_of() {
    local file=$bed/further-${#further_inventories[@]}.yml
    page "$1" yaml >"$file"
    further_inventories+=("$file")
}

# play [ARGUMENT…]: runs the playbook. Its output is in $bed/log.
play() {
    (cd "$control" && ansible-playbook --inventory inventory.yml "$@" site.yml) >"$bed/log" 2>&1 </dev/null
}

# make_packages_of PROGRAMS NAME: packs the programs of a directory.
make_packages_of() {
    PROGRAMS=$1 DEBS=$bed/debs/$2 SEALBUS_COMPRESSION=none DEB_BUILD_OPTIONS=noautodbgsym bash "$top/packaging/deb.sh" >"$bed/log" 2>&1 ||
        die "the packages cannot be made"
}

# From now on the playbook installs these packages.
use_packages() { ln -sfn "$bed/debs/$1" "$bed/target/deb"; }

# has_packages DIRECTORY HOST…: whether hosts have these versions installed, and run them.
has_packages() {
    local directory=$bed/debs/$1 host name
    shift
    for host in "$@"; do
        case $host in manager-*) name=manager ;; *) name=worker ;; esac
        [ "$(on "$host" "dpkg-query --show --showformat '\${Version}' sealbus-$name")" = "$(dpkg-deb --field "$directory"/sealbus-"$name"_*.deb Version)" ] ||
            die "$host has another version of sealbus-$name installed"
        on "$host" "cmp /usr/bin/sealbus-$name /proc/\$(systemctl show --value --property MainPID sealbus-$name)/exe" >"$bed/log" 2>&1 ||
            die "$host does not run what is installed"
    done
}

boot_worker() {
    boot "$1" "$bed/store:/mnt/store" "$bed/$1/nvme0:/mnt/nvme0" "$bed/$1/params:/mnt/params"
}

set_up() {
    local host image number=10
    say "making the hosts"
    image=$(base_image bookworm)
    make_the_control_node
    make_packages_of "$binaries" first
    use_packages first
    mkdir -p "$bed/store" "$bed/backups" "$bed/devnet"
    # The number that the playbook gives to the user sealbus.
    chown 640:640 "$bed/store" "$bed/backups"
    make_network
    for host in "${nats_hosts[@]}" "${site_hosts[@]}" "${database_hosts[@]}" "${managers[@]}" "${spare_hosts[@]}" seal-1 seal-2; do
        make_host "$host" $((number++)) "$image"
    done
    name_hosts
    for host in "${nats_hosts[@]}" "${site_hosts[@]}"; do boot "$host"; done
    for host in "${database_hosts[@]}"; do boot "$host" "$bed/backups:/mnt/backups"; done
    for host in "${managers[@]}" "${spare_hosts[@]}"; do
        boot "$host" "$bed/store:/mnt/store" "$bed/backups:/mnt/backups" "$binaries:/opt/sealbus" "$SEALBUS_PARAMS:/opt/params" "$bed/devnet:/srv/devnet"
    done
    for host in seal-1 seal-2; do
        mkdir -p "$bed/$host"/{nvme0,params-upper,params-work,params}
        # A host may change the owner of its own view of the parameters.
        mount -t overlay overlay -o "lowerdir=$SEALBUS_PARAMS,upperdir=$bed/$host/params-upper,workdir=$bed/$host/params-work" "$bed/$host/params"
        boot_worker "$host"
    done
    if ! wait_for_hosts "${!address[@]}"; then
        say "skipped, because no hosts boot here"
        exit 0
    fi
    # The chain's node listens on loopback only, so it is the manager's neighbour.
    on manager-1 'systemd-run --quiet --unit=devnet --setenv=FIL_PROOFS_PARAMETER_CACHE=/opt/params \
        /opt/sealbus/sealbus-devnet --data-dir /srv/devnet --listen 127.0.0.1:1234 --epoch-millis 500 &&
        until [ -e /srv/devnet/rpc-addr ]; do sleep 0.1; done'
    for host in "${managers[@]}" "${spare_hosts[@]}"; do
        # The playbook copies no parameters.
        on "$host" 'mkdir -p /var/lib/sealbus/params && cp /opt/params/*.vk /var/lib/sealbus/params'
        [ "$host" = manager-1 ] || { hand_on manager-1 "${address[manager-1]}:1234" 127.0.0.1:1234; hand_on "$host" 127.0.0.1:1234 manager-1:1234; }
    done
}

# hand_on HOST FROM TO: connections to one address of a host go on to another one.
hand_on() {
    on "$1" "systemctl is-active --quiet 'to-$3.socket' || systemd-run --quiet --unit='to-$3' --socket-property=ListenStream=$2 /lib/systemd/systemd-socket-proxyd $3"
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

manager() { on "${managers[0]}" runuser -u sealbus -- sealbus-manager "$@"; }

# sectors_begin COUNT: pledges sectors, and watches them in the background.
sectors_begin() {
    manager pledge --miner f01000 --count "$1" >"$bed/log" 2>&1 || die "no sector can be pledged"
    watch_sectors "$1"
}

watch_sectors() {
    pledged=$((pledged + $1))
    on "${managers[0]}" "python3 - $seal_secs $pledged" <"$here/watch.py" >"$bed/sectors" 2>&1 &
    sealing=$!
}

they_are_proven() {
    wait "$sealing" || { tail -n 3 "$bed/sectors" >"$bed/log"; die "not all sectors are proven"; }
}

every_section_of_the_page_is_followed() {
    local section
    while read -r section; do
        grep -E "(guide|inventory_of) '?$section('| |\$)" "$here"/*.sh >/dev/null || die "no test follows the section '$section' of docs/deploy.md"
    done < <(awk '/^## / { section = substr($0, 4) } /^```(sh|yaml)$/ { print section }' "$guidebook" | uniq)
}

from_nothing() {
    guide Keys
    on manager-1 cat /srv/devnet/token-sign >"$secrets/node-token"
    guide Inventory
    if [ -z "$in_a_hurry" ]; then guide 'Dry run'; fi
    guide 'First run'
    has_packages "$(basename "$(readlink "$bed/target/deb")")" "${managers[@]}" seal-1 seal-2
}

the_units_have_few_rights() {
    local unit host limit
    while read -r host unit limit; do
        on "$host" "systemd-analyze security --threshold=$limit $unit" >"$bed/log" 2>&1 </dev/null || die "$unit has more rights than $limit tenths"
    done <<'UNITS'
nats-1 nats 20
manager-1 sealbus-manager 20
manager-1 sealbus-backup 20
seal-1 sealbus-worker 30
UNITS
}

the_worker_has_its_seed_from_root() {
    [ "$(on seal-1 stat --format=%a:%U /etc/sealbus/worker.nk)" = 400:root ] || die "somebody else than root can read it"
    on seal-1 'runuser -u sealbus -- sealbus-worker check --config /etc/sealbus/worker.toml' >"$bed/log" 2>&1 || die "the worker's user does not find it"
}

the_first_sector_is_proven() {
    guide 'The first sector'
    watch_sectors 1
    they_are_proven
}

a_second_run_changes_nothing() {
    changes_nothing
}

a_check_changes_nothing() {
    changes_nothing --check
}
