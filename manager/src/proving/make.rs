//! Makes one proof: reading tasks, proving tasks, and the check of what comes of them.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    ErrorClass, MinerId, ProofBytes, SealProof, SectorNumber, WorkerName, identity,
    post::{
        PROVE_SECTORS_MAX, PostJob, PostKind, PostReport, PostSubject, PostTask, ProveTask, ReadTask, SectorToProve,
        SectorToRead,
    },
};

use super::{
    Error, Proving,
    decide::{self, Outcome},
    proof::{Attempt, PartitionProof, ProofId, ProofState, Skipped, Told},
    reads::{Piece, Provable, Reads},
    tasks::Tasks,
    turn::Turn,
};
use crate::{
    chain::{
        Transport,
        types::{Epoch, TipSet},
    },
    proofs,
};

/// A task of which nothing was heard is offered again after this many epochs. As long as it is in the queue, that changes
/// nothing.
pub(super) const OFFER_AGAIN: Epoch = 4;
/// The shortest time that a task is given, in milliseconds: also on test networks, whose epochs take moments.
const LIMIT_MIN_MS: u64 = 10_000;
/// How many sectors are named in the text about a proof that is late.
const NAMED: usize = 3;

/// What is needed to make a proof, and what is known of it. In memory only.
pub struct Making {
    id: ProofId,
    /// The deadline's turn.
    pub turn: Turn,
    /// The sectors.
    pub reads: Reads,
    /// What became of each attempt, and how long its SNARK took.
    attempts: Vec<(Outcome, u64)>,
    /// When each task was offered last, by its name.
    offered: BTreeMap<String, Epoch>,
    /// What was heard since the last look.
    heard: Vec<PostSaid>,
    /// Whether its tasks were taken out of the queues.
    pub withdrawn: bool,
    /// The head at which nothing was left to do but to wait.
    pub waits_at: Option<Epoch>,
}

impl Making {
    /// Of a proof with these sectors that was begun so many times.
    pub fn new(id: ProofId, turn: Turn, reads: Reads, begun: usize) -> Making {
        let attempts = vec![(Outcome::Open, 0); begun];
        let (offered, heard) = (BTreeMap::new(), Vec::new());
        Making { id, turn, reads, attempts, offered, heard, withdrawn: false, waits_at: None }
    }

    /// Whether a job is this proof's.
    pub fn is_of(&self, miner: MinerId, job: &PostJob) -> bool {
        self.id.miner == miner && self.id.job().as_ref() == Some(job)
    }

    /// Remembers what a worker says until the next look.
    pub fn hear(&mut self, said: &PostSaid) {
        self.heard.push(said.clone());
    }

    /// Whether nothing has changed since a look at this head found nothing to do.
    pub fn is_quiet(&self, head: Epoch) -> bool {
        self.waits_at == Some(head) && self.heard.is_empty()
    }

