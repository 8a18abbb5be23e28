//! Proofs of spacetime on the bus: tasks in a queue, vanilla proofs, and reports.
//!
//! The manager offers tasks, and drops them when they are of no use any more. A worker acknowledges a task when its
//! report is stored; until then it says from time to time that it works on it. If it falls silent, the task is delivered
//! again. What two workers do twice is the same twice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    context::ConsumerInfoErrorKind,
};
use futures::{StreamExt, stream::BoxStream};
use sealbus_schema::{
    MinerId, SectorNumber, WorkerName, codec,
    post::{PostJob, PostKind, PostReport, PostTask, Vanilla},
};

use crate::{
    Bus,
    intents::PullError,
    lease::ReadError,
    publish::{Outgoing, PublishError, Stored},
    subject::{self, Subject},
    topology::{self, TopologyError},
};

/// How long one pull waits at the server.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server confirms that a pull is still waiting.
const PULL_HEARTBEAT: Duration = Duration::from_secs(4);
/// How many vanilla proofs are asked for at once: some 2.5 MB of 32 GiB sectors.
const VANILLA_AT_ONCE: usize = 100;
/// How long the answers to one such request may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the server confirms that reports are still waited for. Its consumer lives in one server's memory, and if that
/// is gone, nothing is heard for twice as long.
const REPORTS_HEARTBEAT: Duration = Duration::from_secs(3);
/// How often it is looked whether the connection was lost meanwhile.
const CONNECTION_PERIOD: Duration = Duration::from_millis(250);
/// For how long a task of a newer version is left to others.
const NOT_OURS_PAUSE: Duration = Duration::from_secs(10);

/// How often it is said that window PoSts of a miner are due.
pub const DUE_PERIOD: Duration = Duration::from_secs(10);
/// For how long that counts after it was last said. Nothing else ends it: a manager that is gone keeps nothing free.
pub const DUE_HOLDS: Duration = Duration::from_secs(45);
/// How long the answer to the question what is due may take.
const DUE_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue of tasks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PostQueue {
    /// Reading tasks about sectors of a miner in a store.
    Reads {
        /// The miner.
        miner: MinerId,
        /// The store's name.
        store: String,
    },
    /// Proving tasks of a miner.
    Proves {
        /// The miner.
        miner: MinerId,
    },
    /// [`Reads`](Self::Reads) for winning PoSts.
    WinningReads {
        /// The miner.
        miner: MinerId,
        /// The store's name.
        store: String,
    },
    /// [`Proves`](Self::Proves) for winning PoSts.
    WinningProves {
        /// The miner.
        miner: MinerId,
    },
}

/// A task that was taken but not acknowledged yet.
pub struct PostOffer {
    /// The task.
    pub task: PostTask,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    silence: Duration,
    message: jetstream::Message,
}

/// Who takes from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostTakers {
    /// How many workers wait for a task.
    pub waiting: u64,
    /// How many tasks are being worked on.
    pub working: u64,
    /// How many tasks nobody has taken yet.
    pub queued: u64,
}

/// A report of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct PostSaid {
    /// The miner.
    pub miner: MinerId,
    /// The job.
    pub job: PostJob,
    /// The worker, by the subject, which only this worker may write to.
    pub worker: WorkerName,
    /// What it says.
    pub report: PostReport,
}

impl PostQueue {
    fn name(&self) -> String {
        match self {
            PostQueue::Reads { miner, store } | PostQueue::WinningReads { miner, store } => {
                topology::post_reads_name(self.post(), *miner, store)
            }
            PostQueue::Proves { miner } | PostQueue::WinningProves { miner } => {
                topology::post_proves_name(self.post(), *miner)
            }
        }
    }

    fn filter(&self) -> String {
        match self {
            PostQueue::Reads { miner, store } | PostQueue::WinningReads { miner, store } => {
                subject::post_reads_of(self.post(), *miner, store)
            }
            PostQueue::Proves { miner } | PostQueue::WinningProves { miner } => {
                subject::post_proves_of(self.post(), *miner)
            }
        }
    }

    /// The kind of proof that its tasks are about.
    const fn post(&self) -> PostKind {
        match self {
            PostQueue::Reads { .. } | PostQueue::Proves { .. } => PostKind::Window,
            PostQueue::WinningReads { .. } | PostQueue::WinningProves { .. } => PostKind::Winning,
        }
    }
}

