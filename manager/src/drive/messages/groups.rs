//! Signs messages of one miner, many in one call where the policy says so.
//!
//! Each sector is tried alone first, and one that the chain refuses is left out with its reason. If the chain refuses the
//! rest as a whole, or it costs too much, half of it is tried.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use fvm_shared::{address::Address, econ::TokenAmount, message::Message as Unsigned};
use sealbus_schema::{MinerId, ProofBytes, SealProof};

use super::{
    Prepared,
    aggregating::Aggregated,
    call::{Part, compose},
    name_of,
    signing::{affordable, epochs_left, soonest},
};
use crate::{
    chain::{
        Transport, WaitReason,
        cost::Batch,
        fees::{self, FeeLimit, GAS_LIMIT_MAX, Gas},
        message::{self, Error as MessageError},
        network,
    },
    config::Batches,
    drive::{
        DriveError, Driver, Step, View,
        batch::{self, Candidate, Formed, Policy},
        chain_of, decide,
        tick::{Round, subject_of},
    },
    store::{Message, MessageKind},
    waits,
};

/// What can be signed.
struct Affordable {
    unsigned: Unsigned,
    gas: Gas,
    limit: FeeLimit,
}

impl<T: Transport + 'static> Driver<T> {
    /// Signs and pushes what a miner's policy wants sent now. The rest waits, with a reason that people see.
    pub(in crate::drive) async fn sign_prepared(
        &self,
        view: &View,
        round: &Round,
        miner: MinerId,
        prepared: Vec<Prepared>,
    ) -> Result<(), DriveError> {
        self.aggregations.keep_only(miner, &prepared);
        let mut alike: BTreeMap<(&'static str, SealProof), Vec<Prepared>> = BTreeMap::new();
        for one in prepared {
            alike.entry((one.message.kind.name(), one.job.proof)).or_default().push(one);
        }
        for ((_, proof), mut members) in alike {
            // What was aggregated together is sent together.
            while let Some((group, aggregate)) = self.aggregations.take_done(miner, &mut members) {
                self.sign_group(view, round, miner, group, aggregate).await?;
            }
            for group in self.form_groups(view, miner, proof, members).await? {
                self.sign_group(view, round, miner, group, Aggregated::No).await?;
            }
        }
        Ok(())
    }

    /// The groups to sign now. What waits for others is noted.
    async fn form_groups(
        &self,
        view: &View,
        miner: MinerId,
        proof: SealProof,
        members: Vec<Prepared>,
    ) -> Result<Vec<Vec<Prepared>>, DriveError> {
        let Some(first) = members.first() else { return Ok(Vec::new()) };
        let (kind, head) = (first.message.kind, view.head.height);
        let policy = self.config.batches(miner).policy(kind, proof, &view.base_fee(), self.may_aggregate(miner));
        let candidates: Vec<_> = members.iter().map(|one| candidate(view, one)).collect();
        let Formed { groups, waiting, until } = batch::form(&candidates, &policy, head);
        let waiting: Vec<&Message> = waiting.iter().map(|index| &members[*index].message).collect();
        if waiting.iter().any(|message| message.ready.epoch.is_none()) {
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.note_ready(&waiting, head).await?;
            tx.commit().await?;
        }
        for message in &waiting {
            let (what, with, most) = (message.key.clone(), waiting.len(), policy.sectors_max);
            let reason = WaitReason::Batch { what, with, most, until };
            let pause = self.config.chain.poll_interval();
            self.waits.waits(&subject_of(message), waits::of_error(&reason.into()), pause);
        }
        let mut members: Vec<Option<Prepared>> = members.into_iter().map(Some).collect();
        let take = |group: Vec<usize>| group.into_iter().filter_map(|index| members[index].take()).collect();
        Ok(groups.into_iter().map(take).collect())
    }

    /// Signs and pushes one call for a group.
    async fn sign_group(
        &self,
        view: &View,
        round: &Round,
        miner: MinerId,
        group: Vec<Prepared>,
        aggregated: Aggregated,
    ) -> Result<(), DriveError> {
        let subjects: Vec<_> = group.iter().map(|one| subject_of(&one.message)).collect();
        let sector = match &group[..] {
            [only] => Some(only.job.id),
            _ => None,
        };
        let signing = self.sign_and_push(view, round, miner, group, aggregated);
        // What is held has waited for others and not for a retry.
        let due = subjects.iter().any(|subject| self.is_held(subject) || self.waits.is_due(subject));
        self.step_if(due, round, &subjects, sector, signing).await?;
        Ok(())
    }

    async fn sign_and_push(
        &self,
        view: &View,
        round: &Round,
        miner: MinerId,
        group: Vec<Prepared>,
        aggregated: Aggregated,
    ) -> Result<Step, DriveError> {
        let version = self.node.network_version(&view.head.key).await?;
        network::check_supported(version)?;
        let kind = group.first().map_or(MessageKind::Filler, |one| one.message.kind);
        let senders = self.senders(miner, kind, view).await?;
        let is_alone = group.len() == 1;
        let tried = group.into_iter().map(|one| self.try_alone(view, round, (&senders, version), is_alone, one));
        let tried: Vec<_> = stream::iter(tried).buffered(self.config.chain.parallel_requests).collect().await;
        let mut parts = Vec::new();
        for part in tried {
            parts.extend(part?);
        }
        if is_alone && parts.is_empty() {
            return Ok(Step::GoesOn);
        }
        // What was left out has a wait of its own, which stays.
        let there: Vec<_> = parts.iter().map(|part| subject_of(&part.prepared.message)).collect();
        let mut aggregate = match aggregated {
            Aggregated::No if self.is_worth_aggregating(view, miner, &parts).await? => {
                // It is signed when the aggregate is made.
                self.begin_aggregation(miner, &parts);
                return Ok(Step::Undecided);
            }
            Aggregated::Proof { proof, sectors } if sectors == parts.len() => Some(proof),
            // The chain does not take one of them any more, so each is sent with its own proof.
            Aggregated::No | Aggregated::Proof { .. } | Aggregated::Failed => None,
        };
        while !parts.is_empty() {
            match self.afford_from(view, miner, &senders, &parts, aggregate.as_ref()).await {
                Ok(Some(affordable)) => {
                    self.sign_parts(view, &parts, affordable).await?;
                    break;
                }
                Ok(None) => break,
                // Without the aggregate it can be halved.
                Err(error) if aggregate.is_some() && is_of_the_whole(&error) => aggregate = None,
                // The other half is signed at the next tick.
                Err(error) if parts.len() > 1 && is_of_the_whole(&error) => {
                    let (sectors, why) = (parts.len(), chain_of(&error));
                    tracing::info!(%miner, sectors, why, "too much for one message; half of it is tried");
                    parts.truncate(parts.len() / 2);
                    self.changed.ring();
                }
                Err(error) => return Err(error),
            }
        }
        for subject in there {
            self.waits.goes_on(&subject);
        }
        Ok(Step::Undecided)
    }

    /// Builds a sector's part, and lets the chain try it alone if it is to share a call. `None` if the chain refuses it, or
    /// what it refers to is not on chain; then its own wait says why.
    async fn try_alone(
        &self,
        view: &View,
        round: &Round,
        (senders, version): (&[Address], u32),
        is_alone: bool,
        one: Prepared,
    ) -> Result<Option<Part>, DriveError> {
        let (subject, sector, miner) = (subject_of(&one.message), one.job.id, one.job.id.miner);
        let trying = async {
            let Some(part) = self.part(view, one, version).await? else { return Ok(None) };
            if is_alone {
                return Ok(Some(part));
            }
            let message = &part.prepared.message;
            for (index, sender) in senders.iter().enumerate() {
                let unsigned = compose(std::slice::from_ref(&part), None, miner, *sender)?;
                match self.node.gas_estimate(&unsigned, &view.head.key).await {
                    Ok(_) => {
                        self.accepted(message).await?;
                        return Ok(Some(part));
                    }
                    Err(error) if error.is_not_enough_funds() && index + 1 < senders.len() => {}
                    Err(error) => return self.not_taken(view, message, sender, error).await.map(|()| None),
                }
            }
            Ok(None)
        };
        if is_alone {
            return trying.await;
        }
        Ok(self.attempt_if(true, round, &[subject], Some(sector), trying).await?.flatten())
    }

    /// Forgets that the node had refused a message.
    async fn accepted(&self, message: &Message) -> Result<(), DriveError> {
        match message.tries.refused_epoch {
            Some(_) => self.note_refusal(message, None).await,
            None => Ok(()),
        }
    }

    /// The same as [`Self::afford`] for the first of these senders that can pay.
    async fn afford_from(
        &self,
        view: &View,
        miner: MinerId,
        senders: &[Address],
        parts: &[Part],
        aggregate: Option<&ProofBytes>,
    ) -> Result<Option<Affordable>, DriveError> {
        let mut poor = None;
        for sender in senders {
            match self.afford(view, miner, *sender, parts, aggregate).await {
                Err(DriveError::Waits(reason @ WaitReason::NotEnoughFunds { .. })) => {
                    poor.get_or_insert(reason);
                }
                outcome => return outcome,
            }
        }
        poor.map_or(Ok(None), |reason| Err(reason.into()))
    }

    /// Composes a call and lets the chain try it, and checks that it can be paid. `None` if the chain refuses a single
    /// sector, which is handled then.
    async fn afford(
        &self,
        view: &View,
        miner: MinerId,
        sender: Address,
        parts: &[Part],
        aggregate: Option<&ProofBytes>,
    ) -> Result<Option<Affordable>, DriveError> {
        let unsigned = compose(parts, aggregate, miner, sender)?;
        message::check_size(&unsigned)?;
        let least = match parts {
            [only] => only.prepared.message.tries.gas_limit_min,
            _ => None,
        };
        // The estimate executes the message, so it shows whether the chain would accept it.
        let gas = match (self.node.gas_estimate(&unsigned, &view.head.key).await, parts) {
            (Ok(gas), _) => gas.with_limit_of(least),
            (Err(error), [only]) => {
                return self.not_taken(view, &only.prepared.message, &sender, error).await.map(|()| None);
            }
            (Err(error), [first, ..]) if error.is_not_enough_funds() => {
                return Err(self.waits_for(&first.prepared.message, &sender, error));
            }
            (Err(error), _) => return Err(error.into()),
        };
        if let [only] = parts {
            self.accepted(&only.prepared.message).await?;
        }
        let what = name_of(parts.iter().map(|part| &part.prepared.message));
        if gas.limit > GAS_LIMIT_MAX {
            return Err(MessageError::Gas(fees::Error::Limit { limit: gas.limit }).into());
        }
        let left = parts.iter().map(|part| epochs_left(view, &part.prepared.job)).fold(None, soonest);
        let kind = parts.first().map_or(MessageKind::Filler, Part::kind);
        let limit = self.config.fee_limit(miner, kind, parts.len() as u64, left);
        let gas = affordable(view, what.clone(), gas, &limit)?;
        self.check_funds(view, &what, &unsigned, &gas).await?;
        let sized = message::with_gas_and_nonce(unsigned.clone(), gas.clone(), u64::MAX);
        message::check_before_signing(&sized, &limit.amount())?;
        Ok(Some(Affordable { unsigned, gas, limit }))
    }

    /// Signs a call, or prepares it for the messager, stores it and sends it, if all its sectors still want it.
    async fn sign_parts(&self, view: &View, parts: &[Part], affordable: Affordable) -> Result<(), DriveError> {
        let Affordable { unsigned, gas, limit } = affordable;
        let messages: Vec<&Message> = parts.iter().map(|part| &part.prepared.message).collect();
        let ready = self.make_ready(view, &messages, unsigned, gas).await?;
        // Only the holder of this epoch signs, and the index over sender and nonce would refuse a second message.
        let mut tx = self.store.begin_as(self.epoch).await?;
        for Part { prepared, .. } in parts {
            if !decide::stands_as(&prepared.job, tx.sector(prepared.job.id).await?.as_ref()) {
                return Ok(());
            }
        }
        let stored = self.store_ready(&mut tx, view, &messages, ready, &limit).await?;
        tx.commit().await?;
        let group: Vec<Message> = messages.into_iter().cloned().collect();
        self.send(view, &group, stored).await
    }

    /// The message with these fees and its sender's next nonce.
    pub(super) async fn with_next_nonce(&self, unsigned: Unsigned, gas: Gas) -> Result<Unsigned, DriveError> {
        let sender = unsigned.from.to_string();
        let nonce = self.node.mpool_get_nonce(&unsigned.from).await?.max(self.store.next_nonce(&sender).await?);
        Ok(message::with_gas_and_nonce(unsigned, gas, nonce))
    }
}

