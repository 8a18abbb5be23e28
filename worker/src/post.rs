//! Serves the tasks of proofs of spacetime (`docs/adr/0069-a-proof-has-no-owner.md`): [`reads`] makes vanilla proofs
//! beside the store, and [`proves`] makes SNARKs.
//!
//! Each miner's queue has a loop of its own. A loop takes a task only when a processor is free for it, so that tasks
//! wait in the queue, where any machine can take them. What is taken is worked on beside the loop.
//!
//! A task that fails because of this machine, such as for a store that is not mounted, would fail at once, and the next
//! one too: this machine would empty the queue. So it leaves the queue to others for a while.
//!
//! Draining does not stop this. A draining machine takes no new sectors, but a proof that is missed costs more than
//! whatever a person drains it for. It serves proofs until it is stopped.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sealbus_nats::{
    Patience,
    post::{PostOffer, PostQueue},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, MinerId, Phase, WorkerName,
    post::{PostKind, PostReport, PostSubject, PostTask, ProveTask},
};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::{
    causes::in_words,
    driver::Context,
    processor::{ProcessError, ProcessorGuard, Turn},
};
use seats::Kept;

pub mod proves;
pub mod reads;
mod seats;
mod trial;

/// The pauses between pulls that fail.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pauses after a task that this machine could not work on.
const FIRST_LEAVE: Duration = Duration::from_secs(5);
const LONGEST_LEAVE: Duration = Duration::from_secs(60);
/// For how long a task goes back that came when nothing was free any more.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How many proofs are remembered that are made: more than the partitions of a deadline.
const SETTLED_MAX: usize = 32;

/// Whether more tasks of the kind should be taken.
enum Fit {
    Well,
    /// This machine cannot work on such tasks now, for this reason.
    Unwell(String),
}

/// The machine's part of the work on proofs of one kind. Each kind has queues and processors of its own, so that a block
/// does not wait for a window PoSt.
struct Post {
    context: Arc<Context>,
    kind: PostKind,
    /// One reading task at a time may have sectors that wait for a reader. The others stay in the queue.
    reads: Arc<Semaphore>,
    /// The tasks that may be proven at the same time: as many as there are provers.
    proves: Arc<Semaphore>,
    /// Provers that are kept free.
    kept: Kept,
    /// What this machine has proven lately, or had no time left for.
    settled: Mutex<VecDeque<PostSubject>>,
}

