//! Sectors and their history.

use sealbus_schema::{
    Commitment, ErrorReport, MinerId, ProofBytes, SealProof, SectorId, SectorNumber, Token,
    lease::Ownership,
    seal::manager::{Active, PreCommitted, Proven, Sealed, Seeded, State, Stored},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, sql};

/// A sector as the manager knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    /// Which.
    pub id: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// The current attempt, from 1.
    pub attempt: u32,
    /// When its number was given out.
    pub created_at: String,
    /// When its row last changed.
    pub changed_at: String,
    /// Who owns it.
    pub ownership: Ownership,
    /// Where it stands.
    pub state: State,
}

/// Which sectors to list.
#[derive(Clone, Debug, Default)]
pub struct SectorFilter {
    /// Of one miner only.
    pub miner: Option<MinerId>,
    /// In one state only, by its name.
    pub state: Option<String>,
    /// Only those that a person must look at.
    pub blocked: bool,
}

/// What became of something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It changed the sector's state.
    Applied,
    /// It is information.
    Noted,
    /// It must not have happened.
    Illegal,
    /// It came from somebody who does not own the sector.
    Fenced,
}

/// Something that happened to a sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When: by the NATS server's clock for what is in the log, by the manager's for the rest.
    pub at: String,
    /// Where in the log, if it is there.
    pub sequence: Option<u64>,
    /// Who: a worker's name, or `manager`.
    pub actor: String,
    /// Under which lease, for a worker.
    pub token: Option<u64>,
    /// What.
    pub kind: String,
    /// The particulars.
    pub detail: serde_json::Value,
}

/// One line of a sector's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening,
    /// What became of it, as [`Verdict::name`] writes it.
    pub verdict: String,
}

impl Happening {
    /// Something that the manager did or found out itself.
    pub fn of_manager(kind: &str, detail: serde_json::Value) -> Happening {
        Happening {
            at: now_text(),
            sequence: None,
            actor: "manager".to_owned(),
            token: None,
            kind: kind.to_owned(),
            detail,
        }
    }
}

impl Verdict {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Applied => "applied",
            Verdict::Noted => "noted",
            Verdict::Illegal => "illegal",
            Verdict::Fenced => "fenced",
        }
    }
}

impl Store {
    /// The sectors that a filter selects, by miner and number.
    pub async fn sectors(&self, filter: &SectorFilter) -> Result<Vec<Sector>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sectors WHERE (miner = $1 OR $1 = '') AND (state = $2 OR $2 = '') \
             AND (blocked IS NOT NULL OR $3 = 0) ORDER BY miner, number",
        )
        .bind(filter.miner.map(|m| m.to_string()).unwrap_or_default())
        .bind(filter.state.clone().unwrap_or_default())
        .bind(i64::from(filter.blocked))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// The sectors that still move: neither proving nor given up.
    pub async fn live_sectors(&self) -> Result<Vec<Sector>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM sectors WHERE state NOT IN ('proving', 'aborted') ORDER BY miner, number")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("list sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// One sector.
    pub async fn sector(&self, id: SectorId) -> Result<Option<Sector>, StoreError> {
        let row = sqlx::query("SELECT * FROM sectors WHERE miner = $1 AND number = $2")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a sector"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// The numbers of a miner's sectors that have been given out, from `first` on.
    pub async fn numbers_from(&self, miner: MinerId, first: u64) -> Result<Vec<u64>, StoreError> {
        let rows = sqlx::query("SELECT number FROM sectors WHERE miner = $1 AND number >= $2 ORDER BY number")
            .bind(miner.to_string())
            .bind(first as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read sector numbers"))?;
        Ok(rows.iter().map(|row| row.get::<i64, _>("number") as u64).collect())
    }

    /// A sector's history, oldest first.
    pub async fn history(&self, id: SectorId) -> Result<Vec<HistoryEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM history WHERE miner = $1 AND number = $2 ORDER BY id")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read a sector's history"))?;
        rows.iter()
            .map(|row| {
                let happening = Happening {
                    at: row.get("at"),
                    sequence: row.get::<Option<i64>, _>("sequence").map(|s| s as u64),
                    actor: row.get("actor"),
                    token: row.get::<Option<i64>, _>("token").map(|t| t as u64),
                    kind: row.get("kind"),
                    detail: json(id, "detail", row.get("detail"))?,
                };
                Ok(HistoryEntry { happening, verdict: row.get("verdict") })
            })
            .collect()
    }
}

