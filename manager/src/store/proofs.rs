//! The proofs of partitions.

use sealbus_schema::{MinerId, ProofBytes};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Any, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{ErrandId, Store, StoreError, Tx, sql};
use crate::proving::proof::{PartitionProof, ProofId, ProofState};

impl Store {
    /// The proofs with something still to be done, by their close.
    pub async fn open_proofs(&self) -> Result<Vec<PartitionProof>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM partition_proofs WHERE state IN ('making', 'proved', 'asked') \
             ORDER BY closes, miner, deadline, \"partition\"",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read proofs"))?;
        rows.iter().map(from_row).collect()
    }

    /// One proof.
    pub async fn proof(&self, id: ProofId) -> Result<Option<PartitionProof>, StoreError> {
        let text =
            "SELECT * FROM partition_proofs WHERE miner = $1 AND period = $2 AND deadline = $3 AND \"partition\" = $4";
        let row = at(sqlx::query(text), id).fetch_optional(&self.pool).await.map_err(sql("read a proof"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// The last proofs of a miner, or of all, the newest first.
    pub async fn last_proofs(&self, miner: Option<MinerId>, limit: u32) -> Result<Vec<PartitionProof>, StoreError> {
        let miner = miner.map(|miner| miner.to_string()).unwrap_or_default();
        let rows = sqlx::query(
            "SELECT * FROM partition_proofs WHERE ($1 = '' OR miner = $2) \
             ORDER BY opens DESC, miner, \"partition\" LIMIT $3",
        )
        .bind(miner.clone())
        .bind(miner)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read proofs"))?;
        rows.iter().map(from_row).collect()
    }
}

impl Tx {
    /// Begins a proof. Nothing changes if there is one already.
    pub async fn begin_proof(&mut self, proof: &PartitionProof) -> Result<(), StoreError> {
        let text = "INSERT INTO partition_proofs (miner, period, deadline, \"partition\", challenge, opens, closes, \
                    randomness, state, sectors, recovering, attempts, skipped, told) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '[]', '[]', '{}') ON CONFLICT DO NOTHING";
        at(sqlx::query(text), proof.id)
            .bind(proof.challenge)
            .bind(proof.open)
            .bind(proof.close)
            .bind(proof.randomness.to_string())
            .bind(proof.state.name())
            .bind(proof.sectors as i64)
            .bind(proof.recovering as i64)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("begin a proof"))
            .map(drop)
    }

    /// Stores what has changed of a proof. The attempts of one that has ended are dropped.
    pub async fn save_proof(&mut self, proof: &PartitionProof) -> Result<(), StoreError> {
        let attempts = if proof.state.is_open() { json(&proof.attempts)? } else { "[]".to_owned() };
        sqlx::query(
            "UPDATE partition_proofs SET state = $1, attempts = $2, proof = $3, skipped = $4, errand = $5, \
             read_epoch = $6, proved_epoch = $7, landed_epoch = $8, told = $9, problem = $10 \
             WHERE miner = $11 AND period = $12 AND deadline = $13 AND \"partition\" = $14",
        )
        .bind(proof.state.name())
        .bind(attempts)
        .bind(proof.proof.as_ref().map(|proof| hex::encode(&proof.0)))
        .bind(json(&proof.skipped)?)
        .bind(proof.errand.map(|errand| errand.0))
        .bind(proof.read_epoch)
        .bind(proof.proved_epoch)
        .bind(proof.landed_epoch)
        .bind(json(&proof.told)?)
        .bind(proof.problem.clone())
        .bind(proof.id.miner.to_string())
        .bind(proof.id.period)
        .bind(proof.id.deadline as i64)
        .bind(proof.id.partition as i64)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store a proof"))
        .map(drop)
    }
}

fn at<'q>(query: Query<'q, Any, AnyArguments<'q>>, id: ProofId) -> Query<'q, Any, AnyArguments<'q>> {
    query.bind(id.miner.to_string()).bind(id.period).bind(id.deadline as i64).bind(id.partition as i64)
}

fn json<V: Serialize>(value: &V) -> Result<String, StoreError> {
    let bad = |error: serde_json::Error| StoreError::BadRow { what: "a proof".to_owned(), problem: error.to_string() };
    serde_json::to_string(value).map_err(bad)
}

fn from_row(row: &AnyRow) -> Result<PartitionProof, StoreError> {
    let miner: String = row.get("miner");
    let (deadline, partition): (i64, i64) = (row.get("deadline"), row.get("partition"));
    let bad = |problem: String| StoreError::BadRow {
        what: format!("the proof of {miner} deadline {deadline} partition {partition}"),
        problem,
    };
    fn parsed<V: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<V, String> {
        serde_json::from_str(row.get(column)).map_err(|error| format!("{column}: {error}"))
    }
    let state: String = row.get("state");
    let proof: Option<String> = row.get("proof");
    Ok(PartitionProof {
        id: ProofId {
            miner: miner.parse().map_err(|error| bad(format!("{error}")))?,
            period: row.get("period"),
            deadline: deadline as u64,
            partition: partition as u64,
        },
        challenge: row.get("challenge"),
        open: row.get("opens"),
        close: row.get("closes"),
        randomness: row.get::<String, _>("randomness").parse().map_err(|error| bad(format!("randomness: {error}")))?,
        state: ProofState::of_name(&state).ok_or_else(|| bad(format!("state {state}")))?,
        sectors: row.get::<i64, _>("sectors") as u64,
        recovering: row.get::<i64, _>("recovering") as u64,
        attempts: parsed(row, "attempts").map_err(bad)?,
        proof: match proof {
            Some(text) => Some(ProofBytes(hex::decode(text).map_err(|error| bad(format!("proof: {error}")))?)),
            None => None,
        },
        skipped: parsed(row, "skipped").map_err(bad)?,
        errand: row.get::<Option<i64>, _>("errand").map(ErrandId),
        read_epoch: row.get("read_epoch"),
        proved_epoch: row.get("proved_epoch"),
        landed_epoch: row.get("landed_epoch"),
        told: parsed(row, "told").map_err(bad)?,
        problem: row.get("problem"),
    })
}
