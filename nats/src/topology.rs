//! The streams and consumers, as data. The manager creates them; nobody else needs the right to.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use sealbus_schema::{IntentKind, MinerId, SealProof, codec};

use crate::{Bus, subject};

/// The work queue of intents.
pub const INTENTS: &str = "SEAL_INTENTS";
/// The sectors' logs: leases, events and facts. The source of truth.
pub const SECTORS: &str = "SEAL_SECTORS";
/// The workers' last signs of life.
pub const HEARTBEATS: &str = "SEAL_HEARTBEATS";
/// How long a sign of life is remembered.
pub const HEARTBEAT_MAX_AGE: Duration = Duration::from_secs(180);
/// The workers' standing orders.
pub const COMMANDS: &str = "SEAL_COMMANDS";
/// After how long an intent goes to another pull if nobody has acknowledged it. Short, because a pull whose worker is gone may
/// take it; see [`crate::intents`]. A worker whose claim takes longer loses nothing: of two that claim, one wins.
pub const INTENT_ACK_WAIT: Duration = Duration::from_secs(5);
/// The manager's durable consumer of [`SECTORS`].
pub const FOLD: &str = "mgr";

/// How far behind the last folded sequence of a lost stream the next one begins. Workers may have tokens of records that were
/// not folded yet, which are fewer by far.
const BEHIND_LOST: u64 = 1_000_000;

/// The largest message that a stream takes, with its headers: what we send at most, and then some. One writer could fill a
/// disk with less.
const MAX_STORED_BYTES: i32 = codec::MAX_MESSAGE_BYTES as i32 + 4096;

/// How the server writes "no limit".
const UNLIMITED: i64 = -1;

/// How the streams are laid out on the servers.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Copies of each stream: 1, or 3 in a cluster.
    pub replicas: usize,
    /// The most that [`SECTORS`] may hold, in bytes. Beyond it the server refuses new records; it never drops old ones.
    pub max_sectors_bytes: i64,
}

/// What tells a stream from another one of the same name that was made later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdentity(String);

/// How full the stream of the sectors' logs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What it holds, in bytes.
    pub bytes: u64,
    /// The most that it may hold.
    pub max_bytes: u64,
}

/// Why the streams are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The server could not be asked, or refused.
    #[error("cannot {operation} {what}")]
    Server {
        /// What was tried.
        operation: &'static str,
        /// With which stream or consumer.
        what: String,
        /// Why.
        #[source]
        source: async_nats::Error,
    },
    /// The server keeps room free for all that a stream may hold, and has too little.
    #[error(
        "the server has no room for a stream {stream} of up to {max_bytes} bytes: lower streams.max_sectors_bytes, or give \
         JetStream a larger disk or max_file_store"
    )]
    NoRoom {
        /// The stream.
        stream: String,
        /// What it may hold, in bytes.
        max_bytes: i64,
    },
}

impl Fill {
    /// Whether a person should act: nine tenths are used.
    pub const fn is_nearly_full(&self) -> bool {
        self.bytes / 9 >= self.max_bytes / 10
    }
}

impl StreamIdentity {
    /// As stored.
    pub fn from_text(text: impl Into<String>) -> StreamIdentity {
        StreamIdentity(text.into())
    }

