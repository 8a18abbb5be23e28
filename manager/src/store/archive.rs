//! The history of sectors whose job has ended, compressed.
//!
//! The end of a job is noted. Some days later the sector's lines become one row of `archived_history`: JSON, compressed with
//! zlib. What happens to the sector later is stored as lines again, which become another row. [`Store::history`] reads both.

use std::time::Duration;

use miniz_oxide::{deflate, inflate};
use sealbus_schema::SectorId;
use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};

use super::{
    Happening, Job, Outgoing, Store, StoreError, Tx,
    jobs::id_from_row,
    rows::{self, Places},
    sql,
    statements::Statement,
};

/// Seconds since 1970 by the database's own clock, so that an age never depends on the clocks of two hosts.
const SQLITE_SECS: &str = "CAST(strftime('%s', 'now') AS BIGINT)";
const POSTGRES_SECS: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)";
/// zlib's level, of 10. Higher ones gain little on a few kilobytes.
const LEVEL: u8 = 6;
/// The most bytes that one row may unpack to. A sector that failed for months has some megabytes.
const LINES_MAX: usize = 256 << 20;

/// A line of `history` as it stands there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) happening: Happening,
    pub(super) verdict: String,
}

impl Store {
    /// Archives the history of at most `limit` sectors whose job ended at least `age` ago. Returns how many were looked at.
    pub async fn archive_history(&self, epoch: i64, age: Duration, limit: u32) -> Result<usize, StoreError> {
        let mut tx = self.begin_as(epoch).await?;
        let ended = tx.ended_before(age, limit).await?;
        for sectors in ended.chunk_by(|a, b| a.miner == b.miner).flat_map(rows::chunks) {
            tx.archive(sectors).await?;
        }
        tx.commit().await?;
        Ok(ended.len())
    }
}

impl Tx {
    /// Notes that the jobs of these sectors have ended now.
    pub(super) async fn archive_later(&mut self, sectors: &[SectorId]) -> Result<(), StoreError> {
        let (places, now) = (self.places, self.secs());
        let statements = rows::chunks(sectors).map(move |sectors| {
            let into = format!(
                "INSERT INTO to_archive (miner, number, ended_secs) SELECT new.column1, new.column2, {now} FROM (VALUES "
            );
            let again = ") AS new WHERE true ON CONFLICT (miner, number) DO UPDATE SET ended_secs = excluded.ended_secs";
            let statement = Statement::of_rows(places, &into, (sectors.len(), 2), again);
            sectors.iter().fold(statement, |statement, id| {
                statement.bind(id.miner.to_string()).bind(id.number.0 as i64)
            })
        });
        self.execute_each("note that jobs have ended", Box::new(statements)).await.map(drop)
    }

    /// At most `limit` sectors whose job ended at least `age` ago, by miner and number.
    async fn ended_before(&mut self, age: Duration, limit: u32) -> Result<Vec<SectorId>, StoreError> {
        let text = format!(
            "SELECT miner, number FROM to_archive WHERE ended_secs <= {} - $1 ORDER BY ended_secs LIMIT $2",
            self.secs()
        );
        let rows = sqlx::query(&text)
            .bind(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.inner)
            .await
            .map_err(sql("look for history to archive"))?;
        let mut ended = rows.iter().map(id_from_row).collect::<Result<Vec<_>, _>>()?;
        ended.sort_unstable();
        Ok(ended)
    }

