//! The waits, and when the manager was last seen working. All times come from the database's own clock.

use std::time::Duration;

use sealbus_schema::{ErrorClass, ErrorCode, SectorId};
use sqlx::{Row, any::AnyRow};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Places, Store, StoreError, Tx, sql};
use crate::{
    config::Database,
    waits::{Cause, Subject, Wait},
};

const SQLITE_CLOCK: &str = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')";
const POSTGRES_CLOCK: &str = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// When the manager that holds the fold was last seen working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerSeen {
    /// The time of its last sign of life.
    pub at: String,
    /// Its host.
    pub host: String,
    /// How many seconds ago that was.
    pub age_secs: i64,
}

impl Store {
    /// All waits.
    pub async fn waits(&self) -> Result<Vec<Wait>, StoreError> {
        let rows = sqlx::query("SELECT * FROM waits ORDER BY kind, name")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read what waits"))?;
        rows.iter().map(from_row).collect()
    }

    /// The manager's last sign of life. `None` if no manager ever worked on this database.
    pub async fn manager_seen(&self) -> Result<Option<ManagerSeen>, StoreError> {
        let text = format!("SELECT seen_at, seen_host, {} AS now FROM fold WHERE seen_at IS NOT NULL", self.clock());
        let row = sqlx::query(&text).fetch_optional(&self.pool).await.map_err(sql("read when the manager was seen"))?;
        let Some(row) = row else { return Ok(None) };
        let (at, now): (String, String) = (row.get("seen_at"), row.get("now"));
        let host = row.get::<Option<String>, _>("seen_host").unwrap_or_default();
        Ok(Some(ManagerSeen { age_secs: secs_between(&at, &now).unwrap_or_default(), at, host }))
    }

    /// The time by the database's clock.
    pub async fn clock_now(&self) -> Result<String, StoreError> {
        let text = format!("SELECT {} AS now", self.clock());
        let row = sqlx::query(&text).fetch_one(&self.pool).await.map_err(sql("read the database's clock"))?;
        Ok(row.get("now"))
    }

    const fn clock(&self) -> &'static str {
        match self.database {
            Database::Sqlite { .. } => SQLITE_CLOCK,
            Database::Postgres { .. } => POSTGRES_CLOCK,
        }
    }
}

impl Tx {
    /// Records that something waits, or still waits. The time since when it waits is kept.
    pub async fn save_wait(
        &mut self,
        subject: &Subject,
        cause: &Cause,
        retry: Duration,
        tries: u64,
    ) -> Result<(), StoreError> {
        let clock = self.clock();
        let text = format!(
            "INSERT INTO waits (kind, name, sector, class, code, cause, since, tried_at, retry_ms, tries) \
             VALUES ($1, $2, $3, $4, $5, $6, {clock}, {clock}, $7, $8) \
             ON CONFLICT (kind, name) DO UPDATE SET class = excluded.class, code = excluded.code, \
             cause = excluded.cause, tried_at = excluded.tried_at, retry_ms = excluded.retry_ms, \
             tries = excluded.tries"
        );
        sqlx::query(&text)
            .bind(subject.kind())
            .bind(subject.name())
            .bind(subject.sector().map(|sector| sector.to_string()))
            .bind(cause.class.name())
            .bind(cause.code.as_str())
            .bind(&cause.text)
            .bind(i64::try_from(retry.as_millis()).unwrap_or(i64::MAX))
            .bind(i64::try_from(tries).unwrap_or(i64::MAX))
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record what waits"))?;
        Ok(())
    }

    /// Records that something no longer waits.
    pub async fn end_wait(&mut self, subject: &Subject) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM waits WHERE kind = $1 AND name = $2")
            .bind(subject.kind())
            .bind(subject.name())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record that something goes on"))?;
        Ok(())
    }

    /// Records that the manager that holds the fold is working.
    pub async fn note_seen(&mut self, host: &str) -> Result<(), StoreError> {
        let text = format!("UPDATE fold SET seen_at = {}, seen_host = $1 WHERE \"only\" = 1", self.clock());
        sqlx::query(&text).bind(host).execute(&mut *self.inner).await.map_err(sql("record a sign of life"))?;
        Ok(())
    }

    const fn clock(&self) -> &'static str {
        match self.places {
            Places::Plain => SQLITE_CLOCK,
            Places::Numbered => POSTGRES_CLOCK,
        }
    }
}

/// The seconds between two times of one clock.
pub fn secs_between(from: &str, to: &str) -> Option<i64> {
    let read = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    Some((read(to)? - read(from)?).whole_seconds())
}

fn from_row(row: &AnyRow) -> Result<Wait, StoreError> {
    let (kind, name): (String, String) = (row.get("kind"), row.get("name"));
    let bad = |problem: String| StoreError::BadRow { what: format!("the wait of {kind} {name}"), problem };
    let sector = || -> Result<SectorId, StoreError> {
        let text: Option<String> = row.get("sector");
        text.unwrap_or_default().parse().map_err(|error| bad(format!("{error}")))
    };
    let subject = match kind.as_str() {
        "sector" => Subject::Sector(sector()?),
        "message" => Subject::Message {
            key: name.clone(),
            sector: row.get::<Option<String>, _>("sector").is_some().then(sector).transpose()?,
        },
        "miner" => Subject::Miner(name.parse().map_err(|error| bad(format!("{error}")))?),
        "store" => Subject::Store(name.clone()),
        "node" if name.is_empty() => Subject::Node,
        "node" => Subject::OneNode(name.clone()),
        "bus" => Subject::Bus(name.clone()),
        "proof" => Subject::Proof(name.parse().map_err(|error| bad(format!("{error}")))?),
        "ahead" => Subject::Ahead(name.parse().map_err(|error| bad(format!("{error}")))?),
        "proofs" => Subject::NextProofs(name.parse().map_err(|error| bad(format!("{error}")))?),
        "blocks" => Subject::Blocks(name.parse().map_err(|error| bad(format!("{error}")))?),
        "outbox" => Subject::Outbox { row: name.parse().map_err(|error| bad(format!("{error}")))?, sector: sector()? },
        other => return Err(bad(format!("kind {other}"))),
    };
    let class = match row.get::<String, _>("class").as_str() {
        "temp" => ErrorClass::Temp,
        _ => ErrorClass::Crit,
    };
    Ok(Wait {
        subject,
        cause: Cause { class, code: ErrorCode::from_text(&row.get::<String, _>("code")), text: row.get("cause") },
        since: row.get("since"),
        tried_at: row.get("tried_at"),
        retry: Duration::from_millis(row.get::<i64, _>("retry_ms").max(0) as u64),
        tries: row.get::<i64, _>("tries").max(0) as u64,
    })
}
