//! Proofs of spacetime: what the manager asks for, and what workers answer.
//!
//! A proof is made in two kinds of work. *Reading* makes a *vanilla proof* of each sector from its files, beside the
//! store. *Proving* makes the SNARK of many sectors from their vanilla proofs, on any machine that has the parameters.
//!
//! Nobody owns such work. Its outcome depends on nothing but the task, so a task that two workers carry out has two
//! equal outcomes, and the first one counts. A worker that is gone loses nothing: the task is delivered again.
//!
//! A sector's challenges depend on the randomness and its own number only, not on the other sectors of the proof. So
//! leaving a sector out makes no other vanilla proof invalid.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    bytes::{Commitment, ProofBytes, Randomness},
    error::ErrorReport,
    id::{MinerId, SectorNumber, WorkerName},
    proof::SealProof,
};

/// The most sectors of one reading task. Small, so that several workers share a partition, and a worker that is gone
/// holds up few sectors.
pub const READ_SECTORS_MAX: usize = 32;

/// The most sectors of one proof: a partition of 32 GiB sectors has 2349, one of 64 GiB sectors 2300.
pub const PROVE_SECTORS_MAX: usize = 2349;

/// The name of a piece of work on proofs, unique for a miner: `w-2880-7-0`. Safe as a subject token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostJob(String);

/// The text is not the name of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a proof's job: expected 1 to 64 of a-z, 0-9 and `-`")]
pub struct BadPostJob(String);

/// The kind of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostKind {
    /// Proves a partition, once in a proving period: 10 challenges a sector.
    Window,
    /// Proves one sector for a block: 66 challenges.
    Winning,
    /// A kind of a newer version. A worker leaves such a task in the queue.
    #[serde(other)]
    Unknown,
}

/// What the manager wants done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostTask {
    /// Make vanilla proofs.
    Read(ReadTask),
    /// Make a SNARK.
    Prove(ProveTask),
    /// A task of a newer version.
    #[serde(other)]
    Unknown,
}

/// What is proven, in tasks of both kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostSubject {
    /// The miner.
    pub miner: MinerId,
    /// The job.
    pub job: PostJob,
    /// The kind of proof.
    pub post: PostKind,
    /// The sectors' seal proof, which implies their size.
    pub proof: SealProof,
    /// The randomness that the challenges are drawn from, with its last byte masked (`[31] &= 0x3f`).
    pub randomness: Randomness,
}

/// Vanilla proofs of some sectors of one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadTask {
    /// What is proven.
    pub of: PostSubject,
    /// The number of the task within the job, from 0.
    pub piece: u32,
    /// The name of the store that has the files.
    pub store: String,
    /// The store's id from its identity file, if it is known. A directory with another id is not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// The sectors, at most [`READ_SECTORS_MAX`].
    pub sectors: Vec<SectorToRead>,
    /// How long reading one sector may take, in milliseconds. It is given up then.
    pub sector_limit_ms: u64,
    /// For how long after the task was stored its outcome is useful, in milliseconds.
    pub limit_ms: u64,
    /// Whether it is only to be seen if the sectors can be read: their vanilla proofs are made and thrown away. A worker
    /// of an older version publishes them, which does no harm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_trial: bool,
}

/// A sector of a reading task. Where its files are follows from its number and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorToRead {
    /// Its number.
    pub number: SectorNumber,
    /// Its CommR on chain.
    pub comm_r: Commitment,
}

/// A SNARK from vanilla proofs that are on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProveTask {
    /// What is proven.
    pub of: PostSubject,
    /// The number of the try within the job, from 0.
    pub attempt: u32,
    /// The workers that have read.
    pub readers: Vec<WorkerName>,
    /// The sectors by rising number, at most [`PROVE_SECTORS_MAX`]; see [`SectorToProve`].
    pub sectors: Vec<SectorToProve>,
    /// For how long after the task was stored its outcome is useful, in milliseconds.
    pub limit_ms: u64,
    /// The workers that have failed at this job. They leave the task to others for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_at: Vec<WorkerName>,
}

/// A sector of a proof: number, CommR on chain, and the index of its reader in [`ProveTask::readers`]. A tuple, because a
/// task has up to 2349 of them and must fit into a message.
pub type SectorToProve = (SectorNumber, Commitment, u16);

/// A vanilla proof on the bus, with what it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanilla {
    /// The kind of proof.
    pub post: PostKind,
    /// The randomness.
    pub randomness: Randomness,
    /// The sector's CommR.
    pub comm_r: Commitment,
    /// The proofs library's bytes: some 24 kB for a 32 GiB sector's window PoSt.
    pub bytes: ProofBytes,
}

/// What a worker says of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PostReport {
    /// A reading task is done.
    Read {
        /// The task's number.
        piece: u32,
        /// What became of each sector. Those that are missing were not tried.
        sectors: Vec<SectorRead>,
    },
    /// A proving task is done.
    Proved {
        /// The task's number.
        attempt: u32,
        /// The proof: 192 bytes.
        proof: ProofBytes,
        /// How long it took to collect the vanilla proofs, in milliseconds.
        collect_ms: u64,
        /// How long the SNARK took, in milliseconds.
        prove_ms: u64,
    },
    /// A proving task failed.
    NotProved {
        /// The task's number.
        attempt: u32,
        /// Why.
        error: ErrorReport,
        /// The sectors whose vanilla proofs are missing or do not fit.
        culprits: Vec<SectorNumber>,
    },
    /// A report of a newer version.
    #[serde(other)]
    Unknown,
}

