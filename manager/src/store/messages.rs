//! Messages to the chain, from wanted to landed, or withdrawn with their nonce filled.
//!
//! A *want* is one purpose: what must happen on chain for a job. A *call* does it: a method with a sender and a nonce, which
//! it keeps for ever. It may carry several wants. An *envelope* is the signed bytes of a call with one fee. An *errand* is a
//! message that a person or a policy asked for, and its call carries no wants. A filler is a call without either. A
//! *delegated* call is sent by Venus' messager: it has an id instead of a nonce.

use sealbus_schema::{MinerId, SectorId, SectorNumber, machine::manager::Purpose};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, sql};

mod calls;
mod changes;
mod delegated;
mod errands;
mod wants;

pub use calls::{CallFilter, CallRow, CarriedSector, Unsigned};
pub use delegated::{Delegated, NewDelegated, Stage};
pub use errands::{Errand, ErrandId, ErrandState, NewErrand};

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `PreCommitSectorBatch2`.
    PreCommit,
    /// `ProveCommitSectors3`.
    ProveCommit,
    /// A transfer of 0 FIL from a sender to itself. It uses up a nonce that would otherwise block the messages with later
    /// nonces.
    Filler,
    /// What a person or a policy asked for.
    Errand,
}

/// The number of a want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantId(pub i64);

/// The number of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub i64);

/// The state of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// There is no call yet.
    Wanted,
    /// A filler: nothing is signed yet, but the nonce is fixed.
    Reserved {
        /// The filler.
        call: CallId,
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
    /// The messager sends it.
    Delegated(Delegated),
}

/// A signed call, with its last envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The call.
    pub call: CallId,
    /// The CID under which the chain knows the envelope.
    pub cid: String,
    /// The canonical CBOR of the signed message.
    pub bytes: Vec<u8>,
    /// The head's epoch when the call took its nonce; it cannot have landed before. `None` for calls of old versions.
    pub epoch: Option<i64>,
}

/// The signed bytes of a call, with the fees that they contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The CID under which the chain knows it.
    pub cid: String,
    /// The canonical CBOR of the signed message.
    pub bytes: Vec<u8>,
    /// The most gas that it may use, in units.
    pub gas_limit: u64,
    /// The most that a unit of gas may cost, in attoFIL.
    pub fee_cap_atto: String,
    /// What a unit of gas pays on top of the base fee, in attoFIL.
    pub premium_atto: String,
}

/// What earlier tries for one purpose have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many calls before this one were executed without success, since a person last decided.
    pub failures: u32,
    /// The least gas limit to sign the next one with.
    pub gas_limit_min: Option<u64>,
    /// The head's epoch when the node first refused to estimate this message.
    pub refused_epoch: Option<i64>,
    /// The most sectors that the next one may carry, after a larger one has failed as a whole. `None`: any number.
    pub batch_max: Option<u32>,
}

/// What may be signed with others, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The head's epoch when the driver first saw that it may be signed. `None`: not yet.
    pub epoch: Option<i64>,
    /// Whether a person does not want it to wait for others.
    pub is_hurried: bool,
}

/// The place of a want in its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position in the call's parameters, from 0.
    pub position: u32,
    /// How many wants the call carries, ended ones included.
    pub of: u32,
}

/// A want that has not ended, with its call if it has one; or a filler or an errand. The wants of one call are a message
/// each: what concerns the call is done once for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name for people, which no other message has.
    pub key: String,
    /// What is wanted. `None` for a filler and an errand.
    pub want: Option<WantId>,
    /// What was asked for, if it is an errand.
    pub errand: Option<ErrandId>,
    /// Whether the sector's last job wants it, and not an earlier one.
    pub is_of_last_job: bool,
    /// The attempt that wants it.
    pub attempt: u32,
    /// What it is for.
    pub kind: MessageKind,
    /// The miner.
    pub miner: MinerId,
    /// The sector. `None` if it concerns the miner as a whole.
    pub sector: Option<SectorId>,
    /// Its state.
    pub state: MessageState,
    /// Its place in its call.
    pub place: Place,
    /// Since when it may be signed.
    pub ready: Ready,
    /// What earlier tries have shown.
    pub tries: Tries,
}