    /// Archives the history of these sectors of one miner, except of those with another job that goes on.
    async fn archive(&mut self, sectors: &[SectorId]) -> Result<(), StoreError> {
        let of_sectors =
            format!("miner = {} AND number IN ({})", self.places.list(1, 1), self.places.list(2, sectors.len()));
        let live = format!("SELECT miner, number FROM jobs WHERE {of_sectors} AND ended = 0");
        let live = self.rows_of(&live, sectors).await?;
        let live = live.iter().map(id_from_row).collect::<Result<Vec<_>, _>>()?;
        self.rows_of(&format!("DELETE FROM to_archive WHERE {of_sectors}"), sectors).await?;

        let sectors: Vec<SectorId> = sectors.iter().copied().filter(|id| !live.contains(id)).collect();
        // Backups are younger than this, so nobody needs the log of these sectors any more. Their last lease records stay,
        // because they are the fence.
        let ended = self.sectors(&sectors.iter().copied().collect()).await?;
        let purge = |job: Job| (job.id, Outgoing::Purge { lease_sequence: job.ownership.last_lease() });
        self.add_to_outbox(&ended.into_iter().map(purge).collect::<Vec<_>>()).await?;
        for sectors in rows::chunks(&sectors) {
            let of_sectors =
                format!("miner = {} AND number IN ({})", self.places.list(1, 1), self.places.list(2, sectors.len()));
            let lines = format!("SELECT * FROM history WHERE {of_sectors} ORDER BY miner, number, id");
            let lines = self.rows_of(&lines, sectors).await?;
            let mut archived = Vec::new();
            for lines in lines.chunk_by(|a, b| a.get::<i64, _>("number") == b.get::<i64, _>("number")) {
                archived.push(Archived::of(lines)?);
            }
            let places = self.places;
            let statements = rows::chunks(&archived).map(|archived| insert(places, archived));
            self.execute_each("archive history", Box::new(statements)).await?;
            self.rows_of(&format!("DELETE FROM history WHERE {of_sectors}"), sectors).await?;
        }
        Ok(())
    }

    /// The rows that a statement about these sectors of one miner returns.
    async fn rows_of(&mut self, statement: &str, sectors: &[SectorId]) -> Result<Vec<AnyRow>, StoreError> {
        let query = sqlx::query(statement).bind(sectors.first().map(|id| id.miner.to_string()));
        let query = sectors.iter().fold(query, |query, id| query.bind(id.number.0 as i64));
        query.fetch_all(&mut *self.inner).await.map_err(sql("archive history"))
    }

    const fn secs(&self) -> &'static str {
        match self.places {
            Places::Plain => SQLITE_SECS,
            Places::Numbered => POSTGRES_SECS,
        }
    }
}

/// A row of `archived_history`.
struct Archived {
    sector: SectorId,
    last_id: i64,
    lines: Vec<u8>,
}

impl Archived {
    /// Of the lines of one sector, in their order.
    fn of(rows: &[AnyRow]) -> Result<Archived, StoreError> {
        let last = &rows[rows.len() - 1];
        let (sector, last_id) = (id_from_row(last)?, last.get("id"));
        let lines: Vec<Line> = rows.iter().map(line).collect();
        let text = serde_json::to_vec(&lines).map_err(|error| bad(sector, error))?;
        Ok(Archived { sector, last_id, lines: deflate::compress_to_vec_zlib(&text, LEVEL) })
    }
}

fn insert<'q>(places: Places, archived: &'q [Archived]) -> Statement<'q> {
    let into = "INSERT INTO archived_history (miner, number, last_id, lines) VALUES ";
    let statement = Statement::of_rows(places, into, (archived.len(), 4), "");
    archived.iter().fold(statement, |statement, Archived { sector, last_id, lines }| {
        statement.bind(sector.miner.to_string()).bind(sector.number.0 as i64).bind(*last_id).bind(lines.as_slice())
    })
}

/// A line from a row of `history`.
pub(super) fn line(row: &AnyRow) -> Line {
    let happening = Happening {
        at: row.get("at"),
        sequence: row.get::<Option<i64>, _>("sequence").map(|sequence| sequence as u64),
        actor: row.get("actor"),
        token: row.get::<Option<i64>, _>("token").map(|token| token as u64),
        kind: row.get("kind"),
        detail: row.get("detail"),
    };
    Line { happening, verdict: row.get("verdict") }
}

/// The lines of a row of `archived_history`.
pub(super) fn unpacked(sector: SectorId, lines: &[u8]) -> Result<Vec<Line>, StoreError> {
    let text = inflate::decompress_to_vec_zlib_with_limit(lines, LINES_MAX).map_err(|error| bad(sector, error))?;
    serde_json::from_slice(&text).map_err(|error| bad(sector, error))
}

fn bad(sector: SectorId, error: impl std::fmt::Display) -> StoreError {
    StoreError::BadRow { what: format!("the archived history of {sector}"), problem: error.to_string() }
}
