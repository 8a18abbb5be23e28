# To be sourced by test.sh: runs the playbook on four hosts, from nothing to a sector that is active on the devnet, then again,
# then with one thing wrong at a time, then through its life.

. ./cluster.sh
. ./failures.sh
. ./life.sh
. ./recovery.sh

spare_hosts=(manager-2)
set_up
run_cases \
    every_section_of_the_page_is_followed \
    from_nothing \
    the_units_have_few_rights \
    the_worker_has_its_seed_from_root \
    the_first_sector_is_proven \
    a_second_run_changes_nothing \
    a_check_changes_nothing \
    a_configuration_that_nats_refuses \
    a_tls_key_that_nats_may_not_read \
    a_certificate_is_renewed_without_a_stop \
    a_store_that_may_not_be_written \
    a_program_that_does_not_plan \
    a_program_that_exits \
    a_worker_with_the_key_of_another \
    a_parameter_file_that_is_damaged \
    a_store_that_is_not_mounted \
    a_disk_that_is_missing \
    a_host_that_is_down \
    a_token_that_the_node_refuses \
    a_corrected_run_finishes_the_job \
    a_rolling_upgrade_loses_no_sector \
    an_upgrade_that_fails_stops_before_the_next_worker \
    a_roll_back_loses_no_sector \
    a_drained_worker_takes_sectors_again \
    a_retired_worker_loses_its_account_and_no_sector \
    a_worker_that_comes_takes_sectors \
    stolen_secrets_are_replaced_without_a_loss \
    the_manager_moves_while_a_sector_is_sealed \
    a_lost_manager_is_restored \
    a_removal_leaves_only_data
