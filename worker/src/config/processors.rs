//! Converts the processor groups, limits and locks of the configuration file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_planner::{
    schedule::{Rules, Setup},
    units,
};
use sealbus_schema::{Phase, SectorSize, Workflow};

use super::{
    A_DAY, A_MONTH, ConfigError,
    file::{AUTO, CpusField, LimitsTable, ProcessorTable, ProtocolName, ProvingTable},
    seconds,
};
use crate::{
    cgroup,
    params::DIR_VARIABLE,
    processor::{GroupConfig, Parameters, Protocol, config::VISIBLE_GPUS},
    stage::{foreign, huge_pages::Wish},
    topology::CpuSet,
};

/// How many sectors are read for proofs at the same time. A reader waits for the store nearly all the time, and one that
/// hangs must not hold up the others.
const READERS: usize = 8;
/// The same for winning PoSts: one hangs, and the other one reads.
const WIN_READERS: usize = 2;
/// More processes than any machine has processing units for.
const COUNT_MAX: usize = 4096;

/// The context in which group tables are read.
pub(super) struct Around<'a> {
    /// The directory that relative paths start from.
    pub(super) base: &'a Path,
    /// The environment variables with the proofs library's settings.
    pub(super) library_env: &'a BTreeMap<String, String>,
    /// The sector size.
    pub(super) sector_size: SectorSize,
    /// Whether control groups are configured.
    pub(super) has_cgroups: bool,
    /// What the machine serves.
    pub(super) workflows: &'a [Workflow],
    /// What it does for proofs of spacetime.
    pub(super) proving: &'a ProvingTable,
}

