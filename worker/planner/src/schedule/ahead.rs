//! Looking ahead: what is better put off for a moment, because a stage's starts are kept apart.
//!
//! A start that is missed cannot be made up for. So there are two cases in which it is worth leaving something idle:
//!
//! - *A start that is due.* A stage may start again soon, but the work that could be served now would hold the lock
//!   beyond that time. Then the lock is left idle, if that serves more than twice as many waiting requests. Left idle,
//!   it works for `takes` out of `due + takes`, but for the stage with the longer queue. The factor is two because the
//!   idle time is certain to be lost, and queues that differ by less even out by themselves.
//! - *A better seat.* If the stage starts now on a processor whose lock others need, it cannot use a seat without such
//!   a lock that becomes free soon. Then the lock is left to the others, provided that they can be served before the
//!   stage has started on the better seat and may start again. The lock must then be idle for less time than the better
//!   seat would otherwise be.
//!
//! How long a stage takes is learnt from recent releases. As long as it is unknown, nothing is put off.

use std::time::Duration;

use super::{GroupState, Held, Scheduler, StageState};

impl Scheduler {
    /// Whether the stage should not be served by this group now.
    pub(super) fn is_put_off(&self, stage: &StageState, group: &GroupState, kept: &[usize], now: Duration) -> bool {
        let Some(takes) = stage.takes.filter(|_| !group.locks.is_empty()) else { return false };
        self.is_start_due(stage, takes, group, kept, now) || self.is_better_seat_due(stage, takes, group, kept, now)
    }

    /// Whether another stage, which may start soon, would make more of the group's locks, and could not have them if
    /// the group takes them now.
    fn is_start_due(
        &self,
        stage: &StageState,
        takes: Duration,
        group: &GroupState,
        kept: &[usize],
        now: Duration,
    ) -> bool {
        let mut taken = kept.to_vec();
        group.locks.iter().for_each(|lock| taken[*lock] += 1);
        let can_serve = |other: &StageState, kept: &[usize]| {
            other.groups.iter().any(|index| self.is_free(&self.groups[*index], kept))
        };
        self.stages.values().any(|other| {
            other.starts_in(now).is_some_and(|due| due < takes && other.is_worth_waiting(due, stage.waiting.len()))
                && can_serve(other, kept)
                && !can_serve(other, &taken)
        })
    }

    /// Whether a start by this group would keep a better seat idle for longer than the other stages would leave the
    /// lock idle.
    fn is_better_seat_due(
        &self,
        stage: &StageState,
        takes: Duration,
        group: &GroupState,
        kept: &[usize],
        now: Duration,
    ) -> bool {
        if stage.staggered.is_zero() {
            return false;
        }
        let is_better = |held: &&Held| {
            let other = &self.groups[held.group];
            other.stage == group.stage && other.contention < group.contention
        };
        let freed_in = |held: &Held| held.since.saturating_add(takes).saturating_sub(now);
        let Some(freed) = self.held.values().filter(is_better).map(freed_in).min() else { return false };
        let idle = stage.staggered.saturating_sub(freed);
        if idle.is_zero() {
            return false;
        }
        let shares = |other: &GroupState| {
            other.stage != group.stage
                && other.locks.iter().any(|lock| group.locks.contains(lock))
                && self.is_free(other, kept)
        };
        // Only stages without a limit on starts count. Two stages with such a limit would put each other off for ever.
        let mut others = self.stages.values().filter(|other| other.staggered.is_zero() && other.is_open(now));
        others.any(|other| {
            other.groups.iter().any(|index| shares(&self.groups[*index]))
                && other.fills(freed.saturating_add(stage.staggered)).is_some_and(|left| left <= idle)
        })
    }
}

impl StageState {
    /// The time until its next start, if only that time is in the way and a request waits.
    fn starts_in(&self, now: Duration) -> Option<Duration> {
        let due = self.next_start.saturating_sub(now);
        (!due.is_zero() && self.running.free() > 0 && !self.waiting.is_empty()).then_some(due)
    }

    /// Whether a lock does more than twice as much by first being idle for `due` and then working for this stage. The
    /// alternative is to work at once for another stage, for which `others` requests wait.
    fn is_worth_waiting(&self, due: Duration, others: usize) -> bool {
        let served = |time: Duration, waiting: usize| time.as_nanos().saturating_mul(waiting as u128);
        let is_more = |takes| served(takes, self.waiting.len()) / 2 > served(due.saturating_add(takes), others);
        self.takes.is_some_and(is_more)
    }

    /// What is left of `time` after the waiting requests have been served one after the other, as many as fit. `None`
    /// if none fits or none waits.
    fn fills(&self, time: Duration) -> Option<Duration> {
        let takes = self.takes.filter(|takes| !takes.is_zero() && *takes <= time)?;
        let served = (time.as_nanos() / takes.as_nanos()).min(self.waiting.len() as u128);
        let served = u32::try_from(served).ok().filter(|served| *served > 0)?;
        Some(time.saturating_sub(takes.saturating_mul(served)))
    }

    /// Updates the moving average of how long work takes: one eighth is the new value.
    pub(super) fn learn(&mut self, took: Duration) {
        self.takes = Some(self.takes.map_or(took, |takes| takes.saturating_mul(7).saturating_add(took) / 8));
    }
}
