//! Subjects: how they are built and parsed.
//!
//! The sector comes before the worker, so that finding the last record of `seal.sector.<m>.<n>.lease.*` takes one
//! lookup, whatever the number of workers.

use std::fmt;

use sealbus_schema::{
    IntentKind, MinerId, SealProof, SectorId, SectorNumber, WorkerName,
    message::FactKind,
    post::{PostJob, PostKind, PostTask, ProveTask, ReadTask},
};

/// A parsed subject of Sealbus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `seal.intent.<miner>.<proof>.<kind>.<number>.<lease sequence>`
    Intent {
        /// The sector.
        sector: SectorId,
        /// Its proof type.
        proof: SealProof,
        /// The kind of work.
        kind: IntentKind,
        /// The sequence that a claim must expect as the last lease record's.
        lease_sequence: u64,
    },
    /// `seal.sector.<miner>.<number>.lease.<worker|->`
    Lease {
        /// The sector.
        sector: SectorId,
        /// The new owner; `None` for `-`.
        owner: Option<WorkerName>,
    },
    /// `seal.sector.<miner>.<number>.ev.<worker>`
    Event {
        /// The sector.
        sector: SectorId,
        /// The reporting worker.
        worker: WorkerName,
    },
    /// `seal.sector.<miner>.<number>.fact.<worker>.<kind>`
    Fact {
        /// The sector.
        sector: SectorId,
        /// The worker that the fact is for.
        worker: WorkerName,
        /// The fact's kind.
        kind: String,
    },
    /// `seal.hb.<worker>`
    Heartbeat {
        /// The worker.
        worker: WorkerName,
    },
    /// `seal.cmd.<worker>`
    Orders {
        /// The worker.
        worker: WorkerName,
    },
    /// `seal.post.read.<miner>.<store>.<job>.<piece>`; of winning PoSts `winread`
    PostRead {
        /// The kind of proof.
        post: PostKind,
        /// The miner.
        miner: MinerId,
        /// The store's [`token`].
        store: String,
        /// The job.
        job: PostJob,
        /// The task's number.
        piece: u32,
    },
    /// `seal.post.prove.<miner>.<job>.<attempt>`; of winning PoSts `winprove`
    PostProve {
        /// The kind of proof.
        post: PostKind,
        /// The miner.
        miner: MinerId,
        /// The job.
        job: PostJob,
        /// The task's number.
        attempt: u32,
    },
    /// `seal.post.vanilla.<miner>.<job>.<number>.<worker>`
    Vanilla {
        /// The sector.
        sector: SectorId,
        /// The job.
        job: PostJob,
        /// The worker that has read the sector.
        worker: WorkerName,
    },
    /// `seal.post.report.<miner>.<job>.<task>.<worker>`
    PostReport {
        /// The miner.
        miner: MinerId,
        /// The job.
        job: PostJob,
        /// The task, `read-7` or `prove-0`.
        task: String,
        /// The reporting worker.
        worker: WorkerName,
    },
    /// `seal.post.due.<miner>`
    PostDue {
        /// The miner.
        miner: MinerId,
    },
}

/// A name as a subject token: every byte except letters, digits, `-` and `_` is written as `%` and two hexadecimal
/// digits.
pub fn token(name: &str) -> String {
    let written = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(written).collect()
}

/// The subject of a task on proofs. Reading is asked of the machines that have the store. Tasks of winning PoSts stand
/// apart, so that they wait for no others.
pub fn post_task(task: &PostTask) -> Option<String> {
    match task {
        PostTask::Read(ReadTask { of, store, piece, .. }) => {
            let [read, _] = post_kinds(of.post);
            Some(format!("seal.post.{read}.{}.{}.{}.{piece}", of.miner, token(store), of.job))
        }
        PostTask::Prove(ProveTask { of, attempt, .. }) => {
            let [_, prove] = post_kinds(of.post);
            Some(format!("seal.post.{prove}.{}.{}.{attempt}", of.miner, of.job))
        }
        PostTask::Unknown => None,
    }
}