    /// What became of the attempts.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.attempts.iter().map(|(outcome, _)| outcome.clone()).collect()
    }

    /// Takes what was heard since the last look.
    pub fn take_heard(&mut self, head: Epoch) {
        for PostSaid { worker, report, .. } in std::mem::take(&mut self.heard) {
            match report {
                PostReport::Read { .. } => self.reads.hear(&worker, &report, head),
                PostReport::Proved { attempt, proof, prove_ms, .. } => {
                    self.ended(attempt, Outcome::Claimed { worker, proof }, prove_ms);
                }
                PostReport::NotProved { attempt, error, culprits } => {
                    let was_open = self.ended(attempt, Outcome::Failed { worker, error: error.clone() }, 0);
                    if was_open {
                        self.reads.refuse(&culprits, &error, head);
                    }
                }
                PostReport::Unknown => {}
            }
        }
    }

    /// Notes the end of an attempt that has none yet. Returns whether that is so.
    fn ended(&mut self, attempt: u32, outcome: Outcome, ms: u64) -> bool {
        match self.attempts.get_mut(attempt as usize) {
            Some((open @ Outcome::Open, took)) => {
                (*open, *took) = (outcome, ms);
                true
            }
            _ => false,
        }
    }

    /// Whether a task is to be offered now. It counts as offered then.
    fn is_due(&mut self, task: String, head: Epoch) -> bool {
        let is_due = self.offered.get(&task).is_none_or(|last| head >= last + OFFER_AGAIN);
        if is_due {
            self.offered.insert(task, head);
        }
        is_due
    }

    /// What a person should know of a proof that is late.
    pub fn late(&self, proof: &PartitionProof, head: Epoch) -> Option<String> {
        let failed: Vec<String> = self
            .attempts
            .iter()
            .filter_map(|(outcome, _)| match outcome {
                Outcome::Failed { worker, error } => Some(format!("worker {worker}: {}", error.message())),
                _ => None,
            })
            .collect();
        if let Some(last) = failed.last() {
            return Some(format!("the proof failed {} time(s); {last}", failed.len()));
        }
        match proof.state {
            ProofState::Making if head < self.turn.cut() => None,
            ProofState::Making if self.attempts.is_empty() => {
                let unread = self.reads.unread();
                let named: Vec<String> =
                    unread.iter().take(NAMED).map(|(number, why)| format!("{number}: {why}")).collect();
                let count = (unread.len(), self.reads.sectors().len());
                Some(format!("{} of {} sectors are not read; {}", count.0, count.1, named.join("; ")))
            }
            ProofState::Making => Some("no worker has made the SNARK yet; is there one that proves?".to_owned()),
            _ => proof.problem.clone(),
        }
    }
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Offers reading tasks.
    pub(super) async fn offer_reads(
        &self,
        making: &mut Making,
        queues: &mut BTreeSet<PostQueue>,
        proof: &PartitionProof,
        pieces: Vec<Piece>,
        head: &TipSet,
    ) -> Result<(), Error> {
        let due: Vec<Piece> =
            pieces.into_iter().filter(|piece| making.is_due(format!("read-{}", piece.number), head.height)).collect();
        if due.is_empty() {
            return Ok(());
        }
        // What is read after the cut may serve another attempt.
        let until = if head.height < making.turn.cut() { making.turn.cut() } else { making.turn.close };
        let limit_ms = self.millis_to(until, head);
        self.offer_pieces(queues, &self.subject(proof)?, making.reads.sectors(), due, (limit_ms, false)).await
    }

    /// Offers reading tasks about some of these sectors. What is read later than `limit_ms` from now is of no use. On trial
    /// the vanilla proofs are thrown away.
    pub(super) async fn offer_pieces(
        &self,
        queues: &mut BTreeSet<PostQueue>,
        of: &PostSubject,
        sectors: &[Provable],
        pieces: Vec<Piece>,
        (limit_ms, is_trial): (u64, bool),
    ) -> Result<(), Error> {
        if pieces.is_empty() {
            return Ok(());
        }
        let known = self.store.known_stores().await?;
        for piece in pieces {
            self.ensure(queues, PostQueue::Reads { miner: of.miner, store: piece.store.clone() }).await?;
            let to_read = piece
                .sectors
                .iter()
                .map(|place| SectorToRead { number: sectors[*place].number, comm_r: sectors[*place].comm_r });
            let task = ReadTask {
                of: of.clone(),
                piece: piece.number,
                store_id: identity::known_id(&known, &piece.store).map(str::to_owned),
                store: piece.store,
                sectors: to_read.collect(),
                sector_limit_ms: limit_ms.min(self.config.proving.sector_limit_secs * 1000),
                limit_ms,
                is_trial,
            };
            self.tasks.offer(&PostTask::Read(task)).await?;
        }
        Ok(())
    }

    /// Stores a new attempt, and offers it.
    pub(super) async fn begin_attempt(
        &self,
        making: &mut Making,
        queues: &mut BTreeSet<PostQueue>,
        proof: &mut PartitionProof,
        attempt: Attempt,
        head: &TipSet,
    ) -> Result<(), Error> {
        // Stored first: what a worker reports on it must be understood after a restart.
        proof.attempts.push(attempt);
        if proof.read_epoch.is_none() {
            proof.read_epoch = Some(head.height);
        }
        proof.told.slowest = making.reads.slowest();
        self.save(proof).await?;
        making.attempts.push((Outcome::Open, 0));
        self.offer_attempt(making, queues, proof, proof.attempts.len() - 1, head).await
    }

    /// Offers an attempt.
    pub(super) async fn offer_attempt(
        &self,
        making: &mut Making,
        queues: &mut BTreeSet<PostQueue>,
        proof: &PartitionProof,
        attempt: usize,
        head: &TipSet,
    ) -> Result<(), Error> {
        let Some(stored) = proof.attempts.get(attempt) else { return Ok(()) };
        if !making.is_due(format!("prove-{attempt}"), head.height) {
            return Ok(());
        }
        let limit_ms = self.millis_to(making.turn.close, head);
        let task = prove_task(self.subject(proof)?, attempt as u32, stored, &making.reads, limit_ms);
        if task.sectors.len() > PROVE_SECTORS_MAX {
            return Err(Error::Odd(format!("{} has {} sectors, more than a proof", proof.id, task.sectors.len())));
        }
        self.ensure(queues, PostQueue::Proves { miner: proof.id.miner }).await?;
        self.tasks.offer(&PostTask::Prove(task)).await
    }

    /// Verifies what a worker has made, and stores it if it is right.
    pub(super) async fn verify(
        &self,
        making: &mut Making,
        proof: &mut PartitionProof,
        (attempt, worker, claimed): (usize, &WorkerName, ProofBytes),
        head: &TipSet,
    ) -> Result<(), Error> {
        let Some(stored) = proof.attempts.get(attempt).cloned() else { return Ok(()) };
        let proven: BTreeSet<SectorNumber> = stored.sectors.iter().map(|(number, _)| *number).collect();
        let sectors = making.reads.sectors().iter().filter(|sector| proven.contains(&sector.number));
        let sectors: Vec<_> = sectors.map(|sector| (sector.number, sector.comm_r)).collect();
        let (verifier, miner, seal_proof) = (self.verifier.clone(), proof.id.miner, self.seal_proof(proof.id.miner)?);
        let (randomness, bytes) = (proof.randomness, claimed.clone());
        let verified =
            proofs::blocking(move || verifier.verify_window_post(miner, seal_proof, randomness, &sectors, &bytes));
        if let Err(error) = verified.await.and_then(|verified| verified) {
            tracing::error!(proof = %proof.id, %worker, error = %error.message(), "a window PoSt is wrong");
            if error.class != ErrorClass::Perm {
                // Not the prover's fault, such as a verifying key that is missing here. It is verified again.
                return Err(Error::Odd(format!(
                    "the proof of worker {worker} cannot be verified: {}",
                    error.message()
                )));
            }
            if let Some((outcome, _)) = making.attempts.get_mut(attempt) {
                *outcome = Outcome::Failed { worker: worker.clone(), error };
            }
            return Ok(());
        }
        let unread: BTreeMap<SectorNumber, String> = making.reads.unread().into_iter().collect();
        let cause = |number: &SectorNumber| {
            let late = || "it was read after the proof had begun".to_owned();
            unread.get(number).cloned().unwrap_or_else(late)
        };
        let skipped = decide::skipped(&making.reads, &stored);
        proof.skipped = skipped.into_iter().map(|number| Skipped { cause: cause(&number), number }).collect();
        proof.state = ProofState::Proved;
        proof.proof = Some(claimed);
        proof.proved_epoch = Some(head.height);
        proof.problem = None;
        let prove_ms = making.attempts.get(attempt).map(|(_, ms)| *ms);
        proof.told = Told { slowest: making.reads.slowest(), prover: Some(worker.clone()), prove_ms };
        self.save(proof).await?;
        for Skipped { number, cause } in &proof.skipped {
            tracing::error!(
                sector = format!("{miner}/{number}"),
                cause,
                "left out of its window PoSt; it becomes faulty"
            );
        }
        tracing::info!(proof = %proof.id, %worker, sectors = proven.len(), skipped = proof.skipped.len(), "a window PoSt is made");
        Ok(())
    }

    pub(super) async fn ensure(&self, queues: &mut BTreeSet<PostQueue>, queue: PostQueue) -> Result<(), Error> {
        if !queues.contains(&queue) {
            self.tasks.ensure(&queue).await?;
            queues.insert(queue);
        }
        Ok(())
    }

    fn subject(&self, proof: &PartitionProof) -> Result<PostSubject, Error> {
        let job = proof.id.job().ok_or_else(|| Error::Odd(format!("{} has no name for tasks", proof.id)))?;
        let (miner, post) = (proof.id.miner, PostKind::Window);
        Ok(PostSubject { miner, job, post, proof: self.seal_proof(miner)?, randomness: proof.randomness })
    }

    pub(super) fn seal_proof(&self, miner: MinerId) -> Result<SealProof, Error> {
        let configured = self.config.miner(miner).map(|miner| miner.sector_size.seal_proof());
        configured.ok_or_else(|| Error::Odd(format!("{miner} is not configured any more")))
    }

    /// The time until an epoch, in milliseconds.
    pub(super) fn millis_to(&self, epoch: Epoch, head: &TipSet) -> u64 {
        let epochs = u64::try_from(epoch - head.height).unwrap_or_default();
        epochs.saturating_mul(self.epoch_millis).max(LIMIT_MIN_MS)
    }

    pub(super) async fn save(&self, proof: &PartitionProof) -> Result<(), Error> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.save_proof(proof).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The task of an attempt.
pub(super) fn prove_task(of: PostSubject, number: u32, attempt: &Attempt, reads: &Reads, limit_ms: u64) -> ProveTask {
    let readers: BTreeSet<&WorkerName> = attempt.sectors.iter().map(|(_, by)| by).collect();
    let readers: Vec<WorkerName> = readers.into_iter().cloned().collect();
    let comm_rs: BTreeMap<SectorNumber, _> =
        reads.sectors().iter().map(|sector| (sector.number, sector.comm_r)).collect();
    let place = |by: &WorkerName| readers.iter().position(|reader| reader == by).unwrap_or_default() as u16;
    let with_comm_r = |(number, by): &(SectorNumber, WorkerName)| Some((*number, *comm_rs.get(number)?, place(by)));
    let sectors: Vec<SectorToProve> = attempt.sectors.iter().filter_map(with_comm_r).collect();
    ProveTask { of, attempt: number, readers, sectors, limit_ms, failed_at: attempt.failed_at.clone() }
}
