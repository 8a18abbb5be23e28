//! Errands: messages that a person or a policy asked for, with everything that they say.

use sealbus_schema::MinerId;
use serde::Serialize;
use serde_json::Value;
use sqlx::{Row, any::AnyRow};
use time::OffsetDateTime;

use crate::store::{Store, StoreError, Tx, now_text, sql, time_text};

/// The number of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ErrandId(pub i64);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewErrand {
    /// The miner that it is about, and whose fee limits count.
    pub miner: MinerId,
    /// What it does, in a word or two, such as `withdraw` or `extend`.
    pub kind: String,
    /// The address that sends it, as a key or an id address.
    pub sender: String,
    /// The address of the actor that executes it.
    pub receiver: String,
    /// The method's number.
    pub method: u64,
    /// The method's parameters in CBOR; empty if it has none.
    pub params: Vec<u8>,
    /// The funds that it carries, in attoFIL.
    pub value_atto: String,
    /// What it is about, for people.
    pub detail: Value,
    /// Who asked for it.
    pub asked_by: String,
}

/// The state of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrandState {
    /// Nothing is signed yet.
    Wanted,
    /// It is signed, and may land.
    Called,
    /// It may still land, but nobody wants it any more.
    Withdrawn,
    /// It was executed with success, at the confident part of the chain.
    Landed,
    /// It cannot land, or was executed without success.
    Failed,
    /// It was taken back before it was signed, or its nonce was used by something else after that.
    Cancelled,
}

/// An errand as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Its number.
    pub id: ErrandId,
    /// What was asked for.
    pub asked: NewErrand,
    /// When.
    pub asked_at: String,
    /// What became of it.
    pub state: ErrandState,
    /// The epoch at which it was executed with success.
    pub epoch: Option<i64>,
    /// The exit code, if it was executed.
    pub exit_code: Option<u32>,
    /// What it returned.
    pub returned: Option<Vec<u8>>,
    /// Why it ended without its effect, or was withdrawn.
    pub error: Option<String>,
}

impl ErrandState {
    const ALL: [(ErrandState, &'static str); 6] = [
        (ErrandState::Wanted, "wanted"),
        (ErrandState::Called, "called"),
        (ErrandState::Withdrawn, "withdrawn"),
        (ErrandState::Landed, "landed"),
        (ErrandState::Failed, "failed"),
        (ErrandState::Cancelled, "cancelled"),
    ];

    /// The stored name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    /// Whether it may still land.
    pub const fn is_open(self) -> bool {
        matches!(self, ErrandState::Wanted | ErrandState::Called | ErrandState::Withdrawn)
    }
}

impl Store {
    /// One errand.
    pub async fn errand(&self, id: ErrandId) -> Result<Option<Errand>, StoreError> {
        let row = sqlx::query("SELECT * FROM errands WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read an errand"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// Errands of a miner and a kind that may still land, or that failed and were asked for since a time.
    pub async fn errands_in_the_way(
        &self,
        miner: MinerId,
        kind: &str,
        failed_since: OffsetDateTime,
    ) -> Result<Vec<Errand>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM errands WHERE miner = $1 AND kind = $2 \
             AND (state IN ('wanted', 'called', 'withdrawn') OR (state = 'failed' AND asked_at >= $3)) ORDER BY id",
        )
        .bind(miner.to_string())
        .bind(kind)
        .bind(time_text(failed_since))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read errands"))?;
        rows.iter().map(from_row).collect()
    }

    /// The newest errands, newest first: at most `limit`, or all open ones if that is `None`.
    pub async fn errands(&self, limit: Option<u32>) -> Result<Vec<Errand>, StoreError> {
        let text = match limit {
            Some(limit) => format!("SELECT * FROM errands ORDER BY id DESC LIMIT {limit}"),
            None => {
                "SELECT * FROM errands WHERE state IN ('wanted', 'called', 'withdrawn') ORDER BY id DESC".to_owned()
            }
        };
        let rows = sqlx::query(&text).fetch_all(&self.pool).await.map_err(sql("read errands"))?;
        rows.iter().map(from_row).collect()
    }
}

impl Tx {
    /// Stores an errand, in the transaction of its line in the audit.
    pub async fn ask_errand(&mut self, new: &NewErrand) -> Result<ErrandId, StoreError> {
        let row = sqlx::query(
            "INSERT INTO errands (miner, kind, sender, receiver, method, params, value, detail, asked_by, asked_at, state) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'wanted') RETURNING id",
        )
        .bind(new.miner.to_string())
        .bind(new.kind.clone())
        .bind(new.sender.clone())
        .bind(new.receiver.clone())
        .bind(new.method as i64)
        .bind(new.params.clone())
        .bind(new.value_atto.clone())
        .bind(new.detail.to_string())
        .bind(new.asked_by.clone())
        .bind(now_text())
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("store an errand"))?;
        Ok(ErrandId(row.get("id")))
    }

