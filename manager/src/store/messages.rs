//! Messages to the chain: wanted, signed, pushed, landed.

use sealbus_schema::{MinerId, SectorId, SectorNumber};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, WantedMessage, rows, sql};

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `PreCommitSectorBatch2` of one sector.
    PreCommit,
    /// `ProveCommitSectors3` of one sector.
    ProveCommit,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// Nothing is signed yet.
    Wanted,
    /// Its bytes are fixed; whether a node has them is not known.
    Signed(Signed),
    /// A node took it.
    Pushed {
        /// The bytes.
        signed: Signed,
        /// The head when it was pushed last.
        epoch: i64,
    },
}

/// A message whose bytes are fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The CID under which the chain knows it.
    pub cid: String,
    /// The canonical CBOR of the signed message.
    pub bytes: Vec<u8>,
}

/// A message that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its purpose; there is never a second message for it.
    pub key: String,
    /// What it is for.
    pub kind: MessageKind,
    /// About which sector.
    pub sector: SectorId,
    /// Where it stands.
    pub state: MessageState,
}

impl MessageKind {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            MessageKind::PreCommit => "precommit",
            MessageKind::ProveCommit => "prove_commit",
        }
    }

    /// The key of the one message for this purpose.
    pub fn key(self, sector: SectorId, attempt: u32) -> String {
        format!("{}/{sector}/{attempt}", self.name())
    }
}

impl Store {
    /// Every message that is not over, in the order in which they were wanted by sector.
    pub async fn open_messages(&self) -> Result<Vec<Message>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM messages WHERE state IN ('wanted', 'signed', 'pushed') ORDER BY nonce, key")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read messages"))?;
        rows.iter().map(from_row).collect()
    }

    /// The nonce after the highest one that we have signed for a sender, 0 if there is none.
    pub async fn next_nonce(&self, sender: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(nonce) + 1, 0) AS next FROM messages WHERE sender = $1")
            .bind(sender)
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read the next nonce"))?;
        Ok(row.get::<i64, _>("next") as u64)
    }
}

impl Tx {
    /// Records that messages are wanted. What is recorded for a purpose already stays as it is.
    pub(super) async fn want_messages(&mut self, wanted: &[(SectorId, WantedMessage)]) -> Result<(), StoreError> {
        for wanted in rows::chunks(wanted) {
            let row = |n: usize| format!("({}, 'wanted')", self.places.list(n * 4 + 1, 4));
            let text = format!(
                "INSERT INTO messages (key, kind, miner, number, state) VALUES {} ON CONFLICT (key) DO NOTHING",
                (0..wanted.len()).map(row).collect::<Vec<_>>().join(", ")
            );
            let mut query = sqlx::query(&text);
            for (sector, WantedMessage { kind, attempt }) in wanted {
                query = query
                    .bind(kind.key(*sector, *attempt))
                    .bind(kind.name())
                    .bind(sector.miner.to_string())
                    .bind(sector.number.0 as i64);
            }
            query.execute(&mut *self.inner).await.map_err(sql("record that messages are wanted"))?;
        }
        Ok(())
    }

    /// Fixes a wanted message's bytes. From here on only these bytes are ever sent for its purpose.
    pub async fn save_signed(
        &mut self,
        key: &str,
        sender: &str,
        nonce: u64,
        cid: &str,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE messages SET state = 'signed', sender = $2, nonce = $3, cid = $4, signed = $5 \
             WHERE key = $1 AND state = 'wanted'",
        )
        .bind(key)
        .bind(sender)
        .bind(nonce as i64)
        .bind(cid)
        .bind(bytes.to_vec())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store a signed message"))?;
        if changed.rows_affected() == 1 {
            return Ok(());
        }
        Err(StoreError::BadRow { what: format!("message {key}"), problem: "not wanted any more".to_owned() })
    }

    /// A node took the message.
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

    /// The message is executed, with confidence.
    pub async fn mark_landed(&mut self, key: &str, epoch: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE messages SET state = 'landed', landed_epoch = $2, exit_code = 0, \
             pushed_epoch = COALESCE(pushed_epoch, $2) WHERE key = $1",
        )
        .bind(key)
        .bind(epoch)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a landing"))?;
        Ok(())
    }

    /// The message is over without its effect.
    pub async fn mark_failed(&mut self, key: &str, exit_code: Option<u32>, error: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE messages SET state = 'failed', exit_code = $2, error = $3 WHERE key = $1")
            .bind(key)
            .bind(exit_code.map(i64::from))
            .bind(error)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a failed message"))?;
        Ok(())
    }
}

fn from_row(row: &AnyRow) -> Result<Message, StoreError> {
    let key: String = row.get("key");
    let bad = |problem: String| StoreError::BadRow { what: format!("message {key}"), problem };
    let miner: MinerId = row.get::<String, _>("miner").parse().map_err(|e| bad(format!("{e}")))?;
    let kind = match row.get::<String, _>("kind").as_str() {
        "precommit" => MessageKind::PreCommit,
        "prove_commit" => MessageKind::ProveCommit,
        other => return Err(bad(format!("kind {other}"))),
    };
    let signed = || match (row.get::<Option<String>, _>("cid"), row.get::<Option<Vec<u8>>, _>("signed")) {
        (Some(cid), Some(bytes)) => Ok(Signed { cid, bytes }),
        _ => Err(bad("signed without bytes".to_owned())),
    };
    let state = match row.get::<String, _>("state").as_str() {
        "wanted" => MessageState::Wanted,
        "signed" => MessageState::Signed(signed()?),
        "pushed" => MessageState::Pushed {
            signed: signed()?,
            epoch: row
                .get::<Option<i64>, _>("pushed_epoch")
                .ok_or_else(|| bad("pushed without an epoch".to_owned()))?,
        },
        other => return Err(bad(format!("state {other}"))),
    };
    Ok(Message {
        key: key.clone(),
        kind,
        sector: SectorId { miner, number: SectorNumber(row.get::<i64, _>("number") as u64) },
        state,
    })
}
