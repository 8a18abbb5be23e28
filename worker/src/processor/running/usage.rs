//! Measures the CPU time and memory of a request, from `/proc`.
//!
//! CPU time is the difference between the end and the start of the request, in hundredths of a second as the kernel
//! counts it. It covers the leader of the process group, the children that it has reaped, and the group's other
//! members. The members are listed shortly after a request has begun and then every few seconds. A process that starts
//! and ends in between without being reaped is missed. Memory is the larger of two values: the leader's own peak, which
//! is reset when a request begins alone, and the highest sum over the group that was seen. Requests that run in one
//! process at the same time cannot be told apart, so each is charged with all that was used meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// `USER_HZ`: the unit of CPU times in `/proc`, the same on all machines that proofs run on.
const TICKS_PER_SECOND: u64 = 100;

/// The cost of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The time from sending the task to the answer.
    pub elapsed: Duration,
    /// CPU time in user mode.
    pub cpu_user: Duration,
    /// CPU time in kernel mode.
    pub cpu_system: Duration,
    /// The highest memory use that was seen, in bytes.
    pub peak_rss_bytes: u64,
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::processor) struct Stat {
    pub(super) state: char,
    pub(in crate::processor) parent: u64,
    pub(super) group: i64,
    pub(super) cpu: Cpu,
    pub(super) start_time: Option<u64>,
}

/// CPU time in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::processor) struct Cpu {
    user: u64,
    system: u64,
}

/// The members of a process group, with the CPU time that each has used so far.
pub(super) type Members = BTreeMap<u32, Cpu>;

/// The CPU time used when a request began.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline(Members);

/// Reads a process's `/proc/<pid>/stat`.
pub(in crate::processor) fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The ids of all processes.
pub(in crate::processor) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process exists and is not a zombie.
pub(in crate::processor) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|found| !matches!(found.state, 'Z' | 'X'))
}

/// When a process began, in ticks since the boot. `None` once it has been reaped.
pub(in crate::processor) fn start_time(pid: u32) -> Option<u64> {
    stat(pid)?.start_time
}

fn parse(line: &str) -> Option<Stat> {
    // The name, in brackets, may contain anything, also brackets and spaces.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    // Field numbers as in proc(5): utime 14, stime 15, cutime 16, cstime 17.
    let cpu = Cpu { user: number(14)? + number(16)?, system: number(15)? + number(17)? };
    let group = fields.get(2)?.parse().ok()?;
    let state = fields.first()?.chars().next()?;
    Some(Stat { state, parent: number(4)?, group, cpu, start_time: number(22) })
}

/// The members of a process group and their memory use in bytes. Reads the whole process table.
pub(super) fn survey(group: u32) -> (Members, u64) {
    let mut members = Members::new();
    let mut bytes = 0;
    for (pid, found) in processes().filter_map(|pid| Some((pid, stat(pid)?))) {
        if found.group == i64::from(group) {
            members.insert(pid, found.cpu);
            bytes += memory(pid, "VmRSS:").unwrap_or(0);
        }
    }
    (members, bytes)
}

/// The CPU time that these processes have used so far. Ended ones are left out.
pub(super) fn used<'a>(pids: impl Iterator<Item = &'a u32>) -> Members {
    pids.filter_map(|pid| Some((*pid, stat(*pid)?.cpu))).collect()
}

impl Baseline {
    pub(super) fn at(members: Members) -> Self {
        Self(members)
    }

    /// What was used since the baseline.
    pub(super) fn until(&self, now: &Members, elapsed: Duration, peak_rss_bytes: u64) -> Usage {
        let mut sum = Cpu::default();
        for (pid, cpu) in now {
            let before = self.0.get(pid).copied().unwrap_or_default();
            sum.user += cpu.user.saturating_sub(before.user);
            sum.system += cpu.system.saturating_sub(before.system);
        }
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
        Usage { elapsed, cpu_user: time(sum.user), cpu_system: time(sum.system), peak_rss_bytes }
    }
}

/// Resets the kernel's peak memory of a process to its present use. If that is not permitted, the peak covers the
/// process's whole life.
pub(super) fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The kernel's peak memory of a process, in bytes.
pub(super) fn peak(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line =
            "23600 (a) b (c) R 23579 23570 18194 0 -1 4194304 2835 6486 8 1 6 2 5 3 20 0 1 0 293632 16977920 3372 1";
        let cpu = Cpu { user: 11, system: 5 };
        let expected = Stat { state: 'R', parent: 23579, group: 23570, cpu, start_time: Some(293_632) };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("1 (x) R 1"), None);
    }

    #[test]
    fn cost_is_the_difference_and_never_negative() {
        let cpu = |user, system| Cpu { user, system };
        let baseline = Baseline::at(Members::from([(1, cpu(100, 10)), (2, cpu(50, 0))]));
        let now = Members::from([(1, cpu(350, 20)), (2, cpu(0, 0)), (3, cpu(7, 1))]);
        let usage = baseline.until(&now, Duration::from_secs(3), 5);
        assert_eq!((usage.cpu_user, usage.cpu_system), (Duration::from_millis(2570), Duration::from_millis(110)));
    }

    #[test]
    fn this_process_is_found_with_its_memory() {
        let own = std::process::id();
        let group = u32::try_from(stat(own).expect("stat").group).expect("group");
        let (members, bytes) = survey(group);
        assert!(members.contains_key(&own) && bytes > 1 << 20);
        reset_peak(own);
        assert!(peak(own).expect("peak") > 1 << 20);
    }
}
