//! What a worker reports about a sector that it owns.

use sealbus_schema::{SectorId, WorkerName, codec, message::Event};

use crate::{
    Bus,
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
}
