# To be sourced by test.sh: installs, upgrades, removes and purges the packages of `make deb` on a fresh host of each release.

debs=$top/target/deb
# In /etc, and made by the first start.
config=/etc/sealbus/worker.toml
data=/var/lib/sealbus/kept

run_on() { on "$host" "$@" >"$bed/log" 2>&1 || die "$host: \`$*\` fails"; }
fails_on() { if on "$host" "$@" >"$bed/log" 2>&1; then die "$host: \`$*\` succeeds"; fi; }

# prints WANTED COMMAND: what the command prints on the host.
prints() {
    local wanted=$1
    shift
    on "$host" "$@" >"$bed/log" 2>&1 || die "$host: \`$*\` fails"
    [ "$(cat "$bed/log")" = "$wanted" ] || die "$host: \`$*\` does not print '$wanted'"
}

install_them() {
    run_on 'export DEBIAN_FRONTEND=noninteractive; apt-get install --yes --quiet --no-install-recommends --allow-downgrades' \
        "/opt/$1/sealbus-manager_*.deb /opt/$1/sealbus-worker_*.deb"
}

# The same files with a higher version, as if they were of a later commit.
make_later_ones() {
    local name
    for name in manager worker; do repack "$debs" $name "$bed/later" .later; done
}

they_are_installed() {
    install_them deb
    prints 'sealbus:x:640:640:Sealbus:/var/lib/sealbus:/usr/sbin/nologin' getent passwd sealbus
    prints 750:sealbus:sealbus stat --format=%a:%U:%G /var/lib/sealbus
    prints 750:root:sealbus stat --format=%a:%U:%G /etc/sealbus
    version=$(dpkg-deb --field "$debs"/sealbus-worker_*.deb Version)
    prints "sealbus-worker $version" sealbus-worker --version
    prints "sealbus-manager $version" sealbus-manager --version
    # What must be filled in first is not started.
    fails_on systemctl is-active --quiet sealbus-worker
    fails_on systemctl is-enabled --quiet sealbus-worker
    run_on systemd-analyze verify --man=no sealbus-worker.service sealbus-manager.service
    run_on 'runuser -u sealbus -- sealbus-worker check --offline --config /etc/sealbus/worker.toml'
    run_on 'runuser -u sealbus -- sealbus-manager check --offline --config /etc/sealbus/manager.toml'
    run_on 'test -e /usr/share/man/man1/sealbus-worker.1.gz -a -e /usr/share/man/man1/sealbus-manager-sectors-list.1.gz'
    run_on 'test -s /usr/share/bash-completion/completions/sealbus-manager'
    prints '' 'dpkg --verify sealbus-manager sealbus-worker'
}

an_upgrade_restarts_what_runs_and_keeps_what_was_changed() {
    # It waits for NATS, which is not there, so it is not ready.
    run_on "echo '# changed' >>$config && echo data >$data && systemctl start --no-block sealbus-worker && sleep 2"
    run_on 'systemctl show --value --property MainPID sealbus-worker'
    local before
    before=$(cat "$bed/log")
    [ "$before" != 0 ] || die "$host: the worker does not run"
    install_them later
    prints "$version.later" "dpkg-query --show --showformat '\${Version}' sealbus-worker"
    prints '# changed' tail -n 1 $config
    # The upgrade does not wait for the restart.
    run_on "for _ in \$(seq 150); do case \$(systemctl show --value --property MainPID sealbus-worker) in 0 | $before) sleep 0.2 ;; *) exit 0 ;; esac; done; \
        systemctl status sealbus-worker; exit 1"
    # It is the new executable, not the deleted old one.
    prints /usr/bin/sealbus-worker "readlink /proc/\$(systemctl show --value --property MainPID sealbus-worker)/exe"
    fails_on systemctl is-active --quiet sealbus-manager
}

a_downgrade_works() {
    install_them deb
    prints "$version" "dpkg-query --show --showformat '\${Version}' sealbus-worker"
}

a_removal_stops_it_and_keeps_configuration_and_data() {
    run_on apt-get remove --yes --quiet sealbus-manager sealbus-worker
    fails_on systemctl is-active --quiet sealbus-worker
    fails_on test -e /usr/bin/sealbus-worker
    prints '# changed' tail -n 1 $config
    prints data cat $data
}

a_purge_takes_the_configuration_and_keeps_the_data() {
    run_on apt-get purge --yes --quiet sealbus-manager sealbus-worker
    fails_on test -e $config
    fails_on 'systemctl cat sealbus-worker.service'
    prints data cat $data
}

they_can_be_installed_again() {
    install_them deb
    prints data cat $data
}

[ -e "$debs/SHA256SUMS" ] || { say "no packages: run \`make deb\`"; exit 1; }
(cd "$debs" && sha256sum --quiet --check SHA256SUMS)
make_network
make_later_ones
number=40
for release in $releases; do
    host=$release
    make_host "$host" "$((number++))" "$(base_image "$release")"
done
name_hosts
for host in $releases; do
    boot "$host" "$debs:/opt/deb" "$bed/later:/opt/later"
    wait_for_hosts "$host"
    say "on $host"
    run_cases \
        they_are_installed \
        an_upgrade_restarts_what_runs_and_keeps_what_was_changed \
        a_downgrade_works \
        a_removal_stops_it_and_keeps_configuration_and_data \
        a_purge_takes_the_configuration_and_keeps_the_data \
        they_can_be_installed_again
done
