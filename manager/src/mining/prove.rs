//! Makes a winning PoSt: one worker reads the sector, one makes the SNARK, and the manager verifies it.

use std::time::Duration;

use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    Commitment, ErrorClass, ProofBytes, SectorNumber, WorkerName, identity,
    post::{PostReport, PostSubject, PostTask, ProveTask, ReadTask, SectorToRead},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Mining, block::Steps};
use crate::{
    chain::Transport,
    proofs,
    proving::{Error, tasks::Tasks},
};

/// How often each kind of task is offered.
const TRIES: u32 = 3;
/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a winning PoSt proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Miner, job, kind, randomness.
    pub of: PostSubject,
    /// The sector.
    pub sector: SectorNumber,
    /// Its CommR on chain.
    pub comm_r: Commitment,
}

/// What was heard of a try.
enum Answer {
    /// The sector was read.
    Read { by: WorkerName },
    /// There is a proof, which is not verified yet.
    Proved { attempt: u32, by: WorkerName, proof: ProofBytes },
    /// The try failed.
    Failed { by: WorkerName, text: String },
}

impl<T: Transport, B: Tasks> Mining<'_, T, B> {
    /// Makes and verifies the proof. The inner error says why there is none in time.
    pub(super) async fn prove(
        &self,
        challenge: &Challenge,
        until: Instant,
        steps: &mut Steps,
    ) -> Result<Result<ProofBytes, String>, Error> {
        self.heard.keep_only(&challenge.of);
        let made = self.read_and_prove(challenge, until, steps).await;
        if let Err(error) = self.tasks.withdraw(challenge.of.miner, &challenge.of.job).await {
            tracing::debug!(%error, "tasks of no use stay in the queue until they are too old");
        }
        made
    }

    async fn read_and_prove(
        &self,
        challenge: &Challenge,
        until: Instant,
        steps: &mut Steps,
    ) -> Result<Result<ProofBytes, String>, Error> {
        let began = Instant::now();
        let reader = match self.read(challenge, until).await? {
            Ok(reader) => reader,
            Err(cause) => return Ok(Err(cause)),
        };
        steps.read_ms = Some(millis(began));
        steps.reader = Some(reader.clone());
        self.ensure(PostQueue::WinningProves { miner: challenge.of.miner }).await?;
        let began = Instant::now();
        let mut cause = "no worker has made the winning PoSt in time".to_owned();
        let mut rejected: Vec<(u32, WorkerName)> = Vec::new();
        let mut failed_at: Vec<WorkerName> = Vec::new();
        for attempt in 0..TRIES {
            let find = |said: &[PostSaid]| {
                let is_new = |answer: &Answer| match answer {
                    Answer::Proved { attempt, by, .. } => !rejected.iter().any(|(a, w)| a == attempt && w == by),
                    _ => false,
                };
                let proof = said.iter().filter_map(proof_in).find(is_new);
                proof.or_else(|| said.iter().find_map(|said| no_proof_in(said, attempt)))
            };
            if self.heard.now(&challenge.of, find).is_none() {
                let task = ProveTask {
                    of: challenge.of.clone(),
                    attempt,
                    readers: vec![reader.clone()],
                    sectors: vec![(challenge.sector, challenge.comm_r, 0)],
                    limit_ms: millis_until(until),
                    failed_at: failed_at.clone(),
                };
                self.tasks.offer(&PostTask::Prove(task)).await?;
            }
            let answer = timeout(patience(attempt, until), self.heard.first(&challenge.of, find)).await;
            match answer {
                Ok(Answer::Proved { attempt, by, proof }) => {
                    steps.prove_ms = Some(millis(began));
                    steps.prover = Some(by.clone());
                    let began = Instant::now();
                    let verified = self.verify(challenge, &proof).await;
                    steps.verify_ms = Some(millis(began));
                    match verified {
                        Ok(()) => return Ok(Ok(proof)),
                        // Not the prover's fault, such as a verifying key that is missing here.
                        Err((class, text)) if class != ErrorClass::Perm => return Ok(Err(text)),
                        Err((_, text)) => {
                            tracing::error!(miner = %challenge.of.miner, worker = %by, error = %text, "a winning PoSt is wrong");
                            cause = format!("{text} (worker {by})");
                            rejected.push((attempt, by.clone()));
                            failed_at.push(by);
                        }
                    }
                }
                Ok(Answer::Failed { by, text }) => {
                    cause = format!("{text} (worker {by})");
                    failed_at.push(by);
                    pause(until).await;
                }
                Ok(Answer::Read { .. }) | Err(_) => {}
            }
        }
        Ok(Err(cause))
    }

    /// Has the sector read. Returns the worker that has its vanilla proof.
    async fn read(&self, challenge: &Challenge, until: Instant) -> Result<Result<WorkerName, String>, Error> {
        let Challenge { of, sector, comm_r } = challenge;
        let stores = self.store.stores_of(of.miner, &[sector.0]).await?;
        let Some(store) = stores.get(&sector.0) else {
            return Ok(Err(format!("the manager does not know where the files of sector {sector} are")));
        };
        self.ensure(PostQueue::WinningReads { miner: of.miner, store: store.clone() }).await?;
        let known = self.store.known_stores().await?;
        let mut cause = format!("no worker with the store `{store}` has read sector {sector} in time");
        for piece in 0..TRIES {
            let find = |said: &[PostSaid]| {
                let read = said.iter().find_map(|said| reader_in(said, *sector));
                read.or_else(|| said.iter().find_map(|said| unread_in(said, *sector, piece)))
            };
            if self.heard.now(of, find).is_none() {
                let limit_ms = millis_until(until);
                let task = ReadTask {
                    of: of.clone(),
                    piece,
                    store: store.clone(),
                    store_id: identity::known_id(&known, store).map(str::to_owned),
                    sectors: vec![SectorToRead { number: *sector, comm_r: *comm_r }],
                    sector_limit_ms: limit_ms,
                    limit_ms,
                    is_trial: false,
                };
                self.tasks.offer(&PostTask::Read(task)).await?;
            }
            match timeout(patience(piece, until), self.heard.first(of, find)).await {
                Ok(Answer::Read { by }) => return Ok(Ok(by)),
                Ok(Answer::Failed { by, text }) => {
                    cause = format!("sector {sector} cannot be read: {text} (worker {by})");
                    pause(until).await;
                }
                Ok(Answer::Proved { .. }) | Err(_) => {}
            }
        }
        Ok(Err(cause))
    }

    async fn verify(&self, challenge: &Challenge, proof: &ProofBytes) -> Result<(), (ErrorClass, String)> {
        let (verifier, of, bytes) = (self.verifier.clone(), challenge.of.clone(), proof.clone());
        let sectors = [(challenge.sector, challenge.comm_r)];
        let verified =
            proofs::blocking(move || verifier.verify_winning_post(of.miner, of.proof, of.randomness, &sectors, &bytes));
        let verified = verified.await.and_then(|verified| verified);
        verified.map_err(|error| (error.class, format!("the winning PoSt is not accepted: {}", error.message())))
    }

    /// Makes a queue, unless this manager has made it.
    pub(super) async fn ensure(&self, queue: PostQueue) -> Result<(), Error> {
        let mut queues = self.queues.lock().await;
        if !queues.contains(&queue) {
            self.tasks.ensure(&queue).await?;
            queues.insert(queue);
        }
        Ok(())
    }
}

