//! `sealbus-manager run`: checks the surroundings, waits for its turn, then starts every reconciler.
//!
//! Of several managers on one database one holds the fold; the others stand by. Whatever ends the work of the holder is
//! followed by a new start from there: nothing but the database is remembered.

use std::{sync::Arc, time::Duration};

use sealbus_nats::{
    Bus, ConnectError,
    publish::Backoff,
    topology::{StreamIdentity, TopologyError},
};
use sealbus_schema::{ErrorCode, MinerId, Plan, SectorSize};
use tokio::sync::Notify;

use crate::{
    chain::{Error as ChainError, NodeClient, RpcClient, network, types::TipSetKey},
    config::Config,
    drive::{self, DriveError, Driver, chain_of},
    fold::{self, Fold, FoldError},
    liveness, orders, outbox, preflight,
    proofs::{Library, Verifier},
    store::{Leadership, Store, StoreError},
    waits::{Cause, Subject, Waits},
};

/// How often the streams are checked; one in memory does not outlive its server.
const TOPOLOGY_PERIOD: Duration = Duration::from_secs(10);
/// The pause after the fold failed.
const FOLD_PAUSE: Duration = Duration::from_secs(1);
/// After how long a log that was opened counts as read.
const FOLD_STANDS: Duration = Duration::from_secs(5);
/// How often a manager that stands by looks whether the other one is gone.
const STANDBY_PERIOD: Duration = Duration::from_secs(1);
/// The first and the longest pause while something that we start with is not there.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Why the manager does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus does not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The log is not ours, or not readable.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The chain client cannot be set up, or the node does not let us in.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The chain cannot be driven.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The streams.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A miner that the chain does not have.
    #[error("miner[].id = \"{miner}\": the network {network} has no such miner: {reason}")]
    UnknownMiner {
        /// As configured.
        miner: MinerId,
        /// The network's name.
        network: String,
        /// The node's words.
        reason: String,
    },
    /// A miner of another sector size.
    #[error(
        "miner[].sector_size = \"{configured}\" for {miner}: on chain its sectors have {on_chain} bytes ({name}); correct the \
         configuration"
    )]
    WrongSectorSize {
        /// The miner.
        miner: MinerId,
        /// As configured.
        configured: SectorSize,
        /// In bytes.
        on_chain: u64,
        /// As it would have to be configured.
        name: String,
    },
    /// A sender whose key the node does not hold.
    #[error(
        "miner {miner}: the node's wallet has no key of {sender}, which sends its messages: import it, or set sender"
    )]
    NoKey {
        /// The miner.
        miner: MinerId,
        /// The key address.
        sender: String,
    },
    /// A sender that the miner does not name.
    #[error("miner[].sender: {0}; set another one, or make it a control address of the miner")]
    Sender(#[from] preflight::NotASender),
    /// A network whose version we cannot build messages for.
    #[error(transparent)]
    Network(#[from] network::Unsupported),
}

impl ServeError {
    /// Whether a new start may go well: the database or the fold was lost, or something that we need is away.
    fn is_transient(&self) -> bool {
        match self {
            ServeError::Store(error) | ServeError::Fold(FoldError::Store(error)) => {
                error.is_transient() || matches!(error, StoreError::TakenOver { .. })
            }
            ServeError::Fold(FoldError::Topology(_) | FoldError::Log(_)) | ServeError::Topology(_) => true,
            ServeError::Chain(error) | ServeError::Drive(DriveError::Chain(error)) => error.is_transient(),
            _ => false,
        }
    }
}

/// Runs until something is wrong that no waiting cures. The caller drops the future to stop: everything that matters is
/// stored.
pub async fn run(config: Config) -> Result<std::convert::Infallible, ServeError> {
    run_with(config, Arc::new(Library)).await
}

/// [`run`] with something else in the place of the proofs library.
pub async fn run_with(config: Config, verifier: Arc<dyn Verifier>) -> Result<std::convert::Infallible, ServeError> {
    let config = Arc::new(config);
    let store =
        patiently("the database", StoreError::is_transient, async || Store::open(&config.database).await).await?;
    let endpoint = config.chain.endpoint();
    let node = Arc::new(NodeClient::new(RpcClient::new(endpoint)?));
    let away = |error: &ServeError| matches!(error, ServeError::Chain(error) if error.is_transient());
    let node_name = format!("the chain node at {}", config.chain.url);
    patiently(&node_name, away, async || check_miners(&node, &config).await).await?;
    let bus = config.nats.connect_patiently("manager").await?;
    let manager = Manager { config, store, node, bus, verifier };
    let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
    loop {
        let started = tokio::time::Instant::now();
        let Err(error) = manager.lead().await;
        if !error.is_transient() {
            return Err(error);
        }
        if started.elapsed() > MAX_PAUSE {
            backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        }
        let pause = backoff.next_pause();
        let retry_in_ms = pause.as_millis() as u64;
        tracing::warn!(error = %chain_of(&error), retry_in_ms, "the manager does not hold the fold any more; starting again");
        tokio::time::sleep(pause).await;
    }
}

/// A manager, whether it holds the fold or not.
struct Manager {
    config: Arc<Config>,
    store: Store,
    node: Arc<NodeClient>,
    bus: Bus,
    verifier: Arc<dyn Verifier>,
}

impl Manager {
    /// Waits until no other manager has the fold, takes it, and works until it or something else is lost.
    async fn lead(&self) -> Result<std::convert::Infallible, ServeError> {
        let mut leadership = stand_by(&self.store).await?;
        tokio::select! {
            lost = leadership.lost() => Err(lost.into()),
            ended = self.work() => ended,
        }
    }

    async fn work(&self) -> Result<std::convert::Infallible, ServeError> {
        let Manager { config, store, node, bus, verifier } = self;
        patiently("the server of the streams", |_: &TopologyError| true, async || ensure_topology(bus, config).await)
            .await?;
        let epoch = fold::take_over(bus, store).await?;
        let known = bus.sectors_identity().await?;
        let changed = Arc::new(Notify::new());
        let driver =
            Driver::new(node.clone(), store.clone(), config.clone(), epoch, changed.clone(), verifier.clone()).await?;
        tracing::info!(epoch, miners = %config.miner_names(), database = %config.database, "the manager runs");
        tokio::select! {
            ended = fold_for_ever(bus, store, epoch, config, &changed, driver.waits()) => ended,
            ended = outbox::run(bus, store, epoch, &changed, driver.waits()) => Ok(ended?),
            ended = orders::run(bus, store, epoch, &changed, driver.waits()) => Ok(ended?),
            ended = driver.run() => Ok(ended?),
            ended = liveness::run(bus, store, config, epoch, &changed, driver.waits()) => Ok(ended?),
            ended = keep_topology(bus, config, &known, driver.waits()) => ended,
        }
    }
}

/// Tries until it succeeds or fails for good, with growing pauses. `what` is who does not answer meanwhile.
async fn patiently<T, E: std::error::Error>(
    what: &str,
    is_transient: impl Fn(&E) -> bool,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
    loop {
        match attempt().await {
            Err(error) if is_transient(&error) => {
                let pause = backoff.next_pause();
                let retry_in_ms = pause.as_millis() as u64;
                tracing::warn!(error = %chain_of(&error), retry_in_ms, "{what} does not answer; trying again");
                tokio::time::sleep(pause).await;
            }
            outcome => return outcome,
        }
    }
}

/// Waits for the leadership, for as long as another manager has it.
async fn stand_by(store: &Store) -> Result<Leadership, StoreError> {
    let mut candidate = store.candidate();
    let mut said = false;
    loop {
        if let Some(leadership) = candidate.try_lead().await? {
            return Ok(leadership);
        }
        if !said {
            tracing::info!("another manager holds the fold; standing by");
            said = true;
        }
        tokio::time::sleep(STANDBY_PERIOD).await;
    }
}

/// Reads the log for ever. A log that cannot be read is opened again; a database that is not ours any more ends it.
async fn fold_for_ever(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    config: &Config,
    changed: &Notify,
    waits: &Waits,
) -> Result<std::convert::Infallible, ServeError> {
    let subject = Subject::Bus("log".to_owned());
    let fold = Fold { bus, store, epoch, policy: drive::attempt_policy(config), changed };
    loop {
        let mut folding = std::pin::pin!(fold.run());
        let ended = tokio::select! {
            ended = &mut folding => ended,
            // It was opened and did not fail at once.
            () = tokio::time::sleep(FOLD_STANDS) => {
                waits.goes_on(&subject);
                folding.await
            }
        };
        match ended {
            Ok(never) => return Ok(never),
            Err(FoldError::Log(error)) => {
                let text = format!("the sectors' log cannot be read: {}", chain_of(&error));
                waits.waits(&subject, unavailable(text), FOLD_PAUSE);
                tokio::time::sleep(FOLD_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Refuses a node that says no.
async fn check_miners(node: &NodeClient, config: &Config) -> Result<(), ServeError> {
    let network_name = node.network_name().await?;
    network::check_supported(node.network_version(&TipSetKey::head()).await?)?;
    for miner in &config.miners {
        let info = match node.miner_info(&drive::address(miner.id), &TipSetKey::head()).await {
            Ok(info) => info,
            Err(error @ ChainError::Refused { .. }) => {
                return Err(ServeError::UnknownMiner {
                    miner: miner.id,
                    network: network_name,
                    reason: error.to_string(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        if info.sector_bytes != miner.sector_size.bytes() {
            return Err(ServeError::WrongSectorSize {
                miner: miner.id,
                configured: miner.sector_size,
                on_chain: info.sector_bytes,
                name: SectorSize::from_bytes(info.sector_bytes).map_or("unknown".to_owned(), |size| size.to_string()),
            });
        }
        let sender = match preflight::configured_sender(miner) {
            Some(sender) => {
                if !preflight::is_sender(node, &info, &sender, &TipSetKey::head()).await? {
                    return Err(preflight::not_a_sender(miner).into());
                }
                sender
            }
            None => info.worker,
        };
        let key = node.account_key(&sender, &TipSetKey::head()).await?;
        if !node.wallet_has(&key).await? {
            return Err(ServeError::NoKey { miner: miner.id, sender: key.to_string() });
        }
    }
    Ok(())
}

async fn ensure_topology(bus: &Bus, config: &Config) -> Result<(), TopologyError> {
    bus.ensure_streams(config.streams.layout()).await?;
    for miner in &config.miners {
        for plan in Plan::ALL {
            bus.ensure_queue(miner.id, miner.sector_size.seal_proof(), plan).await?;
        }
    }
    Ok(())
}

/// Makes anew what a server lost of the streams. Ends when that was the sectors' log: sequences of the old one mean nothing
/// in the new one.
async fn keep_topology(
    bus: &Bus,
    config: &Config,
    known: &StreamIdentity,
    waits: &Waits,
) -> Result<std::convert::Infallible, ServeError> {
    let subject = Subject::Bus("streams".to_owned());
    loop {
        tokio::time::sleep(TOPOLOGY_PERIOD).await;
        if !bus.is_connected() {
            continue;
        }
        let checked = async {
            ensure_topology(bus, config).await?;
            bus.sectors_identity().await
        };
        match checked.await {
            Ok(found) if found != *known => {
                let (known, found) = (known.as_str().to_owned(), found.as_str().to_owned());
                return Err(FoldError::OtherStream { known, found }.into());
            }
            Ok(_) => waits.goes_on(&subject),
            Err(error) => {
                let text = format!("the streams could not be checked: {}", chain_of(&error));
                waits.waits(&subject, unavailable(text), TOPOLOGY_PERIOD);
            }
        }
    }
}

fn unavailable(text: String) -> Cause {
    Cause::passing(ErrorCode::BUS_UNAVAILABLE, text)
}
