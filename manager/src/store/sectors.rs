//! Sectors.

use std::collections::{BTreeSet, HashSet};

use sealbus_schema::{
    ErrorReport, MinerId, SealProof, SectorId, Token, Transition, WorkerName,
    lease::Ownership,
    machine::manager::{AttemptPolicy, Life, Standing},
    workflows::{Effect, Input, State},
};
use sqlx::Row;

use super::{
    Store, StoreError, Tx,
    columns::{COLUMNS, cells, from_row, id_from_row},
    looks, now_text,
    rows::{self, Places},
    sql,
    statements::Statement,
};

/// A job as the manager knows it: a workflow applied to a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which sector it is about.
    pub id: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// The current attempt, from 1. Each has a ticket of its own.
    pub attempt: u32,
    /// How often it was offered to the workers since a person last looked at it.
    pub issues: u32,
    /// How many orders to resubmit there were.
    pub resubmits: u32,
    /// Whether a message of this attempt has left, or may have left, and not failed.
    pub signed: bool,
    /// When its number was given out.
    pub created_at: String,
    /// When its row last changed.
    pub changed_at: String,
    /// Who owns it.
    pub ownership: Ownership,
    /// The server's time of its last lease record.
    pub leased_at: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Why a person must look at it, if one must.
    pub blocked: Option<ErrorReport>,
}

impl Job {
    /// What an input does to it.
    pub fn apply(&self, input: Input, policy: AttemptPolicy) -> Transition<Standing<State>, Effect> {
        self.standing().apply(input, policy)
    }

    /// Its state, and why a person must look at it, if one must.
    pub fn standing(&self) -> Standing<State> {
        Standing { at: self.state.clone(), blocked: self.blocked.clone() }
    }

    /// Whether it has done what it was for.
    pub fn is_done(&self) -> bool {
        self.state.traits().life == Life::Done
    }

    /// Puts it elsewhere.
    pub fn stand(&mut self, standing: Standing<State>) {
        (self.state, self.blocked) = (standing.at, standing.blocked);
    }
}

/// Which sectors to list.
#[derive(Clone, Debug, Default)]
pub struct SectorFilter {
    /// Of one miner only.
    pub miner: Option<MinerId>,
    /// In one state only, by its name.
    pub state: Option<String>,
    /// Only those that a person must look at.
    pub blocked: bool,
}

impl Store {
    /// The sectors that a filter selects, by miner and number.
    pub async fn sectors(&self, filter: &SectorFilter) -> Result<Vec<Job>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sectors WHERE (miner = $1 OR $1 = '') AND (state = $2 OR $2 = '') \
             AND (blocked IS NOT NULL OR $3 = 0) ORDER BY miner, number",
        )
        .bind(filter.miner.map(|m| m.to_string()).unwrap_or_default())
        .bind(filter.state.clone().unwrap_or_default())
        .bind(i64::from(filter.blocked))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// The sectors that still move: neither proving nor given up.
    pub async fn live_sectors(&self) -> Result<Vec<Job>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM sectors WHERE state NOT IN ('proving', 'aborted') ORDER BY miner, number")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("list sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// The sectors that wait for a worker in the queue, blocked ones among them.
    pub async fn queued_sectors(&self) -> Result<Vec<Job>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sectors WHERE state = 'queued' UNION ALL SELECT * FROM sectors WHERE state = 'requeued'",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list queued sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// Who has which sectors, and under which lease.
    pub async fn leases(&self) -> Result<Vec<(SectorId, WorkerName, Token)>, StoreError> {
        let rows = sqlx::query(
            "SELECT miner, number, owner, COALESCE(token, last_lease) AS token FROM sectors \
             WHERE owner IS NOT NULL",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list leases"))?;
        let lease = |row| {
            let id = id_from_row(row)?;
            let owner: String = row.get("owner");
            let bad = |error| StoreError::BadRow { what: format!("sector {id}"), problem: format!("{error}") };
            Ok((id, owner.parse().map_err(bad)?, Token(row.get::<i64, _>("token") as u64)))
        };
        rows.iter().map(lease).collect()
    }

    /// Those of these sectors that exist.
    pub async fn sectors_among(&self, ids: &[SectorId]) -> Result<Vec<Job>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunk_by(|a, b| a.miner == b.miner).flat_map(rows::chunks) {
            let text = format!(
                "SELECT * FROM sectors WHERE miner = {} AND number IN ({})",
                self.places().list(1, 1),
                self.places().list(2, ids.len())
            );
            let query = sqlx::query(&text).bind(ids.first().map(|id| id.miner.to_string()));
            let query = ids.iter().fold(query, |query, id| query.bind(id.number.0 as i64));
            for row in query.fetch_all(&self.pool).await.map_err(sql("read sectors"))? {
                found.push(from_row(&row)?);
            }
        }
        Ok(found)
    }

    /// One sector.
    pub async fn sector(&self, id: SectorId) -> Result<Option<Job>, StoreError> {
        let row = sqlx::query("SELECT * FROM sectors WHERE miner = $1 AND number = $2")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a sector"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// Which of these numbers a miner's sectors have.
    pub async fn numbers_among(&self, miner: MinerId, numbers: &[u64]) -> Result<HashSet<u64>, StoreError> {
        let mut found = HashSet::new();
        for numbers in rows::chunks(numbers) {
            let text = format!(
                "SELECT number FROM sectors WHERE miner = {} AND number IN ({})",
                self.places().list(1, 1),
                self.places().list(2, numbers.len())
            );
            let query =
                numbers.iter().fold(sqlx::query(&text).bind(miner.to_string()), |query, n| query.bind(*n as i64));
            let rows = query.fetch_all(&self.pool).await.map_err(sql("read sector numbers"))?;
            found.extend(rows.iter().map(|row| row.get::<i64, _>("number") as u64));
        }
        Ok(found)
    }
}