/// How long to wait for an answer to a try before another one is made beside it. The last one has all the time that is
/// left.
fn patience(attempt: u32, until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    if attempt + 1 == TRIES { left } else { left / 3 }
}

async fn pause(until: Instant) {
    sleep((until.saturating_duration_since(Instant::now()) / 10).min(PAUSE_MAX)).await;
}

/// The milliseconds since a moment.
pub(super) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn millis_until(until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
}

fn reader_in(said: &PostSaid, sector: SectorNumber) -> Option<Answer> {
    let PostReport::Read { sectors, .. } = &said.report else { return None };
    let is_read = sectors.iter().any(|read| read.number == sector && read.error.is_none());
    is_read.then(|| Answer::Read { by: said.worker.clone() })
}

fn unread_in(said: &PostSaid, sector: SectorNumber, piece: u32) -> Option<Answer> {
    let PostReport::Read { piece: of, sectors } = &said.report else { return None };
    let error = sectors.iter().find(|read| read.number == sector)?.error.as_ref()?;
    (*of == piece).then(|| Answer::Failed { by: said.worker.clone(), text: error.message() })
}

fn proof_in(said: &PostSaid) -> Option<Answer> {
    let PostReport::Proved { attempt, proof, .. } = &said.report else { return None };
    Some(Answer::Proved { attempt: *attempt, by: said.worker.clone(), proof: proof.clone() })
}

fn no_proof_in(said: &PostSaid, attempt: u32) -> Option<Answer> {
    let PostReport::NotProved { attempt: of, error, .. } = &said.report else { return None };
    (*of == attempt).then(|| Answer::Failed { by: said.worker.clone(), text: error.message() })
}
