//! The records that must still be published on the bus.

use sealbus_schema::{MinerId, SectorId, SectorNumber, WorkerName, codec};
use sqlx::Row;

use super::{
    Outgoing, Store, StoreError, Tx,
    rows::{self, Places},
    sql,
    statements::Statement,
};

/// The kind of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// An intent; the payload is a packed [`Intent`](sealbus_schema::message::Intent).
    Intent,
    /// A fact; the payload is a packed [`Fact`](sealbus_schema::message::Fact).
    Fact {
        /// The receiver.
        worker: WorkerName,
    },
    /// The end of a lease; the payload is the reason as text.
    Release,
    /// Names a sector's present owner; the payload is a packed [`LeaseRecord`](sealbus_schema::message::LeaseRecord).
    Reinstate,
    /// Deletes an ended sector's events from the log; there is no payload.
    Purge,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The row's number. Later rows have higher numbers.
    pub id: i64,
    /// Its kind.
    pub kind: OutboxKind,
    /// The sector.
    pub sector: SectorId,
    /// The lease that the row belongs to: its token, or the last lease record if the sector has no owner.
    pub lease_sequence: u64,
    /// The bytes to publish.
    pub payload: Vec<u8>,
}

impl Store {
    /// The oldest rows with numbers above `after`.
    pub async fn outbox(&self, after: i64, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM outbox WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the outbox"))?;
        rows.iter()
            .map(|row| {
                let id: i64 = row.get("id");
                let bad = |problem: String| StoreError::BadRow { what: format!("outbox {id}"), problem };
                let miner: MinerId = row.get::<String, _>("miner").parse().map_err(|e| bad(format!("{e}")))?;
                let kind: String = row.get("kind");
                let worker: Option<String> = row.get("worker");
                let kind = match (kind.as_str(), worker) {
                    ("intent", None) => OutboxKind::Intent,
                    ("release", None) => OutboxKind::Release,
                    ("reinstate", None) => OutboxKind::Reinstate,
                    ("purge", None) => OutboxKind::Purge,
                    ("fact", Some(worker)) => {
                        OutboxKind::Fact { worker: worker.parse().map_err(|e| bad(format!("{e}")))? }
                    }
                    (kind, _) => return Err(bad(format!("kind {kind}"))),
                };
                Ok(OutboxRow {
                    id,
                    kind,
                    sector: SectorId { miner, number: SectorNumber(row.get::<i64, _>("number") as u64) },
                    lease_sequence: row.get::<i64, _>("lease_sequence") as u64,
                    payload: row.get("payload"),
                })
            })
            .collect()
    }

    /// Removes rows that are on the bus.
    pub async fn remove_from_outbox(&self, ids: &[i64]) -> Result<(), StoreError> {
        let _turn = self.turn_to_write().await?;
        for ids in rows::chunks(ids) {
            let text = format!("DELETE FROM outbox WHERE id IN ({})", self.places().list(1, ids.len()));
            let query = ids.iter().fold(sqlx::query(&text), |query, id| query.bind(*id));
            query.execute(&self.pool).await.map_err(sql("clear the outbox"))?;
        }
        Ok(())
    }
}

impl Tx {
    /// Adds rows to the outbox, in this order.
    pub(crate) async fn add_to_outbox(&mut self, outgoing: &[(SectorId, Outgoing)]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(outgoing).map(move |outgoing| insert(places, outgoing));
        self.execute_each("fill the outbox", Box::new(statements)).await.map(drop)
    }
}

fn insert<'q>(places: Places, outgoing: &'q [(SectorId, Outgoing)]) -> Statement<'q> {
    let into = "INSERT INTO outbox (kind, miner, number, worker, lease_sequence, payload) VALUES ";
    let statement = Statement::of_rows(places, into, (outgoing.len(), 6), "");
    outgoing.iter().fold(statement, |statement, (sector, outgoing)| {
        let (kind, worker, lease_sequence, payload) = match outgoing {
            Outgoing::Intent(intent) => ("intent", None, intent.lease_sequence, codec::encode(intent)),
            Outgoing::Fact { worker, token, fact } => ("fact", Some(worker.as_str()), token.0, codec::encode(fact)),
            Outgoing::Release { lease_sequence, reason } => {
                ("release", None, *lease_sequence, Ok(reason.clone().into_bytes()))
            }
            Outgoing::Reinstate { after, record } => ("reinstate", None, *after, codec::encode(record)),
            Outgoing::Purge { lease_sequence } => ("purge", None, *lease_sequence, Ok(Vec::new())),
        };
        let statement = statement
            .bind(kind)
            .bind(sector.miner.to_string())
            .bind(sector.number.0 as i64)
            .bind(worker)
            .bind(lease_sequence as i64);
        match payload {
            Ok(payload) => statement.bind(payload),
            Err(error) => statement.failed(error.into()),
        }
    })
}