    /// Takes an errand back, and returns its state then. One that is signed is withdrawn: something harmless takes its
    /// nonce, unless it lands before.
    pub async fn cancel_errand(&mut self, id: ErrandId, why: &str) -> Result<Option<ErrandState>, StoreError> {
        for change in [
            "UPDATE errands SET state = 'cancelled', error = $2 WHERE id = $1 AND state = 'wanted'",
            "UPDATE errands SET state = 'withdrawn', error = $2 WHERE id = $1 AND state = 'called'",
        ] {
            sqlx::query(change)
                .bind(id.0)
                .bind(why)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("cancel an errand"))?;
        }
        let row = sqlx::query("SELECT * FROM errands WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read an errand"))?;
        Ok(row.as_ref().map(from_row).transpose()?.map(|errand| errand.state))
    }

    /// Wants an errand again whose call's nonce was used by something else, unless it may have been sent before a restoration:
    /// what used the nonce may be the same with another fee.
    pub(super) async fn want_errand_again(&mut self, id: ErrandId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE errands SET state = 'wanted', error = NULL WHERE id = $1 AND state = 'failed' AND signed_once = 0",
        )
        .bind(id.0)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want an errand again"))?;
        Ok(())
    }

    /// Follows errands again that landed from this epoch on: a reorganisation may have taken them from the chain.
    pub async fn follow_errands_again(&mut self, from: i64) -> Result<(), StoreError> {
        for change in [
            "UPDATE calls SET state = 'pushed', landed_epoch = NULL, exit_code = NULL WHERE state = 'landed' \
             AND errand IN (SELECT id FROM errands WHERE state = 'landed' AND epoch >= $1)",
            "UPDATE errands SET state = 'called', epoch = NULL, exit_code = NULL WHERE state = 'landed' AND epoch >= $1",
        ] {
            let query = sqlx::query(change).bind(from);
            query.execute(&mut *self.inner).await.map_err(sql("follow errands again"))?;
        }
        Ok(())
    }

    pub(super) async fn land_errand(&mut self, id: ErrandId, epoch: i64, returned: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE errands SET state = 'landed', epoch = $2, exit_code = 0, returned = $3, error = NULL WHERE id = $1",
        )
        .bind(id.0)
        .bind(epoch)
        .bind(returned)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record an errand's end"))?;
        Ok(())
    }

    pub(super) async fn fail_errand(
        &mut self,
        id: ErrandId,
        exit_code: Option<u32>,
        error: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE errands SET state = CASE state WHEN 'withdrawn' THEN 'cancelled' ELSE 'failed' END, exit_code = $2, \
             error = $3 WHERE id = $1",
        )
        .bind(id.0)
        .bind(exit_code.map(i64::from))
        .bind(error)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record an errand's end"))?;
        Ok(())
    }
}

fn from_row(row: &AnyRow) -> Result<Errand, StoreError> {
    let id: i64 = row.get("id");
    let bad = |problem: String| StoreError::BadRow { what: format!("errand {id}"), problem };
    let name: String = row.get("state");
    let state = ErrandState::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state);
    Ok(Errand {
        id: ErrandId(id),
        asked: NewErrand {
            miner: row.get::<String, _>("miner").parse().map_err(|error| bad(format!("{error}")))?,
            kind: row.get("kind"),
            sender: row.get("sender"),
            receiver: row.get("receiver"),
            method: row.get::<i64, _>("method") as u64,
            params: row.get("params"),
            value_atto: row.get("value"),
            detail: serde_json::from_str(&row.get::<String, _>("detail")).map_err(|error| bad(error.to_string()))?,
            asked_by: row.get("asked_by"),
        },
        asked_at: row.get("asked_at"),
        state: state.ok_or_else(|| bad(format!("state {name}")))?,
        epoch: row.get("epoch"),
        exit_code: row.get::<Option<i64>, _>("exit_code").map(|exit| exit as u32),
        returned: row.get("returned"),
        error: row.get("error"),
    })
}
