//! The expiration of a sector, and the epochs in which it can be proven.
//!
//! These are the rules of `validate_expiration` and `prove_commit_sectors3` in the miner actor (v18, v19). Only the
//! delay between PreCommit and seed differs between networks; it comes from the node.

use super::randomness::{TICKET_AGE_MAX, ticket_expires_epoch};
use super::types::Epoch;

/// Epochs in a day, with epochs of 30 s. Networks with shorter epochs use the same number.
pub(crate) const DAY: Epoch = 2880;

/// The shortest lifetime of a sector after its activation (`MIN_SECTOR_EXPIRATION`, 180 days).
pub const LIFETIME_MIN: Epoch = 180 * DAY;

/// The latest expiration, counted from the epoch of the message (`MAX_SECTOR_EXPIRATION_EXTENSION`, 1278 days).
pub const EXPIRATION_AHEAD_MAX: Epoch = 1278 * DAY;

/// The longest lifetime of a sector of the current proof types (`sector_maximum_lifetime`, five years of 1,051,897
/// epochs).
pub const LIFETIME_MAX: Epoch = 5_259_485;

/// How many epochs a chosen expiration stays below the latest possible one. A node tries a message at its message
/// pool's tipset, which may be some epochs behind the head, and a reorganisation may include the message some epochs
/// earlier.
pub(crate) const EXPIRATION_MARGIN: Epoch = 60;

/// The time to prove after a PreCommit, without the seed's delay (`MAX_PROVE_COMMIT_DURATION`, 30 days).
const PROVE_COMMIT_DURATION: Epoch = 30 * DAY;

/// The largest delay that is accepted from a node: far above every network's, and far below an overflow.
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
    /// The ticket is ahead of the head: a wrong chain, or a node that lags.
    #[error("ticket epoch {ticket_epoch} lies ahead of the head at {head}")]
    TicketAhead {
        /// The ticket's epoch.
        ticket_epoch: Epoch,
        /// The head's epoch.
        head: Epoch,
    },
    /// The ticket is too old for a PreCommit from now on.
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

    /// The first epoch at which a ProveCommit can be included: after the seed's epoch.
    pub fn prove_commit_earliest(self, pre_commit_epoch: Epoch) -> Epoch {
        pre_commit_epoch + self.pre_commit_challenge_delay + 1
    }

    /// The last epoch at which a ProveCommit can be included. After it the deposit is lost and the number burnt.
    pub fn prove_commit_deadline(self, pre_commit_epoch: Epoch) -> Epoch {
        pre_commit_epoch + self.prove_commit_duration()
    }

    /// Chooses a sector's expiration so that the PreCommit is valid whenever it lands before its ticket expires.
    ///
    /// `wanted` is the expiration that the operator or the sector's deals ask for; without one the sector is as short
    /// as the actor allows. The PreCommit lands between `head` and the ticket's last epoch, and the bounds rise with
    /// its epoch. So it is enough to check the upper bound at `head` and the lower bound at the ticket's last epoch.
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
