//! Writes a machine plan as a configuration file for the worker.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use sealbus_schema::{MinerId, WorkerName};

use super::request::{Group, MachinePlan, WINDOW_POST};
use crate::machine::CpuSet;

/// The settings that do not come from the plan.
#[derive(Clone, Debug)]
pub struct Around {
    /// The worker's name.
    pub name: WorkerName,
    /// The miners whose sectors to seal.
    pub miners: Vec<MinerId>,
    /// The URL of NATS.
    pub nats_url: String,
    /// The permanent store's name.
    pub store_name: String,
    /// The permanent store's root.
    pub store_path: PathBuf,
}

/// The configuration in TOML, with the plan's reasons as comments.
#[must_use]
pub fn configuration(plan: &MachinePlan, around: &Around) -> String {
    let miners: Vec<String> = around.miners.iter().map(|miner| quoted(&miner.to_string())).collect();
    let mut text = format!(
        "# Written by `sealbus-worker plan` for {}.\n\
         # Expected: {:.1} sectors a day, short of {}. Every field is described in docs/configuration-worker.md.\n\n\
         [worker]\nname = {}\nminers = [{}]\nsector_size = {}\n\n[nats]\nurl = {}\n\n",
        plan.machine,
        plan.steady.sectors_per_day,
        plan.steady.bottleneck,
        quoted(around.name.as_str()),
        miners.join(", "),
        quoted(&plan.sector_size.to_string()),
        quoted(&around.nats_url),
    );
    push_reasons(&mut text, plan, &["slots"]);
    for slot in &plan.slots {
        let _ = writeln!(text, "[[slot]]\npath = {}\n", path(slot));
    }
    push_reasons(&mut text, plan, &["pc1", "pc2, c2", "the rest", "memory"]);
    for group in &plan.groups {
        push_group(&mut text, group);
    }
    for phase in &plan.elsewhere {
        let (stage, bin) = (quoted(phase.name()), quoted(&format!("/path/to/what-hands-{phase}-on")));
        let _ = writeln!(
            text,
            "# Done elsewhere (--only): name what hands it on.\n[[processor]]\nstage = {stage}\nbin = {bin}\n"
        );
    }
    if plan.cgroups {
        text.push_str("# The plan counts on it: in a cgroup of its own pc1 finds only its cores. See docs/cgroups.md.\n[cgroup]\n\n");
    }
    push_reasons(&mut text, plan, &["limits"]);
    text.push_str("[limits.concurrent]\n");
    for (stage, most) in &plan.concurrent {
        let _ = writeln!(text, "{stage} = {most}");
    }
    if !plan.staggered_secs.is_empty() {
        text.push_str("\n[limits.staggered_secs]\n");
    }
    for (stage, secs) in &plan.staggered_secs {
        let _ = writeln!(text, "{stage} = {secs}");
    }
    text.push_str("\n[locks]\n");
    for (lock, count) in &plan.locks {
        let _ = writeln!(text, "{lock} = {count}");
    }
    if plan.groups.iter().any(|group| group.stage == WINDOW_POST) {
        text.push('\n');
        push_reasons(&mut text, plan, &["posts"]);
        text.push_str("[proving]\nprove = true\nwin = true\n");
    }
    let _ = write!(text, "\n[store]\nname = {}\npath = {}\n", quoted(&around.store_name), path(&around.store_path));
    text
}

fn push_reasons(text: &mut String, plan: &MachinePlan, about: &[&str]) {
    for reason in plan.reasons.iter().filter(|reason| about.contains(&reason.about.as_str())) {
        let _ = writeln!(text, "# {}: {}", reason.about, reason.text);
    }
}

fn push_group(text: &mut String, group: &Group) {
    let _ = writeln!(text, "[[processor]]\nstage = {}", quoted(group.stage.name()));
    if group.count != 1 {
        let _ = writeln!(text, "count = {}", group.count);
    }
    if let Some(cpus) = &group.cpus {
        let _ = writeln!(text, "cpus = {}", quoted(&CpuSet::to_string(cpus)));
    }
    if let Some(node) = group.numa_node {
        let _ = writeln!(text, "numa_node = {node}");
    }
    if let Some(policy) = group.memory {
        let _ = writeln!(text, "memory = {}", quoted(policy.name()));
    }
    for (name, list) in [("gpus", &group.gpus), ("locks", &group.locks)] {
        if !list.is_empty() {
            let list: Vec<String> = list.iter().map(|entry| quoted(entry)).collect();
            let _ = writeln!(text, "{name} = [{}]", list.join(", "));
        }
    }
    if !group.env.is_empty() {
        let pairs: Vec<String> = group.env.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        let _ = writeln!(text, "env = {{ {} }}", pairs.join(", "));
    }
    text.push('\n');
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}
