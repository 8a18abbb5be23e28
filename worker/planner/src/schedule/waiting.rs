//! The waiting requests of a stage, and which of them is next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{OVERTAKEN_MAX, Ticket, Urgency};

/// The requests that wait for one stage, by age.
///
/// Nearly always the oldest is next. So the next one is found without looking at all of them; on a large simulated
/// machine there may be thousands.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    by_age: BTreeMap<Age, Waiting>,
    /// The requests that may go before older ones, because their work expires or they are overdue.
    may_pass: BTreeSet<Age>,
}

/// A waiting request.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) urgency: Urgency,
    pub(super) wish: Wish,
    /// How many younger requests went before it.
    pub(super) overtaken: u32,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A seat.
    Seat,
    /// To be told that a seat is free, without taking it.
    Room,
}

/// The age of a request: seniority, then the time of asking. The oldest compares as smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(u64, Ticket);

/// The order in which seats are given, within a stage and between stages. The smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Overtaken too often. By age.
    Overdue(Age),
    /// Worthless soon. By expiry.
    Urgent(Duration, Age),
    /// By the length of the stage's queue, longest first, then by age. Within a stage this is the age alone.
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
        if waiting.urgency.expires.is_some() || waiting.is_overdue() {
            self.may_pass.insert(waiting.age());
        }
        self.by_age.insert(waiting.age(), waiting);
    }

    pub(super) fn remove(&mut self, age: Age) -> Option<Waiting> {
        self.may_pass.remove(&age);
        self.by_age.remove(&age)
    }

    /// Removes the request with this ticket. Returns `false` if there is none.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let found = self.by_age.keys().find(|Age(_, other)| *other == ticket).copied();
        found.and_then(|age| self.remove(age)).is_some()
    }

    /// The request that goes first. Only the oldest one and those that may pass it can be first.
    pub(super) fn first(&self, now: Duration, urgent_within: Duration) -> Option<(Rank, Age)> {
        let oldest = self.by_age.first_key_value().map(|(age, _)| age);
        let candidates = oldest.into_iter().chain(&self.may_pass).filter_map(|age| self.by_age.get(age));
        candidates.map(|waiting| (waiting.rank(self.len(), now, urgent_within), waiting.age())).min()
    }

    /// Counts that a younger request went before the one of this age.
    pub(super) fn overtake(&mut self, age: Age) {
        if let Some(waiting) = self.by_age.get_mut(&age) {
            waiting.overtaken = waiting.overtaken.saturating_add(1);
            if waiting.is_overdue() {
                self.may_pass.insert(age);
            }
        }
    }

    /// Counts that a request of this age went before all older ones.
    pub(super) fn overtake_older(&mut self, younger: Age) {
        let older: Vec<Age> = self.by_age.range(..younger).map(|(age, _)| *age).collect();
        older.into_iter().for_each(|age| self.overtake(age));
    }
}

impl Rank {
    /// Whether the request may be put off in favour of a stage that starts soon.
    pub(super) fn can_wait(self) -> bool {
        matches!(self, Rank::Usual(..))
    }
}

impl Waiting {
    pub(super) fn age(&self) -> Age {
        Age(self.urgency.seniority, self.ticket)
    }

    /// Its rank, if `queue` requests wait for its stage.
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
