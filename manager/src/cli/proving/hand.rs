//! What commands need that read and prove by hand: the chain, the database, and the bus.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use sealbus_schema::MinerId;

use super::super::errand::Site;
use crate::{
    chain::{
        Nodes, RpcClient,
        types::{Index, Partition, ProvingDeadline},
    },
    cli::person::Usage,
    drive::address,
    proofs::{Library, Verifier},
    proving::{Proving, proof::ProofState, reads::Reads, tasks::Queues, turn::Turn},
    waits::Waits,
    wake::Wake,
};

/// A site with its workers.
pub struct Hand<'s> {
    site: &'s Site,
    queues: Queues,
    waits: Waits,
    changed: Wake,
    verifier: Arc<dyn Verifier>,
    epoch_millis: u64,
}

impl<'s> Hand<'s> {
    /// Connects to the bus.
    pub async fn reach(site: &'s Site) -> anyhow::Result<Hand<'s>> {
        let nats = &site.config.nats;
        let bus = nats.connect("manager").await.with_context(|| format!("[nats]: no bus at {}", nats.url))?;
        let epoch_millis = site.node.network_params().await?.block_delay_secs * 1000;
        let (waits, changed) = (Waits::load(&site.store, 0).await?, Wake::default());
        let queues = Queues::new(&bus, &site.config);
        Ok(Hand { site, queues, waits, changed, verifier: Arc::new(Library), epoch_millis })
    }

    /// The manager's own way to prove.
    pub fn proving(&self) -> Proving<'_, Nodes<RpcClient>, Queues> {
        Proving {
            node: &self.site.node,
            store: &self.site.store,
            tasks: &self.queues,
            config: &self.site.config,
            epoch: 0,
            epoch_millis: self.epoch_millis,
            verifier: &self.verifier,
            waits: &self.waits,
            changed: &self.changed,
        }
    }

    /// The time that a proof has from its challenge to the cut, and from there to the close.
    pub fn limits(&self, turn: &Turn) -> (Duration, Duration) {
        let epochs = |count: i64| Duration::from_millis(u64::try_from(count).unwrap_or_default() * self.epoch_millis);
        (epochs(turn.cut() - turn.challenge), epochs(turn.close - turn.cut()))
    }

    /// Refuses to take workers' time from a proof that is being made.
    pub async fn insist_on_idle(&self) -> anyhow::Result<()> {
        let open = self.site.store.open_proofs().await?;
        if let Some(proof) = open.iter().find(|proof| proof.state == ProofState::Making) {
            bail!(
                "the proof of {} is being made, and would wait for the same workers: ask again when it is made (`proving \
                 partitions`), or give --anyway",
                proof.id
            );
        }
        Ok(())
    }
}

/// The chain's deadlines, if it has this one.
pub async fn deadline(
    site: &Site,
    miner: MinerId,
    deadline: Index,
) -> anyhow::Result<(ProvingDeadline, Vec<Partition>)> {
    let told = site.node.miner_proving_deadline(&address(miner), &site.head.key).await?;
    if deadline >= told.period_deadlines {
        let last = told.period_deadlines.saturating_sub(1);
        return Err(Usage(format!("DEADLINE {deadline}: the deadlines are 0 to {last}")).into());
    }
    let partitions = site.node.miner_partitions(&address(miner), deadline, &site.head.key).await?;
    Ok((told, partitions))
}

/// The next turn of a deadline: the open one, or the first one that opens.
pub fn next_turn(told: &ProvingDeadline, deadline: Index) -> Turn {
    let mut turn = Turn::of(told);
    while turn.deadline != deadline {
        turn = turn.next(told);
    }
    turn
}

/// Says on stderr how far reading is, for a person at a terminal.
pub fn progress(what: String) -> impl FnMut(&Reads) {
    use std::io::IsTerminal;
    let is_seen = std::io::stderr().is_terminal();
    move |reads| {
        if is_seen {
            let (read, bad) = (reads.times().count(), reads.failed().count());
            err!("\r{what}: {read} of {} read, {bad} not", reads.sectors().len());
        }
    }
}

/// Milliseconds since 1970, for names.
pub fn now_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
