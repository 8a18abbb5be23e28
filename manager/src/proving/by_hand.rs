//! Reads and proves now, for a person's command. Nothing of it is stored, and nothing is sent to the chain. A running manager
//! takes no notice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    MinerId, ProofBytes, WorkerName,
    post::{PostKind, PostReport, PostSubject, PostTask},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Error, Proving,
    ahead::made_up,
    make::{OFFER_AGAIN, prove_task},
    proof::Attempt,
    reads::{Provable, Reads},
    tasks::Tasks,
};
use crate::chain::{Transport, types::Epoch};

/// A proof that was made by hand.
#[derive(Clone, Debug)]
pub struct Made {
    /// The worker that made it.
    pub worker: WorkerName,
    /// The proof.
    pub proof: ProofBytes,
    /// How long it took to collect the vanilla proofs, in milliseconds.
    pub collect_ms: u64,
    /// How long the SNARK took, in milliseconds.
    pub prove_ms: u64,
}

/// What workers say of one job.
struct Listening<'a, B> {
    tasks: &'a B,
    of: &'a PostSubject,
    reports: BoxStream<'static, Result<PostSaid, Error>>,
}

impl<B: Tasks> Listening<'_, B> {
    /// The next report on the job. `None` if there is none until then.
    async fn next(&mut self, until: Instant) -> Result<Option<PostSaid>, Error> {
        while let Ok(said) = timeout_at(until, self.reports.next()).await {
            match said {
                Some(Ok(said)) if said.miner == self.of.miner && said.job == self.of.job => return Ok(Some(said)),
                // The reports of the last two hours come first.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.reports = self.tasks.reports().await?,
            }
        }
        Ok(None)
    }
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// What is read and proven by hand: a name that no other job has, and made-up randomness.
    pub fn by_hand(&self, miner: MinerId, about: &str, now_millis: u128) -> Result<PostSubject, Error> {
        let name = format!("s-{about}-{now_millis}");
        let job = name.parse().map_err(|_| Error::Odd(format!("{name} is no name for tasks")))?;
        let (proof, randomness) = (self.seal_proof(miner)?, made_up(&format!("{miner} {name}")));
        Ok(PostSubject { miner, job, post: PostKind::Window, proof, randomness })
    }

    /// Reads sectors as for a proof, with the retries that a proof has. Ends when nothing more comes of waiting, or at the
    /// limit. `told` is called after each report. On trial the vanilla proofs are thrown away.
    pub async fn read_now(
        &self,
        of: &PostSubject,
        sectors: Vec<Provable>,
        (limit, is_trial): (Duration, bool),
        mut told: impl FnMut(&Reads),
    ) -> Result<Reads, Error> {
        let (began, mut reads) = (Instant::now(), Reads::new(sectors));
        let ends = began + limit;
        let mut listening = Listening { tasks: self.tasks, of, reports: self.tasks.reports().await? };
        let (mut queues, mut offered) = (BTreeSet::new(), BTreeMap::<u32, Epoch>::new());
        while !reads.is_settled() && Instant::now() < ends {
            // What takes epochs of a proof takes as long here.
            let (epoch, next_epoch) = self.epoch_since(began);
            let mut due = reads.pieces(epoch);
            due.retain(|piece| offered.get(&piece.number).is_none_or(|last| epoch >= last + OFFER_AGAIN));
            offered.extend(due.iter().map(|piece| (piece.number, epoch)));
            let left_ms = ends.saturating_duration_since(Instant::now()).as_millis() as u64;
            self.offer_pieces(&mut queues, of, reads.sectors(), due, (left_ms, is_trial)).await?;
            if let Some(said) = listening.next(next_epoch.min(ends)).await? {
                reads.hear(&said.worker, &said.report, epoch);
                told(&reads);
            }
        }
        self.tasks.withdraw(of.miner, &of.job).await?;
        Ok(reads)
    }

    /// Makes the proof of what was read. `Err` in the inside says why there is none.
    pub async fn prove_now(
        &self,
        of: &PostSubject,
        reads: &Reads,
        limit: Duration,
    ) -> Result<Result<Made, String>, Error> {
        let (began, ends) = (Instant::now(), Instant::now() + limit);
        let read = reads.read().map(|(sector, by)| (sector.number, by.clone()));
        let attempt = Attempt { sectors: read.collect(), failed_at: Vec::new() };
        let task = PostTask::Prove(prove_task(of.clone(), 0, &attempt, reads, limit.as_millis() as u64));
        let mut listening = Listening { tasks: self.tasks, of, reports: self.tasks.reports().await? };
        self.ensure(&mut BTreeSet::new(), PostQueue::Proves { miner: of.miner }).await?;
        let mut made = Err(format!("no worker has made the SNARK within {} s", limit.as_secs()));
        while Instant::now() < ends {
            self.tasks.offer(&task).await?;
            let (_, next_epoch) = self.epoch_since(began);
            match listening.next(next_epoch.min(ends)).await? {
                Some(PostSaid { worker, report: PostReport::Proved { proof, collect_ms, prove_ms, .. }, .. }) => {
                    made = Ok(Made { worker, proof, collect_ms, prove_ms });
                    break;
                }
                Some(PostSaid { worker, report: PostReport::NotProved { error, .. }, .. }) => {
                    made = Err(format!("{} (worker {worker})", error.message()));
                    break;
                }
                _ => {}
            }
        }
        self.tasks.withdraw(of.miner, &of.job).await?;
        Ok(made)
    }

    /// How many epochs have passed since a moment, and when the next one begins.
    fn epoch_since(&self, began: Instant) -> (Epoch, Instant) {
        let epoch = (began.elapsed().as_millis() / u128::from(self.epoch_millis.max(1))) as u64;
        (epoch as Epoch, began + Duration::from_millis(self.epoch_millis.max(1).saturating_mul(epoch + 1)))
    }
}
