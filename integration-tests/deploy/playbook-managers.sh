# To be sourced by test.sh: the cluster of docs/deploy.md with PostgreSQL and two managers.

. ./cluster.sh
. ./failures.sh
. ./life.sh

database_hosts=(db-1)
managers=(manager-1 manager-2)
in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
inventory_of 'PostgreSQL and two managers'

# A unit keeps its status when it is stopped.
status() { on "$1" 'systemctl is-active --quiet sealbus-manager && systemctl show --value --property StatusText sealbus-manager'; }

# leader: the one that holds the fold, while the other one stands by.
leader() {
    local host found=() since=$SECONDS
    until [ "${#found[@]}" -eq 1 ]; do
        [ $((SECONDS - since)) -lt 60 ] || die "these hold the fold: ${found[*]}"
        found=()
        for host in "${managers[@]}"; do
            if status "$host" | grep '^holds the fold' >/dev/null; then found+=("$host"); fi
        done
    done
    echo "${found[0]}"
}

# sql COMMAND: on the database's machine.
sql() { on db-1 "cd / && runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align sealbus" <<<"$1"; }

from_nothing_with_two_managers() {
    guide Keys
    on manager-1 cat /srv/devnet/token-sign >"$secrets/node-token"
    guide 'PostgreSQL and two managers'
    guide Inventory
    guide 'Dry run'
    guide 'First run'
    has_packages first "${managers[@]}" seal-1 seal-2
    [ -n "$(leader)" ]
}

nobody_else_reaches_the_database() {
    local password
    password=$(cat "$secrets/database-password")
    # From a machine that has the password, but neither TLS nor the right database.
    on db-1 "PGPASSWORD=$password psql 'host=db-1 user=sealbus dbname=sealbus sslmode=require' --command 'SELECT 1'" >"$bed/log" 2>&1 || die "the password is refused"
    if on db-1 "PGPASSWORD=$password psql 'host=db-1 user=sealbus dbname=sealbus sslmode=disable' --command 'SELECT 1'" >"$bed/log" 2>&1; then die "TLS is not needed"; fi
    if on db-1 "PGPASSWORD=$password psql 'host=db-1 user=sealbus dbname=postgres' --command 'SELECT 1'" >"$bed/log" 2>&1; then die "another database can be read"; fi
    if on db-1 "PGPASSWORD=wrong psql 'host=db-1 user=sealbus dbname=sealbus' --command 'SELECT 1'" >"$bed/log" 2>&1; then die "any password will do"; fi
}

the_backup_has_few_rights() {
    on db-1 'systemd-analyze security --threshold=20 sealbus-backup' >"$bed/log" 2>&1 || die "it has more than 20 tenths"
}

the_standby_takes_over_while_a_sector_is_sealed() {
    local before after
    before=$(leader)
    sectors_begin 1
    all_are_claimed
    on "$before" systemctl stop sealbus-manager
    after=$(leader)
    [ "$after" != "$before" ] || die "$before still leads"
    they_are_proven
    # The run starts what does not run.
    play || die "the run fails"
    [ "$(leader)" = "$after" ] || die "$after has lost the fold"
    status "$before" | grep 'stands by' >/dev/null || die "$before does not stand by"
}

a_rolling_upgrade_of_managers_loses_no_sector() {
    make_later_packages
    sectors_begin 1
    all_are_claimed
    use_packages later
    play || die "the upgrade fails"
    has_packages later "${managers[@]}" seal-1 seal-2
    they_are_proven
}

a_manager_that_exits_stops_the_run_before_the_next_one() {
    make_a_broken sealbus-manager
    fails_naming manager-1 'ends again and again.*this one is broken' --extra-vars "sealbus_packages= sealbus_binaries=$bed/broken"
    has_packages later manager-2
    [ "$(leader)" = manager-2 ] || die "manager-2 does not lead"
    play || die "the corrected run fails"
    has_packages later "${managers[@]}"
}

the_database_password_is_replaced() {
    local old
    old=$(cat "$secrets/database-password")
    (umask 077 && openssl rand -hex 32 >"$secrets/database-password")
    play || die "the run with another password fails"
    if on db-1 "PGPASSWORD=$old psql 'host=db-1 user=sealbus dbname=sealbus' --command 'SELECT 1'" >"$bed/log" 2>&1; then die "the old password still works"; fi
    manager sectors list >"$bed/log" 2>&1 || die "the manager cannot read its database"
    changes_nothing
}

a_lost_database_is_restored() {
    on db-1 systemctl start sealbus-backup >"$bed/log" 2>&1 || die "there is no backup"
    # Its machine is new.
    power_off db-1
    rm -rf "$bed/ssh"
    make_root db-1 "$(base_image bookworm)"
    boot db-1 "$bed/backups:/mnt/backups"
    wait_for_hosts db-1
    guide 'Restore the manager'
    [ "$(sql 'SELECT count(*) FROM sectors')" = "$pledged" ] || die "the database has not $pledged sectors"
    sectors_begin 1
    they_are_proven
    # A second time, over a database that works.
    on db-1 systemctl start sealbus-backup >"$bed/log" 2>&1 || die "there is no backup"
    guide 'Restore the manager'
    [ "$(sql "SELECT count(*) FROM pg_database WHERE datname LIKE 'sealbus_before_restore_%'")" = 2 ] || die "the databases of before were not kept"
    [ "$(sql 'SELECT count(*) FROM sectors')" = "$pledged" ] || die "the database has not $pledged sectors"
}

set_up
run_cases \
    from_nothing_with_two_managers \
    nobody_else_reaches_the_database \
    the_backup_has_few_rights \
    a_second_run_changes_nothing \
    a_check_changes_nothing \
    the_standby_takes_over_while_a_sector_is_sealed \
    a_rolling_upgrade_of_managers_loses_no_sector \
    a_manager_that_exits_stops_the_run_before_the_next_one \
    the_database_password_is_replaced \
    a_lost_database_is_restored
