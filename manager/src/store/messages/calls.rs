//! Reads calls for people: with what they carry, and whether or not they have ended.

use std::collections::BTreeMap;

use sealbus_schema::{MinerId, SealProof, SectorId, SectorNumber};
use sqlx::{Row, any::AnyRow};

use super::{CallId, ErrandId, MessageKind};
use crate::store::{Store, StoreError, sql};

/// Which calls to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallFilter {
    /// Only those of this miner.
    pub miner: Option<MinerId>,
    /// Only those of this kind.
    pub kind: Option<MessageKind>,
    /// Also those that have ended.
    pub ended: bool,
    /// At most so many, the newest.
    pub limit: u32,
}

/// A call as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// The call.
    pub id: CallId,
    /// What it is for.
    pub kind: MessageKind,
    /// The miner.
    pub miner: MinerId,
    /// The errand, if it is one.
    pub errand: Option<ErrandId>,
    /// Its state: `reserved`, `signed`, `pushed`, `withdrawn`, `landed`, `failed` or `replaced`.
    pub state: String,
    /// The key address that sends it.
    pub sender: String,
    /// Its nonce. `None` if the messager sends it.
    pub nonce: Option<u64>,
    /// Its id at the messager, if that sends it.
    pub uid: Option<String>,
    /// The head's epoch when it was signed.
    pub signed_epoch: Option<i64>,
    /// The head's epoch when it was last pushed.
    pub pushed_epoch: Option<i64>,
    /// The epoch at which it was executed with success.
    pub landed_epoch: Option<i64>,
    /// The exit code, if it was executed.
    pub exit_code: Option<u32>,
    /// Why it ended without its effect, or was withdrawn.
    pub error: Option<String>,
    /// The CID and the signed bytes of its last envelope. `None` for a filler that is not signed yet.
    pub envelope: Option<(String, Vec<u8>)>,
    /// How many envelopes it has had.
    pub envelopes: u32,
    /// The sectors that it is about, in the order of its parameters.
    pub sectors: Vec<CarriedSector>,
}

/// A sector in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedSector {
    /// The sector.
    pub id: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// The state of what is wanted for it: `called`, `withdrawn`, `landed` or `failed`.
    pub state: String,
    /// Why it ended without its effect.
    pub error: Option<String>,
}

/// How many messages of one kind and miner are wanted, and not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The miner.
    pub miner: MinerId,
    /// What they are for.
    pub kind: MessageKind,
    /// How many.
    pub count: u64,
}

const COLUMNS: &str = "calls.id, kind, miner, errand, state, sender, nonce, uid, signed_epoch, pushed_epoch, landed_epoch, \
    exit_code, error, cid, signed, COALESCE(envelope, 0) AS envelopes \
    FROM calls LEFT JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope";

