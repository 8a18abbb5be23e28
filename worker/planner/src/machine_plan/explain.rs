//! Writes a plan for people.

use std::{collections::BTreeSet, fmt::Write};

use super::request::{Group, MachinePlan};
use crate::{calc, machine::Machine, pipeline::Bound, pipeline::Steady, units};

/// The width of the explanations in characters.
const WIDTH: usize = 116;

/// A machine in one line.
#[must_use]
pub fn machine(machine: &Machine) -> String {
    let counted = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let cores = machine.cores.len();
    let threads: usize = machine.cores.iter().map(|core| core.units.len()).sum();
    let used = machine.cores.iter().map(|core| core.cache).collect::<BTreeSet<_>>().len();
    let memory = machine.memory_of_cores_bytes();
    let mut parts = vec![
        counted(machine.packages, "socket"),
        counted(machine.nodes.len(), "NUMA node"),
        counted(used, "L3 cache"),
        counted(cores, "core"),
    ];
    if threads != cores {
        parts.push(counted(threads, "hardware thread"));
    }
    parts.push(format!("{} of memory", units::bytes(machine.memory_max_bytes.map_or(memory, |most| most.min(memory)))));
    parts.push(counted(machine.gpus.len(), "GPU"));
    format!("{} ({})", machine.source, parts.join(", "))
}

/// The plan, with its reasons if `reasons` is set.
#[must_use]
pub fn explain(plan: &MachinePlan, reasons: bool) -> String {
    let mut text = format!("Plan for {} sectors on {}\n\n", plan.sector_size, plan.machine);
    text.push_str(&processors(&plan.groups));
    text.push_str(&limits(plan));
    if reasons {
        text.push_str("\nWhy\n");
        for reason in &plan.reasons {
            push_wrapped(&mut text, &format!("  {:<10}", reason.about), &reason.text);
        }
        text.push_str("\nMemory\n");
        for share in &plan.memory {
            let _ = writeln!(text, "  {:>10}  {}", units::bytes(share.bytes), share.name);
        }
        text.push_str("\nTimes\n");
        for time in &plan.times {
            let source = if time.assumed { format!("assumed: {}", time.basis) } else { time.basis.clone() };
            let _ = writeln!(text, "  {:<10}  {:>12}  {source}", time.name, units::time(time.time_ms));
        }
    }
    text.push_str(&expected(plan, reasons));
    text.push_str("\nNotes\n");
    for note in &plan.notes {
        push_wrapped(&mut text, "  - ", note);
    }
    if !reasons {
        text.push_str("\n--explain tells why; docs/plan.md tells how to read this.\n");
    }
    text
}

fn processors(groups: &[Group]) -> String {
    let head = ["stage", "count", "cpus", "node", "memory each", "gpus", "locks"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(groups.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::from("Processors\n");
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
    text
}

fn row(group: &Group) -> [String; 7] {
    let or_none = |list: &[String]| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
    let policy = group.memory.map_or(String::new(), |policy| format!(", {}", policy.name()));
    [
        group.stage.name().to_owned(),
        group.count.to_string(),
        group.cpus.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string),
        group.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
        format!("{}{policy}", units::bytes(group.memory_bytes)),
        or_none(&group.gpus),
        or_none(&group.locks),
    ]
}

fn limits(plan: &MachinePlan) -> String {
    let mut text = String::from("\nLimits and slots\n");
    let list = |pairs: Vec<String>| pairs.join(", ");
    let concurrent = plan.concurrent.iter().map(|(stage, most)| format!("{stage} {most}")).collect();
    let _ = writeln!(text, "  at the same time  {}", list(concurrent));
    for (stage, secs) in &plan.staggered_secs {
        let _ = writeln!(text, "  apart             {stage} {secs} s");
    }
    let locks = plan.locks.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(text, "  locks             {}", list(locks));
    let mut slots: Vec<(String, usize)> = Vec::new();
    for slot in &plan.slots {
        let place = slot.parent().map_or_else(String::new, |place| place.display().to_string());
        match slots.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += 1,
            None => slots.push((place, 1)),
        }
    }
    if plan.slots.is_empty() {
        return text;
    }
    let places = slots.into_iter().map(|(place, count)| format!("{count} in {place}")).collect();
    let _ = writeln!(
        text,
        "  slots             {}, {} each: {}",
        plan.slots.len(),
        units::bytes(plan.slot_bytes),
        list(places)
    );
    text
}

fn expected(plan: &MachinePlan, more: bool) -> String {
    let steady = &plan.steady;
    let mut text = format!(
        "\nExpected\n  {} sectors a day, short of {}; no order of work could do more than {}\n",
        units::rate(steady.sectors_per_day),
        short_of(steady),
        units::rate(steady.bound_per_day),
    );
    if !plan.slots.is_empty() {
        let _ = writeln!(
            text,
            "  a sector is in its slot for {}, {} of it waiting for processors",
            units::time(steady.slot_ms),
            units::time(steady.slot_ms.saturating_sub(steady.slot_least_ms)),
        );
    }
    if more {
        for line in calc::phases(steady).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if !plan.more.is_empty() {
        text.push_str("\nOne more\n");
        for more in &plan.more {
            let gain = match more.gain_per_day {
                gain if gain > 0.005 * steady.sectors_per_day => format!("+{}", units::rate(gain)),
                gain if gain < -0.005 * steady.sectors_per_day => format!("-{}", units::rate(-gain)),
                _ => "nothing".to_owned(),
            };
            let _ =
                writeln!(text, "  {:<26}  {gain:>8}  ({} sectors a day)", more.what, units::rate(more.sectors_per_day));
        }
    }
    text
}

/// The bottleneck; several resources if they are about equally scarce.
fn short_of(steady: &Steady) -> String {
    let is_as_scarce = |bound: &&Bound| bound.per_day <= 1.01 * steady.bound_per_day;
    let scarce: Vec<String> =
        steady.bounds.iter().filter(is_as_scarce).map(|bound| bound.resource.to_string()).collect();
    scarce.join(" and of ")
}

/// Breaks a text into lines. Later lines are indented as far as the first.
fn push_wrapped(text: &mut String, head: &str, body: &str) {
    let mut line = head.to_owned();
    let indent = " ".repeat(head.chars().count());
    let mut is_first = true;
    for word in body.split_whitespace() {
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&indent);
            is_first = true;
        }
        if !is_first || line.ends_with(|last: char| !last.is_whitespace()) {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    text.push_str(&line);
    text.push('\n');
}