impl Tx {
    /// One sector's job, as this transaction sees it.
    pub async fn sector(&mut self, id: SectorId) -> Result<Option<Job>, StoreError> {
        Ok(self.sectors(&BTreeSet::from([id])).await?.pop())
    }

    /// The jobs of those of these sectors that exist, as this transaction sees them, by miner and number.
    pub async fn sectors(&mut self, ids: &BTreeSet<SectorId>) -> Result<Vec<Job>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        let miners: BTreeSet<MinerId> = ids.iter().map(|id| id.miner).collect();
        for miner in miners {
            let numbers: Vec<i64> = ids.iter().filter(|id| id.miner == miner).map(|id| id.number.0 as i64).collect();
            for numbers in rows::chunks(&numbers) {
                let text = format!(
                    "SELECT * FROM sectors WHERE miner = {} AND number IN ({})",
                    self.places.list(1, 1),
                    self.places.list(2, numbers.len())
                );
                let query = numbers.iter().fold(sqlx::query(&text).bind(miner.to_string()), |query, n| query.bind(*n));
                for row in query.fetch_all(&mut *self.inner).await.map_err(sql("read sectors"))? {
                    found.push(from_row(&row)?);
                }
            }
        }
        found.sort_unstable_by_key(|job| job.id);
        Ok(found)
    }

    /// Gives out a number. The sector starts queued.
    pub async fn insert_sector(&mut self, id: SectorId, proof: SealProof) -> Result<(), StoreError> {
        let now = now_text();
        sqlx::query(
            "INSERT INTO sectors (miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, \
             changed_at, version, last_lease, last_event, state) \
             VALUES ($1, $2, $3, 1, 1, 0, 0, $4, $4, 0, 0, 0, 'queued')",
        )
        .bind(id.miner.to_string())
        .bind(id.number.0 as i64)
        .bind(proof.name())
        .bind(now)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("give out a sector number"))?;
        Ok(())
    }

    /// Stores a sector that was read in this transaction.
    pub async fn save_sector(&mut self, sector: Job) -> Result<(), StoreError> {
        self.save_sectors(vec![sector]).await
    }

    /// Stores sectors that were read in this transaction, each at most once.
    pub(super) async fn save_sectors(&mut self, sectors: Vec<Job>) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(&sectors).map(move |sectors| save(places, sectors));
        let saved = self.execute_each("store sectors", Box::new(statements)).await?;
        if saved == sectors.len() as u64 {
            return self.look_soon(&looks::distinct(sectors.iter())).await;
        }
        let what = match &sectors[..] {
            [only] => format!("sector {}", only.id),
            sectors => format!("{} sectors, the first {}", sectors.len(), sectors[0].id),
        };
        Err(StoreError::BadRow { what, problem: format!("only {saved} of them exist") })
    }
}

/// Stores all that changes in a sector's life.
fn save<'q>(places: Places, sectors: &'q [Job]) -> Statement<'q> {
    // Both databases name the columns of a list of values so.
    let set: String = COLUMNS.iter().zip(3..).map(|(name, place)| format!("{name} = new.column{place}, ")).collect();
    let statement = Statement::of_rows(
        places,
        &format!("UPDATE sectors SET {set}version = version + 1 FROM (VALUES "),
        (sectors.len(), 2 + COLUMNS.len()),
        ") AS new WHERE sectors.miner = new.column1 AND sectors.number = new.column2",
    );
    sectors.iter().fold(statement, |statement, sector| {
        let statement = statement.bind(sector.id.miner.to_string()).bind(sector.id.number.0 as i64);
        cells(sector).into_iter().fold(statement, |statement, cell| cell.bind(statement))
    })
}