impl Store {
    /// Calls, the newest first.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRow>, StoreError> {
        let states = if filter.ended { "true" } else { "state IN ('reserved', 'signed', 'pushed', 'withdrawn')" };
        let text = format!(
            "SELECT {COLUMNS} WHERE {states} AND ($1 = '' OR miner = $1) AND ($2 = '' OR kind = $2) \
             ORDER BY calls.id DESC LIMIT {}",
            filter.limit
        );
        let rows = sqlx::query(&text)
            .bind(filter.miner.map(|miner| miner.to_string()).unwrap_or_default())
            .bind(filter.kind.map(MessageKind::name).unwrap_or_default())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read calls"))?;
        let mut calls = rows.iter().map(from_row).collect::<Result<Vec<_>, _>>()?;
        let (Some(newest), Some(oldest)) = (calls.first(), calls.last()) else { return Ok(calls) };
        let mut sectors = self.carried_between(oldest.id, newest.id).await?;
        for call in &mut calls {
            call.sectors = sectors.remove(&call.id).unwrap_or_default();
        }
        Ok(calls)
    }

    /// A call by its number.
    pub async fn call(&self, id: CallId) -> Result<Option<CallRow>, StoreError> {
        self.one_call("calls.id = $1", id).await
    }

    /// The call to which an envelope with this CID belongs.
    pub async fn call_of_cid(&self, cid: &str) -> Result<Option<CallRow>, StoreError> {
        let row = sqlx::query("SELECT call FROM envelopes WHERE cid = $1 ORDER BY call DESC LIMIT 1")
            .bind(cid)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read an envelope"))?;
        match row {
            Some(row) => self.call(CallId(row.get("call"))).await,
            None => Ok(None),
        }
    }

    /// The last call of an errand.
    pub async fn call_of_errand(&self, errand: ErrandId) -> Result<Option<CallRow>, StoreError> {
        self.one_call("calls.id = (SELECT MAX(last.id) FROM calls AS last WHERE last.errand = $1)", CallId(errand.0))
            .await
    }

    async fn one_call(&self, which: &str, id: CallId) -> Result<Option<CallRow>, StoreError> {
        let row = sqlx::query(&format!("SELECT {COLUMNS} WHERE {which}"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a call"))?;
        let Some(row) = row else { return Ok(None) };
        let mut call = from_row(&row)?;
        call.sectors = self.carried_between(call.id, call.id).await?.remove(&call.id).unwrap_or_default();
        Ok(Some(call))
    }

    /// What is wanted and not signed yet, by miner and kind.
    pub async fn unsigned(&self) -> Result<Vec<Unsigned>, StoreError> {
        let rows = sqlx::query(
            "SELECT miner, kind, COUNT(*) AS count FROM wants WHERE state = 'wanted' GROUP BY miner, kind \
             ORDER BY miner, kind",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("count what is wanted"))?;
        let read = |row: &AnyRow| {
            let (miner, kind) = (row.get::<String, _>("miner"), row.get::<String, _>("kind"));
            let bad = |problem: String| StoreError::BadRow { what: format!("a want of {miner}"), problem };
            Ok(Unsigned {
                miner: miner.parse().map_err(|error| bad(format!("{error}")))?,
                kind: MessageKind::of_name(&kind).ok_or_else(|| bad(format!("kind {kind}")))?,
                count: row.get::<i64, _>("count") as u64,
            })
        };
        rows.iter().map(read).collect()
    }

    async fn carried_between(
        &self,
        from: CallId,
        to: CallId,
    ) -> Result<BTreeMap<CallId, Vec<CarriedSector>>, StoreError> {
        let rows = sqlx::query(
            "SELECT call_wants.call, wants.miner, wants.number, wants.state, wants.error, proof \
             FROM call_wants JOIN wants ON wants.id = call_wants.want \
             JOIN sectors ON sectors.miner = wants.miner AND sectors.number = wants.number \
             WHERE call_wants.call >= $1 AND call_wants.call <= $2 ORDER BY call_wants.call, position",
        )
        .bind(from.0)
        .bind(to.0)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read what calls carry"))?;
        let mut carried: BTreeMap<CallId, Vec<CarriedSector>> = BTreeMap::new();
        for row in rows {
            let call = CallId(row.get("call"));
            let bad = |problem: String| StoreError::BadRow { what: format!("call {}", call.0), problem };
            let miner = row.get::<String, _>("miner").parse().map_err(|error| bad(format!("{error}")))?;
            let proof = row.get::<String, _>("proof").parse().map_err(|error| bad(format!("{error}")))?;
            let id = SectorId { miner, number: SectorNumber(row.get::<i64, _>("number") as u64) };
            let (state, error) = (row.get("state"), row.get("error"));
            carried.entry(call).or_default().push(CarriedSector { id, proof, state, error });
        }
        Ok(carried)
    }
}

fn from_row(row: &AnyRow) -> Result<CallRow, StoreError> {
    let id: i64 = row.get("id");
    let bad = |problem: String| StoreError::BadRow { what: format!("call {id}"), problem };
    let kind: String = row.get("kind");
    Ok(CallRow {
        id: CallId(id),
        kind: MessageKind::of_name(&kind).ok_or_else(|| bad(format!("kind {kind}")))?,
        miner: row.get::<String, _>("miner").parse().map_err(|error| bad(format!("{error}")))?,
        errand: row.get::<Option<i64>, _>("errand").map(ErrandId),
        state: row.get("state"),
        sender: row.get("sender"),
        nonce: row.get::<Option<i64>, _>("nonce").map(|nonce| nonce as u64),
        uid: row.get("uid"),
        signed_epoch: row.get("signed_epoch"),
        pushed_epoch: row.get("pushed_epoch"),
        landed_epoch: row.get("landed_epoch"),
        exit_code: row.get::<Option<i64>, _>("exit_code").map(|exit| exit as u32),
        error: row.get("error"),
        envelope: row.get::<Option<String>, _>("cid").zip(row.get::<Option<Vec<u8>>, _>("signed")),
        envelopes: row.get::<i64, _>("envelopes") as u32,
        sectors: Vec::new(),
    })
}
