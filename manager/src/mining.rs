//! Blocks: tries to win each epoch for each miner that mines, and makes a block when it has won.
//!
//! - [`pace`]: which epoch a block may be made for now; pure.
//! - [`attempt`]: one try. It keeps a miner from making two blocks for one epoch.
//! - [`prove`]: the winning PoSt, by tasks for workers. [`heard`]: what they say.
//! - [`block`]: what is stored of a won epoch.
//! - [`settle`]: what became of submitted blocks.
//! - [`rehearse`]: a winning PoSt without having won, once a day.
//!
//! The work of a block has some 20 seconds. So each miner has a loop of its own, and nothing waits for a tick.

pub mod attempt;
pub mod block;
pub mod heard;
pub mod pace;
pub mod prove;
pub mod rehearse;
pub mod settle;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt, future};
use sealbus_nats::post::PostQueue;
use sealbus_schema::{ErrorCode, MinerId};
use time::OffsetDateTime;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    chain::{Error as ChainError, NodeClient, Transport, node::mining::Base, types::Epoch, types::TipSetKey},
    config::Config,
    drive::chain_of,
    proofs::Verifier,
    proving::{Error, tasks::Tasks},
    store::{Store, StoreError},
    waits::{Cause, Subject, Waits},
};
use attempt::Outcome;
use heard::Heard;
use pace::{Pace, Round, When};

/// The pause before the reports are listened to again after that failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Makes blocks for one manager's miners.
pub struct Mining<'a, T, B> {
    node: &'a NodeClient<T>,
    store: &'a Store,
    tasks: &'a B,
    config: &'a Config,
    /// The epoch with which the manager took over.
    epoch: i64,
    epoch_millis: u64,
    verifier: &'a Arc<dyn Verifier>,
    waits: &'a Waits,
    pace: Pace,
    heard: Heard,
    /// The queues that exist.
    queues: Mutex<BTreeSet<PostQueue>>,
}

/// What is needed to make blocks.
pub struct Surroundings<'a, T, B> {
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
    /// The network's epoch length in milliseconds; 0 if it is less than a second.
    pub epoch_millis: u64,
    /// Verifies proofs.
    pub verifier: &'a Arc<dyn Verifier>,
    /// Where it is said what keeps a miner from making blocks.
    pub waits: &'a Waits,
}

/// What is remembered of a miner between two looks.
#[derive(Debug, Default)]
pub struct Memory {
    /// The last epoch that was tried.
    tried: Option<Epoch>,
    /// The head for which submitted blocks were looked at.
    settled: Option<TipSetKey>,
    /// The last rehearsal; the outer `None` if it was not read yet.
    rehearsed: Option<Option<Epoch>>,
    /// Why the last proof failed.
    trouble: Option<String>,
}

