//! The manager's configuration: one TOML file, validated before anything is opened.
//!
//! Whether the file is valid and whether everything that it names is available are two questions: a disk that is not
//! mounted yet does not make the file invalid. [`Config::load`] answers the first, `Config::not_there` the second. A
//! running manager waits for what is unavailable, and a command needs only what it uses.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_nats::{
    Connection, metrics,
    topology::{self, Layout},
};
use sealbus_schema::{MinerId, SectorSize, message::MAX_WEIGHT};
use serde::{Deserialize, Serialize};

use crate::{chain::local_keys::LocalKeys, intents::numbers::Numbers, store::MessageKind};

mod batches;
mod database;
mod expiry;
mod fees;
mod messager;
mod nodes;
mod there;

pub use batches::Batches;
pub use database::Database;
pub use expiry::Expiry;
pub use fees::Fees;
pub use messager::Messager;
pub use nodes::{NamedNode, Node};

/// The whole file. Unknown fields are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The manager's database.
    pub database: Database,
    /// The bus.
    pub nats: Connection,
    /// How the streams are created.
    #[serde(default)]
    pub streams: Streams,
    /// The chain.
    pub chain: Chain,
    /// The storage providers that this manager serves.
    #[serde(default, rename = "miner")]
    pub miners: Vec<Miner>,
    /// The permanent stores, as this machine mounts them.
    #[serde(default, rename = "store")]
    pub stores: Vec<Store>,
    /// Limits for attempts, offers and file checks.
    #[serde(default)]
    pub policy: Policy,
    /// When a worker counts as gone, and what happens to its sectors.
    #[serde(default)]
    pub liveness: Liveness,
    /// How proofs of spacetime are made.
    #[serde(default)]
    pub proving: Proving,
    /// How blocks are made.
    #[serde(default)]
    pub mining: Mining,
    /// Where metrics are served. `None`: nowhere.
    #[serde(default)]
    pub metrics: Option<metrics::Settings>,
}

/// The `[streams]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Streams {
    /// Copies of each stream: 1, or 3 in a NATS cluster.
    pub replicas: usize,
    /// The size limit of the stream with the sectors' logs, in bytes.
    pub max_sectors_bytes: i64,
}

/// The `[chain]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// The node's JSON-RPC endpoint, `http://host:port/rpc/v1`. `None` if there are several nodes.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with the node's token; it needs the permission `sign`, or `write` if all keys are in `key_files`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The nodes, if there are several.
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    /// Venus' messager, if that sends all messages.
    #[serde(default)]
    pub messager: Option<Messager>,
    /// Files with keys that sign here, as `lotus wallet export` writes them. The node's wallet signs for all other senders.
    #[serde(default)]
    pub key_files: Vec<PathBuf>,
    /// How many epochs must be on top of a tipset before it counts.
    #[serde(default = "five")]
    pub confidence_epochs: i64,
    /// How often the driver checks everything that waits for the chain if nothing has changed, in milliseconds.
    #[serde(default = "two_seconds")]
    pub poll_interval_ms: u64,
    /// How often the node is asked whether it has another head, in milliseconds. Each new head is acted on at once, so this
    /// is what a sector waits beyond the chain. A sixtieth of an epoch if it is missing, 25 to 500.
    #[serde(default)]
    pub head_interval_ms: Option<u64>,
    /// How many sectors the node is asked about at once.
    #[serde(default = "sixteen")]
    pub parallel_requests: usize,
    /// The most gas fees that one message may cost, in attoFIL.
    #[serde(default = "max_fee")]
    pub max_fee_atto: String,
    /// Limits for kinds of messages, and when they wait for a lower base fee.
    #[serde(default)]
    pub fees: Fees,
    /// Which messages are sent together, and how long they wait for each other.
    #[serde(default)]
    pub batches: Batches,
    /// After how many epochs a signed message that is not on chain is pushed again.
    #[serde(default = "ten")]
    pub repush_epochs: i64,
    /// How long the node may take to answer a call, in seconds.
    #[serde(default = "thirty")]
    pub timeout_secs: u64,
    /// The same for calls that execute a message or search the chain. After the node's restart they can take a minute.
    #[serde(default = "two_minutes")]
    pub slow_timeout_secs: u64,
}

