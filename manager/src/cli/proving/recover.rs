//! `proving recover`: reads faulty sectors now, and declares those as recovered that can be read. A running manager does the
//! same by itself, shortly before their deadline.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use sealbus_schema::MinerId;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    super::{
        errand::{Asking, Site},
        person::Usage,
    },
    hand::{Hand, next_turn, now_millis, progress},
};
use crate::{
    chain::types::{Epoch, Index, ProvingDeadline},
    drive::address,
    errands::fil::shown,
    intents::numbers::Numbers,
    proving::{
        proof::ProofId,
        recover::{RECOVER, recovery},
    },
};

/// The sectors.
#[derive(Debug, Args)]
pub struct Recover {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The faulty sectors, such as 7 or 1-5,9. By default all.
    sectors: Option<Numbers>,
    #[command(flatten)]
    asking: Asking,
}

/// A faulty sector on chain.
#[derive(Clone, Copy)]
struct Faulty {
    at: (Index, Index),
    is_recovering: bool,
}

impl Recover {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let (miner, head) = (address(self.miner), &site.head);
        let funds = site.node.miner_funds(&miner, &head.key).await?;
        let available = site.node.available_balance(&miner, &head.key).await?;
        if funds.fee_debt.is_positive() && available.is_negative() {
            bail!(
                "{} owes {} FIL, more than it has unlocked, and the chain takes no recovery until that is paid: `miners \
                 repay-debt {}`",
                self.miner,
                shown(&funds.fee_debt),
                self.miner
            );
        }
        let told = site.node.miner_proving_deadline(&miner, &head.key).await?;
        let faulty = self.wanted(&site, &told).await?;
        let mut left_out: Vec<(String, String)> = Vec::new();
        let mut by_partition: BTreeMap<(Index, Index), Vec<u64>> = BTreeMap::new();
        for (number, Faulty { at, is_recovering }) in &faulty {
            let name = format!("sector {number}");
            match is_recovering {
                true => left_out.push((name, "is declared already: its next proof ends the fault".to_owned())),
                false => by_partition.entry(*at).or_default().push(*number),
            }
        }
        let mut drafts = Vec::new();
        let hand = Hand::reach(&site).await?;
        let proving = hand.proving();
        let sender = site.sender(self.miner, &info).await?;
        let open = site.store.errands_in_the_way(self.miner, RECOVER, OffsetDateTime::now_utc()).await?;
        for ((deadline, partition), numbers) in by_partition {
            let turn = next_turn(&told, deadline);
            let id = ProofId { miner: self.miner, period: turn.period, deadline, partition };
            if let Some(why) = too_late(head.height, turn.fault_cutoff, turn.close) {
                left_out.push((id.to_string(), why));
                continue;
            }
            if let Some(errand) = open.iter().find(|errand| errand.asked.detail["proof"] == json!(id.path())) {
                left_out.push((id.to_string(), format!("its recovery is asked for already: errand {}", errand.id.0)));
                continue;
            }
            let sectors = proving.provables(self.miner, &numbers, head).await?;
            let of = proving.by_hand(self.miner, &format!("{deadline}-{partition}"), now_millis())?;
            let (limit, _) = hand.limits(&turn);
            let reads = proving.read_now(&of, sectors, (limit, true), progress(id.to_string())).await?;
            left_out.extend(
                reads.unread().into_iter().map(|(number, why)| {
                    (format!("sector {number}"), format!("cannot be read and stays faulty: {why}"))
                }),
            );
            let read: Vec<u64> = reads.times().map(|(number, _)| number.0).collect();
            if !read.is_empty() {
                drafts.push(recovery(id, &read, sender, turn.fault_cutoff)?);
            }
        }
        if !self.asking.json() {
            left_out.iter().for_each(|(what, why)| errln!("{what}: {why}"));
            if faulty.is_empty() {
                errln!("{} has no faulty sectors", self.miner);
            }
        }
        let left_any = !left_out.is_empty();
        let notes: Vec<Value> = left_out.iter().map(|(what, why)| json!({ "what": what, "why": why })).collect();
        let is_nothing = drafts.is_empty();
        self.asking.carry_out(&site, "proving recover", drafts, json!({ "left_out": notes })).await?;
        if is_nothing && left_any {
            bail!("nothing was declared as recovered");
        }
        Ok(())
    }

    /// The faulty sectors that are asked for.
    async fn wanted(&self, site: &Site, told: &ProvingDeadline) -> anyhow::Result<BTreeMap<u64, Faulty>> {
        let (miner, head) = (address(self.miner), &site.head.key);
        let is_wanted = |number: &u64| self.sectors.as_ref().is_none_or(|sectors| sectors.contains(*number));
        let (mut found, mut sound) = (BTreeMap::new(), Vec::new());
        for deadline in 0..told.period_deadlines {
            for (partition, index) in site.node.miner_partitions(&miner, deadline, head).await?.iter().zip(0..) {
                for number in partition.live_sectors.iter().filter(is_wanted) {
                    let is_recovering = partition.recovering_sectors.contains(number);
                    match partition.faulty_sectors.contains(number) {
                        true => drop(found.insert(number, Faulty { at: (deadline, index), is_recovering })),
                        false => sound.push(number),
                    }
                }
            }
        }
        let Some(sectors) = &self.sectors else { return Ok(found) };
        let see = format!("`proving faults {}` lists what can be recovered", self.miner);
        if let Some(number) = sound.first() {
            return Err(Usage(format!("SECTORS {sectors}: sector {number} is not faulty; {see}")).into());
        }
        if found.is_empty() {
            return Err(Usage(format!("SECTORS {sectors}: {} has no such sector on chain; {see}", self.miner)).into());
        }
        Ok(found)
    }
}

/// Why a recovery cannot be declared now, if so.
fn too_late(head: Epoch, cutoff: Epoch, close: Epoch) -> Option<String> {
    (cutoff <= head).then(|| {
        format!(
            "it is too late: the chain takes a recovery for this deadline's proof up to epoch {}, and for the one after it \
             from epoch {close} on; now it is epoch {head}",
            cutoff - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_that_comes_too_late_is_told_when_it_can_come() {
        assert_eq!(too_late(99, 100, 230), None);
        let why = too_late(100, 100, 230).expect("too late");
        assert!(why.contains("up to epoch 99") && why.contains("from epoch 230 on"), "{why}");
    }
}
