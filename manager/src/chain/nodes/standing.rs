//! Whether a node is well, compared with the others. Pure.

use std::fmt;
use std::sync::Arc;

use crate::chain::error::Error;
use crate::chain::types::Epoch;

/// How many epochs a head may be below the highest one. Blocks reach nodes some seconds apart.
pub const LAG_EPOCHS: Epoch = 3;
/// A node that was behind counts again when it is this close to the highest head.
const CAUGHT_UP_EPOCHS: Epoch = 1;

/// Which network a node is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkId {
    /// Its name, such as `mainnet`.
    pub name: String,
    /// The key of its first tipset. `None` if the node does not tell.
    pub genesis: Option<String>,
}

/// How a node stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Not looked at yet.
    Unknown,
    /// It can be read from.
    Well {
        /// Its head's epoch.
        head: Epoch,
    },
    /// It does not answer, or its answers are unusable.
    Unusable(Arc<Error>),
    /// It is on another network.
    OtherNetwork {
        /// The one that it is on.
        found: NetworkId,
        /// The one that it should be on.
        expected: NetworkId,
    },
    /// Its head is too far below the highest one.
    Behind {
        /// Its head's epoch.
        head: Epoch,
        /// The highest head's epoch.
        best: Epoch,
    },
    /// Its chain and the heaviest one part below the confident tipset.
    Forked {
        /// Its head's epoch.
        head: Epoch,
        /// An epoch at which the chains differ.
        at: Epoch,
    },
}

impl NetworkId {
    /// Whether a node on `other` can be used where this one is expected.
    pub fn is(&self, other: &NetworkId) -> bool {
        let same_genesis = self.genesis.is_none() || other.genesis.is_none() || self.genesis == other.genesis;
        self.name == other.name && same_genesis
    }
}

impl Standing {
    /// The standing of a node whose answer was an error.
    pub fn of_error(error: Error) -> Standing {
        Standing::Unusable(Arc::new(error))
    }

    /// A short and stable name, for people and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Unknown => "unknown",
            Standing::Well { .. } => "well",
            Standing::Unusable(error) => match **error {
                Error::BadAnswer { .. } | Error::AnswerTooLarge { .. } => "nonsense",
                _ => "away",
            },
            Standing::OtherNetwork { .. } => "other_network",
            Standing::Behind { .. } => "behind",
            Standing::Forked { .. } => "forked",
        }
    }

    /// Whether the node lags, given what was said of it before.
    pub fn lags(&self, head: Epoch, best: Epoch) -> bool {
        let tolerated = if matches!(self, Standing::Behind { .. }) { CAUGHT_UP_EPOCHS } else { LAG_EPOCHS };
        best - head > tolerated
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.genesis {
            Some(genesis) => write!(f, "{} (genesis {genesis})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for Standing {
    /// The predicate of a sentence about the node.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Unknown => f.write_str("was not asked yet"),
            Standing::Well { head } => write!(f, "is well, at epoch {head}"),
            Standing::Unusable(error) => write!(f, "cannot be used: {}", crate::drive::chain_of(&**error)),
            Standing::OtherNetwork { found, expected } => write!(f, "is on the network {found}, not on {expected}"),
            Standing::Behind { head, best } => write!(f, "is behind, at epoch {head} while another node is at {best}"),
            Standing::Forked { head, at } => {
                write!(f, "is on a fork: its chain, now at epoch {head}, differs from the heaviest one at epoch {at}")
            }
        }
    }
}
