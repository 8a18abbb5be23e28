//! Two managers on one database: one holds the fold, and the other takes over.

use std::{fs, time::Duration};

use anyhow::ensure;
use sealbus_integration_tests::cluster::{Cluster, Settings, wait_within};
use serde_json::{Value, json};

/// The time limit for steps without proofs. It is generous: a limit, not a measurement.
const LIMIT: Duration = Duration::from_secs(120);
/// A real C2 takes a minute on two free cores.
const PROOF_LIMIT: Duration = Duration::from_secs(900);

/// The log message of a manager that holds the fold, and that of one that stands by.
const HOLDS: &str = "the manager runs";
const STANDS_BY: &str = "standing by";

/// A cluster without a worker, so it makes no proofs. The verifying key exists, because otherwise no sector would get a
/// number.
fn without_worker(directory: &tempfile::TempDir) -> anyhow::Result<Cluster> {
    let settings = Settings { epoch_millis: 200, confidence_epochs: 1, ..Settings::from_env()? };
    Cluster::prepare(directory.path(), settings)
}

fn said(cluster: &Cluster, who: &str, words: &str) -> usize {
    fs::read_to_string(cluster.root().join(format!("{who}.log"))).unwrap_or_default().matches(words).count()
}

/// Waits until a manager's log contains the words this many times.
fn wait_for_words(cluster: &mut Cluster, who: &str, words: &str, times: usize) -> anyhow::Result<()> {
    wait_within(LIMIT, &format!("`{words}` in {who}.log"), || {
        cluster.check_alive()?;
        Ok((said(cluster, who, words) >= times).then_some(()))
    })
}

/// Starts one manager that holds the fold, and one that stands by.
fn start_both(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.start_manager()?;
    wait_for_words(cluster, "manager", HOLDS, 1)?;
    cluster.start_standby()?;
    wait_for_words(cluster, "standby", STANDS_BY, 1)
}

fn wait_for_sector(
    cluster: &mut Cluster,
    limit: Duration,
    what: &str,
    is_there: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let id = format!("{}/1", cluster.miner());
    wait_within(limit, what, || {
        cluster.check_alive()?;
        // The sector number has not been assigned yet.
        let Ok(sector) = cluster.sector(&id) else { return Ok(None) };
        ensure!(sector["blocked"].is_null(), "the sector is blocked: {}", sector["blocked"]);
        Ok(is_there(&sector).then_some(sector))
    })
}

fn count(sector: &Value, kind: &str) -> usize {
    sector["history"].as_array().into_iter().flatten().filter(|entry| entry["kind"] == kind).count()
}

/// The manager that holds the fold dies when the node has its PreCommit, before that has landed.
fn a_sector_survives_its_manager(mut cluster: Cluster) -> anyhow::Result<()> {
    let stall = |cluster: &Cluster, on: bool| {
        cluster.call_chain("Devnet.Fault", json!([{ "kind": "stall_inclusion", "on": on }]))
    };
    stall(&cluster, true)?;
    start_both(&mut cluster)?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    wait_for_sector(&mut cluster, PROOF_LIMIT, "a pushed PreCommit", |s| count(s, "message_pushed") == 1)?;
    ensure!(said(&cluster, "standby", HOLDS) == 0, "two managers hold the fold");
    cluster.kill_manager();
    wait_for_words(&mut cluster, "standby", HOLDS, 1)?;
    stall(&cluster, false)?;

    let sector = wait_for_sector(&mut cluster, PROOF_LIMIT, "an active sector", |s| s["state"] == "proving")?;
    for kind in ["claimed", "pc2_done", "precommit_landed", "seed_drawn", "c2_done", "prove_landed", "finished"] {
        ensure!(count(&sector, kind) == 1, "{kind} is not there once: {sector:#}");
    }
    let stats = cluster.call_chain("Devnet.Stats", json!([]))?;
    let miner = &stats["miners"][cluster.miner().trim_start_matches("f0")];
    ensure!(miner["sectors"] == json!({ "1": { "pre_commits": 1, "prove_commits": 1 } }), "{stats}");
    ensure!(miner["failed"] == json!([]), "messages failed on chain: {stats}");
    ensure!(said(&cluster, "standby", STANDS_BY) == 1, "it says so once");
    Ok(())
}

#[test]
fn a_sector_goes_on_under_the_next_manager_when_the_holder_is_killed_on_sqlite() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    a_sector_survives_its_manager(Cluster::prepare(directory.path(), Settings::with_scripted_proofs()?)?)
}

#[test]
fn a_sector_goes_on_under_the_next_manager_when_the_holder_is_killed_on_postgresql() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::with_scripted_proofs()?)?;
    cluster.use_postgres()?;
    a_sector_survives_its_manager(cluster)
}

#[test]
fn a_holder_that_was_paused_while_it_lost_the_fold_is_refused_and_stands_by() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = without_worker(&directory)?;
    cluster.use_postgres()?;
    start_both(&mut cluster)?;
    cluster.pause_manager();
    // The server ends its sessions, as those of a host that lost its network.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)";
    let ended = cluster.postgres().map(|postgres| postgres.query(end)).transpose()?;
    ensure!(ended.as_deref() != Some("0"), "the holder has no lock");
    wait_for_words(&mut cluster, "standby", HOLDS, 1)?;
    cluster.pledge(1)?;
    let offered = |sector: &Value| sector["state"] == "queued";
    wait_for_sector(&mut cluster, LIMIT, "a sector of the new holder", offered)?;

    cluster.resume_manager();
    wait_for_words(&mut cluster, "manager", STANDS_BY, 1)?;
    ensure!(said(&cluster, "manager", HOLDS) == 1, "it took the fold back");
    cluster.kill_standby();
    wait_for_words(&mut cluster, "manager", HOLDS, 2)?;
    ensure!(cluster.sectors()?.len() == 1, "one sector was asked for");
    Ok(())
}

#[test]
fn a_manager_outlives_its_database_server_and_shows_no_password() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = without_worker(&directory)?;
    let password = cluster.use_postgres()?.password();
    cluster.start_manager()?;
    wait_for_words(&mut cluster, "manager", HOLDS, 1)?;
    cluster.postgres().into_iter().for_each(|postgres| postgres.kill());
    wait_for_words(&mut cluster, "manager", "the manager cannot work", 1)?;
    let error = cluster.pledge(1).expect_err("there is no database").to_string();
    ensure!(error.contains("postgres://"), "the database is not named: {error}");
    cluster.postgres().map(|postgres| postgres.restart()).transpose()?;
    wait_for_words(&mut cluster, "manager", HOLDS, 2)?;
    cluster.pledge(1)?;
    wait_for_sector(&mut cluster, LIMIT, "a sector", |sector| sector["state"] == "queued")?;
    let log = fs::read_to_string(cluster.root().join("manager.log"))?;
    ensure!(!log.contains(password) && !error.contains(password), "the password is in the output");
    Ok(())
}
