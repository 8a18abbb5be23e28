//! The worker's configuration: one TOML file, read and checked as a whole before anything is opened.
//!
//! [`file`] is the file as written; [`Config`] is what the rest of the worker gets: absolute paths, every phase with a
//! processor. Every refusal names the field and says what to do. `docs/configuration-worker.md` describes the fields
//! for people.

pub mod file;
mod summary;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_nats::{Connection, intents::Queue};
use sealbus_schema::{MinerId, Phase, Plan, SectorSize, WorkerName};

use crate::processor::{GroupConfig, Protocol};
use crate::stage::foreign;
use file::{File, ProcessorTable, ProtocolName};

pub use summary::summary;

/// What the worker runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The worker's name, one a machine.
    pub name: WorkerName,
    /// The machine's host name, for people.
    pub host: String,
    /// Whose sectors are sealed.
    pub miners: Vec<MinerId>,
    /// How large they are.
    pub sector_size: SectorSize,
    /// The wait before the first new try of a failed phase.
    pub recover_interval: Duration,
    /// How many further tries a `temp` error allows.
    pub max_retries: u32,
    /// The time between two signs of life.
    pub heartbeat: Duration,
    /// Where NATS is.
    pub nats: Connection,
    /// The slots' directories.
    pub slots: Vec<PathBuf>,
    /// The processors; every phase has at least one.
    pub processors: Vec<GroupConfig>,
    /// Where sealed sectors go.
    pub store: Store,
}

/// A permanent store on a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The name that the manager knows it by.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the configuration {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown field, or a value of another kind.
    #[error("the configuration {path} is not valid", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A value that cannot be worked with.
    #[error("{field} = {value}: {problem}")]
    Value {
        /// The field, with its table.
        field: String,
        /// As configured.
        value: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A table or a list that must have an entry has none.
    #[error("{field} is empty: {fix}")]
    Empty {
        /// The field.
        field: &'static str,
        /// What to write.
        fix: &'static str,
    },
    /// A path that must be a directory is none.
    #[error("{field} = {path:?} is not a directory: {fix}")]
    NotADirectory {
        /// The field, with its table.
        field: String,
        /// As configured, made absolute.
        path: PathBuf,
        /// What to do.
        fix: &'static str,
        /// Why it cannot be looked at, if that is so.
        #[source]
        source: Option<std::io::Error>,
    },
    /// Two slots would write over one another.
    #[error("slot[{first}].path and slot[{second}].path are the same directory {path:?}: give each slot its own")]
    SharedSlot {
        /// The position of the first.
        first: usize,
        /// The position of the second.
        second: usize,
        /// The directory.
        path: PathBuf,
    },
}

impl Config {
    /// Reads and checks a configuration. Relative paths in it start at the directory that the file is in.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let base = std::path::absolute(path).map_err(read)?;
        let parsed = toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        check(parsed, base.parent().unwrap_or(Path::new("/")))
    }

    /// The queues that intents are taken from.
    pub fn queues(&self) -> Vec<Queue> {
        let proof = self.sector_size.seal_proof();
        Plan::ALL
            .into_iter()
            .flat_map(|plan| self.miners.iter().map(move |&miner| Queue { miner, proof, plan }))
            .collect()
    }
}

fn check(file: File, base: &Path) -> Result<Config, ConfigError> {
    let File { worker, nats, slot, processor, store, params } = file;
    if worker.miners.is_empty() {
        return Err(ConfigError::Empty { field: "worker.miners", fix: "name at least one, such as [\"f01000\"]" });
    }
    if slot.is_empty() {
        return Err(ConfigError::Empty { field: "slot", fix: "write a [[slot]] table with a path for each slot" });
    }
    let recover_interval = positive("worker.recover_interval_secs", worker.recover_interval_secs)?;
    let heartbeat = positive("worker.heartbeat_secs", worker.heartbeat_secs)?;
    let mut slots = Vec::new();
    for (index, table) in slot.iter().enumerate() {
        let field = format!("slot[{index}].path");
        let path = slot_directory(field, &base.join(&table.path))?;
        if let Some(first) = slots.iter().position(|other| *other == path) {
            return Err(ConfigError::SharedSlot { first, second: index, path });
        }
        slots.push(path);
    }
    if store.name.is_empty() || store.name.contains(char::is_whitespace) {
        let problem = "a store needs a name without spaces, the one that the manager's configuration has".to_owned();
        return Err(ConfigError::Value { field: "store.name".into(), value: format!("{:?}", store.name), problem });
    }
    let fix = "mount the permanent store, or create the directory; the worker never makes it";
    let store_path = directory("store.path".into(), &base.join(&store.path), fix)?;
    let mut library_env = BTreeMap::new();
    for (field, path, variable) in [
        ("params.cache", &params.cache, "FIL_PROOFS_PARAMETER_CACHE"),
        ("params.parent_cache", &params.parent_cache, "FIL_PROOFS_PARENT_CACHE"),
    ] {
        if let Some(path) = path {
            let path = directory(field.into(), &base.join(path), "create it")?;
            library_env.insert(variable.to_owned(), path.display().to_string());
        }
    }
    Ok(Config {
        name: worker.name,
        host: worker.host.unwrap_or_else(own_host_name),
        miners: worker.miners,
        sector_size: worker.sector_size,
        recover_interval,
        max_retries: worker.max_retries,
        heartbeat,
        nats: connection(nats, base)?,
        slots,
        processors: processors(processor, base, &library_env)?,
        store: Store { name: store.name, path: store_path },
    })
}