impl Tx {
    /// One sector, as this transaction sees it.
    pub async fn sector(&mut self, id: SectorId) -> Result<Option<Sector>, StoreError> {
        let row = sqlx::query("SELECT * FROM sectors WHERE miner = $1 AND number = $2")
            .bind(id.miner.to_string())
            .bind(id.number.0 as i64)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read a sector"))?;
        row.as_ref().map(from_row).transpose()
    }

    /// Gives out a number. The sector starts queued.
    pub async fn insert_sector(&mut self, id: SectorId, proof: SealProof) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sectors (miner, number, proof, attempt, created_at, changed_at, last_lease, last_event, state) \
             VALUES ($1, $2, $3, 1, $4, $4, 0, 0, 'queued')",
        )
        .bind(id.miner.to_string())
        .bind(id.number.0 as i64)
        .bind(proof.name())
        .bind(now_text())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("give out a sector number"))?;
        Ok(())
    }

    /// Stores a sector that exists.
    pub async fn save_sector(&mut self, sector: &Sector) -> Result<(), StoreError> {
        let what = || format!("sector {}", sector.id);
        let text = |value: Option<serde_json::Result<String>>| {
            value.transpose().map_err(|e| StoreError::BadRow { what: what(), problem: e.to_string() })
        };
        let (at, blocked) = match &sector.state {
            State::Blocked { at, cause } => (&**at, Some(serde_json::to_string(cause))),
            state => (state, None),
        };
        let draw = match at {
            State::DrawingTicket { draw } => Some(*draw),
            State::AwaitingSeed { next_draw, .. } => Some(*next_draw),
            _ => None,
        };
        let ticket = match at {
            State::Sealing { ticket } => Some(ticket),
            _ => at.sealed().map(|s| &s.ticket),
        };
        let cause = match at {
            State::Aborting { cause } | State::Aborted { cause } => Some(serde_json::to_string(cause)),
            _ => None,
        };
        let activation_epoch = match at {
            State::Cleaning(active) | State::Proving(active) => Some(active.activation_epoch),
            _ => None,
        };
        let (owner, last_event) = match &sector.ownership {
            Ownership::Held { worker, last_event, .. } => (Some(worker.to_string()), *last_event),
            Ownership::Free { .. } => (None, 0),
        };
        sqlx::query(
            "UPDATE sectors SET attempt = $3, changed_at = $4, owner = $5, last_lease = $6, last_event = $7, state = $8, \
             draw = $9, ticket = $10, comm_r = $11, comm_d = $12, precommit = $13, files = $14, seed = $15, \
             proof_bytes = $16, activation_epoch = $17, cause = $18, blocked = $19 WHERE miner = $1 AND number = $2",
        )
        .bind(sector.id.miner.to_string())
        .bind(sector.id.number.0 as i64)
        .bind(i64::from(sector.attempt))
        .bind(&sector.changed_at)
        .bind(owner)
        .bind(sector.ownership.last_lease() as i64)
        .bind(last_event as i64)
        .bind(at.name())
        .bind(draw.map(i64::from))
        .bind(text(ticket.map(serde_json::to_string))?)
        .bind(at.sealed().map(|s| s.comm_r.to_string()))
        .bind(at.sealed().map(|s| s.comm_d.to_string()))
        .bind(text(at.precommitted().map(|p| serde_json::to_string(&p.precommit)))?)
        .bind(text(at.stored().map(|s| serde_json::to_string(&s.files)))?)
        .bind(text(at.seeded().map(|s| serde_json::to_string(&s.seed)))?)
        .bind(at.proven().map(|p| p.proof.0.clone()))
        .bind(activation_epoch)
        .bind(text(cause)?)
        .bind(text(blocked)?)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("store a sector"))?;
        Ok(())
    }

    /// Adds a line to a sector's history.
    pub async fn add_history(&mut self, id: SectorId, entry: &Happening, verdict: Verdict) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO history (miner, number, at, sequence, actor, token, kind, detail, verdict) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id.miner.to_string())
        .bind(id.number.0 as i64)
        .bind(&entry.at)
        .bind(entry.sequence.map(|s| s as i64))
        .bind(&entry.actor)
        .bind(entry.token.map(|t| t as i64))
        .bind(&entry.kind)
        .bind(entry.detail.to_string())
        .bind(verdict.name())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record what happened"))?;
        Ok(())
    }
}

