//! Blocks with all programs: sectors are sealed, and then a worker makes winning PoSts of them for the epochs that the miner
//! wins. The devnet verifies everything that a node verifies, and knows every block that was submitted.
//!
//! In `make test` the SNARK is scripted. `make proving` makes a real one, in an epoch as long as the main network's, and kills
//! manager and worker at each step.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sealbus_integration_tests::{
    cluster::{Cluster, Settings, wait_within},
    command_line::done,
};
use sealbus_manager::errln;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);
/// The seconds of an epoch with a scripted SNARK.
const SHORT_SECS: u64 = 4;
/// The seconds of an epoch of the main network.
const MAIN_SECS: u64 = 30;

/// A miner with enough power to win nearly every epoch.
struct Site {
    cluster: Cluster,
    _directory: tempfile::TempDir,
}

impl Site {
    /// With a scripted SNARK, unless all proofs are real.
    fn start(scripted: bool) -> anyhow::Result<Site> {
        let directory = tempfile::tempdir()?;
        let base = Settings::with_scripted_proofs()?;
        let scripted_winning = scripted && base.scripted_proofs;
        let settings = Settings {
            slots: 2,
            epoch_millis: 200,
            mines: true,
            window_epochs: 4,
            scripted_winning,
            block_delay_secs: Some(if scripted_winning { SHORT_SECS } else { MAIN_SECS }),
            ..base
        };
        let cluster = Cluster::start(directory.path(), settings)?;
        let mut site = Site { cluster, _directory: directory };
        site.cluster.pledge(2)?;
        for number in [1, 2] {
            let id = format!("{}/{number}", site.cluster.miner());
            site.wait("an active sector", |cluster| {
                Ok(cluster.sector(&id).ok().filter(|sector| sector["state"] == "proving").map(drop))
            })?;
        }
        site.cluster.come_to_now()?;
        Ok(site)
    }

    fn wait<T>(&mut self, what: &str, mut ask: impl FnMut(&Cluster) -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
        wait_within(LIMIT, what, || {
            self.cluster.check_alive()?;
            ask(&self.cluster)
        })
    }

    /// Waits for a block of an epoch after this one, in one of these states.
    fn block(&mut self, after: i64, states: &[&str]) -> anyhow::Result<Value> {
        let what = format!("a block after {after} in {states:?}");
        self.wait(&what, |cluster| {
            let is_it = |block: &Value| {
                let epoch = block["epoch"].as_i64().unwrap_or_default();
                epoch > after && states.iter().any(|state| block["state"] == *state)
            };
            Ok(blocks(cluster)?.into_iter().find(is_it))
        })
    }

    /// What the chain knows of the miner.
    fn stats(&self) -> anyhow::Result<Value> {
        let stats = self.cluster.call_chain("Devnet.Stats", json!([]))?;
        Ok(stats["miners"][self.cluster.miner().trim_start_matches("f0")].clone())
    }

    fn head(&self) -> anyhow::Result<i64> {
        self.cluster.call_chain("Filecoin.ChainHead", json!([]))?["Height"].as_i64().context("a height")
    }

    /// Each epoch has at most one block, and no two have the same parents.
    fn check_blocks(&self) -> anyhow::Result<usize> {
        let stats = self.stats()?;
        ensure!(stats["consensus_faults"] == json!([]), "{stats:#}");
        let blocks = stats["blocks"].as_array().context("blocks")?;
        let mut epochs: Vec<_> = blocks.iter().filter_map(|block| block["epoch"].as_i64()).collect();
        epochs.sort_unstable();
        epochs.dedup();
        ensure!(epochs.len() == blocks.len(), "two blocks for one epoch: {blocks:?}");
        Ok(epochs.len())
    }
}

fn blocks(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let printed = done(&cluster.manager_config(), &["proving", "blocks", "--last", "200", "--json"]);
    let shown: Value = serde_json::from_str(&printed)?;
    shown["blocks"].as_array().cloned().context("blocks")
}

#[test]
fn a_won_epoch_becomes_a_block_of_the_chain() -> anyhow::Result<()> {
    becomes_a_block(Site::start(true)?)
}

#[test]
fn a_won_epoch_becomes_a_block_with_a_real_winning_post_in_an_epoch_of_the_main_network() -> anyhow::Result<()> {
    becomes_a_block(Site::start(false)?)
}