/// Serves the queues of all miners, as far as the machine has processors for them. Dropping the future kills what runs;
/// others get those tasks.
///
/// # Errors
/// A loop's panic. Returns for nothing else.
pub async fn serve(context: Arc<Context>) -> Result<(), JoinError> {
    proves::clean(&context.config).await;
    let mut loops = JoinSet::new();
    for kind in [PostKind::Window, PostKind::Winning] {
        let post = Arc::new(Post::new(Arc::clone(&context), kind));
        let [read, prove] = phases(kind);
        if context.config.serves(read) {
            for &miner in &context.config.miners {
                loops.spawn(Arc::clone(&post).take(post.reading_queue(miner)));
            }
        }
        if context.config.serves(prove) {
            // A block comes without notice, so nothing is kept for it: its provers share no locks, or wait.
            if kind == PostKind::Window && seats::are_shared(&context.config.processors, prove) {
                loops.spawn(seats::keep(Arc::clone(&post)));
            }
            loops.spawn(post.prove());
        }
    }
    match loops.join_next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// The phases of reading and proving.
const fn phases(kind: PostKind) -> [Phase; 2] {
    match kind {
        PostKind::Winning => Phase::WINNING,
        PostKind::Window | PostKind::Unknown => Phase::POST,
    }
}

impl Post {
    fn new(context: Arc<Context>, kind: PostKind) -> Post {
        let [_, prove] = phases(kind);
        let provers = context.config.processors.iter().filter(|group| group.stage == prove);
        let provers = provers.map(|group| group.count.saturating_mul(group.concurrent)).sum();
        let (reads, proves) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(provers)));
        Post { context, kind, reads, proves, kept: Kept::default(), settled: Mutex::default() }
    }

    /// Remembers that nothing more is to be proven of this.
    fn settle(&self, of: &PostSubject) {
        let mut settled = self.settled();
        settled.push_back(of.clone());
        if settled.len() > SETTLED_MAX {
            settled.pop_front();
        }
    }

    /// Whether a task is of no use to anybody. When a proof is late, the manager offers it again beside the first try; that
    /// offer may still be there when this machine is done with it.
    fn is_settled(&self, task: &ProveTask) -> bool {
        let is_wanted = task.failed_at.contains(&self.context.config.name);
        !is_wanted && self.settled().contains(&task.of)
    }

    fn settled(&self) -> MutexGuard<'_, VecDeque<PostSubject>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading_queue(&self, miner: MinerId) -> PostQueue {
        let store = self.context.config.store.name.clone();
        match self.kind {
            PostKind::Winning => PostQueue::WinningReads { miner, store },
            PostKind::Window | PostKind::Unknown => PostQueue::Reads { miner, store },
        }
    }

    fn proving_queue(&self, miner: MinerId) -> PostQueue {
        match self.kind {
            PostKind::Winning => PostQueue::WinningProves { miner },
            PostKind::Window | PostKind::Unknown => PostQueue::Proves { miner },
        }
    }

    /// Proves for all miners, once it is known that this machine can.
    async fn prove(self: Arc<Post>) {
        if self.context.config.proving_trial {
            trial::passed(&self, self.proves.available_permits()).await;
        }
        let queues = self.context.config.miners.iter().map(|&miner| self.proving_queue(miner));
        join_all(queues.map(|queue| Arc::clone(&self).take(queue))).await;
    }

    /// Waits for a prover, one that is kept free or any, until the task's outcome is of no use any more.
    async fn prover(&self, ends: Instant) -> Option<ProcessorGuard> {
        let [_, prove] = phases(self.kind);
        tokio::select! {
            biased;
            guard = self.kept.next() => Some(guard),
            guard = seat(&self.context, prove, ends) => guard,
        }
    }

    /// Takes the tasks of a queue for ever.
    async fn take(self: Arc<Post>, queue: PostQueue) {
        let mut pulls = Patience::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut health = Patience::new(FIRST_LEAVE, LONGEST_LEAVE);
        let mut tasks: JoinSet<Fit> = JoinSet::new();
        loop {
            self.room(&queue).await;
            let mut unwell = None;
            let offer = {
                // Not dropped while it waits: what a dropped pull is given is lost to others for a while.
                let mut pull = std::pin::pin!(self.context.bus.next_post(&queue));
                loop {
                    tokio::select! {
                        offer = &mut pull => break offer,
                        Some(ended) = tasks.join_next() => match ended {
                            Ok(Fit::Well) => health.mended("tasks on proofs can be worked on"),
                            Ok(Fit::Unwell(reason)) => unwell = Some(reason),
                            Err(error) => tracing::error!(%error, "work on a proof crashed; it is delivered again"),
                        },
                    }
                }
            };
            let offer = match offer {
                Ok(offer) => offer,
                Err(error) => {
                    tokio::time::sleep(pulls.failed("no task on proofs", &in_words(&error))).await;
                    continue;
                }
            };
            pulls.mended("tasks on proofs can be taken");
            if let Some(reason) = unwell {
                put_back(&offer, BUSY_PAUSE).await;
                tokio::time::sleep(health.failed("tasks on proofs are left to others", &reason)).await;
                continue;
            }
            self.begin(offer, &mut tasks).await;
        }
    }

    /// Waits until a task of the queue could be worked on.
    async fn room(&self, queue: &PostQueue) {
        match queue {
            PostQueue::Reads { .. } | PostQueue::WinningReads { .. } => {
                let [read, _] = phases(self.kind);
                let _ = self.reads.acquire().await;
                // It fails only for a phase without processors.
                let _ = self.context.pool.wait_for_room(read).await;
            }
            PostQueue::Proves { .. } | PostQueue::WinningProves { .. } => {
                let _ = self.proves.acquire().await;
            }
        }
    }

    /// Begins work on a task, or gives it back if the last free processor was taken while it came.
    async fn begin(self: &Arc<Post>, offer: PostOffer, tasks: &mut JoinSet<Fit>) {
        let context = Arc::clone(&self.context);
        match offer.task.clone() {
            PostTask::Read(task) => match Arc::clone(&self.reads).try_acquire_owned() {
                Ok(permit) => {
                    tasks.spawn(async move { reads::serve(&context, &offer, &task, permit).await });
                }
                Err(_) => put_back(&offer, BUSY_PAUSE).await,
            },
            PostTask::Prove(task) if self.is_settled(&task) => {
                if let Err(error) = offer.done().await {
                    tracing::debug!(%error, "cannot take a task of no use out of the queue");
                }
            }
            PostTask::Prove(task) if task.failed_at.contains(&context.config.name) && offer.delivered <= 2 => {
                put_back(&offer, proves::LEFT_TO_OTHERS).await;
            }
            PostTask::Prove(task) => match Arc::clone(&self.proves).try_acquire_owned() {
                Ok(permit) => {
                    let post = Arc::clone(self);
                    tasks.spawn(async move {
                        let fit = proves::serve(&post, &offer, &task).await;
                        drop(permit);
                        fit
                    });
                }
                Err(_) => put_back(&offer, BUSY_PAUSE).await,
            },
            PostTask::Unknown => put_back(&offer, BUSY_PAUSE).await,
        }
    }
}

