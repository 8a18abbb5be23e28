//! A real sector, partly sealed by executables that speak only the damocles protocol: docs/examples/processor_v1.py
//! builds tree D and makes the proof.
//!
//! `make foreign` sets `SEALBUS_VC_PROCESSORS` to an executable built on the published crate `vc-processors`. Then that
//! one builds tree D and runs PC2, started as damocles starts it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use sealbus_integration_tests::cluster::{Cluster, Settings, own_binary, wait_within};
use serde_json::Value;

/// A C2 takes a minute on two free cores.
const LIMIT: Duration = Duration::from_secs(900);

fn events<'a>(sector: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let history = sector["history"].as_array().into_iter().flatten();
    history.filter(move |entry| entry["kind"] == kind).map(|entry| &entry["detail"])
}

/// Adds the configuration that an operator would write for these stages. Returns the stages.
fn use_theirs(cluster: &Cluster) -> anyhow::Result<Vec<&'static str>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/processor_v1.py").canonicalize()?;
    let prover = own_binary("sealbus-c2-prover")?;
    let table = |stage: &str, bin: &Path, more: String| {
        format!("\n[[processor]]\nstage = \"{stage}\"\nprotocol = \"damocles\"\nbin = {bin:?}\n{more}\n")
    };
    let tables = match std::env::var_os("SEALBUS_VC_PROCESSORS").map(PathBuf::from) {
        Some(bin) => {
            let more = || "env = { RUST_LOG = \"debug\" }".to_owned();
            table("tree_d", &bin, more()) + &table("pc2", &bin, more())
        }
        None => {
            table("tree_d", &script, "args = [\"tree_d\"]".to_owned())
                + &table("c2", &script, format!("args = [\"c2\", {prover:?}]\nreadable = [{prover:?}]"))
        }
    };
    let config = std::fs::read_to_string(cluster.worker_config())? + &tables;
    std::fs::write(cluster.worker_config(), config)?;
    let is_theirs = |stage: &&str| tables.contains(&format!("stage = \"{stage}\""));
    Ok(["tree_d", "pc2", "c2"].into_iter().filter(is_theirs).collect())
}

#[test]
fn a_sector_is_sealed_with_stages_of_somebody_elses_executable() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::from_env()?)?;
    let asked = use_theirs(&cluster)?;
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
    for kind in ["tree_d_built", "pc2_done", "c2_done", "finished"] {
        ensure!(events(&sector, kind).count() == 1, "{kind} is not there once: {sector:#}");
    }
    ensure!(events(&sector, "failed").count() == 0, "a phase failed on the way: {sector:#}");
    let log = std::fs::read_to_string(directory.path().join("worker.log")).context("the worker's log")?;
    for stage in asked {
        let by = format!("processor=\"{stage}-0\"");
        let done = log.lines().any(|line| line.contains(&by) && line.contains("request") && line.contains("done"));
        ensure!(done, "the executable for {stage} was not asked: {log}");
    }
    Ok(())
}
