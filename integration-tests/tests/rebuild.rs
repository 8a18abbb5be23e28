//! A real sector whose machine loses its disk after the PreCommit has landed.

use std::{fs, time::Duration};

use anyhow::ensure;
use sealbus_integration_tests::cluster::{Cluster, Settings, wait_within};
use serde_json::{Value, json};

/// For real proofs, with a C2 on cores that other tests may share.
const LIMIT: Duration = Duration::from_secs(900);

fn count(sector: &Value, kind: &str) -> usize {
    sector["history"].as_array().into_iter().flatten().filter(|e| e["kind"] == kind).count()
}

fn wait_for(cluster: &mut Cluster, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    wait_within(LIMIT, what, || {
        cluster.check_alive()?;
        let Ok(sector) = cluster.sector(id) else { return Ok(None) };
        ensure!(sector["blocked"].is_null(), "sector {id} is blocked: {}", sector["blocked"]);
        Ok(done(&sector).then_some(sector))
    })
}

#[test]
fn a_sector_that_is_lost_after_its_precommit_is_sealed_again_to_the_same_commr() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    // A seed that no other test uses, so its tickets and replicas are unique.
    let mut cluster = Cluster::prepare(directory.path(), Settings { seed: 77, ..Settings::with_scripted_proofs()? })?;
    let mut config = fs::read_to_string(cluster.manager_config())?;
    config.push_str("\n[liveness]\ndead_after_secs = 5\norphan_after_secs = 5\nreissue_interval_secs = 1\n");
    fs::write(cluster.manager_config(), config)?;
    cluster.hold_phase("c2")?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    let id = &format!("{}/1", cluster.miner());
    let before = wait_for(&mut cluster, id, "the end of C1", |s| count(s, "c1_done") == 1)?;

    cluster.kill_worker();
    let slot = cluster.slot(0);
    fs::remove_dir_all(&slot)?;
    fs::create_dir(&slot)?;
    // An empty directory in a slot's place counts as an unmounted disk, until a person says that the disk is lost.
    let path = slot.canonicalize()?.display().to_string();
    cluster.manager_json(&["slots", "release", "seal-1", &path, "--yes"])?;
    cluster.release_phase("c2")?;
    cluster.start_worker()?;

    // The worker gives its lease back only after the manager has seen the sector's end.
    let ended = |s: &Value| s["state"] == "proving" && count(s, "released") == 2;
    let sector = wait_for(&mut cluster, id, "an active sector whose lease is given back", ended)?;
    ensure!(sector["comm_r"] == before["comm_r"], "another CommR: {sector:#}");
    ensure!(sector["attempt"] == 1, "a rebuild is not another attempt: {sector:#}");
    for (kind, expected) in [("claimed", 2), ("pc2_done", 2), ("slot_released", 1), ("message_signed", 2)] {
        ensure!(count(&sector, kind) == expected, "{kind} {} times: {sector:#}", count(&sector, kind));
    }
    let stats = cluster.call_chain("Devnet.Stats", json!([]))?;
    let miner = &stats["miners"][cluster.miner().trim_start_matches("f0")];
    ensure!(miner["sectors"]["1"] == json!({ "pre_commits": 1, "prove_commits": 1 }), "{stats}");
    ensure!(miner["failed"] == json!([]), "{stats}");
    Ok(())
}