/// The third part of the subjects of reading and of proving tasks.
pub const fn post_kinds(post: PostKind) -> [&'static str; 2] {
    match post {
        PostKind::Winning => ["winread", "winprove"],
        PostKind::Window | PostKind::Unknown => ["read", "prove"],
    }
}

/// All reading tasks of a miner and a store.
pub fn post_reads_of(post: PostKind, miner: MinerId, store: &str) -> String {
    let [read, _] = post_kinds(post);
    format!("seal.post.{read}.{miner}.{}.*.*", token(store))
}

/// All proving tasks of a miner.
pub fn post_proves_of(post: PostKind, miner: MinerId) -> String {
    let [_, prove] = post_kinds(post);
    format!("seal.post.{prove}.{miner}.*.*")
}

/// The subject of a vanilla proof that a worker made.
pub fn vanilla(miner: MinerId, job: &PostJob, sector: SectorNumber, worker: &WorkerName) -> String {
    format!("seal.post.vanilla.{miner}.{job}.{sector}.{worker}")
}

/// The subject of a worker's report on a task, which [`PostReport::task`](sealbus_schema::post::PostReport::task) names.
pub fn post_report(miner: MinerId, job: &PostJob, task: &str, worker: &WorkerName) -> String {
    format!("seal.post.report.{miner}.{job}.{task}.{worker}")
}

/// The subject under which the manager says that window PoSts of a miner are due.
pub fn post_due(miner: MinerId) -> String {
    format!("seal.post.due.{miner}")
}

/// Every report on proofs.
pub const POST_REPORTS: &str = "seal.post.report.>";

/// The text is not a subject of Sealbus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a subject of Sealbus")]
pub struct UnknownSubject(pub String);

/// The subject of an intent.
pub fn intent(sector: SectorId, proof: SealProof, kind: IntentKind, lease_sequence: u64) -> String {
    format!("seal.intent.{}.{proof}.{kind}.{}.{lease_sequence}", sector.miner, sector.number)
}

/// All intents of one queue.
pub fn intents_of(miner: MinerId, proof: SealProof, kind: IntentKind) -> String {
    format!("seal.intent.{miner}.{proof}.{kind}.*.*")
}

/// The subject of a lease record that gives a sector to a worker.
pub fn lease(sector: SectorId, worker: &WorkerName) -> String {
    format!("seal.sector.{}.{}.lease.{worker}", sector.miner, sector.number)
}

/// The subject of the manager's lease records: releases, and reinstatements of an owner.
pub fn release(sector: SectorId) -> String {
    format!("seal.sector.{}.{}.lease.-", sector.miner, sector.number)
}

/// Every lease record of a sector. All fences must use exactly this subject.
pub fn leases_of(sector: SectorId) -> String {
    format!("seal.sector.{}.{}.lease.*", sector.miner, sector.number)
}

/// The subject of a worker's events about a sector.
pub fn event(sector: SectorId, worker: &WorkerName) -> String {
    format!("seal.sector.{}.{}.ev.{worker}", sector.miner, sector.number)
}

/// Every event of a sector.
pub fn all_events_of(sector: SectorId) -> String {
    format!("seal.sector.{}.{}.ev.*", sector.miner, sector.number)
}

/// Every fact about a sector.
pub fn all_facts_of(sector: SectorId) -> String {
    format!("seal.sector.{}.{}.fact.*.*", sector.miner, sector.number)
}

/// The subject of a fact for a worker about a sector.
pub fn fact(sector: SectorId, worker: &WorkerName, kind: FactKind) -> String {
    format!("seal.sector.{}.{}.fact.{worker}.{}", sector.miner, sector.number, kind.name())
}

/// Every fact for a worker about a sector.
pub fn facts_about(sector: SectorId, worker: &WorkerName) -> String {
    format!("seal.sector.{}.{}.fact.{worker}.*", sector.miner, sector.number)
}

