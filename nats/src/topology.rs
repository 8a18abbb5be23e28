//! The streams and consumers, as data. Only the manager creates them and needs the right to.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use sealbus_schema::{IntentKind, MinerId, SealProof, codec, post::PostKind};

use crate::{Bus, subject};

/// The work queue of intents.
pub const INTENTS: &str = "SEAL_INTENTS";
/// The sectors' logs: leases, events and facts. The source of truth.
pub const SECTORS: &str = "SEAL_SECTORS";
/// The workers' last signs of life.
pub const HEARTBEATS: &str = "SEAL_HEARTBEATS";
/// How long the stream keeps a heartbeat.
pub const HEARTBEAT_MAX_AGE: Duration = Duration::from_secs(180);
/// The workers' standing orders.
pub const COMMANDS: &str = "SEAL_COMMANDS";
/// The work queue of tasks on proofs of spacetime.
pub const POST_TASKS: &str = "SEAL_POST_TASKS";
/// Vanilla proofs, and what workers say of tasks on proofs.
pub const POST: &str = "SEAL_POST";
/// How long both keep their messages: longer than a deadline's 50 minutes from challenge to close.
pub const POST_MAX_AGE: Duration = Duration::from_secs(2 * 3600);
/// The most messages in [`POST`]: what 4 deadlines of 10 full partitions need. Afterwards the oldest are dropped, and read
/// again if they are needed.
const POST_MESSAGES_MAX: i64 = 100_000;
/// After how long a task on a proof is delivered again if its worker says nothing more, unless the manager is configured
/// otherwise.
pub const POST_ACK_WAIT: Duration = Duration::from_secs(15);
/// After how long an unacknowledged intent is delivered to another pull. Short, because a pull whose worker is gone may
/// have taken it; see [`crate::intents`]. A claim may take longer without harm: if two workers claim, one wins.
pub const INTENT_ACK_WAIT: Duration = Duration::from_secs(5);
/// The manager's durable consumer of [`SECTORS`].
pub const FOLD: &str = "mgr";

/// How far after the last folded sequence of a lost stream its replacement begins. Workers may hold tokens of records
/// that were not folded yet, but those are far fewer.
const BEHIND_LOST: u64 = 1_000_000;

/// The largest message that a stream accepts, with headers: our own maximum plus a margin. This only limits the size: a
/// writer can still fill a disk with small messages.
const MAX_STORED_BYTES: i32 = codec::MAX_MESSAGE_BYTES as i32 + 4096;

/// The server's value for "no limit".
const UNLIMITED: i64 = -1;

/// How the streams are laid out on the servers.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Copies of each stream: 1, or 3 in a cluster.
    pub replicas: usize,
    /// The size limit of [`SECTORS`] in bytes. When it is reached the server refuses new records; it never drops old
    /// ones.
    pub max_sectors_bytes: i64,
}

/// Distinguishes a stream from a later one with the same name: name and creation time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdentity(String);

/// How full the stream of the sectors' logs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its present size, in bytes.
    pub bytes: u64,
    /// Its limit, in bytes.
    pub max_bytes: u64,
}

/// The size of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFill {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// Its limit. `None` if it has none.
    pub max_bytes: Option<u64>,
    /// Its messages.
    pub messages: u64,
    /// The sequence of its last message, whether that is still there or not.
    pub last_sequence: u64,
}

/// Why the streams could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The server did not answer, or refused.
    #[error("cannot {operation} {what}")]
    Server {
        /// What was attempted.
        operation: &'static str,
        /// The stream or consumer.
        what: String,
        /// The cause.
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
    /// Whether nine tenths are used, so that a person should act.
    pub const fn is_nearly_full(&self) -> bool {
        self.bytes / 9 >= self.max_bytes / 10
    }
}

impl StreamIdentity {
    /// From stored text.
    pub fn from_text(text: impl Into<String>) -> StreamIdentity {
        StreamIdentity(text.into())
    }

    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The streams' configurations.
pub fn streams(layout: Layout) -> [Config; 6] {
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
            // Dropping old records would drop lease records, and the fence with them.
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
        Config {
            name: POST_TASKS.to_owned(),
            description: Some("what must be read and computed for proofs of spacetime".to_owned()),
            subjects: vec![
                "seal.post.read.*.*.*.*".to_owned(),
                "seal.post.prove.*.*.*".to_owned(),
                "seal.post.winread.*.*.*.*".to_owned(),
                "seal.post.winprove.*.*.*".to_owned(),
            ],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            max_messages_per_subject: 1,
            max_bytes: UNLIMITED,
            max_age: POST_MAX_AGE,
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            duplicate_window: Duration::from_secs(120),
            ..Config::default()
        },
        Config {
            name: POST.to_owned(),
            description: Some("vanilla proofs, proofs, and what went wrong with them".to_owned()),
            subjects: vec![
                "seal.post.vanilla.*.*.*.*".to_owned(),
                "seal.post.report.*.*.*.*".to_owned(),
                "seal.post.due.*".to_owned(),
            ],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: layout.replicas,
            max_message_size: MAX_STORED_BYTES,
            max_messages_per_subject: 1,
            max_messages: POST_MESSAGES_MAX,
            max_bytes: UNLIMITED,
            max_age: POST_MAX_AGE,
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
        // The defaults (1000 and 512) are too low for a large fleet.
        max_ack_pending: 100_000,
        max_waiting: 20_000,
        ..pull::Config::default()
    }
}

/// The name of the durable consumer from which the machines with a store take reading tasks.
pub fn post_reads_name(post: PostKind, miner: MinerId, store: &str) -> String {
    format!("{}_{miner}_{}", subject::post_kinds(post)[0], subject::token(store))
}

/// The name of the durable consumer from which provers take tasks.
pub fn post_proves_name(post: PostKind, miner: MinerId) -> String {
    format!("{}_{miner}", subject::post_kinds(post)[1])
}

/// The configuration of one of these two. After `silence` a task goes to another worker.
pub fn post_queue(name: &str, filter: String, silence: Duration) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        filter_subject: filter,
        ack_policy: AckPolicy::Explicit,
        ack_wait: silence,
        max_deliver: -1,
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
    /// Creates the streams and the fold's consumer, or adjusts them to the configured layout.
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
                || now.max_age != config.max_age
                || (config.max_messages != 0 && now.max_messages != config.max_messages);
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

