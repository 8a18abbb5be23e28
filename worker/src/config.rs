//! The worker's configuration: one TOML file, read and checked as a whole before anything is opened.
//!
//! Whether the file is right ([`Config::load`]) and whether what it names exists ([`Config::not_there`]) are separate
//! questions: a disk that is not mounted yet is not a mistake in the file.
//!
//! [`file`] is the file as written. [`Config`] is what the rest of the worker uses: paths are absolute, and every phase
//! has a processor. Every error names the field and says what to do. `docs/configuration-worker.md` describes the
//! fields for operators.

pub mod file;
mod processors;
mod summary;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_nats::{ConnectError, Connection, NotThere, intents::Queue, metrics, secret};
use sealbus_planner::schedule::{Rules, SetupError};
use sealbus_schema::{IntentKind, MinerId, Phase, SectorSize, WorkerName, Workflow};

use crate::{
    processor::GroupConfig,
    sandbox::{self, Sandbox, rules},
};
use file::File;
use processors::Around;

pub use summary::summary;

/// Half of the time for which NATS keeps a heartbeat, in seconds.
const HEARTBEAT_SECS_MAX: u64 = sealbus_nats::topology::HEARTBEAT_MAX_AGE.as_secs() / 2;
const A_DAY: u64 = 24 * 3600;
/// More than any phase takes on any machine, in seconds.
const A_MONTH: u64 = 30 * A_DAY;

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The worker's name, unique to a machine.
    pub name: WorkerName,
    /// The machine's host name, shown to people.
    pub host: String,
    /// Whose sectors are worked on.
    pub miners: Vec<MinerId>,
    /// Which workflows are served.
    pub workflows: Vec<Workflow>,
    /// How large the sectors are.
    pub sector_size: SectorSize,
    /// The pause before the first retry of a failed phase.
    pub recover_interval: Duration,
    /// How many retries a `temp` error allows.
    pub max_retries: u32,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// How to connect to NATS.
    pub nats: Connection,
    /// The slots' directories.
    pub slots: Vec<PathBuf>,
    /// The groups of processors; every phase has at least one.
    pub processors: Vec<GroupConfig>,
    /// Limits for the whole machine, and locks.
    pub rules: Rules,
    /// Control groups; `None` if they are not used.
    pub cgroup: Option<Cgroup>,
    /// Whether processors are confined to what they need.
    pub sandbox: sandbox::Mode,
    /// Whether provers of proofs of spacetime are tried before the first task.
    pub proving_trial: bool,
    /// The permanent store for sealed sectors.
    pub store: Store,
    /// All directories that the file names, whether they exist or not.
    pub directories: Vec<Directory>,
    /// Where metrics are served. `None`: nowhere.
    pub metrics: Option<metrics::Settings>,
}

/// A directory named in the configuration. It may be on a disk that is mounted later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The field, with its table.
    pub field: String,
    /// The absolute path.
    pub path: PathBuf,
    /// What to do if it does not exist.
    pub fix: &'static str,
}

/// The control groups for the processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The group delegated to the worker; `None` for the one that it is in.
    pub parent: Option<PathBuf>,
    /// Whether the worker refuses to start without control groups.
    pub required: bool,
}

