//! Sectors.

use std::collections::BTreeSet;

use sealbus_schema::{
    Commitment, ErrorReport, MinerId, ProofBytes, SealProof, SectorId, SectorNumber, Token,
    lease::Ownership,
    seal::manager::{Active, PreCommitted, Proven, Rebuild, Sealed, Seeded, State, Stored},
};
use serde::de::DeserializeOwned;
use sqlx::{
    Any, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Store, StoreError, Tx, now_text, rows, sql};

/// What changes of a sector. A row is written as its miner, number, proof and time of creation, and then these.
const CHANGING: [&str; 22] = [
    "attempt",
    "issues",
    "resubmits",
    "precommit_signed",
    "changed_at",
    "owner",
    "last_lease",
    "last_event",
    "leased_at",
    "state",
    "draw",
    "ticket",
    "comm_r",
    "comm_d",
    "precommit",
    "seeds_drawn",
    "files",
    "seed",
    "proof_bytes",
    "activation_epoch",
    "cause",
    "blocked",
];

/// A sector as the manager knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    /// Which.
    pub id: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// The current attempt, from 1. Each has a ticket of its own.
    pub attempt: u32,
    /// How often it was offered to the workers since a person last looked at it.
    pub issues: u32,
    /// How many orders to resubmit there were.
    pub resubmits: u32,
    /// Whether a PreCommit of this attempt has left, or may have left, and not failed.
    pub precommit_signed: bool,
    /// When its number was given out.
    pub created_at: String,
    /// When its row last changed.
    pub changed_at: String,
    /// Who owns it.
    pub ownership: Ownership,
    /// The server's time of its last lease record.
    pub leased_at: Option<String>,
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

    /// Those of these sectors that exist, as this transaction sees them.
    pub async fn sectors(&mut self, ids: &BTreeSet<SectorId>) -> Result<Vec<Sector>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        let miners: BTreeSet<MinerId> = ids.iter().map(|id| id.miner).collect();
        for miner in miners {
            let numbers: Vec<i64> = ids.iter().filter(|id| id.miner == miner).map(|id| id.number.0 as i64).collect();
            for numbers in rows::chunks(&numbers) {
                let text = format!(
                    "SELECT * FROM sectors WHERE miner = {} AND number IN ({})",
                    self.places.list(1, 1),
                    self.places.list(2, numbers.len())
                );
                let query = numbers.iter().fold(sqlx::query(&text).bind(miner.to_string()), |query, n| query.bind(*n));
                for row in query.fetch_all(&mut *self.inner).await.map_err(sql("read sectors"))? {
                    found.push(from_row(&row)?);
                }
            }
        }
        Ok(found)
    }

    /// Gives out a number. The sector starts queued.
    pub async fn insert_sector(&mut self, id: SectorId, proof: SealProof) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sectors (miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, \
             changed_at, last_lease, last_event, state) VALUES ($1, $2, $3, 1, 1, 0, 0, $4, $4, 0, 0, 'queued')",
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

    /// Stores a sector.
    pub async fn save_sector(&mut self, sector: &Sector) -> Result<(), StoreError> {
        self.save_sectors(&[sector]).await
    }

    /// Stores sectors, each at most once.
    pub(super) async fn save_sectors(&mut self, sectors: &[&Sector]) -> Result<(), StoreError> {
        for sectors in rows::chunks(sectors) {
            let text = format!(
                "INSERT INTO sectors (miner, number, proof, created_at, {}) VALUES {} \
                 ON CONFLICT (miner, number) DO UPDATE SET {}",
                CHANGING.join(", "),
                self.places.rows(sectors.len(), 4 + CHANGING.len()),
                CHANGING.map(|column| format!("{column} = excluded.{column}")).join(", ")
            );
            let query = sectors.iter().try_fold(sqlx::query(&text), |query, sector| bind_row(query, sector))?;
            query.execute(&mut *self.inner).await.map_err(sql("store sectors"))?;
        }
        Ok(())
    }
}

impl Tx {
    /// Stores of sectors that nothing changed but when their workers were last heard; each at most once.
    pub(super) async fn save_heard(&mut self, sectors: &[&Sector]) -> Result<(), StoreError> {
        for sectors in rows::chunks(sectors) {
            // Both databases name the columns of such a list so.
            let text = format!(
                "UPDATE sectors SET changed_at = heard.column3, last_event = heard.column4 FROM (VALUES {}) AS heard \
                 WHERE sectors.miner = heard.column1 AND sectors.number = heard.column2",
                self.places.rows(sectors.len(), 4)
            );
            let mut query = sqlx::query(&text);
            for sector in sectors {
                query = query
                    .bind(sector.id.miner.to_string())
                    .bind(sector.id.number.0 as i64)
                    .bind(sector.changed_at.clone())
                    .bind(last_event(&sector.ownership) as i64);
            }
            query.execute(&mut *self.inner).await.map_err(sql("store when workers were heard"))?;
        }
        Ok(())
    }
}