/// The configured groups, plus one built-in processor for each phase that has no group.
pub(super) fn groups(tables: Vec<ProcessorTable>, around: &Around<'_>) -> Result<Vec<GroupConfig>, ConfigError> {
    let mut groups = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        groups.push(group(index, table, around)?);
    }
    let of_proofs = of_proofs(&groups, around.proving)?;
    for (phase, count) in Phase::of(around.workflows).into_iter().map(|phase| (phase, 1)).chain(of_proofs) {
        if !groups.iter().any(|group| group.stage == phase) {
            let mut group = GroupConfig::built_in(phase, count);
            group.env = around.library_env.clone();
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The phases of proofs that the machine serves, with the number of processes that each has without a group.
fn of_proofs(groups: &[GroupConfig], proving: &ProvingTable) -> Result<Vec<(Phase, usize)>, ConfigError> {
    let refused = |field: &str, value: String, problem: String| {
        Err(ConfigError::Value { field: format!("proving.{field}"), value, problem })
    };
    let readers = proving.readers.unwrap_or(READERS);
    if readers == 0 || readers > COUNT_MAX {
        let problem = format!("must be 1 to {COUNT_MAX}; to read nothing, set proving.read = false");
        return refused("readers", readers.to_string(), problem);
    }
    let ([read, prove], [win_read, win_prove]) = (Phase::POST, Phase::WINNING);
    let mut served = Vec::new();
    for (field, is_served, phase, count) in [
        ("read", proving.read, read, readers),
        ("read", proving.read, win_read, WIN_READERS),
        ("prove", proving.prove, prove, 1),
        ("win", proving.win, win_prove, 1),
    ] {
        match (is_served, groups.iter().position(|group| group.stage == phase)) {
            (true, _) => served.push((phase, count)),
            (false, Some(index)) => {
                let problem = format!("processor[{index}] would never work: set it to true, or remove the group");
                return refused(field, "false".to_owned(), problem);
            }
            (false, None) => {}
        }
    }
    let counted = groups.iter().position(|group| group.stage == read);
    match (proving.readers, counted) {
        (Some(readers), Some(index)) => {
            let problem = format!("the readers are those of processor[{index}]: set its count, and remove this");
            refused("readers", readers.to_string(), problem)
        }
        _ => Ok(served),
    }
}

/// The limits and locks, checked for whether the groups can work under them.
pub(super) fn rules(
    limits: LimitsTable,
    locks: BTreeMap<String, usize>,
    groups: &[GroupConfig],
) -> Result<Rules, ConfigError> {
    let refused =
        |field: String, value: String, problem: &str| ConfigError::Value { field, value, problem: problem.to_owned() };
    for (stage, limit) in &limits.concurrent {
        if *limit == 0 {
            let field = format!("limits.concurrent.{stage}");
            return Err(refused(field, "0".into(), "nothing could ever run: raise it, or remove the limit"));
        }
    }
    for (lock, units) in &locks {
        if *units == 0 {
            let field = format!("locks.{lock}");
            return Err(refused(field, "0".into(), "nobody could ever take it: raise it, or remove the lock"));
        }
    }
    let staggered = limits.staggered_secs.iter().map(|(stage, secs)| {
        seconds(&format!("limits.staggered_secs.{stage}"), *secs, A_DAY).map(|apart| (*stage, apart))
    });
    let staggered: BTreeMap<Phase, Duration> = staggered.collect::<Result<_, _>>()?;
    for (index, group) in groups.iter().enumerate() {
        let field = format!("processor[{index}].locks");
        for (position, lock) in group.locks.iter().enumerate() {
            let value = format!("{:?}", group.locks);
            if group.locks[..position].contains(lock) {
                return Err(refused(field, value, &format!("{lock:?} is named twice: name it once")));
            }
            let problem = match locks.get(lock) {
                None => format!("{lock:?} is not declared: add `{lock} = 1` under [locks]"),
                Some(&units) if units < group.concurrent => format!(
                    "each of the {} requests that a process works on needs one {lock:?}, and there are {units}: lower \
                     processor[{index}].concurrent or raise locks.{lock}",
                    group.concurrent
                ),
                Some(_) => continue,
            };
            return Err(refused(field, value, &problem));
        }
    }
    let rules = Rules { concurrent: limits.concurrent, staggered, locks };
    Setup::new(groups.iter().map(GroupConfig::schedule).collect(), rules.clone()).check()?;
    Ok(rules)
}

fn group(index: usize, table: ProcessorTable, around: &Around<'_>) -> Result<GroupConfig, ConfigError> {
    let Around { base, library_env, sector_size, has_cgroups, .. } = *around;
    let refused = |field: &str, value: String, problem: &str| ConfigError::Value {
        field: format!("processor[{index}].{field}"),
        value,
        problem: problem.to_owned(),
    };
    if table.count == 0 {
        return Err(refused("count", "0".into(), "a group has at least one processor: raise it or remove the group"));
    }
    if table.count > COUNT_MAX {
        return Err(refused("count", table.count.to_string(), "no machine has that many: lower it"));
    }
    if table.concurrent == 0 {
        return Err(refused(
            "concurrent",
            "0".into(),
            "a process works on at least one request: raise it or remove it",
        ));
    }
    let mut group = GroupConfig::built_in(table.stage, table.count);
    let limits = cgroup_limits(&table, has_cgroups);
    group.cgroup = limits.map_err(|(field, value, problem)| refused(field, value, &problem))?;
    group.parameters = parameters(&table);
    if let Some(bin) = table.bin {
        // A bare name is looked up in `PATH` when the processor starts.
        let path = if bin.components().count() > 1 { base.join(&bin) } else { bin };
        if let Some(problem) = not_executable(&path, table.env.get("PATH").map(String::as_str)) {
            return Err(ConfigError::NoExecutable { field: format!("processor[{index}].bin"), path, problem });
        }
        group.bin = Some(path);
    }
    if let Some(secs) = table.timeout_secs {
        group.timeout = seconds(&format!("processor[{index}].timeout_secs"), secs, A_MONTH)?;
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
        let stable_wait = seconds(&format!("processor[{index}].stable_wait_secs"), table.stable_wait_secs, A_DAY)?;
        let (rows_to_discard, own_parents) = (table.rows_to_discard, table.own_parents);
        let options = foreign::Options { rows_to_discard, own_parents, own_params: table.own_params };
        group.protocol = Protocol::Damocles { stable_wait, options };
    }
    let damocles = table.protocol == ProtocolName::Damocles;
    if let (Some(rows), false) = (table.rows_to_discard, damocles && table.stage == Phase::Pc2) {
        let problem = "applies only to an executable for pc2 with protocol = \"damocles\": remove it";
        return Err(refused("rows_to_discard", rows.to_string(), problem));
    }
    if table.own_parents && !(damocles && table.stage == Phase::Pc1) {
        let problem = "applies only to an executable for pc1 with protocol = \"damocles\": remove it";
        return Err(refused("own_parents", "true".into(), problem));
    }
    if table.own_params && !(group.bin.is_some() && table.stage == Phase::C2) {
        return Err(refused("own_params", "true".into(), "applies only to an executable (bin) for c2: remove it"));
    }
    if let (Some(policy), None) = (table.memory, table.numa_node) {
        let value = format!("{policy:?}").to_lowercase();
        return Err(refused("memory", value, "of which node? Add numa_node, or remove it"));
    }
    let is_card = |gpu: &String| !gpu.is_empty() && !gpu.contains([',', ' ']);
    if let Some(gpu) = table.gpus.iter().find(|gpu| !is_card(gpu)) {
        return Err(refused("gpus", format!("{gpu:?}"), "a card is one number or UUID, such as \"0\": one entry each"));
    }
    if let Some((_, gpu)) = table.gpus.iter().enumerate().find(|(at, gpu)| table.gpus[..*at].contains(gpu)) {
        return Err(refused("gpus", format!("{gpu:?}"), "is named twice: name each card once"));
    }
    if !table.gpus.is_empty() && table.env.contains_key(VISIBLE_GPUS) {
        return Err(refused("env", VISIBLE_GPUS.into(), "is what processor.gpus sets: keep one of the two"));
    }
    if let Some(text) = table.huge_pages {
        let value = format!("{text:?}");
        let wish: Wish = text.parse().map_err(|problem: String| refused("huge_pages", value.clone(), &problem))?;
        if table.stage != Phase::Pc1 {
            return Err(refused("huge_pages", value, "only pc1 keeps labels in memory: remove it"));
        }
        group.huge_pages = Some((wish, sector_size));
    }
    group.auto_cpus = matches!(&table.cpus, Some(CpusField::Together(text)) if text == AUTO);
    let listed = table.cpus.filter(|_| !group.auto_cpus);
    group.cpus = cpus(listed, table.count).map_err(|(value, problem)| refused("cpus", value, &problem))?;
    (group.numa_node, group.gpus) = (table.numa_node, table.gpus);
    group.memory = table.memory.unwrap_or_default();
    (group.concurrent, group.locks) = (table.concurrent, table.locks);
    group.args = table.args.unwrap_or_else(|| match table.protocol {
        ProtocolName::Sealbus => Vec::new(),
        // The arguments that damocles itself uses by default.
        ProtocolName::Damocles => vec!["processor".to_owned(), table.stage.name().to_owned()],
    });
    let absolute = |paths: Vec<PathBuf>| paths.iter().map(|path| base.join(path)).collect();
    group.keep_process = table.keep_process;
    (group.readable, group.writable) = (absolute(table.readable), absolute(table.writable));
    (group.inherit_env, group.inherit_all) = (table.inherit_env, table.inherit_envs);
    group.env = library_env.clone();
    group.env.extend(table.env);
    Ok(group)
}

/// Why an executable cannot be started, as far as that shows beforehand. A bare name is looked up in `PATH`, as at the
/// start.
fn not_executable(path: &Path, search: Option<&str>) -> Option<&'static str> {
    let is_executable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if path.is_absolute() {
        return match path.is_file() {
            false => Some("there is no such file: mount its disk, or correct the path or remove it"),
            true if !is_executable(path) => Some("it may not be executed: chmod +x it, or correct the path"),
            true => None,
        };
    }
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(search.map_or(own.as_os_str(), std::ffi::OsStr::new));
    let is_found = directories.map(|directory| directory.join(path)).any(|path| path.is_file() && is_executable(&path));
    (!is_found).then_some("no directory of PATH has such a program: install it, or write its whole path")
}

/// What the parameter directory of a C2 group must contain. For a third-party executable only what it is known to read
/// is required.
fn parameters(table: &ProcessorTable) -> Parameters {
    match (table.stage, &table.bin, table.protocol) {
        (Phase::C2, None, _) => Parameters::Whole,
        // The built-in processor between the worker and the executable verifies the proof, and needs the verifying key.
        (Phase::C2, Some(_), ProtocolName::Damocles) if table.own_params => Parameters::VerifyingKey,
        (Phase::C2, Some(_), ProtocolName::Damocles) => Parameters::Sized,
        // An executable with a parameter directory will read it. Otherwise it can answer PARAMS_MISSING itself.
        (Phase::C2, Some(_), ProtocolName::Sealbus) if table.own_params => Parameters::Unknown,
        (Phase::C2, Some(_), ProtocolName::Sealbus) if table.env.contains_key(DIR_VARIABLE) => Parameters::Sized,
        _ => Parameters::Unknown,
    }
}

/// The limits of a group's control groups. An error consists of the field, its value and the problem.
fn cgroup_limits(table: &ProcessorTable, has_cgroups: bool) -> Result<cgroup::Limits, (&'static str, String, String)> {
    let high = table.memory_high.as_ref().map(|text| ("memory_high", format!("{text:?}")));
    let max = table.memory_max.as_ref().map(|text| ("memory_max", format!("{text:?}")));
    let pids = table.pids_max.map(|pids| ("pids_max", pids.to_string()));
    if let (false, Some((field, value))) = (has_cgroups, [&high, &max, &pids].into_iter().flatten().next()) {
        let problem = "is kept by a control group: add a [cgroup] table, or remove it".to_owned();
        return Err((field, value.clone(), problem));
    }
    let bytes = |text: &Option<String>, field| {
        let Some(text) = text else { return Ok(None) };
        match units::parse_bytes(text) {
            Ok(0) => Err((field, format!("{text:?}"), "nothing could run in it: raise it, or remove it".to_owned())),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err((field, format!("{text:?}"), error.to_string())),
        }
    };
    let limits = cgroup::Limits {
        memory_high_bytes: bytes(&table.memory_high, "memory_high")?,
        memory_max_bytes: bytes(&table.memory_max, "memory_max")?,
        pids_max: table.pids_max,
        ..cgroup::Limits::default()
    };
    if let (Some((field, value)), Some(Some(max))) =
        (high, limits.memory_high_bytes.map(|high| limits.memory_max_bytes.filter(|max| high >= *max)))
    {
        let problem = format!("is never reached, because memory_max is {max} bytes: lower it, or remove it");
        return Err((field, value, problem));
    }
    if let (Some((field, value)), Some(0)) = (pids, limits.pids_max) {
        return Err((field, value, "nothing could run in it: raise it, or remove it".to_owned()));
    }
    Ok(limits)
}

/// One set for all processes, or disjoint sets, one for each. An error consists of the value and the problem.
fn cpus(field: Option<CpusField>, count: usize) -> Result<Vec<CpuSet>, (String, String)> {
    let texts = match field {
        None => return Ok(Vec::new()),
        Some(CpusField::Together(text)) => vec![text],
        Some(CpusField::Each(texts)) if texts.len() == count => texts,
        Some(CpusField::Each(texts)) => {
            let problem =
                format!("lists {} sets for {count} processors: one for each, or one text for all", texts.len());
            return Err((format!("{texts:?}"), problem));
        }
    };
    let mut sets: Vec<CpuSet> = Vec::new();
    for text in texts {
        let value = format!("{text:?}");
        let set: CpuSet = text.parse().map_err(|error| (value.clone(), format!("{error}")))?;
        if set.is_empty() {
            return Err((value, "names no processing unit: name some, or remove it".to_owned()));
        }
        if let Some(other) = sets.iter().position(|other| !other.is_disjoint(&set)) {
            let shared = sets[other].intersection(&set);
            return Err((value, format!("shares {shared} with the set of processor {other}: give each its own")));
        }
        sets.push(set);
    }
    Ok(sets)
}
