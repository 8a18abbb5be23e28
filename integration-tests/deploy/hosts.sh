# To be sourced by test.sh: Debian hosts with systemd and SSH, for the playbook. Each is a systemd-nspawn container with a network
# namespace of its own. They need neither Docker nor systemd on this machine, and no network outside.
# But for base_image, the caller is in mount, network and PID namespaces of its own, so nothing here outlives it.
#   $images  where base images are kept between runs
#   $bed     the directory of this run
#   $groups  the control groups under which each host gets its own

network=10.47.0
controller=$network.1
# Long enough for a loaded machine; a host boots in a few seconds.
boot_secs=120
declare -A address=() init=()

# base_image RELEASE: makes the image if it is missing, and prints its path. To renew it, delete it. What the playbook installs with apt is only
# downloaded, because the hosts have no network.
included=systemd,systemd-sysv,dbus,python3,python3-apt,openssh-server,iproute2,ca-certificates,sudo
downloaded="libhwloc15 postgresql"
base_image() (
    image=$images/$1
    mkdir -p "$images"
    # Another checkout may be making it.
    exec 9>"$images/lock"
    flock 9
    if [ "$(cat "$image/made" 2>/dev/null)" != "$included $downloaded" ]; then
        rm -rf "$image" "$image.new"
        mmdebstrap --quiet --variant=minbase --include="$included" --skip=cleanup/apt --customize-hook='chroot "$1" apt-get clean' \
            --customize-hook="chroot \"\$1\" apt-get install --yes --quiet --quiet --download-only $downloaded" \
            --customize-hook='rm -rf "$1"/etc/ssh/ssh_host_* "$1"/usr/share/doc "$1"/usr/share/locale' \
            "$1" "$image.new" >&2
        echo "$included $downloaded" >"$image.new/made"
        mv "$image.new" "$image"
    fi
    printf '%s\n' "$image"
)

# Joins this namespace and the hosts' with a bridge.
make_network() {
    ip link set lo up
    ip link add br0 type bridge
    ip address add "$controller/24" dev br0
    ip link set br0 up
    # `ip netns` keeps its names in /run/netns.
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ssh-keygen -q -t ed25519 -N '' -f "$bed/id"
}

# make_host NAME NUMBER IMAGE: a host's address and root directory.
make_host() {
    local host=$1
    address[$host]=$network.$2
    ip netns add "$host"
    ip link add "v-$host" type veth peer name eth0 netns "$host"
    ip link set "v-$host" master br0 up
    ip -n "$host" link set lo up
    ip -n "$host" address add "${address[$host]}/24" dev eth0
    ip -n "$host" link set eth0 up
    make_root "$host" "$3"
}

# make_root NAME IMAGE: a freshly installed disk, in the place of the one that the host may have.
make_root() {
    local host=$1 image=$2 root=$bed/$1/root
    umount "$root" 2>/dev/null || true
    rm -rf "$bed/$host"/{upper,work}
    mkdir -p "$bed/$host"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$image,upperdir=$bed/$host/upper,workdir=$bed/$host/work" "$root"
    echo "$host" >"$root/etc/hostname"
    : >"$root/etc/machine-id"
    # No list is newer anywhere that a host can reach.
    touch "$root/var/lib/apt/lists"
    mkdir -p -m 700 "$root/root/.ssh"
    install -m 600 "$bed/id.pub" "$root/root/.ssh/authorized_keys"
    ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
    echo "$host,${address[$host]} $(cat "$root/etc/ssh/ssh_host_ed25519_key.pub")" >>"$bed/known_hosts"
}

# Everybody's names, here and on the hosts.
name_hosts() {
    local host
    echo '127.0.0.1 localhost' >"$bed/hosts"
    for host in "${!address[@]}"; do echo "${address[$host]} $host" >>"$bed/hosts"; done
    mount --bind "$bed/hosts" /etc/hosts
}

# boot HOST [BIND…]: starts a host. A bind is SOURCE:TARGET.
boot() {
    local host=$1 bind binds=()
    shift
    for bind in "$@"; do
        mkdir -p "$bed/$host/root${bind#*:}"
        binds+=("--bind=$bind")
    done
    cp "$bed/hosts" "$bed/$host/root/etc/hosts"
    # Without --register=no and --keep-unit it asks the systemd of this machine, which may not exist.
    (
        for group in $groups; do
            mkdir -p "$group/$host"
            echo "$BASHPID" >"$group/$host/cgroup.procs"
        done
        exec systemd-nspawn --quiet --boot --register=no --keep-unit --machine="$host" --directory="$bed/$host/root" \
            --network-namespace-path="/run/netns/$host" --console=pipe --link-journal=no ${binds[@]+"${binds[@]}"}
    ) >>"$bed/$host/console.log" 2>&1 </dev/null &
    init[$host]=$!
}

# power_off HOST: as if its plug were pulled.
power_off() {
    local child
    for child in $(pgrep -P "${init[$1]}"); do kill -KILL "$child"; done
    wait "${init[$1]}" 2>/dev/null || true
    unset "init[$1]"
}

# on HOST COMMAND…: runs a shell command on a host, as root.
on() {
    local host=$1
    shift
    ssh -q -i "$bed/id" -o UserKnownHostsFile="$bed/known_hosts" -o ConnectTimeout=5 "root@${address[$host]}" "$@"
}

wait_for_hosts() {
    local host since
    for host in "$@"; do
        since=$SECONDS
        until on "$host" 'systemctl is-system-running --wait || true' >"$bed/$host/state" 2>/dev/null; do
            if [ $((SECONDS - since)) -gt $boot_secs ] || ! kill -0 "${init[$host]}" 2>/dev/null; then
                echo "$host does not boot:" >&2
                tail -20 "$bed/$host/console.log" >&2
                return 1
            fi
            sleep 0.3
        done
    done
}

# repack FROM NAME TO SUFFIX [PROGRAM]: a package of the directory FROM again, with a longer version, as if it were of another commit. Its program
# is another file, which does the same unless PROGRAM takes its place.
repack() {
    local from=$1 name=$2 to=$3 suffix=$4 unpacked=$bed/unpacked
    dpkg-deb --raw-extract "$from"/sealbus-"$name"_*.deb "$unpacked"
    sed -i "s/^Version: .*/&$suffix/" "$unpacked/DEBIAN/control"
    if [ -n "${5:-}" ]; then cp "$5" "$unpacked/usr/bin/sealbus-$name"; else echo >>"$unpacked/usr/bin/sealbus-$name"; fi
    mkdir -p "$to"
    dpkg-deb --build --root-owner-group -Znone "$unpacked" "$to" >/dev/null
    rm -rf "$unpacked"
}