    /// Identifies this [`SECTORS`] stream. A stream that is created anew starts its sequences again, so old tokens
    /// could match new records. Whoever stores tokens must store this too, and stop when it differs.
    pub async fn sectors_identity(&self) -> Result<StreamIdentity, TopologyError> {
        Ok(self.sectors_origin().await?.0)
    }

    /// Which [`SECTORS`] stream this is, and the first sequence that it may have: what was stored before, in a lost stream or
    /// before [`Bus::begin_sectors_behind`], is not there.
    pub async fn sectors_origin(&self) -> Result<(StreamIdentity, u64), TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        let info = stream.cached_info();
        let identity = StreamIdentity(format!("{SECTORS}@{}", info.created.unix_timestamp_nanos()));
        Ok((identity, info.state.first_sequence))
    }
}

impl Bus {
    /// How full [`SECTORS`] is.
    pub async fn sectors_fill(&self) -> Result<Fill, TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        let info = stream.cached_info();
        // -1 if the stream has no limit.
        let max_bytes = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
        Ok(Fill { bytes: info.state.bytes, max_bytes })
    }

    /// The size of each stream that there is.
    pub async fn fills(&self) -> Result<Vec<StreamFill>, TopologyError> {
        let mut fills = Vec::new();
        for name in [INTENTS, SECTORS, HEARTBEATS, COMMANDS, POST_TASKS, POST] {
            let stream = match self.js.get_stream(name).await {
                Err(error) if is_not_found(&error) => continue,
                answer => answer.map_err(server("read stream", name))?,
            };
            let jetstream::stream::Info { config, state, .. } = stream.cached_info();
            let max_bytes = u64::try_from(config.max_bytes).ok().filter(|max| *max > 0);
            let (bytes, messages, last) = (state.bytes, state.messages, state.last_sequence);
            fills.push(StreamFill { name, bytes, max_bytes, messages, last_sequence: last });
        }
        Ok(fills)
    }

    /// The sequence of the last record in [`SECTORS`]. 0 if nothing was ever written to it, or it does not exist.
    pub async fn sectors_last_sequence(&self) -> Result<u64, TopologyError> {
        match self.js.get_stream(SECTORS).await {
            Ok(stream) => Ok(stream.cached_info().state.last_sequence),
            Err(error) if is_not_found(&error) => Ok(0),
            Err(error) => Err(server("read stream", SECTORS)(error)),
        }
    }

    /// Up to which record of [`SECTORS`] some manager has folded the log and said so. 0 if none has.
    pub async fn sectors_read(&self) -> Result<u64, TopologyError> {
        Ok(self.fold_info().await?.ack_floor.stream_sequence)
    }

    /// How many records of [`SECTORS`] the open log has not delivered yet.
    pub async fn sectors_unread(&self) -> Result<u64, TopologyError> {
        Ok(self.fold_info().await?.num_pending)
    }

    async fn fold_info(&self) -> Result<jetstream::consumer::Info, TopologyError> {
        let stream = self.js.get_stream_no_info(SECTORS).await.map_err(server("read stream", SECTORS))?;
        stream.consumer_info(FOLD).await.map_err(server("read consumer", FOLD))
    }

    /// How many records are in [`SECTORS`].
    pub async fn sectors_records(&self) -> Result<u64, TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        Ok(stream.cached_info().state.messages)
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
    /// Empties a [`SECTORS`] stream that replaces a lost one, whose records up to `lost` were folded. The new sequences
    /// begin after all of the lost stream's, so that no old token equals a new record's number. Returns the sequence
    /// before the first new one. Calling it again does no harm.
    pub async fn begin_sectors_behind(&self, lost: u64) -> Result<u64, TopologyError> {
        let stream = self.js.get_stream(SECTORS).await.map_err(server("read stream", SECTORS))?;
        // It is beyond that if it was recovered before, and the database was restored from a copy that does not know.
        let before = (lost + BEHIND_LOST).max(stream.cached_info().state.last_sequence);
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
