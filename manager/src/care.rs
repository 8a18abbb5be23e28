//! The care of proven sectors: extend them, raise their quality, terminate them, compact their partitions.
//!
//! Read in this order:
//!
//! 1. [`look`]: reads sectors with their places and how they stand.
//! 2. [`extend`], [`upgrade`], [`terminate`] and [`compact`]: what to declare of which sectors, what is left out and
//!    why, and what it costs. Pure. [`deadlines`]: when a deadline may be changed.
//! 3. [`batch`]: what is declared, as few messages as fit. Pure.
//! 4. [`trial`]: executes them on trial. What is refused is halved until the culprit is alone.
//! 5. [`order`]: from a plan to messages.
//!
//! A message is atomic: one sector that the actor does not take fails all of it. So a sector that it would not take is
//! left out, with a reason that a person understands.

use std::collections::BTreeMap;

use crate::chain::types::{Epoch, Index, ProvingDeadline, SectorLocation, SectorOnChainInfo};

pub mod batch;
pub mod compact;
pub mod deadlines;
pub mod expiring;
pub mod extend;
pub mod look;
pub mod order;
pub mod quality;
pub mod terminate;
pub mod trial;
pub mod upgrade;
pub mod watch;

/// How many epochs a message may take until it is included. What ends within them counts as ended.
pub const INCLUSION_EPOCHS: Epoch = 20;

/// A proven sector that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// What the chain has about it.
    pub info: SectorOnChainInfo,
    /// Where it is proven.
    pub at: SectorLocation,
    /// Whether it has power.
    pub standing: Standing,
}

/// Whether a sector has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has.
    Active,
    /// It is not proven at present.
    Faulty,
    /// Its first window PoSt is still to come.
    Unproven,
}

/// The chain's state as far as plans depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// The head's epoch.
    pub head: Epoch,
    /// The network version.
    pub version: u32,
    /// The miner's open or next deadline.
    pub deadline: ProvingDeadline,
    /// The size of the miner's sectors, in bytes.
    pub sector_bytes: u64,
}

/// Sectors of one partition for which the same is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The partition.
    pub at: SectorLocation,
    /// Their new expiration, if they get one.
    pub expiration: Option<Epoch>,
    /// The sectors, in ascending order; at least one.
    pub sectors: Vec<Index>,
}

/// A sector for which nothing is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The sector.
    pub sector: Index,
    /// Why.
    pub why: Reason,
}

/// Why a sector is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The chain has no such sector.
    #[error("it is not proven on chain")]
    NotProven,
    /// It was terminated or has expired.
    #[error("it has ended")]
    Ended,
    /// It expires before a message can land.
    #[error("it expires at epoch {at}, before a message can land")]
    Expires {
        /// Its expiration.
        at: Epoch,
    },
    /// It is faulty.
    #[error("it is faulty: prove it first")]
    Faulty,
    /// Its first window PoSt is still to come.
    #[error("its first window PoSt is still to come")]
    Unproven,
    /// It would not be extended.
    #[error("it expires at epoch {at} already, not before {wanted}")]
    ExpiresLater {
        /// Its expiration.
        at: Epoch,
        /// What was wanted, within the chain's limits.
        wanted: Epoch,
    },
    /// Its proof type cannot be extended any more.
    #[error("its proof type {proof} cannot be extended")]
    OldProof {
        /// Its `RegisteredSealProof`.
        proof: i64,
    },
    /// Before network version 29 its claims of verified data must be given.
    #[error("it has verified data, whose claims an extension must name before network version 29")]
    VerifiedData,
    /// It has the highest quality already.
    #[error("it has tenfold quality already")]
    FullQuality,
    /// Its deadline cannot be changed now.
    #[error("deadline {deadline} is proven now or next; it can be changed from epoch {from}")]
    Immutable {
        /// The deadline.
        deadline: Index,
        /// The first epoch at which it can be changed.
        from: Epoch,
    },
    /// The chain refused it on trial.
    #[error("the chain refuses it: {said}")]
    Refused {
        /// In the node's words.
        said: String,
    },
}

