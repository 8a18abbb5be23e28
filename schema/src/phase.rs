//! The compute phases that workflows are made of.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::workflow::Workflow;

/// A compute step of a workflow. Each is served by processors of the stage with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// A phase that only one workflow has, with its name. It must be listed in that workflow's
    /// [`PHASES`](crate::machine::worker::Machine::PHASES), or in [`Phase::POST`] or [`Phase::WINNING`].
    Own(&'static str),
}

/// The text is not the name of a phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stage: expected one of {names}", names = names())]
pub struct UnknownPhase(String);

impl Phase {
    /// The phases of sealing, in order. These are what machines are planned for.
    pub const SEALING: [Phase; 7] =
        [Phase::AddPieces, Phase::TreeD, Phase::Pc1, Phase::Pc2, Phase::Transfer, Phase::C1, Phase::C2];

    /// The work on proofs of spacetime: vanilla proofs beside the store, and SNARKs. It belongs to no workflow, because
    /// no job about a sector asks for it (see [`post`](crate::post)).
    pub const POST: [Phase; 2] = [Phase::Own("post_read"), Phase::Own("post_prove")];

    /// The same work for winning PoSts. A block has seconds, so it does not wait for processors that are busy with a window
    /// PoSt.
    pub const WINNING: [Phase; 2] = [Phase::Own("win_read"), Phase::Own("win_prove")];

    /// The phases of all workflows, and those of proofs, each once.
    pub fn known() -> Vec<Phase> {
        Phase::of(Workflow::ALL).into_iter().chain(Phase::POST).chain(Phase::WINNING).collect()
    }

    /// The phases of some workflows, each once.
    pub fn of(workflows: &[Workflow]) -> Vec<Phase> {
        let mut phases = Vec::new();
        for phase in workflows.iter().flat_map(|workflow| workflow.phases()) {
            if !phases.contains(phase) {
                phases.push(*phase);
            }
        }
        phases
    }

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
            Phase::Own(name) => name,
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
        let phases =
            Workflow::ALL.iter().flat_map(|workflow| workflow.phases()).chain(&Phase::POST).chain(&Phase::WINNING);
        phases.copied().find(|phase| phase.name() == text).ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Phase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let unknown = |_| de::Error::custom(format_args!("unknown variant `{name}`, expected one of {}", names()));
        name.parse().map_err(unknown)
    }
}

fn names() -> String {
    Phase::known().into_iter().map(Phase::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_written_the_same_everywhere() {
        for phase in Phase::known() {
            assert_eq!(phase.name().parse(), Ok(phase));
            assert_eq!(serde_json::to_string(&phase).expect("json"), format!("\"{phase}\""));
            // Earlier versions wrote phases into journals as an enum without fields, so the bytes must be the same.
            let packed = rmp_serde::to_vec_named(&phase).expect("packs");
            assert_eq!(packed[1..], *phase.name().as_bytes());
            assert_eq!(rmp_serde::from_slice::<Phase>(&packed).expect("unpacks"), phase);
        }
        let refused = "pc3".parse::<Phase>().expect_err("no phase").to_string();
        assert!(refused.contains("one of add_pieces, tree_d, pc1, pc2, transfer, c1, c2"), "{refused}");
    }
}
