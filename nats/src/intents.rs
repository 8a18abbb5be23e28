//! The work queue: the manager offers, a worker takes one at a time.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use futures::{StreamExt, future::select_all};
use sealbus_schema::{IntentKind, MinerId, SealProof, codec, message::Intent};

use crate::{
    Bus,
    publish::{Outgoing, PublishError, Stored},
    subject, topology,
};

/// How long one pull waits at the server. Short, because a pull of a worker that has died stands until then, and an intent that
/// is delivered to it comes back only after the queue's `ack_wait`: behind an account's import the server cannot see that
/// nobody listens any more.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server says that a pull still stands, so that a lost one is noticed before it expires.
const PULL_HEARTBEAT: Duration = Duration::from_secs(4);

/// A queue to take intents from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Whose sectors.
    pub miner: MinerId,
    /// Which proof.
    pub proof: SealProof,
    /// Which kind.
    pub kind: IntentKind,
}

/// An intent that was taken and not acknowledged yet.
pub struct Offer {
    /// What is wanted.
    pub intent: Intent,
    message: jetstream::Message,
}

/// Why no intent came.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The manager has not made the queue: it does not serve this miner, or has not started yet.
    #[error(
        "stream {stream} has no queue {name}: no manager serves this miner and sector size yet",
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
        /// Why.
        #[source]
        source: async_nats::Error,
    },
}

impl Offer {
    /// Removes the intent from the queue, and waits until the server has done so.
    pub async fn accept(&self) -> Result<(), async_nats::Error> {
        self.message.double_ack().await
    }

    /// Gives the intent back, so that somebody else gets it at once. One that is not given back comes again later.
    pub async fn put_back(&self) -> Result<(), async_nats::Error> {
        self.message.ack_with(jetstream::AckKind::Nak(None)).await
    }
}

impl Bus {
    /// Puts an intent into the queue. An intent that is there already is a success.
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

    /// Waits for the next intent of any of the queues. A message that nobody can read is taken out of the queue and
    /// reported, so that it does not come back for ever.
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
            let stands_at =
                |intent: &Intent| subject::intent(intent.sector, intent.proof, intent.kind, intent.lease_sequence);
            match codec::decode::<Intent>(&message.payload) {
                Ok(intent) if stands_at(&intent) == message.subject.as_str() || intent.kind == IntentKind::Unknown => {
                    return Ok(Offer { intent, message });
                }
                outcome => {
                    let error =
                        outcome.map_or_else(|error| error.to_string(), |intent| format!("it names {}", intent.sector));
                    tracing::error!(subject = %message.subject, %error, "an unreadable intent was taken out of the queue");
                    if let Err(error) = message.ack_with(jetstream::AckKind::Term).await {
                        tracing::warn!(%error, "could not take it out; it will come back");
                    }
                }
            }
        }
    }

    async fn open(&self, queue: Queue) -> Result<(String, jetstream::consumer::pull::Stream), PullError> {
        let name = topology::queue_name(queue.miner, queue.proof, queue.kind);
        let failed = |source: async_nats::Error| PullError::Server { name: name.clone(), source };
        let consumer: PullConsumer = match self.js.get_consumer_from_stream(&name, topology::INTENTS).await {
            Ok(consumer) => consumer,
            Err(error) if is_not_found(&error) => return Err(PullError::NoQueue { name }),
            Err(error) => return Err(failed(error.into())),
        };
        // One message a pull, one `next()`, then dropped: nothing is prefetched, and dropping withdraws the pull.
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

fn is_not_found(error: &jetstream::stream::ConsumerError) -> bool {
    use jetstream::{ErrorCode, stream::ConsumerErrorKind};
    matches!(error.kind(), ConsumerErrorKind::JetStream(cause)
        if matches!(cause.error_code(), ErrorCode::CONSUMER_NOT_FOUND | ErrorCode::STREAM_NOT_FOUND))
}
