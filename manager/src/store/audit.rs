//! Who ordered what, and why.

use serde::Serialize;
use sqlx::Row;

use super::{Store, StoreError, Tx, now_text, sql};

/// One order of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// When it was given, by that host's clock.
    pub at: String,
    /// Who gave it: the user who ran the command, and what else is known or claimed about the person.
    pub actor: String,
    /// The verb, such as `sectors resubmit`.
    pub verb: String,
    /// A sector, a miner, a worker, or a worker's slot.
    pub target: String,
    /// The reason, in the person's words.
    pub why: String,
    /// The details.
    pub detail: serde_json::Value,
}

/// Which orders to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only from this time on, in RFC 3339 and UTC.
    pub since: Option<String>,
    /// Only about this sector, worker or slot, or about a slot of this worker.
    pub target: Option<String>,
}

impl AuditEntry {
    /// An order that is given now.
    pub fn new(actor: &str, verb: &str, target: String, why: &str, detail: serde_json::Value) -> AuditEntry {
        AuditEntry {
            at: now_text(),
            actor: actor.to_owned(),
            verb: verb.to_owned(),
            target,
            why: why.to_owned(),
            detail,
        }
    }
}

impl Store {
    /// The orders, oldest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let target = filter.target.clone().unwrap_or_default();
        let rows = sqlx::query(
            "SELECT * FROM audit WHERE at >= $1 AND ($2 = '' OR target = $2 OR substr(target, 1, $3) = $4) ORDER BY id",
        )
        .bind(filter.since.clone().unwrap_or_default())
        .bind(target.clone())
        .bind(target.chars().count() as i32 + 1)
        .bind(format!("{target} "))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the audit"))?;
        rows.iter()
            .map(|row| {
                let detail: String = row.get("detail");
                let id: i64 = row.get("id");
                Ok(AuditEntry {
                    at: row.get("at"),
                    actor: row.get("actor"),
                    verb: row.get("verb"),
                    target: row.get("target"),
                    why: row.get("why"),
                    detail: serde_json::from_str(&detail)
                        .map_err(|e| StoreError::BadRow { what: format!("audit {id}"), problem: e.to_string() })?,
                })
            })
            .collect()
    }
}

impl Tx {
    /// Records an order, in the transaction of its changes.
    pub async fn add_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO audit (at, actor, verb, target, why, detail) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(&entry.at)
            .bind(&entry.actor)
            .bind(&entry.verb)
            .bind(&entry.target)
            .bind(&entry.why)
            .bind(entry.detail.to_string())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record an order"))?;
        Ok(())
    }
}
