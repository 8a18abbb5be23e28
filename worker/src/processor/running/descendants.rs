//! Finds the processes that a processor leaves behind, by a mark in their environment.
//!
//! A child can put processes of its own into another session and process group, where the kill of its group does not
//! reach them. So each processor is started with a mark in its environment, which everything that it starts inherits.
//! The kernel shows the environment with which a process was started. A process with the mark of an ended processor is
//! killed. The mark contains the worker's process id and start time, so a new worker also recognises what a killed
//! worker left behind. It also contains the pid namespace, because processes of a worker in a container cannot be
//! judged from outside.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::usage::{self, start_time};

/// The environment variable that holds the mark.
pub const VARIABLE: &str = "SEALBUS_PROCESSOR_RUN";

/// How many times at most the process table is read. A process that forks during one reading is found in the next.
const ROUNDS: usize = 5;

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Identifies one start of one processor by one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A new mark that no process has yet.
    #[must_use]
    pub fn fresh() -> Self {
        let worker = std::process::id();
        let since = start_time(worker).unwrap_or(0);
        Self(format!("{}.{worker}.{since}.{}", namespace(), STARTED.fetch_add(1, Ordering::Relaxed)))
    }

    /// The value of the environment variable.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the worker that made the mark has certainly ended.
    fn worker_is_gone(&self) -> bool {
        let parts: Vec<Option<u64>> = self.0.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_slice() {
            [Some(of), Some(worker), Some(since), Some(_)] if *of != 0 && *of == namespace() => {
                !u32::try_from(*worker).is_ok_and(|worker| start_time(worker) == Some(*since))
            }
            // Not a mark of ours, or from another pid namespace.
            _ => false,
        }
    }
}

/// Kills all processes with this mark. Returns how many.
pub fn kill_marked(mark: &Mark) -> usize {
    kill_all(|found| found == mark)
}

/// Kills all processes with the mark of a worker that has ended. Returns how many.
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
                // A process that is still dying is found again in the next round. It is counted once.
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
        // Reap the process if it is our child by now, because we are the first process of a container or a subreaper.
        let _ = waitpid(Some(*number), WaitOptions::NOHANG);
    }
    killed.len()
}

/// The mark in the environment of a process. It cannot be read for zombies and for processes of other users.
fn mark_of(pid: u32) -> Option<Mark> {
    let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        Some(Mark(String::from_utf8_lossy(value).into_owned()))
    })
}

/// The id of our pid namespace; 0 if it cannot be read.
fn namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
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
