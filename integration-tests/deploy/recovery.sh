# To be sourced: the manager's host is lost while sectors are sealed, and the manager is restored from the last backup.

# The manager has gone on for a while since the backup: it has numbered sectors, drawn tickets, and sent messages.
a_lost_manager_is_restored() {
    manager pledge --miner f01000 --count 2 >"$bed/log" 2>&1 || die "no sector can be pledged"
    sleep $((RANDOM % 10))
    on manager-1 systemctl start sealbus-backup >"$bed/log" 2>&1 || die "there is no backup"
    manager pledge --miner f01000 --count 1 >"$bed/log" 2>&1 || die "no sector can be pledged"
    sleep $((10 + RANDOM % 20))
    # Of this host only the chain's node survives.
    on manager-1 'systemctl kill --signal KILL sealbus-manager; systemctl stop sealbus-backup.timer; apt-get purge --yes --quiet sealbus-manager
        rm -rf /var/lib/sealbus/manager.db* /etc/sealbus /etc/systemd/system/sealbus-* /usr/local/lib/sealbus; systemctl daemon-reload' >"$bed/log" 2>&1
    on manager-1 'test ! -e /var/lib/sealbus/manager.db && ! systemctl is-active --quiet sealbus-manager' || die "the manager is still there"
    guide 'Restore the manager'
    on manager-1 "python3 - $seal_secs" <"$here/recovered.py" >"$bed/log" 2>&1 || die "the restored manager sent a message twice"
    say "$(cat "$bed/log")"
}
