# To be sourced: cases in which one thing is wrong. The playbook must fail, and name the host and the cause.

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

# make_a_broken PROGRAM: its configuration is checked and planned, but it does not run.
make_a_broken() {
    mkdir -p "$bed/broken"
    cat >"$bed/broken/$1" <<PROGRAM
#!/bin/sh
case \$1 in
    --version) echo $1 0 ;;
    plan) echo '{"machine": "", "steady": {"sectors_per_day": 0}, "reasons": [], "notes": [], "groups": [], "concurrent": {}, "staggered_secs": {}, "locks": {}, "elsewhere": [], "cgroups": false}' ;;
    run) echo "this one is broken" >&2; exit 3 ;;
esac
PROGRAM
    chmod 755 "$bed/broken/$1"
}

a_program_that_does_not_plan() {
    make_a_broken sealbus-worker
    sed -i '/plan)/d' "$bed/broken/sealbus-worker"
    fails_naming seal-1 'seal-1: sealbus-worker plan prints no plan' --limit seal-1 --extra-vars "sealbus_packages= sealbus_binaries=$bed/broken"
}

a_program_that_exits() {
    make_a_broken sealbus-worker
    fails_naming seal-1 'ends again and again.*this one is broken' --limit seal-1 --extra-vars "sealbus_packages= sealbus_binaries=$bed/broken"
}

a_worker_with_the_key_of_another() {
    cp -r "$secrets" "$bed/swapped"
    cp "$secrets/seal-2.nk" "$bed/swapped/seal-1.nk"
    fails_naming seal-1 'is not ready after.*seal.hb.seal-1' --limit seal-1 --extra-vars "sealbus_secrets=$bed/swapped sealbus_ready_secs=10"
}

a_parameter_file_that_is_damaged() {
    local file
    file=$(on seal-2 'ls /mnt/params/*replication*.vk')
    on seal-2 "cp --preserve $file /root/whole && printf x | dd of=$file conv=notrunc status=none"
    fails_naming seal-2 'seal-2: .*\.vk is corrupt' --limit seal-2
    on seal-2 "cp --preserve /root/whole $file"
}

# From here on seal-2 lacks its mounts, until a_host_that_is_down starts it again.
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
    play || die "the corrected run fails"
    changes_nothing
    # A broken program had been put in front of the package.
    has_packages first "${managers[@]}" seal-1 seal-2
    sectors_begin 1
    they_are_proven
}