/// What became of a sector of a reading task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SectorRead {
    /// Its number.
    pub number: SectorNumber,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Why it could not be read. `None`: its vanilla proof is on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

impl PostTask {
    /// What is proven; `None` for a task of a newer version.
    pub const fn of(&self) -> Option<&PostSubject> {
        match self {
            PostTask::Read(task) => Some(&task.of),
            PostTask::Prove(task) => Some(&task.of),
            PostTask::Unknown => None,
        }
    }
}

impl PostReport {
    /// The name of the task in the report's subject; `None` for a report of a newer version.
    pub fn task(&self) -> Option<String> {
        match self {
            PostReport::Read { piece, .. } => Some(format!("read-{piece}")),
            PostReport::Proved { attempt, .. } | PostReport::NotProved { attempt, .. } => {
                Some(format!("prove-{attempt}"))
            }
            PostReport::Unknown => None,
        }
    }
}

impl Vanilla {
    /// Whether it was made for this.
    pub fn is_for(&self, of: &PostSubject, comm_r: Commitment) -> bool {
        self.post == of.post && self.randomness == of.randomness && self.comm_r == comm_r
    }
}

impl PostJob {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PostJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PostJob {
    type Err = BadPostJob;

    fn from_str(text: &str) -> Result<PostJob, BadPostJob> {
        let well_formed = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if well_formed { Ok(PostJob(text.to_owned())) } else { Err(BadPostJob(text.to_owned())) }
    }
}

impl TryFrom<String> for PostJob {
    type Error = BadPostJob;

    fn try_from(text: String) -> Result<PostJob, BadPostJob> {
        text.parse()
    }
}

impl From<PostJob> for String {
    fn from(job: PostJob) -> String {
        job.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn of() -> PostSubject {
        PostSubject {
            miner: MinerId(1000),
            job: "w-2880-7-0".parse().expect("a name"),
            post: PostKind::Window,
            proof: SealProof::StackedDrg32GiBV1_1,
            randomness: Randomness([7; 32]),
        }
    }

    #[test]
    fn the_largest_task_of_each_kind_fits_into_a_message() {
        let number = |n: usize| SectorNumber(u64::MAX - n as u64);
        let prove = ProveTask {
            of: of(),
            attempt: u32::MAX,
            readers: (0..64).map(|n| format!("{}{n:02}", "w".repeat(62)).parse().expect("a name")).collect(),
            sectors: (0..PROVE_SECTORS_MAX).map(|n| (number(n), Commitment([9; 32]), u16::MAX)).collect(),
            limit_ms: u64::MAX,
            failed_at: Vec::new(),
        };
        let bytes = codec::encode(&PostTask::Prove(prove.clone())).expect("fits");
        assert_eq!(codec::decode::<PostTask>(&bytes).expect("reads"), PostTask::Prove(prove));

        let failed = ErrorReport::new(crate::ErrorClass::Temp, crate::ErrorCode::STORE_UNAVAILABLE, "x".repeat(600));
        let read = |n| SectorRead { number: number(n), ms: u64::MAX, error: Some(failed.clone()) };
        let report = PostReport::Read { piece: u32::MAX, sectors: (0..READ_SECTORS_MAX).map(read).collect() };
        let bytes = codec::encode(&report).expect("fits");
        assert_eq!(codec::decode::<PostReport>(&bytes).expect("reads"), report);
    }

    #[test]
    fn a_kind_of_a_newer_version_is_not_an_error() {
        #[derive(Serialize)]
        struct Newer {
            kind: &'static str,
            more: u8,
        }
        let bytes = codec::encode(&Newer { kind: "fold", more: 1 }).expect("packs");
        assert_eq!(codec::decode::<PostTask>(&bytes).expect("reads"), PostTask::Unknown);
        assert_eq!(codec::decode::<PostReport>(&bytes).expect("reads"), PostReport::Unknown);
        assert_eq!(serde_json::from_str::<PostKind>("\"bi_annual\"").expect("reads"), PostKind::Unknown);
    }

    #[test]
    fn a_vanilla_proof_is_for_one_kind_randomness_and_replica() {
        let vanilla = Vanilla {
            post: PostKind::Window,
            randomness: Randomness([7; 32]),
            comm_r: Commitment([9; 32]),
            bytes: ProofBytes(vec![1]),
        };
        assert!(vanilla.is_for(&of(), Commitment([9; 32])));
        assert!(!vanilla.is_for(&of(), Commitment([8; 32])));
        assert!(!vanilla.is_for(&PostSubject { randomness: Randomness([6; 32]), ..of() }, Commitment([9; 32])));
        assert!(!vanilla.is_for(&PostSubject { post: PostKind::Winning, ..of() }, Commitment([9; 32])));
    }

    #[test]
    fn a_jobs_name_is_a_subject_token() {
        for bad in ["", "a.b", "a*", "a>", "A", "a b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<PostJob>().is_err(), "{bad}");
        }
    }
}