/// Every fact for a worker.
pub fn facts_for(worker: &WorkerName) -> String {
    format!("seal.sector.*.*.fact.{worker}.*")
}

/// The subject of a worker's heartbeats.
pub fn heartbeat(worker: &WorkerName) -> String {
    format!("seal.hb.{worker}")
}

/// The subject of a worker's standing orders.
pub fn orders(worker: &WorkerName) -> String {
    format!("seal.cmd.{worker}")
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Subject::Intent { sector, proof, kind, lease_sequence } => intent(*sector, *proof, *kind, *lease_sequence),
            Subject::Lease { sector, owner: Some(worker) } => lease(*sector, worker),
            Subject::Lease { sector, owner: None } => release(*sector),
            Subject::Event { sector, worker } => event(*sector, worker),
            Subject::Fact { sector, worker, kind } => {
                format!("seal.sector.{}.{}.fact.{worker}.{kind}", sector.miner, sector.number)
            }
            Subject::Heartbeat { worker } => heartbeat(worker),
            Subject::Orders { worker } => orders(worker),
            Subject::PostRead { post, miner, store, job, piece } => {
                format!("seal.post.{}.{miner}.{store}.{job}.{piece}", post_kinds(*post)[0])
            }
            Subject::PostProve { post, miner, job, attempt } => {
                format!("seal.post.{}.{miner}.{job}.{attempt}", post_kinds(*post)[1])
            }
            Subject::Vanilla { sector, job, worker } => vanilla(sector.miner, job, sector.number, worker),
            Subject::PostDue { miner } => post_due(*miner),
            Subject::PostReport { miner, job, task, worker } => post_report(*miner, job, task, worker),
        };
        f.write_str(&text)
    }
}

impl std::str::FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        parse(text).filter(|subject| is_written_so(subject, text)).ok_or_else(|| UnknownSubject(text.to_owned()))
    }
}

/// Whether a subject is in canonical form. For the server, `…f01000.042.lease.w1` is not the same subject as
/// `…f01000.42.lease.w1` and does not move its fence, so we must not take it for one about sector 42.
fn is_written_so(subject: &Subject, text: &str) -> bool {
    // An unknown kind's name is not kept, so this subject cannot be rebuilt for the comparison.
    matches!(subject, Subject::Intent { kind: IntentKind::Unknown, .. }) || subject.to_string() == text
}