fn becomes_a_block(mut site: Site) -> anyhow::Result<()> {
    let block = site.block(0, &["included"])?;
    errln!("{}", done(&site.cluster.manager_config(), &["proving", "blocks"]));
    errln!("{block:#}");
    for step in ["base_info", "election", "read", "prove", "verify", "messages", "create", "submit"] {
        ensure!(block["steps"][format!("{step}_ms")].is_u64(), "{step} has no time: {block:#}");
    }
    ensure!(block["steps"]["reader"].is_string() && block["steps"]["prover"].is_string(), "{block:#}");
    ensure!(block["budget_ms"].is_i64() && block["margin_ms"].is_i64(), "the times are real: {block:#}");
    let stats = site.stats()?;
    let on_chain = stats["blocks"].as_array().context("blocks")?;
    let is_it = |there: &&Value| there["epoch"] == block["epoch"] && there["fate"] == "included";
    let there = on_chain.iter().find(is_it).context("the chain has no such block")?;
    ensure!(there["cid"] == block["cid"] && there["wins"] == block["wins"], "{there} {block:#}");
    site.check_blocks().map(drop)
}

/// Who is killed, and when.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// The manager, while the node holds a call `before` or `after` its effect.
    ManagerIn(&'static str, &'static str),
    /// The worker, as soon as its log says this.
    WorkerAfter(&'static str),
    /// Both.
    BothAfter(&'static str),
}

impl Death {
    fn come(self, site: &mut Site) -> anyhow::Result<()> {
        match self {
            Death::ManagerIn(method, when) => {
                let held = |site: &Site| -> anyhow::Result<u64> {
                    site.cluster.call_chain("Devnet.Stats", json!([]))?["held_calls"].as_u64().context("held_calls")
                };
                let before = held(site)?;
                let hold = |on: bool| json!([{ "kind": "hold_calls", "method": format!("Filecoin.{method}"), "when": when, "on": on }]);
                site.cluster.call_chain("Devnet.Fault", hold(true))?;
                wait_within(LIMIT, method, || Ok((held(site)? > before).then_some(())))?;
                site.cluster.kill_manager();
                site.cluster.call_chain("Devnet.Fault", hold(false))?;
                site.cluster.start_manager()
            }
            Death::WorkerAfter(line) => {
                wait_for_line(site, line)?;
                site.cluster.kill_worker();
                site.cluster.start_worker()
            }
            Death::BothAfter(line) => {
                wait_for_line(site, line)?;
                site.cluster.kill_manager();
                site.cluster.kill_worker();
                site.cluster.start_manager()?;
                site.cluster.start_worker()
            }
        }
    }
}

/// Waits until the worker logs a line about a winning PoSt.
fn wait_for_line(site: &Site, line: &str) -> anyhow::Result<()> {
    let log = site.cluster.root().join("worker.log");
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    let from = lines().len();
    let begun = Instant::now();
    loop {
        let said = lines();
        if said.get(from..).unwrap_or_default().lines().any(|said| said.contains(line) && said.contains("job=b-")) {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "the worker does not say `{line}`");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_epoch_gets_two_blocks_when_manager_and_worker_are_killed_at_each_step() -> anyhow::Result<()> {
    let mut site = Site::start(true)?;
    site.block(0, &["submitted", "included"])?;
    let mut table = Vec::new();
    for death in [
        Death::ManagerIn("MinerGetBaseInfo", "after"),
        Death::ManagerIn("WalletSign", "after"),
        Death::WorkerAfter("reading"),
        Death::WorkerAfter("proving"),
        Death::BothAfter("proving"),
        Death::ManagerIn("MpoolSelect", "after"),
        Death::ManagerIn("MinerCreateBlock", "before"),
        Death::ManagerIn("MinerCreateBlock", "after"),
        Death::ManagerIn("SyncSubmitBlock", "before"),
        Death::ManagerIn("SyncSubmitBlock", "after"),
    ] {
        death.come(&mut site).with_context(|| format!("{death:?}"))?;
        let epoch = site.head()? + 1;
        let after = site.block(epoch, &["submitted", "included"]).with_context(|| format!("after {death:?}"))?;
        site.check_blocks().with_context(|| format!("{death:?}"))?;
        let known = blocks(&site.cluster)?;
        let hit = known.iter().find(|block| block["epoch"] == epoch || block["epoch"] == epoch - 1);
        let hit = hit.map_or_else(|| "nothing known".to_owned(), |hit| format!("{} {}", hit["epoch"], hit["state"]));
        table.push(format!("{death:?}: {hit}; the next block is of {}", after["epoch"]));
    }
    let last = site.head()?;
    site.block(last, &["included"])?;
    let count = site.check_blocks()?;
    errln!("{count} blocks, one an epoch\n  {}", table.join("\n  "));
    Ok(())
}