impl Default for Place {
    fn default() -> Place {
        Place { position: 0, of: 1 }
    }
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
            MessageKind::Errand => "errand",
        }
    }

    /// The stored name's kind.
    pub fn of_name(name: &str) -> Option<MessageKind> {
        [MessageKind::PreCommit, MessageKind::ProveCommit, MessageKind::Filler, MessageKind::Errand]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// The name of a want. `turn` counts from 1. It rises when the same is wanted again after the last want has ended in
    /// vain or was withdrawn.
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
            MessageState::Delegated(delegated) => delegated.signed.as_ref(),
        }
    }

    /// The call, if there is one.
    pub fn call(&self) -> Option<CallId> {
        match self {
            MessageState::Reserved { call, .. } | MessageState::Delegated(Delegated { call, .. }) => Some(*call),
            state => state.signed().map(|signed| signed.call),
        }
    }
}

/// The name of a nonce's filler.
pub fn filler_key(sender: &str, nonce: u64) -> String {
    format!("filler/{sender}/{nonce}")
}

/// The name of an errand.
fn errand_key(kind: &str, id: ErrandId) -> String {
    format!("{kind}/{}", id.0)
}

/// Every want that has not ended, with the call that may take effect; every filler and every errand that has not ended. Here
/// and below, the condition on `call_wants.state` is the one of its index.
const OPEN: &str = "\
    SELECT wants.id AS want, CAST(NULL AS BIGINT) AS errand, CAST(NULL AS TEXT) AS errand_kind, wants.kind, wants.miner, wants.number, wants.attempt, \
        turn, jobs.is_last, failures, gas_limit_min, refused_epoch, batch_max, ready_epoch, hurried, calls.id AS call, \
        COALESCE(calls.state, wants.state) AS state, sender, nonce, uid, unsigned, max_fee, signed_epoch, pushed_epoch, cid, \
        envelopes.signed, \
        COALESCE(position, 0) AS position, \
        (SELECT COUNT(*) FROM call_wants AS carried WHERE carried.call = calls.id) AS carried \
    FROM wants \
        JOIN jobs ON jobs.id = wants.job \
        LEFT JOIN call_wants ON call_wants.want = wants.id AND call_wants.state NOT IN ('failed', 'replaced') \
        LEFT JOIN calls ON calls.id = call_wants.call \
        LEFT JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope \
    WHERE wants.state IN ('wanted', 'called', 'withdrawn') \
    UNION ALL \
    SELECT NULL, NULL, NULL, kind, miner, number, 1, 1, 1, 0, NULL, NULL, NULL, NULL, 0, calls.id, state, \
        sender, nonce, uid, unsigned, max_fee, signed_epoch, pushed_epoch, cid, signed, 0, 1 \
    FROM calls LEFT JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope \
    WHERE calls.state IN ('reserved', 'signed', 'pushed', 'withdrawn') AND calls.kind = 'filler' \
    UNION ALL \
    SELECT NULL, errands.id, errands.kind, 'errand', errands.miner, NULL, 1, 1, 1, 0, NULL, NULL, NULL, NULL, 0, calls.id, \
        COALESCE(calls.state, errands.state), calls.sender, nonce, uid, unsigned, max_fee, signed_epoch, pushed_epoch, cid, \
        signed, 0, 1 \
    FROM errands \
        LEFT JOIN calls ON calls.errand = errands.id AND calls.state NOT IN ('failed', 'replaced') \
        LEFT JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope \
    WHERE errands.state IN ('wanted', 'called', 'withdrawn') \
    ORDER BY nonce, call, position, want, errand";