impl<'a, T: Transport, B: Tasks> Mining<'a, T, B> {
    /// With nothing heard.
    pub fn new(with: Surroundings<'a, T, B>) -> Mining<'a, T, B> {
        let Surroundings { node, store, tasks, config, epoch, epoch_millis, verifier, waits } = with;
        Mining {
            pace: Pace::new(epoch_millis, config.mining.propagation_delay_ms),
            heard: Heard::default(),
            queues: Mutex::default(),
            node,
            store,
            tasks,
            config,
            epoch,
            epoch_millis,
            verifier,
            waits,
        }
    }

    /// Makes blocks forever. Only the loss of the database or of the fold ends it.
    pub async fn run(&self) -> Result<Infallible, StoreError> {
        let miners: Vec<MinerId> = self.config.miners.iter().filter(|miner| miner.mine).map(|miner| miner.id).collect();
        let mining: BTreeSet<Subject> = miners.iter().map(|miner| Subject::Blocks(*miner)).collect();
        self.waits.keep_only(&["blocks"], &mining);
        if miners.is_empty() {
            return future::pending().await;
        }
        let loops = miners.into_iter().map(|miner| Box::pin(self.mine(miner)));
        tokio::select! {
            (ended, ..) = future::select_all(loops) => ended,
            never = self.listen() => match never {},
        }
    }

    /// Hears what workers report.
    pub async fn listen(&self) -> Infallible {
        loop {
            match self.tasks.reports().await {
                Ok(mut reports) => {
                    while let Some(Ok(said)) = reports.next().await {
                        self.heard.hear(said);
                    }
                }
                Err(error) => tracing::debug!(cause = chain_of(&error), "reports cannot be heard"),
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// One miner's loop.
    async fn mine(&self, miner: MinerId) -> Result<Infallible, StoreError> {
        let mut memory = Memory::default();
        let subject = Subject::Blocks(miner);
        loop {
            let looked = self.look(miner, &mut memory).await;
            let pause = match looked {
                Ok(pause) => {
                    match &memory.trouble {
                        None => self.waits.goes_on(&subject),
                        Some(cause) => self.at_risk(&subject, cause),
                    }
                    pause
                }
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    self.at_risk(&subject, &chain_of(&error));
                    FAILED_PAUSE.min(Duration::from_millis(self.epoch_millis / 10)).max(self.head_interval())
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn at_risk(&self, subject: &Subject, cause: &str) {
        self.waits.waits(subject, Cause::passing(ErrorCode::BLOCKS_AT_RISK, cause), FAILED_PAUSE);
    }

    /// Looks once whether an epoch can be tried, and tries it. Returns when to look again.
    pub async fn look(&self, miner: MinerId, memory: &mut Memory) -> Result<Duration, Error> {
        let base = self.node.base().await?;
        let round = match self.pace.round(base.height, base.timestamp(), memory.tried, self.now_ms()) {
            When::Now(round) => round,
            When::Later(millis) => {
                self.settle_once(miner, &base, base.height + 1, memory).await?;
                let pause = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
                return Ok(pause.min(self.head_interval()));
            }
        };
        self.settle_once(miner, &base, round.epoch, memory).await?;
        let outcome = match self.attempt(miner, &base, &round).await {
            // Nobody can time these epochs: this one has not come.
            Err(Error::Node(ChainError::Refused { method: "MinerGetBaseInfo", .. })) if is_a_guess(&round) => {
                return Ok(self.head_interval());
            }
            outcome => outcome?,
        };
        memory.tried = Some(round.epoch);
        match outcome {
            Outcome::Lost(cause) => {
                memory.trouble = Some(format!("the block of epoch {} is lost: {cause}", round.epoch))
            }
            Outcome::Submitted => memory.trouble = None,
            Outcome::NotWon | Outcome::NotEligible | Outcome::Known(_) => {
                self.rehearse_if_due(miner, &base, &round, memory).await?;
            }
        }
        Ok(self.head_interval())
    }

    /// Makes the queues of the miner's tasks. A worker looks for a queue that is missing each half minute only, which is
    /// too late when an epoch is won.
    async fn prepare(&self, miner: MinerId) -> Result<(), Error> {
        self.ensure(PostQueue::WinningProves { miner }).await?;
        let configured = self.config.stores.iter().map(|store| store.name.clone());
        let known = self.store.known_stores().await?.into_iter().map(|store| store.name);
        for store in configured.chain(known) {
            self.ensure(PostQueue::WinningReads { miner, store }).await?;
        }
        Ok(())
    }

    async fn settle_once(&self, miner: MinerId, base: &Base, current: Epoch, memory: &mut Memory) -> Result<(), Error> {
        if memory.settled.as_ref() != Some(&base.key) {
            self.prepare(miner).await?;
            self.settle(miner, base, current).await?;
            memory.settled = Some(base.key.clone());
        }
        Ok(())
    }

    /// Rehearses in the time that a lost election leaves.
    async fn rehearse_if_due(
        &self,
        miner: MinerId,
        base: &Base,
        round: &Round,
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let last = match memory.rehearsed {
            Some(last) => last,
            None => {
                let last = self.store.last_rehearsals(Some(miner), 1).await?.pop();
                if let Some(problem) = last.as_ref().and_then(|last| last.problem.clone()) {
                    memory.trouble.get_or_insert(in_words(problem));
                }
                *memory.rehearsed.insert(last.map(|last| last.epoch))
            }
        };
        if !rehearse::is_due(last, memory.trouble.is_some(), base.height) {
            return Ok(());
        }
        let until = Instant::now() + self.until(round.closes);
        let done = self.rehearse(miner, base, until).await?;
        memory.rehearsed = Some(Some(base.height));
        if let Some(done) = done {
            memory.trouble = done.problem.map(in_words);
        }
        Ok(())
    }

    /// The real time, in milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// How long it is until a time; 0 if it has passed.
    fn until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms - self.now_ms()).unwrap_or_default())
    }

    fn equivocation(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.pace.equivocation).unwrap_or_default())
    }

    fn head_interval(&self) -> Duration {
        self.config.chain.head_interval(self.epoch_millis)
    }
}

/// Whether the round may not have come yet.
const fn is_a_guess(round: &Round) -> bool {
    !round.is_timed && round.nulls > 0
}

fn in_words(problem: String) -> String {
    format!("a winning PoSt was rehearsed and failed: {problem}")
}