fn parse(text: &str) -> Option<Subject> {
    let tokens: Vec<&str> = text.split('.').collect();
    let sector = |miner: &str, number: &str| {
        Some(SectorId { miner: miner.parse().ok()?, number: SectorNumber(number.parse().ok()?) })
    };
    Some(match tokens[..] {
        ["seal", "intent", miner, proof, kind, number, lease_sequence] => Subject::Intent {
            sector: sector(miner, number)?,
            proof: proof.parse().ok()?,
            kind: IntentKind::ALL.iter().copied().find(|known| known.name() == kind).unwrap_or(IntentKind::Unknown),
            lease_sequence: lease_sequence.parse().ok()?,
        },
        ["seal", "sector", miner, number, "lease", "-"] => {
            Subject::Lease { sector: sector(miner, number)?, owner: None }
        }
        ["seal", "sector", miner, number, "lease", worker] => {
            Subject::Lease { sector: sector(miner, number)?, owner: Some(worker.parse().ok()?) }
        }
        ["seal", "sector", miner, number, "ev", worker] => {
            Subject::Event { sector: sector(miner, number)?, worker: worker.parse().ok()? }
        }
        ["seal", "sector", miner, number, "fact", worker, kind] => {
            Subject::Fact { sector: sector(miner, number)?, worker: worker.parse().ok()?, kind: kind.to_owned() }
        }
        ["seal", "cmd", worker] => Subject::Orders { worker: worker.parse().ok()? },
        ["seal", "post", kind @ ("read" | "winread"), miner, store, job, piece] => Subject::PostRead {
            post: if kind == "read" { PostKind::Window } else { PostKind::Winning },
            miner: miner.parse().ok()?,
            store: store.to_owned(),
            job: job.parse().ok()?,
            piece: piece.parse().ok()?,
        },
        ["seal", "post", kind @ ("prove" | "winprove"), miner, job, attempt] => Subject::PostProve {
            post: if kind == "prove" { PostKind::Window } else { PostKind::Winning },
            miner: miner.parse().ok()?,
            job: job.parse().ok()?,
            attempt: attempt.parse().ok()?,
        },
        ["seal", "post", "vanilla", miner, job, number, worker] => {
            Subject::Vanilla { sector: sector(miner, number)?, job: job.parse().ok()?, worker: worker.parse().ok()? }
        }
        ["seal", "post", "report", miner, job, task, worker] => Subject::PostReport {
            miner: miner.parse().ok()?,
            job: job.parse().ok()?,
            task: task.to_owned(),
            worker: worker.parse().ok()?,
        },
        ["seal", "post", "due", miner] => Subject::PostDue { miner: miner.parse().ok()? },
        ["seal", "hb", worker] => Subject::Heartbeat { worker: worker.parse().ok()? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_reads_back_as_what_it_was_written_from() {
        let sector: SectorId = "f01000/42".parse().expect("sector");
        let worker: WorkerName = "host-1".parse().expect("worker");
        let job: PostJob = "w-2880-7-0".parse().expect("a name");
        for (text, expected) in [
            (
                intent(sector, SealProof::StackedDrg2KiBV1_1, IntentKind::Seal, 7),
                "seal.intent.f01000.StackedDrg2KiBV1_1.seal.42.7",
            ),
            (lease(sector, &worker), "seal.sector.f01000.42.lease.host-1"),
            (release(sector), "seal.sector.f01000.42.lease.-"),
            (event(sector, &worker), "seal.sector.f01000.42.ev.host-1"),
            (fact(sector, &worker, FactKind("seed")), "seal.sector.f01000.42.fact.host-1.seed"),
            (heartbeat(&worker), "seal.hb.host-1"),
            (vanilla(sector.miner, &job, sector.number, &worker), "seal.post.vanilla.f01000.w-2880-7-0.42.host-1"),
            (post_report(sector.miner, &job, "read-3", &worker), "seal.post.report.f01000.w-2880-7-0.read-3.host-1"),
            (orders(&worker), "seal.cmd.host-1"),
            (post_due(sector.miner), "seal.post.due.f01000"),
            (
                intent(sector, SealProof::StackedDrg2KiBV1_1, IntentKind::Rebuild, 7),
                "seal.intent.f01000.StackedDrg2KiBV1_1.rebuild.42.7",
            ),
        ] {
            assert_eq!(text, expected);
            assert_eq!(text.parse::<Subject>().expect("ours").to_string(), text);
        }
    }

    #[test]
    fn no_name_of_a_store_leaves_its_token() {
        assert_eq!(token("main-1_A"), "main-1_A");
        assert_eq!(token("nfs.a/b>*%ä"), "nfs%2Ea%2Fb%3E%2A%25%C3%A4");
    }

    #[test]
    fn a_sector_is_named_in_one_way_only() {
        for bad in [
            "seal.sector.f01000.042.lease.w1",
            "seal.sector.f01000.+42.lease.w1",
            "seal.sector.t01000.42.lease.w1",
            "seal.sector.f0001000.42.lease.-",
            "seal.sector.f01000.042.ev.w1",
            "seal.intent.f01000.StackedDrg2KiBV1_1.seal.42.07",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for bad in
            ["", "seal", "seal.hb.", "seal.sector.f01.x.lease.-", "seal.sector.f01.1.lease.*", "seal.sector.1.1.ev.w"]
        {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }
}
