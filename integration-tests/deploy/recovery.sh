# To be sourced: the manager's host is lost while sectors are sealed, and the manager is restored from the last backup.

# The worst moment: since the backup the manager has drawn the tickets of two sectors, numbered a third one, and sent all three PreCommits.
a_lost_manager_is_restored() {
    local since=$SECONDS
    manager pledge --miner f01000 --count 2 >"$bed/log" 2>&1 || die "no sector can be pledged"
    all_are_claimed
    on "${managers[0]}" systemctl start sealbus-backup >"$bed/log" 2>&1 || die "there is no backup"
    say "at the backup: $(manager sectors list | awk 'NR > 1 && $2 != "proving" { print $1, $2 }' | paste -sd ,)"
    manager pledge --miner f01000 --count 1 >"$bed/log" 2>&1 || die "no sector can be pledged"
    until ! manager sectors list | grep -E ' (queued|packing|drawing_ticket|sealing|pre_committing) ' >"$bed/log"; do
        [ $((SECONDS - since)) -lt 240 ] || die "there are no PreCommits"
        sleep 0.5
    done
    say "at the loss: $(manager sectors list | awk 'NR > 1 && $2 != "proving" { print $1, $2 }' | paste -sd ,)"
    # Of this host only the chain's node survives.
    on "${managers[0]}" 'systemctl kill --signal KILL sealbus-manager; systemctl stop sealbus-backup.timer; apt-get purge --yes --quiet sealbus-manager
        rm -rf /var/lib/sealbus/manager.db* /etc/sealbus /etc/systemd/system/sealbus-* /usr/local/lib/sealbus; systemctl daemon-reload' >"$bed/log" 2>&1
    on "${managers[0]}" 'test ! -e /var/lib/sealbus/manager.db && ! systemctl is-active --quiet sealbus-manager' || die "the manager is still there"
    guide 'Restore the manager'
    on "${managers[0]}" "python3 - $seal_secs" <"$here/recovered.py" >"$bed/log" 2>&1 || die "the restored manager sent a message twice"
    say "$(cat "$bed/log")"
}
