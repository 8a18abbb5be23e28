//! Until when: the expiration of a sector, and the epochs between which it can be proven.
//!
//! Rules of `validate_expiration` and `prove_commit_sectors3` of the miner actor (v18, v19). The network's delay is the only number that differs
//! between networks; it comes from the node.

use super::randomness::{TICKET_AGE_MAX, ticket_expires_epoch};
use super::types::Epoch;

/// Epochs in a day of 30 s epochs. Networks with shorter epochs count the same.
const DAY: Epoch = 2880;

/// Shortest life of a sector after its activation (`MIN_SECTOR_EXPIRATION`, 180 days).
pub const LIFETIME_MIN: Epoch = 180 * DAY;

/// Farthest expiration from the epoch of the message (`MAX_SECTOR_EXPIRATION_EXTENSION`, 1278 days).
pub const EXPIRATION_AHEAD_MAX: Epoch = 1278 * DAY;

/// Longest life of a sector of current proof types (`sector_maximum_lifetime`, five years of 1,051,897 epochs).
pub const LIFETIME_MAX: Epoch = 5_259_485;

/// How far a chosen expiration stays from the farthest one. A node tries a message on what its message pool follows, which may be some
/// epochs behind the head, and a reorganisation may include it some epochs before.
const EXPIRATION_MARGIN: Epoch = 60;

/// Time to prove after a PreCommit, without the delay of the seed (`MAX_PROVE_COMMIT_DURATION`, 30 days).
const PROVE_COMMIT_DURATION: Epoch = 30 * DAY;

/// Largest delay that is taken from a node; far above every network's, far below what could overflow.
const DELAY_MAX: Epoch = 10 * DAY;

/// Why an expiration cannot be chosen or would be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The node's parameter makes no sense.
    #[error("a delay of {delay} epochs between PreCommit and seed cannot be right")]
    Delay {
        /// The node's value.
        delay: Epoch,
    },
    /// The ticket lies ahead of the head: a wrong chain, or a node that lags.
    #[error("ticket epoch {ticket_epoch} lies ahead of the head at {head}")]
    TicketAhead {
        /// The ticket's epoch.
        ticket_epoch: Epoch,
        /// The head's epoch.
        head: Epoch,
    },
    /// The ticket is too old for any PreCommit from now on.
    #[error("the ticket of epoch {ticket_epoch} expired at {expires}, before {head}")]
    TicketExpired {
        /// The ticket's epoch.
        ticket_epoch: Epoch,
        /// The last epoch at which it could be included.
        expires: Epoch,
        /// The head's epoch.
        head: Epoch,
    },
    /// The sector would end too early.
    #[error("expiration {expiration} is before {earliest}, the earliest that the actor takes")]
    TooEarly {
        /// The expiration.
        expiration: Epoch,
        /// The bound.
        earliest: Epoch,
    },
    /// The sector would end too late.
    #[error("expiration {expiration} is after {latest}, the latest that the actor takes")]
    TooLate {
        /// The expiration.
        expiration: Epoch,
        /// The bound.
        latest: Epoch,
    },
}

/// The rules of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pre_commit_challenge_delay: Epoch,
}

impl Rules {
    /// The rules of a network with this delay between PreCommit and seed, in epochs.
    pub fn new(pre_commit_challenge_delay: Epoch) -> Result<Self, Error> {
        if (1..=DELAY_MAX).contains(&pre_commit_challenge_delay) {
            Ok(Self { pre_commit_challenge_delay })
        } else {
            Err(Error::Delay { delay: pre_commit_challenge_delay })
        }
    }

    /// Epochs from PreCommit to the last chance to prove (`max_prove_commit_duration`): 86,550 on the main network.
    pub fn prove_commit_duration(self) -> Epoch {
        PROVE_COMMIT_DURATION + self.pre_commit_challenge_delay
    }

    /// The first epoch at which a ProveCommit can be included: the seed must lie behind.
    pub fn prove_commit_earliest(self, pre_commit_epoch: Epoch) -> Epoch {
        pre_commit_epoch + self.pre_commit_challenge_delay + 1
    }

    /// The last epoch at which a ProveCommit can be included. After it the deposit is lost and the number burnt.
    pub fn prove_commit_deadline(self, pre_commit_epoch: Epoch) -> Epoch {
        pre_commit_epoch + self.prove_commit_duration()
    }