/// The configured groups, and one built-in processor for each phase that has none.
fn processors(
    tables: Vec<ProcessorTable>,
    base: &Path,
    library_env: &BTreeMap<String, String>,
) -> Result<Vec<GroupConfig>, ConfigError> {
    let mut groups = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let refused = |field: &str, value: String, problem: &str| ConfigError::Value {
            field: format!("processor[{index}].{field}"),
            value,
            problem: problem.to_owned(),
        };
        if table.count == 0 {
            return Err(refused(
                "count",
                "0".into(),
                "a group has at least one processor: raise it or remove the group",
            ));
        }
        let mut group = GroupConfig::built_in(table.stage, table.count);
        if let Some(bin) = table.bin {
            // A bare name is looked up in PATH when the processor starts.
            let path = if bin.components().count() > 1 { base.join(&bin) } else { bin };
            if path.is_absolute() && !path.is_file() {
                return Err(refused(
                    "bin",
                    format!("{path:?}"),
                    "there is no such file: correct the path or remove it",
                ));
            }
            group.bin = Some(path);
        }
        if let Some(secs) = table.timeout_secs {
            group.timeout = positive(&format!("processor[{index}].timeout_secs"), secs)?;
        }
        if table.protocol == ProtocolName::Damocles {
            if group.bin.is_none() {
                let problem = "the built-in processors speak \"sealbus\": name the executable as bin, or remove this";
                return Err(refused("protocol", "\"damocles\"".into(), problem));
            }
            if !foreign::STAGES.contains(&table.stage) {
                let problem = "this stage is always served by Sealbus itself: remove the group, or use \"sealbus\"";
                return Err(refused("protocol", "\"damocles\"".into(), problem));
            }
            group.protocol = Protocol::Damocles { stable_wait: Duration::from_secs(table.stable_wait_secs) };
        }
        group.args = table.args;
        group.inherit_env = table.inherit_env;
        group.env = library_env.clone();
        group.env.extend(table.env);
        groups.push(group);
    }
    for phase in Phase::ALL {
        if !groups.iter().any(|group| group.stage == phase) {
            let mut group = GroupConfig::built_in(phase, 1);
            group.env = library_env.clone();
            groups.push(group);
        }
    }
    Ok(groups)
}

fn positive(field: &str, secs: u64) -> Result<Duration, ConfigError> {
    if secs == 0 {
        let problem = "must be at least 1 second".to_owned();
        return Err(ConfigError::Value { field: field.to_owned(), value: "0".to_owned(), problem });
    }
    Ok(Duration::from_secs(secs))
}

/// The one name of an existing directory, with links resolved.
fn directory(field: String, path: &Path, fix: &'static str) -> Result<PathBuf, ConfigError> {
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(found) => Err(ConfigError::NotADirectory { field, path: found, fix, source: None }),
        Err(source) => Err(ConfigError::NotADirectory { field, path: path.to_owned(), fix, source: Some(source) }),
    }
}

/// A slot's directory. One that is not there may be a disk that is mounted later: the worker shows it, and waits.
fn slot_directory(field: String, path: &Path) -> Result<PathBuf, ConfigError> {
    match directory(field, path, "a slot is a directory: correct the path, or take the slot out") {
        Err(ConfigError::NotADirectory { source: Some(_), .. }) => {
            // With the links of what is there resolved, so that it has the same name when it is mounted.
            let (parent, name) = (path.parent(), path.file_name());
            let resolved = parent.and_then(|parent| parent.canonicalize().ok()).zip(name);
            Ok(resolved.map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name)))
        }
        outcome => outcome,
    }
}

