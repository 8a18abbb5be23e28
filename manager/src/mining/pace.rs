//! Which epoch a block may be made for now, and how long that may take. Pure.
//!
//! The blocks of an epoch are sent when it begins. After the *propagation delay* everybody has them: then the best tipset
//! is taken as the base, and the block of the next epoch is made, which is sent when that one begins. If there is no
//! tipset of an epoch, the block of the epoch after it is made on the same base.
//!
//! When an epoch began is told by the base's timestamp. On test networks timestamps have nothing to do with real time.
//! There a block is made at once, and the node decides whether an epoch can be won already.

use crate::chain::{randomness::FINALITY, types::Epoch};

/// How long the work may take on a network whose epochs nobody can time, in milliseconds.
const UNTIMED: i64 = 10_000;
/// The wait for blocks of miners who have sent two, where epochs take 30 seconds (`EquivocationDelaySecs`).
const EQUIVOCATION: i64 = 2_000;

/// The times of a network, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The length of an epoch; 0 if it is less than a second.
    pub epoch: i64,
    /// The propagation delay.
    pub propagation: i64,
    /// How long after its choice a base is looked at again. If a miner has sent two blocks of its epoch, that is known
    /// by then.
    pub equivocation: i64,
}

/// An epoch that a block may be made for. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// The epoch.
    pub epoch: Epoch,
    /// How many epochs without a tipset are between it and the base.
    pub nulls: i64,
    /// When the block is to be sent.
    pub due: i64,
    /// Until when it is of use.
    pub closes: i64,
    /// Whether these times are real. If not, the block is sent at once.
    pub is_timed: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Try to win this epoch.
    Now(Round),
    /// Look again after so many milliseconds, or when there is another base.
    Later(i64),
}

impl Pace {
    /// Of a network with epochs of this length. The configured propagation delay is for 30 seconds; shorter epochs have
    /// less.
    pub fn new(epoch_millis: u64, propagation_delay_ms: u64) -> Pace {
        let epoch = i64::try_from(epoch_millis).unwrap_or(i64::MAX / 1_000_000);
        let delay = i64::try_from(propagation_delay_ms).unwrap_or(i64::MAX);
        Pace { epoch, propagation: delay.min(epoch / 3), equivocation: EQUIVOCATION.min(epoch / 15) }
    }

    /// The epoch to try on top of a base with this height and timestamp (in seconds). `tried` is the last one that was
    /// tried.
    pub fn round(&self, height: Epoch, timestamp: u64, tried: Option<Epoch>, now: i64) -> When {
        let began = i64::try_from(timestamp).unwrap_or_default().saturating_mul(1000);
        let age = now.saturating_sub(began);
        let is_timed = self.epoch > 0 && age > -self.epoch && age / self.epoch <= FINALITY;
        if !is_timed {
            let due = now + UNTIMED.max(self.epoch);
            let epoch = tried.map_or(height, |tried| tried.max(height)) + 1;
            return When::Now(Round { epoch, nulls: epoch - height - 1, due, closes: due, is_timed });
        }
        let since = age - self.propagation;
        if since < 0 {
            return When::Later(-since);
        }
        let nulls = since / self.epoch;
        let (epoch, due) = (height + 1 + nulls, began + (nulls + 1) * self.epoch);
        // A block that comes a little late still reaches the others before they choose their base.
        let closes = due + self.propagation / 2;
        match tried.is_some_and(|tried| tried >= epoch) || now >= closes {
            true => When::Later(due + self.propagation - now),
            false => When::Now(Round { epoch, nulls, due, closes, is_timed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: i64 = 30_000;
    /// The base of epoch 100 began then.
    const BEGAN: i64 = 1_800_000_000_000;

    fn pace() -> Pace {
        Pace::new(30_000, 10_000)
    }

    fn at(after: i64, tried: Option<Epoch>) -> When {
        pace().round(100, (BEGAN / 1000) as u64, tried, BEGAN + after)
    }

    fn epoch(when: When) -> Option<(Epoch, i64)> {
        match when {
            When::Now(round) => Some((round.epoch, round.nulls)),
            When::Later(_) => None,
        }
    }

    #[test]
    fn the_base_is_taken_after_the_propagation_delay() {
        assert_eq!(at(0, None), When::Later(10_000));
        assert_eq!(at(9_999, None), When::Later(1));
        let round = Round { epoch: 101, nulls: 0, due: BEGAN + EPOCH, closes: BEGAN + EPOCH + 5_000, is_timed: true };
        assert_eq!(at(10_000, None), When::Now(round));
        assert_eq!(at(10_000, Some(101)), When::Later(EPOCH), "each epoch once");
    }

    #[test]
    fn epochs_without_a_tipset_are_counted() {
        assert_eq!(epoch(at(EPOCH + 9_000, Some(101))), None);
        assert_eq!(epoch(at(EPOCH + 10_000, Some(101))), Some((102, 1)));
        assert_eq!(epoch(at(5 * EPOCH + 10_000, Some(102))), Some((106, 5)), "what has passed is not made up for");
    }

    #[test]
    fn a_block_may_be_a_little_late() {
        assert_eq!(epoch(at(EPOCH + 4_999, None)), Some((101, 0)));
        assert_eq!(at(EPOCH + 5_000, None), When::Later(5_000));
    }

    #[test]
    fn short_epochs_have_short_delays() {
        assert_eq!(Pace::new(4_000, 10_000), Pace { epoch: 4_000, propagation: 1_333, equivocation: 266 });
        assert_eq!(Pace::new(0, 10_000), Pace { epoch: 0, propagation: 0, equivocation: 0 });
    }

    #[test]
    fn without_real_times_each_epoch_is_tried_at_once_and_the_node_says_whether_it_has_come() {
        for (pace, timestamp) in [(Pace::new(0, 10_000), BEGAN / 1000), (pace(), 1_700_000_000), (pace(), 0)] {
            let round = |tried| pace.round(100, timestamp as u64, tried, BEGAN);
            assert_eq!(epoch(round(None)), Some((101, 0)));
            assert_eq!(epoch(round(Some(99))), Some((101, 0)));
            assert_eq!(epoch(round(Some(101))), Some((102, 1)));
            let When::Now(round) = round(None) else { unreachable!("at once") };
            assert!(!round.is_timed && round.due == BEGAN + UNTIMED.max(pace.epoch));
        }
    }
}
