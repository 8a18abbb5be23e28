//! Judges whether the node's head is where it should be. Pure: times are arguments.

use std::time::Duration;

use sealbus_schema::ErrorCode;
use tokio::time::Instant;

use crate::{chain::types::TipSet, waits::Cause};

/// After this many epochs without a block, that is reported. On the main network one epoch in a hundred is empty.
const EMPTY_EPOCHS: u32 = 5;
/// A head that has not moved is reported after this time at the earliest, because epochs of test networks take only
/// milliseconds.
const STILL_MIN: Duration = Duration::from_secs(20);
/// How many epochs old a head may be. If our own clock is wrong, any head looks old, so only a warning follows.
const OLD_EPOCHS: u64 = 10;
/// From this epoch length on, a chain's timestamps follow the time of day. Development networks have shorter epochs, and
/// their timestamps do not.
const DAYTIME_EPOCH_MILLIS: u64 = 30_000;

/// How long a chain may stand still, or its node say nothing, before that is odd.
pub fn still_max(epoch_millis: u64) -> Duration {
    (Duration::from_millis(epoch_millis) * EMPTY_EPOCHS).max(STILL_MIN)
}

/// The last head, and when it was first seen.
#[derive(Debug, Default)]
pub struct HeadWatch {
    seen: Option<(i64, Instant)>,
}

impl HeadWatch {
    /// What is wrong with this head, if anything. `unix_secs` is this host's time of day.
    pub fn judge(&mut self, head: &TipSet, epoch_millis: u64, now: Instant, unix_secs: u64) -> Option<Cause> {
        let height = head.height;
        let since = match self.seen {
            Some((last, since)) if last == height => since,
            _ => {
                self.seen = Some((height, now));
                now
            }
        };
        let (still, epoch) = (now.duration_since(since), Duration::from_millis(epoch_millis));
        if still >= still_max(epoch_millis) {
            let text = format!(
                "the node's head has stood at epoch {height} for {} s, while an epoch lasts {} s",
                still.as_secs(),
                epoch.as_secs_f32()
            );
            return Some(Cause::passing(ErrorCode::NODE_BEHIND, text));
        }
        let made = head.blocks.iter().map(|block| block.timestamp).max()?;
        let old = unix_secs.saturating_sub(made);
        if epoch_millis >= DAYTIME_EPOCH_MILLIS && old > OLD_EPOCHS * epoch_millis / 1000 {
            let text = format!(
                "the node's head, epoch {height}, was made at {made} s since 1970; by this machine's clock that is {old} s \
                 ago: the node lags behind, or this clock is wrong"
            );
            return Some(Cause::passing(ErrorCode::NODE_BEHIND, text));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use fvm_shared::address::Address;

    use super::*;
    use crate::chain::types::{BlockHeader, TipSetKey};

    const NOON: u64 = 1_800_000_000;

    fn head(height: i64, timestamp: u64) -> TipSet {
        let block = BlockHeader {
            miner: Address::new_id(1000),
            parents: TipSetKey::head(),
            timestamp,
            parent_base_fee: Default::default(),
        };
        TipSet { key: TipSetKey::head(), blocks: vec![block], height }
    }

    #[test]
    fn a_head_that_stands_still_is_told_after_some_epochs_and_no_more_once_it_moves() {
        let (mut watch, start) = (HeadWatch::default(), Instant::now());
        let mut told_at = |height, secs: u64| {
            let now = start + Duration::from_secs(secs);
            watch.judge(&head(height, NOON), 30_000, now, NOON).map(|cause| cause.code)
        };
        assert_eq!(told_at(7, 0), None);
        assert_eq!(told_at(7, 149), None);
        assert_eq!(told_at(7, 150), Some(ErrorCode::NODE_BEHIND));
        assert_eq!(told_at(8, 151), None);
        assert_eq!(told_at(8, 300), None);
    }

    #[test]
    fn a_head_that_moves_but_is_old_is_told_where_epochs_keep_the_time_of_day() {
        let told = |timestamp, epoch_millis| {
            let mut watch = HeadWatch::default();
            watch.judge(&head(7, timestamp), epoch_millis, Instant::now(), NOON).is_some()
        };
        assert!(told(NOON - 301, 30_000));
        assert!(!told(NOON - 299, 30_000));
        assert!(!told(NOON + 100, 30_000), "a clock that is behind");
        assert!(!told(0, 4_000), "a development network");
    }
}
