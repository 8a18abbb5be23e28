# To be sourced by test.sh: runs the playbook on four hosts, from nothing to a sector that is active on the devnet, then again,
# then with one thing wrong at a time.

. ./cluster.sh
. ./failures.sh

set_up
run_cases \
    a_check_of_fresh_hosts \
    from_nothing \
    a_sector_is_proven \
    a_second_run_changes_nothing \
    a_check_changes_nothing \
    a_configuration_that_nats_refuses \
    a_tls_key_that_nats_may_not_read \
    a_certificate_is_renewed_without_a_stop \
    a_store_that_may_not_be_written \
    a_program_that_exits \
    a_worker_with_the_key_of_another \
    a_store_that_is_not_mounted \
    a_disk_that_is_missing \
    a_host_that_is_down \
    a_token_that_the_node_refuses \
    a_corrected_run_finishes_the_job
