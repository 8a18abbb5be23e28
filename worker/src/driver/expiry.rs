//! Epochs by elapsed time, from a chain head that the manager wrote down.
//!
//! The time is that of a clock that only goes forward, also while the machine sleeps, and that nobody sets. What passed
//! before this process began is known from the server, as the difference of two of its own times, or not at all; then it
//! counts as nothing. The wall clock decides nothing: after a restart it may be wrong by years.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use sealbus_schema::{
    parts::{PreCommitInfo, Ticket},
    workflows::seal::worker::Step,
};

/// How many epochs before a ticket's end labelling is not begun any more.
const TICKET_MARGIN_EPOCHS: i64 = 60;

/// When facts with epochs in them came, in milliseconds of [`now_millis`]. What came before this machine's start is
/// negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The ticket; none if nobody can tell.
    pub ticket: Option<i64>,
    /// The PreCommit's landing; none if nobody can tell.
    pub precommit: Option<i64>,
}

impl Arrivals {
    /// What is known of facts that came to an earlier process, by their ages.
    pub fn of_ages(ticket: Option<Duration>, precommit: Option<Duration>, now_millis: i64) -> Arrivals {
        let at = |age: Option<Duration>| {
            age.map(|age| now_millis.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
        };
        Arrivals { ticket: at(ticket), precommit: at(precommit) }
    }
}

/// Milliseconds of a clock that only goes forward: since the machine was started, with the time that it slept.
pub fn now_millis() -> i64 {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let uptime = std::fs::read_to_string("/proc/uptime").ok().and_then(|text| uptime_millis(&text));
    // Where the kernel does not tell, the time that the machine slept is missing.
    uptime.unwrap_or_else(|| i64::try_from(STARTED.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// The first number of `/proc/uptime`, seconds with two decimals.
fn uptime_millis(text: &str) -> Option<i64> {
    let (secs, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let (secs, hundredths): (i64, i64) = (secs.parse().ok()?, hundredths.get(..2)?.parse().ok()?);
    Some(secs.checked_mul(1000)?.saturating_add(hundredths * 10))
}

/// Whether it makes no sense any more to begin labelling with a ticket.
pub fn ticket_expired(ticket: &Ticket, arrivals: &Arrivals, now_millis: i64) -> bool {
    let epoch = estimate(ticket.head_epoch, ticket.epoch_millis, arrivals.ticket, now_millis);
    epoch >= ticket.expires_epoch.saturating_sub(TICKET_MARGIN_EPOCHS)
}

/// Whether the chain probably takes no proof for a PreCommit any more. Without a margin, and only a reason to say so:
/// trying costs one proof, giving up wrongly costs the deposit, and the manager knows the chain.
pub fn precommit_expired(precommit: &PreCommitInfo, arrivals: &Arrivals, now_millis: i64) -> bool {
    let epoch = estimate(precommit.head_epoch, precommit.epoch_millis, arrivals.precommit, now_millis);
    epoch > precommit.prove_by_epoch
}

/// Whether that is so by the manager's own words, whatever time it is.
pub fn precommit_came_late(precommit: &PreCommitInfo) -> bool {
    precommit.head_epoch > precommit.prove_by_epoch
}

/// How long what a step is about to compute is worth anything; none if it does not expire, or nobody can tell.
pub fn time_left(step: &Step, arrivals: &Arrivals, now_millis: i64) -> Option<Duration> {
    let (head, epoch_millis, arrival, last_epoch) = match step {
        Step::Pc1 { ticket, .. } | Step::Pc2 { ticket, .. } => {
            let last = ticket.expires_epoch.saturating_sub(TICKET_MARGIN_EPOCHS);
            (ticket.head_epoch, ticket.epoch_millis, arrivals.ticket, last)
        }
        Step::Transferring { precommit, .. } | Step::C1 { precommit, .. } | Step::C2 { precommit, .. } => {
            (precommit.head_epoch, precommit.epoch_millis, arrivals.precommit, precommit.prove_by_epoch)
        }
        _ => return None,
    };
    if epoch_millis == 0 {
        return None;
    }
    let epochs = last_epoch.saturating_sub(estimate(head, epoch_millis, arrival, now_millis)).max(0);
    Some(Duration::from_millis(u64::try_from(epochs).ok()?.saturating_mul(epoch_millis)))
}

fn estimate(head: i64, epoch_millis: u64, arrival: Option<i64>, now: i64) -> i64 {
    // A fact whose time of arrival is not known, or an epoch without length, tells nothing about the time since.
    let elapsed = arrival.map_or(0, |arrival| now.saturating_sub(arrival).max(0));
    let epochs = elapsed.checked_div(i64::try_from(epoch_millis).unwrap_or(i64::MAX)).unwrap_or(0);
    head.saturating_add(epochs)
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{Commitment, Randomness, workflows::seal::worker::Data};

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

    fn came_at(millis: i64) -> Arrivals {
        Arrivals { ticket: Some(millis), precommit: Some(millis) }
    }

    #[test]
    fn a_ticket_expires_by_elapsed_time_with_a_margin() {
        let expired = |expires, now| ticket_expired(&ticket(expires), &came_at(1_000), now);
        assert!(!expired(200, 1_000));
        assert!(!expired(200, 1_000 + 39 * 30_000));
        assert!(expired(200, 1_000 + 40 * 30_000));
        assert!(expired(159, 1_000), "too old on arrival");
    }

    #[test]
    fn what_came_to_an_earlier_process_is_as_old_as_the_server_says_or_as_new_as_it_was() {
        let now = 5_000;
        let aged = |secs: u64| Arrivals::of_ages(Some(Duration::from_secs(secs)), None, now);
        assert!(!ticket_expired(&ticket(200), &aged(39 * 30), now));
        assert!(ticket_expired(&ticket(200), &aged(40 * 30), now), "although the machine was started later");
        assert!(!ticket_expired(&ticket(200), &Arrivals::default(), i64::MAX), "nobody can tell");
        assert!(!ticket_expired(&ticket(200), &came_at(1_000_000_000), 5));
        let odd = Ticket { epoch_millis: 0, ..ticket(200) };
        assert!(!ticket_expired(&odd, &came_at(1), i64::MAX));
    }

    #[test]
    fn a_precommit_counts_as_late_only_when_it_is_surely_late() {
        let precommit = PreCommitInfo { epoch: 90, prove_by_epoch: 110, head_epoch: 100, epoch_millis: 1_000 };
        assert!(!precommit_expired(&precommit, &came_at(1), 10_001));
        assert!(precommit_expired(&precommit, &came_at(1), 11_001));
        assert!(!precommit_came_late(&precommit));
        assert!(precommit_came_late(&PreCommitInfo { head_epoch: 111, ..precommit }));
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = now_millis();
        assert!(first >= 0 && now_millis() >= first);
        assert_eq!(uptime_millis("350735.47 234388.90\n"), Some(350_735_470));
        assert_eq!(uptime_millis("no number"), None);
    }

    #[test]
    fn what_is_left_shrinks_with_the_time_since_and_ends_at_nothing() {
        let data = Data { pieces: vec![], comm_d: Commitment([0; 32]) };
        let step = Step::Pc1 { data: data.clone(), ticket: ticket(200) };
        let left = |now| time_left(&step, &came_at(1_000), now).map(|left| left.as_secs());
        assert_eq!(left(1_000), Some(40 * 30));
        assert_eq!(left(1_000 + 10 * 30_000), Some(30 * 30));
        assert_eq!(left(1_000 + 99 * 30_000), Some(0));
        assert_eq!(time_left(&Step::AwaitingTicket { data, draw: 1 }, &came_at(1_000), 1_000), None);
    }
}
