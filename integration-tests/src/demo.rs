//! `make demo`: seals sectors, proves them by their first window PoSt, and shows the progress.

mod progress;
mod summary;

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use sealbus_manager::errln;

use crate::cluster::{Cluster, Settings};
use progress::Progress;

/// How often the manager is queried.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a sector may take before the demo gives up. C2 alone takes a minute on two cores.
const LIMIT_A_SECTOR: Duration = Duration::from_secs(900);
/// The epochs of a deadline: a proving period, which has 4 of them, takes a minute. A SNARK takes some of its seconds.
const WINDOW_EPOCHS: i64 = 30;
/// For how many proving periods a window PoSt is waited for. The first one may be missed on a machine that is slow.
const PERIODS: u32 = 6;

/// The settings of the demo.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The number of sectors to seal.
    pub sectors: usize,
    /// The number of slots of the worker.
    pub slots: usize,
    /// The directory for everything. Each run creates it anew.
    pub root: PathBuf,
    /// Whether to leave everything running at the end until it is interrupted.
    pub keep: bool,
}

impl Demo {
    /// Runs the demo. `stop` is set when the user interrupts it. Fails unless every sector is active on chain and proven by a window PoSt.
    pub fn run(&self, stop: &AtomicBool) -> anyhow::Result<()> {
        let _lock = clear(&self.root)?;
        let settings =
            Settings { slots: self.slots, proves: true, window_epochs: WINDOW_EPOCHS, ..Settings::from_env()? };
        let epoch = Duration::from_millis(settings.epoch_millis);
        errln!("demo: starting NATS, the devnet, the manager and a worker with {} slot(s)", self.slots);
        let mut cluster = Cluster::start(&self.root.join("run"), settings)?;
        cluster.pledge(self.sectors)?;
        errln!(
            "demo: pledged {} sector(s) of {}; logs are in {}",
            self.sectors,
            cluster.miner(),
            cluster.root().display()
        );
        self.watch(&mut cluster, stop)?;
        let active = self.active_on_chain(&cluster)?;
        let proofs = self.first_proofs(&mut cluster, &active, epoch * WINDOW_EPOCHS as u32 * 4 * PERIODS, stop)?;
        summary::print(&cluster, &active, &proofs)?;
        if self.keep {
            errln!("");
            errln!("demo: everything keeps running; press Ctrl-C to end it");
            while !stop.load(Ordering::Relaxed) {
                cluster.check_alive()?;
                std::thread::sleep(PERIOD);
            }
        }
        Ok(())
    }

    /// Shows progress until every sector is proving.
    fn watch(&self, cluster: &mut Cluster, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut progress = Progress::new(std::io::stderr().is_terminal());
        let limit = LIMIT_A_SECTOR * u32::try_from(self.sectors).unwrap_or(u32::MAX);
        let deadline = Instant::now() + limit;
        loop {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            cluster.check_alive()?;
            let sectors = cluster.sectors()?;
            // Heartbeats only add detail to the display, and their stream may not exist yet.
            let workers = cluster.manager_json(&["workers", "list"]).unwrap_or(Value::Null);
            progress.show(&sectors, &workers);
            for sector in &sectors {
                for trouble in ["blocked", "cause"] {
                    if !sector[trouble].is_null() {
                        progress.finish();
                        bail!("sector {} is in trouble: {:#}", sector["sector"], sector[trouble]);
                    }
                }
            }
            if sectors.len() >= self.sectors && sectors.iter().all(|sector| sector["state"] == "proving") {
                progress.finish();
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the sectors are not active after {} s; see the logs in {}",
                    limit.as_secs(),
                    self.root.display()
                );
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Waits for the first window PoSt of each sector's partition, and returns the proofs as the manager tells of them.
    fn first_proofs(
        &self,
        cluster: &mut Cluster,
        active: &[summary::OnChain],
        limit: Duration,
        stop: &AtomicBool,
    ) -> anyhow::Result<Vec<Value>> {
        for sector in active {
            errln!(
                "demo: {} is active, and waits for its first window PoSt in deadline {}",
                sector.id,
                sector.deadline
            );
        }
        let deadline = Instant::now() + limit;
        loop {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            cluster.check_alive()?;
            let history = cluster.manager_json(&["proving", "history"])?;
            let proofs = history.as_array().map(Vec::as_slice).unwrap_or_default();
            let landed = |sector: &summary::OnChain| {
                let is_it = |proof: &&Value| proof["state"] == "landed" && sector.is_in(proof);
                proofs.iter().rev().find(is_it).cloned()
            };
            if let Some(landed) = active.iter().map(landed).collect() {
                return Ok(landed);
            }
            if Instant::now() > deadline {
                bail!("no window PoSt after {} s; see the logs in {}", limit.as_secs(), self.root.display());
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Asks the chain itself, independently of the manager.
    fn active_on_chain(&self, cluster: &Cluster) -> anyhow::Result<Vec<summary::OnChain>> {
        let mut active = Vec::new();
        for sector in cluster.sectors()? {
            active.push(summary::OnChain::read(cluster, &sector)?);
        }
        if active.len() < self.sectors {
            bail!("only {} of {} sectors exist", active.len(), self.sectors);
        }
        Ok(active)
    }
}

/// Removes the files of an earlier demo. The test chain was in memory, so there is nothing to continue. The returned
/// lock keeps a second demo out.
fn clear(root: &Path) -> anyhow::Result<fs::File> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    let lock = fs::File::create(root.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("another demo runs in {}: end it first", root.display());
    }
    let run = root.join("run");
    if run.exists() {
        errln!("demo: starting clean (the test chain of the last run lived in memory and is gone)");
        fs::remove_dir_all(&run).with_context(|| format!("cannot clear {}", run.display()))?;
    }
    Ok(lock)
}
