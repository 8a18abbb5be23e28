//! The compute phases that workflows are made of.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A compute step of a workflow. Each is served by processors of the stage with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Write the pieces into the staged file.
    AddPieces,
    /// Build the Merkle tree over the data; CommD.
    TreeD,
    /// PreCommit phase 1: labels.
    Pc1,
    /// PreCommit phase 2: column and replica trees; CommR.
    Pc2,
    /// Copy the sealed file and the cache to the permanent store.
    Transfer,
    /// Commit phase 1: vanilla proofs for the seed's challenges.
    C1,
    /// Commit phase 2: the Groth16 proof.
    C2,
}

/// The text is not the name of a phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stage: expected one of add_pieces, tree_d, pc1, pc2, transfer, c1, c2")]
pub struct UnknownPhase(String);

impl Phase {
    /// The phases of sealing, in order.
    pub const ALL: [Phase; 7] =
        [Phase::AddPieces, Phase::TreeD, Phase::Pc1, Phase::Pc2, Phase::Transfer, Phase::C1, Phase::C2];

    /// The phase's name in messages, configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::AddPieces => "add_pieces",
            Phase::TreeD => "tree_d",
            Phase::Pc1 => "pc1",
            Phase::Pc2 => "pc2",
            Phase::Transfer => "transfer",
            Phase::C1 => "c1",
            Phase::C2 => "c2",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL.into_iter().find(|phase| phase.name() == text).ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_written_the_same_everywhere() {
        for phase in Phase::ALL {
            assert_eq!(phase.name().parse(), Ok(phase));
            assert_eq!(serde_json::to_string(&phase).expect("json"), format!("\"{phase}\""));
        }
    }
}
