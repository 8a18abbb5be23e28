# To be sourced by test.sh: the short form of playbook.sh, for CI. While a sector is sealed on one worker, the playbook is run again,
# and with one thing wrong at a time, which must not disturb the sector.

. ./cluster.sh
. ./failures.sh

a_sector_begins_on_seal_1() {
    manager workers drain seal-2 --why test >"$bed/log" 2>&1 || die "seal-2 does not drain"
    sectors_begin 1
}

the_sector_is_proven() { they_are_proven; }

in_a_hurry="sealbus_settle_secs=2 sealbus_workers_at_once=2"
set_up
run_cases \
    every_section_of_the_page_is_followed \
    from_nothing \
    the_units_have_few_rights \
    the_worker_has_its_seed_from_root \
    a_sector_begins_on_seal_1 \
    a_second_run_changes_nothing \
    a_configuration_that_nats_refuses \
    a_tls_key_that_nats_may_not_read \
    a_program_that_exits \
    a_store_that_is_not_mounted \
    the_sector_is_proven