    /// To store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The streams' configurations.
pub fn streams(layout: Layout) -> [Config; 4] {
    [
        Config {
            name: INTENTS.to_owned(),
            description: Some("what the manager wants done, at most one outstanding a subject".to_owned()),
            subjects: vec!["seal.intent.*.*.*.*.*".to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            max_messages_per_subject: 1,
            max_bytes: UNLIMITED,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            duplicate_window: Duration::from_secs(120),
            ..Config::default()
        },
        Config {
            name: SECTORS.to_owned(),
            description: Some("who owns each sector and what happened to it".to_owned()),
            subjects: vec![
                "seal.sector.*.*.lease.*".to_owned(),
                "seal.sector.*.*.ev.*".to_owned(),
                "seal.sector.*.*.fact.*.*".to_owned(),
            ],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            // Dropping old records would drop leases, and with them the fence.
            discard: DiscardPolicy::New,
            max_bytes: layout.max_sectors_bytes,
            deny_delete: true,
            allow_rollup: false,
            allow_message_ttl: false,
            allow_direct: true,
            duplicate_window: Duration::from_secs(600),
            ..Config::default()
        },
        Config {
            name: HEARTBEATS.to_owned(),
            description: Some("each worker's last sign of life".to_owned()),
            subjects: vec!["seal.hb.*".to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::Memory,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            max_messages_per_subject: 1,
            max_bytes: UNLIMITED,
            max_age: HEARTBEAT_MAX_AGE,
            duplicate_window: Duration::from_secs(120),
            allow_rollup: false,
            allow_direct: true,
            ..Config::default()
        },
        Config {
            name: COMMANDS.to_owned(),
            description: Some("each worker's standing orders".to_owned()),
            subjects: vec!["seal.cmd.*".to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            max_messages_per_subject: 1,
            max_bytes: UNLIMITED,
            duplicate_window: Duration::from_secs(120),
            allow_rollup: false,
            allow_direct: true,
            ..Config::default()
        },
    ]
}

/// The name of the durable consumer that all workers of one queue share.
pub fn queue_name(miner: MinerId, proof: SealProof, kind: IntentKind) -> String {
    format!("{miner}_{proof}_{kind}")
}

/// The configuration of that consumer.
pub fn queue(miner: MinerId, proof: SealProof, kind: IntentKind) -> pull::Config {
    let name = queue_name(miner, proof, kind);
    pull::Config {
        durable_name: Some(name.clone()),
        name: Some(name),
        filter_subject: subject::intents_of(miner, proof, kind),
        ack_policy: AckPolicy::Explicit,
        ack_wait: INTENT_ACK_WAIT,
        max_deliver: -1,
        // The defaults (1000 and 512) stop a large fleet.
        max_ack_pending: 100_000,
        max_waiting: 20_000,
        ..pull::Config::default()
    }
}

/// The configuration of the manager's consumer of the sectors' logs.
pub fn fold() -> pull::Config {
    pull::Config {
        durable_name: Some(FOLD.to_owned()),
        name: Some(FOLD.to_owned()),
        ack_policy: AckPolicy::All,
        ack_wait: Duration::from_secs(30),
        max_deliver: -1,
        max_ack_pending: 50_000,
        ..pull::Config::default()
    }
}

impl Bus {
    /// Creates the streams and the fold's consumer, or brings them to the present layout.
    pub async fn ensure_streams(&self, layout: Layout) -> Result<(), TopologyError> {
        for config in streams(layout) {
            let name = config.name.clone();
            let existing =
                self.js.get_or_create_stream(config.clone()).await.map_err(|error| {
                    no_room(&config, &error).unwrap_or_else(|| server("create stream", &name)(error))
                })?;
            let now = &existing.cached_info().config;
            let drifted = now.subjects != config.subjects
                || now.max_bytes != config.max_bytes
                || now.num_replicas != config.num_replicas
                || now.duplicate_window != config.duplicate_window
                || now.max_message_size != config.max_message_size
                || now.max_age != config.max_age;
            if drifted {
                tracing::info!(stream = %name, "bringing the stream to the configured layout");
                self.js.update_stream(&config).await.map_err(|error| {
                    no_room(&config, &error).unwrap_or_else(|| server("update stream", &name)(error))
                })?;
            }
        }
        self.js.create_consumer_on_stream(fold(), SECTORS).await.map_err(server("create consumer", FOLD))?;
        Ok(())
    }

    /// Creates the shared consumer of one queue.
    pub async fn ensure_queue(&self, miner: MinerId, proof: SealProof, kind: IntentKind) -> Result<(), TopologyError> {
        let name = queue_name(miner, proof, kind);
        self.js
            .create_consumer_on_stream(queue(miner, proof, kind), INTENTS)
            .await
            .map_err(server("create consumer", &name))?;
        Ok(())
    }

    /// Which [`SECTORS`] stream this is. A stream that was made anew starts its sequences again, and old tokens could
    /// match new records; whoever remembers tokens must remember this and refuse to go on when it differs.
    pub async fn sectors_identity(&self) -> Result<StreamIdentity, TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        let created = stream.cached_info().created;
        Ok(StreamIdentity(format!("{SECTORS}@{}", created.unix_timestamp_nanos())))
    }
}

impl Bus {
    /// How full [`SECTORS`] is.
    pub async fn sectors_fill(&self) -> Result<Fill, TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        let info = stream.cached_info();
        // A stream without a limit has -1.
        let max_bytes = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
        Ok(Fill { bytes: info.state.bytes, max_bytes })
    }

    /// The sequence of the last record in [`SECTORS`]: 0 if nothing was ever written there, or there is no such stream.
    pub async fn sectors_last_sequence(&self) -> Result<u64, TopologyError> {
        match self.js.get_stream(SECTORS).await {
            Ok(stream) => Ok(stream.cached_info().state.last_sequence),
            Err(error) if is_not_found(&error) => Ok(0),
            Err(error) => Err(server("read stream", SECTORS)(error)),
        }
    }

    /// Whether the server is part of a cluster. One that is not keeps one copy of each stream.
    pub fn is_clustered(&self) -> bool {
        self.client.server_info().cluster.is_some()
    }

    /// Whether the server keeps streams for us.
    pub async fn check_jetstream(&self) -> Result<(), TopologyError> {
        self.js.query_account().await.map(drop).map_err(server("use", "JetStream, which keeps the streams"))
    }
}

fn is_not_found(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), jetstream::context::GetStreamErrorKind::JetStream(cause)
        if cause.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

impl Bus {
    /// Empties a [`SECTORS`] stream that took the place of a lost one, of which the records up to `lost` were folded. Its
    /// sequences go on behind all of the lost one's, so that no old token is the number of a new record. Returns the sequence
    /// before its first. To be called again, it does no harm.
    pub async fn begin_sectors_behind(&self, lost: u64) -> Result<u64, TopologyError> {
        let before = lost + BEHIND_LOST;
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        stream.purge().sequence(before + 1).await.map_err(server("empty stream", SECTORS))?;
        Ok(before)
    }
}

fn no_room(config: &Config, error: &jetstream::context::CreateStreamError) -> Option<TopologyError> {
    let jetstream::context::CreateStreamErrorKind::JetStream(cause) = error.kind() else { return None };
    let is_full = cause.error_code() == jetstream::ErrorCode::STORAGE_RESOURCES_EXCEEDED;
    is_full.then(|| TopologyError::NoRoom { stream: config.name.clone(), max_bytes: config.max_bytes })
}

fn server<E: Into<async_nats::Error>>(operation: &'static str, what: &str) -> impl FnOnce(E) -> TopologyError {
    let what = what.to_owned();
    move |source| TopologyError::Server { operation, what, source: source.into() }
}
