#!/usr/bin/env bash
# Tests on Debian hosts that it makes: `test.sh playbook`, `playbook-upgrade`, `playbook-three`, `playbook-managers` and `playbook-sites` (`make
# ansible-test`), `test.sh playbook-short` (`make ansible-test-short`, in CI) and `test.sh packages` (`make deb-test`). It needs root and namespaces, and is skipped where they are not allowed.
#   BINARIES          playbook: the directory of sealbus-manager, sealbus-worker and sealbus-devnet
#   RELEASES          packages: the Debian releases, "bookworm trixie" by default
#   CASES             a pattern: only the cases with such names run
#   DEPLOY_TEST_SECS  the longest time that it may take
#   DEPLOY_TEST_LOGS  where the logs of a run that fails are copied to
set -euo pipefail
what=$1
cd "$(dirname "$0")"
here=$PWD
top=$(realpath ../..)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sealbus
images=$cache/hosts
limit_secs=${DEPLOY_TEST_SECS:-5400}

. ./hosts.sh
case $what in
    playbook | playbook-*) releases=bookworm ;;
    packages) releases=${RELEASES:-bookworm trixie} ;;
esac

say() { printf '%s\n' "$what: $*" >&2; }

if [ -z "${bed:-}" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        say "skipped, because it needs root"
        exit 0
    fi
    if ! trouble=$(unshare --mount --net --pid --fork --kill-child true 2>&1); then
        say "skipped, because namespaces are not allowed here: $trouble"
        exit 0
    fi
    bash "$top/integration-tests/setup/ansible.sh" hosts
    if [ "$what" = playbook-upgrade ]; then
        if ! previous=$(bash "$here/previous.sh"); then
            say "skipped, because the programs of an earlier commit cannot be built here"
            exit 0
        fi
        export previous
    fi
    bed=$cache/bed
    mkdir -p "$bed"
    # Some containers allow namespaces, but not what is needed inside.
    if ! trouble=$(unshare --mount --net --pid --fork --kill-child --mount-proc bash -e -c "mount -t tmpfs tmpfs '$bed'; cd '$bed'; mkdir upper work root
        mount -t overlay overlay -o lowerdir=/usr,upperdir=upper,workdir=work root
        ip link add br0 type bridge; ip link add v-host type veth peer name eth0" 2>&1); then
        say "skipped, because this is not allowed here: $trouble"
        exit 0
    fi
    # Here, because there is no network inside.
    for release in $releases; do
        if ! trouble=$(base_image "$release" 2>&1 >/dev/null); then
            say "skipped, because no image of a host can be made here: $trouble"
            exit 0
        fi
    done
    # A control group for each host, as nspawn shares its own.
    groups=
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        if [ -e "$hierarchy/cgroup.procs" ]; then groups+=" $hierarchy/sealbus-hosts-$$"; fi
    done
    if ! trouble=$(mkdir ${groups:?there are none} 2>&1); then
        rmdir $groups 2>/dev/null || true
        say "skipped, because control groups are not allowed here: $trouble"
        exit 0
    fi
    export bed groups
    end() {
        kill -KILL "$inner" 2>/dev/null || true
        wait "$inner" 2>/dev/null || true
        for group in $groups; do
            # A group stays busy until the kernel has ended its processes.
            for _ in {1..50}; do
                find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.2
                [ -e "$group" ] || break
            done
        done
    }
    # The kernel ends all processes of a PID namespace with its first one, and its mounts and networks go with them, the files in
    # memory too. So nothing is left, however this ends.
    setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc \
        timeout --kill-after=10 "$limit_secs" bash "$here/test.sh" "$what" &
    inner=$!
    trap end EXIT
    trap 'exit 130' INT TERM HUP
    code=0
    wait "$inner" || code=$?
    if [ "$code" -eq 124 ]; then say "FAILED: it did not end within $limit_secs s"; fi
    exit "$code"
fi

mount -t tmpfs tmpfs "$bed"

die() {
    say "FAILED: $*"
    tail -n 60 "$bed/log" | cut -c -600 >&2
    if [ -n "${DEPLOY_TEST_LOGS:-}" ]; then cp "$bed"/log "$bed"/*/console.log --parents "$DEPLOY_TEST_LOGS"; fi
    exit 1
}

# run_cases NAME…: each is a function, and its name a sentence. Later ones need the first.
run_cases() {
    local name since
    for name in "$@"; do
        [[ $name =~ ${CASES:-} ]] || continue
        since=$SECONDS
        "$name"
        say "$name: ok, $((SECONDS - since)) s"
    done
    say "all is well, in $SECONDS s"
}

. "./$what.sh"
