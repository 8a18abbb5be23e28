//! Window PoSt: proves each partition of each deadline, and sends the proof while the deadline is open.
//!
//! - [`turn`]: when deadlines are challenged, open and close; pure.
//! - [`reads`]: who has read which sectors, and what is asked for again; pure.
//! - [`decide`]: what happens next with one proof; pure.
//! - [`proof`]: what is stored of a proof.
//! - [`tasks`]: the tasks for workers, and what they say.
//! - [`forecast`]: what the last proofs say about the next ones; pure.
//! - [`begin`]: which proofs a turn needs, as the chain has it at the challenge.
//! - [`make`]: carries out what was decided: tasks, verification.
//! - [`submit`]: the message, and what became of it.
//! - [`recover`]: reads faulty sectors ahead of their deadline, and declares those as recovered that can be read again.
//! - [`ahead`]: reads the sectors of the deadlines that come next, so that what is bad is known before.
//! - [`ready`]: whether there are workers and funds for the next proofs.
//! - [`by_hand`]: reads and proves now, for a person's command.
//! - [`compare`]: what the chain has against what is in the stores.
//!
//! Everything that must survive is in the database or on the bus. What is kept in memory is read from there again after a
//! restart.

pub mod ahead;
pub mod begin;
pub mod by_hand;
pub mod compare;
pub mod decide;
pub mod forecast;
pub mod make;
pub mod proof;
pub mod reads;
pub mod ready;
pub mod recover;
pub mod seats;
pub mod submit;
pub mod tasks;
pub mod turn;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{ErrorCode, MinerId, post::PostJob};

use crate::{
    chain::{
        Error as ChainError, NodeClient, Transport, commitment,
        types::{Epoch, ProvingDeadline, TipSet},
    },
    config::Config,
    drive::chain_of,
    preflight::NotASender,
    proofs::Verifier,
    store::{Store, StoreError},
    waits::{Cause, Subject, Waits},
    wake::Wake,
};
use ahead::Ahead;
use decide::Step;
use make::Making;
use proof::{PartitionProof, ProofId, ProofState};
use ready::Lacks;
use recover::Recovering;
use tasks::Tasks;
use turn::turns_at;

/// For how many epochs it is remembered that a turn was begun: four proving periods of the main network.
const BEGUN_KEPT: Epoch = 4 * 2880;
/// The least pause before a look.
const LOOK_GAP: Duration = Duration::from_millis(20);
/// The pause before the reports are listened to again after that failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Proves the sectors of one manager's miners.
pub struct Proving<'a, T, B> {
    /// The chain.
    pub node: &'a NodeClient<T>,
    /// The database.
    pub store: &'a Store,
    /// The bus.
    pub tasks: &'a B,
    /// The configuration.
    pub config: &'a Config,
    /// The epoch with which the manager took over.
    pub epoch: i64,
    /// The network's epoch length in milliseconds.
    pub epoch_millis: u64,
    /// Verifies proofs.
    pub verifier: &'a Arc<dyn Verifier>,
    /// Where it is said what holds a proof up.
    pub waits: &'a Waits,
    /// Rings when a message is asked for.
    pub changed: &'a Wake,
}

/// What one manager remembers between two looks.
#[derive(Default)]
pub struct Memory {
    /// The turns whose proofs are stored, by miner.
    begun: BTreeSet<(MinerId, Epoch, u64)>,
    /// The proofs that are being made.
    making: BTreeMap<ProofId, Making>,
    /// What workers have said of jobs, in their order.
    said: HashMap<(MinerId, PostJob), Vec<PostSaid>>,
    /// The queues that exist.
    queues: BTreeSet<PostQueue>,
    /// The faulty sectors that are being read.
    recovering: BTreeMap<ProofId, Recovering>,
    /// Whose window PoSts are due.
    seats: seats::Seats,
    /// The open deadline of each miner at the last look for faulty sectors.
    looked_for_faults: BTreeMap<MinerId, (Epoch, u64)>,
    /// The partitions that are being read ahead.
    ahead: BTreeMap<ProofId, Ahead>,
    /// The open deadline of each miner at the last look at what comes next.
    looked_ahead: BTreeMap<MinerId, (Epoch, u64)>,
    /// What each miner's next proofs lacked when that was looked at last.
    lacks: BTreeMap<MinerId, Lacks>,
}

impl Memory {
    /// Remembers what a worker says.
    pub fn hear(&mut self, said: PostSaid) {
        if let Some(making) = self.making.values_mut().find(|making| making.is_of(said.miner, &said.job)) {
            making.hear(&said);
        }
        let mut recovering = self.recovering.values_mut();
        if let Some(recovering) = recovering.find(|recovering| recovering.is_of(said.miner, &said.job)) {
            recovering.hear(&said);
            return;
        }
        if let Some(ahead) = self.ahead.values_mut().find(|ahead| ahead.is_of(said.miner, &said.job)) {
            ahead.hear(&said);
            return;
        }
        self.said.entry((said.miner, said.job.clone())).or_default().push(said);
    }
}

