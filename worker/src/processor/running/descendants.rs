//! Finds what a processor leaves behind, wherever it went.
//!
//! A child that starts others can put them into a session and process group of their own, out of reach of the kill of
//! its group. So each process is started with a mark in its environment, which whatever it starts inherits: the kernel
//! shows the environment that a process was started with, and who bears the mark of a process that has ended is killed.
//! The mark names the worker by process id and start time, so a new worker also finds what one that was killed left. It
//! has the process id's namespace in it as well: what a worker in a container started is not judged from outside.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::usage;

/// The environment variable that holds the mark.
pub const VARIABLE: &str = "SEALBUS_PROCESSOR_RUN";

/// How often the process table is read until nobody bears the mark: who forks while it is read is found the next time.
const ROUNDS: usize = 5;

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Names one start of one processor by one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A mark that nobody bears yet.
    #[must_use]
    pub fn fresh() -> Self {
        let worker = std::process::id();
        let since = start_time(worker).unwrap_or(0);
        Self(format!("{}.{worker}.{since}.{}", namespace(), STARTED.fetch_add(1, Ordering::Relaxed)))
    }

    /// The text for the environment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the worker that made the mark is known not to live any more.
    fn worker_is_gone(&self) -> bool {
        let parts: Vec<Option<u64>> = self.0.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_slice() {
            [Some(of), Some(worker), Some(since), Some(_)] if *of != 0 && *of == namespace() => {
                !u32::try_from(*worker).is_ok_and(|worker| start_time(worker) == Some(*since))
            }
            // Not one of ours, or somewhere else.
            _ => false,
        }
    }
}

/// Kills all who bear the mark; says how many.
pub fn kill_marked(mark: &Mark) -> usize {
    kill_all(|found| found == mark)
}

/// Kills all who bear the mark of a worker that does not live any more; says how many.
pub fn kill_leftovers() -> usize {
    kill_all(Mark::worker_is_gone)
}

fn kill_all(mut condemned: impl FnMut(&Mark) -> bool) -> usize {
    let own = std::process::id();
    let mut killed = Vec::new();
    for _ in 0..ROUNDS {
        let before = killed.len();
        for pid in usage::processes().filter(|pid| *pid != own) {
            let bears = mark_of(pid).is_some_and(|mark| condemned(&mark));
            if bears && let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // One that is dying already is met again in the next round, and counts once.
                if kill_process(number, Signal::KILL).is_ok() && !killed.contains(&number) {
                    killed.push(number);
                }
            }
        }
        if killed.len() == before {
            break;
        }
    }
    for number in &killed {
        // If they are ours by now, because we are the first process or the reaper of a container.
        let _ = waitpid(Some(*number), WaitOptions::NOHANG);
    }
    killed.len()
}

/// The mark in the environment that a process was started with. Those of other users and zombies show none.
fn mark_of(pid: u32) -> Option<Mark> {
    let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        Some(Mark(String::from_utf8_lossy(value).into_owned()))
    })
}

/// The number of the namespace that process ids mean something in; 0 if it is not to be had.
fn namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
}

/// When a process was started, in ticks since the machine was.
fn start_time(pid: u32) -> Option<u64> {
    usage::stat(pid)?.start_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_a_living_worker_or_of_a_dead_one() {
        let mark = Mark::fresh();
        assert!(!mark.worker_is_gone());
        assert_ne!(mark, Mark::fresh());
        let (own, here) = (std::process::id(), namespace());
        assert!(here != 0);
        assert!(Mark(format!("{here}.{own}.1.0")).worker_is_gone(), "the number was given out again");
        assert!(Mark(format!("{here}.4294967294.77.0")).worker_is_gone());
        assert!(!Mark(format!("{}.4294967294.77.0", here + 1)).worker_is_gone(), "in another namespace");
        assert!(!Mark("what somebody else means by it".to_owned()).worker_is_gone());
    }
}
