//! The work queue: the manager offers intents, and a worker takes one at a time.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures::{StreamExt, future::select_all};
use sealbus_schema::{IntentKind, MinerId, SealProof, codec, message::Intent};

use crate::{
    Bus,
    publish::{Outgoing, PublishError, Stored},
    subject, topology,
};

/// How long one pull waits at the server. If its client is gone, the pull still exists until then, and may take one
/// intent for [`topology::INTENT_ACK_WAIT`]. Within an account, or on the queue's leader, nats-server 2.15 notices that
/// the client is gone; through an account's import, or on another server of the cluster, it does not.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server confirms that a pull is still waiting, so that a lost pull is noticed before it expires.
const PULL_HEARTBEAT: Duration = Duration::from_secs(4);

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
    message: jetstream::Message,
}

/// Why no intent came.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// We cannot see the queue. Either the manager has not created it, because it does not serve this miner or has not
    /// started yet. Or NATS does not permit this worker to use it, which looks the same as streams that are not up yet.
    #[error(
        "stream {stream} has no queue {name} for this worker: no manager serves this miner and sector size yet, or the \
         worker's account in NATS has no right to it",
        stream = topology::INTENTS
    )]
    NoQueue {
        /// The consumer that is missing.
        name: String,
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

    /// Waits for the next intent from any of the queues. An unreadable message is removed from the queue and logged, so
    /// that it is not delivered forever.
    pub async fn next_intent(&self, queues: &[Queue]) -> Result<Offer, PullError> {
        let mut pulls = Vec::new();
        for queue in queues {
            pulls.push(self.open(*queue).await?);
        }
        loop {
            let waiting =
                pulls.iter_mut().map(|(name, messages)| Box::pin(async move { (name.clone(), messages.next().await) }));
            let ((name, next), _, _) = select_all(waiting).await;
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(source)) => return Err(PullError::Server { name, source: source.into() }),
                None => return Err(PullError::Server { name, source: "the pull ended".into() }),
            };
            // Permissions are by subject, so an intent counts only under the subject that follows from its content. A
            // kind of a newer version has a token that we do not know; the caller leaves such an intent in the queue.
            let stands_at =
                |intent: &Intent| subject::intent(intent.sector, intent.proof, intent.kind, intent.lease_sequence);
            match codec::decode::<Intent>(&message.payload) {
                Ok(intent) if stands_at(&intent) == message.subject.as_str() || intent.kind == IntentKind::Unknown => {
                    return Ok(Offer { intent, message });
                }
                outcome => {
                    let error =
                        outcome.map_or_else(|error| error.to_string(), |intent| format!("it names {}", intent.sector));
                    tracing::error!(subject = %message.subject, %error, "removed an unreadable intent from the queue");
                    if let Err(error) = message.ack_with(jetstream::AckKind::Term).await {
                        tracing::warn!(%error, "could not remove it; it will be delivered again");
                    }
                }
            }
        }
    }

    /// Checks that we can see a queue.
    pub async fn find_queue(&self, queue: Queue) -> Result<(), PullError> {
        self.consumer(queue).await.map(drop)
    }

    async fn consumer(&self, queue: Queue) -> Result<(String, PullConsumer), PullError> {
        let name = topology::queue_name(queue.miner, queue.proof, queue.kind);
        match self.js.get_consumer_from_stream(&name, topology::INTENTS).await {
            Ok(consumer) => Ok((name, consumer)),
            Err(error) if is_not_there(&error) => Err(PullError::NoQueue { name }),
            Err(error) => Err(PullError::Server { name, source: error.into() }),
        }
    }

    async fn open(&self, queue: Queue) -> Result<(String, jetstream::consumer::pull::Stream), PullError> {
        let (name, consumer) = self.consumer(queue).await?;
        let failed = |source: async_nats::Error| PullError::Server { name: name.clone(), source };
        // One message per pull: nothing is prefetched, and dropping the stream withdraws the pull.
        let messages = consumer
            .stream()
            .max_messages_per_batch(1)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await
            .map_err(|source| failed(source.into()))?;
        Ok((name, messages))
    }
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
