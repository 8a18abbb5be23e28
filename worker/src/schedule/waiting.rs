//! Who waits, and who of them is next.

use std::time::Duration;

use super::{OVERTAKEN_MAX, Ticket, Urgency};

/// Somebody who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Rises with the time of asking.
    pub(super) ticket: Ticket,
    pub(super) urgency: Urgency,
    pub(super) wish: Wish,
    /// How many later ones went before.
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

/// The order in which seats are given, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Was overtaken often enough: by age.
    Overdue(Ticket),
    /// Will be worthless soon: by expiry.
    Urgent(Duration, Ticket),
    /// By age.
    Aged(Ticket),
}

impl Waiting {
    pub(super) fn rank(&self, now: Duration, urgent_within: Duration) -> Rank {
        match self.urgency.expires {
            _ if self.is_overdue() => Rank::Overdue(self.ticket),
            Some(expires) if expires <= now.saturating_add(urgent_within) => Rank::Urgent(expires, self.ticket),
            _ => Rank::Aged(self.ticket),
        }
    }

    /// A later one was served before.
    pub(super) fn is_overtaken(&mut self) {
        self.overtaken = self.overtaken.saturating_add(1);
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overtaken >= OVERTAKEN_MAX
    }
}
