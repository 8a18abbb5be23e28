//! Messages to the chain, from wanted to landed, or withdrawn with their nonce filled.

use sealbus_schema::{MinerId, SectorId, SectorNumber, machine::manager::Purpose};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, sql};

mod changes;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `PreCommitSectorBatch2` of one sector.
    PreCommit,
    /// `ProveCommitSectors3` of one sector.
    ProveCommit,
    /// A transfer of 0 FIL from a sender to itself. It uses up a nonce that would otherwise block the messages with later
    /// nonces.
    Filler,
}

/// The state of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// Nothing is signed yet.
    Wanted,
    /// A filler: nothing is signed yet, but the nonce is fixed.
    Reserved {
        /// The key address whose nonce it is.
        sender: String,
        /// The nonce.
        nonce: u64,
    },
    /// Its bytes are fixed. It is unknown whether a node has them.
    Signed(Signed),
    /// A node accepted it.
    Pushed {
        /// The bytes.
        signed: Signed,
        /// The head's epoch at the last push.
        epoch: i64,
    },
    /// It is no longer wanted, and a filler is to take its nonce. It may still land until the nonce is used.
    Withdrawn(Signed),
}

/// A message whose bytes are fixed. A new fee makes a new envelope, but never a new call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The CID under which the chain knows it.
    pub cid: String,
    /// The canonical CBOR of the signed message.
    pub bytes: Vec<u8>,
    /// The head's epoch when its nonce was taken; it cannot have landed before. `None` for messages of old versions.
    pub epoch: Option<i64>,
}

/// What earlier tries for one purpose have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many messages before this one were executed without success, since a person last decided.
    pub failures: u32,
    /// The least gas limit to sign the next one with.
    pub gas_limit_min: Option<u64>,
    /// The head's epoch when the node first refused to estimate this message.
    pub refused_epoch: Option<i64>,
}

/// A message that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The key of its purpose. There is never a second message with this key.
    pub key: String,
    /// The sector's attempt that wanted it.
    pub attempt: u32,
    /// What it is for.
    pub kind: MessageKind,
    /// The sector.
    pub sector: SectorId,
    /// Its state.
    pub state: MessageState,
    /// What earlier tries have shown.
    pub tries: Tries,
}

impl From<Purpose> for MessageKind {
    fn from(purpose: Purpose) -> MessageKind {
        match purpose {
            Purpose::PreCommit => MessageKind::PreCommit,
            Purpose::ProveCommit => MessageKind::ProveCommit,
        }
    }
}

impl MessageKind {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            MessageKind::PreCommit => "precommit",
            MessageKind::ProveCommit => "prove_commit",
            MessageKind::Filler => "filler",
        }
    }

    /// The key of the only message for this purpose. `turn` counts from 1. It rises when another message is wanted after
    /// the last one has failed for good.
    pub fn key(self, sector: SectorId, attempt: u32, turn: u32) -> String {
        let first = format!("{}/{sector}/{attempt}", self.name());
        if turn == 1 { first } else { format!("{first}.{turn}") }
    }
}

impl MessageState {
    /// What was signed, if anything.
    pub fn signed(&self) -> Option<&Signed> {
        match self {
            MessageState::Wanted | MessageState::Reserved { .. } => None,
            MessageState::Signed(signed) | MessageState::Pushed { signed, .. } | MessageState::Withdrawn(signed) => {
                Some(signed)
            }
        }
    }
}

/// The key of a nonce's filler.
pub fn filler_key(sender: &str, nonce: u64) -> String {
    format!("filler/{sender}/{nonce}")
}

