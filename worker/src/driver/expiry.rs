//! Epochs by the own clock, from a chain head that the manager wrote down.
//!
//! Only elapsed time on one machine is used; clocks of two machines are never compared. A clock that was set back
//! counts as no time passed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealbus_schema::{
    message::{PreCommitInfo, Ticket},
    seal::worker::Step,
};

use crate::journal::Received;

/// How many epochs before a ticket's end labelling is not begun any more.
const TICKET_MARGIN_EPOCHS: i64 = 60;

/// The wall clock in milliseconds since 1970.
pub fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Whether it makes no sense any more to begin labelling with a ticket that came at `received`.
pub fn ticket_expired(ticket: &Ticket, received_unix_millis: u64, now_unix_millis: u64) -> bool {
    let epoch = estimate(ticket.head_epoch, ticket.epoch_millis, received_unix_millis, now_unix_millis);
    epoch >= ticket.expires_epoch.saturating_sub(TICKET_MARGIN_EPOCHS)
}

/// Whether the chain surely takes no proof for a PreCommit any more. Without a margin: trying costs one proof, giving
/// up early costs the deposit.
pub fn precommit_expired(precommit: &PreCommitInfo, received_unix_millis: u64, now_unix_millis: u64) -> bool {
    let epoch = estimate(precommit.head_epoch, precommit.epoch_millis, received_unix_millis, now_unix_millis);
    epoch > precommit.prove_by_epoch
}

/// How long what a step is about to compute is worth anything; none if it does not expire, or nobody can tell.
pub fn time_left(step: &Step, received: &Received, now_unix_millis: u64) -> Option<Duration> {
    let (head, epoch_millis, received, last_epoch) = match step {
        Step::Pc1 { ticket, .. } | Step::Pc2 { ticket, .. } => {
            let last = ticket.expires_epoch.saturating_sub(TICKET_MARGIN_EPOCHS);
            (ticket.head_epoch, ticket.epoch_millis, received.ticket_unix_millis, last)
        }
        Step::Transferring { precommit, .. } | Step::C1 { precommit, .. } | Step::C2 { precommit, .. } => {
            let last = precommit.prove_by_epoch;
            (precommit.head_epoch, precommit.epoch_millis, received.precommit_unix_millis, last)
        }
        _ => return None,
    };
    if epoch_millis == 0 {
        return None;
    }
    let epochs = last_epoch.saturating_sub(estimate(head, epoch_millis, received, now_unix_millis)).max(0);
    Some(Duration::from_millis(u64::try_from(epochs).ok()?.saturating_mul(epoch_millis)))
}

fn estimate(head: i64, epoch_millis: u64, received: u64, now: u64) -> i64 {
    // A fact whose time of arrival is not known, or an epoch without length, tells nothing about the time since.
    let elapsed = if received == 0 { 0 } else { now.saturating_sub(received) };
    let epochs = elapsed.checked_div(epoch_millis).unwrap_or(0);
    head.saturating_add(i64::try_from(epochs).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{Commitment, Randomness, seal::worker::Data};

    use super::*;

    fn ticket(expires_epoch: i64) -> Ticket {
        Ticket {
            draw: 1,
            randomness: Randomness([0; 32]),
            epoch: 90,
            expires_epoch,
            head_epoch: 100,
            epoch_millis: 30_000,
        }
    }

    #[test]
    fn a_ticket_expires_by_elapsed_time_with_a_margin() {
        assert!(!ticket_expired(&ticket(200), 1_000, 1_000));
        assert!(!ticket_expired(&ticket(200), 1_000, 1_000 + 39 * 30_000));
        assert!(ticket_expired(&ticket(200), 1_000, 1_000 + 40 * 30_000));
        assert!(ticket_expired(&ticket(159), 1_000, 1_000), "too old on arrival");
    }

    #[test]
    fn a_clock_that_jumps_back_or_an_unknown_arrival_takes_no_time() {
        assert!(!ticket_expired(&ticket(200), 1_000_000_000, 5));
        assert!(!ticket_expired(&ticket(200), 0, u64::MAX));
        let odd = Ticket { epoch_millis: 0, ..ticket(200) };
        assert!(!ticket_expired(&odd, 1, u64::MAX));
    }

    #[test]
    fn a_precommit_is_given_up_only_when_it_is_surely_late() {
        let precommit = PreCommitInfo { epoch: 90, prove_by_epoch: 110, head_epoch: 100, epoch_millis: 1_000 };
        assert!(!precommit_expired(&precommit, 1, 10_001));
        assert!(precommit_expired(&precommit, 1, 11_001));
    }

    #[test]
    fn what_is_left_shrinks_with_the_time_since_and_ends_at_nothing() {
        let data = Data { pieces: vec![], comm_d: Commitment([0; 32]) };
        let step = Step::Pc1 { data: data.clone(), ticket: ticket(200) };
        let received = Received { ticket_unix_millis: 1_000, ..Received::default() };
        let left = |now| time_left(&step, &received, now).map(|left| left.as_secs());
        assert_eq!(left(1_000), Some(40 * 30));
        assert_eq!(left(1_000 + 10 * 30_000), Some(30 * 30));
        assert_eq!(left(1_000 + 99 * 30_000), Some(0));
        assert_eq!(time_left(&Step::AwaitingTicket { data, draw: 1 }, &received, 1_000), None);
    }
}