fn from_row(row: &AnyRow) -> Result<Sector, StoreError> {
    let (miner, number): (String, i64) = (row.get("miner"), row.get("number"));
    let bad = |problem: String| StoreError::BadRow { what: format!("sector {miner}/{number}"), problem };
    let id = SectorId { miner: miner.parse().map_err(|e| bad(format!("{e}")))?, number: SectorNumber(number as u64) };
    let last_lease = row.get::<i64, _>("last_lease") as u64;
    let ownership = match row.get::<Option<String>, _>("owner") {
        Some(owner) => Ownership::Held {
            worker: owner.parse().map_err(|e| bad(format!("{e}")))?,
            token: Token(last_lease),
            last_event: row.get::<i64, _>("last_event") as u64,
        },
        None => Ownership::Free { last_lease },
    };
    let at = state_from_row(id, row)?;
    let state = match row.get::<Option<String>, _>("blocked") {
        Some(cause) => State::Blocked { at: Box::new(at), cause: json(id, "blocked", cause)? },
        None => at,
    };
    Ok(Sector {
        id,
        proof: row.get::<String, _>("proof").parse().map_err(|e| bad(format!("{e}")))?,
        attempt: row.get::<i64, _>("attempt") as u32,
        created_at: row.get("created_at"),
        changed_at: row.get("changed_at"),
        ownership,
        state,
    })
}

fn state_from_row(id: SectorId, row: &AnyRow) -> Result<State, StoreError> {
    let state: String = row.get("state");
    let missing = |column: &str| StoreError::BadRow {
        what: format!("sector {id}"),
        problem: format!("{state} without {column}"),
    };
    let column = |name: &'static str| row.get::<Option<String>, _>(name).ok_or_else(|| missing(name));
    let draw = || row.get::<Option<i64>, _>("draw").map(|d| d as u32).ok_or_else(|| missing("draw"));
    let cause = || -> Result<ErrorReport, StoreError> { json(id, "cause", column("cause")?) };
    let commitment = |name: &'static str| -> Result<Commitment, StoreError> {
        column(name)?
            .parse()
            .map_err(|e| StoreError::BadRow { what: format!("sector {id}"), problem: format!("{name}: {e}") })
    };
    let sealed = || -> Result<Sealed, StoreError> {
        Ok(Sealed {
            ticket: json(id, "ticket", column("ticket")?)?,
            comm_r: commitment("comm_r")?,
            comm_d: commitment("comm_d")?,
        })
    };
    let precommitted = || -> Result<PreCommitted, StoreError> {
        Ok(PreCommitted { sealed: sealed()?, precommit: json(id, "precommit", column("precommit")?)? })
    };
    let stored = || -> Result<Stored, StoreError> {
        Ok(Stored { precommitted: precommitted()?, files: json(id, "files", column("files")?)? })
    };
    let seeded =
        || -> Result<Seeded, StoreError> { Ok(Seeded { stored: stored()?, seed: json(id, "seed", column("seed")?)? }) };
    let proven = || -> Result<Proven, StoreError> {
        let proof = row.get::<Option<Vec<u8>>, _>("proof_bytes").ok_or_else(|| missing("proof_bytes"))?;
        Ok(Proven { seeded: seeded()?, proof: ProofBytes(proof) })
    };
    let active = || -> Result<Active, StoreError> {
        let activation_epoch = row.get::<Option<i64>, _>("activation_epoch");
        Ok(Active { proven: proven()?, activation_epoch: activation_epoch.ok_or_else(|| missing("activation_epoch"))? })
    };
    Ok(match state.as_str() {
        "queued" => State::Queued,
        "packing" => State::Packing,
        "drawing_ticket" => State::DrawingTicket { draw: draw()? },
        "sealing" => State::Sealing { ticket: json(id, "ticket", column("ticket")?)? },
        "pre_committing" => State::PreCommitting(sealed()?),
        "persisting" => State::Persisting(precommitted()?),
        "checking_files" => State::CheckingFiles(stored()?),
        "awaiting_seed" => State::AwaitingSeed { stored: stored()?, next_draw: draw()? },
        "committing" => State::Committing(seeded()?),
        "verifying_proof" => State::VerifyingProof(proven()?),
        "prove_committing" => State::ProveCommitting(proven()?),
        "cleaning" => State::Cleaning(active()?),
        "proving" => State::Proving(active()?),
        "aborting" => State::Aborting { cause: cause()? },
        "aborted" => State::Aborted { cause: cause()? },
        _ => {
            return Err(StoreError::BadRow { what: format!("sector {id}"), problem: format!("unknown state {state}") });
        }
    })
}

fn json<T: DeserializeOwned>(id: SectorId, column: &str, text: String) -> Result<T, StoreError> {
    serde_json::from_str(&text)
        .map_err(|e| StoreError::BadRow { what: format!("sector {id}"), problem: format!("{column}: {e}") })
}
