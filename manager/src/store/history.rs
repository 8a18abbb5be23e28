//! The history of each sector.

use std::collections::BTreeSet;

use sealbus_schema::SectorId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;

use super::{
    Store, StoreError, Tx,
    archive::{self, Line},
    jobs::bad_row,
    now_text,
    rows::{self, Places},
    sql,
    statements::Statement,
};

/// How something that happened was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It changed the sector's state.
    Applied,
    /// It changed no state, and is kept as information.
    Noted,
    /// It should not have happened.
    Illegal,
    /// It came from somebody who does not own the sector.
    Fenced,
}

/// Something that happened to a sector. Its particulars are JSON: text until it is stored, read as a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening<Detail = String> {
    /// When: by the NATS server's clock for records of the log, by the manager's clock for everything else.
    pub at: String,
    /// The sequence of the record in the log, if there is one.
    pub sequence: Option<u64>,
    /// Who: a worker's name, or `manager`.
    pub actor: String,
    /// The lease's token, for a worker.
    pub token: Option<u64>,
    /// What happened.
    pub kind: String,
    /// The details.
    pub detail: Detail,
}

/// One line of a sector's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening<Value>,
    /// How it was judged, as [`Verdict::name`] writes it.
    pub verdict: String,
}

impl Happening {
    /// Something that the manager did or found out itself, now.
    pub fn of_manager(kind: &str, detail: Value) -> Happening {
        Happening {
            at: now_text(),
            sequence: None,
            actor: "manager".to_owned(),
            token: None,
            kind: kind.to_owned(),
            detail: detail.to_string(),
        }
    }
}

impl Verdict {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Applied => "applied",
            Verdict::Noted => "noted",
            Verdict::Illegal => "illegal",
            Verdict::Fenced => "fenced",
        }
    }
}

impl Store {
    /// A sector's history, oldest first, with what is archived of it.
    pub async fn history(&self, id: SectorId) -> Result<Vec<HistoryEntry>, StoreError> {
        // One statement, because lines may be archived meanwhile.
        let rows = sqlx::query(
            "SELECT id, at, sequence, actor, token, kind, detail, verdict, NULL AS lines FROM history \
             WHERE miner = $1 AND number = $2 \
             UNION ALL SELECT last_id, '', NULL, '', NULL, '', '', '', lines FROM archived_history \
             WHERE miner = $1 AND number = $2 ORDER BY 1",
        )
        .bind(id.miner.to_string())
        .bind(id.number.0 as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read a sector's history"))?;
        let mut lines = Vec::new();
        for row in &rows {
            match row.get::<Option<Vec<u8>>, _>("lines") {
                Some(archived) => lines.extend(archive::unpacked(id, &archived)?),
                None => lines.push(archive::line(row)),
            }
        }
        lines.into_iter().map(|line| entry(id, line)).collect()
    }
}

fn entry(id: SectorId, Line { happening, verdict }: Line) -> Result<HistoryEntry, StoreError> {
    let Happening { at, sequence, actor, token, kind, detail } = happening;
    let happening =
        Happening { at, sequence, actor, token, kind, detail: serde_json::from_str(&detail).map_err(bad_row(id))? };
    Ok(HistoryEntry { happening, verdict })
}

impl Tx {
    /// Adds a line to a sector's history.
    pub async fn add_history(&mut self, id: SectorId, entry: Happening, verdict: Verdict) -> Result<(), StoreError> {
        self.add_histories(&[(id, entry, verdict)]).await
    }

    /// Adds lines to the sectors' histories, in this order.
    pub(crate) async fn add_histories(&mut self, lines: &[(SectorId, Happening, Verdict)]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(lines).map(move |lines| insert(places, lines));
        self.execute_each("record what happened", Box::new(statements)).await?;
        let with_lease = lines.iter().filter(|(_, entry, _)| entry.token.is_some());
        let workers: BTreeSet<&str> = with_lease.map(|(_, entry, _)| entry.actor.as_str()).collect();
        self.know_workers(&workers.into_iter().collect::<Vec<_>>()).await
    }

    /// Remembers who has reported under a lease, because the reports themselves are archived later.
    async fn know_workers(&mut self, workers: &[&str]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(workers).map(move |workers| {
            let (into, known) = ("INSERT INTO workers (name) VALUES ", " ON CONFLICT (name) DO NOTHING");
            let statement = Statement::of_rows(places, into, (workers.len(), 1), known);
            workers.iter().fold(statement, |statement, worker| statement.bind(*worker))
        });
        self.execute_each("remember the workers", Box::new(statements)).await.map(drop)
    }
}

fn insert<'q>(places: Places, lines: &'q [(SectorId, Happening, Verdict)]) -> Statement<'q> {
    let into = "INSERT INTO history (miner, number, at, sequence, actor, token, kind, detail, verdict) VALUES ";
    let statement = Statement::of_rows(places, into, (lines.len(), 9), "");
    lines.iter().fold(statement, |statement, (id, entry, verdict)| {
        statement
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .bind(entry.at.as_str())
            .bind(entry.sequence.map(|s| s as i64))
            .bind(entry.actor.as_str())
            .bind(entry.token.map(|t| t as i64))
            .bind(entry.kind.as_str())
            .bind(entry.detail.as_str())
            .bind(verdict.name())
    })
}