impl Store {
    /// Every message that has not ended: by nonce, those of one call together; those without a call in the order in which they
    /// were wanted.
    pub async fn open_messages(&self) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(OPEN).fetch_all(&self.pool).await.map_err(sql("read messages"))?;
        rows.iter().map(from_row).collect()
    }

    /// The last envelopes of the calls in which what a sector's last job wanted of this kind has landed.
    pub async fn landed(&self, kind: MessageKind, sector: SectorId) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT envelopes.signed FROM wants JOIN jobs ON jobs.id = wants.job AND jobs.is_last = 1 \
             JOIN call_wants ON call_wants.want = wants.id AND call_wants.state NOT IN ('failed', 'replaced') \
             JOIN calls ON calls.id = call_wants.call \
             JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope \
             WHERE wants.kind = $1 AND wants.miner = $2 AND wants.number = $3 AND wants.state = 'landed' ORDER BY nonce",
        )
        .bind(kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// Another want of the same kind and sector whose call may still land, if there is one.
    pub async fn earlier(&self, message: &Message) -> Result<Option<String>, StoreError> {
        let Some(sector) = message.sector else { return Ok(None) };
        let row = sqlx::query(
            "SELECT attempt, turn FROM wants WHERE kind = $1 AND miner = $2 AND number = $3 AND id <> $4 \
             AND state IN ('called', 'withdrawn') ORDER BY id LIMIT 1",
        )
        .bind(message.kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .bind(message.want.map(|want| want.0))
        .fetch_optional(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        let count = |row: &AnyRow, column| row.get::<i64, _>(column) as u32;
        Ok(row.map(|row| message.kind.key(sector, count(&row, "attempt"), count(&row, "turn"))))
    }

    /// The senders and nonces of the calls that carried other wants of the same kind and sector.
    pub async fn spent(&self, message: &Message) -> Result<Vec<(String, u64)>, StoreError> {
        let Some(sector) = message.sector else { return Ok(Vec::new()) };
        let rows = sqlx::query(
            "SELECT DISTINCT calls.sender, calls.nonce FROM wants JOIN call_wants ON call_wants.want = wants.id \
             JOIN calls ON calls.id = call_wants.call \
             WHERE wants.kind = $1 AND wants.miner = $2 AND wants.number = $3 AND wants.id <> $4 AND calls.nonce IS NOT NULL",
        )
        .bind(message.kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .bind(message.want.map(|want| want.0))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| (row.get("sender"), row.get::<i64, _>("nonce") as u64)).collect())
    }

    /// The earlier envelopes of a call, oldest first. They differ from the last one in the fee.
    pub async fn envelopes(&self, call: CallId) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM envelopes JOIN calls ON calls.id = envelopes.call \
             WHERE envelopes.call = $1 AND envelopes.serial < calls.envelope ORDER BY envelopes.serial",
        )
        .bind(call.0)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read envelopes"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// All envelopes of the calls with this nonce, except fillers.
    pub async fn beside(&self, sender: &str, nonce: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM calls JOIN envelopes ON envelopes.call = calls.id \
             WHERE sender = $1 AND nonce = $2 AND kind <> 'filler' ORDER BY envelopes.serial",
        )
        .bind(sender.to_owned())
        .bind(nonce as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// The nonces of a sender in this range that an unfinished call has.
    pub async fn nonces_in_use(&self, sender: &str, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT nonce FROM calls WHERE sender = $1 AND nonce >= $2 AND nonce < $3 \
             AND state IN ('reserved', 'signed', 'pushed', 'withdrawn')",
        )
        .bind(sender.to_owned())
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get::<i64, _>("nonce") as u64).collect())
    }

    /// The last envelopes of a sender's executed calls with nonces in this range.
    pub async fn over_between(&self, sender: &str, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let rows = sqlx::query(
            "SELECT signed FROM calls JOIN envelopes ON envelopes.call = calls.id AND envelopes.serial = calls.envelope \
             WHERE sender = $1 AND nonce >= $2 AND nonce < $3 \
             AND (state = 'landed' OR (state = 'failed' AND exit_code IS NOT NULL)) ORDER BY nonce",
        )
        .bind(sender)
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read messages"))?;
        Ok(rows.iter().map(|row| row.get("signed")).collect())
    }

    /// The nonce after the highest one that we have taken for a sender; 0 if there is none.
    pub async fn next_nonce(&self, sender: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(nonce) + 1, 0) AS next FROM calls WHERE sender = $1")
            .bind(sender)
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read the next nonce"))?;
        Ok(row.get::<i64, _>("next") as u64)
    }
}

