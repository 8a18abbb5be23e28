//! What happens to calls, and so to what they carry. Each change and its consequences are one transaction.

use sealbus_schema::{MinerId, SectorId};
use sqlx::{Any, Row, any::AnyArguments, query::Query};

use super::{CallId, Envelope, Message, MessageKind, MessageState, Tries, WantId};
use crate::store::{StoreError, Tx, WantedMessage, sql};

/// Selects wants: the one with the number `$1`, or those that the call with the number `$1` carries.
const ITSELF: &str = "wants.id = $1";
pub(super) const OF_CALL: &str = "wants.id IN (SELECT want FROM call_wants WHERE call = $1)";
/// Selects the errand of the call with the number `$1`.
const ERRAND_OF_CALL: &str = "errands.id = (SELECT errand FROM calls WHERE calls.id = $1)";
/// Whether a call in a row of `calls` still carries a want that has not ended.
const IS_OPEN: &str = "EXISTS (SELECT 1 FROM call_wants JOIN wants ON wants.id = call_wants.want \
    WHERE call_wants.call = calls.id AND wants.state IN ('called', 'withdrawn'))";
/// Selects what a sector's last job wanted of kind `$1`; the sector is `$2` and `$3`.
const OF_LAST_JOB: &str = "wants.kind = $1 AND wants.miner = $2 AND wants.number = $3 \
    AND wants.job = (SELECT jobs.id FROM jobs WHERE jobs.miner = $2 AND jobs.number = $3 AND jobs.is_last = 1)";
/// Whether a call in a row of `calls` was taken from the chain, and carries a want whose sector has not seen that yet.
const IS_REVERTED: &str = "(landed_epoch IS NULL AND EXISTS (SELECT 1 FROM call_wants JOIN wants ON wants.id = call_wants.want \
    WHERE call_wants.call = calls.id AND wants.state = 'landed'))";

impl Tx {
    /// Gives wants, or an errand, their call; or a reserved filler its bytes. From now on only this call is ever sent for
    /// them, unless the call fails. `messages` are in the order of the call's parameters.
    pub async fn save_signed(
        &mut self,
        messages: &[&Message],
        sender: &str,
        nonce: u64,
        epoch: i64,
        envelope: &Envelope,
    ) -> Result<CallId, StoreError> {
        let Some(first) = messages.first() else {
            return Err(StoreError::BadRow { what: "a call".to_owned(), problem: "nobody wants it".to_owned() });
        };
        let call = match first.state {
            MessageState::Reserved { call, .. } => {
                let signed = "UPDATE calls SET state = 'signed', envelope = 1, signed_epoch = $2 \
                              WHERE id = $1 AND state = 'reserved'";
                self.change_one(first, sqlx::query(signed).bind(call.0).bind(epoch)).await?;
                call
            }
            MessageState::Wanted => {
                for message in messages {
                    self.mark_called(message).await?;
                }
                let call = self.insert_call(first, sender, nonce, epoch).await?;
                for (position, want) in messages.iter().filter_map(|message| message.want).enumerate() {
                    self.add_to_call(call, position, want).await?;
                }
                self.note_precommit(OF_CALL, call.0, true).await?;
                call
            }
            _ => return Err(not_wanted(first)),
        };
        self.insert_envelope(call, envelope).await?;
        Ok(call)
    }

    /// Executes a change of [`Self::save_signed`]. An error if the message is not as it was read.
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

