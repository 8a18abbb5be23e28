//! When the driver looks at each sector next. So a tick reads what is due, not everything that exists.
//!
//! Any change to a sector makes it due at once. After a look, the driver says when it must look again if nothing changes
//! until then. A sector that waits for nothing from the chain has no row.

use sealbus_schema::SectorId;
use sqlx::Row;

use super::{
    Job, Store, StoreError, Tx, jobs,
    rows::{self, Places},
    sql,
    statements::Statement,
    tables,
};

/// A sector that is due, with the version that was read.
#[derive(Clone, Debug)]
pub struct Due {
    /// The sector.
    pub sector: Job,
    version: i64,
}

/// When a sector is looked at next.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    sector: SectorId,
    version: i64,
    /// The epoch from which it is due; `None` if only a change makes it due.
    at_epoch: Option<i64>,
}

impl Due {
    /// The next look at this sector, unless it changes before.
    pub fn later(&self, at_epoch: Option<i64>) -> Look {
        Look { sector: self.sector.id, version: self.version, at_epoch }
    }
}

impl Store {
    /// The sectors that are due when the head is at this epoch, at most `limit`, those that have waited longest first.
    pub async fn due(&self, epoch: i64, limit: u32) -> Result<Vec<Due>, StoreError> {
        let text = tables::select(
            "looks JOIN jobs ON jobs.miner = looks.miner AND jobs.number = looks.number AND jobs.is_last = 1",
            "WHERE looks.at_epoch <= $1 ORDER BY looks.at_epoch, looks.miner, looks.number LIMIT $2",
        );
        let query = sqlx::query(&text).bind(epoch).bind(i64::from(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(sql("look for what is due"))?;
        rows.iter().map(|row| Ok(Due { sector: jobs::from_row(row)?, version: row.get("version") })).collect()
    }
}

impl Tx {
    /// Makes every sector with a later look due now, because what was known of the chain is no longer valid.
    pub async fn look_at_all(&mut self) -> Result<(), StoreError> {
        self.execute_one("make all due", "UPDATE looks SET at_epoch = 0 WHERE at_epoch > 0").await
    }

    /// Makes changed sectors due.
    pub(super) async fn look_soon(&mut self, sectors: &[SectorId]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(sectors).map(move |sectors| {
            let into = "INSERT INTO looks (miner, number, at_epoch) VALUES ";
            let again = " ON CONFLICT (miner, number) DO UPDATE SET at_epoch = 0";
            let statement = Statement::of_rows(places, into, (sectors.len(), 3), again);
            sectors.iter().fold(statement, |statement, id| {
                statement.bind(id.miner.to_string()).bind(id.number.0 as i64).bind(0i64)
            })
        });
        self.execute_each("make sectors due", Box::new(statements)).await.map(drop)
    }

    /// Stores when sectors are due next. A sector that has changed since it was read stays due.
    pub async fn look_later(&mut self, looks: &[Look]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(looks).map(move |looks| later(places, looks));
        self.execute_each("store what is due later", Box::new(statements)).await?;
        self.execute_one("store what is not due any more", "DELETE FROM looks WHERE at_epoch < 0").await
    }

    async fn execute_one(&mut self, operation: &'static str, statement: &'static str) -> Result<(), StoreError> {
        sqlx::query(statement).execute(&mut *self.inner).await.map(drop).map_err(sql(operation))
    }
}

fn later<'q>(places: Places, looks: &'q [Look]) -> Statement<'q> {
    let statement = Statement::of_rows(
        places,
        "UPDATE looks SET at_epoch = new.column4 FROM (VALUES ",
        (looks.len(), 4),
        ") AS new WHERE looks.miner = new.column1 AND looks.number = new.column2 AND EXISTS (SELECT 1 FROM jobs \
         WHERE jobs.miner = new.column1 AND jobs.number = new.column2 AND jobs.is_last = 1 AND jobs.version = new.column3)",
    );
    looks.iter().fold(statement, |statement, look| {
        let Look { sector, version, at_epoch } = *look;
        let statement = statement.bind(sector.miner.to_string()).bind(sector.number.0 as i64);
        statement.bind(version).bind(at_epoch.unwrap_or(-1))
    })
}