fn from_row(row: &AnyRow) -> Result<Message, StoreError> {
    let (want, call): (Option<i64>, Option<i64>) = (row.get("want"), row.get("call"));
    let bad = |problem: String| {
        let what = want.map_or_else(|| format!("call {call:?}"), |want| format!("want {want}"));
        StoreError::BadRow { what, problem }
    };
    let miner: MinerId = row.get::<String, _>("miner").parse().map_err(|e| bad(format!("{e}")))?;
    let number: Option<i64> = row.get("number");
    let sector = number.map(|number| SectorId { miner, number: SectorNumber(number as u64) });
    let errand = row.get::<Option<i64>, _>("errand").map(ErrandId);
    let kind: String = row.get("kind");
    let kind = MessageKind::of_name(&kind).ok_or_else(|| bad(format!("kind {kind}")))?;
    let attempt = row.get::<i64, _>("attempt") as u32;
    let nonce = || match (row.get::<Option<String>, _>("sender"), row.get::<Option<i64>, _>("nonce")) {
        (Some(sender), Some(nonce)) => Ok((sender, nonce as u64)),
        _ => Err(bad("no nonce".to_owned())),
    };
    let key = match (kind, sector, errand) {
        (MessageKind::Filler, ..) => nonce().map(|(sender, nonce)| filler_key(&sender, nonce))?,
        (_, _, Some(errand)) => errand_key(&row.get::<String, _>("errand_kind"), errand),
        (kind, Some(sector), None) => kind.key(sector, attempt, row.get::<i64, _>("turn") as u32),
        (_, None, None) => return Err(bad("no sector".to_owned())),
    };
    let call = call.map(CallId).ok_or_else(|| bad("no call".to_owned()));
    let signed = |call| match (row.get::<Option<String>, _>("cid"), row.get::<Option<Vec<u8>>, _>("signed")) {
        (Some(cid), Some(bytes)) => Ok(Signed { call, cid, bytes, epoch: row.get("signed_epoch") }),
        _ => Err(bad("signed without bytes".to_owned())),
    };
    let state = match row.get::<String, _>("state").as_str() {
        "wanted" => MessageState::Wanted,
        stored if row.get::<Option<String>, _>("uid").is_some() => {
            MessageState::Delegated(delegated::from_row(row, call?, stored).map_err(bad)?)
        }
        "reserved" => {
            let (sender, nonce) = nonce()?;
            MessageState::Reserved { call: call?, sender, nonce }
        }
        "signed" => MessageState::Signed(signed(call?)?),
        "withdrawn" => MessageState::Withdrawn(signed(call?)?),
        "pushed" => MessageState::Pushed {
            signed: signed(call?)?,
            epoch: row
                .get::<Option<i64>, _>("pushed_epoch")
                .ok_or_else(|| bad("pushed without an epoch".to_owned()))?,
        },
        other => return Err(bad(format!("state {other}"))),
    };
    let tries = Tries {
        failures: row.get::<i64, _>("failures") as u32,
        gas_limit_min: row.get::<Option<i64>, _>("gas_limit_min").map(|limit| limit as u64),
        refused_epoch: row.get("refused_epoch"),
        batch_max: row.get::<Option<i64>, _>("batch_max").map(|most| most as u32),
    };
    let place =
        Place { position: row.get::<i64, _>("position") as u32, of: row.get::<i64, _>("carried").max(1) as u32 };
    let ready = Ready { epoch: row.get("ready_epoch"), is_hurried: row.get::<i64, _>("hurried") == 1 };
    let (want, is_of_last_job) = (want.map(WantId), row.get::<i64, _>("is_last") == 1);
    Ok(Message { key, want, errand, is_of_last_job, attempt, kind, miner, sector, state, place, ready, tries })
}