    async fn insert_call(
        &mut self,
        message: &Message,
        sender: &str,
        nonce: u64,
        epoch: i64,
    ) -> Result<CallId, StoreError> {
        let call = sqlx::query(
            "INSERT INTO calls (kind, miner, errand, state, sender, nonce, envelope, signed_epoch) \
             VALUES ($1, $2, $3, 'signed', $4, $5, 1, $6) RETURNING id",
        )
        .bind(message.kind.name())
        .bind(message.miner.to_string())
        .bind(message.errand.map(|errand| errand.0))
        .bind(sender)
        .bind(nonce as i64)
        .bind(epoch)
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("store a call"))?;
        Ok(CallId(call.get("id")))
    }

    /// Records that a want or an errand gets its call.
    pub(super) async fn mark_called(&mut self, message: &Message) -> Result<(), StoreError> {
        let (table, id) = match (message.want, message.errand) {
            (Some(want), _) => ("wants", want.0),
            (None, Some(errand)) => ("errands", errand.0),
            (None, None) => return Err(not_wanted(message)),
        };
        let called = format!("UPDATE {table} SET state = 'called' WHERE id = $1 AND state = 'wanted'");
        self.change_one(message, sqlx::query(&called).bind(id)).await
    }

    pub(super) async fn add_to_call(&mut self, call: CallId, position: usize, want: WantId) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO call_wants (call, position, want, state) VALUES ($1, $2, $3, 'signed')")
            .bind(call.0)
            .bind(position as i64)
            .bind(want.0)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("store what a call carries"))?;
        Ok(())
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
    pub(super) async fn insert_envelope(&mut self, call: CallId, envelope: &Envelope) -> Result<(), StoreError> {
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
            &format!("UPDATE errands SET state = 'withdrawn', error = $2 WHERE {ERRAND_OF_CALL} AND state = 'called'"),
        ] {
            let query = sqlx::query(change).bind(call.0).bind(why);
            query.execute(&mut *self.inner).await.map_err(sql("withdraw a call"))?;
        }
        Ok(())
    }

    /// Records that what a sector's last job wanted of this kind had landed and is no longer on chain. Its call is pushed
    /// again. What else the call carries stays landed until its own sector is looked at. If nothing had landed, another is wanted:
    /// the sector's effect was that of a withdrawn call, which is not pushed again.
    pub async fn mark_reverted(&mut self, kind: MessageKind, sector: SectorId) -> Result<(), StoreError> {
        let call = format!(
            "UPDATE calls SET state = 'pushed', pushed_epoch = 0, landed_epoch = NULL, exit_code = NULL \
             WHERE {} AND state IN ('landed', 'pushed')",
            calls_of_last_job("wants.state = 'landed'")
        );
        let want = format!("UPDATE wants SET state = 'called' WHERE {OF_LAST_JOB} AND state = 'landed'");
        self.change_of_sector("follow a call again", (kind, sector), [call, want]).await?;
        let Some(attempt) = self.sector(sector).await?.map(|sector| sector.attempt) else { return Ok(()) };
        self.want_again(&(sector, WantedMessage { kind, attempt })).await?;
        Ok(())
    }

    /// Executes changes whose values `$1` to `$3` select what a sector's last job wanted of this kind.
    async fn change_of_sector(
        &mut self,
        operation: &'static str,
        (kind, sector): (MessageKind, SectorId),
        changes: [String; 2],
    ) -> Result<(), StoreError> {
        for change in changes {
            sqlx::query(&change)
                .bind(kind.name())
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .execute(&mut *self.inner)
                .await
                .map_err(sql(operation))?;
        }
        Ok(())
    }

    /// Reserves a nonce for a filler, on behalf of a miner, and of a sector if there is one. Returns whether it was not reserved
    /// before.
    pub async fn want_filler(
        &mut self,
        (miner, sector): (MinerId, Option<SectorId>),
        sender: &str,
        nonce: u64,
    ) -> Result<bool, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO calls (kind, miner, number, state, sender, nonce) \
             VALUES ('filler', $1, $2, 'reserved', $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(miner.to_string())
        .bind(sector.map(|sector| sector.number.0 as i64))
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

    /// Records that a want has ended without the effect, or is withdrawn, and that the same is wanted again.
    pub async fn want_another(
        &mut self,
        message: &Message,
        exit_code: Option<u32>,
        error: &str,
        tries: Tries,
    ) -> Result<(), StoreError> {
        self.mark_failed(message, exit_code, error).await?;
        self.want_once_more(message, tries).await
    }

    /// Wants the same again for a message that has ended without its effect or is withdrawn.
    pub async fn want_once_more(&mut self, message: &Message, tries: Tries) -> Result<(), StoreError> {
        if let Some(errand) = message.errand {
            return self.want_errand_again(errand).await;
        }
        let Some(sector) = message.sector else { return Err(not_wanted(message)) };
        let wanted = (sector, WantedMessage { kind: message.kind, attempt: message.attempt });
        self.want_again(&wanted).await?;
        sqlx::query(
            "UPDATE wants SET failures = $5, gas_limit_min = $6, batch_max = $7 \
             WHERE kind = $1 AND miner = $2 AND number = $3 AND attempt = $4 AND state = 'wanted'",
        )
        .bind(message.kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .bind(i64::from(message.attempt))
        .bind(i64::from(tries.failures))
        .bind(tries.gas_limit_min.map(|limit| limit as i64))
        .bind(tries.batch_max.map(i64::from))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("want another message"))?;
        Ok(())
    }

    /// Records that the PreCommit of a sector's present attempt had landed and has vanished for good, and that another
    /// one is wanted. Returns whether that was not known before.
    pub async fn want_precommit_again(&mut self, sector: SectorId) -> Result<bool, StoreError> {
        let Some(attempt) = self.sector(sector).await?.map(|sector| sector.attempt) else { return Ok(false) };
        let gone = "error = 'gone from the chain, and its nonce is used'";
        let want = format!("UPDATE wants SET state = 'failed', {gone} WHERE {OF_LAST_JOB} AND state = 'landed'");
        // What else the call carries is looked at with its own sector.
        let call = format!(
            "UPDATE calls SET state = 'replaced', {gone} WHERE {} AND state IN ('landed', 'pushed') \
             AND NOT EXISTS (SELECT 1 FROM call_wants JOIN wants ON wants.id = call_wants.want \
             WHERE call_wants.call = calls.id AND wants.state IN ('called', 'withdrawn', 'landed'))",
            calls_of_last_job("wants.state = 'failed'")
        );
        let of = (MessageKind::PreCommit, sector);
        self.change_of_sector("record a lost PreCommit", of, [want, call]).await?;
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
        let calls = calls_of_last_job("wants.state IN ('called', 'landed')");
        for change in [
            format!(
                "UPDATE calls SET landed_epoch = $4, exit_code = 0, pushed_epoch = COALESCE(pushed_epoch, $4) \
                 WHERE {calls} AND state IN ('signed', 'pushed')"
            ),
            format!(
                "UPDATE wants SET state = CASE state WHEN 'called' THEN 'landed' ELSE 'failed' END, error = CASE state \
                 WHEN 'wanted' THEN 'its effect is on chain already, at epoch ' || CAST($4 AS BIGINT) END \
                 WHERE {OF_LAST_JOB} AND state IN ('wanted', 'called')"
            ),
            format!(
                "UPDATE calls SET state = 'landed' WHERE {calls} AND state IN ('signed', 'pushed') AND landed_epoch = $4 \
                 AND NOT {IS_OPEN}"
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

    /// Records that a message was executed with success, while no sector waited for it.
    pub async fn mark_executed(&mut self, message: &Message, epoch: i64, returned: &[u8]) -> Result<(), StoreError> {
        if let Some(want) = message.want {
            sqlx::query("UPDATE wants SET state = 'landed', error = NULL WHERE id = $1")
                .bind(want.0)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("record an execution"))?;
        }
        if let Some(errand) = message.errand {
            self.land_errand(errand, epoch, returned).await?;
        }
        let Some(call) = message.state.call() else { return Ok(()) };
        sqlx::query(
            "UPDATE calls SET landed_epoch = $2, exit_code = 0, pushed_epoch = COALESCE(pushed_epoch, $2) WHERE id = $1",
        )
        .bind(call.0)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record an execution"))?;
        self.end_call(call, "landed", None).await
    }

    /// Records that something else has used the nonce of a message's call, so that it can never land.
    pub async fn mark_replaced(&mut self, message: &Message, error: &str) -> Result<(), StoreError> {
        self.fail(message, "replaced", None, error).await
    }

    /// Records that a message has ended without its effect: what was wanted, and its call if that carries nothing else. With
    /// an exit code it was executed; with a call and no exit code, something else has used its nonce.
    pub async fn mark_failed(
        &mut self,
        message: &Message,
        exit_code: Option<u32>,
        error: &str,
    ) -> Result<(), StoreError> {
        let as_what = if exit_code.is_some() { "failed" } else { "replaced" };
        self.fail(message, as_what, exit_code, error).await
    }

    async fn fail(
        &mut self,
        message: &Message,
        as_what: &str,
        exit_code: Option<u32>,
        error: &str,
    ) -> Result<(), StoreError> {
        if let Some(want) = message.want {
            self.fail_wants(ITSELF, want.0, error).await?;
        }
        if let Some(errand) = message.errand {
            self.fail_errand(errand, exit_code, error).await?;
        }
        match message.state.call() {
            Some(call) => self.end_call(call, as_what, Some((exit_code, error))).await,
            None => Ok(()),
        }
    }

    /// Ends a call that carries nothing any more that has not ended. If any of it has landed, so has the call.
    async fn end_call(
        &mut self,
        call: CallId,
        as_what: &str,
        failure: Option<(Option<u32>, &str)>,
    ) -> Result<(), StoreError> {
        sqlx::query(&format!(
            "UPDATE calls SET state = CASE WHEN landed_epoch IS NULL THEN $2 ELSE 'landed' END, \
             exit_code = CASE WHEN landed_epoch IS NULL THEN CAST($3 AS BIGINT) ELSE 0 END, \
             error = CASE WHEN landed_epoch IS NULL THEN CAST($4 AS TEXT) END \
             WHERE id = $1 AND NOT {IS_OPEN} AND NOT {IS_REVERTED}"
        ))
        .bind(call.0)
        .bind(as_what)
        .bind(failure.and_then(|(exit, _)| exit).map(i64::from))
        .bind(failure.map(|(_, error)| error))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a call's end"))?;
        Ok(())
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
    pub(super) async fn note_precommit(&mut self, which: &str, id: i64, signed: bool) -> Result<(), StoreError> {
        // In a restored database, what ends here may have been followed by another call, signed after the backup.
        if !signed && self.restored().await?.is_some() {
            return Ok(());
        }
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

/// Selects the effective calls of those wants that [`OF_LAST_JOB`] selects and that are in these states.
fn calls_of_last_job(states: &str) -> String {
    format!(
        "calls.id IN (SELECT call_wants.call FROM call_wants JOIN wants ON wants.id = call_wants.want \
         WHERE {OF_LAST_JOB} AND {states} AND call_wants.state NOT IN ('failed', 'replaced'))"
    )
}

fn not_wanted(message: &Message) -> StoreError {
    StoreError::BadRow { what: format!("message {}", message.key), problem: "not wanted any more".to_owned() }
}
