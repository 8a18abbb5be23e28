//! The claim, and the fence that follows from it.
//!
//! A claim is a lease record published with the expectation that the sector's last lease record is still the one that
//! the intent names. The server stores at most one such claim; its stream sequence is the **token**. Everything the
//! owner writes afterwards expects that number, so that an owner that lost its lease is refused (10071).

use sealbus_schema::{
    SectorId, Token, WorkerName, codec,
    lease::{Right, Standing, standing},
    message::{Event, Intent, LeaseRecord},
};

use crate::{
    Bus,
    publish::{Outgoing, PublishError, Stored},
    subject::{self, Subject},
    topology,
};

pub use sealbus_schema::lease::Lease;

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The sector is ours under this token. It may be a token that the caller already holds.
    Won(Token),
    /// The intent is stale: another worker has claimed the sector since.
    Lost,
}

/// Why a record could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server did not answer, or not in time.
    #[error("cannot read {what} from NATS")]
    Server {
        /// What was to be read.
        what: String,
        /// The cause.
        #[source]
        source: async_nats::Error,
    },
    /// There is a record that this release cannot decode.
    #[error("{subject} at sequence {sequence} is unreadable")]
    Unreadable {
        /// Its subject.
        subject: String,
        /// Its sequence.
        sequence: u64,
        /// The cause.
        #[source]
        source: codec::CodecError,
    },
}

/// The outcome of a claim that the server refused, judged by the sector's last lease record and our last event.
///
/// If the last record is our own, the claim was stored and only its acknowledgement was lost. But if we have already
/// reported under it, the claim is used up: its journal is lost or finished, and event numbers must not start again.
pub fn refused_claim(
    intent: &Intent,
    worker: &WorkerName,
    lease: Option<&Lease>,
    reported: Option<&Event>,
) -> ClaimOutcome {
    let Some(Lease { sequence, owner: Some(owner), record: LeaseRecord::Claim { intent: claimed, .. } }) = lease else {
        return ClaimOutcome::Lost;
    };
    let token = Token(*sequence);
    let unused = reported.is_none_or(|event| event.token != token);
    if owner == worker && claimed.lease_sequence == intent.lease_sequence && unused {
        ClaimOutcome::Won(token)
    } else {
        ClaimOutcome::Lost
    }
}

impl Bus {
    /// Claims the sector of an intent.
    ///
    /// Waits through outages. A claim whose acknowledgement was lost, even in a crash of this process, is found again
    /// and counts as won.
    pub async fn claim(&self, intent: &Intent, worker: &WorkerName, host: &str) -> Result<ClaimOutcome, ClaimError> {
        let sector = intent.sector;
        let record = LeaseRecord::Claim { intent: intent.clone(), host: host.to_owned() };
        let nonce = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        let out = Outgoing {
            subject: subject::lease(sector, worker),
            message_id: format!(
                "{}.{}.claim.{}.{worker}.{nonce:x}",
                sector.miner, sector.number, intent.lease_sequence
            ),
            secret: None,
            kind: "claim",
            payload: codec::encode(&record).map_err(PublishError::from)?,
            fence: Some((sector, intent.lease_sequence)),
            headers: vec![("Seal-Expect-Lease", intent.lease_sequence.to_string())],
        };
        match self.publish_patiently(&out).await {
            Ok(stored) => Ok(ClaimOutcome::Won(Token(stored.sequence))),
            Err(PublishError::Fenced { .. }) => {
                let lease = self.last_lease(sector).await?;
                let reported = self.last_event(sector, worker).await?;
                Ok(refused_claim(intent, worker, lease.as_ref(), reported.as_ref()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The sector's last lease record, from the stream's leader.
    pub async fn last_lease(&self, sector: SectorId) -> Result<Option<Lease>, ReadError> {
        self.lease_at(&subject::leases_of(sector)).await
    }

    /// What the log says about a worker's right to a sector.
    pub async fn standing(&self, sector: SectorId, right: &Right<'_>) -> Result<Standing, ReadError> {
        let last = self.last_lease(sector).await?;
        let word = match standing(right, last.as_ref(), None) {
            Standing::Open { by: Some(_) } => self.lease_at(&subject::release(sector)).await?,
            decided => return Ok(decided),
        };
        Ok(standing(right, last.as_ref(), word.as_ref()))
    }

    async fn lease_at(&self, what: &str) -> Result<Option<Lease>, ReadError> {
        let Some((subject, sequence, payload)) = self.last_record(what).await? else {
            return Ok(None);
        };
        // Even an unreadable record has moved the fence.
        let record = codec::decode(&payload).unwrap_or(LeaseRecord::Unknown);
        let owner = match subject.parse() {
            Ok(Subject::Lease { owner, .. }) => owner,
            _ => None,
        };
        Ok(Some(Lease { sequence, owner, record }))
    }

    /// Takes the sector from its owner, if the last lease record is still the one with this sequence. Otherwise the
    /// result is `Fenced`, also if this release itself was stored and only its acknowledgement lost; the fold then
    /// shows it.
    pub async fn release(&self, sector: SectorId, lease_sequence: u64, reason: &str) -> Result<u64, PublishError> {
        let record = LeaseRecord::Release { reason: reason.to_owned() };
        let out = Outgoing {
            subject: subject::release(sector),
            message_id: format!("{}.{}.release.{lease_sequence}", sector.miner, sector.number),
            secret: None,
            kind: "release",
            payload: codec::encode(&record)?,
            fence: Some((sector, lease_sequence)),
            headers: Vec::new(),
        };
        Ok(self.publish(&out).await?.sequence)
    }

    /// Records in the log that a sector still belongs to its owner. `fence` is the sequence of the last lease record.
    pub async fn reinstate(&self, sector: SectorId, fence: u64, record: &LeaseRecord) -> Result<Stored, PublishError> {
        let out = Outgoing {
            subject: subject::release(sector),
            message_id: format!("{}.{}.reinstate.{fence}", sector.miner, sector.number),
            secret: None,
            kind: "reinstate",
            payload: codec::encode(record)?,
            fence: Some((sector, fence)),
            headers: Vec::new(),
        };
        self.publish(&out).await
    }

    /// The last record of a subject or wildcard: subject, sequence, payload.
    pub(crate) async fn last_record(&self, subject: &str) -> Result<Option<(String, u64, Vec<u8>)>, ReadError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind;
        let failed = |source: async_nats::Error| ReadError::Server { what: subject.to_owned(), source };
        let stream = self.js.get_stream_no_info(topology::SECTORS).await.map_err(|source| failed(source.into()))?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some((message.subject.to_string(), message.sequence, message.payload.to_vec()))),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Why a claim has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The claim could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The present lease could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
