//! What a worker reports about a sector that it owns.

use std::time::Duration;

use sealbus_schema::{
    SectorId, WorkerName, codec,
    lease::{Right, Standing},
    message::Event,
};

use crate::{
    Bus,
    lease::ReadError,
    publish::{Backoff, CLASS_HEADER, Outgoing, PublishError, Secret, Stored, TOKEN_HEADER},
    subject,
};

/// How often an event is published again after the fence has moved, before the caller gets an error.
const FENCES: u32 = 20;

impl Bus {
    /// Publishes an event under a lease of the present stream; see [`report_under`](Self::report_under).
    pub async fn report(&self, sector: SectorId, worker: &WorkerName, event: &Event) -> Result<Stored, PublishError> {
        self.report_under(sector, &Right { worker, token: event.token, foreign: None }, event, None).await
    }

    /// Publishes an event, fenced by its token, through outages of any length and with the same id each time.
    /// [`PublishError::Fenced`] means that the manager has ended the worker's ownership; [`PublishError::Open`] means
    /// that the owner is not decided yet. If the manager has reinstated the worker, the event is published behind that
    /// record. With the same secret an event has the same id after a restart, and is stored only once.
    pub async fn report_under(
        &self,
        sector: SectorId,
        right: &Right<'_>,
        event: &Event,
        secret: Option<Secret>,
    ) -> Result<Stored, PublishError> {
        // A lease of a lost stream has no record to expect until the log has been read.
        let mut fence = right.foreign.is_none().then_some(right.token.0);
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
        let subject = subject::event(sector, right.worker);
        for _ in 0..FENCES {
            if let Some(fence) = fence {
                match self.publish_event(sector, right.worker, event, (fence, secret)).await {
                    Err(PublishError::Fenced { .. }) => tokio::time::sleep(backoff.next_pause()).await,
                    outcome => return outcome,
                }
            }
            let standing = self.standing(sector, right).await;
            match standing
                .map_err(|source| PublishError::Unknown { subject: subject.clone(), source: source.into() })?
            {
                Standing::Ours { fence: moved, .. } => fence = Some(moved),
                Standing::Anothers { owner } => {
                    return Err(PublishError::Open { subject, by: Some(owner.to_string()) });
                }
                Standing::Open { by } => return Err(PublishError::Open { subject, by: by.map(|by| by.to_string()) }),
                Standing::Gone => return Err(PublishError::Fenced { subject }),
            }
        }
        Err(PublishError::Unknown { subject, source: "the fence keeps moving".into() })
    }

    async fn publish_event(
        &self,
        sector: SectorId,
        worker: &WorkerName,
        event: &Event,
        (fence, secret): (u64, Option<Secret>),
    ) -> Result<Stored, PublishError> {
        let mut headers = vec![(TOKEN_HEADER, event.token.to_string())];
        if let Some(error) = event.body.error() {
            headers.push((CLASS_HEADER, error.class.name().to_owned()));
        }
        let out = Outgoing {
            subject: subject::event(sector, worker),
            message_id: format!("{}.{}.{}.{}", sector.miner, sector.number, event.token, event.number),
            secret,
            kind: event.body.kind(),
            payload: codec::encode(event)?,
            fence: Some((sector, fence)),
            headers,
        };
        self.publish_patiently(&out).await
    }

    /// The last event of a worker about a sector.
    pub async fn last_event(&self, sector: SectorId, worker: &WorkerName) -> Result<Option<Event>, ReadError> {
        let Some((subject, sequence, payload)) = self.last_record(&subject::event(sector, worker)).await? else {
            return Ok(None);
        };
        codec::decode(&payload).map(Some).map_err(|source| ReadError::Unreadable { subject, sequence, source })
    }
}
