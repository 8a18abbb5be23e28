//! The work queue: the manager offers intents, and a worker takes one at a time.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer, stream::LastRawMessageErrorKind};
use futures::{
    StreamExt,
    future::{select_all, try_join_all},
};
use sealbus_schema::{IntentKind, MinerId, SealProof, SectorId, codec, message::Intent};

use crate::{
    Bus,
    lease::ReadError,
    publish::{Outgoing, PublishError, Stored},
    subject::{self, Subject},
    topology,
};

/// How long one pull waits at the server. If its client is gone, the pull still exists until then, and may take one
/// intent for [`topology::INTENT_ACK_WAIT`]. Within an account, or on the queue's leader, nats-server 2.15 notices that
/// the client is gone; through an account's import, or on another server of the cluster, it does not.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server confirms that a pull is still waiting, so that a lost pull is noticed before it expires.
const PULL_HEARTBEAT: Duration = Duration::from_secs(4);
/// How long the server may take to say whether a queue has an intent.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A queue to take intents from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The miner of the sectors.
    pub miner: MinerId,
    /// Their proof type, which implies their size.
    pub proof: SealProof,
    /// The kind of work.
    pub kind: IntentKind,
}

/// An intent that was taken but not acknowledged yet.
pub struct Offer {
    /// The intent.
    pub intent: Intent,
    /// The queue that it came from.
    pub queue: Queue,
    /// Whether it was waited for, because all queues were empty.
    pub waited: bool,
    message: jetstream::Message,
}

/// Why no intent came.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// We cannot see the queue. Either the manager has not created it, because it does not serve this miner or has not
    /// started yet. Or NATS does not permit this worker to use it, which looks the same as streams that are not up yet.
    #[error(
        "stream {stream} has no queue {name} for this worker: no manager serves this miner and sector size yet, or the \
         worker's account in NATS has no right to it"
    )]
    NoQueue {
        /// The consumer that is missing.
        name: String,
        /// Its stream.
        stream: &'static str,
    },
    /// The server did not answer.
    #[error("cannot take from queue {name}")]
    Server {
        /// The consumer.
        name: String,
        /// The cause.
        #[source]
        source: async_nats::Error,
    },
}

impl Offer {
    /// Removes the intent from the queue, and waits until the server has done so.
    pub async fn accept(&self) -> Result<(), async_nats::Error> {
        self.message.double_ack().await
    }

    /// Gives the intent back, so that another worker gets it at once. Without this it is delivered again later.
    pub async fn put_back(&self) -> Result<(), async_nats::Error> {
        self.message.ack_with(jetstream::AckKind::Nak(None)).await
    }
}