/// What is declared of the selected sectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By partition and new expiration.
    pub declared: Vec<Declared>,
    /// The others.
    pub left_out: Vec<LeftOut>,
}

impl Plan {
    /// Decides about each sector: declared with a new expiration or without one, or left out.
    pub(crate) fn of<'s>(
        sectors: impl IntoIterator<Item = &'s OnChain>,
        decide: impl Fn(&OnChain) -> Result<Option<Epoch>, Reason>,
    ) -> Plan {
        let mut groups: BTreeMap<(Index, Index, Option<Epoch>), Vec<Index>> = BTreeMap::new();
        let mut left_out = Vec::new();
        for sector in sectors {
            match decide(sector) {
                Ok(expiration) => {
                    let key = (sector.at.deadline, sector.at.partition, expiration);
                    groups.entry(key).or_default().push(sector.info.sector_number);
                }
                Err(why) => left_out.push(LeftOut { sector: sector.info.sector_number, why }),
            }
        }
        let declared = groups.into_iter().map(|((deadline, partition, expiration), mut sectors)| {
            sectors.sort_unstable();
            Declared { at: SectorLocation { deadline, partition }, expiration, sectors }
        });
        Plan { declared: declared.collect(), left_out }
    }

    /// How many sectors are declared.
    pub fn count(&self) -> usize {
        count(&self.declared)
    }
}

impl Standing {
    /// Refuses sectors without power.
    pub(crate) fn must_be_active(self) -> Result<(), Reason> {
        match self {
            Standing::Active => Ok(()),
            Standing::Faulty => Err(Reason::Faulty),
            Standing::Unproven => Err(Reason::Unproven),
        }
    }
}

impl Now {
    /// Refuses a sector that ends before a message about it can land.
    pub(crate) fn must_outlast(&self, sector: &OnChain) -> Result<(), Reason> {
        let at = sector.info.expiration;
        if at > self.head + INCLUSION_EPOCHS { Ok(()) } else { Err(Reason::Expires { at }) }
    }
}

/// How many sectors are declared.
pub fn count(declared: &[Declared]) -> usize {
    declared.iter().map(|declared| declared.sectors.len()).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::chain::commitment::sealed_cid;

    pub(crate) const SECTOR_BYTES: u64 = 32 << 30;

    /// An active sector of committed capacity.
    pub(crate) fn sector(number: Index, deadline: Index, partition: Index) -> OnChain {
        let info = SectorOnChainInfo {
            sector_number: number,
            seal_proof: 8,
            sealed_cid: sealed_cid(&[7; 32]).expect("a commitment"),
            activation: 1_000_000,
            expiration: 2_000_000,
            initial_pledge: fvm_shared::econ::TokenAmount::from_whole(1),
            power_base_epoch: 1_000_000,
            sector_key_cid: None,
            flags: 1,
            deal_weight: Default::default(),
            verified_deal_weight: Default::default(),
            daily_fee: Default::default(),
        };
        OnChain { info, at: SectorLocation { deadline, partition }, standing: Standing::Active }
    }

    /// A miner whose deadline 10 is open, 5 epochs after it opened.
    pub(crate) fn now() -> Now {
        let open = 1_500_000;
        let deadline = ProvingDeadline {
            current_epoch: open + 5,
            period_start: open - 600,
            index: 10,
            open,
            close: open + 60,
            challenge: open - 20,
            fault_cutoff: open - 70,
            period_deadlines: 48,
            proving_period: 2880,
            challenge_window: 60,
            challenge_lookback: 20,
            fault_declaration_cutoff: 70,
        };
        Now { head: open + 5, version: 29, deadline, sector_bytes: SECTOR_BYTES }
    }

    pub(crate) fn reasons(plan: &Plan) -> Vec<(Index, Reason)> {
        plan.left_out.iter().map(|left| (left.sector, left.why.clone())).collect()
    }
}
