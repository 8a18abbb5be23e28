//! Who waits, and who of them is next.

use std::cmp::Reverse;
use std::time::Duration;

use super::{OVERTAKEN_MAX, Ticket, Urgency};

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
    pub(super) fn rank(&self, queue: usize, now: Duration, urgent_within: Duration) -> Rank {
        match self.urgency.expires {
            _ if self.is_overdue() => Rank::Overdue(self.age()),
            Some(expires) if expires <= now.saturating_add(urgent_within) => Rank::Urgent(expires, self.age()),
            _ => Rank::Usual(Reverse(queue), self.age()),
        }
    }

    /// A younger one was served before.
    pub(super) fn is_overtaken(&mut self) {
        self.overtaken = self.overtaken.saturating_add(1);
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overtaken >= OVERTAKEN_MAX
    }
}