impl Bus {
    /// Puts an intent into the queue. Returns `None` if it is already there.
    pub async fn offer(&self, intent: &Intent) -> Result<Option<Stored>, PublishError> {
        let out = Outgoing {
            subject: subject::intent(intent.sector, intent.proof, intent.kind, intent.lease_sequence),
            message_id: format!("{}.{}.intent.{}", intent.sector.miner, intent.sector.number, intent.lease_sequence),
            secret: None,
            kind: "intent",
            payload: codec::encode(intent)?,
            fence: None,
            headers: vec![("Seal-Expect-Lease", intent.lease_sequence.to_string())],
        };
        match self.publish(&out).await {
            Ok(stored) => Ok(Some(stored)),
            Err(PublishError::Outstanding { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The intents in the queue of sectors that `wanted` selects, whether a worker has one in its hand or not. An unreadable
    /// one is left out.
    pub async fn queued_intents(&self, wanted: impl AsyncFn(SectorId) -> bool) -> Result<Vec<Intent>, ReadError> {
        let failed = |source: async_nats::Error| ReadError::Server { what: topology::INTENTS.to_owned(), source };
        let stream = self.js.get_stream_no_info(topology::INTENTS).await.map_err(|e| failed(e.into()))?;
        let mut subjects = stream.info_with_subjects("seal.intent.>").await.map_err(|e| failed(e.into()))?;
        let mut intents = Vec::new();
        while let Some(next) = subjects.next().await {
            let (subject, _) = next.map_err(|e| failed(e.into()))?;
            let Ok(Subject::Intent { sector, .. }) = subject.parse() else { continue };
            if !wanted(sector).await {
                continue;
            }
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => intents.extend(codec::decode(&message.payload).ok()),
                // It was accepted meanwhile, so its claim is in the log.
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(intents)
    }

    /// The next intent. Asks the queues one after the other, and takes an intent from the first that has one. If all are
    /// empty, waits for one from any of them. An unreadable message is removed from its queue and logged, so that it is not
    /// delivered forever.
    pub async fn next_intent(&self, queues: &[Queue]) -> Result<Offer, PullError> {
        let consumers = try_join_all(queues.iter().map(|queue| self.consumer(*queue))).await?;
        for (queue, (name, consumer)) in queues.iter().zip(&consumers) {
            while let Some(message) = take_now(name, consumer).await? {
                if let Some(intent) = read(&message).await {
                    return Ok(Offer { intent, queue: *queue, waited: false, message });
                }
            }
        }
        let mut pulls = Vec::new();
        for (queue, (name, consumer)) in queues.iter().zip(&consumers) {
            pulls.push((*queue, name, open(name, consumer).await?));
        }
        loop {
            let waiting = pulls
                .iter_mut()
                .map(|(queue, name, messages)| Box::pin(async move { (*queue, *name, messages.next().await) }));
            let ((queue, name, next), _, _) = select_all(waiting).await;
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(source)) => return Err(PullError::Server { name: name.clone(), source: source.into() }),
                None => return Err(PullError::Server { name: name.clone(), source: "the pull ended".into() }),
            };
            if let Some(intent) = read(&message).await {
                return Ok(Offer { intent, queue, waited: true, message });
            }
        }
    }

    /// Checks that we can see a queue.
    pub async fn find_queue(&self, queue: Queue) -> Result<(), PullError> {
        self.consumer(queue).await.map(drop)
    }

    async fn consumer(&self, queue: Queue) -> Result<(String, PullConsumer), PullError> {
        let name = topology::queue_name(queue.miner, queue.proof, queue.kind);
        let consumer = self.find_consumer(&name, topology::INTENTS).await?;
        Ok((name, consumer))
    }

    /// A queue's shared consumer.
    pub(crate) async fn find_consumer(&self, name: &str, stream: &'static str) -> Result<PullConsumer, PullError> {
        let name = name.to_owned();
        match self.js.get_consumer_from_stream(&name, stream).await {
            Ok(consumer) => Ok(consumer),
            Err(error) if is_not_there(&error) => Err(PullError::NoQueue { name, stream }),
            Err(error) => Err(PullError::Server { name, source: error.into() }),
        }
    }
}

/// Takes an intent that is in the queue now. The request does not stay open at the server.
async fn take_now(name: &str, consumer: &PullConsumer) -> Result<Option<jetstream::Message>, PullError> {
    // As of a moment ago. An intent that comes back because nobody acknowledged it counts as pending acknowledgement.
    let info = consumer.cached_info();
    if info.num_pending == 0 && info.num_ack_pending == 0 {
        return Ok(None);
    }
    let failed = |source: async_nats::Error| PullError::Server { name: name.to_owned(), source };
    let taking = async {
        let mut messages = consumer.fetch().max_messages(1).messages().await?;
        messages.next().await.transpose()
    };
    match tokio::time::timeout(ASK_LIMIT, taking).await {
        Ok(taken) => taken.map_err(failed),
        Err(_) => Err(failed(format!("no answer within {} s", ASK_LIMIT.as_secs()).into())),
    }
}

/// Opens a pull that waits for intents. Nothing is prefetched, and dropping the stream withdraws the pull.
async fn open(name: &str, consumer: &PullConsumer) -> Result<jetstream::consumer::pull::Stream, PullError> {
    let pull = consumer.stream().max_messages_per_batch(1).expires(PULL_EXPIRES).heartbeat(PULL_HEARTBEAT);
    pull.messages().await.map_err(|source| PullError::Server { name: name.to_owned(), source: source.into() })
}

/// The intent in a message. `None` if it is unreadable; it is then removed from the queue.
async fn read(message: &jetstream::Message) -> Option<Intent> {
    // Permissions are by subject, so an intent counts only under the subject that follows from its content. A kind of a
    // newer version has a token that we do not know; the caller leaves such an intent in the queue.
    let stands_at = |intent: &Intent| subject::intent(intent.sector, intent.proof, intent.kind, intent.lease_sequence);
    let error = match codec::decode::<Intent>(&message.payload) {
        Ok(intent) if stands_at(&intent) == message.subject.as_str() || intent.kind == IntentKind::Unknown => {
            return Some(intent);
        }
        Ok(intent) => format!("it names {}", intent.sector),
        Err(error) => error.to_string(),
    };
    tracing::error!(subject = %message.subject, %error, "removed an unreadable intent from the queue");
    if let Err(error) = message.ack_with(jetstream::AckKind::Term).await {
        tracing::warn!(%error, "could not remove it; it will be delivered again");
    }
    None
}

/// Whether the server knows no such consumer, or nobody answers the request, because our account does not import the
/// consumer.
fn is_not_there(error: &jetstream::stream::ConsumerError) -> bool {
    use jetstream::{ErrorCode, context, stream::ConsumerErrorKind};
    match error.kind() {
        ConsumerErrorKind::JetStream(cause) => {
            matches!(cause.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND)
        }
        ConsumerErrorKind::Request => std::error::Error::source(error)
            .and_then(|cause| cause.downcast_ref::<context::RequestError>())
            .is_some_and(|cause| matches!(cause.kind(), context::RequestErrorKind::NoResponders)),
        _ => false,
    }
}
