//! A real sector, of which executables that speak only the protocol of damocles do a part: tree D and the proof, by the
//! Python of docs/examples/processor_v1.py.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use sealbus_integration_tests::cluster::{Cluster, Settings, own_binary, wait_within};
use serde_json::Value;

/// One C2 takes a minute on two free cores.
const LIMIT: Duration = Duration::from_secs(900);

fn events<'a>(sector: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let history = sector["history"].as_array().into_iter().flatten();
    history.filter(move |entry| entry["kind"] == kind).map(|entry| &entry["detail"])
}

/// Adds what an operator would write for the two stages.
fn use_python(cluster: &Cluster) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/processor_v1.py").canonicalize()?;
    let prover = own_binary("sealbus-c2-prover")?;
    let mut config = std::fs::read_to_string(cluster.worker_config())?;
    for (stage, args) in [("tree_d", "\"tree_d\"".to_owned()), ("c2", format!("\"c2\", \"{}\"", prover.display()))] {
        config.push_str(&format!(
            "\n[[processor]]\nstage = \"{stage}\"\nprotocol = \"damocles\"\nstable_wait_secs = 1\nbin = \"{}\"\nargs = [{args}]\n",
            script.display()
        ));
    }
    Ok(std::fs::write(cluster.worker_config(), config)?)
}

#[test]
fn a_sector_is_sealed_with_tree_d_and_proof_of_somebody_elses_executable() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::from_env()?)?;
    use_python(&cluster)?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    let id = &format!("{}/1", cluster.miner());
    let sector = wait_within(LIMIT, "an active sector", || {
        cluster.check_alive()?;
        let Ok(sector) = cluster.sector(id) else { return Ok(None) };
        ensure!(sector["blocked"].is_null(), "sector {id} is blocked: {}", sector["blocked"]);
        Ok((sector["state"] == "proving").then_some(sector))
    })?;
    for kind in ["tree_d_built", "c2_done", "finished"] {
        ensure!(events(&sector, kind).count() == 1, "{kind} is not there once: {sector:#}");
    }
    ensure!(events(&sector, "failed").count() == 0, "a phase failed on the way: {sector:#}");
    let log = std::fs::read_to_string(directory.path().join("worker.log")).context("the worker's log")?;
    let done = |processor: &str| {
        log.lines().any(|line| line.contains(processor) && line.contains("processor_v1: request 1 done"))
    };
    ensure!(done("tree_d-0") && done("c2-0"), "the executables were not asked: {log}");
    Ok(())
}
