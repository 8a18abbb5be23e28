//! Looking ahead: what is better left undone for a moment, because starts of a stage are kept apart.
//!
//! A start that is missed cannot be made up for, so two things are worth more than that nothing idles:
//!
//! - *A start that is due.* A stage may start again soon, and what could be served now would hold the lock beyond that. The
//!   lock idles until then if so it does more than twice as much for those who wait: it works for `takes` out of `due + takes`,
//!   for as many more as wait for the stage that is due. Twice, because a lock that idles is lost for certain, and queues that
//!   differ by less become equal by themselves.
//! - *A better seat.* A start by a processor whose lock others need keeps the stage from using a seat that is free soon and
//!   needs no such lock. Others have the lock first, if they can be served before the stage has started on the better seat
//!   and may start again, and so leave the lock idle for less long than that seat would be.
//!
//! How long a stage takes is learnt from what was released lately; as long as it is not known nothing is put off.

use std::time::Duration;

use super::{GroupState, Held, Scheduler, StageState};

impl Scheduler {
    /// Whether the stage had better not be served by the group now.
    pub(super) fn is_put_off(&self, stage: &StageState, group: &GroupState, kept: &[usize], now: Duration) -> bool {
        let Some(takes) = stage.takes.filter(|_| !group.locks.is_empty()) else { return false };
        self.is_start_due(stage, takes, group, kept, now) || self.is_better_seat_due(stage, takes, group, kept, now)
    }

    /// Whether the group's locks do more for another stage that may start soon, and cannot if the group has them.
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

    /// Whether a start by the group would keep a better seat idle, for longer than others leave the lock idle meanwhile.
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
        // Of two whose starts are kept apart each would put the other one off.
        let mut others = self.stages.values().filter(|other| other.staggered.is_zero() && other.is_open(now));
        others.any(|other| {
            other.groups.iter().any(|index| shares(&self.groups[*index]))
                && other.fills(freed.saturating_add(stage.staggered)).is_some_and(|left| left <= idle)
        })
    }
}

impl StageState {
    /// In how long it may start again, if nothing else keeps it from that and somebody waits.
    fn starts_in(&self, now: Duration) -> Option<Duration> {
        let due = self.next_start.saturating_sub(now);
        (!due.is_zero() && self.running.free() > 0 && !self.waiting.is_empty()).then_some(due)
    }

    /// Whether a lock that idles for so long and then works for this stage does more than twice as much for those who wait as
    /// one that works at once for another stage, for which so many wait.
    fn is_worth_waiting(&self, due: Duration, others: usize) -> bool {
        let served = |time: Duration, waiting: usize| time.as_nanos().saturating_mul(waiting as u128);
        let is_more = |takes| served(takes, self.waiting.len()) / 2 > served(due.saturating_add(takes), others);
        self.takes.is_some_and(is_more)
    }

    /// How much of a time is left when those who wait have been served one after the other, as many as it has room for; none
    /// if it has no room for one, or nobody waits.
    fn fills(&self, time: Duration) -> Option<Duration> {
        let takes = self.takes.filter(|takes| !takes.is_zero() && *takes <= time)?;
        let served = (time.as_nanos() / takes.as_nanos()).min(self.waiting.len() as u128);
        let served = u32::try_from(served).ok().filter(|served| *served > 0)?;
        Some(time.saturating_sub(takes.saturating_mul(served)))
    }

    /// Follows what work takes: an eighth of what it took last, the rest of what it took before.
    pub(super) fn learn(&mut self, took: Duration) {
        self.takes = Some(self.takes.map_or(took, |takes| takes.saturating_mul(7).saturating_add(took) / 8));
    }
}
