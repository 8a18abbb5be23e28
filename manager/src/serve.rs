//! `sealbus-manager run`: checks what it depends on, waits for the leadership, then starts every reconciler.
//!
//! Of several managers on one database, one holds the fold and the others stand by. When the holder's work ends for any
//! reason, it starts again from there, because all its state is in the database.
//!
//! The manager ends only if a person must change its own configuration ([`ServeError::is_misconfigured`]). In all other
//! cases it waits, says so once, and continues afterwards: a database after a failover, a syncing node, an identity
//! that is being renewed, a queue that is recovered by order. See `docs/adr/0024-a-process-waits.md`.

mod catching_up;

use std::{sync::Arc, time::Duration};

use sealbus_nats::{
    Bus, ConnectError, Patience,
    topology::{self, Fill, StreamIdentity, TopologyError},
};
use sealbus_schema::{ErrorCode, IntentKind, MinerId, SectorSize};

use crate::{
    archive, care,
    chain::{Error as ChainError, Memo, NodeClient, Nodes, RpcClient, Transport, network, types::TipSetKey},
    config::{Chain, Config, Database, Miner},
    drive::{self, DriveError, Driver, chain_of},
    errands::desk::Counter,
    fold::{self, Fold, FoldError},
    liveness,
    metrics::{Sights, Watched},
    mining::{Mining, Surroundings},
    money, nodes, orders, outbox, preflight,
    proofs::{Library, Verifier},
    proving::{self, Proving, tasks::Queues},
    service,
    store::{Leadership, MessageKind, Store, StoreError},
    stores::{self, Users},
    waits::{Cause, Subject, Waits},
    wake::{self, Wake},
};

/// How often the streams are checked. A stream in memory does not survive its server.
const TOPOLOGY_PERIOD: Duration = Duration::from_secs(10);
/// The pause after the fold failed.
const FOLD_PAUSE: Duration = Duration::from_secs(1);
/// After how long an opened log counts as working. Longer than the server may take to refuse the requests that open it.
const FOLD_STANDS: Duration = Duration::from_secs(15);
/// How often a standby manager checks whether the holder is gone.
const STANDBY_PERIOD: Duration = Duration::from_secs(1);
/// The first and the longest pause while something that the start depends on is unavailable.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long the manager must have worked before a wait counts as over: a full database still accepts small writes.
const STEADY: Duration = Duration::from_secs(10);

/// Logged when the holder of the fold has lost something that it needs.
const CANNOT_WORK: &str = "the manager cannot work";