impl Batches {
    /// How messages of this kind are grouped at this base fee.
    fn policy(&self, kind: MessageKind, proof: SealProof, base_fee: &TokenAmount, may_aggregate: bool) -> Policy {
        let (most, wait_epochs, batch) = match kind {
            MessageKind::ProveCommit => {
                let batch = if may_aggregate { Batch::Aggregate } else { Batch::Singles };
                (self.prove_commit_max, self.prove_commit_wait_epochs, batch)
            }
            _ => (self.precommit_max, self.precommit_wait_epochs, Batch::PreCommits),
        };
        Policy {
            sectors_max: (most as usize).min(batch.largest(proof)).max(1),
            wait_epochs,
            slack_epochs: self.slack_epochs,
            at_once: self.at_once_base_fee().is_some_and(|low| *base_fee <= low),
        }
    }
}

fn candidate(view: &View, one: &Prepared) -> Candidate {
    Candidate {
        epochs_left: epochs_left(view, &one.job),
        ready_epoch: one.message.ready.epoch.unwrap_or(view.head.height),
        is_hurried: one.message.ready.is_hurried,
        batch_max: one.message.tries.batch_max,
    }
}

/// Whether a smaller call may succeed where this one failed: the chain refuses it, it is too large, or it costs too much.
fn is_of_the_whole(error: &DriveError) -> bool {
    match error {
        DriveError::Chain(error) => error.exit_code().is_some(),
        DriveError::Message(MessageError::TooLarge { .. } | MessageError::Gas(_)) => true,
        DriveError::Waits(WaitReason::Fee { .. } | WaitReason::NotEnoughFunds { .. }) => true,
        _ => false,
    }
}
