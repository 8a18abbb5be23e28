//! Who waits, and who of them is next.

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

/// The order in which seats are given, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Was overtaken often enough: by age.
    Overdue(Age),
    /// Will be worthless soon: by expiry.
    Urgent(Duration, Age),
    /// By age.
    Aged(Age),
}

impl Waiting {
    pub(super) fn age(&self) -> Age {
        Age(self.urgency.seniority, self.ticket)
    }

    pub(super) fn rank(&self, now: Duration, urgent_within: Duration) -> Rank {
        match self.urgency.expires {
            _ if self.is_overdue() => Rank::Overdue(self.age()),
            Some(expires) if expires <= now.saturating_add(urgent_within) => Rank::Urgent(expires, self.age()),
            _ => Rank::Aged(self.age()),
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
