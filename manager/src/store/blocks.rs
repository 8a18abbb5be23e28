//! The epochs that miners have won, and rehearsals.

use sealbus_schema::{MinerId, SectorNumber};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, sql};
use crate::{
    chain::types::{Epoch, TipSetKey},
    mining::block::{BlockId, BlockState, Claim, Rehearsal, Steps, WonBlock},
};

impl Store {
    /// What is known of an epoch that a miner has won. `None` if it has not, or nobody has looked.
    pub async fn won_block(&self, id: BlockId) -> Result<Option<WonBlock>, StoreError> {
        let row = sqlx::query("SELECT * FROM blocks WHERE miner = $1 AND epoch = $2")
            .bind(id.miner.to_string())
            .bind(id.epoch)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a block"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// A miner's won epochs of which it is not known yet what became of them.
    pub async fn open_blocks(&self, miner: MinerId) -> Result<Vec<WonBlock>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM blocks WHERE miner = $1 AND state IN ('making', 'claimed', 'created', 'submitted') \
             ORDER BY epoch",
        )
        .bind(miner.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read blocks"))?;
        rows.iter().map(from_row).collect()
    }

    /// The last won epochs of a miner, or of all, the newest first.
    pub async fn last_blocks(&self, miner: Option<MinerId>, limit: u32) -> Result<Vec<WonBlock>, StoreError> {
        let rows = self.last("blocks", miner, limit).await?;
        rows.iter().map(from_row).collect()
    }

    /// The last rehearsals of a miner, or of all, the newest first.
    pub async fn last_rehearsals(&self, miner: Option<MinerId>, limit: u32) -> Result<Vec<Rehearsal>, StoreError> {
        let rows = self.last("rehearsals", miner, limit).await?;
        rows.iter().map(rehearsal).collect()
    }

    async fn last(&self, table: &str, miner: Option<MinerId>, limit: u32) -> Result<Vec<AnyRow>, StoreError> {
        let miner = miner.map(|miner| miner.to_string()).unwrap_or_default();
        let text = format!("SELECT * FROM {table} WHERE ($1 = '' OR miner = $2) ORDER BY epoch DESC, miner LIMIT $3");
        sqlx::query(&text)
            .bind(miner.clone())
            .bind(miner)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read blocks"))
    }
}

impl Tx {
    /// Notes that an epoch was won. Nothing changes if that is known.
    pub async fn begin_block(&mut self, block: &WonBlock) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO blocks (miner, epoch, state, wins, sector, base_epoch, steps, budget_ms, won_at) \
             VALUES ($1, $2, 'making', $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(block.id.miner.to_string())
        .bind(block.id.epoch)
        .bind(block.wins)
        .bind(block.sector.map(|sector| sector.0 as i64))
        .bind(block.base_epoch)
        .bind(steps_text(&block.steps)?)
        .bind(block.budget_ms)
        .bind(block.won_at.clone())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("begin a block"))
        .map(drop)
    }

    /// Claims the only block of an epoch, on this base. Committed before the node is asked for it.
    pub async fn claim_block(
        &mut self,
        id: BlockId,
        parents: &TipSetKey,
        base_epoch: Epoch,
    ) -> Result<Claim, StoreError> {
        let failed = "claim a block";
        let same = sqlx::query("SELECT epoch FROM blocks WHERE miner = $1 AND parents = $2")
            .bind(id.miner.to_string())
            .bind(parents.to_string())
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql(failed))?;
        if let Some(row) = same {
            let epoch = row.get("epoch");
            return Ok(if epoch == id.epoch { Claim::Taken } else { Claim::SameParents(epoch) });
        }
        let claimed = sqlx::query(
            "UPDATE blocks SET state = 'claimed', parents = $1, base_epoch = $2 \
             WHERE miner = $3 AND epoch = $4 AND state = 'making'",
        )
        .bind(parents.to_string())
        .bind(base_epoch)
        .bind(id.miner.to_string())
        .bind(id.epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql(failed))?;
        Ok(if claimed.rows_affected() == 1 { Claim::Granted } else { Claim::Taken })
    }

    /// Stores what has become of a won epoch.
    pub async fn save_block(&mut self, block: &WonBlock) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE blocks SET state = $1, block = $2, cid = $3, steps = $4, margin_ms = $5, problem = $6 \
             WHERE miner = $7 AND epoch = $8",
        )
        .bind(block.state.name())
        .bind(block.block.clone())
        .bind(block.cid.clone())
        .bind(steps_text(&block.steps)?)
        .bind(block.margin_ms)
        .bind(block.problem.clone())
        .bind(block.id.miner.to_string())
        .bind(block.id.epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store a block"))
        .map(drop)
    }

    /// Notes how a rehearsal ended.
    pub async fn note_rehearsal(&mut self, rehearsal: &Rehearsal) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rehearsals (miner, epoch, sector, steps, budget_ms, problem, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(rehearsal.miner.to_string())
        .bind(rehearsal.epoch)
        .bind(rehearsal.sector.0 as i64)
        .bind(steps_text(&rehearsal.steps)?)
        .bind(rehearsal.budget_ms)
        .bind(rehearsal.problem.clone())
        .bind(rehearsal.at.clone())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("note a rehearsal"))
        .map(drop)
    }
}