/// The connection with absolute paths to files that are there. Whether the server takes them is found when it is asked.
fn connection(mut nats: Connection, base: &Path) -> Result<Connection, ConfigError> {
    let refused = |field: &str, value: String, problem: &str| ConfigError::Value {
        field: format!("nats.{field}"),
        value,
        problem: problem.to_owned(),
    };
    let is_address = |part: &str| !part.trim().is_empty() && !part.trim().contains(char::is_whitespace);
    if !nats.url.split(',').all(is_address) {
        let value = format!("{:?}", nats.url);
        return Err(refused("url", value, "not an address: expected nats://host:port, several separated by commas"));
    }
    if let (Some(path), Some(_)) = (&nats.nkey_seed_file, &nats.credentials_file) {
        let value = format!("{path:?}");
        return Err(refused("nkey_seed_file", value, "excludes nats.credentials_file: keep one of the two"));
    }
    for (field, file) in [
        ("nkey_seed_file", &mut nats.nkey_seed_file),
        ("credentials_file", &mut nats.credentials_file),
        ("ca_file", &mut nats.ca_file),
    ] {
        if let Some(path) = file {
            *path = base.join(&*path);
            if !path.is_file() {
                return Err(refused(
                    field,
                    format!("{path:?}"),
                    "there is no such file: correct the path or remove it",
                ));
            }
        }
    }
    Ok(nats)
}

fn own_host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_least_configuration_gets_a_processor_for_every_phase() {
        let dir = tempfile::tempdir().expect("directory");
        let config = checked(dir.path(), &minimal(dir.path())).expect("valid");
        assert_eq!(config.processors.len(), Phase::ALL.len());
        assert!(config.slots[0].is_absolute());
        assert_eq!(config.recover_interval, Duration::from_secs(30));
        assert!(!config.host.is_empty());
    }

    #[test]
    fn the_example_in_the_docs_is_valid_apart_from_its_paths() {
        let text = include_str!("../../docs/examples/worker.toml");
        let file: File = toml::from_str(text).expect("parses");
        assert!(!file.slot.is_empty() && !file.processor.is_empty());
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
    fn a_slot_that_is_not_there_is_waited_for_and_no_reason_to_refuse() {
        let dir = tempfile::tempdir().expect("directory");
        let text = minimal(dir.path()).replace("path = \"a\"", "path = \"gone\"");
        let config = checked(dir.path(), &text).expect("valid");
        assert_eq!(config.slots, [dir.path().canonicalize().expect("there").join("gone")]);
    }

    #[test]
    fn each_refusal_names_the_field() {
        let dir = tempfile::tempdir().expect("directory");
        let good = minimal(dir.path());
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).expect("link");
        for (text, expected) in [
            (good.replace("name = \"w1\"", "name = \"w 1\""), "`w 1` is not a worker name"),
            (good.replace("2KiB", "3KiB"), "`3KiB` is not a sector size"),
            (good.replace("f01000", "f1abc"), "`f1abc` is not a miner"),
            (good.replace("[\"f01000\"]", "[]"), "worker.miners is empty"),
            (good.replace("miners", "max_slots = 3\nminers"), "unknown field `max_slots`"),
            (good.replace("path = \"a\"", "path = \"worker.toml\""), "slot[0].path"),
            (
                format!("{good}[[slot]]\npath = \"gone\"\n[[slot]]\npath = \"./gone\"\n"),
                "slot[1].path and slot[2].path",
            ),
            (format!("{good}[[slot]]\npath = \"link\"\n"), "slot[0].path and slot[1].path are the same"),
            (good.replace("path = \"store\"", "path = \"gone\""), "store.path"),
            (good.replace("name = \"main\"", "name = \"\""), "store.name"),
            (good.replace("miners", "heartbeat_secs = 0\nminers"), "worker.heartbeat_secs = 0"),
            (format!("{good}[[processor]]\nstage = \"c3\"\n"), "unknown variant `c3`"),
            (format!("{good}[[processor]]\nstage = \"c2\"\ncount = 0\n"), "processor[0].count = 0"),
            (format!("{good}[[processor]]\nstage = \"c2\"\nbin = \"./no/such\"\n"), "processor[0].bin"),
            (format!("{good}[params]\ncache = \"gone\"\n"), "params.cache"),
            (good.replace("url =", "token = \"x\"\nurl ="), "unknown field `token`"),
            (good.replace("nats://127.0.0.1:4222", "nats://one, ,two"), "nats.url"),
            (good.replace("url =", "ca_file = \"gone.pem\"\nurl ="), "nats.ca_file"),
            (good.replace("url =", "nkey_seed_file = \"a\"\ncredentials_file = \"b\"\nurl ="), "nats.nkey_seed_file"),
        ] {
            let error = checked(dir.path(), &text).expect_err(expected);
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }
}
