//! The chain's side of every sector's life.
//!
//! A reconciler: at each tick it reads the head, the open messages and the live sectors, and moves each as far as the
//! chain allows. It takes no input and keeps nothing that a restart would miss.

pub mod decide;
mod landing;
mod messages;
mod sectors;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use decide::Now;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, MinerId, SectorId,
    seal::manager::{AttemptPolicy, Input},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    chain::{Error as ChainError, NodeClient, Transport, expiry::Rules, json::parse_tokens, types::TipSet},
    config::Config,
    intents::{self, IntentsError},
    life,
    proofs::Verifier,
    store::{Happening, Store, StoreError},
};

/// The longest pause after the node failed.
const MAX_PAUSE: Duration = Duration::from_secs(30);

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
    /// Woken by the fold, and wakes the outbox.
    changed: Arc<Notify>,
    /// Sectors whose files are being read.
    checking: Arc<Mutex<HashSet<SectorId>>>,
    verifier: Arc<dyn Verifier>,
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
    /// A configured value that the node cannot resolve.
    #[error("{field}: {problem}")]
    Config {
        /// The field.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl From<IntentsError> for DriveError {
    fn from(error: IntentsError) -> DriveError {
        match error {
            IntentsError::Chain(error) => DriveError::Chain(error),
            IntentsError::Store(error) => DriveError::Store(error),
        }
    }
}

impl<T: Transport + 'static> Driver<T> {
    /// Reads the network's constants.
    pub async fn new(
        node: Arc<NodeClient<T>>,
        store: Store,
        config: Arc<Config>,
        epoch: i64,
        changed: Arc<Notify>,
        verifier: Arc<dyn Verifier>,
    ) -> Result<Driver<T>, DriveError> {
        let params = node.network_params().await?;
        let max_fee = parse_tokens(&config.chain.max_fee_atto)
            .map_err(|problem| DriveError::Config { field: "chain.max_fee_atto".to_owned(), problem })?;
        Ok(Driver {
            node,
            store,
            epoch,
            rules: Rules::new(params.pre_commit_challenge_delay)?,
            epoch_millis: params.block_delay_secs * 1000,
            max_fee,
            changed,
            checking: Arc::default(),
            verifier,
            config,
        })
    }

    /// Drives for ever. Only the loss of the database or of the fold ends it.
    pub async fn run(&self) -> Result<std::convert::Infallible, StoreError> {
        let mut pause = self.config.chain.poll_interval();
        loop {
            match self.tick().await {
                Ok(()) => pause = self.config.chain.poll_interval(),
                Err(DriveError::Store(error)) => return Err(error),
                Err(error) => {
                    pause = (pause * 2).min(MAX_PAUSE);
                    log_failure(&error, pause);
                }
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round over everything. A sector that fails does not stop the others; a node that fails does.
    pub async fn tick(&self) -> Result<(), DriveError> {
        let head = self.node.chain_head().await?;
        let lagged = self.node.lagged_tipset(&head, self.config.chain.confidence_epochs).await?;
        let view = View { head, lagged };
        if intents::reconcile(&self.store, &self.node, &self.config, self.epoch).await? {
            self.changed.notify_waiters();
        }
        for sector in self.store.live_sectors().await? {
            self.guarded(sector.id, self.step_sector(&view, &sector).await).await?;
        }
        for message in self.store.open_messages().await? {
            self.guarded(message.sector, self.step_message(&view, message).await).await?;
        }
        Ok(())
    }

    /// Lets one sector's trouble be that sector's.
    async fn guarded(&self, sector: SectorId, outcome: Result<(), DriveError>) -> Result<(), DriveError> {
        match outcome {
            // No waiting turns it into another one.
            Err(DriveError::Commitment(error)) => {
                let report = ErrorReport::from_error(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, &error);
                Ok(self.apply(sector, Input::Refused(report)).await?)
            }
            Err(DriveError::Store(error)) => Err(DriveError::Store(error)),
            Err(DriveError::Chain(error)) if error.is_transient() || error.needs_person() => {
                Err(DriveError::Chain(error))
            }
            Err(error) => {
                tracing::error!(%sector, error = %chain_of(&error), "the sector cannot go on; trying again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Applies what the chain brought to one sector. The sector is read again: what came meanwhile counts.
    async fn apply(&self, id: SectorId, input: Input) -> Result<(), StoreError> {
        apply_to(&self.store, self.epoch, id, input, self.policy()).await?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// The chain's time and rules, for decisions.
    fn now(&self, view: &View) -> Now {
        let (head, lagged) = (view.head.height, view.lagged.height);
        Now { head, lagged, rules: self.rules, epoch_millis: self.epoch_millis }
    }

    fn policy(&self) -> AttemptPolicy {
        attempt_policy(&self.config)
    }

    /// The key address that sends a miner's messages.
    async fn sender(&self, miner: MinerId, view: &View) -> Result<Address, DriveError> {
        let configured = self.config.miner(miner).and_then(|m| m.sender.as_deref());
        let address = match configured {
            Some(text) => {
                crate::chain::json::parse_address(text)
                    .map_err(|e| DriveError::Config {
                        field: format!("sender of miner {miner}"),
                        problem: e.to_string(),
                    })?
                    .0
            }
            None => self.node.miner_info(&address(miner), &view.head.key).await?.worker,
        };
        Ok(self.node.account_key(&address, &view.head.key).await?)
    }
}

/// [`Driver::apply`] for work that outlives a tick.
async fn apply_to(
    store: &Store,
    epoch: i64,
    id: SectorId,
    input: Input,
    policy: AttemptPolicy,
) -> Result<(), StoreError> {
    let (kind, detail) = decide::told(&input);
    let mut tx = store.begin_as(epoch).await?;
    if let Some(sector) = tx.sector(id).await? {
        let happening = Happening::of_manager(kind, detail);
        life::apply(&mut tx, sector, input, happening, policy).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// How many attempts a sector gets.
pub fn attempt_policy(config: &Config) -> AttemptPolicy {
    AttemptPolicy { max_attempts: config.policy.max_attempts, max_issues: config.policy.max_issues }
}

/// A miner's actor address.
pub fn address(miner: MinerId) -> Address {
    Address::new_id(miner.0)
}

fn log_failure(error: &DriveError, pause: Duration) {
    let retry_in_ms = pause.as_millis() as u64;
    match error {
        DriveError::Chain(chain) if !chain.needs_person() => {
            tracing::warn!(error = %chain_of(error), retry_in_ms, "the node does not answer; trying again");
        }
        _ => tracing::error!(error = %chain_of(error), retry_in_ms, "the chain cannot be driven; trying again"),
    }
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

fn error_detail(error: &sealbus_schema::ErrorReport) -> serde_json::Value {
    json!({ "class": error.class, "code": error.code, "causes": error.causes })
}
