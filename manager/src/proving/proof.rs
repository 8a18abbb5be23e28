//! The proof of one partition in one turn, as it is stored.

use std::fmt;

use sealbus_schema::{MinerId, ProofBytes, Randomness, SectorNumber, WorkerName, post::PostJob};
use serde::{Deserialize, Serialize};

use super::turn::Turn;
use crate::{
    chain::types::{Epoch, Index},
    store::ErrandId,
};

/// Which proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProofId {
    /// The miner.
    pub miner: MinerId,
    /// The first epoch of the proving period.
    pub period: Epoch,
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
}

/// The state of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofState {
    /// Sectors are read, and the SNARK is made.
    Making,
    /// There is a verified proof.
    Proved,
    /// Its message is asked for.
    Asked,
    /// The chain has it, at the confident part.
    Landed,
    /// There was nothing to prove.
    Nothing,
    /// The deadline closed without it: its sectors are faulty.
    Missed,
}

/// An attempt to prove: the sectors by rising number, each with the worker whose vanilla proof is used, and who had failed
/// before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The sectors.
    pub sectors: Vec<(SectorNumber, WorkerName)>,
    /// The workers that had failed.
    pub failed_at: Vec<WorkerName>,
}

/// A sector that is left out of a proof, and becomes faulty by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The sector.
    pub number: SectorNumber,
    /// Why.
    pub cause: String,
}

/// The proof of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProof {
    /// Which one.
    pub id: ProofId,
    /// When it is challenged, opens and closes.
    pub challenge: Epoch,
    /// See [`Turn::open`].
    pub open: Epoch,
    /// See [`Turn::close`].
    pub close: Epoch,
    /// The challenge's randomness, masked.
    pub randomness: Randomness,
    /// Its state.
    pub state: ProofState,
    /// How many sectors are to be proven.
    pub sectors: u64,
    /// How many of them are recovering.
    pub recovering: u64,
    /// The attempts to prove, in their order.
    pub attempts: Vec<Attempt>,
    /// The verified proof.
    pub proof: Option<ProofBytes>,
    /// What the proof leaves out.
    pub skipped: Vec<Skipped>,
    /// The errand that sends it.
    pub errand: Option<ErrandId>,
    /// The head when the last sector was read that counts.
    pub read_epoch: Option<Epoch>,
    /// The head when the proof was verified.
    pub proved_epoch: Option<Epoch>,
    /// The head when the chain was seen to have it.
    pub landed_epoch: Option<Epoch>,
    /// The slowest sector, its milliseconds, and the prover, for people.
    pub told: Told,
    /// What went wrong last.
    pub problem: Option<String>,
}

/// What is told of a proof's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The slowest sector that was read, and how many milliseconds it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<(SectorNumber, u64)>,
    /// The worker that made the proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prover: Option<WorkerName>,
    /// How many milliseconds the SNARK took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove_ms: Option<u64>,
}

impl ProofState {
    const ALL: [(ProofState, &'static str); 6] = [
        (ProofState::Making, "making"),
        (ProofState::Proved, "proved"),
        (ProofState::Asked, "asked"),
        (ProofState::Landed, "landed"),
        (ProofState::Nothing, "nothing"),
        (ProofState::Missed, "missed"),
    ];

    /// The stored name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// The state with this name.
    pub fn of_name(name: &str) -> Option<ProofState> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }

    /// Whether something is still to be done.
    pub const fn is_open(self) -> bool {
        matches!(self, ProofState::Making | ProofState::Proved | ProofState::Asked)
    }
}

impl ProofId {
    /// The name of its tasks. `-` stands for a sign, too: no period begins before epoch 0 except on young test chains.
    pub fn job(self) -> Option<PostJob> {
        format!("w-{}-{}-{}", self.period, self.deadline, self.partition).parse().ok()
    }
}

impl ProofId {
    /// In one word: `f01000/2880/7/0`, for miner, period, deadline and partition.
    pub fn path(self) -> String {
        format!("{}/{}/{}/{}", self.miner, self.period, self.deadline, self.partition)
    }
}

/// The text names no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no proof: expected <miner>/<period>/<deadline>/<partition>, such as f01000/2880/7/0")]
pub struct BadProofId(String);

impl std::str::FromStr for ProofId {
    type Err = BadProofId;

    fn from_str(text: &str) -> Result<ProofId, BadProofId> {
        let parts: Vec<&str> = text.split('/').collect();
        let read = || -> Option<ProofId> {
            let [miner, period, deadline, partition] = parts[..] else { return None };
            Some(ProofId {
                miner: miner.parse().ok()?,
                period: period.parse().ok()?,
                deadline: deadline.parse().ok()?,
                partition: partition.parse().ok()?,
            })
        };
        read().ok_or_else(|| BadProofId(text.to_owned()))
    }
}

impl fmt::Display for ProofId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} deadline {} partition {}", self.miner, self.deadline, self.partition)
    }
}

impl PartitionProof {
    /// One that begins: `counts` are the sectors to prove, and those of them that are recovering.
    pub fn begun(id: ProofId, turn: &Turn, randomness: Randomness, counts: (u64, u64)) -> PartitionProof {
        let (sectors, recovering) = counts;
        PartitionProof {
            id,
            challenge: turn.challenge,
            open: turn.open,
            close: turn.close,
            randomness,
            state: if sectors == 0 { ProofState::Nothing } else { ProofState::Making },
            sectors,
            recovering,
            attempts: Vec::new(),
            proof: None,
            skipped: Vec::new(),
            errand: None,
            read_epoch: None,
            proved_epoch: None,
            landed_epoch: None,
            told: Told::default(),
            problem: None,
        }
    }
}
