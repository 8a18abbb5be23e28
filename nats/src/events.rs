//! What a worker reports about a sector that it owns.

use sealbus_schema::{SectorId, WorkerName, codec, message::Event};

use crate::{
    Bus,
    lease::ReadError,
    publish::{CLASS_HEADER, Outgoing, PublishError, Stored, TOKEN_HEADER},
    subject,
};

impl Bus {
    /// Publishes an event, fenced by its token, through outages of any length and with the same id each time.
    /// [`PublishError::Fenced`] means that the worker does not own the sector any more.
    pub async fn report(&self, sector: SectorId, worker: &WorkerName, event: &Event) -> Result<Stored, PublishError> {
        let mut headers = vec![(TOKEN_HEADER, event.token.to_string())];
        if let Some(error) = event.body.error() {
            headers.push((CLASS_HEADER, error.class.name().to_owned()));
        }
        let out = Outgoing {
            subject: subject::event(sector, worker),
            message_id: format!("{}.{}.{}.{}", sector.miner, sector.number, event.token, event.number),
            kind: event.body.kind(),
            payload: codec::encode(event)?,
            fence: Some((sector, event.token.0)),
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
