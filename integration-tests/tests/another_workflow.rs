//! A second workflow, which only tests have, over real NATS with built-in processors: a sector is sealed, and then something
//! else is done with it.
#![cfg(feature = "toy-workflow")]

use std::time::Duration;

use anyhow::{Context, ensure};
use sealbus_integration_tests::{
    cluster::{Cluster, Settings, wait_within},
    workflows::toy,
};
use sealbus_manager::{config::Database, store::Store};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

fn until(cluster: &mut Cluster, id: &str, what: &str, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    wait_within(LIMIT, what, || {
        cluster.check_alive()?;
        let Ok(sector) = cluster.sector(id) else { return Ok(None) };
        ensure!(sector["blocked"].is_null(), "sector {id} is blocked: {}", sector["blocked"]);
        Ok(done(&sector).then_some(sector))
    })
}

#[test]
fn a_sealed_sector_gets_a_job_of_another_workflow_and_stays_what_it_is() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::with_scripted_proofs()?)?;
    let config = std::fs::read_to_string(cluster.worker_config())?;
    let serves_both = config.replace("[worker]\n", "[worker]\nworkflows = [\"seal\", \"toy\"]\n");
    std::fs::write(cluster.worker_config(), serves_both)?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    let id = &format!("{}/1", cluster.miner());
    // A worker gives its lease back after the manager has heard of the sector's end.
    let is_free = |sector: &Value| sector["owner"].is_null();
    until(&mut cluster, id, "a sealed sector", |sector| sector["state"] == "proving" && is_free(sector))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let database = Database::Sqlite { path: cluster.root().join("manager.db") };
    let store = runtime.block_on(Store::open_existing(&database))?;
    let sector = id.parse().context("a sector's name")?;
    let sealed = runtime.block_on(store.existing(sector))?;
    ensure!(sealed.as_ref().is_some_and(|sealed| sealed.on_chain.is_some()), "it is not active: {sealed:?}");
    runtime.block_on(toy::begin(&store, &[sector]))?;

    let done =
        until(&mut cluster, id, "the end of the toy", |sector| sector["state"] == "toy_done" && is_free(sector))?;
    ensure!(done["bytes"] == json!(toy::SECTOR_BYTES), "{done:#}");
    ensure!(runtime.block_on(store.existing(sector))? == sealed, "the sector is what it was");
    let jobs: Vec<_> = runtime.block_on(store.jobs_of(sector))?.iter().map(|job| job.state.name()).collect();
    ensure!(jobs == ["proving", "toy_done"], "{jobs:?}");
    let other = runtime.block_on(toy::begin(&store, &[sector]));
    ensure!(other.is_ok(), "a third job follows the second: {other:?}");
    let twice = runtime.block_on(toy::begin(&store, &[sector]));
    ensure!(twice.is_err(), "two jobs of one sector go on at once");
    until(&mut cluster, id, "the end of the third", |sector| sector["state"] == "toy_done" && is_free(sector))?;
    Ok(())
}
