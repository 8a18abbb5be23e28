//! Summarises a configuration in a few lines, for `sealbus-worker check`.

use std::fmt::Write;

use sealbus_planner::units;
use sealbus_schema::{Phase, Workflow};

use super::{Cgroup, Config};
use crate::{
    processor::{GroupConfig, MemoryPolicy},
    sandbox::{self, Mode},
    slot::space,
};

/// What the worker would run with. Reads the free space of the slots' disks, and opens nothing.
pub fn summary(config: &Config) -> String {
    let mut text = String::new();
    let miners = config.miners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "worker     {} on {}", config.name, config.host);
    let verb = if config.workflows.is_empty() { "proves" } else { "seals " };
    let _ = writeln!(text, "{verb}     {} sectors of {miners}", config.sector_size);
    if !config.workflows.is_empty() && config.workflows.len() < Workflow::ALL.len() {
        let served = config.workflows.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "serves     {served} alone");
    }
    let _ = writeln!(text, "nats       {}", config.nats.url);
    let _ = writeln!(text, "store      {} at {}", config.store.name, config.store.path.display());
    let ([read, prove], [_, win]) = (Phase::POST, Phase::WINNING);
    let proves =
        [(prove, "window PoSts"), (win, "winning PoSts")].into_iter().filter(|(phase, _)| config.serves(*phase));
    let proves = proves.map(|(_, what)| what).collect::<Vec<_>>().join(" and ");
    let proving = match (config.serves(read), proves.is_empty()) {
        (true, false) => format!("reads the store's sectors for proofs, and proves {proves}"),
        (true, true) => "reads the store's sectors for proofs".to_owned(),
        (false, false) => format!("proves {proves} that others have read"),
        (false, true) => "no work for proofs of spacetime".to_owned(),
    };
    let _ = writeln!(text, "proving    {proving}");
    let needed = space::needed_bytes(config.sector_size.seal_proof());
    for slot in &config.slots {
        let room = match space::free_bytes(slot) {
            Ok(free) if free < needed => format!("NO ROOM: {free} bytes free, a sector needs {needed}"),
            Ok(free) => format!("{free} bytes free, a sector needs {needed}"),
            Err(error) => format!("UNUSABLE: {error}"),
        };
        let _ = writeln!(text, "slot       {} ({room})", slot.display());
    }
    for phase in Phase::known() {
        for group in config.processors.iter().filter(|group| group.stage == phase) {
            let _ = writeln!(text, "processor  {}", processors(group));
        }
    }
    if let Some(Cgroup { parent, required }) = &config.cgroup {
        let parent = parent.as_ref().map_or("the worker's own".to_owned(), |parent| parent.display().to_string());
        let _ = writeln!(text, "cgroup     {parent} ({})", if *required { "required" } else { "if possible" });
    }
    let kernel = if config.sandbox == Mode::Off { String::new() } else { format!(": {}", sandbox::kernel()) };
    let _ = writeln!(text, "sandbox    {}{kernel}", config.sandbox.name());
    for (stage, limit) in &config.rules.concurrent {
        let _ = writeln!(text, "limit      {stage}: at most {limit} at the same time");
    }
    for (stage, apart) in &config.rules.staggered {
        let _ = writeln!(text, "limit      {stage}: {} s from one start to the next", apart.as_secs());
    }
    for (lock, units) in &config.rules.locks {
        let _ = writeln!(text, "lock       {lock} x {units}");
    }
    text
}

/// A processor group in one line.
fn processors(group: &GroupConfig) -> String {
    let bin = group.bin.as_ref().map_or("built in".to_owned(), |bin| bin.display().to_string());
    let mut parts = vec![bin, format!("at most {} s a request", group.timeout.as_secs())];
    if group.concurrent > 1 {
        parts.push(format!("{} requests at the same time each", group.concurrent));
    }
    let sets: Vec<String> = group.cpus.iter().map(ToString::to_string).collect();
    match (sets.is_empty(), group.auto_cpus) {
        (true, false) => {}
        (true, true) => parts.push("cpus any (auto)".to_owned()),
        (false, auto) => parts.push(format!("cpus {}{}", sets.join(" | "), if auto { " (auto)" } else { "" })),
    }
    if let Some(node) = group.numa_node {
        let policy = match group.memory {
            MemoryPolicy::Bind => "bind",
            MemoryPolicy::Prefer => "prefer",
        };
        parts.push(format!("node {node} ({policy})"));
    }
    for (name, bytes) in
        [("memory_high", group.cgroup.memory_high_bytes), ("memory_max", group.cgroup.memory_max_bytes)]
    {
        if let Some(bytes) = bytes {
            parts.push(format!("{name} {}", units::bytes(bytes)));
        }
    }
    if let Some(pids) = group.cgroup.pids_max {
        parts.push(format!("pids_max {pids}"));
    }
    if let Some((wish, _)) = group.huge_pages {
        parts.push(format!("huge pages {}", wish.name()));
    }
    for (name, values) in [("gpus", &group.gpus), ("locks", &group.locks)] {
        if !values.is_empty() {
            parts.push(format!("{name} {}", values.join(", ")));
        }
    }
    format!("{} x {} ({})", group.stage, group.count, parts.join(", "))
}