impl Store {
    /// Every message that has not ended, by sector, in the order in which they were wanted.
    pub async fn open_messages(&self) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM messages WHERE state IN ('wanted', 'signed', 'pushed', 'withdrawn') ORDER BY nonce, key",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        rows.iter().map(from_row).collect()
    }

    /// The bytes of a sector's landed messages of this kind.
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

    /// An earlier message of the same purpose that may still land, if there is one.
    pub async fn earlier(&self, message: &Message) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(
            "SELECT key FROM messages WHERE kind = $1 AND miner = $2 AND number = $3 AND key <> $4 \
             AND state IN ('signed', 'pushed', 'withdrawn') ORDER BY nonce LIMIT 1",
        )
        .bind(message.kind.name())
        .bind(message.sector.miner.to_string())
        .bind(message.sector.number.0 as i64)
        .bind(message.key.clone())
        .fetch_optional(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(row.map(|row| row.get("key")))
    }

    /// The earlier envelopes of a message, which differ from the last one in the fee.
    pub async fn envelopes(&self, key: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query("SELECT signed FROM envelopes WHERE message = $1 ORDER BY cid")
            .bind(key.to_owned())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read envelopes"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// All envelopes of the messages with this nonce, except fillers.
    pub async fn beside(&self, sender: &str, nonce: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM messages WHERE sender = $1 AND nonce = $2 AND kind <> 'filler' AND signed IS NOT NULL \
             UNION ALL SELECT e.signed FROM envelopes e JOIN messages m ON m.key = e.message \
             WHERE m.sender = $1 AND m.nonce = $2 AND m.kind <> 'filler'",
        )
        .bind(sender.to_owned())
        .bind(nonce as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// The nonces of a sender in this range that an unfinished message has or will have.
    pub async fn nonces_in_use(&self, sender: &str, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT nonce FROM messages WHERE sender = $1 AND nonce >= $2 AND nonce < $3 \
             AND state IN ('wanted', 'signed', 'pushed', 'withdrawn')",
        )
        .bind(sender.to_owned())
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get::<i64, _>("nonce") as u64).collect())
    }

    /// The bytes of a sender's executed messages with nonces in this range.
    pub async fn over_between(&self, sender: &str, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM messages WHERE sender = $1 AND nonce >= $2 AND nonce < $3 \
             AND (state = 'landed' OR (state = 'failed' AND exit_code IS NOT NULL)) AND signed IS NOT NULL ORDER BY nonce",
        )
        .bind(sender)
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// The nonce after the highest one that we have signed for a sender; 0 if there is none.
    pub async fn next_nonce(&self, sender: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(nonce) + 1, 0) AS next FROM messages WHERE sender = $1")
            .bind(sender)
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read the next nonce"))?;
        Ok(row.get::<i64, _>("next") as u64)
    }
}

fn from_row(row: &AnyRow) -> Result<Message, StoreError> {
    let key: String = row.get("key");
    let bad = |problem: String| StoreError::BadRow { what: format!("message {key}"), problem };
    let miner: MinerId = row.get::<String, _>("miner").parse().map_err(|e| bad(format!("{e}")))?;
    let kind = match row.get::<String, _>("kind").as_str() {
        "precommit" => MessageKind::PreCommit,
        "prove_commit" => MessageKind::ProveCommit,
        "filler" => MessageKind::Filler,
        other => return Err(bad(format!("kind {other}"))),
    };
    let signed = || match (row.get::<Option<String>, _>("cid"), row.get::<Option<Vec<u8>>, _>("signed")) {
        (Some(cid), Some(bytes)) => Ok(Signed { cid, bytes, epoch: row.get("signed_epoch") }),
        _ => Err(bad("signed without bytes".to_owned())),
    };
    let state = match row.get::<String, _>("state").as_str() {
        "wanted" => match (row.get::<Option<String>, _>("sender"), row.get::<Option<i64>, _>("nonce")) {
            (Some(sender), Some(nonce)) => MessageState::Reserved { sender, nonce: nonce as u64 },
            _ => MessageState::Wanted,
        },
        "signed" => MessageState::Signed(signed()?),
        "withdrawn" => MessageState::Withdrawn(signed()?),
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
        tries: Tries {
            failures: row.get::<i64, _>("failures") as u32,
            gas_limit_min: row.get::<Option<i64>, _>("gas_limit_min").map(|limit| limit as u64),
            refused_epoch: row.get("refused_epoch"),
        },
    })
}
