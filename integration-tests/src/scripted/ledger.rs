//! The records about every sector: from the chain, from the log and from the manager's database. They are collected
//! independently and compared.

mod log;

use std::{collections::BTreeMap, fs};

use anyhow::{Context, ensure};
use sealbus_manager::store::{HistoryEntry, Job};
use sealbus_schema::message::Heartbeat;

pub use log::{Lease, Leases};

use super::{
    world::{World, wait},
    yields,
};

/// The reports that occur exactly once under a lease in an undisturbed life.
const STEPS: [&str; 7] = ["pieces_added", "tree_d_built", "pc1_done", "pc2_done", "persisted", "c1_done", "c2_done"];

/// The records about one sector.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The manager's state, by name.
    pub state: String,
    /// Why it is blocked, if it is.
    pub blocked: Option<String>,
    /// Its leases according to the log.
    pub leases: Leases,
    /// The number of reports that changed the manager's state, or were accepted as information.
    pub accepted: u64,
    /// The number of reports that the manager's state did not permit.
    pub illegal: u64,
    /// The number of reports that the fold refused, because the reporter did not own the sector.
    pub fenced: u64,
    /// The number of reports that were accepted although their token was not that of the lease in force. It must be 0.
    pub stale_accepted: u64,
    /// The numbers of accepted reports by kind.
    pub kinds: BTreeMap<String, u64>,
    /// The number of PreCommits that took effect on chain.
    pub pre_commits: u64,
    /// The number of ProveCommits that took effect on chain.
    pub prove_commits: u64,
    /// The number of messages about it that failed on chain.
    pub failed_messages: u64,
    /// Whether the permanent store contains the replica that the chain knows.
    pub in_store: bool,
}

/// The records about all sectors.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The entries by sector number.
    pub sectors: BTreeMap<u64, Entry>,
    /// The number of messages that failed on chain.
    pub failed_messages: u64,
    /// Files in the permanent store besides one replica per sector.
    pub strange_files: Vec<String>,
    /// The invariants that the manager or a worker has seen broken.
    pub broken: Vec<String>,
}

impl Ledger {
    /// Reads all records.
    pub fn read(world: &mut World) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        let logs = log::read(world)?;
        let store = world.store()?;
        for sector in world.sectors()? {
            let number = sector.id.number.0;
            let history = world.block_on(store.history(sector.id))?;
            let leases = logs.get(&sector.id).cloned().unwrap_or_default();
            ledger.sectors.insert(number, entry(world, &sector, &history, leases));
        }
        let counts = world.block_on(store.broken_invariants())?;
        ledger.broken.extend(counts.iter().map(|count| format!("{count:?}")));
        // After a restart of NATS, the stream of the heartbeats is missing until the manager makes it anew.
        let workers = wait("the heartbeats", || Ok(world.on_bus(async |bus| Ok(bus.workers().await?)).ok()))?;
        for seen in workers {
            let Heartbeat { worker, broken, .. } = seen.heartbeat;
            ledger.broken.extend(broken.iter().map(|broken| format!("{worker}: {broken:?}")));
        }
        ledger.read_chain(world)?;
        ledger.read_store(world)?;
        Ok(ledger)
    }

    /// The entry of a sector.
    pub fn sector(&self, number: u64) -> anyhow::Result<&Entry> {
        self.sectors.get(&number).with_context(|| format!("sector {number} is in no book"))
    }

    fn read_chain(&mut self, world: &World) -> anyhow::Result<()> {
        let stats = world.chain_stats()?;
        for (number, counts) in stats["sectors"].as_object().into_iter().flatten() {
            // A sector that only the chain knows also gets an entry, with an empty state.
            let entry = self.sectors.entry(number.parse()?).or_default();
            entry.pre_commits = counts["pre_commits"].as_u64().context("a count of PreCommits")?;
            entry.prove_commits = counts["prove_commits"].as_u64().context("a count of ProveCommits")?;
        }
        for failed in stats["failed"].as_array().into_iter().flatten() {
            self.failed_messages += 1;
            for number in failed["sectors"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64) {
                self.sectors.entry(number).or_default().failed_messages += 1;
            }
        }
        Ok(())
    }

    fn read_store(&mut self, world: &World) -> anyhow::Result<()> {
        let Ok(files) = fs::read_dir(world.store_dir().join("sealed")) else { return Ok(()) };
        for file in files {
            let name = file?.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("s-t01000-").and_then(|number| number.parse::<u64>().ok());
            if !number.is_some_and(|number| self.sectors.get(&number).is_some_and(|entry| entry.in_store)) {
                self.strange_files.push(name);
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Checks that the sector became active exactly once, and that nobody but its owners was heard.
    pub fn check_ended_once(&self) -> anyhow::Result<()> {
        ensure!(self.state == "proving" && self.blocked.is_none(), "it is {} ({:?})", self.state, self.blocked);
        ensure!(self.pre_commits == 1 && self.prove_commits == 1, "on chain more or less than once");
        ensure!(self.failed_messages == 0, "a message failed");
        ensure!(self.illegal == 0, "an illegal report");
        ensure!(self.stale_accepted == 0, "a stale owner was heard");
        ensure!(self.in_store, "its replica is not in the store");
        ensure!(self.kinds.get("finished") == Some(&1), "not finished once");
        ensure!(self.leases.is_closed(), "its lease is open");
        Ok(())
    }

    /// Checks that every step was reported exactly once, as under a single lease.
    pub fn check_each_step_once(&self) -> anyhow::Result<()> {
        for kind in STEPS {
            ensure!(self.count(kind) == 1, "{kind} was reported {} times", self.count(kind));
        }
        Ok(())
    }

    /// How many reports of a kind were accepted.
    pub fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

fn entry(world: &World, sector: &Job, history: &[HistoryEntry], leases: Leases) -> Entry {
    let mut entry = Entry { state: sector.state.name().to_owned(), ..Entry::default() };
    if let Some(cause) = &sector.blocked {
        entry.blocked = Some(cause.code.to_string());
    }
    for HistoryEntry { happening, verdict } in history {
        let is_report = happening.sequence.is_some() && happening.kind != "claimed" && happening.kind != "released";
        if !is_report {
            continue;
        }
        match verdict.as_str() {
            "illegal" => entry.illegal += 1,
            "fenced" => entry.fenced += 1,
            _ => {
                entry.accepted += 1;
                *entry.kinds.entry(happening.kind.clone()).or_default() += 1;
                let in_force = happening.sequence.and_then(|sequence| leases.in_force_at(sequence));
                let is_owners = in_force.is_some_and(|lease| {
                    Some(lease.sequence) == happening.token && lease.owner.as_deref() == Some(&happening.actor)
                });
                entry.stale_accepted += u64::from(!is_owners);
            }
        }
    }
    if let Some(sealed) = sector.state.seal().and_then(|state| state.sealed()) {
        let path = world.store_dir().join("sealed").join(sector.id.file_name());
        entry.in_store = fs::read(path).is_ok_and(|content| content == yields::file("replica", &sealed.comm_r.0));
    }
    entry.leases = leases;
    entry
}