impl PostTakers {
    /// Whether a worker is there.
    pub const fn is_somebody(&self) -> bool {
        self.waiting > 0 || self.working > 0
    }
}

impl PostOffer {
    /// Removes the task from the queue, and waits until the server has done so.
    pub async fn done(&self) -> Result<(), async_nats::Error> {
        self.message.double_ack().await
    }

    /// How often it must be said that it is worked on: three times in the queue's patience.
    pub fn sign_of_life(&self) -> Duration {
        self.silence / 3
    }

    /// Says that it is worked on, so that it is not delivered to another worker.
    pub async fn still_working(&self) -> Result<(), async_nats::Error> {
        self.message.ack_with(jetstream::AckKind::Progress).await
    }

    /// Gives the task back. It is delivered again after `pause`.
    pub async fn put_back(&self, pause: Duration) -> Result<(), async_nats::Error> {
        self.message.ack_with(jetstream::AckKind::Nak(Some(pause))).await
    }
}

impl Bus {
    /// Creates a queue of tasks, from which workers take. A task whose worker is silent for so long goes to another one.
    /// Only the manager may.
    pub async fn ensure_post_queue(&self, queue: &PostQueue, silence: Duration) -> Result<(), TopologyError> {
        let name = queue.name();
        let config = topology::post_queue(&name, queue.filter(), silence);
        let failed = |source: async_nats::Error| TopologyError::Server {
            operation: "create consumer",
            what: name.clone(),
            source,
        };
        self.js
            .create_consumer_on_stream(config, topology::POST_TASKS)
            .await
            .map_err(|source| failed(source.into()))?;
        Ok(())
    }