/// A permanent store on a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The store's name in the manager's configuration.
    pub name: String,
    /// The store's root directory.
    pub path: PathBuf,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist, or cannot be read.
    #[error("cannot read the configuration {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's error.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown field, or a value of the wrong type.
    #[error("the configuration {path} is not valid", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error, with its position.
        #[source]
        source: toml::de::Error,
    },
    /// A value that is not allowed.
    #[error("{field} = {value}: {problem}")]
    Value {
        /// The field, with its table.
        field: String,
        /// The value as configured.
        value: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Processors, limits and locks contradict each other.
    #[error(transparent)]
    Processors(#[from] SetupError),
    /// A table or list that needs an entry is empty.
    #[error("{field} is empty: {fix}")]
    Empty {
        /// The field.
        field: &'static str,
        /// What to write there.
        fix: &'static str,
    },
    /// A path is not a directory.
    #[error("{field} = {path:?} is not a directory: {fix}")]
    NotADirectory {
        /// The field, with its table.
        field: String,
        /// The configured path, made absolute.
        path: PathBuf,
        /// What to do.
        fix: &'static str,
        /// The system's error, if the path could not be examined.
        #[source]
        source: Option<std::io::Error>,
    },
    /// A processor's executable cannot be started. Otherwise this would show only when its phase begins, hours later.
    #[error("{field} = {path:?}: {problem}")]
    NoExecutable {
        /// The field, with its table.
        field: String,
        /// The configured path, made absolute.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// The `[nats]` table is wrong.
    #[error("[nats]")]
    Nats(#[from] ConnectError),
    /// Two slots have the same directory, so they would overwrite each other's files.
    #[error("slot[{first}].path and slot[{second}].path are the same directory {path:?}: give each slot its own")]
    SharedSlot {
        /// The index of the first slot.
        first: usize,
        /// The index of the second slot.
        second: usize,
        /// The common directory.
        path: PathBuf,
    },
}

impl Config {
    /// Reads and checks a configuration. Relative paths are relative to the directory of the file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let base = std::path::absolute(path).map_err(read)?;
        let parsed = toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        check(parsed, base.parent().unwrap_or(Path::new("/")))
    }

    /// The files and directories that are missing or unusable at this moment. Connects to nothing.
    pub fn not_there(&self) -> Vec<NotThere> {
        let told = self.directories.iter().filter_map(|Directory { field, path, fix }| {
            let problem = match path.metadata() {
                Ok(found) if found.is_dir() => return None,
                // Such as rights that this user does not have: no disk needs to be mounted for that.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    format!("{} cannot be looked at: {error}", path.display())
                }
                _ => format!("{} is not a directory: {fix}", path.display()),
            };
            Some(NotThere { field: field.clone(), problem })
        });
        told.chain(self.nats.not_there()).collect()
    }

    /// The groups of processors with their sandboxes. `own_exe` is the worker's executable.
    pub fn confined(&self, own_exe: Option<&Path>) -> impl Iterator<Item = GroupConfig> {
        self.processors.iter().cloned().map(move |group| {
            let mut sandbox = rules::of(self.sandbox, &group, &self.slots, &self.store.path, own_exe);
            if let (true, Some(sandbox)) = (self.slots.is_empty(), &mut sandbox) {
                // Where a machine without slots puts the vanilla proofs.
                sandbox.read.extend(self.tmp_dirs());
            }
            GroupConfig { sandbox, ..group }
        })
    }

    /// Our identities that processors can read all the same, because of where they lie, each as a warning.
    pub fn exposed(&self) -> Vec<String> {
        let mut exposed: BTreeMap<(PathBuf, PathBuf), Vec<&str>> = BTreeMap::new();
        for GroupConfig { sandbox, stage, .. } in self.confined(None) {
            for found in sandbox.iter().flat_map(|sandbox: &Sandbox| rules::exposed(sandbox, &self.nats)) {
                exposed.entry(found).or_default().push(stage.name());
            }
        }
        let told = exposed.into_iter().map(|((secret, by), mut stages)| {
            stages.dedup();
            let (stages, secret, by) = (stages.join(", "), secret.display(), by.display());
            format!("processors ({stages}) can read {secret}, because they may read {by}: move the secret")
        });
        told.collect()
    }

    /// The directories for temporary files: those of the slots. A machine without slots has one where the system keeps
    /// such files.
    pub fn tmp_dirs(&self) -> Vec<PathBuf> {
        match self.slots.is_empty() {
            true => vec![std::env::temp_dir().join(format!("sealbus-{}", self.name))],
            false => self.slots.iter().map(|slot| slot.join("tmp")).collect(),
        }
    }

    /// Whether the machine works on a phase.
    pub fn serves(&self, phase: Phase) -> bool {
        self.processors.iter().any(|group| group.stage == phase)
    }

    /// The queues from which intents are pulled.
    pub fn queues(&self) -> Vec<Queue> {
        let proof = self.sector_size.seal_proof();
        let served = |kind: &IntentKind| kind.workflow().is_some_and(|workflow| self.workflows.contains(&workflow));
        let kinds = IntentKind::ALL.iter().copied().filter(served);
        kinds.flat_map(|kind| self.miners.iter().map(move |&miner| Queue { miner, proof, kind })).collect()
    }
}

fn check(file: File, base: &Path) -> Result<Config, ConfigError> {
    let File { worker, nats, slot, processor, limits, cgroup, locks, store, proving, params, metrics } = file;
    if worker.miners.is_empty() {
        return Err(ConfigError::Empty { field: "worker.miners", fix: "name at least one, such as [\"f01000\"]" });
    }
    if let Some((_, twice)) = worker.miners.iter().enumerate().find(|(at, miner)| worker.miners[..*at].contains(miner))
    {
        let problem = "is named twice: name each miner once".to_owned();
        return Err(ConfigError::Value { field: "worker.miners".into(), value: twice.to_string(), problem });
    }
    let workflows = worker
        .workflows
        .unwrap_or_else(|| Workflow::ALL.iter().copied().filter(|workflow| workflow.is_served_by_default()).collect());
    let serves_proofs = proving.read || proving.prove || proving.win;
    match (workflows.is_empty(), slot.is_empty()) {
        (false, true) => {
            let fix = "write a [[slot]] table with a path for each slot, or worker.workflows = [] for a machine that only serves \
                       proofs of spacetime";
            return Err(ConfigError::Empty { field: "slot", fix });
        }
        (true, false) => {
            let fix = "name at least one, such as [\"seal\"], or remove it: all are served then. A machine that only serves proofs \
                       has no [[slot]]";
            return Err(ConfigError::Empty { field: "worker.workflows", fix });
        }
        (true, true) if !serves_proofs => {
            let fix = "name at least one, such as [\"seal\"], or let the machine read or prove: see [proving]";
            return Err(ConfigError::Empty { field: "worker.workflows", fix });
        }
        _ => {}
    }
    if let Some(host) = worker.host.as_ref().filter(|host| !is_name(host)) {
        let problem =
            "a machine's name has up to 64 characters and no spaces; without the line it is the machine's own";
        let (field, value) = ("worker.host".to_owned(), format!("{host:?}"));
        return Err(ConfigError::Value { field, value, problem: problem.to_owned() });
    }
    if let Some((settings, Err((field, problem)))) = metrics.as_ref().map(|settings| (settings, settings.check())) {
        let value = format!("{:?} every {} s", settings.listen, settings.period_secs);
        return Err(ConfigError::Value { field: field.to_owned(), value, problem });
    }
    let recover_interval = seconds("worker.recover_interval_secs", worker.recover_interval_secs, A_DAY)?;
    let heartbeat = seconds("worker.heartbeat_secs", worker.heartbeat_secs, HEARTBEAT_SECS_MAX)?;
    let mut slots: Vec<PathBuf> = Vec::new();
    let mut directories = Vec::new();
    for (index, table) in slot.iter().enumerate() {
        let field = format!("slot[{index}].path");
        let fix = "a slot is a directory: mount its disk, correct the path, or take the slot out";
        let path = named_directory(field.clone(), &base.join(&table.path), fix)?;
        directories.push(Directory { field, path: path.clone(), fix });
        if let Some(first) = slots.iter().position(|other| *other == path) {
            return Err(ConfigError::SharedSlot { first, second: index, path });
        }
        if let Some(first) = slots.iter().position(|other| lie_in_one_another(other, &path)) {
            let problem = format!("lies in slot[{first}].path, or that in it: give each slot a directory of its own");
            let field = format!("slot[{index}].path");
            return Err(ConfigError::Value { field, value: format!("{path:?}"), problem });
        }
        slots.push(path);
    }
    if !is_name(&store.name) {
        let problem =
            "a store needs a name of up to 64 characters without spaces, the one that the manager's configuration has"
                .to_owned();
        return Err(ConfigError::Value { field: "store.name".into(), value: format!("{:?}", store.name), problem });
    }
    let fix = "mount the permanent store, or create the directory; the worker never makes it";
    let store_path = named_directory("store.path".into(), &base.join(&store.path), fix)?;
    directories.push(Directory { field: "store.path".into(), path: store_path.clone(), fix });
    if let Some(slot) = slots.iter().position(|slot| *slot == store_path || lie_in_one_another(slot, &store_path)) {
        let problem = format!("is slot[{slot}].path, or one lies in the other: slots are cleaned, the store never is");
        return Err(ConfigError::Value { field: "store.path".into(), value: format!("{store_path:?}"), problem });
    }
    let mut library_env = BTreeMap::new();
    for (field, path, variable) in [
        ("params.cache", &params.cache, "FIL_PROOFS_PARAMETER_CACHE"),
        ("params.parent_cache", &params.parent_cache, "FIL_PROOFS_PARENT_CACHE"),
    ] {
        if let Some(path) = path {
            let fix = "create it, or mount its disk";
            let path = named_directory(field.into(), &base.join(path), fix)?;
            directories.push(Directory { field: field.into(), path: path.clone(), fix });
            library_env.insert(variable.to_owned(), path.display().to_string());
        }
    }
    let processors = {
        let (sector_size, has_cgroups) = (worker.sector_size, cgroup.is_some());
        let (workflows, proving) = (&workflows, &proving);
        let around = Around { base, library_env: &library_env, sector_size, has_cgroups, workflows, proving };
        processors::groups(processor, &around)?
    };
    let rules = processors::rules(limits, locks, &processors)?;
    Ok(Config {
        name: worker.name,
        host: worker.host.unwrap_or_else(own_host_name),
        miners: worker.miners,
        workflows,
        sector_size: worker.sector_size,
        recover_interval,
        max_retries: worker.max_retries,
        heartbeat,
        nats: connection(nats, base)?,
        slots,
        processors,
        rules,
        cgroup: cgroup
            .map(|table| Cgroup { parent: table.parent.map(|parent| base.join(parent)), required: table.required }),
        sandbox: worker.sandbox,
        proving_trial: proving.trial,
        store: Store { name: store.name, path: store_path },
        directories,
        metrics,
    })
}

/// A number of seconds from 1 to `max`. The upper limit keeps later arithmetic in range.
fn seconds(field: &str, secs: u64, max: u64) -> Result<Duration, ConfigError> {
    if !(1..=max).contains(&secs) {
        let problem = format!("must be 1 to {max} seconds");
        return Err(ConfigError::Value { field: field.to_owned(), value: secs.to_string(), problem });
    }
    Ok(Duration::from_secs(secs))
}

/// Whether people can read and type a text as the name of something: on a terminal, in a table, in an order.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Whether one of the two directories lies below the other.
fn lie_in_one_another(one: &Path, other: &Path) -> bool {
    one != other && (one.starts_with(other) || other.starts_with(one))
}

/// The canonical path of an existing directory, with symbolic links resolved.
fn directory(field: String, path: &Path, fix: &'static str) -> Result<PathBuf, ConfigError> {
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(found) => Err(ConfigError::NotADirectory { field, path: found, fix, source: None }),
        Err(source) => Err(ConfigError::NotADirectory { field, path: path.to_owned(), fix, source: Some(source) }),
    }
}

