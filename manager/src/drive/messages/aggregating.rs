//! Has the proofs of a group aggregated in the background, because that takes from seconds to minutes. Nothing of it is
//! stored: a manager that starts anew aggregates anew.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fvm_shared::econ::TokenAmount;
use sealbus_schema::{ErrorReport, MinerId, ProofBytes};
use tokio::task::JoinSet;

use super::{Prepared, call::Part};
use crate::{
    aggregates::{self, Member, Request},
    chain::{
        Transport, WaitReason,
        cost::{self, Batch},
        params::AGGREGATED_SECTORS_MIN,
    },
    drive::{DriveError, Driver, View, tick::subject_of},
    store::{MessageKind, WantId},
    waits,
    workflows::Call,
};

/// How long an aggregation may take. 819 sectors of 32 GiB take a few minutes.
const LIMIT: Duration = Duration::from_secs(1800);

/// Whether the proofs of a group are aggregated.
#[derive(Debug)]
pub(super) enum Aggregated {
    /// Not yet.
    No,
    /// They are.
    Proof {
        /// The aggregate.
        proof: ProofBytes,
        /// The number of sectors in it.
        sectors: usize,
    },
    /// It was tried in vain. Each sector is sent with its own proof.
    Failed,
}

/// The aggregations of a driver.
#[derive(Debug, Default)]
pub(in crate::drive) struct Aggregations(Mutex<Vec<Aggregation>>);

#[derive(Debug)]
struct Aggregation {
    miner: MinerId,
    /// What is aggregated, in its order.
    wants: Vec<WantId>,
    /// Its only task. Dropping it ends the process that aggregates.
    task: JoinSet<Result<ProofBytes, ErrorReport>>,
}

impl<T: Transport + 'static> Driver<T> {
    /// Whether an aggregate of these sectors can be made, and is cheaper than their proofs by more than the operator asks
    /// for.
    pub(super) async fn is_worth_aggregating(
        &self,
        view: &View,
        miner: MinerId,
        parts: &[Part],
    ) -> Result<bool, DriveError> {
        let batches = self.config.batches(miner);
        let Some(first) = parts.first().filter(|part| part.kind() == MessageKind::ProveCommit) else {
            return Ok(false);
        };
        if batches.aggregate == Some(false)
            || parts.len() < AGGREGATED_SECTORS_MIN
            || self.verifier.aggregates_ready().is_err()
        {
            return Ok(false);
        }
        let Some(sender) = self.senders(miner, MessageKind::ProveCommit, view).await?.into_iter().next() else {
            return Ok(false);
        };
        let premium = self.estimate_filler(view, &first.prepared.message, &sender).await?.premium;
        let (proof, least): (_, TokenAmount) = (first.prepared.job.proof, batches.aggregate_saving());
        Ok(cost::cheaper(parts.len(), proof, (&view.base_fee(), &premium), &least) == Batch::Aggregate)
    }

    /// Begins to aggregate the proofs of a group.
    pub(super) fn begin_aggregation(&self, miner: MinerId, parts: &[Part]) {
        let Some(first) = parts.first() else { return };
        let sectors = parts.iter().filter_map(|Part { prepared, .. }| match &prepared.call {
            Call::ProveCommit { porep } => {
                Some(Member { number: prepared.job.id.number, porep: porep.as_ref().clone() })
            }
            Call::PreCommit { .. } => None,
        });
        let request = Request { miner, proof: first.prepared.job.proof, sectors: sectors.collect() };
        for Part { prepared, .. } in parts {
            let reason = WaitReason::Aggregation { what: prepared.message.key.clone(), with: parts.len() };
            let pause = self.config.chain.poll_interval();
            self.waits.waits(&subject_of(&prepared.message), waits::of_error(&reason.into()), pause);
        }
        tracing::info!(%miner, sectors = parts.len(), "aggregates proofs");
        let (program, changed, mut task) = (self.verifier.aggregator(), self.changed.clone(), JoinSet::new());
        task.spawn(async move {
            let outcome = aggregates::aggregate(&program, &request, LIMIT).await;
            changed.ring();
            outcome
        });
        let wants = parts.iter().filter_map(|part| part.prepared.message.want).collect();
        self.aggregations.lock().push(Aggregation { miner, wants, task });
    }
}

impl Aggregations {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Aggregation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a group out of `members` whose aggregation has ended. Members of one that has not are taken out as well, because
    /// they are not to be signed otherwise. One that has lost a member is given up.
    pub(super) fn take_done(&self, miner: MinerId, members: &mut Vec<Prepared>) -> Option<(Vec<Prepared>, Aggregated)> {
        let mut all = self.lock();
        let is_there = |want: &WantId, members: &[Prepared]| {
            members.iter().any(|member| member.message.want.as_ref() == Some(want))
        };
        let belongs = |aggregation: &Aggregation, members: &[Prepared]| {
            aggregation.miner == miner && aggregation.wants.iter().any(|want| is_there(want, members))
        };
        let mut index = 0;
        while index < all.len() {
            if !belongs(&all[index], members) {
                index += 1;
                continue;
            }
            if !all[index].wants.iter().all(|want| is_there(want, members)) {
                all.remove(index);
                continue;
            }
            let mut group = Vec::new();
            for want in &all[index].wants {
                let at = members.iter().position(|member| member.message.want.as_ref() == Some(want));
                group.extend(at.map(|at| members.remove(at)));
            }
            match all[index].task.try_join_next() {
                None => index += 1,
                Some(ended) => {
                    all.remove(index);
                    let aggregated = match ended {
                        Ok(Ok(proof)) => Aggregated::Proof { proof, sectors: group.len() },
                        Ok(Err(report)) => {
                            tracing::warn!(%miner, why = %report.message(), "proofs were not aggregated; they are sent singly");
                            Aggregated::Failed
                        }
                        Err(error) => {
                            tracing::error!(%miner, %error, "the aggregation ended early; its proofs are sent singly");
                            Aggregated::Failed
                        }
                    };
                    return Some((group, aggregated));
                }
            }
        }
        None
    }
}
