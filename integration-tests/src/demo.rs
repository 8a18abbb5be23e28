//! `make demo`: sectors sealed and proven before the reader's eyes.

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

/// How often the manager is asked.
const PERIOD: Duration = Duration::from_millis(500);
/// How long one sector may take before the demo gives up. C2 alone takes a minute on two cores.
const LIMIT_A_SECTOR: Duration = Duration::from_secs(900);

/// What the demo is to show.
#[derive(Clone, Debug)]
pub struct Demo {
    /// How many sectors are sealed.
    pub sectors: usize,
    /// How many slots the worker has.
    pub slots: usize,
    /// Where everything lies. Made anew by each run.
    pub root: PathBuf,
    /// Leave everything running at the end, until it is interrupted.
    pub keep: bool,
}

impl Demo {
    /// Runs the demo. `stop` is set when the user interrupts it. An error unless the chain says that every sector is
    /// active.
    pub fn run(&self, stop: &AtomicBool) -> anyhow::Result<()> {
        let _lock = clear(&self.root)?;
        let settings = Settings { slots: self.slots, ..Settings::from_env()? };
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
        summary::print(&cluster, &self.active_on_chain(&cluster)?)?;
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
            // Heartbeats only make the display richer; the streams may not be there yet.
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

    /// Asks the chain itself, whatever the manager believes.
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

/// Clears what an earlier demo left. The test chain lives in memory, so there is nothing to continue from. The lock
/// that it returns keeps a second demo out.
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
