//! The open requests of a process. Nothing here waits or reads a clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::usage::Baseline;
use super::{Ended, Outcome};
use crate::processor::protocol::Progress;

/// The open requests of one process.
#[derive(Debug, Default)]
pub(super) struct Table {
    last_id: u64,
    open: BTreeMap<u64, Open>,
    over: Option<Ended>,
}

/// An open request.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) answer: oneshot::Sender<Outcome>,
    pub(super) progress: Option<watch::Sender<Option<Progress>>>,
    pub(super) since: Instant,
    pub(super) baseline: Baseline,
    /// The highest memory use of the process group that was seen, in bytes.
    pub(super) peak_rss_bytes: u64,
    /// Once nobody waits for it any more: until when the child may take to stop it.
    pub(super) stop_by: Option<Instant>,
}

/// What to do when nobody waits for a request any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing: the request is not open, or is being stopped already.
    Nothing,
    /// Kill the process: nobody waits for any other request on it.
    Kill,
    /// Give the child until then, because others wait for its other requests.
    Wait(Instant),
}

impl Table {
    /// Adds a request.
    ///
    /// # Errors
    /// How the process ended, if it has.
    pub(super) fn open(&mut self, request: Open) -> Result<u64, Ended> {
        if let Some(ended) = &self.over {
            return Err(ended.clone());
        }
        self.last_id += 1;
        self.open.insert(self.last_id, request);
        Ok(self.last_id)
    }

    /// Removes a request that has been answered. If it is not open, the error is the id of the oldest open one, or 0.
    pub(super) fn close(&mut self, id: u64) -> Result<Open, u64> {
        self.open.remove(&id).ok_or_else(|| self.oldest())
    }

    /// The id of the oldest open request, or 0.
    pub(super) fn oldest(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(0)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Open> {
        self.open.get(&id)
    }

    /// Marks a request that nobody waits for any more.
    pub(super) fn stop(&mut self, id: u64, now: Instant, grace: Duration, alone_may_go_on: bool) -> Stop {
        let others = self.open.iter().any(|(other, open)| *other != id && open.stop_by.is_none());
        match self.open.get_mut(&id) {
            Some(open) if open.stop_by.is_none() => {
                if !others && !alone_may_go_on {
                    return Stop::Kill;
                }
                let stop_by = now + grace;
                open.stop_by = Some(stop_by);
                Stop::Wait(stop_by)
            }
            _ => Stop::Nothing,
        }
    }

    /// The earliest time by which a request must have stopped.
    pub(super) fn next_stop(&self) -> Option<Instant> {
        self.open.values().filter_map(|open| open.stop_by).min()
    }

    /// Whether somebody still waits for a request.
    pub(super) fn is_wanted(&self) -> bool {
        self.open.values().any(|open| open.stop_by.is_none())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn over(&self) -> Option<&Ended> {
        self.over.as_ref()
    }

    /// Records the present memory use of the group, in bytes.
    pub(super) fn saw_memory(&mut self, bytes: u64) {
        for open in self.open.values_mut() {
            open.peak_rss_bytes = open.peak_rss_bytes.max(bytes);
        }
    }

    /// Records that the process has ended, and tells every open request.
    pub(super) fn end(&mut self, ended: Ended) {
        for (_, open) in std::mem::take(&mut self.open) {
            // The receiver may be gone. It does not need to know.
            let _ = open.answer.send(Err(ended.clone()));
        }
        self.over = Some(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::error::ProcessFailure;

    const GRACE: Duration = Duration::from_secs(5);

    fn request() -> (Open, oneshot::Receiver<Outcome>) {
        let (answer, outcome) = oneshot::channel();
        let (since, baseline) = (Instant::now(), Baseline::default());
        (Open { answer, progress: None, since, baseline, peak_rss_bytes: 0, stop_by: None }, outcome)
    }

    #[test]
    fn an_answer_counts_once_and_only_for_what_is_open() {
        let mut table = Table::default();
        assert_eq!(table.close(1).map(drop), Err(0));
        let (first, _first) = request();
        let (second, _second) = request();
        assert_eq!((table.open(first).ok(), table.open(second).ok()), (Some(1), Some(2)));
        assert!(table.close(1).is_ok());
        assert_eq!(table.close(1).map(drop), Err(2));
    }

    #[test]
    fn a_request_alone_takes_the_process_with_it_and_one_among_others_is_given_time() {
        let now = Instant::now();
        let mut table = Table::default();
        let (first, _first) = request();
        table.open(first).expect("open");
        assert_eq!(table.stop(1, now, GRACE, false), Stop::Kill);
        let (second, _second) = request();
        table.open(second).expect("open");
        assert_eq!(table.stop(1, now, GRACE, false), Stop::Wait(now + GRACE));
        assert_eq!(table.stop(1, now + GRACE, GRACE, false), Stop::Nothing, "it is being stopped already");
        assert_eq!((table.next_stop(), table.is_wanted()), (Some(now + GRACE), true));
        assert_eq!(table.stop(2, now, GRACE, false), Stop::Kill, "the other one is not wanted either");
        assert_eq!(table.stop(2, now, GRACE, true), Stop::Wait(now + GRACE));
        assert!(!table.is_wanted());
        assert_eq!(table.stop(7, now, GRACE, false), Stop::Nothing);
    }

    #[test]
    fn the_end_of_the_process_reaches_everybody_and_whoever_comes_later() {
        let mut table = Table::default();
        let (first, mut outcome) = request();
        table.open(first).expect("open");
        let ended = Ended { failure: ProcessFailure::Exited, exit: None, stderr_tail: vec!["why".into()] };
        table.end(ended);
        assert_eq!(outcome.try_recv().expect("told").expect_err("ended").stderr_tail, ["why"]);
        let (second, _second) = request();
        assert!(matches!(table.open(second).expect_err("over").failure, ProcessFailure::Exited));
        assert!(table.is_empty());
    }
}