impl WonBlock {
    /// An epoch that was won just now.
    pub fn won(id: BlockId, wins: i64, base_epoch: Epoch, sector: Option<SectorNumber>) -> WonBlock {
        WonBlock {
            id,
            state: BlockState::Making,
            wins,
            sector,
            base_epoch,
            parents: None,
            block: None,
            cid: None,
            steps: Steps::default(),
            budget_ms: None,
            margin_ms: None,
            problem: None,
            won_at: now_text(),
        }
    }
}

fn steps_text(steps: &Steps) -> Result<String, StoreError> {
    let bad = |error: serde_json::Error| StoreError::BadRow { what: "a block".to_owned(), problem: error.to_string() };
    serde_json::to_string(steps).map_err(bad)
}

fn from_row(row: &AnyRow) -> Result<WonBlock, StoreError> {
    let (miner, epoch): (String, i64) = (row.get("miner"), row.get("epoch"));
    let bad = |problem: String| StoreError::BadRow { what: format!("the block of {miner} at {epoch}"), problem };
    let (state, parents): (String, Option<String>) = (row.get("state"), row.get("parents"));
    let parents = parents.map(|text| text.parse::<TipSetKey>()).transpose();
    Ok(WonBlock {
        id: BlockId { miner: miner.parse().map_err(|error| bad(format!("{error}")))?, epoch },
        state: BlockState::of_name(&state).ok_or_else(|| bad(format!("state {state}")))?,
        wins: row.get("wins"),
        sector: row.get::<Option<i64>, _>("sector").map(|number| SectorNumber(number as u64)),
        base_epoch: row.get("base_epoch"),
        parents: parents.map_err(|error| bad(format!("parents: {error}")))?,
        block: row.get("block"),
        cid: row.get("cid"),
        steps: steps(row).map_err(bad)?,
        budget_ms: row.get("budget_ms"),
        margin_ms: row.get("margin_ms"),
        problem: row.get("problem"),
        won_at: row.get("won_at"),
    })
}

fn rehearsal(row: &AnyRow) -> Result<Rehearsal, StoreError> {
    let (miner, epoch): (String, i64) = (row.get("miner"), row.get("epoch"));
    let bad = |problem: String| StoreError::BadRow { what: format!("the rehearsal of {miner} at {epoch}"), problem };
    Ok(Rehearsal {
        miner: miner.parse().map_err(|error| bad(format!("{error}")))?,
        epoch,
        sector: SectorNumber(row.get::<i64, _>("sector") as u64),
        steps: steps(row).map_err(bad)?,
        budget_ms: row.get("budget_ms"),
        problem: row.get("problem"),
        at: row.get("at"),
    })
}

fn steps(row: &AnyRow) -> Result<Steps, String> {
    serde_json::from_str(row.get("steps")).map_err(|error| format!("steps: {error}"))
}
