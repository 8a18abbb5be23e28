//! The chain's side of every sector's life.
//!
//! A reconciler: at each [`tick`] it reads the head, the open messages and the sectors that are due, and moves each as far
//! as the chain allows. It takes no input and keeps nothing that a restart would miss.

mod answers;
mod checks;
pub mod decide;
mod head;
mod messages;
mod pending;
mod sectors;
mod surroundings;
mod tick;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use checks::Checks;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::{MinerId, SectorId, machine::manager::AttemptPolicy, workflows::Input};

use crate::{
    chain::{Error as ChainError, NodeClient, Transport, expiry::Rules, json::parse_tokens, types::TipSet},
    config::Config,
    intents::Numbering,
    life, preflight,
    proofs::Verifier,
    store::{Happening, MessageKind, Store, StoreError},
    waits::{self, Subject, Waits},
    wake::Wake,
    workflows::Now,
};
use head::HeadWatch;
use surroundings::Surroundings;

/// Epochs of a day: 24 hours of 30 s.
const EPOCHS_A_DAY: i64 = 2880;

/// The driver of one manager.
pub struct Driver<T> {
    node: Arc<NodeClient<T>>,
    store: Store,
    config: Arc<Config>,
    epoch: i64,
    rules: Rules,
    /// The length of an epoch in milliseconds, as the network says.
    epoch_millis: u64,
    max_fee: TokenAmount,
    /// Rings when the database changed: the fold and a person's command ring for us, we ring for the outbox.
    changed: Wake,
    /// Rings when the node has another head.
    heads: Wake,
    checks: Checks,
    verifier: Arc<dyn Verifier>,
    waits: Arc<Waits>,
    head: Mutex<HeadWatch>,
    surroundings: Surroundings,
    /// Where the last tick lost too much time: the next one goes on behind it.
    slow: Mutex<Option<Subject>>,
    numbering: Numbering,
    /// The confident tipset of the last tick: what was read at it holds as long as it is part of the chain.
    confident: Mutex<Option<TipSet>>,
    /// At which epoch each message that is pushed was first seen so.
    pushed: Mutex<HashMap<String, i64>>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing holds it up, as far as this step can tell.
    GoesOn,
    /// The same, and if nothing changes there is nothing to see before the head comes to this epoch. `None`: nothing at all.
    Later(Option<i64>),
    /// It is still being found out, or told elsewhere.
    Undecided,
}

/// The chain at one tick.
struct View {
    /// The heaviest tipset.
    head: TipSet,
    /// What is confident.
    lagged: TipSet,
}

impl View {
    /// What a unit of gas costs now.
    fn base_fee(&self) -> TokenAmount {
        self.head.base_fee().cloned().unwrap_or_default()
    }
}

