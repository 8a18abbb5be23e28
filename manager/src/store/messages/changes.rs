//! What happens to calls, and so to what they carry. Each change and its consequences are one transaction.

use sealbus_schema::SectorId;
use sqlx::{Any, Row, any::AnyArguments, query::Query};

use super::{CallId, Envelope, Message, MessageKind, MessageState, Tries, WantId};
use crate::store::{StoreError, Tx, WantedMessage, sql};

/// Selects wants: the one with the number `$1`, or those that the call with the number `$1` carries.
const ITSELF: &str = "wants.id = $1";
const OF_CALL: &str = "wants.id IN (SELECT want FROM call_wants WHERE call = $1)";
/// Selects what a sector's last job wanted of kind `$1`; the sector is `$2` and `$3`.
const OF_LAST_JOB: &str = "wants.kind = $1 AND wants.miner = $2 AND wants.number = $3 \
    AND wants.job = (SELECT jobs.id FROM jobs WHERE jobs.miner = $2 AND jobs.number = $3 AND jobs.is_last = 1)";

impl Tx {
    /// Gives a want its call, or a reserved filler its bytes. From now on only this call is ever sent for the want, unless
    /// the call fails.
    pub async fn save_signed(
        &mut self,
        message: &Message,
        sender: &str,
        nonce: u64,
        epoch: i64,
        envelope: &Envelope,
    ) -> Result<CallId, StoreError> {
        let call = match (&message.state, message.want) {
            (MessageState::Wanted, Some(want)) => {
                let called = "UPDATE wants SET state = 'called' WHERE id = $1 AND state = 'wanted'";
                self.change_one(message, sqlx::query(called).bind(want.0)).await?;
                self.insert_call(message, want, sender, nonce, epoch).await?
            }
            (MessageState::Reserved { call, .. }, _) => {
                let signed = "UPDATE calls SET state = 'signed', envelope = 1, signed_epoch = $2 \
                              WHERE id = $1 AND state = 'reserved'";
                self.change_one(message, sqlx::query(signed).bind(call.0).bind(epoch)).await?;
                *call
            }
            _ => return Err(not_wanted(message)),
        };
        self.insert_envelope(call, envelope).await?;
        Ok(call)
    }

