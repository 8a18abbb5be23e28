//! The history of each sector.

use sealbus_schema::SectorId;
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;

use super::{
    Store, StoreError, Tx,
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

/// Something that happened to a sector. `Detail` is JSON: text before it is stored, a value when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// A sector's history, oldest first.
    pub async fn history(&self, id: SectorId) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM history WHERE miner = $1 AND number = $2 ORDER BY id")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read a sector's history"))?;
        rows.iter()
            .map(|row| {
                let happening = Happening {
                    at: row.get("at"),
                    sequence: row.get::<Option<i64>, _>("sequence").map(|s| s as u64),
                    actor: row.get("actor"),
                    token: row.get::<Option<i64>, _>("token").map(|t| t as u64),
                    kind: row.get("kind"),
                    detail: serde_json::from_str(row.get("detail")).map_err(bad_row(id))?,
                };
                Ok(HistoryEntry { happening, verdict: row.get("verdict") })
            })
            .collect()
    }
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
        self.execute_each("record what happened", Box::new(statements)).await.map(drop)
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
