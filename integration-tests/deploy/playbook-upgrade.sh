# To be sourced by test.sh: a cluster that an earlier commit's playbook and packages made is upgraded to this commit's (previous.sh says which).

. ./cluster.sh
. ./life.sh

in_a_hurry="sealbus_settle_secs=2"

# With that commit's page and playbook too.
a_cluster_of_an_earlier_commit() {
    make_packages_of "$previous" previous
    use_packages previous
    mv "$control" "$bed/this"
    (cd "$top" && git archive "$(cat "$previous/built")" ansible docs/deploy.md) | tar --extract --directory "$bed"
    guidebook=$bed/docs/deploy.md
    from_nothing
    sectors_begin 1
    they_are_proven
}

# The new checkout takes over the old one's inventory and secrets.
an_earlier_worker_works_for_this_manager() {
    sectors_begin 2
    all_are_claimed
    cp -r "$secrets" "$control/inventory.yml" "$bed/this"
    mv "$control" "$bed/earlier"
    mv "$bed/this" "$control"
    use_packages first
    # The workers are left as they are.
    play --limit nats:managers || die "the upgrade of the manager fails"
    has_packages first manager-1
    has_packages previous seal-1 seal-2
    they_are_proven
    sectors_begin 1
    they_are_proven
}

a_rolling_upgrade_of_the_workers_loses_no_sector() {
    sectors_begin 3
    all_are_claimed
    play || die "the upgrade fails"
    has_packages first manager-1 seal-1 seal-2
    they_are_proven
    changes_nothing
}

set_up
run_cases \
    a_cluster_of_an_earlier_commit \
    an_earlier_worker_works_for_this_manager \
    a_rolling_upgrade_of_the_workers_loses_no_sector