/// A `[[miner]]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Miner {
    /// The miner's ID address, such as `f01000`.
    pub id: MinerId,
    /// Its sectors' size, such as `32GiB`. Checked against the chain at start.
    pub sector_size: SectorSize,
    /// How many sectors without data to keep in the queue, in addition to pledges by hand.
    #[serde(default)]
    pub keep_queued: u64,
    /// How many sectors pledged by hand may wait in the queue for a worker, at least 1. The rest of a larger pledge is
    /// numbered as workers take sectors.
    #[serde(default = "max_queued")]
    pub max_queued: u64,
    /// How many new sectors it gets from workers that it shares with others, relative to their weights: 0 to 1000. With 0
    /// it gets one only while no other miner has any. `miners weight` overrides this.
    #[serde(default = "one")]
    pub weight: u32,
    /// The sender of the messages: an address whose key the node has, and that is the miner's worker, owner or control
    /// address. By default the miner's worker.
    #[serde(default)]
    pub sender: Option<String>,
    /// The senders of each kind of message, instead of `sender`. The first that can pay sends it.
    #[serde(default)]
    pub senders: Senders,
    /// The numbers that new sectors may have, such as `1000-1999,5000-`. Needed if another system also allocates
    /// numbers for the miner, because its latest ones are not on chain yet. By default all except 0.
    #[serde(default)]
    pub numbers: Numbers,
    /// For how many days a new sector is committed: 180 to 1278. By default the least that the chain accepts.
    #[serde(default)]
    pub lifetime_days: Option<u32>,
    /// When proven sectors are extended, and for how long. `None`: they end when they expire.
    #[serde(default)]
    pub expiry: Option<Expiry>,
    /// Whether its sectors are proven by window PoSt. `false` if another system proves them.
    #[serde(default = "yes")]
    pub prove: bool,
    /// Whether blocks are made for it. Only one system may do this: two blocks for one epoch are punished.
    #[serde(default)]
    pub mine: bool,
    /// What its messages may cost, instead of `[chain.fees]`.
    #[serde(default)]
    pub fees: Option<Fees>,
    /// Which of its messages are sent together, instead of `[chain.batches]`.
    #[serde(default)]
    pub batches: Option<Batches>,
}

/// The `senders` of a `[[miner]]`. Each is an address as in `sender`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Senders {
    /// Who sends PreCommits.
    pub precommit: Vec<String>,
    /// Who sends ProveCommits.
    pub prove_commit: Vec<String>,
    /// Who sends window PoSts and declares recoveries. An address of its own is not held up by other messages.
    pub window_post: Vec<String>,
}

/// A `[[store]]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The store's name, the same as in the workers' configuration.
    pub name: String,
    /// The directory, as this machine mounts it.
    pub path: PathBuf,
}

/// The `[policy]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How many attempts a sector gets before its number is given up.
    pub max_attempts: u32,
    /// How often a sector is offered to workers, for whatever reason, before it is blocked.
    pub max_issues: u32,
    /// How long checking a sector's files in the permanent store may take, in seconds.
    pub file_check_timeout_secs: u64,
    /// How many sectors are checked at the same time in each permanent store.
    pub file_checks: usize,
    /// After how many days the history of a sector whose job has ended is compressed.
    pub archive_after_days: u32,
}

/// The `[proving]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proving {
    /// How long a worker may read one sector for a proof, in seconds. Less if the deadline closes sooner.
    pub sector_limit_secs: u64,
    /// After how many seconds of silence a worker's task goes to another one.
    pub silence_secs: u64,
}

impl Default for Proving {
    fn default() -> Proving {
        Proving { sector_limit_secs: 60, silence_secs: topology::POST_ACK_WAIT.as_secs() }
    }
}

