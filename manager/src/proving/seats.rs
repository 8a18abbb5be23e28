//! Says when window PoSts are due, so that machines that also seal keep their provers free.
//!
//! That begins some epochs before the challenge of a deadline that has something to prove, and ends when all of the
//! miner's proofs are made. It is said again and again, and ends by itself if no manager says it.

use std::collections::BTreeMap;

use sealbus_nats::post::DUE_PERIOD;
use sealbus_schema::MinerId;
use tokio::time::Instant;

use super::{
    Error, Memory, Proving,
    begin::to_prove,
    proof::{PartitionProof, ProofState},
    tasks::Tasks,
    turn::{Turn, turn_after},
};
use crate::{
    chain::{
        Transport,
        types::{ProvingDeadline, TipSet},
    },
    drive::{address, chain_of},
};

/// What is remembered of each miner.
#[derive(Debug, Default)]
pub struct Seats(BTreeMap<MinerId, Ahead>);

#[derive(Debug, Default)]
struct Ahead {
    /// The turn whose challenge comes soon, and whether there is something to prove.
    soon: Option<(Turn, bool)>,
    /// When it was last said that something is due.
    told: Option<Instant>,
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Looks whether a challenge comes soon, 5 epochs on the main network.
    pub(super) async fn look_ahead_for_seats(
        &self,
        memory: &mut Memory,
        miner: MinerId,
        told: &ProvingDeadline,
        head: &TipSet,
    ) -> Result<(), Error> {
        let turn = turn_after(told, head.height);
        let ahead = memory.seats.0.entry(miner).or_default();
        if turn.challenge - head.height > (told.challenge_lookback / 4).max(1) {
            ahead.soon = None;
        } else if ahead.soon.is_none_or(|(known, _)| known != turn) {
            let partitions = self.node.miner_partitions(&address(miner), turn.deadline, &head.key).await?;
            ahead.soon = Some((turn, partitions.iter().any(|partition| !to_prove(partition).is_empty())));
        }
        Ok(())
    }

    /// Says for which miners something is due, unless that was said just now.
    pub(super) async fn tell_due(&self, memory: &mut Memory, open: &[PartitionProof]) {
        for (&miner, ahead) in &mut memory.seats.0 {
            let is_soon = ahead.soon.is_some_and(|(_, has_sectors)| has_sectors);
            let is_making = |proof: &PartitionProof| proof.id.miner == miner && proof.state == ProofState::Making;
            let is_recent = ahead.told.is_some_and(|told| told.elapsed() < DUE_PERIOD);
            if is_recent || !(is_soon || open.iter().any(is_making)) {
                continue;
            }
            match self.tasks.tell_due(miner).await {
                Ok(()) => ahead.told = Some(Instant::now()),
                Err(error) => tracing::debug!(%miner, cause = chain_of(&error), "cannot say that proofs are due"),
            }
        }
    }
}
