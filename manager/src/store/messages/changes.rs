//! Changes of messages. Each change and its consequences are one transaction.

use sealbus_schema::SectorId;
use sqlx::Row;

use super::{Message, MessageKind, Tries};
use crate::store::{
    StoreError, Tx, WantedMessage,
    rows::{self, Places},
    sql,
    statements::Statement,
};

impl Tx {
    /// Records that messages are wanted. If one is already recorded for a purpose, it stays as it is. If that one has
    /// failed, another message follows it.
    pub(crate) async fn want_messages(&mut self, wanted: &[(SectorId, WantedMessage)]) -> Result<(), StoreError> {
        // Nearly always no message is recorded yet for any of these purposes.
        if self.insert_wanted(wanted, 1).await? < wanted.len() as u64 {
            for message in wanted {
                self.want_again(message).await?;
            }
        }
        Ok(())
    }

    /// Records that another message is wanted, if all earlier ones for this purpose have ended or are withdrawn.
    async fn want_again(&mut self, wanted: &(SectorId, WantedMessage)) -> Result<(), StoreError> {
        let (sector, WantedMessage { kind, attempt }) = wanted;
        let of_purpose =
            sqlx::query("SELECT state FROM messages WHERE kind = $1 AND miner = $2 AND number = $3 AND attempt = $4")
                .bind(kind.name())
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .bind(i64::from(*attempt))
                .fetch_all(&mut *self.inner)
                .await
                .map_err(sql("read a sector's messages"))?;
        let in_vain = |state: &str| matches!(state, "failed" | "replaced" | "withdrawn");
        if !of_purpose.iter().all(|row| in_vain(&row.get::<String, _>("state"))) {
            return Ok(());
        }
        let turn = of_purpose.len() as u32 + 1;
        match self.insert_wanted(std::slice::from_ref(wanted), turn).await? {
            0 => Err(StoreError::BadRow {
                what: format!("message {}", kind.key(*sector, *attempt, turn)),
                problem: format!("taken, though there are only {} for its purpose", of_purpose.len()),
            }),
            _ => Ok(()),
        }
    }

    /// Inserts the messages that are not there yet, and returns how many these are.
    async fn insert_wanted(&mut self, wanted: &[(SectorId, WantedMessage)], turn: u32) -> Result<u64, StoreError> {
        let places = self.places;
        let statements = rows::chunks(wanted).map(move |wanted| insert(places, wanted, turn));
        self.execute_each("record that messages are wanted", Box::new(statements)).await
    }