/// Why the manager does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// NATS refused the connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The log belongs to another database, or cannot be read.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The chain client cannot be set up, or the node refuses it.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The driver of the chain failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The streams could not be set up.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// An empty database, while the log has records: probably the wrong database.
    #[error(
        "the database {database} is not there or empty, but the stream SEAL_SECTORS has {records} record(s) of sectors that it \
         would have to know. Is the disk of database.path mounted, is it the right server? Mount or restore the database; \
         the manager then goes on. If it is lost for good and nothing is worth keeping, delete the streams SEAL_*"
    )]
    EmptyDatabase {
        /// The configured value.
        database: String,
        /// How many records the log has or had.
        records: u64,
    },
    /// A miner that does not exist on the chain, as far as the node has synced it.
    #[error(
        "miner[].id = \"{miner}\": the network {network} has no such miner as far as the node has its chain: {reason}. This \
         passes if the node is being synced; otherwise correct the id, or chain.url"
    )]
    UnknownMiner {
        /// The configured value.
        miner: MinerId,
        /// The network's name.
        network: String,
        /// The node's message.
        reason: String,
    },
    /// A miner with another sector size.
    #[error(
        "miner[].sector_size = \"{configured}\" for {miner}: on chain its sectors have {on_chain} bytes ({name}); correct the \
         configuration"
    )]
    WrongSectorSize {
        /// The miner.
        miner: MinerId,
        /// The configured value.
        configured: SectorSize,
        /// The sector size on chain, in bytes.
        on_chain: u64,
        /// The value that would have to be configured.
        name: String,
    },
    /// A sender whose key the node lacks.
    #[error(
        "miner {miner}: neither chain.key_files nor the node's wallet has the key of {sender}, which sends its messages: import \
         it there, or set miner[].sender"
    )]
    NoKey {
        /// The miner.
        miner: MinerId,
        /// The key address.
        sender: String,
    },
    /// A sender that is not an address of the miner.
    #[error("miner[].sender: {0}; set another one, or make it a control address of the miner")]
    Sender(#[from] preflight::NotASender),
    /// A network version for which we cannot build messages.
    #[error(transparent)]
    Network(#[from] network::Unsupported),
}

impl ServeError {
    /// Whether the error concerns only one miner, not the node.
    const fn is_of_one_miner(&self) -> bool {
        matches!(
            self,
            ServeError::UnknownMiner { .. }
                | ServeError::NoKey { .. }
                | ServeError::Sender(_)
                | ServeError::Drive(DriveError::Sender(_))
        )
    }

    /// Whether only a change of this manager's configuration helps. Everything else may recover by itself.
    pub const fn is_misconfigured(&self) -> bool {
        match self {
            ServeError::Connect(error) => error.is_misconfigured(),
            ServeError::Chain(error) | ServeError::Drive(DriveError::Chain(error)) => {
                matches!(error, ChainError::BadUrl { .. })
            }
            ServeError::WrongSectorSize { .. } | ServeError::Drive(DriveError::Config { .. }) => true,
            _ => false,
        }
    }
}

/// Runs until an error that waiting does not cure. To stop it, the caller drops the future: all state is stored.
pub async fn run(config: Config) -> Result<std::convert::Infallible, ServeError> {
    run_with(config, Arc::new(Library)).await
}

/// [`run`] with a substitute for the proofs library.
pub async fn run_with(config: Config, verifier: Arc<dyn Verifier>) -> Result<std::convert::Infallible, ServeError> {
    let watched = Watched::default();
    let served = config.clone();
    tokio::select! {
        ended = serve(config, verifier, watched.clone()) => ended,
        never = watched.serve(&served) => Ok(never),
        never = outlive_signals() => Ok(never),
        never = service::keep_watchdog() => Ok(never),
    }
}

/// SIGHUP comes from a terminal that is closed, and like SIGUSR1 and SIGUSR2 from people and scripts who want something read
/// again or reopened. None of them ends anything.
async fn outlive_signals() -> std::convert::Infallible {
    use tokio::signal::unix::SignalKind;
    tokio::join!(
        outlive("SIGHUP", SignalKind::hangup()),
        outlive("SIGUSR1", SignalKind::user_defined1()),
        outlive("SIGUSR2", SignalKind::user_defined2())
    );
    std::future::pending().await
}

async fn outlive(name: &str, kind: tokio::signal::unix::SignalKind) {
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => {
            while signal.recv().await.is_some() {
                tracing::info!(
                    "{name}: nothing to reload; identities are read at each connection, the configuration at the start"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "{name} cannot be caught; it would end the manager"),
    }
}

async fn serve(
    config: Config,
    verifier: Arc<dyn Verifier>,
    watched: Watched,
) -> Result<std::convert::Infallible, ServeError> {
    let config = Arc::new(config);
    for sealbus_nats::NotThere { field, problem } in config.not_there() {
        tracing::warn!(field, problem, "not there, or not as it must be");
    }
    if config.database.is_missing() {
        let bus = connect(&config).await?;
        patiently("the database", async || require_no_records(&bus, &config.database).await).await?;
    }
    let store = patiently("the database", async || Ok(Store::open(&config.database).await?)).await?;
    let shown: Vec<String> = config.chain.nodes().iter().map(|node| node.endpoint.shown()).collect();
    let (nodes, node) = patiently(&format!("the chain node at {}", shown.join(" or ")), async || {
        let nodes = Arc::new(config.chain.client(store.network().await?)?);
        let node = NodeClient::new(Memo::new(Arc::clone(&nodes)));
        check_miners(&node, &config).await?;
        Ok((nodes, Arc::new(node)))
    })
    .await?;
    let bus = connect(&config).await?;
    let mut manager = Manager { config, store, nodes, node, bus, verifier, watched };
    let mut patience = Patience::new(FIRST_PAUSE, MAX_PAUSE);
    loop {
        let Err(error) = manager.lead(&mut patience).await;
        if error.is_misconfigured() {
            return Err(error);
        }
        service::status(&format!("{CANNOT_WORK}: {}", chain_of(&error)));
        tokio::time::sleep(patience.failed(CANNOT_WORK, &chain_of(&error))).await;
        // The failure may have left the database connection unusable, so open the database again first.
        while let Err(error) = manager.renew().await {
            tokio::time::sleep(patience.failed(CANNOT_WORK, &chain_of(&error))).await;
        }
    }
}

async fn connect(config: &Config) -> Result<Bus, ConnectError> {
    service::status(&format!("waiting for NATS at {}", config.nats.url));
    config.nats.connect_patiently("manager").await
}

/// Fails if a missing database must not be created: that is only allowed while the log has no records. Otherwise the
/// disk is probably not mounted, and everything written to a new database would be lost when it comes back.
async fn require_no_records(bus: &Bus, database: &Database) -> Result<(), ServeError> {
    let records = bus.sectors_last_sequence().await?;
    match database.is_missing() && records > 0 {
        true => Err(ServeError::EmptyDatabase { database: database.to_string(), records }),
        false => Ok(()),
    }
}

/// A manager, whether it holds the fold or not.
struct Manager {
    config: Arc<Config>,
    store: Store,
    nodes: Arc<Nodes<RpcClient>>,
    node: Arc<NodeClient<Memo<Arc<Nodes<RpcClient>>>>>,
    bus: Bus,
    verifier: Arc<dyn Verifier>,
    watched: Watched,
}

impl Manager {
    /// Waits until no other manager has the fold, takes it, and works until it or something else is lost.
    async fn lead(&self, patience: &mut Patience) -> Result<std::convert::Infallible, ServeError> {
        let mut leadership = stand_by(&self.store).await?;
        tokio::select! {
            lost = leadership.lost() => Err(lost.into()),
            ended = self.work(patience) => ended,
        }
    }

    /// Opens the database again: a connection whose transaction could not be ended accepts no other one, and the
    /// password or the file may have changed.
    async fn renew(&mut self) -> Result<(), StoreError> {
        let is_other = match self.store.check_file() {
            Err(error) if error.is_replaced() => true,
            // If the file is gone, no new one is created, and the open one is kept.
            checked => checked.map(|()| false)?,
        };
        self.store = Store::open_existing(&self.config.database).await?;
        if is_other {
            tracing::warn!(database = %self.config.database, "going on with the database that is there now");
        }
        Ok(())
    }

    async fn work(&self, patience: &mut Patience) -> Result<std::convert::Infallible, ServeError> {
        let Manager { config, store, nodes, node, bus, verifier, watched } = self;
        patiently("the server of the streams", async || Ok(ensure_topology(bus, config).await?)).await?;
        if store.fold_state().await?.is_none() {
            let records = bus.sectors_last_sequence().await?;
            if records > 0 {
                return Err(ServeError::EmptyDatabase { database: config.database.to_string(), records });
            }
        }
        catching_up::take_marker(store, &config.database).await?;
        let epoch = fold::take_over(bus, store).await?;
        let known = bus.sectors_identity().await?;
        let changed = Wake::default();
        let driver =
            Driver::new(node.clone(), store.clone(), config.clone(), epoch, changed.clone(), verifier.clone()).await?;
        catching_up::catch_up(bus, store, config, (epoch, driver.seed_delay()), driver.waits()).await?;
        let network = node.network_name().await?;
        let epoch_millis = node.network_params().await?.block_delay_secs * 1000;
        let queues = Queues::new(bus, config);
        let window_posts = Proving {
            node,
            store,
            tasks: &queues,
            config,
            epoch,
            epoch_millis,
            verifier,
            waits: driver.waits(),
            changed: &changed,
        };
        let waits = driver.waits();
        let mining =
            Mining::new(Surroundings { node, store, tasks: &queues, config, epoch, epoch_millis, verifier, waits });
        let sights = Sights { store, bus, node, config, epoch_millis };
        let users = Users { network, miners: config.miners.iter().map(|miner| miner.id).collect() };
        tracing::info!(epoch, miners = %config.miner_names(), database = %config.database, "the manager runs");
        service::ready(&format!("holds the fold with epoch {epoch}"));
        tokio::select! {
            ended = fold_for_ever(bus, store, epoch, config, &changed, driver.waits()) => ended,
            ended = outbox::run(bus, store, epoch, &changed, driver.waits()) => Ok(ended?),
            ended = orders::run(bus, store, epoch, &config.miners, &changed, driver.waits()) => Ok(ended?),
            ended = driver.run() => Ok(ended?),
            ended = wake::follow_commands(store, &changed) => Ok(ended?),
            ended = liveness::run(bus, store, config, epoch, &changed, driver.waits()) => Ok(ended?),
            ended = archive::run(store, epoch, config.policy.archive_after_days) => Ok(ended?),
            ended = money::follow::run(node, store, config, epoch) => Ok(ended?),
            ended = nodes::watch(nodes, store, epoch, driver.waits()) => Ok(ended?),
            ended = window_posts.run() => Ok(ended?),
            // A restored database does not know the blocks of the last epochs.
            ended = async {
                driver.settled().await;
                mining.run().await
            } => Ok(ended?),
            ended = proving::compare::watch(node, store, config) => Ok(ended?),
            ended = async {
                driver.settled().await;
                care::watch::watch(node, Counter { store, epoch: Some(epoch) }, config).await
            } => Ok(ended?),
            ended = stores::watch(store, config, &users, epoch, driver.waits()) => Ok(ended?),
            ended = keep_topology(bus, config, &known, driver.waits()) => ended,
            never = watched.look_on(&sights) => Ok(never),
            never = tell_of_steady_work(patience) => Ok(never),
        }
    }
}

async fn tell_of_steady_work(patience: &mut Patience) -> std::convert::Infallible {
    tokio::time::sleep(STEADY).await;
    patience.mended("the manager works again");
    std::future::pending().await
}

/// Retries until it succeeds, or until an error that only a change of the configuration can fix. `what` names what is
/// waited for.
async fn patiently<T>(what: &str, attempt: impl AsyncFn() -> Result<T, ServeError>) -> Result<T, ServeError> {
    let mut patience = Patience::new(FIRST_PAUSE, MAX_PAUSE);
    loop {
        match attempt().await {
            Ok(there) => {
                patience.mended(&format!("{what} is there"));
                return Ok(there);
            }
            Err(error) if error.is_misconfigured() => return Err(error),
            Err(error) => {
                service::status(&format!("waiting for {what}: {}", chain_of(&error)));
                let pause = patience.failed(&format!("waiting for {what}"), &chain_of(&error));
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Waits for the leadership while another manager has it.
async fn stand_by(store: &Store) -> Result<Leadership, StoreError> {
    let mut candidate = store.candidate();
    let mut said = false;
    loop {
        if let Some(leadership) = candidate.try_lead().await? {
            return Ok(leadership);
        }
        if !said {
            tracing::info!("another manager holds the fold; standing by");
            service::ready("stands by; another manager holds the fold");
            said = true;
        }
        tokio::time::sleep(STANDBY_PERIOD).await;
    }
}

/// Folds the log forever. If the log cannot be read, it is opened again. The loss of the database or of the fold ends
/// this.
async fn fold_for_ever(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    config: &Config,
    changed: &Wake,
    waits: &Waits,
) -> Result<std::convert::Infallible, ServeError> {
    let subject = Subject::Bus("log".to_owned());
    let fold = Fold { bus, store, epoch, policy: drive::attempt_policy(config), changed };
    loop {
        let mut folding = std::pin::pin!(fold.run());
        let ended = tokio::select! {
            ended = &mut folding => ended,
            // The server may refuse the log some seconds after it was opened, so the wait ends only after a while.
            () = stands(bus) => {
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

/// Waits until the log must have been opened, unless it has failed meanwhile. Time without a connection does not count,
/// because nothing fails then.
async fn stands(bus: &Bus) {
    loop {
        tokio::time::sleep(FOLD_STANDS).await;
        if bus.is_connected() {
            return;
        }
    }
}

/// Checks the configured miners against the chain.
async fn check_miners<T: Transport>(node: &NodeClient<T>, config: &Config) -> Result<(), ServeError> {
    network::check_supported(node.network_version(&TipSetKey::head()).await?)?;
    let mut troubles = Vec::new();
    for miner in &config.miners {
        match check_miner(node, miner, &config.chain).await {
            Err(error) if error.is_of_one_miner() => troubles.push(error),
            checked => checked?,
        }
    }
    // A failure of one miner becomes a wait of its own. If all miners fail, the node may not be ready.
    if troubles.len() == config.miners.len()
        && let Some(error) = troubles.pop()
    {
        return Err(error);
    }
    for error in troubles {
        tracing::error!(cause = chain_of(&error), "a miner cannot be served until this is mended; the others are");
    }
    Ok(())
}

/// Checks one configured miner against the chain.
pub(crate) async fn check_miner<T: Transport>(
    node: &NodeClient<T>,
    miner: &Miner,
    chain: &Chain,
) -> Result<(), ServeError> {
    let info = match node.miner_info(&drive::address(miner.id), &TipSetKey::head()).await {
        Ok(info) => info,
        Err(error @ ChainError::Refused { .. }) => {
            let network = node.network_name().await?;
            return Err(ServeError::UnknownMiner { miner: miner.id, network, reason: error.to_string() });
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
    let (head, keys) = (TipSetKey::head(), chain.local_keys());
    for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
        let senders = preflight::senders(node, Some(miner), kind, &info, &head).await?.map_err(DriveError::from)?;
        for sender in senders {
            let key = node.account_key(&sender, &head).await?;
            // The messager is asked by the checks that are repeated.
            if chain.messager.is_none() && !keys.has(&key).await && !node.wallet_has(&key).await? {
                return Err(ServeError::NoKey { miner: miner.id, sender: key.to_string() });
            }
        }
    }
    Ok(())
}

async fn ensure_topology(bus: &Bus, config: &Config) -> Result<(), TopologyError> {
    bus.ensure_streams(config.streams.layout()).await?;
    for miner in &config.miners {
        for kind in IntentKind::ALL {
            bus.ensure_queue(miner.id, miner.sector_size.seal_proof(), *kind).await?;
        }
    }
    Ok(())
}

/// Recreates streams that a server has lost. Ends if that was the sectors' log, because the old sequences are
/// meaningless in a new one.
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
            Ok(_) => {
                waits.goes_on(&subject);
                tell_of_fill(bus, waits).await;
            }
            Err(error) => {
                let text = format!("the streams could not be checked: {}", chain_of(&error));
                waits.waits(&subject, unavailable(text), TOPOLOGY_PERIOD);
            }
        }
    }
}

/// Reports a log that is nearly full, before it stops all writers.
async fn tell_of_fill(bus: &Bus, waits: &Waits) {
    let subject = Subject::Bus(topology::SECTORS.to_owned());
    match bus.sectors_fill().await {
        Ok(fill) if fill.is_nearly_full() => {
            let Fill { bytes, max_bytes } = fill;
            let text = format!(
                "{} holds {bytes} of {max_bytes} bytes; when it is full nothing more is stored",
                topology::SECTORS
            );
            waits.waits(&subject, Cause::to_mend(ErrorCode::BUS_FULL, text), TOPOLOGY_PERIOD);
        }
        Ok(_) => waits.goes_on(&subject),
        // Already reported for the streams.
        Err(_) => {}
    }
}

fn unavailable(text: String) -> Cause {
    Cause::passing(ErrorCode::BUS_UNAVAILABLE, text)
}
