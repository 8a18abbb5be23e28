//! The sectors' logs, read in order for the fold.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull};
use futures::{FutureExt, StreamExt};
use sealbus_schema::{
    SectorId, WorkerName, codec,
    message::{Event, Fact, LeaseRecord},
};
use time::OffsetDateTime;

use crate::{
    Bus,
    publish::PublishError,
    subject::{self, Subject},
    topology,
};

/// The most records in one batch. The fold stores each batch in one transaction.
pub const MAX_BATCH: usize = 1000;

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it, by the server's clock.
    pub time: OffsetDateTime,
    /// Its content.
    pub record: Record,
}

/// A record's content.
#[derive(Clone, Debug)]
pub enum Record {
    /// Ownership changed.
    Lease {
        /// The sector.
        sector: SectorId,
        /// The new owner; `None` for the manager's records.
        owner: Option<WorkerName>,
        /// The lease record.
        record: LeaseRecord,
    },
    /// A worker's report.
    Event {
        /// The sector.
        sector: SectorId,
        /// The worker, by the subject, which only this worker may write to.
        worker: WorkerName,
        /// The event.
        event: Event,
    },
    /// A manager's answer.
    Fact {
        /// The sector.
        sector: SectorId,
        /// The worker that it is for.
        worker: WorkerName,
        /// The fact.
        fact: Fact,
    },
    /// The record cannot be decoded. It stays in the stream; the fold skips and reports it.
    Unreadable {
        /// Its subject.
        subject: String,
        /// The cause.
        why: String,
    },
}

/// A reader that starts after the last folded record.
pub struct SectorsLog {
    messages: pull::Stream,
    /// The last record that was returned but not yet acknowledged.
    last: Option<jetstream::Message>,
    /// The sequence of the last record that was read, or after which we started.
    last_sequence: u64,
    /// How many records the server has delivered since the log was opened. A gap means that another reader got some.
    deliveries: u64,
}

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the log of sectors")]
pub struct LogError {
    /// What was attempted.
    pub operation: &'static str,
    /// The cause.
    #[source]
    pub source: async_nats::Error,
}

impl Bus {
    /// Removes a finished sector's events and facts. Its last lease record stays, because it is the fence.
    pub async fn purge(&self, sector: SectorId) -> Result<(), PublishError> {
        for filter in [subject::all_events_of(sector), subject::all_facts_of(sector)] {
            let unknown = |source: async_nats::Error| PublishError::Unknown { subject: filter.clone(), source };
            let stream = self.js.get_stream_no_info(topology::SECTORS).await.map_err(|e| unknown(e.into()))?;
            stream.purge().filter(filter.clone()).await.map_err(|e| unknown(e.into()))?;
        }
        Ok(())
    }

    /// Opens the log after `last_sequence`. Records that a previous process took without acknowledging are delivered
    /// again, and its open pulls are ended: a process that hangs, or whose host is gone, may have some for a while.
    pub async fn open_log(&self, last_sequence: u64) -> Result<SectorsLog, LogError> {
        let failed = |operation| move |source: async_nats::Error| LogError { operation, source };
        let stream =
            self.js.get_stream_no_info(topology::SECTORS).await.map_err(|source| failed("find")(source.into()))?;
        if let Err(error) = stream.delete_consumer(topology::FOLD).await {
            tracing::debug!(%error, "no earlier reader");
        }
        self.js
            .create_consumer_on_stream(topology::fold(), topology::SECTORS)
            .await
            .map_err(|source| failed("make the reader of")(source.into()))?;
        stream
            .reset_consumer(topology::FOLD, Some(last_sequence + 1))
            .await
            .map_err(|source| failed("rewind")(source.into()))?;
        let consumer: jetstream::consumer::PullConsumer =
            stream.get_consumer(topology::FOLD).await.map_err(failed("open"))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MAX_BATCH)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(10))
            .messages()
            .await
            .map_err(|source| failed("open")(source.into()))?;
        Ok(SectorsLog { messages, last: None, last_sequence, deliveries: 0 })
    }
}

impl SectorsLog {
    /// Waits for records, and returns all that are available, at most [`MAX_BATCH`]. Sequences rise, and no record is
    /// skipped: if the server delivered one to another reader or to a lost connection, this is an error.
    pub async fn next_batch(&mut self) -> Result<Vec<Entry>, LogError> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let next = self.messages.next().await;
            batch.extend(self.take(next)?);
        }
        while batch.len() < MAX_BATCH {
            // Without tokio's cooperative budget: once that is used up, ready records look pending, and batches stay
            // small.
            let Some(next) = tokio::task::unconstrained(self.messages.next()).now_or_never() else { break };
            batch.extend(self.take(next)?);
        }
        Ok(batch)
    }

    /// Takes a delivered record. `None` if it was read before and is delivered again.
    fn take(
        &mut self,
        next: Option<Result<jetstream::Message, pull::MessagesError>>,
    ) -> Result<Option<Entry>, LogError> {
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(source)) => return Err(LogError { operation: "read", source: source.into() }),
            None => return Err(LogError { operation: "read", source: "the pull ended".into() }),
        };
        let info = message.info().map_err(|source| LogError { operation: "read", source })?;
        self.deliveries += 1;
        if info.consumer_sequence != self.deliveries {
            return Err(LogError { operation: "read", source: "records were delivered to another reader".into() });
        }
        // A record that was not acknowledged in time is delivered again.
        if info.stream_sequence <= self.last_sequence {
            return Ok(None);
        }
        self.last_sequence = info.stream_sequence;
        let record = read(message.subject.as_str(), &message.payload);
        let entry = Entry { sequence: info.stream_sequence, time: info.published, record };
        self.last = Some(message);
        Ok(Some(entry))
    }

    /// Tells the server that everything returned so far is folded and stored. If this is lost, records come again.
    pub async fn acknowledge(&mut self) {
        if let Some(message) = self.last.take()
            && let Err(error) = message.ack().await
        {
            tracing::debug!(%error, "the acknowledgement was not sent; the records will come again");
        }
    }
}

/// Decodes a record.
pub fn read(subject: &str, payload: &[u8]) -> Record {
    let unreadable = |why: String| Record::Unreadable { subject: subject.to_owned(), why };
    let decoded = match subject.parse() {
        // It has moved the server's fence, even if it cannot be read.
        Ok(Subject::Lease { sector, owner }) => {
            let record = codec::decode(payload).unwrap_or_else(|error| {
                tracing::error!(subject, %error, "an unreadable lease record; it changes no owner");
                LeaseRecord::Unknown
            });
            return Record::Lease { sector, owner, record };
        }
        Ok(Subject::Event { sector, worker }) => {
            codec::decode(payload).map(|event| Record::Event { sector, worker, event })
        }
        Ok(Subject::Fact { sector, worker, .. }) => {
            codec::decode(payload).map(|fact| Record::Fact { sector, worker, fact })
        }
        Ok(_) => return unreadable("not a subject of a sector's log".to_owned()),
        Err(error) => return unreadable(error.to_string()),
    };
    decoded.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        unreadable(format!("{error}{cause}"))
    })
}