/// Why the driver could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The node.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node's network has constants that we cannot work with.
    #[error("the network's constants make no sense")]
    Rules(#[from] crate::chain::expiry::Error),
    /// The network version is not one that we know how to build messages for.
    #[error(transparent)]
    Network(#[from] crate::chain::network::Unsupported),
    /// A message could not be built.
    #[error(transparent)]
    Message(#[from] crate::chain::message::Error),
    /// The wallet did not sign.
    #[error("the node's wallet did not sign")]
    Sign(#[from] crate::chain::node::SignError),
    /// A commitment from a worker is no field element.
    #[error(transparent)]
    Commitment(#[from] crate::chain::commitment::Error),
    /// Nothing is broken: a message waits for something that has a name.
    #[error(transparent)]
    Waits(#[from] crate::chain::WaitReason),
    /// The miner does not name the configured sender.
    #[error(transparent)]
    Sender(#[from] preflight::NotASender),
    /// A configured value that the node cannot resolve.
    #[error("{field}: {problem}")]
    Config {
        /// The field.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl<T: Transport + 'static> Driver<T> {
    /// Reads the network's constants.
    pub async fn new(
        node: Arc<NodeClient<T>>,
        store: Store,
        config: Arc<Config>,
        epoch: i64,
        changed: Wake,
        verifier: Arc<dyn Verifier>,
    ) -> Result<Driver<T>, DriveError> {
        let params = node.network_params().await?;
        let max_fee = parse_tokens(&config.chain.max_fee_atto)
            .map_err(|problem| DriveError::Config { field: "chain.max_fee_atto".to_owned(), problem })?;
        let waits = Arc::new(Waits::load(&store, epoch).await?);
        Ok(Driver {
            waits,
            head: Mutex::default(),
            heads: Wake::default(),
            surroundings: Surroundings::default(),
            slow: Mutex::default(),
            pushed: Mutex::default(),
            numbering: Numbering::default(),
            confident: Mutex::default(),
            node,
            store,
            epoch,
            rules: Rules::new(params.pre_commit_challenge_delay)?,
            epoch_millis: params.block_delay_secs * 1000,
            max_fee,
            changed,
            checks: Checks::default(),
            verifier,
            config,
        })
    }

    /// What waits, for the other reconcilers to tell theirs.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Drives for ever. Only the loss of the database or of the fold ends it.
    pub async fn run(&self) -> Result<std::convert::Infallible, StoreError> {
        // Before anything is given out.
        self.look_around().await;
        tokio::select! {
            ended = self.drive() => ended,
            ended = self.waits.keep() => ended,
            never = self.watch_surroundings() => match never {},
            never = self.follow_head() => match never {},
        }
    }

    async fn drive(&self) -> Result<std::convert::Infallible, StoreError> {
        let (mut changes, mut heads) = (self.changed.listen(), self.heads.listen());
        loop {
            let pause = self.config.chain.poll_interval();
            // Whatever rings from here on may come too late for this tick.
            changes.answer();
            heads.answer();
            match self.tick().await {
                Ok(()) => tokio::select! {
                    () = changes.woken() => {}
                    () = heads.woken() => {}
                    () = tokio::time::sleep(pause) => {}
                },
                Err(DriveError::Store(error)) => return Err(error),
                // Without the node nothing goes on, whatever else changes.
                Err(error) => {
                    let pause = self.waits.waits(&Subject::Node, waits::of_node_error(&error), pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Rings when the node has another head. One small call at a short interval: what waits for the chain should not wait
    /// for us as well.
    async fn follow_head(&self) -> std::convert::Infallible {
        let (interval, mut known) = (self.config.chain.head_interval(self.epoch_millis), None);
        loop {
            let pause = match self.node.chain_head().await {
                Ok(head) if known.as_ref() == Some(&head.key) => interval,
                Ok(head) => {
                    known = Some(head.key);
                    self.heads.ring();
                    interval
                }
                // The driver says so.
                Err(_) => self.config.chain.poll_interval(),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Says whether the head is where it should be by now.
    fn judge_head(&self, head: &TipSet) {
        let unix_secs =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = tokio::time::Instant::now();
        match lock(&self.head).judge(head, self.epoch_millis, now, unix_secs) {
            Some(cause) => drop(self.waits.waits(&Subject::Node, cause, self.config.chain.poll_interval())),
            None => self.waits.goes_on(&Subject::Node),
        }
    }

    /// Applies what the chain brought to one sector. The sector is read again: what came meanwhile counts.
    async fn apply(&self, id: SectorId, input: Input) -> Result<(), StoreError> {
        apply_to(&self.store, self.epoch, id, None, input, self.policy()).await?;
        self.changed.ring();
        Ok(())
    }

    /// The chain's time and rules, for decisions.
    fn now(&self, view: &View) -> Now {
        let (head, lagged) = (view.head.height, view.lagged.height);
        let (confidence, rules) = (self.config.chain.confidence_epochs, self.rules);
        Now { head, lagged, confidence, rules, epoch_millis: self.epoch_millis }
    }

    fn policy(&self) -> AttemptPolicy {
        attempt_policy(&self.config)
    }

    /// The key address that sends a miner's messages.
    async fn sender(&self, miner: MinerId, view: &View) -> Result<Address, DriveError> {
        let info = self.node.miner_info(&address(miner), &view.head.key).await?;
        let address = preflight::sender(&self.node, self.config.miner(miner), &info, &view.head.key).await??;
        Ok(self.node.account_key(&address, &view.head.key).await?)
    }
}

/// Applies what the chain or a store brought. If it is the effect of a message, the message's end and the sector's step are
/// one transaction.
async fn apply_to(
    store: &Store,
    epoch: i64,
    id: SectorId,
    landed: Option<(MessageKind, i64)>,
    input: Input,
    policy: AttemptPolicy,
) -> Result<(), StoreError> {
    let (kind, detail) = decide::told(&input);
    let mut tx = store.begin_as(epoch).await?;
    if let Some((message, height)) = landed {
        tx.mark_landed(message, id, height).await?;
    }
    if let Some(sector) = tx.sector(id).await? {
        life::apply(&mut tx, sector, input, Happening::of_manager(kind, detail), policy).await?;
    }
    tx.commit().await
}

/// How many attempts a sector gets.
pub fn attempt_policy(config: &Config) -> AttemptPolicy {
    AttemptPolicy { max_attempts: config.policy.max_attempts, max_issues: config.policy.max_issues }
}

/// A miner's actor address.
pub fn address(miner: MinerId) -> Address {
    Address::new_id(miner.0)
}

/// The epoch at which an operator wants a new sector to end.
pub fn wanted_expiration(lifetime_days: Option<u32>, head: i64) -> Option<i64> {
    lifetime_days.map(|days| head + i64::from(days) * EPOCHS_A_DAY)
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes in one line.
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