    /// Fixes a wanted message's call and nonce. From now on, only this call is ever sent for its purpose with this nonce.
    pub async fn save_signed(
        &mut self,
        key: &str,
        sender: &str,
        nonce: u64,
        cid: &str,
        bytes: &[u8],
        epoch: i64,
    ) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE messages SET state = 'signed', sender = $2, nonce = $3, cid = $4, signed = $5, signed_epoch = $6 \
             WHERE key = $1 AND state = 'wanted'",
        )
        .bind(key)
        .bind(sender)
        .bind(nonce as i64)
        .bind(cid)
        .bind(bytes.to_vec())
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store a signed message"))?;
        if changed.rows_affected() != 1 {
            let problem = "not wanted any more".to_owned();
            return Err(StoreError::BadRow { what: format!("message {key}"), problem });
        }
        self.note_precommit(key, true).await
    }

    /// Stores a new envelope of the same call with the same nonce. The earlier one is kept, because it may land as well.
    pub async fn save_envelope(&mut self, key: &str, cid: &str, bytes: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO envelopes (message, cid, signed) SELECT key, cid, signed FROM messages \
             WHERE key = $1 AND cid <> $2 AND state IN ('signed', 'pushed') ON CONFLICT DO NOTHING",
        )
        .bind(key)
        .bind(cid)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("keep an envelope"))?;
        sqlx::query(
            "UPDATE messages SET state = 'signed', cid = $2, signed = $3 WHERE key = $1 AND state IN ('signed', 'pushed')",
        )
        .bind(key)
        .bind(cid)
        .bind(bytes.to_vec())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store an envelope"))?;
        Ok(())
    }

    /// Records that a signed message is no longer wanted and that a filler is to take its nonce.
    pub async fn mark_withdrawn(&mut self, key: &str, why: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE messages SET state = 'withdrawn', error = $2 WHERE key = $1 AND state IN ('signed', 'pushed')",
        )
        .bind(key)
        .bind(why)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("withdraw a message"))?;
        Ok(())
    }

    /// Records that a sector's message that had landed is no longer on chain. It is pushed again.
    pub async fn mark_reverted(&mut self, kind: MessageKind, sector: SectorId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE messages SET state = 'pushed', pushed_epoch = 0, landed_epoch = NULL \
             WHERE kind = $1 AND miner = $2 AND number = $3 AND state = 'landed'",
        )
        .bind(kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("follow a message again"))?;
        Ok(())
    }

    /// Records that a filler is wanted for a nonce, on behalf of a sector. Returns whether it was not wanted before.
    pub async fn want_filler(&mut self, sector: SectorId, sender: &str, nonce: u64) -> Result<bool, StoreError> {
        let key = super::filler_key(sender, nonce);
        let inserted = sqlx::query(
            "INSERT INTO messages (key, kind, miner, number, state, sender, nonce) \
             VALUES ($1, 'filler', $2, $3, 'wanted', $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(key.clone())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .bind(sender)
        .bind(nonce as i64)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want a filler"))?;
        if inserted.rows_affected() == 1 {
            return Ok(true);
        }
        // The message that had used the nonce has vanished in a reorganisation, so the filler is wanted again.
        let again = sqlx::query(
            "UPDATE messages SET state = 'signed', error = NULL WHERE key = $1 AND state = 'replaced' AND signed IS NOT NULL",
        )
        .bind(key)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want a filler"))?;
        Ok(again.rows_affected() == 1)
    }

    /// Records that a message has ended without its effect, and that another one of the same purpose is wanted.
    pub async fn want_another(
        &mut self,
        message: &Message,
        exit_code: Option<u32>,
        error: &str,
        tries: Tries,
    ) -> Result<(), StoreError> {
        match exit_code {
            Some(_) => self.mark_failed(&message.key, exit_code, error).await?,
            None => self.mark_replaced(&message.key, error).await?,
        }
        let wanted = (message.sector, WantedMessage { kind: message.kind, attempt: message.attempt });
        self.want_again(&wanted).await?;
        sqlx::query(
            "UPDATE messages SET failures = $5, gas_limit_min = $6 \
             WHERE kind = $1 AND miner = $2 AND number = $3 AND attempt = $4 AND state = 'wanted'",
        )
        .bind(message.kind.name())
        .bind(message.sector.miner.to_string())
        .bind(message.sector.number.0 as i64)
        .bind(i64::from(message.attempt))
        .bind(i64::from(tries.failures))
        .bind(tries.gas_limit_min.map(|limit| limit as i64))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want another message"))?;
        Ok(())
    }

    /// Records that the PreCommit of a sector's present attempt had landed and has vanished for good, and that another
    /// one is wanted.
    pub async fn want_precommit_again(&mut self, sector: SectorId) -> Result<(), StoreError> {
        let Some(attempt) = self.sector(sector).await?.map(|sector| sector.attempt) else { return Ok(()) };
        sqlx::query(
            "UPDATE messages SET state = 'replaced', error = 'gone from the chain, and its nonce is used' \
             WHERE kind = 'precommit' AND miner = $1 AND number = $2 AND state = 'landed'",
        )
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a lost PreCommit"))?;
        self.want_again(&(sector, WantedMessage { kind: MessageKind::PreCommit, attempt })).await
    }

    /// Records since when the node refuses to estimate a message; `None` when it no longer refuses.
    pub async fn note_refusal(&mut self, key: &str, epoch: Option<i64>) -> Result<(), StoreError> {
        sqlx::query("UPDATE messages SET refused_epoch = $2 WHERE key = $1")
            .bind(key)
            .bind(epoch)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("note a refusal"))?;
        Ok(())
    }

    /// Records in the job's row whether a PreCommit of its present attempt may have been sent.
    async fn note_precommit(&mut self, key: &str, signed: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET signed = $2, version = version + 1 WHERE is_last = 1 \
             AND miner = (SELECT miner FROM messages WHERE key = $1 AND kind = 'precommit') \
             AND number = (SELECT number FROM messages WHERE key = $1) \
             AND attempt = (SELECT attempt FROM messages WHERE key = $1)",
        )
        .bind(key)
        .bind(i64::from(signed))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("note a PreCommit"))?;
        Ok(())
    }

    /// Records that a node accepted the message.
    pub async fn mark_pushed(&mut self, key: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE messages SET state = 'pushed', pushed_epoch = $2 WHERE key = $1 AND state IN ('signed', 'pushed')",
        )
        .bind(key)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a push"))?;
        Ok(())
    }

    /// Records that the effect of a sector's messages of this kind is on chain at the confident tipset. A message that is
    /// not signed yet is no longer needed.
    pub async fn mark_landed(&mut self, kind: MessageKind, sector: SectorId, epoch: i64) -> Result<(), StoreError> {
        for change in [
            "state = 'landed', landed_epoch = $4, exit_code = 0, pushed_epoch = COALESCE(pushed_epoch, $4) \
             WHERE state IN ('signed', 'pushed')",
            "state = 'failed', error = 'its effect is on chain already, at epoch ' || CAST($4 AS BIGINT) \
             WHERE state = 'wanted'",
        ] {
            sqlx::query(&format!("UPDATE messages SET {change} AND kind = $1 AND miner = $2 AND number = $3"))
                .bind(kind.name())
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .bind(epoch)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("record a landing"))?;
        }
        Ok(())
    }

    /// Records that a message was executed with success, while no sector waited for it.
    pub async fn mark_executed(&mut self, key: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE messages SET state = 'landed', landed_epoch = $2, exit_code = 0, error = NULL, \
             pushed_epoch = COALESCE(pushed_epoch, $2) WHERE key = $1",
        )
        .bind(key)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record an execution"))?;
        Ok(())
    }

    /// Records that something else has used the message's nonce, so that it can never land.
    pub async fn mark_replaced(&mut self, key: &str, error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE messages SET state = 'replaced', error = $2 WHERE key = $1")
            .bind(key)
            .bind(error)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a replaced message"))?;
        self.note_precommit(key, false).await
    }

    /// Records that the message has ended without its effect.
    pub async fn mark_failed(&mut self, key: &str, exit_code: Option<u32>, error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE messages SET state = 'failed', exit_code = $2, error = $3 WHERE key = $1")
            .bind(key)
            .bind(exit_code.map(i64::from))
            .bind(error)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a failed message"))?;
        self.note_precommit(key, false).await
    }
}

fn insert<'q>(places: Places, wanted: &'q [(SectorId, WantedMessage)], turn: u32) -> Statement<'q> {
    let into = "INSERT INTO messages (key, kind, miner, number, attempt, turn, state) VALUES ";
    let statement = Statement::of_rows(places, into, (wanted.len(), 7), " ON CONFLICT DO NOTHING");
    wanted.iter().fold(statement, |statement, (sector, WantedMessage { kind, attempt })| {
        statement
            .bind(kind.key(*sector, *attempt, turn))
            .bind(kind.name())
            .bind(sector.miner.to_string())
            .bind(sector.number.0 as i64)
            .bind(i64::from(*attempt))
            .bind(i64::from(turn))
            .bind("wanted")
    })
}