/// The `[mining]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mining {
    /// How long after an epoch began its best tipset is taken as the base of a block, in milliseconds. The others' blocks
    /// have arrived by then. At most a third of an epoch.
    pub propagation_delay_ms: u64,
}

impl Default for Mining {
    fn default() -> Mining {
        // `PropagationDelaySecs` of Lotus on the main network.
        Mining { propagation_delay_ms: 10_000 }
    }
}

/// The `[liveness]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Liveness {
    /// Whether sectors are taken from workers that are gone. Otherwise a person does it.
    pub revoke: bool,
    /// After how many seconds without a sign of life a worker counts as gone.
    pub dead_after_secs: u64,
    /// How many seconds longer a worker may stay away while hours of work are on its disks.
    pub grace_secs: u64,
    /// The same while nothing on its disks is worth waiting for.
    pub short_grace_secs: u64,
    /// For how many seconds a present worker's heartbeats may omit a sector that it owns.
    pub orphan_after_secs: u64,
    /// The least time between two automatic revocations of one sector, in seconds.
    pub reissue_interval_secs: u64,
}

/// Why a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not valid TOML, or its fields do not fit.
    #[error("{path}: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what was expected.
        message: String,
    },
    /// A value is invalid.
    #[error("{path}: {field}: {problem}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong, and how to correct it.
        problem: String,
    },
}

