//! Estimates the chain's epoch from a chain head that the manager wrote down and the time that has passed since.
//!
//! The clock is monotonic, cannot be set, and also advances while the machine is suspended. The time before this process
//! began is the difference of two of the server's timestamps. If it is unknown, it counts as zero. The wall clock decides
//! nothing, because after a restart it may be wrong by years.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use sealbus_schema::message::FactKind;

use crate::workflows::Expiry;

/// When facts arrived, in milliseconds of [`now_millis`]. Arrivals before this machine's start are negative. Unknown ones
/// are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals(BTreeMap<FactKind, i64>);

impl Arrivals {
    /// The arrival of a fact that an earlier process received, from its age.
    pub fn of_age(kind: FactKind, age: Duration, now_millis: i64) -> Arrivals {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Arrivals(BTreeMap::from([(kind, now_millis.saturating_sub(age))]))
    }

    /// Records that a fact of this kind has arrived.
    pub fn came(&mut self, kind: FactKind, now_millis: i64) {
        self.0.insert(kind, now_millis);
    }
}

/// Milliseconds since the machine was started, including the time while it was suspended. This clock is monotonic.
pub fn now_millis() -> i64 {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let uptime = std::fs::read_to_string("/proc/uptime").ok().and_then(|text| uptime_millis(&text));
    // Without the kernel's uptime, the time while the machine was suspended is missing.
    uptime.unwrap_or_else(|| i64::try_from(STARTED.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// The first number of `/proc/uptime`, which has seconds with two decimals, in milliseconds.
fn uptime_millis(text: &str) -> Option<i64> {
    let (secs, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let (secs, hundredths): (i64, i64) = (secs.parse().ok()?, hundredths.get(..2)?.parse().ok()?);
    Some(secs.checked_mul(1000)?.saturating_add(hundredths * 10))
}

/// The estimated epoch of the chain.
pub fn epoch(expiry: &Expiry, arrivals: &Arrivals, now_millis: i64) -> i64 {
    // If the fact's arrival is unknown, or the epoch has no length, nothing is known about the time since.
    let arrival = arrivals.0.get(&expiry.told_by);
    let elapsed = arrival.map_or(0, |arrival| now_millis.saturating_sub(*arrival).max(0));
    let epochs = elapsed.checked_div(i64::try_from(expiry.epoch_millis).unwrap_or(i64::MAX)).unwrap_or(0);
    expiry.head_epoch.saturating_add(epochs)
}

/// The remaining time until a step's work becomes worthless. `None` if that is unknown.
pub fn time_left(expiry: &Expiry, arrivals: &Arrivals, now_millis: i64) -> Option<Duration> {
    if expiry.epoch_millis == 0 {
        return None;
    }
    let epochs = expiry.last_epoch.saturating_sub(epoch(expiry, arrivals, now_millis)).max(0);
    Some(Duration::from_millis(u64::try_from(epochs).ok()?.saturating_mul(expiry.epoch_millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FactKind = FactKind("ticket");
    const EXPIRY: Expiry = Expiry { told_by: KIND, head_epoch: 100, epoch_millis: 30_000, last_epoch: 140 };

    fn came_at(millis: i64) -> Arrivals {
        let mut arrivals = Arrivals::default();
        arrivals.came(KIND, millis);
        arrivals
    }

    #[test]
    fn epochs_are_told_by_elapsed_time() {
        let at = |now| epoch(&EXPIRY, &came_at(1_000), now);
        assert_eq!((at(0), at(1_000)), (100, 100));
        assert_eq!((at(1_000 + 30_000 - 1), at(1_000 + 40 * 30_000)), (100, 140));
    }

    #[test]
    fn what_came_to_an_earlier_process_is_as_old_as_the_server_says_or_as_new_as_it_was() {
        let now = 5_000;
        let aged = |secs| epoch(&EXPIRY, &Arrivals::of_age(KIND, Duration::from_secs(secs), now), now);
        assert_eq!((aged(39 * 30), aged(40 * 30)), (139, 140), "although the machine was started later");
        assert_eq!(epoch(&EXPIRY, &Arrivals::default(), i64::MAX), 100, "nobody can tell");
        assert_eq!(epoch(&EXPIRY, &came_at(1_000_000_000), 5), 100);
        let odd = Expiry { epoch_millis: 0, ..EXPIRY };
        assert_eq!(epoch(&odd, &came_at(1), i64::MAX), 100);
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
        let left = |now| time_left(&EXPIRY, &came_at(1_000), now).map(|left| left.as_secs());
        assert_eq!(left(1_000), Some(40 * 30));
        assert_eq!(left(1_000 + 10 * 30_000), Some(30 * 30));
        assert_eq!(left(1_000 + 99 * 30_000), Some(0));
        let odd = Expiry { epoch_millis: 0, ..EXPIRY };
        assert_eq!(time_left(&odd, &came_at(1_000), 1_000), None);
    }
}
