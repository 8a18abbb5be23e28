//! Sectors: their numbers, and what exists of each on chain and in the stores, whatever created it.

use std::collections::{BTreeSet, HashMap, HashSet};

use sealbus_schema::{Commitment, MinerId, SealProof, SectorId, Workflow, parts::StoredSector};
use sqlx::Row;

use super::{
    Store, StoreError, Tx,
    jobs::{bad_row, id_from_row},
    now_text,
    rows::{self, Places},
    sql,
    statements::Statement,
};

/// What exists of a sector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Its files in a permanent store.
    pub files: Option<StoredSector>,
    /// What the chain has, once the sector is active.
    pub on_chain: Option<OnChain>,
}

/// An active sector, as the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// CommR, the replica's commitment.
    pub comm_r: Commitment,
    /// CommD, the data's commitment.
    pub comm_d: Commitment,
    /// The epoch of its activation.
    pub activation_epoch: i64,
}

impl Store {
    /// Which of these numbers were already given out for a miner.
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

    /// The permanent stores with the files of some of a miner's sectors. Sectors without files are missing.
    pub async fn stores_of(&self, miner: MinerId, numbers: &[u64]) -> Result<HashMap<u64, String>, StoreError> {
        let mut found = HashMap::new();
        for numbers in rows::chunks(numbers) {
            let text = format!(
                "SELECT number, store FROM sectors WHERE store IS NOT NULL AND miner = {} AND number IN ({})",
                self.places().list(1, 1),
                self.places().list(2, numbers.len())
            );
            let query =
                numbers.iter().fold(sqlx::query(&text).bind(miner.to_string()), |query, n| query.bind(*n as i64));
            let rows = query.fetch_all(&self.pool).await.map_err(sql("read where files are"))?;
            found.extend(rows.iter().map(|row| (row.get::<i64, _>("number") as u64, row.get("store"))));
        }
        Ok(found)
    }

    /// The permanent store of each of a miner's sectors whose files are known.
    pub async fn all_stored(&self, miner: MinerId) -> Result<HashMap<u64, String>, StoreError> {
        let rows = sqlx::query("SELECT number, store FROM sectors WHERE miner = $1 AND store IS NOT NULL")
            .bind(miner.to_string())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read where files are"))?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>("number") as u64, row.get("store"))).collect())
    }

    /// The numbers of a miner's sectors with a job that has not ended.
    pub async fn numbers_at_work(&self, miner: MinerId) -> Result<BTreeSet<u64>, StoreError> {
        let rows = sqlx::query("SELECT number FROM jobs WHERE miner = $1 AND ended = 0")
            .bind(miner.to_string())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read what is being worked on"))?;
        Ok(rows.iter().map(|row| row.get::<i64, _>("number") as u64).collect())
    }

    /// What exists of a sector. `None` if its number was never given out.
    pub async fn existing(&self, id: SectorId) -> Result<Option<Existing>, StoreError> {
        let row =
            sqlx::query("SELECT files, comm_r, comm_d, activation_epoch FROM sectors WHERE miner = $1 AND number = $2")
                .bind(id.miner.to_string())
                .bind(id.number.0 as i64)
                .fetch_optional(&self.pool)
                .await
                .map_err(sql("read what exists of a sector"))?;
        let Some(row) = row else { return Ok(None) };
        let files: Option<String> = row.get("files");
        let commitment = |column: &str| row.get::<String, _>(column).parse().map_err(bad_row(id));
        let on_chain = match row.get::<Option<i64>, _>("activation_epoch") {
            Some(activation_epoch) => {
                Some(OnChain { comm_r: commitment("comm_r")?, comm_d: commitment("comm_d")?, activation_epoch })
            }
            None => None,
        };
        let files = files.map(|files| serde_json::from_str(&files)).transpose().map_err(bad_row(id))?;
        Ok(Some(Existing { files, on_chain }))
    }

    /// Some of the sectors whose files are in a store, each with its files.
    pub async fn some_stored_in(&self, store: &str, limit: u32) -> Result<Vec<(SectorId, StoredSector)>, StoreError> {
        // This reads every row, but is needed only for a store that has no id yet.
        let rows =
            sqlx::query("SELECT miner, number, files FROM sectors WHERE store = $1 ORDER BY miner, number LIMIT $2")
                .bind(store.to_owned())
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read what lies in a store"))?;
        let stored = |row| {
            let id = id_from_row(row)?;
            Ok((id, serde_json::from_str(row.get("files")).map_err(bad_row(id))?))
        };
        rows.iter().map(stored).collect()
    }
}

impl Tx {
    /// Gives out a number and begins to seal the sector.
    pub async fn insert_sector(&mut self, id: SectorId, proof: SealProof) -> Result<(), StoreError> {
        self.give_out_number(id, proof).await?;
        self.start_job(id, Workflow::Seal).await
    }

    /// Gives out a number, without a job for the sector yet.
    pub async fn give_out_number(&mut self, id: SectorId, proof: SealProof) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO sectors (miner, number, proof, created_at) VALUES ($1, $2, $3, $4)")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .bind(proof.name())
            .bind(now_text())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("give out a sector number"))
            .map(drop)
    }

    /// The seal proof of a sector that has a number.
    pub(super) async fn proof_of(&mut self, id: SectorId) -> Result<SealProof, StoreError> {
        let row = sqlx::query("SELECT proof FROM sectors WHERE miner = $1 AND number = $2")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("look for a sector"))?;
        let row = row.ok_or_else(|| bad_row(id)("its number was never given out"))?;
        row.get::<String, _>("proof").parse().map_err(bad_row(id))
    }

    /// Stores what exists of sectors.
    pub async fn save_existing(&mut self, sectors: &[(SectorId, Existing)]) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(sectors).map(move |sectors| update(places, sectors));
        self.execute_each("store what exists of sectors", Box::new(statements)).await.map(drop)
    }
}

fn update<'q>(places: Places, sectors: &'q [(SectorId, Existing)]) -> Statement<'q> {
    let statement = Statement::of_rows(
        places,
        "UPDATE sectors SET store = new.column3, files = new.column4, comm_r = new.column5, comm_d = new.column6, \
         activation_epoch = new.column7 FROM (VALUES ",
        (sectors.len(), 7),
        ") AS new WHERE sectors.miner = new.column1 AND sectors.number = new.column2",
    );
    sectors.iter().fold(statement, |statement, (id, Existing { files, on_chain })| {
        statement
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .bind(files.as_ref().map(|files| files.store.as_str()))
            .json(files.as_ref())
            .bind(on_chain.map(|on_chain| on_chain.comm_r.to_string()))
            .bind(on_chain.map(|on_chain| on_chain.comm_d.to_string()))
            .bind(on_chain.map(|on_chain| on_chain.activation_epoch))
    })
}

#[cfg(test)]
impl Store {
    /// A sector whose files are in a store, for tests.
    pub(crate) async fn pretend_stored(&self, id: SectorId, store: &str) {
        let mut tx = self.begin().await.expect("begins");
        tx.give_out_number(id, SealProof::StackedDrg2KiBV1_1).await.expect("gives out");
        let files = StoredSector { store: store.to_owned(), files: Vec::new(), identity: None };
        tx.save_existing(&[(id, Existing { files: Some(files), on_chain: None })]).await.expect("saves");
        tx.commit().await.expect("commits");
    }
}
