//! Window PoSt with all programs, on a chain that makes sectors faulty that nobody proves: a real worker reads and proves
//! with real proofs; and a soak kills everything for five proving periods, with scripted proofs. `make proving` runs both.

use std::{io::Write, time::Duration};

use anyhow::{Context, ensure};
use sealbus_integration_tests::{
    cluster::{Cluster, Settings, wait_within},
    command_line::done,
    scripted::{proving::ProvingSoak, world},
};
use serde_json::{Value, json};

/// A proving period is 72 s, and a SNARK takes some of them.
const LIMIT: Duration = Duration::from_secs(600);

fn proofs(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let printed = done(&cluster.manager_config(), &["proving", "history", "--json"]);
    Ok(serde_json::from_str(&printed)?)
}

/// What the chain has of the miner.
fn stats(cluster: &Cluster) -> anyhow::Result<Value> {
    let stats = cluster.call_chain("Devnet.Stats", json!([]))?;
    Ok(stats["miners"][cluster.miner().trim_start_matches("f0")].clone())
}

fn wait_for_proof(cluster: &mut Cluster, what: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    wait_within(LIMIT, what, || {
        cluster.check_alive()?;
        Ok(proofs(cluster)?.into_iter().find(|proof| is_it(proof)))
    })
}

#[test]
fn a_sector_is_proven_left_out_when_its_file_is_gone_and_recovered_when_it_is_back() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = Settings { slots: 2, epoch_millis: 300, proves: true, ..Settings::with_scripted_proofs()? };
    let mut cluster = Cluster::prepare(directory.path(), settings)?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(2)?;
    for number in [1, 2] {
        let id = format!("{}/{number}", cluster.miner());
        wait_within(LIMIT, "an active sector", || {
            cluster.check_alive()?;
            Ok(cluster.sector(&id).ok().filter(|sector| sector["state"] == "proving").map(drop))
        })?;
    }
    let first = wait_for_proof(&mut cluster, "a proof on chain", |proof| {
        proof["state"] == "landed" && proof["skipped"] == json!([])
    })?;
    ensure!(first["told"]["prover"].is_string() && first["told"]["slowest"].is_array(), "{first:#}");

    let sealed = cluster.store().join("sealed").join(format!("s-t0{}-2", cluster.miner().trim_start_matches("f0")));
    let away = sealed.with_extension("away");
    std::fs::rename(&sealed, &away).context("the sealed file")?;
    let without = wait_for_proof(&mut cluster, "a proof without the lost sector", |proof| {
        proof["skipped"].as_array().is_some_and(|skipped| skipped.iter().any(|skipped| skipped["number"] == 2))
    })?;
    let cause = without["skipped"][0]["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("s-t0"), "the cause names the file: {cause}");
    let faults = || done(&cluster.manager_config(), &["proving", "faults", cluster.miner(), "--json"]);
    let of_two = |faults: &str| -> anyhow::Result<Option<Value>> {
        let faults: Vec<Value> = serde_json::from_str(faults)?;
        ensure!(faults.iter().all(|fault| fault["sector"] == 2), "only sector 2 is faulty: {faults:?}");
        Ok(faults.into_iter().next())
    };
    wait_within(LIMIT, "the fault on chain", || of_two(&faults()))?;

    std::fs::rename(&away, &sealed).context("the sealed file")?;
    wait_within(LIMIT, "the end of the fault", || Ok(of_two(&faults())?.is_none().then_some(())))?;
    let stats = stats(&cluster)?;
    let posts = stats["posts"].as_array().context("posts")?;
    ensure!(posts.iter().all(|post| post[1]["is_right"] == true), "{posts:?}");
    let missed = stats["deadline_ends"].as_array().context("ends of deadlines")?;
    ensure!(missed.iter().all(|end| end["faulty"] == json!([])), "a partition was not proven: {missed:?}");
    ensure!(stats["failed"] == json!([]), "messages failed on chain: {stats:#}");
    for verb in [["proving", "deadlines"], ["proving", "forecast"]] {
        let shown = done(&cluster.manager_config(), &[verb[0], verb[1], cluster.miner()]);
        ensure!(shown.lines().count() >= 2, "{verb:?}: {shown}");
    }
    done(&cluster.manager_config(), &["proving", "partitions"]);
    Ok(())
}

/// 12 sectors in all. `SEALBUS_SEED` draws other kills.
#[test]
fn two_miners_are_proven_for_five_periods_while_a_third_of_all_processes_is_killed() -> anyhow::Result<()> {
    let dir = world::directory()?;
    let seed = std::env::var("SEALBUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let soak = ProvingSoak {
        miners: 2,
        sectors: 6,
        workers: 7,
        provers: 3,
        periods: 5,
        window_epochs: 60,
        epoch_millis: 250,
        files_away: 2,
        blackout: true,
        seed,
        tell: true,
    };
    let report = soak.run(dir.path())?;
    // Written past the test harness's capture, because the counts are the point of the test.
    writeln!(std::io::stdout().lock(), "{report}")?;
    report.check()
}