    /// Executes the first change of [`Self::save_signed`]. An error if the message is not as it was read.
    async fn change_one<'q>(
        &mut self,
        message: &Message,
        change: Query<'q, Any, AnyArguments<'q>>,
    ) -> Result<(), StoreError> {
        match change.execute(&mut *self.inner).await.map_err(sql("store a signed message"))?.rows_affected() {
            1 => Ok(()),
            _ => Err(not_wanted(message)),
        }
    }

    /// Inserts the signed call of a want.
    async fn insert_call(
        &mut self,
        message: &Message,
        want: WantId,
        sender: &str,
        nonce: u64,
        epoch: i64,
    ) -> Result<CallId, StoreError> {
        let call = sqlx::query(
            "INSERT INTO calls (kind, miner, state, sender, nonce, envelope, signed_epoch) \
             VALUES ($1, $2, 'signed', $3, $4, 1, $5) RETURNING id",
        )
        .bind(message.kind.name())
        .bind(message.sector.miner.to_string())
        .bind(sender)
        .bind(nonce as i64)
        .bind(epoch)
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("store a call"))?;
        let call = CallId(call.get("id"));
        sqlx::query("INSERT INTO call_wants (call, position, want, state) VALUES ($1, 0, $2, 'signed')")
            .bind(call.0)
            .bind(want.0)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("store what a call carries"))?;
        self.note_precommit(ITSELF, want.0, true).await?;
        Ok(call)
    }

    /// Stores a new envelope of the same call with the same nonce. The earlier ones are kept, because they may land as
    /// well.
    pub async fn save_envelope(&mut self, call: CallId, envelope: &Envelope) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE calls SET state = 'signed', envelope = envelope + 1 WHERE id = $1 AND state IN ('signed', 'pushed')",
        )
        .bind(call.0)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("renew a call"))?;
        if changed.rows_affected() == 0 {
            return Ok(());
        }
        self.insert_envelope(call, envelope).await
    }

    /// Inserts the envelope that a call now names as its last one.
    async fn insert_envelope(&mut self, call: CallId, envelope: &Envelope) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO envelopes (call, serial, cid, signed, gas_limit, fee_cap, premium) \
             SELECT id, envelope, $2, $3, $4, $5, $6 FROM calls WHERE id = $1",
        )
        .bind(call.0)
        .bind(envelope.cid.clone())
        .bind(envelope.bytes.clone())
        .bind(envelope.gas_limit as i64)
        .bind(envelope.fee_cap_atto.clone())
        .bind(envelope.premium_atto.clone())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store an envelope"))?;
        Ok(())
    }

    /// Records that what a call does is no longer wanted, and that a filler is to take its nonce.
    pub async fn mark_withdrawn(&mut self, call: CallId, why: &str) -> Result<(), StoreError> {
        for change in [
            "UPDATE calls SET state = 'withdrawn', error = $2 WHERE id = $1 AND state IN ('signed', 'pushed')",
            &format!("UPDATE wants SET state = 'withdrawn', error = $2 WHERE {OF_CALL} AND state = 'called'"),
        ] {
            let query = sqlx::query(change).bind(call.0).bind(why);
            query.execute(&mut *self.inner).await.map_err(sql("withdraw a call"))?;
        }
        Ok(())
    }

    /// Records that what a sector's last job wanted of this kind had landed and is no longer on chain. Its call is pushed again.
    pub async fn mark_reverted(&mut self, kind: MessageKind, sector: SectorId) -> Result<(), StoreError> {
        for change in [
            format!(
                "UPDATE calls SET state = 'pushed', pushed_epoch = 0, landed_epoch = NULL, exit_code = NULL \
                 WHERE {} AND state = 'landed'",
                calls_of_last_job()
            ),
            format!("UPDATE wants SET state = 'called' WHERE {OF_LAST_JOB} AND state = 'landed'"),
        ] {
            sqlx::query(&change)
                .bind(kind.name())
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("follow a call again"))?;
        }
        Ok(())
    }

    /// Reserves a nonce for a filler, on behalf of a sector. Returns whether it was not reserved before.
    pub async fn want_filler(&mut self, sector: SectorId, sender: &str, nonce: u64) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO calls (kind, miner, number, state, sender, nonce) \
             VALUES ('filler', $1, $2, 'reserved', $3, $4) ON CONFLICT DO NOTHING",
        )
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
            "UPDATE calls SET state = 'signed', error = NULL WHERE sender = $1 AND nonce = $2 AND kind = 'filler' \
             AND state = 'replaced' AND envelope IS NOT NULL",
        )
        .bind(sender)
        .bind(nonce as i64)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want a filler"))?;
        Ok(again.rows_affected() == 1)
    }

    /// Records that a want and its call have ended without the effect, and that the same is wanted again.
    pub async fn want_another(
        &mut self,
        message: &Message,
        exit_code: Option<u32>,
        error: &str,
        tries: Tries,
    ) -> Result<(), StoreError> {
        match (exit_code, message.state.call()) {
            (None, Some(call)) => self.mark_replaced(call, error).await?,
            _ => self.mark_failed(message, exit_code, error).await?,
        }
        let wanted = (message.sector, WantedMessage { kind: message.kind, attempt: message.attempt });
        self.want_again(&wanted).await?;
        sqlx::query(
            "UPDATE wants SET failures = $5, gas_limit_min = $6 \
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
        let gone = "error = 'gone from the chain, and its nonce is used'";
        for change in [
            format!("UPDATE calls SET state = 'replaced', {gone} WHERE {} AND state = 'landed'", calls_of_last_job()),
            format!("UPDATE wants SET state = 'failed', {gone} WHERE {OF_LAST_JOB} AND state = 'landed'"),
        ] {
            sqlx::query(&change)
                .bind(MessageKind::PreCommit.name())
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("record a lost PreCommit"))?;
        }
        self.want_again(&(sector, WantedMessage { kind: MessageKind::PreCommit, attempt })).await
    }

    /// Records that a node accepted the call's last envelope.
    pub async fn mark_pushed(&mut self, call: CallId, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE calls SET state = 'pushed', pushed_epoch = $2 WHERE id = $1 AND state IN ('signed', 'pushed')",
        )
        .bind(call.0)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a push"))?;
        Ok(())
    }

    /// Records that what a sector's last job wanted of this kind is on chain at the confident tipset. A want without a call
    /// is no longer needed.
    pub async fn mark_landed(&mut self, kind: MessageKind, sector: SectorId, epoch: i64) -> Result<(), StoreError> {
        for change in [
            format!(
                "UPDATE calls SET state = 'landed', landed_epoch = $4, exit_code = 0, \
                 pushed_epoch = COALESCE(pushed_epoch, $4) WHERE {} AND state IN ('signed', 'pushed')",
                calls_of_last_job()
            ),
            format!(
                "UPDATE wants SET state = CASE state WHEN 'called' THEN 'landed' ELSE 'failed' END, error = CASE state \
                 WHEN 'wanted' THEN 'its effect is on chain already, at epoch ' || CAST($4 AS BIGINT) END \
                 WHERE {OF_LAST_JOB} AND state IN ('wanted', 'called')"
            ),
        ] {
            sqlx::query(&change)
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

    /// Records that a call was executed with success, while no sector waited for it.
    pub async fn mark_executed(&mut self, call: CallId, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE calls SET state = 'landed', landed_epoch = $2, exit_code = 0, error = NULL, \
             pushed_epoch = COALESCE(pushed_epoch, $2) WHERE id = $1",
        )
        .bind(call.0)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record an execution"))?;
        sqlx::query(&format!("UPDATE wants SET state = 'landed', error = NULL WHERE {OF_CALL}"))
            .bind(call.0)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record an execution"))?;
        Ok(())
    }

    /// Records that something else has used the call's nonce, so that it can never land.
    pub async fn mark_replaced(&mut self, call: CallId, error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE calls SET state = 'replaced', error = $2 WHERE id = $1")
            .bind(call.0)
            .bind(error)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a replaced call"))?;
        self.fail_wants(OF_CALL, call.0, error).await
    }

    /// Records that a message has ended without its effect: its call if it has one, and what was wanted.
    pub async fn mark_failed(
        &mut self,
        message: &Message,
        exit_code: Option<u32>,
        error: &str,
    ) -> Result<(), StoreError> {
        if let Some(call) = message.state.call() {
            sqlx::query("UPDATE calls SET state = 'failed', exit_code = $2, error = $3 WHERE id = $1")
                .bind(call.0)
                .bind(exit_code.map(i64::from))
                .bind(error)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("record a failed call"))?;
        }
        match message.want {
            Some(want) => self.fail_wants(ITSELF, want.0, error).await,
            None => Ok(()),
        }
    }

    async fn fail_wants(&mut self, which: &str, id: i64, error: &str) -> Result<(), StoreError> {
        sqlx::query(&format!("UPDATE wants SET state = 'failed', error = $2 WHERE {which}"))
            .bind(id)
            .bind(error)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record what failed"))?;
        self.note_precommit(which, id, false).await
    }

    /// Records in the jobs' rows whether a PreCommit of their present attempt may have been sent.
    async fn note_precommit(&mut self, which: &str, id: i64, signed: bool) -> Result<(), StoreError> {
        sqlx::query(&format!(
            "UPDATE jobs SET signed = $2, version = version + 1 WHERE is_last = 1 AND id IN (SELECT wants.job FROM wants \
             WHERE {which} AND wants.kind = 'precommit' AND wants.attempt = jobs.attempt)"
        ))
        .bind(id)
        .bind(i64::from(signed))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("note a PreCommit"))?;
        Ok(())
    }
}

/// Selects the effective calls of what [`OF_LAST_JOB`] selects.
fn calls_of_last_job() -> String {
    format!(
        "calls.id IN (SELECT call_wants.call FROM call_wants JOIN wants ON wants.id = call_wants.want \
         WHERE {OF_LAST_JOB} AND call_wants.state NOT IN ('failed', 'replaced'))"
    )
}

fn not_wanted(message: &Message) -> StoreError {
    StoreError::BadRow { what: format!("message {}", message.key), problem: "not wanted any more".to_owned() }
}
