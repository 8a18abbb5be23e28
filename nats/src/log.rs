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

/// How many records one batch holds at most: what is stored in one transaction.
pub const MAX_BATCH: usize = 1000;

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it, by the server's clock.
    pub time: OffsetDateTime,
    /// What it says.
    pub record: Record,
}

/// What a record says.
#[derive(Clone, Debug)]
pub enum Record {
    /// Ownership changed.
    Lease {
        /// Of which sector.
        sector: SectorId,
        /// To whom.
        owner: Option<WorkerName>,
        /// The record.
        record: LeaseRecord,
    },
    /// A worker reported.
    Event {
        /// About which sector.
        sector: SectorId,
        /// Who, by the subject that it may write to.
        worker: WorkerName,
        /// What.
        event: Event,
    },
    /// A manager answered.
    Fact {
        /// About which sector.
        sector: SectorId,
        /// Whom.
        worker: WorkerName,
        /// What.
        fact: Fact,
    },
    /// Nobody can read it. Kept in the stream, skipped by the fold, reported.
    Unreadable {
        /// Where it stands.
        subject: String,
        /// Why.
        why: String,
    },
}

/// A reader that starts behind the last folded record.
pub struct SectorsLog {
    messages: pull::Stream,
    /// The last of the records that were returned and not acknowledged.
    last: Option<jetstream::Message>,
    /// The sequence of the last record that was read, or that we began behind.
    last_sequence: u64,
    /// How many records the server has given out since the log was opened, if none of them went to anybody else.
    deliveries: u64,
}

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the log of sectors")]
pub struct LogError {
    /// What was tried.
    pub operation: &'static str,
    /// Why.
    #[source]
    pub source: async_nats::Error,
}

impl Bus {
    /// Removes an ended sector's events and facts. Its last lease record stays: it is the fence.
    pub async fn purge(&self, sector: SectorId) -> Result<(), PublishError> {
        for filter in [subject::all_events_of(sector), subject::all_facts_of(sector)] {
            let unknown = |source: async_nats::Error| PublishError::Unknown { subject: filter.clone(), source };
            let stream = self.js.get_stream_no_info(topology::SECTORS).await.map_err(|e| unknown(e.into()))?;
            stream.purge().filter(filter.clone()).await.map_err(|e| unknown(e.into()))?;
        }
        Ok(())
    }

    /// Opens the log behind `last_sequence`. Whatever a previous process took and did not acknowledge is given again, and
    /// what it still waits for goes to us: a process that hangs, or whose host is gone, may wait for a while.
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
    /// Waits for records, and returns all that are there, at most [`MAX_BATCH`]. Their sequences rise, and no record is
    /// left out: an error tells when the server gave one to somebody else or to a connection that is gone.
    pub async fn next_batch(&mut self) -> Result<Vec<Entry>, LogError> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let next = self.messages.next().await;
            batch.extend(self.take(next)?);
        }
        while batch.len() < MAX_BATCH {
            // Without tokio's budget, after which whatever is there seems not to be, and batches stay small.
            let Some(next) = tokio::task::unconstrained(self.messages.next()).now_or_never() else { break };
            batch.extend(self.take(next)?);
        }
        Ok(batch)
    }

    /// Takes a delivered record. `None` for one that comes again and was read before.
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
        // What was not acknowledged in time comes again.
        if info.stream_sequence <= self.last_sequence {
            return Ok(None);
        }
        self.last_sequence = info.stream_sequence;
        let record = read(message.subject.as_str(), &message.payload);
        let entry = Entry { sequence: info.stream_sequence, time: info.published, record };
        self.last = Some(message);
        Ok(Some(entry))
    }

    /// Tells the server that everything returned so far is folded and stored. Losing this costs a repetition only.
    pub async fn acknowledge(&mut self) {
        if let Some(message) = self.last.take()
            && let Err(error) = message.ack().await
        {
            tracing::debug!(%error, "the acknowledgement was not sent; the records will come again");
        }
    }
}

/// Takes a record apart.
pub fn read(subject: &str, payload: &[u8]) -> Record {
    let unreadable = |why: String| Record::Unreadable { subject: subject.to_owned(), why };
    let decoded = match subject.parse() {
        // The server's fence has moved by it, whether or not anybody can read it.
        Ok(Subject::Lease { sector, owner }) => {
            let record = codec::decode(payload).unwrap_or_else(|error| {
                tracing::error!(subject, %error, "an unreadable lease record; it gives nobody anything");
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
