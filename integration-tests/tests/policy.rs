//! Pledging by policy: the manager alone, with no worker to take the sectors.

use std::time::Duration;

use sealbus_integration_tests::cluster::{Cluster, Settings, wait_within};

fn numbers(cluster: &Cluster) -> anyhow::Result<Vec<u64>> {
    Ok(cluster.sectors()?.iter().filter_map(|sector| sector["number"].as_u64()).collect())
}

fn wait_for_numbers(cluster: &mut Cluster, expected: &[u64]) {
    let waited = wait_within(Duration::from_secs(60), "the wanted sectors", || {
        cluster.check_alive()?;
        Ok((numbers(cluster)? == expected).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error}: {:?} instead of {expected:?}", numbers(cluster)));
}

#[test]
fn the_queue_is_kept_full_pledges_come_on_top_and_a_restart_adds_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    // No sector gets a number without the key that verifies its proof.
    let parameters = Settings::from_env().expect("the parameters");
    let settings = Settings { epoch_millis: 200, confidence_epochs: 1, ..parameters };
    let mut cluster = Cluster::prepare(directory.path(), settings).expect("a cluster");
    let config = cluster.manager_config();
    let text = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, text.replace("[[miner]]", "[[miner]]\nkeep_queued = 3")).expect("writes");
    cluster.start_manager().expect("starts");
    wait_for_numbers(&mut cluster, &[1, 2, 3]);
    cluster.pledge(2).expect("pledges");
    wait_for_numbers(&mut cluster, &[1, 2, 3, 4, 5]);

    cluster.kill_manager();
    cluster.start_manager().expect("starts");
    cluster.pledge(1).expect("pledges");
    wait_for_numbers(&mut cluster, &[1, 2, 3, 4, 5, 6]);
    let queued = cluster.sectors().expect("lists").iter().filter(|sector| sector["state"] == "queued").count();
    assert_eq!(queued, 6);
}
