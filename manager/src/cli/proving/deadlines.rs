//! `proving deadlines`: a miner's deadlines as the chain has them, with how their last proofs went.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::super::{ConfigArg, errand::Site, print_json, table};
use crate::{
    chain::types::{Epoch, Partition},
    drive::address,
    proving::{
        begin::to_prove,
        proof::{PartitionProof, ProofState},
        turn::Turn,
    },
};

/// How many of the last proofs are looked at: two periods of a large miner.
const PROOFS: u32 = 2000;

/// Whose deadlines.
#[derive(Debug, Args)]
pub struct Deadlines {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One deadline.
struct Deadline {
    turn: Turn,
    partitions: Vec<Partition>,
    /// The partitions whose proofs the chain has, if it is open.
    proven: Option<u64>,
    /// What became of its last turn that closed.
    last: Vec<PartitionProof>,
}

impl Deadlines {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        site.miner(self.miner).await?;
        let (miner, head) = (address(self.miner), &site.head);
        let told = site.node.miner_proving_deadline(&miner, &head.key).await?;
        let mut last: BTreeMap<u64, Vec<PartitionProof>> = BTreeMap::new();
        for proof in site.store.last_proofs(Some(self.miner), PROOFS).await? {
            let known = last.entry(proof.id.deadline).or_default();
            let is_closed = proof.close <= head.height || !proof.state.is_open();
            if is_closed && known.first().is_none_or(|first| first.id.period == proof.id.period) {
                known.push(proof);
            }
        }
        let mut turn = Turn::of(&told);
        let mut found = Vec::new();
        for _ in 0..told.period_deadlines {
            let partitions = site.node.miner_partitions(&miner, turn.deadline, &head.key).await?;
            let is_open = turn.open <= head.height && head.height < turn.close;
            let proven = match is_open && !partitions.is_empty() {
                true => Some(site.node.post_submissions(&miner, turn.deadline, &head.key).await?.len()),
                false => None,
            };
            let last = last.remove(&turn.deadline).unwrap_or_default();
            found.push(Deadline { turn, partitions, proven, last });
            turn = turn.next(&told);
        }
        let epoch = Duration::from_secs(site.node.network_params().await?.block_delay_secs);
        if self.json {
            return print_json(&found.iter().map(describe).collect::<Vec<_>>());
        }
        let head = head.height;
        outln!("{} at epoch {head}; from the open deadline on:", self.miner);
        let rows = found.iter().filter(|deadline| !deadline.partitions.is_empty()).map(|deadline| {
            let sum = |of: fn(&Partition) -> u64| deadline.partitions.iter().map(of).sum::<u64>().to_string();
            vec![
                deadline.turn.deadline.to_string(),
                deadline.turn.open.to_string(),
                until(deadline.turn.open - head, epoch),
                deadline.partitions.len().to_string(),
                sum(|partition| partition.live_sectors.len()),
                sum(|partition| to_prove(partition).len() as u64),
                sum(|partition| partition.faulty_sectors.len()),
                sum(|partition| partition.recovering_sectors.len()),
                state(deadline),
            ]
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            outln!("no deadline has a sector: there is nothing to prove");
            return Ok(());
        }
        let headings = ["deadline", "opens", "in", "partitions", "live", "to prove", "faulty", "recovering", "proofs"];
        table::print(&headings, &rows);
        Ok(())
    }
}

/// The time of some epochs, roughly.
pub(super) fn until(epochs: Epoch, epoch: Duration) -> String {
    let Ok(epochs) = u32::try_from(epochs) else { return "open".to_owned() };
    match (epoch * epochs).as_secs() {
        secs if secs < 120 => format!("{secs} s"),
        secs if secs < 7200 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3600),
    }
}

fn state(deadline: &Deadline) -> String {
    let now = deadline.proven.map(|proven| format!("{proven} of {} on chain; ", deadline.partitions.len()));
    let count = |state: ProofState| deadline.last.iter().filter(|proof| proof.state == state).count();
    let before = if deadline.last.is_empty() {
        "none by this manager before".to_owned()
    } else {
        let margin = deadline.last.iter().filter_map(|proof| Some(proof.close - proof.proved_epoch?)).min();
        let missed = match count(ProofState::Missed) {
            0 => String::new(),
            missed => format!("{missed} MISSED, "),
        };
        let landed = count(ProofState::Landed);
        let margin = margin.map(|margin| format!(", made {margin} epochs before the close")).unwrap_or_default();
        match (landed, missed.is_empty()) {
            (0, true) => "last: nothing to prove".to_owned(),
            _ => format!("last: {missed}{landed} landed{margin}"),
        }
    };
    format!("{}{before}", now.unwrap_or_default())
}

fn describe(deadline: &Deadline) -> Value {
    let partition = |(partition, index): (&Partition, u64)| {
        json!({
            "partition": index, "live": partition.live_sectors.len(), "to_prove": to_prove(partition).len(),
            "faulty": partition.faulty_sectors.len(), "recovering": partition.recovering_sectors.len(),
            "active": partition.active_sectors.len(),
        })
    };
    json!({
        "deadline": deadline.turn.deadline, "period": deadline.turn.period, "challenge": deadline.turn.challenge,
        "opens": deadline.turn.open, "closes": deadline.turn.close, "fault_cutoff": deadline.turn.fault_cutoff,
        "partitions": deadline.partitions.iter().zip(0..).map(partition).collect::<Vec<_>>(),
        "proven": deadline.proven,
        "last": deadline.last.iter().map(super::history::describe).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_until_a_deadline_is_told_roughly() {
        let epoch = Duration::from_secs(30);
        let told: Vec<_> = [-3, 0, 3, 60, 1000].into_iter().map(|epochs| until(epochs, epoch)).collect();
        assert_eq!(told, ["open", "0 s", "90 s", "30 min", "8 h"]);
    }
}
