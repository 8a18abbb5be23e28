//! Messages to the chain: wanted, signed, pushed, landed.

use sealbus_schema::{MinerId, SectorId, SectorNumber};
use sqlx::{Row, any::AnyRow};

use super::{
    Store, StoreError, Tx, WantedMessage,
    rows::{self, Places},
    sql,
    statements::Statement,
};

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
    /// The attempt at the sector that wanted it.
    pub attempt: u32,
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

    /// The key of the one message for this purpose. `turn` is 1, and rises when a person orders another message after the
    /// last one has failed for good.
    pub fn key(self, sector: SectorId, attempt: u32, turn: u32) -> String {
        let first = format!("{}/{sector}/{attempt}", self.name());
        if turn == 1 { first } else { format!("{first}.{turn}") }
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

    /// The bytes of a sector's messages of a kind that had landed.
    pub async fn landed(&self, kind: MessageKind, sector: SectorId) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM messages WHERE kind = $1 AND miner = $2 AND number = $3 AND state = 'landed' \
             AND signed IS NOT NULL ORDER BY nonce",
        )
        .bind(kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// The bytes of a sender's messages that are over, from one nonce up to another.
    pub async fn over_between(&self, sender: &str, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM messages WHERE sender = $1 AND nonce >= $2 AND nonce < $3 \
             AND state IN ('landed', 'failed') AND signed IS NOT NULL ORDER BY nonce",
        )
        .bind(sender)
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
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
    /// Records that messages are wanted. One that is recorded for a purpose already stays as it is, unless it has failed:
    /// then another one takes its turn.
    pub(crate) async fn want_messages(&mut self, wanted: &[(SectorId, WantedMessage)]) -> Result<(), StoreError> {
        // Nearly always nothing is recorded for any of these purposes.
        if self.insert_wanted(wanted, 1).await? < wanted.len() as u64 {
            for message in wanted {
                self.want_again(message).await?;
            }
        }
        Ok(())
    }

    /// Wants a message another time, if all that there were for its purpose have failed.
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
        if of_purpose.iter().any(|row| row.get::<String, _>("state") != "failed") {
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

    /// Inserts those of these messages that are not there, and says how many.
    async fn insert_wanted(&mut self, wanted: &[(SectorId, WantedMessage)], turn: u32) -> Result<u64, StoreError> {
        let places = self.places;
        let statements = rows::chunks(wanted).map(move |wanted| insert(places, wanted, turn));
        self.execute_each("record that messages are wanted", Box::new(statements)).await
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
        if changed.rows_affected() != 1 {
            let problem = "not wanted any more".to_owned();
            return Err(StoreError::BadRow { what: format!("message {key}"), problem });
        }
        self.note_precommit(key, true).await
    }

    /// Keeps in the sector's row whether a PreCommit of its present attempt may be anywhere.
    async fn note_precommit(&mut self, key: &str, signed: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE sectors SET precommit_signed = $2, version = version + 1 WHERE EXISTS (SELECT 1 FROM messages m WHERE m.key = $1 \
             AND m.kind = 'precommit' AND m.miner = sectors.miner AND m.number = sectors.number \
             AND m.attempt = sectors.attempt)",
        )
        .bind(key)
        .bind(i64::from(signed))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("note a PreCommit"))?;
        Ok(())
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

    /// What a sector's messages of a kind are for is on chain, with confidence. One that is not signed yet is not needed.
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

    /// The message is over without its effect.
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
        attempt: row.get::<i64, _>("attempt") as u32,
        kind,
        sector: SectorId { miner, number: SectorNumber(row.get::<i64, _>("number") as u64) },
        state,
    })
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
