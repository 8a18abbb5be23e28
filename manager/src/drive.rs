//! The chain's part in a sector's life.
//!
//! The driver is a reconciler: at each [`tick`] it reads the head, the open messages and the sectors that are due, and
//! moves each as far as the chain allows. It takes no input and keeps no state that a restart would need.

mod answers;
pub mod batch;
mod checks;
pub mod decide;
mod head;
mod messages;
mod pending;
mod sectors;
pub mod settling;
mod surroundings;
mod tick;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use checks::Checks;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::{MinerId, SectorId, machine::manager::AttemptPolicy, workflows::Input};

use crate::{
    chain::{Error as ChainError, NodeClient, Transport, expiry::Rules, types::TipSet},
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

/// Epochs per day: 24 hours, 30 s each.
const EPOCHS_A_DAY: i64 = 2880;

/// The least pause before a look at an announced head.
const HEAD_GAP: Duration = Duration::from_millis(5);

/// The driver of one manager.
pub struct Driver<T> {
    node: Arc<NodeClient<T>>,
    store: Store,
    config: Arc<Config>,
    epoch: i64,
    rules: Rules,
    /// The network's epoch length in milliseconds.
    epoch_millis: u64,
    /// Rings when the database has changed. The fold and a person's command ring it for us; we ring it for the outbox.
    changed: Wake,
    /// Rings when the node has a new head.
    heads: Wake,
    checks: Checks,
    verifier: Arc<dyn Verifier>,
    waits: Arc<Waits>,
    head: Mutex<HeadWatch>,
    /// The head that was last heard of, and when. `None` if the node did not answer.
    followed: Mutex<Option<(TipSet, tokio::time::Instant)>>,
    surroundings: Surroundings,
    aggregations: messages::Aggregations,
    /// The item at which the last tick had lost too much time. The next tick starts behind it.
    slow: Mutex<Option<Subject>>,
    numbering: Numbering,
    /// The confident tipset of the last tick. What was read at it is valid as long as it is part of the chain.
    confident: Mutex<Option<TipSet>>,
    /// The epoch at which each pushed message was first seen as pushed.
    pushed: Mutex<HashMap<String, i64>>,
    /// Whether the database was restored, and messages that it does not know may still land.
    restored: AtomicBool,
    /// The head's epoch when that was first looked at.
    settles_from: Mutex<Option<i64>>,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing delays it, as far as this step can tell.
    GoesOn,
    /// The same, and if it does not change, there is nothing to do before the head reaches this epoch. `None`: nothing to
    /// do until it changes.
    Later(Option<i64>),
    /// It is not known yet, or reported elsewhere.
    Undecided,
}

/// The chain at one tick.
struct View {
    /// The heaviest tipset.
    head: TipSet,
    /// The confident tipset.
    lagged: TipSet,
}

impl View {
    /// The present base fee per unit of gas.
    fn base_fee(&self) -> TokenAmount {
        self.head.base_fee().cloned().unwrap_or_default()
    }
}

/// Why the driver could not continue.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The node failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network has constants that we cannot work with.
    #[error("the network's constants make no sense")]
    Rules(#[from] crate::chain::expiry::Error),
    /// We cannot build messages for this network version.
    #[error(transparent)]
    Network(#[from] crate::chain::network::Unsupported),
    /// A message could not be built.
    #[error(transparent)]
    Message(#[from] crate::chain::message::Error),
    /// The wallet did not sign.
    #[error("the node's wallet did not sign")]
    Sign(#[from] crate::chain::node::SignError),
    /// A commitment from a worker is not a field element.
    #[error(transparent)]
    Commitment(#[from] crate::chain::commitment::Error),
    /// Nothing is broken: a message waits for a named reason.
    #[error(transparent)]
    Waits(#[from] crate::chain::WaitReason),
    /// The configured sender is not an address of the miner.
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
        let waits = Arc::new(Waits::load(&store, epoch).await?);
        Ok(Driver {
            waits,
            head: Mutex::default(),
            followed: Mutex::default(),
            heads: Wake::default(),
            surroundings: Surroundings::default(),
            aggregations: messages::Aggregations::default(),
            slow: Mutex::default(),
            pushed: Mutex::default(),
            restored: AtomicBool::new(store.restored().await?.is_some()),
            settles_from: Mutex::default(),
            numbering: Numbering::default(),
            confident: Mutex::default(),
            node,
            store,
            epoch,
            rules: Rules::new(params.pre_commit_challenge_delay)?,
            epoch_millis: params.block_delay_secs * 1000,
            changed,
            checks: Checks::default(),
            verifier,
            config,
        })
    }

    /// The number of epochs from a PreCommit to its seed.
    pub fn seed_delay(&self) -> i64 {
        self.rules.prove_commit_earliest(0) - 1
    }

    /// Waits until messages may be signed again after a restoration.
    pub async fn settled(&self) {
        while self.restored.load(Ordering::Relaxed) {
            tokio::time::sleep(self.config.chain.poll_interval()).await;
        }
    }

    /// The waits, for other reconcilers to report theirs.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Runs forever. Only the loss of the database or of the fold ends it.
    pub async fn run(&self) -> Result<std::convert::Infallible, StoreError> {
        // Check once before any number is given out.
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
            // Acknowledge the wake-ups before the tick, because a later one may come too late for it.
            changes.answer();
            heads.answer();
            match self.tick().await {
                Ok(()) => tokio::select! {
                    () = changes.woken() => {}
                    () = heads.woken() => {}
                    () = tokio::time::sleep(pause) => {}
                },
                Err(DriveError::Store(error)) => return Err(error),
                // Without the node nothing can be done, so do not wake up for other changes.
                Err(error) => {
                    let pause = self.waits.waits(&Subject::Node, waits::of_node_error(&error), pause);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Rings when the node has a new head. The node is asked at a short interval, and at once when it announces another
    /// head. The interval does not depend on the announcements: a connection that is half open looks like a quiet chain,
    /// and until that is noticed nothing may be slower than without announcements.
    async fn follow_head(&self) -> std::convert::Infallible {
        let (interval, noticed) = (self.config.chain.head_interval(self.epoch_millis), Wake::default());
        let mut announced = noticed.listen();
        let asking = async {
            let mut known = None;
            loop {
                announced.answer();
                let since = tokio::time::Instant::now();
                let asked = self.node.chain_head().await;
                *lock(&self.followed) = asked.as_ref().ok().map(|head| (head.clone(), tokio::time::Instant::now()));
                let pause = match asked {
                    Ok(head) if known.as_ref() == Some(&head.key) => interval,
                    Ok(head) => {
                        known = Some(head.key);
                        self.heads.ring();
                        interval
                    }
                    // Reported by the driver.
                    Err(_) => self.config.chain.poll_interval(),
                };
                tokio::select! {
                    // The gap bounds what a node costs that announces without end.
                    () = announced.woken() => tokio::time::sleep_until(since + HEAD_GAP).await,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        tokio::select! {
            never = asking => never,
            never = self.node.transport().follow_heads(head::still_max(self.epoch_millis), &noticed) => never,
        }
    }

    /// The head, not older than one interval of following it. Ticks come several to a head, and each would ask again.
    async fn present_head(&self) -> Result<TipSet, ChainError> {
        let followed = lock(&self.followed).clone();
        match followed {
            Some((head, at)) if at.elapsed() < self.config.chain.head_interval(self.epoch_millis) => Ok(head),
            _ => self.node.chain_head().await,
        }
    }

    /// Reports a head that is not where it should be by now.
    fn judge_head(&self, head: &TipSet) {
        let unix_secs =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = tokio::time::Instant::now();
        match lock(&self.head).judge(head, self.epoch_millis, now, unix_secs) {
            Some(cause) => drop(self.waits.waits(&Subject::Node, cause, self.config.chain.poll_interval())),
            None => self.waits.goes_on(&Subject::Node),
        }
    }

    /// Applies an input from the chain to one sector. The sector is read again, because it may have changed meanwhile.
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

    /// The key addresses that may send a kind of a miner's messages, the preferred one first.
    async fn senders(&self, miner: MinerId, kind: MessageKind, view: &View) -> Result<Vec<Address>, DriveError> {
        let (info, head) = (self.node.miner_info(&address(miner), &view.head.key).await?, &view.head.key);
        let addresses = preflight::senders(&self.node, self.config.miner(miner), kind, &info, head).await??;
        let mut keys = Vec::new();
        for address in addresses {
            keys.push(self.node.account_key(&address, head).await?);
        }
        Ok(keys)
    }
}

/// Applies an input from the chain or a store. If it is the effect of a message, the message's end and the sector's new
/// state are stored in one transaction.
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
