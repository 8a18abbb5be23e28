//! What each processor is doing, to be shown to people, and how long its stage usually takes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sealbus_planner::schedule::GrantId;
use sealbus_schema::SectorId;

use crate::processor::config::Placement;
use crate::processor::protocol::Progress;
use crate::stage::Stage;

/// The status of a processor.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorStatus {
    /// Stage and number, for example `pc1-0`.
    pub id: String,
    /// The stage.
    pub stage: Stage,
    /// The process id, if the process is running.
    pub pid: Option<u32>,
    /// Its configured place on the machine.
    pub placement: Placement,
    /// The binding that was read back from the operating system, if the process is bound.
    pub bound: Option<String>,
    /// Since when it has been held.
    pub busy_since: Option<Instant>,
    /// The requests that it works on, oldest first.
    pub work: Vec<Work>,
}

/// A request that is in progress or about to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The sector and slot that it is for, once its owner has told.
    pub of: Option<WorkOf>,
    /// Since when the seat has been held.
    pub since: Instant,
    /// The progress that the processor has reported.
    pub progress: Option<Progress>,
    /// The stage's average time since the worker started; `None` before the first request has ended.
    pub usually: Option<Duration>,
}

/// The sector that some work is for, and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkOf {
    /// The sector.
    pub sector: SectorId,
    /// The slot's index; `None` for a sector in the store.
    pub slot: Option<usize>,
}

/// The status of all processors of a pool.
#[derive(Debug)]
pub(super) struct Live {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    processors: Vec<Entry>,
    means: BTreeMap<Stage, Mean>,
}

#[derive(Debug)]
struct Entry {
    id: String,
    stage: Stage,
    placement: Placement,
    pid: Option<u32>,
    bound: Option<String>,
    work: BTreeMap<GrantId, Work>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    total: Duration,
    runs: u32,
}

impl Live {
    pub(super) fn new(processors: impl IntoIterator<Item = (String, Stage, Placement)>) -> Self {
        let entry =
            |(id, stage, placement)| Entry { id, stage, placement, pid: None, bound: None, work: BTreeMap::new() };
        let processors = processors.into_iter().map(entry).collect();
        Self { inner: Mutex::new(Inner { processors, means: BTreeMap::new() }) }
    }

    /// Records that a seat was taken.
    pub(super) fn begin(&self, processor: usize, grant: GrantId) {
        let work = Work { of: None, since: Instant::now(), progress: None, usually: None };
        self.with(processor, |entry| drop(entry.work.insert(grant, work)));
    }

    /// Records the sector and slot that a seat works for.
    pub(super) fn tell(&self, processor: usize, grant: GrantId, of: WorkOf) {
        self.with_work(processor, grant, |work| work.of = Some(of));
    }

    /// Records the progress of a request.
    pub(super) fn progressed(&self, processor: usize, grant: GrantId, progress: Option<Progress>) {
        self.with_work(processor, grant, |work| work.progress = progress);
    }

    /// Records that a seat was returned.
    pub(super) fn end(&self, processor: usize, grant: GrantId) {
        self.with(processor, |entry| drop(entry.work.remove(&grant)));
    }

    /// Records the process that runs, or that none does. `bound` is given only once, when the process starts.
    pub(super) fn runs(&self, processor: usize, pid: Option<u32>, bound: Option<String>) {
        self.with(processor, |entry| {
            if entry.pid != pid || bound.is_some() {
                (entry.pid, entry.bound) = (pid, bound);
            }
        });
    }

    /// Records the time of a successful request.
    pub(super) fn took(&self, stage: Stage, time: Duration) {
        let mut inner = self.lock();
        let mean = inner.means.entry(stage).or_default();
        mean.total = mean.total.saturating_add(time);
        mean.runs = mean.runs.saturating_add(1);
    }

    pub(super) fn statuses(&self) -> Vec<ProcessorStatus> {
        let inner = self.lock();
        inner.processors.iter().map(|entry| entry.status(inner.means.get(&entry.stage).copied())).collect()
    }

    fn with(&self, processor: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().processors.get_mut(processor) {
            change(entry);
        }
    }

    fn with_work(&self, processor: usize, grant: GrantId, change: impl FnOnce(&mut Work)) {
        self.with(processor, |entry| {
            if let Some(work) = entry.work.get_mut(&grant) {
                change(work);
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn status(&self, mean: Option<Mean>) -> ProcessorStatus {
        let usually = mean.and_then(|mean| mean.total.checked_div(mean.runs));
        let work: Vec<Work> = self.work.values().map(|work| Work { usually, ..work.clone() }).collect();
        ProcessorStatus {
            id: self.id.clone(),
            stage: self.stage,
            pid: self.pid,
            placement: self.placement.clone(),
            bound: self.bound.clone(),
            busy_since: work.first().map(|work| work.since),
            work,
        }
    }
}

impl Work {
    /// The expected remaining time, from the stage's average. Zero if the work has already taken longer.
    #[must_use]
    pub fn expected_left(&self, now: Instant) -> Option<Duration> {
        self.usually.map(|usually| usually.saturating_sub(now.saturating_duration_since(self.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_expected_from_what_the_stage_took_before() {
        let live = Live::new([("c2-0".to_owned(), Stage::C2, Placement::default())]);
        assert_eq!(live.statuses()[0].work, []);
        for secs in [100, 200] {
            live.took(Stage::C2, Duration::from_secs(secs));
        }
        let began = Instant::now();
        let work = Work { of: None, since: began, progress: None, usually: None };
        assert_eq!(work.expected_left(began), None, "nothing is known");
        let mean = live.lock().means[&Stage::C2];
        let work = Work { usually: mean.total.checked_div(mean.runs), ..work };
        assert_eq!(work.expected_left(began + Duration::from_secs(30)), Some(Duration::from_secs(120)));
        assert_eq!(work.expected_left(began + Duration::from_secs(300)), Some(Duration::ZERO));
    }
}
