//! The result of a soak, printed and checked.

use std::{fmt, time::Duration};

use anyhow::{Context, ensure};

use super::{Soak, chaos::Counts};
use crate::scripted::ledger::{Entry, Ledger};

/// A soak that has completed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its settings.
    pub soak: Soak,
    /// How long it took.
    pub took: Duration,
    /// The faults.
    pub counts: Counts,
    /// The records.
    pub ledger: Ledger,
}

impl Report {
    /// Checks that every sector ended exactly once, and that no stale owner was heard.
    pub fn check(&self) -> anyhow::Result<()> {
        let Ledger { sectors, failed_messages, strange_files, broken } = &self.ledger;
        ensure!(sectors.len() == self.soak.sectors, "{} sectors instead of {}", sectors.len(), self.soak.sectors);
        ensure!(*failed_messages == 0, "{failed_messages} messages failed on chain");
        ensure!(broken.is_empty(), "broken invariants: {broken:?}");
        ensure!(
            strange_files.iter().all(|name| name.ends_with(".tmp")),
            "strange files in the store: {strange_files:?}"
        );
        for (number, entry) in sectors {
            check(entry).with_context(|| format!("sector {number}, seed {}: {entry:#?}", self.soak.seed))?;
        }
        Ok(())
    }

    fn sum(&self, count: impl Fn(&Entry) -> u64) -> u64 {
        self.ledger.sectors.values().map(count).sum()
    }
}

fn check(entry: &Entry) -> anyhow::Result<()> {
    ensure!(entry.state == "proving" && entry.blocked.is_none(), "it is {} ({:?})", entry.state, entry.blocked);
    ensure!(entry.pre_commits == 1 && entry.prove_commits == 1, "on chain more or less than once");
    ensure!(entry.in_store, "its replica is not in the store");
    ensure!(entry.stale_accepted == 0, "a stale owner was heard");
    ensure!(entry.illegal == 0, "an illegal report");
    // If the worker is gone when the ProveCommit is pending, it is not needed any more. It then never reports that its
    // slot is clean.
    ensure!(entry.count("finished") <= 1, "finished more than once");
    ensure!(entry.leases.is_closed(), "its lease is open");
    if entry.leases.claims() == 1 {
        entry.check_each_step_once()?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let sectors = self.ledger.sectors.len();
        let lines = [
            ("workers", self.soak.workers as u64),
            ("sectors", sectors as u64),
            ("active", self.ledger.sectors.values().filter(|entry| entry.state == "proving").count() as u64),
            ("lost", self.ledger.sectors.values().filter(|entry| entry.state != "proving").count() as u64),
            ("PreCommits on chain", self.sum(|entry| entry.pre_commits)),
            ("ProveCommits on chain", self.sum(|entry| entry.prove_commits)),
            ("messages failed on chain", self.ledger.failed_messages),
            ("leases claimed", self.sum(|entry| entry.leases.claims() as u64)),
            ("leases taken back", self.sum(|entry| (entry.leases.claims() as u64).saturating_sub(1))),
            ("events in the log", self.sum(|entry| entry.accepted + entry.fenced + entry.illegal)),
            ("events accepted", self.sum(|entry| entry.accepted)),
            ("events of a stale owner in the log", self.sum(|entry| entry.fenced)),
            ("events of a stale owner accepted", self.sum(|entry| entry.stale_accepted)),
            ("events illegal", self.sum(|entry| entry.illegal)),
            ("replicas in the store", self.ledger.sectors.values().filter(|entry| entry.in_store).count() as u64),
        ];
        writeln!(f, "\nSoak, seed {}: {seconds:.0} s, {:.1} sectors/s", self.soak.seed, sectors as f64 / seconds)?;
        writeln!(f, "{}", self.counts)?;
        for (name, count) in lines {
            writeln!(f, "{name:<36}{count:>8}")?;
        }
        Ok(())
    }
}