/// Does the work on a task, and says from time to time that it is worked on.
async fn while_telling<T>(offer: &PostOffer, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(offer.sign_of_life()) => {
                if let Err(error) = offer.still_working().await {
                    tracing::debug!(%error, "cannot say that a task is worked on");
                }
            }
        }
    }
}

/// Stores a report, and takes the task out of the queue. Returns whether the report is stored.
async fn report(context: &Context, offer: &PostOffer, of: &PostSubject, report: &PostReport) -> bool {
    let PostSubject { miner, job, .. } = of;
    if let Err(error) = context.bus.report_post((*miner, job), &context.config.name, report).await {
        tracing::error!(%miner, %job, error = in_words(&error), "cannot report on a proof; the task is delivered again");
        return false;
    }
    if let Err(error) = offer.done().await {
        tracing::debug!(%miner, %job, %error, "cannot take a finished task out of the queue; it is delivered again");
    }
    true
}

async fn put_back(offer: &PostOffer, pause: Duration) {
    if let Err(error) = offer.put_back(pause).await {
        tracing::debug!(%error, "cannot give a task back; it is delivered again by itself");
    }
}

/// Waits for a processor until the task's outcome is of no use any more.
async fn seat(context: &Context, phase: Phase, ends: Instant) -> Option<ProcessorGuard> {
    let left = ends.saturating_duration_since(Instant::now());
    // It goes before other work that shares a lock with it, and waits for what runs.
    let turn = Turn { expires_in: Some(left), ..Turn::default() };
    tokio::time::timeout_at(ends, context.pool.acquire_as(phase, turn)).await.ok()?.ok()
}

/// A processor's error as it is reported: short, because a report has many.
fn brief(context: &Context, phase: Phase, error: &ProcessError) -> ErrorReport {
    placed(context, phase, error.report())
}

fn placed(context: &Context, phase: Phase, report: ErrorReport) -> ErrorReport {
    ErrorReport { host: context.config.host.clone(), phase: Some(phase), ..report.brief() }
}

/// An error that arises on the worker itself.
fn own(context: &Context, phase: Phase, class: ErrorClass, code: ErrorCode, message: String) -> ErrorReport {
    placed(context, phase, ErrorReport::new(class, code, message))
}

/// Whether the process died without an answer, such as by a person's kill or for want of memory. Another may succeed.
fn has_died(error: &ProcessError) -> bool {
    error.code() == ErrorCode::PROCESSOR_DIED
}

fn names(workers: &[WorkerName], index: u16) -> Option<&WorkerName> {
    workers.get(usize::from(index))
}