    /// Chooses when a sector ends, such that the PreCommit is valid whenever it lands while its ticket is.
    ///
    /// `wanted` is the expiration that the operator or the sector's deals ask for; without one the sector is as short as the actor allows.
    /// A PreCommit lands after `head`, and its bounds move with it, so what is valid for `head` at the upper end and for the ticket's last
    /// epoch at the lower end is valid in between.
    pub fn choose_expiration(self, ticket_epoch: Epoch, head: Epoch, wanted: Option<Epoch>) -> Result<Epoch, Error> {
        if ticket_epoch > head {
            return Err(Error::TicketAhead { ticket_epoch, head });
        }
        let expires = ticket_expires_epoch(ticket_epoch);
        if head >= expires {
            return Err(Error::TicketExpired { ticket_epoch, expires, head });
        }
        let floor = ticket_epoch + TICKET_AGE_MAX + self.prove_commit_duration() + LIFETIME_MIN;
        let cap = head + EXPIRATION_AHEAD_MAX - EXPIRATION_MARGIN;
        Ok(wanted.unwrap_or(floor).max(floor).min(cap))
    }

    /// Checks an expiration as the actor does when the PreCommit lands at `pre_commit_epoch`.
    pub fn check_expiration(self, expiration: Epoch, pre_commit_epoch: Epoch) -> Result<(), Error> {
        let activation_latest = pre_commit_epoch + self.prove_commit_duration();
        let earliest = activation_latest + LIFETIME_MIN;
        let latest = (pre_commit_epoch + EXPIRATION_AHEAD_MAX).min(activation_latest + LIFETIME_MAX);
        if expiration < earliest {
            Err(Error::TooEarly { expiration, earliest })
        } else if expiration > latest {
            Err(Error::TooLate { expiration, latest })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::chain::randomness::ticket_epoch;

    const MAINNET: Rules = Rules { pre_commit_challenge_delay: 150 };
    const DEVNET: Rules = Rules { pre_commit_challenge_delay: 10 };

    #[test]
    fn the_constants_are_those_of_the_actors() {
        assert_eq!((LIFETIME_MIN, EXPIRATION_AHEAD_MAX, TICKET_AGE_MAX), (518_400, 3_680_640, 3780));
        assert_eq!((MAINNET.prove_commit_duration(), DEVNET.prove_commit_duration()), (86_550, 86_410));
    }

    #[test]
    fn a_chosen_expiration_is_valid_wherever_the_precommit_lands() {
        for rules in [MAINNET, DEVNET] {
            for head in [0, 50, 900, 6_470_279] {
                for wanted in [None, Some(0), Some(head + 600_000), Some(head + 2_000_000), Some(i64::MAX)] {
                    let ticket = ticket_epoch(head);
                    let expiration = rules.choose_expiration(ticket, head, wanted).unwrap();
                    for landed in [head - 60, head - 2, head + 1, head + 100, ticket_expires_epoch(ticket)] {
                        assert_eq!(rules.check_expiration(expiration, landed), Ok(()), "{head} {wanted:?} {landed}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_choice_is_the_wish_within_floor_and_cap() {
        let (ticket, head) = (100, 1000);
        let floor = 100 + 3780 + 86_550 + 518_400;
        assert_eq!(MAINNET.choose_expiration(ticket, head, None), Ok(floor));
        assert_eq!(MAINNET.choose_expiration(ticket, head, Some(floor - 1)), Ok(floor));
        assert_eq!(MAINNET.choose_expiration(ticket, head, Some(floor + 1)), Ok(floor + 1));
        assert_eq!(MAINNET.choose_expiration(ticket, head, Some(i64::MAX)), Ok(1000 + 3_680_640 - 60));
    }

    #[test]
    fn bounds_are_inclusive() {
        let landed = 5000;
        let earliest = landed + 86_550 + 518_400;
        assert_eq!(MAINNET.check_expiration(earliest, landed), Ok(()));
        assert_eq!(
            MAINNET.check_expiration(earliest - 1, landed),
            Err(Error::TooEarly { expiration: earliest - 1, earliest })
        );
        let latest = landed + 3_680_640;
        assert_eq!(MAINNET.check_expiration(latest, landed), Ok(()));
        assert_eq!(
            MAINNET.check_expiration(latest + 1, landed),
            Err(Error::TooLate { expiration: latest + 1, latest })
        );
    }

    #[test]
    fn useless_tickets_and_delays_are_refused() {
        assert!(matches!(MAINNET.choose_expiration(11, 10, None), Err(Error::TicketAhead { .. })));
        assert!(MAINNET.choose_expiration(100, 3879, None).is_ok());
        assert!(matches!(MAINNET.choose_expiration(100, 3880, None), Err(Error::TicketExpired { expires: 3880, .. })));
        assert!(Rules::new(0).is_err() && Rules::new(-1).is_err() && Rules::new(i64::MAX).is_err());
        assert_eq!(Rules::new(10), Ok(DEVNET));
    }

    #[test]
    fn a_sector_is_proven_between_seed_and_deadline() {
        assert_eq!((DEVNET.prove_commit_earliest(100), DEVNET.prove_commit_deadline(100)), (111, 86_510));
    }
}
