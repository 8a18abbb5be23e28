//! Who waits, and who of them is next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{OVERTAKEN_MAX, Ticket, Urgency};

/// Those who wait for one stage, by age.
///
/// Nearly always the oldest is next. So who is first is known without a look at all of them, of whom there may be
/// thousands where a large machine is simulated.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    by_age: BTreeMap<Age, Waiting>,
    /// Those who may go before older ones: their work expires, or they are overdue.
    may_pass: BTreeSet<Age>,
}

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) urgency: Urgency,
    pub(super) wish: Wish,
    /// How many younger ones went before.
    pub(super) overtaken: u32,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A seat.
    Seat,
    /// That there is one, without taking it.
    Room,
}

/// How old somebody is: by seniority, and among equals by the time of asking. The oldest is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(u64, Ticket);

/// The order in which seats are given within a stage and between stages, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Was overtaken often enough: by age.
    Overdue(Age),
    /// Will be worthless soon: by expiry.
    Urgent(Duration, Age),
    /// By how many wait for its stage, the most first, and by age: within a stage by age alone.
    Usual(Reverse<usize>, Age),
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        if waiting.urgency.expires.is_some() {
            self.may_pass.insert(waiting.age());
        }
        self.by_age.insert(waiting.age(), waiting);
    }

    pub(super) fn remove(&mut self, age: Age) -> Option<Waiting> {
        self.may_pass.remove(&age);
        self.by_age.remove(&age)
    }

    /// Removes who has this ticket. False if nobody has.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let found = self.by_age.keys().find(|Age(_, other)| *other == ticket).copied();
        found.and_then(|age| self.remove(age)).is_some()
    }

    /// Who goes first. Only the oldest and those who may pass it come into question.
    pub(super) fn first(&self, now: Duration, urgent_within: Duration) -> Option<(Rank, Age)> {
        let oldest = self.by_age.first_key_value().map(|(age, _)| age);
        let candidates = oldest.into_iter().chain(&self.may_pass).filter_map(|age| self.by_age.get(age));
        candidates.map(|waiting| (waiting.rank(self.len(), now, urgent_within), waiting.age())).min()
    }

    /// A younger one went before somebody.
    pub(super) fn overtake(&mut self, age: Age) {
        if let Some(waiting) = self.by_age.get_mut(&age) {
            waiting.overtaken = waiting.overtaken.saturating_add(1);
            if waiting.is_overdue() {
                self.may_pass.insert(age);
            }
        }
    }

    /// Somebody of this age went before all who are older.
    pub(super) fn overtake_older(&mut self, younger: Age) {
        let older: Vec<Age> = self.by_age.range(..younger).map(|(age, _)| *age).collect();
        older.into_iter().for_each(|age| self.overtake(age));
    }
}

impl Rank {
    /// Whether it may be left waiting for the sake of a stage that starts soon.
    pub(super) fn can_wait(self) -> bool {
        matches!(self, Rank::Usual(..))
    }
}

impl Waiting {
    pub(super) fn age(&self) -> Age {
        Age(self.urgency.seniority, self.ticket)
    }

    /// Its rank where so many wait for its stage.
    fn rank(&self, queue: usize, now: Duration, urgent_within: Duration) -> Rank {
        match self.urgency.expires {
            _ if self.is_overdue() => Rank::Overdue(self.age()),
            Some(expires) if expires <= now.saturating_add(urgent_within) => Rank::Urgent(expires, self.age()),
            _ => Rank::Usual(Reverse(queue), self.age()),
        }
    }

    fn is_overdue(&self) -> bool {
        self.overtaken >= OVERTAKEN_MAX
    }
}
