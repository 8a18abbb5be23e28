//! Heartbeats: one subject per worker, of which the server keeps the last message.
//!
//! Each heartbeat states its predecessor's sequence, so that two processes under one name are detected.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use futures::StreamExt;
use sealbus_schema::{WorkerName, codec, message::Heartbeat};
use time::OffsetDateTime;

use crate::{
    Bus,
    lease::ReadError,
    publish::{PublishError, VERSION_HEADER},
    subject, topology,
};

/// How long reading all heartbeats may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes one worker's heartbeats, each naming its predecessor.
pub struct Heart {
    subject: String,
    last: Option<u64>,
}

/// A worker's last heartbeat.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its content.
    pub heartbeat: Heartbeat,
    /// When the server stored it.
    pub at: OffsetDateTime,
    /// The server's time when it was asked.
    pub now: OffsetDateTime,
}

/// Why a heartbeat was not stored.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// Another process uses our name. Two workers with one name would fight over slots and leases.
    #[error("another process, on host {host}, runs as worker {worker}: give each machine its own worker.name")]
    Clone {
        /// The shared name.
        worker: WorkerName,
        /// Where the other one runs.
        host: String,
    },
    /// The server did not store it. The next heartbeat brings the same information.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The last heartbeat could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Heart {
    /// For a worker that has just started. The first heartbeat accepts any predecessor, such as an earlier process's.
    pub fn new(worker: &WorkerName) -> Heart {
        Heart { subject: subject::heartbeat(worker), last: None }
    }

    /// Publishes one heartbeat.
    pub async fn beat(&mut self, bus: &Bus, heartbeat: &Heartbeat) -> Result<(), BeatError> {
        let expected = match self.last {
            Some(sequence) => sequence,
            None => bus.last_heartbeat(heartbeat).await?.map_or(0, |(sequence, _)| sequence),
        };
        let stored = match bus.publish_heartbeat(&self.subject, heartbeat, expected).await {
            Err(PublishError::Fenced { .. }) => match bus.last_heartbeat(heartbeat).await? {
                Some((_, Some(other))) if other.incarnation != heartbeat.incarnation => {
                    return Err(BeatError::Clone { worker: heartbeat.worker.clone(), host: other.host });
                }
                // Our own with a lost acknowledgement, an unreadable one, or none because the server restarted:
                // continue from there.
                last => {
                    let expected = last.map_or(0, |(sequence, _)| sequence);
                    bus.publish_heartbeat(&self.subject, heartbeat, expected).await
                }
            },
            outcome => outcome,
        };
        self.last = Some(stored?);
        Ok(())
    }
}

impl Bus {
    /// Every worker's last heartbeat, sorted by name.
    pub async fn workers(&self) -> Result<Vec<Seen>, ReadError> {
        self.read_workers().await.map(|(seen, _)| seen)
    }

    /// The same, and how long the stream of heartbeats has existed, by the server's clock. A worker that is missing
    /// here gave no sign of life in that time.
    pub async fn workers_and_memory(&self) -> Result<(Vec<Seen>, time::Duration), ReadError> {
        let failed = |source: async_nats::Error| ReadError::Server { what: topology::HEARTBEATS.to_owned(), source };
        let stream = self.js.get_stream(topology::HEARTBEATS).await.map_err(|source| failed(source.into()))?;
        let made = stream.cached_info().created;
        let (seen, now) = self.read_workers().await?;
        Ok((seen, now - made))
    }

    async fn read_workers(&self) -> Result<(Vec<Seen>, OffsetDateTime), ReadError> {
        let (messages, now) = self.last_of_each(topology::HEARTBEATS, "seal.hb.*").await?;
        let mut seen = Vec::with_capacity(messages.len());
        for (subject, payload, at) in messages {
            match codec::decode::<Heartbeat>(&payload) {
                // Permissions are by subject, so a heartbeat speaks only for the worker that its subject names.
                Ok(heartbeat) if subject::heartbeat(&heartbeat.worker) != subject => tracing::error!(
                    subject, names = %heartbeat.worker,
                    "a heartbeat whose worker differs from its subject's; ignored"
                ),
                Ok(heartbeat) => seen.push(Seen { heartbeat, at, now }),
                Err(error) => tracing::warn!(subject, %error, "an unreadable heartbeat"),
            }
        }
        seen.sort_by(|a, b| a.heartbeat.worker.cmp(&b.heartbeat.worker));
        Ok((seen, now))
    }

    /// The last message of each subject of a stream (subject, payload, time of storage), and the server's present time.
    pub(crate) async fn last_of_each(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<(Vec<(String, Vec<u8>, OffsetDateTime)>, OffsetDateTime), ReadError> {
        let failed = |source: async_nats::Error| ReadError::Server { what: stream.to_owned(), source };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: Duration::from_secs(30),
            ..pull::Config::default()
        };
        let consumer: PullConsumer =
            self.js.create_consumer_on_stream(config, stream).await.map_err(|source| failed(source.into()))?;
        // The consumer's creation time is the server's present time.
        let now = consumer.cached_info().created;
        let pending = consumer.cached_info().num_pending as usize;
        let mut messages = Vec::with_capacity(pending);
        if pending > 0 {
            let mut batch = consumer
                .fetch()
                .max_messages(pending)
                .expires(READ_TIMEOUT)
                .messages()
                .await
                .map_err(|source| failed(source.into()))?;
            while let Some(message) = batch.next().await {
                let message = message.map_err(failed)?;
                let at = message.info().map_err(failed)?.published;
                messages.push((message.subject.to_string(), message.payload.to_vec(), at));
            }
        }
        Ok((messages, now))
    }

    /// The last message on the worker's subject: its sequence, and its content if that is a heartbeat of this worker.
    async fn last_heartbeat(&self, ours: &Heartbeat) -> Result<Option<(u64, Option<Heartbeat>)>, ReadError> {
        use async_nats::jetstream::stream::DirectGetErrorKind;
        let subject = &subject::heartbeat(&ours.worker);
        let failed = |source: async_nats::Error| ReadError::Server { what: subject.to_owned(), source };
        let stream = self.js.get_stream_no_info(topology::HEARTBEATS).await.map_err(|source| failed(source.into()))?;
        match stream.direct_get_last_for_subject(subject).await {
            Ok(message) => {
                let said = codec::decode::<Heartbeat>(&message.payload).ok().filter(|said| said.worker == ours.worker);
                if said.is_none() {
                    let sequence = message.sequence;
                    tracing::warn!(
                        subject,
                        sequence,
                        "what stands as our last heartbeat is none of ours; replacing it"
                    );
                }
                Ok(Some((message.sequence, said)))
            }
            Err(error) if matches!(error.kind(), DirectGetErrorKind::NotFound) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }

    async fn publish_heartbeat(
        &self,
        subject: &str,
        heartbeat: &Heartbeat,
        expected: u64,
    ) -> Result<u64, PublishError> {
        let message = async_nats::jetstream::message::PublishMessage::build()
            .payload(codec::encode(heartbeat)?.into())
            .header(VERSION_HEADER, codec::VERSION.to_string().as_str())
            .expected_last_subject_sequence(expected);
        let acknowledged = async { self.js.send_publish(subject.to_owned(), message).await?.await }.await;
        acknowledged.map(|ack| ack.sequence).map_err(|error| crate::publish::classify(subject, error))
    }
}