/// Why a proof does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node.
    #[error("the chain cannot be asked")]
    Node(#[from] ChainError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus.
    #[error("the bus")]
    Bus(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The configured sender.
    #[error("senders.window_post or sender of its [[miner]]")]
    Sender(#[from] NotASender),
    /// A CommR on chain is none.
    #[error(transparent)]
    Commitment(#[from] commitment::Error),
    /// Something of the chain is not as it must be.
    #[error("{0}")]
    Odd(String),
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Proves forever. Only the loss of the database or of the fold ends it.
    pub async fn run(&self) -> Result<Infallible, StoreError> {
        if !self.config.miners.iter().any(|miner| miner.prove) {
            return std::future::pending().await;
        }
        let mut memory = Memory::default();
        let mut heard = None;
        loop {
            if heard.is_none() {
                heard = self.tasks.reports().await.ok();
            }
            self.look(&mut memory).await?;
            let pause = self.config.chain.head_interval(self.epoch_millis).max(self.config.chain.poll_interval());
            let Some(reports) = &mut heard else {
                tokio::time::sleep(LISTEN_AGAIN.min(pause)).await;
                continue;
            };
            tokio::select! {
                report = reports.next() => match report {
                    Some(Ok(said)) => memory.hear(said),
                    _ => heard = None,
                },
                () = tokio::time::sleep(pause) => {}
            }
            // Workers say much at a time, and a look costs calls to the node.
            tokio::time::sleep(LOOK_GAP).await;
            while let Some(reports) = &mut heard
                && let Some(next) = tokio::task::unconstrained(reports.next()).now_or_never().flatten()
            {
                match next {
                    Ok(said) => memory.hear(said),
                    Err(_) => heard = None,
                }
            }
        }
    }

    /// Looks once at all miners and all proofs that are open. A failure affects only its own miner or proof.
    pub async fn look(&self, memory: &mut Memory) -> Result<(), StoreError> {
        // Whoever drives sectors reports a node that does not answer.
        let Ok(head) = self.node.chain_head().await else { return Ok(()) };
        let proven = || self.config.miners.iter().filter(|miner| miner.prove);
        let mut deadlines = Vec::new();
        for miner in proven() {
            let begun = match self.node.miner_proving_deadline(&crate::drive::address(miner.id), &head.key).await {
                Ok(told) => {
                    let begun = self.begin_turns(memory, miner.id, &told, &head).await;
                    deadlines.push((miner.id, told));
                    begun
                }
                Err(error) => Err(error.into()),
            };
            match begun {
                Ok(()) => {}
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(miner = %miner.id, cause = chain_of(&error), "cannot tell what is to be proven")
                }
            }
        }
        let proofs = self.store.open_proofs().await?;
        for proof in &proofs {
            match self.step(memory, proof.clone(), &head).await {
                Ok(()) => {}
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    if let Some(making) = memory.making.get_mut(&proof.id) {
                        making.waits_at = None;
                    }
                    self.held(proof, &chain_of(&error));
                }
            }
        }
        self.tell_due(memory, &proofs).await;
        // What comes later does not hold up what is due: with many miners, or a slow node, this takes seconds.
        for (miner, told) in &deadlines {
            match self.prepare(memory, *miner, told, &head).await {
                Ok(()) => {}
                Err(Error::Store(error)) => return Err(error),
                Err(error) => tracing::warn!(%miner, cause = chain_of(&error), "what comes next is not prepared"),
            }
        }
        self.forget(memory, &proofs, head.height).await
    }

    /// Begins the proofs of the turns whose challenge is known.
    async fn begin_turns(
        &self,
        memory: &mut Memory,
        miner: MinerId,
        told: &ProvingDeadline,
        head: &TipSet,
    ) -> Result<(), Error> {
        for turn in turns_at(told, head.height) {
            let key = (miner, turn.period, turn.deadline);
            if !memory.begun.contains(&key) {
                self.begin_turn(miner, &turn, head).await?;
                memory.begun.insert(key);
            }
        }
        self.look_ahead_for_seats(memory, miner, told, head).await
    }

    /// Prepares what comes after the turns that were begun.
    async fn prepare(
        &self,
        memory: &mut Memory,
        miner: MinerId,
        told: &ProvingDeadline,
        head: &TipSet,
    ) -> Result<(), Error> {
        // Before there is work, so that workers wait at them.
        let reads = self.config.stores.iter().map(|store| PostQueue::Reads { miner, store: store.name.clone() });
        for queue in reads.chain([PostQueue::Proves { miner }]) {
            self.ensure(&mut memory.queues, queue).await?;
        }
        self.recover(memory, miner, told, head).await?;
        self.read_ahead(memory, miner, told, head).await?;
        self.look_for_lacks(memory, miner, head).await
    }

    /// Takes the next steps of one proof.
    async fn step(&self, memory: &mut Memory, mut proof: PartitionProof, head: &TipSet) -> Result<(), Error> {
        let id = proof.id;
        if !memory.making.contains_key(&id) {
            let mut making = self.making(&proof, head).await?;
            if let Some(job) = id.job() {
                memory.said.get(&(id.miner, job)).into_iter().flatten().for_each(|said| making.hear(said));
            }
            memory.making.insert(id, making);
        }
        let Memory { making, queues, .. } = memory;
        let Some(making) = making.get_mut(&id) else { return Ok(()) };
        if making.is_quiet(head.height) {
            return Ok(());
        }
        making.take_heard(head.height);
        making.waits_at = Some(head.height);
        for step in decide::next(&proof, &making.turn, &making.reads, &making.outcomes(), head.height) {
            if !matches!(step, Step::Read(_) | Step::Offer { .. } | Step::Follow) {
                making.waits_at = None;
            }
            match step {
                Step::Read(pieces) => self.offer_reads(making, queues, &proof, pieces, head).await?,
                Step::Begin(attempt) => self.begin_attempt(making, queues, &mut proof, attempt, head).await?,
                Step::Offer { attempt } => self.offer_attempt(making, queues, &proof, attempt, head).await?,
                Step::Verify { attempt, worker, proof: claimed } => {
                    self.verify(making, &mut proof, (attempt, &worker, claimed), head).await?;
                }
                Step::Ask => self.ask(&mut proof, head).await?,
                Step::Follow => self.follow(&mut proof, head).await?,
                Step::Close => self.close(&mut proof, head).await?,
            }
        }
        self.tell(&proof, making, head.height);
        Ok(())
    }

    /// Says what holds a proof up, if it should be further.
    fn tell(&self, proof: &PartitionProof, making: &Making, head: Epoch) {
        match making.late(proof, head) {
            Some(cause) if proof.state.is_open() => self.held(proof, &cause),
            _ => self.waits.goes_on(&Subject::Proof(proof.id)),
        }
    }

    fn held(&self, proof: &PartitionProof, cause: &str) {
        let text = format!("{cause}; the deadline closes at epoch {}", proof.close);
        let pause = self.config.chain.poll_interval();
        self.waits.waits(&Subject::Proof(proof.id), Cause::passing(ErrorCode::POST_AT_RISK, text), pause);
    }

    /// Drops what is of no use any more: tasks and memories of proofs that are not being made.
    async fn forget(&self, memory: &mut Memory, open: &[PartitionProof], head: Epoch) -> Result<(), StoreError> {
        let is_made = |id: &ProofId| open.iter().any(|proof| proof.id == *id && proof.state == ProofState::Making);
        let ended: Vec<ProofId> = memory.making.keys().filter(|id| !is_made(id)).copied().collect();
        for id in ended {
            let is_open = open.iter().any(|proof| proof.id == id);
            let Some(making) = memory.making.get_mut(&id) else { continue };
            if !making.withdrawn {
                making.withdrawn = true;
                if let Some(job) = id.job()
                    && let Err(error) = self.tasks.withdraw(id.miner, &job).await
                {
                    tracing::debug!(%error, "tasks of no use stay in the queue until they are too old");
                }
            }
            if !is_open {
                memory.making.remove(&id);
                id.job().and_then(|job| memory.said.remove(&(id.miner, job)));
                self.waits.goes_on(&Subject::Proof(id));
            }
        }
        // What workers say of other jobs: of blocks, of recoveries that are done, of proofs that have ended.
        let jobs: BTreeSet<(MinerId, PostJob)> =
            open.iter().filter_map(|proof| Some((proof.id.miner, proof.id.job()?))).collect();
        memory.said.retain(|job, _| jobs.contains(job));
        let open: BTreeSet<Subject> = open.iter().map(|proof| Subject::Proof(proof.id)).collect();
        self.waits.keep_only(&["proof"], &open);
        let proving = self.config.miners.iter().filter(|miner| miner.prove);
        self.waits.keep_only(&["proofs"], &proving.map(|miner| Subject::NextProofs(miner.id)).collect());
        // A turn that closed a day ago is not begun again, because no node tells of it.
        memory.begun.retain(|(_, period, _)| period + BEGUN_KEPT > head);
        Ok(())
    }
}