    /// What the server knows of the workers at a queue. `None` if there is no such queue yet.
    pub async fn post_takers(&self, queue: &PostQueue) -> Result<Option<PostTakers>, TopologyError> {
        let name = queue.name();
        let failed = |source: async_nats::Error| TopologyError::Server {
            operation: "read consumer",
            what: name.clone(),
            source,
        };
        let stream = self.js.get_stream_no_info(topology::POST_TASKS).await.map_err(|source| failed(source.into()))?;
        match stream.consumer_info(&name).await {
            Ok(info) => Ok(Some(PostTakers {
                waiting: info.num_waiting as u64,
                working: info.num_ack_pending as u64,
                queued: info.num_pending,
            })),
            Err(error) if matches!(error.kind(), ConsumerInfoErrorKind::NotFound) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Offers a task. Returns `None` if it is in the queue already.
    pub async fn offer_post(&self, task: &PostTask) -> Result<Option<Stored>, PublishError> {
        let Some(subject) = subject::post_task(task) else {
            return Err(PublishError::Refused {
                subject: "seal.post".to_owned(),
                code: 0,
                description: "a task of a newer version".to_owned(),
            });
        };
        let out = Outgoing {
            message_id: numbered(&subject),
            subject,
            secret: None,
            kind: "post_task",
            payload: codec::encode(task)?,
            fence: None,
            headers: Vec::new(),
        };
        match self.publish(&out).await {
            Ok(stored) => Ok(Some(stored)),
            Err(PublishError::Outstanding { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a job's tasks out of the queue that nobody has taken yet: its outcome is of no use any more.
    pub async fn withdraw_post(&self, miner: MinerId, job: &PostJob) -> Result<(), PublishError> {
        let filters = [PostKind::Window, PostKind::Winning].map(|post| {
            let [read, prove] = subject::post_kinds(post);
            [format!("seal.post.{read}.{miner}.*.{job}.*"), format!("seal.post.{prove}.{miner}.{job}.*")]
        });
        for filter in filters.into_iter().flatten() {
            let unknown = |source: async_nats::Error| PublishError::Unknown { subject: filter.clone(), source };
            let stream = self.js.get_stream_no_info(topology::POST_TASKS).await.map_err(|e| unknown(e.into()))?;
            stream.purge().filter(filter.clone()).await.map_err(|e| unknown(e.into()))?;
        }
        Ok(())
    }

    /// Waits for the next task of a queue. An unreadable one is removed from it and logged. One of a newer version is
    /// left to newer workers.
    pub async fn next_post(&self, queue: &PostQueue) -> Result<PostOffer, PullError> {
        let name = queue.name();
        let failed = |source: async_nats::Error| PullError::Server { name: name.clone(), source };
        let consumer = self.find_consumer(&name, topology::POST_TASKS).await?;
        let silence = consumer.cached_info().config.ack_wait;
        let pull = consumer.stream().max_messages_per_batch(1).expires(PULL_EXPIRES).heartbeat(PULL_HEARTBEAT);
        let mut messages = pull.messages().await.map_err(|source| failed(source.into()))?;
        loop {
            let message = match messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(source)) => return Err(failed(source.into())),
                None => return Err(failed("the pull ended".into())),
            };
            let delivered = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
            match read_task(&message) {
                Ok(Some(task)) => return Ok(PostOffer { task, delivered, silence, message }),
                Ok(None) => {
                    let put_back = message.ack_with(jetstream::AckKind::Nak(Some(NOT_OURS_PAUSE)));
                    put_back.await.map_err(failed)?;
                }
                Err(error) => {
                    tracing::error!(subject = %message.subject, error, "removed an unreadable task from the queue");
                    if let Err(error) = message.ack_with(jetstream::AckKind::Term).await {
                        tracing::warn!(%error, "could not remove it; it will be delivered again");
                    }
                }
            }
        }
    }

    /// Publishes a vanilla proof. A later one of the same worker replaces it.
    pub async fn publish_vanilla(
        &self,
        (miner, job, sector): (MinerId, &PostJob, SectorNumber),
        worker: &WorkerName,
        vanilla: &Vanilla,
    ) -> Result<Stored, PublishError> {
        let subject = subject::vanilla(miner, job, sector, worker);
        let out = Outgoing {
            message_id: format!("{subject}.{}.{}", vanilla.randomness, vanilla.comm_r),
            subject,
            secret: None,
            kind: "vanilla",
            payload: codec::encode(vanilla)?,
            fence: None,
            headers: Vec::new(),
        };
        self.publish_patiently(&out).await
    }

    /// Publishes what became of a task. A report of a newer version is refused.
    pub async fn report_post(
        &self,
        (miner, job): (MinerId, &PostJob),
        worker: &WorkerName,
        report: &PostReport,
    ) -> Result<Stored, PublishError> {
        let payload = codec::encode(report)?;
        let Some(task) = report.task() else {
            return Err(PublishError::Refused {
                subject: "seal.post.report".to_owned(),
                code: 0,
                description: "a report of a newer version".to_owned(),
            });
        };
        let subject = subject::post_report(miner, job, &task, worker);
        let out = Outgoing {
            message_id: numbered(&subject),
            subject,
            secret: None,
            kind: "post_report",
            payload,
            fence: None,
            headers: Vec::new(),
        };
        self.publish_patiently(&out).await
    }

    /// The vanilla proofs of some sectors of a job, each made by the worker that is named. Those that are not there, or
    /// cannot be read, are missing from the answer.
    pub async fn vanillas(
        &self,
        miner: MinerId,
        job: &PostJob,
        sectors: &[(SectorNumber, WorkerName)],
    ) -> Result<BTreeMap<SectorNumber, Vanilla>, ReadError> {
        let mut found = BTreeMap::new();
        for sectors in sectors.chunks(VANILLA_AT_ONCE) {
            let wanted: HashMap<String, SectorNumber> = sectors
                .iter()
                .map(|(sector, worker)| (subject::vanilla(miner, job, *sector, worker), *sector))
                .collect();
            let subjects: Vec<String> = wanted.keys().cloned().collect();
            let records = self.records_of_subjects(topology::POST, &subjects, READ_TIMEOUT).await?;
            for (subject, _, payload) in records {
                match (wanted.get(&subject), codec::decode(&payload)) {
                    (Some(sector), Ok(vanilla)) => drop(found.insert(*sector, vanilla)),
                    (None, _) => {}
                    (Some(_), Err(error)) => tracing::warn!(subject, %error, "an unreadable vanilla proof"),
                }
            }
        }
        Ok(found)
    }

    /// Says that window PoSts of a miner are due soon, or are being made. It counts for [`DUE_HOLDS`].
    pub async fn tell_post_due(&self, miner: MinerId) -> Result<Stored, PublishError> {
        let subject = subject::post_due(miner);
        let out = Outgoing {
            message_id: numbered(&subject),
            subject,
            secret: None,
            kind: "post_due",
            payload: Vec::new(),
            fence: None,
            headers: Vec::new(),
        };
        self.publish(&out).await
    }

    /// Where the last such message about each of these miners stands in the stream. When it moves, it was said again.
    pub async fn posts_due(&self, miners: &[MinerId]) -> Result<Vec<(String, u64)>, ReadError> {
        let subjects: Vec<String> = miners.iter().map(|miner| subject::post_due(*miner)).collect();
        let records = self.records_of_subjects(topology::POST, &subjects, DUE_READ_TIMEOUT).await?;
        Ok(records.into_iter().map(|(subject, sequence, _)| (subject, sequence)).collect())
    }

    /// All reports that the bus still has, and then each new one. Ends when the connection is renewed or its consumer is
    /// gone; the caller opens it again, and gets those of the last two hours again.
    pub async fn post_reports(&self) -> Result<BoxStream<'static, Result<PostSaid, ReadError>>, ReadError> {
        let failed = |source: async_nats::Error| ReadError::Server { what: topology::POST.to_owned(), source };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            filter_subject: subject::POST_REPORTS.to_owned(),
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: Duration::from_secs(60),
            ..pull::Config::default()
        };
        let (bus, opened) = (self.clone(), self.connections());
        let renewed = async move {
            while bus.connections() == opened {
                tokio::time::sleep(CONNECTION_PERIOD).await;
            }
        };
        let consumer: PullConsumer =
            self.js.create_consumer_on_stream(config, topology::POST).await.map_err(|source| failed(source.into()))?;
        let messages = consumer
            .stream()
            .expires(Duration::from_secs(30))
            .heartbeat(REPORTS_HEARTBEAT)
            .messages()
            .await
            .map_err(|source| failed(source.into()))?;
        let said = messages.filter_map(|message| async move {
            match message {
                Ok(message) => read_report(&message).map(Ok),
                Err(source) => Some(Err(ReadError::Server { what: topology::POST.to_owned(), source: source.into() })),
            }
        });
        Ok(said.take_until(renewed).boxed())
    }
}

/// The id of a message that may rightly follow an equal one under its subject: a task that is offered again, and its
/// report. The server would take the second one for a repetition and drop it, also when it comes from a process that was
/// started again.
fn numbered(subject: &str) -> String {
    static PUBLISHED: AtomicU64 = AtomicU64::new(0);
    static STARTED: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    format!("{subject}.{}.{}", *STARTED, PUBLISHED.fetch_add(1, Ordering::Relaxed))
}

/// The task in a message; `None` for one of a newer version. It counts only under the subject that follows from its
/// content.
fn read_task(message: &jetstream::Message) -> Result<Option<PostTask>, String> {
    let task: PostTask = codec::decode(&message.payload).map_err(|error| error.to_string())?;
    match (subject::post_task(&task), task.of()) {
        (Some(_), Some(of)) if of.post == PostKind::Unknown => Ok(None),
        (Some(subject), Some(_)) if subject == message.subject.as_str() => Ok(Some(task)),
        (Some(subject), Some(_)) => Err(format!("it belongs to {subject}")),
        _ => Ok(None),
    }
}

/// The report in a message; `None` if it is unreadable, or stands under a subject that is not its own.
fn read_report(message: &jetstream::Message) -> Option<PostSaid> {
    let subject = message.subject.as_str();
    match (subject.parse(), codec::decode::<PostReport>(&message.payload)) {
        (Ok(Subject::PostReport { miner, job, task, worker }), Ok(report)) if report.task().as_ref() == Some(&task) => {
            Some(PostSaid { miner, job, worker, report })
        }
        (Ok(_), Ok(_)) => {
            tracing::warn!(subject, "a report under a subject that is not its own; ignored");
            None
        }
        (Err(error), _) => {
            tracing::warn!(subject, %error, "an unreadable report");
            None
        }
        (_, Err(error)) => {
            tracing::warn!(subject, %error, "an unreadable report");
            None
        }
    }
}