impl Sector {
    /// Whether nothing is new since `before` but when the worker was last heard.
    pub(super) fn was_only_heard_since(&self, before: &Sector) -> bool {
        let Sector {
            id,
            proof,
            attempt,
            issues,
            resubmits,
            precommit_signed,
            created_at,
            changed_at: _,
            ownership,
            leased_at,
            state,
        } = self;
        let same_lease = match (ownership, &before.ownership) {
            (Ownership::Held { worker, token, .. }, Ownership::Held { worker: holder, token: held, .. }) => {
                (worker, token) == (holder, held)
            }
            (now, before) => now == before,
        };
        same_lease
            && (id, proof, attempt, issues, resubmits)
                == (&before.id, &before.proof, &before.attempt, &before.issues, &before.resubmits)
            && (precommit_signed, created_at, leased_at)
                == (&before.precommit_signed, &before.created_at, &before.leased_at)
            && *state == before.state
    }
}

fn last_event(ownership: &Ownership) -> u64 {
    match ownership {
        Ownership::Held { last_event, .. } => *last_event,
        Ownership::Free { .. } => 0,
    }
}

type AnyQuery<'q> = Query<'q, Any, AnyArguments<'q>>;

/// The values of a sector's row, in the order in which [`Tx::save_sectors`] names the columns.
fn bind_row<'q>(query: AnyQuery<'q>, sector: &Sector) -> Result<AnyQuery<'q>, StoreError> {
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
        _ => None,
    };
    let ticket = match at {
        State::Sealing { ticket } => Some(ticket),
        _ => at.sealed().map(|s| &s.ticket),
    };
    let cause = match at {
        State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => {
            Some(serde_json::to_string(cause))
        }
        _ => None,
    };
    let activation_epoch = match at {
        State::Cleaning(active) | State::Proving(active) => Some(active.activation_epoch),
        _ => None,
    };
    let owner = match &sector.ownership {
        Ownership::Held { worker, .. } => Some(worker.to_string()),
        Ownership::Free { .. } => None,
    };
    Ok(query
        .bind(sector.id.miner.to_string())
        .bind(sector.id.number.0 as i64)
        .bind(sector.proof.name())
        .bind(sector.created_at.clone())
        .bind(i64::from(sector.attempt))
        .bind(i64::from(sector.issues))
        .bind(i64::from(sector.resubmits))
        .bind(i64::from(sector.precommit_signed))
        .bind(sector.changed_at.clone())
        .bind(owner)
        .bind(sector.ownership.last_lease() as i64)
        .bind(last_event(&sector.ownership) as i64)
        .bind(sector.leased_at.clone())
        .bind(at.name())
        .bind(draw.map(i64::from))
        .bind(text(ticket.map(serde_json::to_string))?)
        .bind(at.sealed().map(|s| s.comm_r.to_string()))
        .bind(at.sealed().map(|s| s.comm_d.to_string()))
        .bind(text(at.precommitted().map(|p| serde_json::to_string(&p.precommit)))?)
        .bind(at.precommitted().map(|p| i64::from(p.seeds_drawn)))
        .bind(text(at.stored().map(|s| serde_json::to_string(&s.files)))?)
        .bind(text(at.seeded().map(|s| serde_json::to_string(&s.seed)))?)
        .bind(at.proven().map(|p| p.proof.0.clone()))
        .bind(activation_epoch)
        .bind(text(cause)?)
        .bind(text(blocked)?))
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
        issues: row.get::<i64, _>("issues") as u32,
        resubmits: row.get::<i64, _>("resubmits") as u32,
        precommit_signed: row.get::<i64, _>("precommit_signed") != 0,
        created_at: row.get("created_at"),
        changed_at: row.get("changed_at"),
        ownership,
        leased_at: row.get("leased_at"),
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
        let seeds_drawn = row.get::<Option<i64>, _>("seeds_drawn").ok_or_else(|| missing("seeds_drawn"))? as u32;
        Ok(PreCommitted { sealed: sealed()?, precommit: json(id, "precommit", column("precommit")?)?, seeds_drawn })
    };
    let rebuild = || -> Result<Rebuild, StoreError> {
        Ok(match row.get::<Option<String>, _>("precommit") {
            Some(_) => Rebuild::Landed(precommitted()?),
            None => Rebuild::Sent(sealed()?),
        })
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
        "awaiting_seed" => State::AwaitingSeed(stored()?),
        "committing" => State::Committing(seeded()?),
        "verifying_proof" => State::VerifyingProof(proven()?),
        "prove_committing" => State::ProveCommitting(proven()?),
        "cleaning" => State::Cleaning(active()?),
        "proving" => State::Proving(active()?),
        "requeued" => State::Requeued(rebuild()?),
        "rebuilding" => State::Rebuilding(rebuild()?),
        "aborting" => State::Aborting { cause: cause()? },
        "abandoning" => State::Abandoning { cause: cause()? },
        "aborted" => State::Aborted { cause: cause()? },
        _ => {
            return Err(StoreError::BadRow { what: format!("sector {id}"), problem: format!("unknown state {state}") });
        }
    })
}

pub(super) fn json<T: DeserializeOwned>(id: SectorId, column: &str, text: String) -> Result<T, StoreError> {
    serde_json::from_str(&text)
        .map_err(|e| StoreError::BadRow { what: format!("sector {id}"), problem: format!("{column}: {e}") })
}