impl Config {
    /// Reads and validates a file. Opens nothing that it names and does not connect.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Config = toml::from_str(&text)
            .map_err(|e| ConfigError::Parse { path: path.to_owned(), message: e.to_string().trim().to_owned() })?;
        config.check().map_err(|(field, problem)| ConfigError::Value { path: path.to_owned(), field, problem })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let refuse = |field: &str, problem: String| Err((field.to_owned(), problem));
        if let Err(error) = self.nats.check() {
            return refuse("[nats]", error.to_string());
        }
        self.chain.check_nodes()?;
        self.chain.check_messager()?;
        if !matches!(self.streams.replicas, 1 | 3 | 5) {
            return refuse("streams.replicas", format!("{} is not 1, 3 or 5", self.streams.replicas));
        }
        if self.streams.max_sectors_bytes < 1 << 20 {
            return refuse("streams.max_sectors_bytes", "must be at least 1048576 (1 MiB)".to_owned());
        }
        if self.chain.confidence_epochs < 0 || self.chain.confidence_epochs > 900 {
            return refuse("chain.confidence_epochs", "must be 0 to 900, the chain's finality".to_owned());
        }
        for (field, millis) in [
            ("chain.poll_interval_ms", Some(self.chain.poll_interval_ms)),
            ("chain.head_interval_ms", self.chain.head_interval_ms),
        ] {
            if millis.is_some_and(|millis| !(10..=3_600_000).contains(&millis)) {
                return refuse(field, "must be 10 to 3600000, an hour".to_owned());
            }
        }
        for (field, secs) in
            [("chain.timeout_secs", self.chain.timeout_secs), ("chain.slow_timeout_secs", self.chain.slow_timeout_secs)]
        {
            if !(1..=3600).contains(&secs) {
                return refuse(field, "must be 1 to 3600".to_owned());
            }
        }
        if self.chain.parallel_requests == 0 {
            return refuse("chain.parallel_requests", "must be at least 1".to_owned());
        }
        if self.chain.repush_epochs < 1 {
            return refuse("chain.repush_epochs", "must be at least 1".to_owned());
        }
        self.chain.check_max_fee()?;
        self.chain.fees.check("chain.fees")?;
        self.chain.batches.check("chain.batches")?;
        for (field, secs) in [
            ("liveness.dead_after_secs", self.liveness.dead_after_secs),
            ("liveness.grace_secs", self.liveness.grace_secs),
            ("liveness.short_grace_secs", self.liveness.short_grace_secs),
            ("liveness.orphan_after_secs", self.liveness.orphan_after_secs),
            ("liveness.reissue_interval_secs", self.liveness.reissue_interval_secs),
        ] {
            if secs == 0 {
                return refuse(field, "must be at least 1".to_owned());
            }
        }
        if !(1..=1800).contains(&self.proving.sector_limit_secs) {
            return refuse("proving.sector_limit_secs", "must be 1 to 1800".to_owned());
        }
        if !(2..=60).contains(&self.proving.silence_secs) {
            return refuse("proving.silence_secs", "must be 2 to 60".to_owned());
        }
        if self.mining.propagation_delay_ms > 25_000 {
            return refuse("mining.propagation_delay_ms", "must be at most 25000".to_owned());
        }
        if let Some(Err((field, problem))) = self.metrics.as_ref().map(metrics::Settings::check) {
            return refuse(field, problem);
        }
        let mut seen = BTreeSet::new();
        for (index, miner) in self.miners.iter().enumerate() {
            let field = |name: &str| format!("miner[{index}].{name}");
            if !seen.insert(miner.id) {
                return Err((field("id"), format!("{} is configured twice", miner.id)));
            }
            let senders = [
                ("sender", miner.sender.as_slice()),
                ("senders.precommit", &miner.senders.precommit),
                ("senders.prove_commit", &miner.senders.prove_commit),
                ("senders.window_post", &miner.senders.window_post),
            ];
            for (name, sender) in senders.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one))) {
                if let Err(error) = crate::chain::json::parse_address(sender) {
                    return Err((field(name), format!("`{sender}` is not an address: {error}")));
                }
            }
            if let Some(fees) = &miner.fees {
                fees.check(&field("fees"))?;
            }
            if let Some(batches) = &miner.batches {
                batches.check(&field("batches"))?;
            }
            if miner.max_queued == 0 {
                return Err((field("max_queued"), "must be at least 1".to_owned()));
            }
            if miner.weight > MAX_WEIGHT {
                return Err((field("weight"), format!("{} is not 0 to {MAX_WEIGHT}", miner.weight)));
            }
            if miner.lifetime_days.is_some_and(|days| !(180..=1278).contains(&days)) {
                return Err((field("lifetime_days"), "must be 180 to 1278".to_owned()));
            }
            if let Some(Err((name, problem))) = miner.expiry.map(Expiry::check) {
                return Err((field(name), problem));
            }
        }
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for (index, store) in self.stores.iter().enumerate() {
            let field = |name: &str| format!("store[{index}].{name}");
            let is_odd = |c: char| c.is_whitespace() || c.is_control();
            if !(1..=64).contains(&store.name.chars().count()) || store.name.contains(is_odd) {
                let problem = "a store needs a name of up to 64 characters without spaces";
                return Err((field("name"), format!("{:?}: {problem}", store.name)));
            }
            if matches!(store.path.as_os_str().as_encoded_bytes(), bytes if bytes.is_empty() || bytes.contains(&0)) {
                return Err((field("path"), format!("{:?} is no path", store.path)));
            }
            if !names.insert(&store.name) {
                return Err((field("name"), format!("`{}` is configured twice", store.name)));
            }
            if !paths.insert(&store.path) {
                return Err((field("path"), format!("{} is configured twice", store.path.display())));
            }
        }
        if self.policy.max_attempts == 0 {
            return refuse("policy.max_attempts", "must be at least 1".to_owned());
        }
        if self.policy.max_issues == 0 {
            return refuse("policy.max_issues", "must be at least 1".to_owned());
        }
        if self.policy.file_check_timeout_secs == 0 {
            return refuse("policy.file_check_timeout_secs", "must be at least 1".to_owned());
        }
        if self.policy.file_checks == 0 {
            return refuse("policy.file_checks", "must be at least 1".to_owned());
        }
        Ok(())
    }

    /// The configuration of a miner.
    pub fn miner(&self, id: MinerId) -> Option<&Miner> {
        self.miners.iter().find(|miner| miner.id == id)
    }

    /// The configured miners, for an error message.
    pub fn miner_names(&self) -> String {
        let names: Vec<_> = self.miners.iter().map(|miner| miner.id.to_string()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

impl Miner {
    /// The configured senders of a kind of message, the preferred one first. None: the miner's worker sends it.
    pub fn senders(&self, kind: MessageKind) -> &[String] {
        let own = match kind {
            MessageKind::PreCommit => &self.senders.precommit,
            MessageKind::ProveCommit => &self.senders.prove_commit,
            MessageKind::Filler | MessageKind::Errand => return self.sender.as_slice(),
        };
        if own.is_empty() { self.sender.as_slice() } else { own }
    }

    /// The configured senders of proofs, the preferred one first. None: the miner's worker sends them.
    pub fn post_senders(&self) -> &[String] {
        let own = self.senders.window_post.as_slice();
        if own.is_empty() { self.sender.as_slice() } else { own }
    }

    /// Every configured sender, each once.
    pub fn all_senders(&self) -> BTreeSet<&str> {
        let Senders { precommit, prove_commit, window_post } = &self.senders;
        self.sender.iter().chain(precommit).chain(prove_commit).chain(window_post).map(String::as_str).collect()
    }
}

impl Streams {
    /// The layout of the streams.
    pub const fn layout(&self) -> Layout {
        Layout { replicas: self.replicas, max_sectors_bytes: self.max_sectors_bytes }
    }
}

impl Chain {
    /// The keys of [`Chain::key_files`].
    pub fn local_keys(&self) -> LocalKeys {
        LocalKeys::new(&self.key_files)
    }

    /// See [`Chain::poll_interval_ms`].
    pub const fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }

    /// How often the node is asked whether it has another head, where an epoch has this length.
    pub fn head_interval(&self, epoch_millis: u64) -> Duration {
        Duration::from_millis(self.head_interval_ms.unwrap_or((epoch_millis / 60).clamp(25, 500)))
    }
}

impl Default for Streams {
    fn default() -> Self {
        Streams { replicas: 1, max_sectors_bytes: 10 << 30 }
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness {
            revoke: true,
            dead_after_secs: 60,
            grace_secs: 3600,
            short_grace_secs: 120,
            orphan_after_secs: 120,
            reissue_interval_secs: 600,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy { max_attempts: 3, max_issues: 6, file_check_timeout_secs: 600, file_checks: 4, archive_after_days: 7 }
    }
}

const fn yes() -> bool {
    true
}

const fn one() -> u32 {
    1
}

const fn five() -> i64 {
    5
}

const fn ten() -> i64 {
    10
}

const fn two_seconds() -> u64 {
    2000
}

const fn sixteen() -> usize {
    16
}

const fn max_queued() -> u64 {
    3000
}

const fn thirty() -> u64 {
    30
}

const fn two_minutes() -> u64 {
    120
}

/// 0.1 FIL in attoFIL.
fn max_fee() -> String {
    "100000000000000000".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("manager.toml");
        std::fs::write(&path, text).expect("writes");
        Config::load(&path)
    }

    fn refused(text: &str) -> String {
        load(text).expect_err("must be refused").to_string()
    }

    const GOOD: &str = r#"
        [database]
        path = "/tmp/sealbus-test.db"
        [nats]
        url = "nats://127.0.0.1:4222"
        [chain]
        url = "http://127.0.0.1:1234/rpc/v1"
        [[miner]]
        id = "t01000"
        sector_size = "32GiB"
    "#;

    #[test]
    fn a_small_file_is_enough_and_the_rest_has_defaults() {
        let config = load(GOOD).expect("loads");
        assert_eq!(config.miners[0].id, MinerId(1000));
        assert_eq!(config.chain.confidence_epochs, 5);
        assert_eq!(config.policy.max_attempts, 3);
    }

    #[test]
    fn the_head_is_asked_for_as_often_as_its_epochs_are_short_unless_the_file_says_how_often() {
        let interval =
            |text: &str, epoch_millis| load(text).expect("loads").chain.head_interval(epoch_millis).as_millis();
        assert_eq!([400, 6_000, 30_000, 60_000].map(|epoch_millis| interval(GOOD, epoch_millis)), [25, 100, 500, 500]);
        let given = GOOD.replace("[chain]", "[chain]\nhead_interval_ms = 40");
        assert_eq!([400, 30_000].map(|epoch_millis| interval(&given, epoch_millis)), [40, 40]);
    }

    #[test]
    fn an_unknown_field_is_named_with_the_known_ones() {
        let error = refused(&GOOD.replace("[chain]", "[chain]\nconfidense_epochs = 3"));
        assert!(error.contains("confidense_epochs") && error.contains("confidence_epochs"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_field() {
        let expiry =
            |below, to| format!("expiry = {{ extend_below_days = {below}, extend_to_days = {to} }}\nsector_size =");
        for (from, to, field) in [
            ("\"32GiB\"", "\"33GiB\"", "sector_size"),
            ("\"t01000\"", "\"1000\"", "id"),
            ("sector_size =", "max_queued = 0\nsector_size =", "miner[0].max_queued"),
            ("[chain]", "[chain]\nmax_fee_atto = \"1 FIL\"", "chain.max_fee_atto"),
            ("[chain]", "[chain]\nmax_fee_atto = \"0\"", "chain.max_fee_atto"),
            ("[chain]", "[chain]\nmax_fee_atto = \"-5\"", "chain.max_fee_atto"),
            (
                "[[miner]]",
                "[chain.fees]\nprecommit_sector_atto = \"-1\"\n[[miner]]",
                "chain.fees.precommit_sector_atto",
            ),
            ("[[miner]]", "[chain.fees]\nbase_fee_wait_atto = \"cheap\"\n[[miner]]", "chain.fees.base_fee_wait_atto"),
            ("[[miner]]", "[chain.fees]\nurgent_epochs = -1\n[[miner]]", "chain.fees.urgent_epochs"),
            ("[[miner]]", "[chain.fees]\nurgent_percent = 99\n[[miner]]", "chain.fees.urgent_percent"),
            ("[chain]", "[chain]\npoll_interval_ms = 31536000000", "chain.poll_interval_ms"),
            ("[chain]", "[chain]\ntimeout_secs = 0", "chain.timeout_secs"),
            ("/tmp/sealbus-test.db", "", "database.path"),
            ("[nats]", "[nats]\napi_prefix = \"\"", "nats.api_prefix"),
            ("[[miner]]", "[[store]]\nname = \"a b\"\npath = \"/a\"\n[[miner]]", "store[0].name"),
            ("[[miner]]", "[[store]]\nname = \"a\\u001b[1m\"\npath = \"/a\"\n[[miner]]", "store[0].name"),
            ("[[miner]]", "[[store]]\nname = \"a\"\npath = \"\"\n[[miner]]", "store[0].path"),
            (
                "[[miner]]",
                "[[store]]\nname = \"a\"\npath = \"/a\"\n[[store]]\nname = \"b\"\npath = \"/a\"\n[[miner]]",
                "store[1].path",
            ),
            ("sector_size =", "numbers = \"9-5\"\nsector_size =", "9-5"),
            ("sector_size =", &expiry(1, 540), "miner[0].expiry.extend_below_days"),
            ("sector_size =", &expiry(30, 59), "miner[0].expiry.extend_to_days"),
            ("sector_size =", &expiry(30, 1279), "miner[0].expiry.extend_to_days"),
            ("sector_size =", "expiry = { extend_below_days = 30 }\nsector_size =", "extend_to_days"),
            ("[chain]", "[policy]\nmax_attempts = 0\n[chain]", "policy.max_attempts"),
            ("[chain]", "[policy]\nmax_issues = 0\n[chain]", "policy.max_issues"),
            ("[chain]", "[proving]\nsilence_secs = 1\n[chain]", "proving.silence_secs"),
            ("[chain]", "[metrics]\nlisten = \"localhost\"\n[chain]", "metrics.listen"),
            ("[chain]", "[metrics]\n[chain]", "listen"),
            ("[chain]", "[metrics]\nlisten = \"127.0.0.1:9464\"\nperiod_secs = 0\n[chain]", "metrics.period_secs"),
            ("[[miner]]", "[chain.messager]\nurl = \"127.0.0.1\"\n[[miner]]", "chain.messager.url"),
            (
                "[[miner]]",
                "[chain.messager]\nurl = \"/ip4/127.0.0.1/tcp/39812\"\ngas_over_premium = 0.5\n[[miner]]",
                "chain.messager.gas_over_premium",
            ),
            ("http://127.0.0.1:1234/rpc/v1", "ws://127.0.0.1:1234/rpc/v1", "chain.url"),
            ("http://127.0.0.1:1234/rpc/v1", "127.0.0.1:1234", "chain.url"),
            ("http://127.0.0.1:1234/rpc/v1", "http://127.0.0.1:1234/rpc/v0", "chain.url"),
            ("nats://127.0.0.1:4222", "http://127.0.0.1:4222", "nats.url"),
            ("[nats]", "[nats]\nnkey_seed_file = \"a\"\ncredentials_file = \"b\"", "nats.nkey_seed_file"),
            ("[nats]", "url = \"postgres://db/sealbus\"\n[nats]", "database.path and database.url"),
            ("[nats]", "password_file = \"/etc/hostname\"\n[nats]", "database.password_file"),
            ("path = \"/tmp/sealbus-test.db\"", "", "database.path or database.url"),
            ("path = \"/tmp/sealbus-test.db\"", "url = \"mysql://db/sealbus\"", "postgres://"),
            ("path = \"/tmp/sealbus-test.db\"", "url = \"postgres://db/\"", "database.url"),
        ] {
            let error = refused(&GOOD.replace(from, to));
            assert!(error.contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        for url in ["postgres://me:s3cret@db/sealbus", "postgres://me@db/sealbus?password=s3cret"] {
            let error = refused(&GOOD.replace("path = \"/tmp/sealbus-test.db\"", &format!("url = \"{url}\"")));
            assert!(error.contains("database.url") && error.contains("password_file"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_mistake_and_is_told_apart_with_its_field() {
        let text = GOOD
            .replace("/tmp/sealbus-test.db", "/no/such/dir/x.db")
            .replace(
                "[nats]",
                "[[store]]\nname = \"a\"\npath = \"/no/such/dir\"\n[nats]\nnkey_seed_file = \"/no/such/seed\"",
            )
            .replace("[chain]", "[chain]\ntoken_file = \"/no/such/token\"");
        let found: Vec<String> =
            load(&text).expect("makes sense").not_there().iter().map(ToString::to_string).collect();
        for field in ["database.path", "nats.nkey_seed_file", "chain.token_file", "store[0].path"] {
            assert_eq!(found.iter().filter(|found| found.contains(field)).count(), 1, "{field}: {found:?}");
        }
        let url = "url = \"postgres://db/sealbus\"\npassword_file = \"/no/such/password\"";
        let found = load(&GOOD.replace("path = \"/tmp/sealbus-test.db\"", url)).expect("makes sense").not_there();
        assert!(found.len() == 1 && found[0].field == "database.password_file", "{found:?}");
        assert_eq!(load(GOOD).expect("makes sense").not_there(), []);
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("directory");
        let token = directory.path().join("token");
        std::fs::write(&token, "abc").expect("writes");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("sets the mode");
        let text = GOOD.replace("[chain]", &format!("[chain]\ntoken_file = {token:?}"));
        let found = load(&text).expect("makes sense").not_there();
        assert!(found.len() == 1 && found[0].problem.contains("chmod 600"), "{found:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/no/such/manager.toml")).expect_err("missing");
        assert!(error.to_string().contains("/no/such/manager.toml"));
    }
}