/// The path of a directory that need not exist yet: its disk may be mounted later.
fn named_directory(field: String, path: &Path, fix: &'static str) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        let problem = "no path has the character NUL: correct it".to_owned();
        return Err(ConfigError::Value { field, value: format!("{path:?}"), problem });
    }
    match directory(field, path, fix) {
        Err(ConfigError::NotADirectory { source: Some(_), .. }) => {
            // Links in the existing part are resolved, so the path stays the same once the directory exists.
            let (parent, name) = (path.parent(), path.file_name());
            let resolved = parent.and_then(|parent| parent.canonicalize().ok()).zip(name);
            Ok(resolved.map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name)))
        }
        outcome => outcome,
    }
}

/// The connection with absolute paths. Whether its files exist and the server accepts them is checked elsewhere.
fn connection(mut nats: Connection, base: &Path) -> Result<Connection, ConfigError> {
    nats.check()?;
    for path in [&mut nats.nkey_seed_file, &mut nats.credentials_file].into_iter().flatten() {
        *path = secret::absolute(base, path);
    }
    nats.ca_file = nats.ca_file.map(|path| base.join(path));
    Ok(nats)
}

fn own_host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::Phase;

    use super::*;
    use crate::{processor::MemoryPolicy, sandbox::Mode, stage::huge_pages::Wish};

    fn checked(dir: &Path, text: &str) -> Result<Config, String> {
        let path = dir.join("worker.toml");
        std::fs::write(&path, text).expect("writes");
        Config::load(&path).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        })
    }

    fn minimal(dir: &Path) -> String {
        for name in ["a", "b", "store"] {
            std::fs::create_dir_all(dir.join(name)).expect("directory");
        }
        "[worker]\nname = \"w1\"\nminers = [\"f01000\"]\nsector_size = \"2KiB\"\n\
         [nats]\nurl = \"nats://127.0.0.1:4222\"\n[[slot]]\npath = \"a\"\n[store]\nname = \"main\"\npath = \"store\"\n"
            .to_owned()
    }

    #[test]
    fn the_least_configuration_gets_a_processor_for_every_phase_of_what_is_served_by_default() {
        let dir = tempfile::tempdir().expect("directory");
        let config = checked(dir.path(), &minimal(dir.path())).expect("valid");
        assert_eq!(config.workflows, [Workflow::Seal]);
        assert_eq!(config.processors.len(), Phase::SEALING.len() + 2, "and the readers for both kinds of proofs");
        assert!(config.slots[0].is_absolute());
        assert_eq!(config.recover_interval, Duration::from_secs(30));
        assert!(!config.host.is_empty());
    }

    #[test]
    fn a_machine_has_queues_and_built_in_processors_for_nothing_but_the_workflows_that_it_serves() {
        let dir = tempfile::tempdir().expect("directory");
        let seal = minimal(dir.path()).replace("miners", "workflows = [\"seal\"]\nminers");
        let mut config = checked(dir.path(), &seal).expect("valid");
        assert_eq!(config.processors.len(), Workflow::Seal.phases().len() + 2, "and the readers for proofs");
        let kinds: Vec<_> = config.queues().iter().map(|queue| queue.kind).collect();
        assert_eq!(kinds, Workflow::Seal.intents());
        config.workflows.clear();
        assert!(config.queues().is_empty());
        let library_env = BTreeMap::new();
        let (base, sector_size) = (dir.path(), config.sector_size);
        let proving = &file::ProvingTable { read: false, ..Default::default() };
        let around =
            Around { base, library_env: &library_env, sector_size, has_cgroups: false, workflows: &[], proving };
        assert!(processors::groups(Vec::new(), &around).expect("valid").is_empty());
    }

    #[test]
    fn a_machine_reads_for_proofs_unless_it_is_told_not_to_and_proves_only_if_it_is_told_to() {
        let dir = tempfile::tempdir().expect("directory");
        let counts = |more: &str| -> Vec<usize> {
            let config = checked(dir.path(), &format!("{}{more}", minimal(dir.path()))).expect("valid");
            let groups = |phase| config.processors.iter().filter(move |group| group.stage == phase);
            [Phase::POST, Phase::WINNING]
                .as_flattened()
                .iter()
                .map(|phase| groups(*phase).map(|group| group.count).sum())
                .collect()
        };
        assert_eq!(counts(""), [8, 0, 2, 0]);
        assert_eq!(counts("[proving]\nreaders = 3\nprove = true\n"), [3, 1, 2, 0]);
        assert_eq!(counts("[proving]\nread = false\nwin = true\n"), [0, 0, 0, 1]);
        let group = "[[processor]]\nstage = \"post_prove\"\ncount = 2\ngpus = [\"0\"]\n";
        assert_eq!(counts(&format!("{group}[proving]\nprove = true\n")), [8, 2, 2, 0]);
    }

    #[test]
    fn a_machine_that_only_serves_proofs_has_no_slots() {
        let dir = tempfile::tempdir().expect("directory");
        let without = minimal(dir.path()).replace("[[slot]]\npath = \"a\"\n", "");
        let only = without.replace("miners", "workflows = []\nminers");
        let config = checked(dir.path(), &only).expect("it reads");
        assert!(config.slots.is_empty() && config.queues().is_empty());
        let stages: Vec<Phase> = config.processors.iter().map(|group| group.stage).collect();
        assert_eq!(stages, [Phase::POST[0], Phase::WINNING[0]]);
        assert_eq!(config.tmp_dirs(), [std::env::temp_dir().join("sealbus-w1")]);
        checked(dir.path(), &format!("{only}[proving]\nread = false\nwin = true\n")).expect("it proves");
        let refused = |text: &str| checked(dir.path(), text).expect_err("refused").to_string();
        assert!(refused(&without).starts_with("slot is empty"));
        assert!(refused(&format!("{only}[proving]\nread = false\n")).starts_with("worker.workflows is empty"));
    }

    #[test]
    fn the_example_in_the_docs_is_valid_apart_from_its_paths() {
        let text = include_str!("../../docs/examples/worker.toml");
        let file: File = toml::from_str(text).expect("parses");
        assert!(!file.slot.is_empty() && !file.processor.is_empty());
        let library_env = BTreeMap::new();
        let around = Around {
            base: Path::new("/"),
            library_env: &library_env,
            sector_size: file.worker.sector_size,
            workflows: Workflow::ALL,
            has_cgroups: file.cgroup.is_some(),
            proving: &file.proving,
        };
        let groups = processors::groups(file.processor, &around).expect("groups");
        processors::rules(file.limits, file.locks, &groups).expect("rules");
    }

    #[test]
    fn parameter_directories_reach_the_children_and_a_group_may_differ() {
        let dir = tempfile::tempdir().expect("directory");
        let text = format!(
            "{}[params]\ncache = \"a\"\n[[processor]]\nstage = \"c2\"\nenv = {{ FIL_PROOFS_PARAMETER_CACHE = \"/own\" }}\n",
            minimal(dir.path())
        );
        let config = checked(dir.path(), &text).expect("valid");
        let of = |phase| config.processors.iter().find(|group| group.stage == phase).expect("group");
        assert_eq!(of(Phase::C2).env["FIL_PROOFS_PARAMETER_CACHE"], "/own");
        assert!(of(Phase::C1).env["FIL_PROOFS_PARAMETER_CACHE"].ends_with("/a"));
    }

    #[test]
    fn processors_have_their_places_limits_and_locks() {
        let dir = tempfile::tempdir().expect("directory");
        let text = format!(
            "{}[[processor]]\nstage = \"pc1\"\ncount = 2\ncpus = [\"0-3\", \"4-7\"]\nnuma_node = 1\nmemory = \"prefer\"\n\
             [[processor]]\nstage = \"c2\"\nconcurrent = 2\ncpus = \"8\"\ngpus = [\"0\"]\nlocks = [\"gpu0\"]\n\
             [limits.concurrent]\npc1 = 4\n[limits.staggered_secs]\npc1 = 300\n[locks]\ngpu0 = 2\n",
            minimal(dir.path())
        );
        let config = checked(dir.path(), &text).expect("valid");
        let [pc1, c2] = &config.processors[..2] else { panic!("two groups come first") };
        assert_eq!(pc1.placement(1).cpus.map(|cpus| cpus.to_string()), Some("4-7".to_owned()));
        assert_eq!(pc1.placement(0).memory, Some((1, MemoryPolicy::Prefer)));
        assert_eq!((c2.concurrent, &c2.locks[..]), (2, &["gpu0".to_owned()][..]));
        assert_eq!(c2.placement(0).gpus, ["0"]);
        assert_eq!(config.rules.concurrent[&Phase::Pc1], 4);
        assert_eq!(config.rules.staggered[&Phase::Pc1], Duration::from_secs(300));
        assert_eq!(config.rules.locks["gpu0"], 2);
        let auto = checked(dir.path(), &text.replace("cpus = \"8\"", "cpus = \"auto\"")).expect("valid");
        assert!(auto.processors[1].auto_cpus && !auto.processors[0].auto_cpus);
        assert!(summary(&auto).contains("cpus any (auto)"));
        let shown = summary(&config);
        for words in ["cpus 0-3 | 4-7", "node 1 (prefer)", "gpus 0", "locks gpu0", "limit", "300 s", "gpu0 x 2"] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
    }

    #[test]
    fn processors_have_their_control_groups_and_huge_pages() {
        let dir = tempfile::tempdir().expect("directory");
        let text = format!(
            "{}[[processor]]\nstage = \"pc1\"\nmemory_high = \"60GiB\"\nmemory_max = \"64GiB\"\npids_max = 500\n\
             huge_pages = \"transparent\"\n[cgroup]\nparent = \"given\"\nrequired = true\n",
            minimal(dir.path())
        );
        let config = checked(dir.path(), &text).expect("valid");
        let Cgroup { parent, required } = config.cgroup.clone().expect("there");
        assert_eq!((parent, required), (Some(dir.path().join("given")), true));
        let pc1 = &config.processors[0];
        assert_eq!((pc1.cgroup.memory_high_bytes, pc1.cgroup.memory_max_bytes), (Some(60 << 30), Some(64 << 30)));
        assert_eq!((pc1.cgroup.pids_max, pc1.huge_pages), (Some(500), Some((Wish::Transparent, SectorSize::KiB2))));
        let shown = summary(&config);
        for words in ["given (required)", "memory_high 60 GiB", "memory_max 64 GiB", "pids_max 500", "transparent"] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let without = checked(dir.path(), &minimal(dir.path())).expect("valid");
        assert_eq!(without.cgroup, None);
    }

    #[test]
    fn processors_are_confined_unless_the_file_says_otherwise_and_paths_start_at_the_file() {
        let dir = tempfile::tempdir().expect("directory");
        let base = dir.path();
        let c2 = "[[processor]]\nstage = \"c2\"\nreadable = [\"libs\"]\nwritable = [\"/scratch\"]\n";
        let with = |mode: &str| minimal(base).replace("miners", &format!("{mode}\nminers")) + c2;
        for (text, mode) in [("", Mode::BestEffort), ("sandbox = \"required\"", Mode::Required)] {
            let config = checked(base, &with(text)).expect("valid");
            assert_eq!(config.sandbox, mode);
            assert!(summary(&config).contains(&format!("sandbox    {}: ", mode.name())));
            let group = config.confined(Some(Path::new("/own"))).next().expect("c2");
            let sandbox = group.sandbox.expect("confined");
            assert_eq!(sandbox.required, mode == Mode::Required);
            assert!(sandbox.read.contains(&base.join("libs")) && sandbox.write == [PathBuf::from("/scratch")]);
        }
        let off = checked(base, &with("sandbox = \"off\"")).expect("valid");
        assert!(off.confined(None).all(|group| group.sandbox.is_none()) && off.exposed().is_empty());
        assert!(checked(base, &with("sandbox = \"maybe\"")).expect_err("refused").contains("unknown variant `maybe`"));
    }

    #[test]
    fn a_seed_that_processors_can_read_is_told_and_a_credential_stays_one() {
        let dir = tempfile::tempdir().expect("directory");
        let with = |seed: &str| minimal(dir.path()).replace("url =", &format!("nkey_seed_file = {seed:?}\nurl ="));
        let exposed = checked(dir.path(), &with("a/worker.nk")).expect("valid").exposed();
        assert!(exposed.len() == 1 && exposed[0].starts_with("processors (c2) can read"), "{exposed:?}");
        assert!(checked(dir.path(), &with("worker.nk")).expect("valid").exposed().is_empty());
        let credential = checked(dir.path(), &with("credential:worker.nk")).expect("valid");
        assert_eq!(credential.nats.nkey_seed_file, Some("credential:worker.nk".into()));
        let found: Vec<String> = credential.not_there().iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|found| found.contains("LoadCredential=worker.nk")), "{found:?}");
    }

    #[test]
    fn a_slot_that_is_not_there_is_waited_for_and_no_reason_to_refuse() {
        let dir = tempfile::tempdir().expect("directory");
        let text = minimal(dir.path()).replace("path = \"a\"", "path = \"gone\"");
        let config = checked(dir.path(), &text).expect("valid");
        assert_eq!(config.slots, [dir.path().canonicalize().expect("there").join("gone")]);
    }

    #[test]
    fn what_is_not_there_is_no_mistake_and_is_told_apart_with_its_field() {
        let dir = tempfile::tempdir().expect("directory");
        let good = minimal(dir.path());
        assert_eq!(checked(dir.path(), &good).expect("valid").not_there(), []);
        let text = good
            .replace("path = \"a\"", "path = \"no-slot\"")
            .replace("path = \"store\"", &format!("path = \"{}\"", "x".repeat(300)))
            .replace("url =", "ca_file = \"gone.pem\"\nnkey_seed_file = \"gone.nk\"\nurl =");
        let config = checked(dir.path(), &format!("{text}[params]\ncache = \"no-params\"\n")).expect("valid");
        let found: Vec<String> = config.not_there().iter().map(ToString::to_string).collect();
        for field in ["slot[0].path", "store.path", "params.cache", "nats.nkey_seed_file", "nats.ca_file"] {
            assert_eq!(found.iter().filter(|found| found.contains(field)).count(), 1, "{field}: {found:?}");
        }
        assert!(found.iter().any(|found| found.contains("cannot be looked at: File name too long")), "{found:?}");
    }

    #[test]
    fn each_refusal_names_the_field() {
        let dir = tempfile::tempdir().expect("directory");
        let good = minimal(dir.path());
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).expect("link");
        let c2 = |fields: &str| format!("{good}[[processor]]\nstage = \"c2\"\n{fields}\n");
        for (text, expected) in [
            (good.replace("name = \"w1\"", "name = \"w 1\""), "`w 1` is not a worker name"),
            (good.replace("2KiB", "3KiB"), "`3KiB` is not a sector size"),
            (good.replace("f01000", "f1abc"), "`f1abc` is not a miner"),
            (good.replace("[\"f01000\"]", "[]"), "worker.miners is empty"),
            (good.replace("miners", "workflows = []\nminers"), "worker.workflows is empty"),
            (good.replace("miners", "workflows = [\"melt\"]\nminers"), "unknown variant `melt`"),
            (good.replace("miners", "max_slots = 3\nminers"), "unknown field `max_slots`"),
            (good.replace("path = \"a\"", "path = \"worker.toml\""), "slot[0].path"),
            (
                format!("{good}[[slot]]\npath = \"gone\"\n[[slot]]\npath = \"./gone\"\n"),
                "slot[1].path and slot[2].path",
            ),
            (format!("{good}[[slot]]\npath = \"link\"\n"), "slot[0].path and slot[1].path are the same"),
            (good.replace("path = \"store\"", "path = \"worker.toml\""), "store.path"),
            (good.replace("name = \"main\"", "name = \"\""), "store.name"),
            (good.replace("name = \"main\"", r#"name = "\u001b[31mmain""#), "store.name"),
            (good.replace("[worker]", "[worker]\nhost = \"\""), "worker.host"),
            (
                good.replace(
                    "[worker]",
                    r#"[worker]
host = "a\nb""#,
                ),
                "worker.host",
            ),
            (good.replace("miners", "heartbeat_secs = 0\nminers"), "worker.heartbeat_secs = 0"),
            (good.replace("miners", "heartbeat_secs = 600\nminers"), "worker.heartbeat_secs = 600: must be 1 to 90"),
            (
                good.replace("miners", &format!("recover_interval_secs = {}\nminers", i64::MAX)),
                "worker.recover_interval_secs",
            ),
            (good.replace("[\"f01000\"]", "[\"f01000\", \"f01000\"]"), "worker.miners = f01000: is named twice"),
            (format!("{good}[[slot]]\npath = \"a/in\"\n"), "slot[1].path"),
            (good.replace("path = \"store\"", "path = \"a\""), "store.path"),
            (good.replace("path = \"store\"", "path = \"a/in\""), "store.path"),
            (good.replace("url =", "api_prefix = \"A B\"\nurl ="), "nats.api_prefix"),
            (c2("count = 1000000"), "processor[0].count = 1000000"),
            (c2(&format!("timeout_secs = {}", i64::MAX)), "processor[0].timeout_secs"),
            (c2("bin = \"./worker.toml\""), "processor[0].bin"),
            (c2("bin = \"no-such-program\""), "processor[0].bin"),
            (format!("{good}[[processor]]\nstage = \"c3\"\n"), "unknown variant `c3`"),
            (format!("{good}[[processor]]\nstage = \"c2\"\ncount = 0\n"), "processor[0].count = 0"),
            (format!("{good}[[processor]]\nstage = \"c2\"\nbin = \"./no/such\"\n"), "processor[0].bin"),
            (c2("concurrent = 0"), "processor[0].concurrent = 0"),
            (c2("cpus = \"7-0\""), "processor[0].cpus = \"7-0\""),
            (c2("cpus = \"\""), "no processing unit"),
            (c2("count = 2\ncpus = [\"0-3\"]"), "lists 1 sets for 2 processors"),
            (c2("count = 2\ncpus = [\"0-3\", \"3-6\"]"), "shares 3 with the set of processor 0"),
            (c2("memory = \"bind\""), "processor[0].memory = bind"),
            (c2("memory = \"near\""), "unknown variant `near`"),
            (c2("gpus = [\"0,1\"]"), "processor[0].gpus = \"0,1\""),
            (c2("gpus = [\"0\", \"0\"]"), "is named twice"),
            (c2("gpus = [\"0\"]\nenv = { CUDA_VISIBLE_DEVICES = \"0\" }"), "processor[0].env = CUDA_VISIBLE_DEVICES"),
            (
                c2("memory_max = \"1GiB\""),
                "processor[0].memory_max = \"1GiB\": is kept by a control group: add a [cgroup]",
            ),
            (c2("pids_max = 5"), "processor[0].pids_max = 5"),
            (c2("pids_max = 0\n[cgroup]"), "processor[0].pids_max = 0"),
            (c2("memory_max = \"much\"\n[cgroup]"), "processor[0].memory_max = \"much\": \"much\" is not a size"),
            (c2("memory_high = \"0\"\n[cgroup]"), "processor[0].memory_high = \"0\""),
            (c2("memory_high = \"2GiB\"\nmemory_max = \"1GiB\"\n[cgroup]"), "processor[0].memory_high = \"2GiB\""),
            (format!("{good}[cgroup]\nname = \"x\"\n"), "unknown field `name`"),
            (c2("huge_pages = \"reserved\""), "processor[0].huge_pages = \"reserved\": only pc1"),
            (c2("huge_pages = \"big\""), "processor[0].huge_pages = \"big\""),
            (c2("locks = [\"gpu0\"]"), "add `gpu0 = 1` under [locks]"),
            (c2("locks = [\"gpu0\", \"gpu0\"]\n[locks]\ngpu0 = 2"), "processor[0].locks = [\"gpu0\", \"gpu0\"]"),
            (c2("concurrent = 2\nlocks = [\"gpu0\"]\n[locks]\ngpu0 = 1"), "raise locks.gpu0"),
            (format!("{good}[locks]\ngpu0 = 0\n"), "locks.gpu0 = 0"),
            (format!("{good}[limits.concurrent]\npc1 = 0\n"), "limits.concurrent.pc1 = 0"),
            (format!("{good}[limits.concurrent]\npc9 = 1\n"), "unknown variant `pc9`"),
            (format!("{good}[limits.staggered_secs]\npc1 = 0\n"), "limits.staggered_secs.pc1 = 0"),
            (format!("{good}[limits]\nstaggered = {{}}\n"), "unknown field `staggered`"),
            (format!("{good}[params]\ncache = \"worker.toml\"\n"), "params.cache"),
            (format!("{good}[proving]\nreaders = 0\n"), "proving.readers = 0"),
            (format!("{good}[metrics]\nlisten = \"9464\"\n"), "metrics.listen"),
            (format!("{good}[metrics]\nlisten = \"[::]:9464\"\nperiod_secs = 301\n"), "metrics.period_secs"),
            (format!("{good}[proving]\nwatch = true\n"), "unknown field `watch`"),
            (format!("{good}[[processor]]\nstage = \"post_prove\"\n"), "proving.prove = false: processor[0]"),
            (format!("{good}[[processor]]\nstage = \"win_prove\"\n"), "proving.win = false: processor[0]"),
            (
                format!("{good}[[processor]]\nstage = \"post_read\"\n[proving]\nreaders = 2\n"),
                "proving.readers = 2: the readers are those of processor[0]",
            ),
            (good.replace("url =", "token = \"x\"\nurl ="), "unknown field `token`"),
            (good.replace("nats://127.0.0.1:4222", "nats://one, ,two"), "nats.url"),
            (good.replace("nats://127.0.0.1:4222", "http://one"), "nats.url"),
            (good.replace("url =", "nkey_seed_file = \"a\"\ncredentials_file = \"b\"\nurl ="), "nats.nkey_seed_file"),
        ] {
            let error = checked(dir.path(), &text).expect_err(expected);
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }
}
