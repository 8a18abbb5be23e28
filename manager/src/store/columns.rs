//! A sector as the values of its row's columns, and back.

use sealbus_schema::{
    Commitment, ErrorReport, ProofBytes, SectorId, SectorNumber, Token,
    lease::Ownership,
    message::Ticket,
    seal::manager::{Active, PreCommitted, Proven, Rebuild, Sealed, Seeded, State, Stored},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use super::{Sector, StoreError, known::Versioned, statements::Statement};

/// The columns that change in a sector's life. Its miner, number, proof and time of creation do not.
pub(super) const NAMES: [&str; 22] = [
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

/// Positions in [`NAMES`] of what takes time to make.
const TICKET: usize = 11;
const COMM_R: usize = 12;
const COMM_D: usize = 13;
const PRECOMMIT: usize = 14;
const FILES: usize = 16;
const SEED: usize = 17;

/// The values of [`NAMES`], in that order.
#[derive(Clone, Debug)]
pub(super) struct Columns([Cell; NAMES.len()]);

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Columns {
    /// Those of a sector. What its state has as it was `before` is not made again.
    pub(super) fn of(sector: &Sector, before: Option<&Versioned>) -> Result<Columns, StoreError> {
        let (at, blocked) = match &sector.state {
            State::Blocked { at, cause } => (&**at, Some(cause)),
            state => (state, None),
        };
        let draw = match at {
            State::DrawingTicket { draw } => Some(i64::from(*draw)),
            _ => None,
        };
        let cause = match at {
            State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => Some(cause),
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
        let number = |number: i64| Cell::Number(Some(number));
        let parts = Parts { sector, before };
        Ok(Columns([
            number(sector.attempt.into()),
            number(sector.issues.into()),
            number(sector.resubmits.into()),
            number(sector.precommit_signed.into()),
            Cell::Text(Some(sector.changed_at.clone())),
            Cell::Text(owner),
            number(sector.ownership.last_lease() as i64),
            number(last_event as i64),
            Cell::Text(sector.leased_at.clone()),
            Cell::Text(Some(at.name().to_owned())),
            Cell::Number(draw),
            parts.cell(TICKET, ticket, json_of)?,
            parts.cell(COMM_R, |state| state.sealed().map(|s| &s.comm_r), hex_of)?,
            parts.cell(COMM_D, |state| state.sealed().map(|s| &s.comm_d), hex_of)?,
            parts.cell(PRECOMMIT, |state| state.precommitted().map(|p| &p.precommit), json_of)?,
            Cell::Number(at.precommitted().map(|p| p.seeds_drawn.into())),
            parts.cell(FILES, |state| state.stored().map(|s| &s.files), json_of)?,
            parts.cell(SEED, |state| state.seeded().map(|s| &s.seed), json_of)?,
            Cell::Bytes(at.proven().map(|p| p.proof.0.clone())),
            Cell::Number(activation_epoch),
            json_of(sector, cause)?,
            json_of(sector, blocked)?,
        ]))
    }

    /// The positions of those that are not what they were; all, if that is not known.
    pub(super) fn changed_since(&self, before: Option<&Columns>) -> Vec<usize> {
        (0..NAMES.len()).filter(|column| before.is_none_or(|before| before.0[*column] != self.0[*column])).collect()
    }

    /// Binds the value of one.
    pub(super) fn bind<'q>(&'q self, column: usize, statement: Statement<'q>) -> Statement<'q> {
        match &self.0[column] {
            Cell::Number(number) => statement.bind(*number),
            Cell::Text(text) => statement.bind(text.as_deref()),
            Cell::Bytes(bytes) => statement.bind(bytes.as_deref()),
        }
    }
}

/// A sector whose state may have parts that it had before.
struct Parts<'a> {
    sector: &'a Sector,
    before: Option<&'a Versioned>,
}

impl Parts<'_> {
    /// The cell of what `part` finds in the state: the one that there was, if it finds the same in the state before.
    fn cell<T: PartialEq>(
        &self,
        column: usize,
        part: fn(&State) -> Option<&T>,
        make: impl FnOnce(&Sector, Option<&T>) -> Result<Cell, StoreError>,
    ) -> Result<Cell, StoreError> {
        let found = part(&self.sector.state);
        match self.before {
            Some(before) if part(&before.sector.state) == found => Ok(before.columns.0[column].clone()),
            _ => make(self.sector, found),
        }
    }
}

fn ticket(state: &State) -> Option<&Ticket> {
    match state {
        State::Sealing { ticket } => Some(ticket),
        State::Blocked { at, .. } => ticket(at),
        state => state.sealed().map(|s| &s.ticket),
    }
}

fn hex_of(_: &Sector, value: Option<&Commitment>) -> Result<Cell, StoreError> {
    Ok(Cell::Text(value.map(Commitment::to_string)))
}

fn json_of<T: Serialize>(sector: &Sector, value: Option<&T>) -> Result<Cell, StoreError> {
    let text = value.map(serde_json::to_string).transpose();
    let bad =
        |e: serde_json::Error| StoreError::BadRow { what: format!("sector {}", sector.id), problem: e.to_string() };
    Ok(Cell::Text(text.map_err(bad)?))
}

/// Which sector a row is about.
pub(super) fn id_from_row(row: &AnyRow) -> Result<SectorId, StoreError> {
    let (miner, number): (String, i64) = (row.get("miner"), row.get("number"));
    let bad = |problem: String| StoreError::BadRow { what: format!("sector {miner}/{number}"), problem };
    let miner = miner.parse().map_err(|e| bad(format!("{e}")))?;
    Ok(SectorId { miner, number: SectorNumber(number as u64) })
}

/// The sector of a row with all columns.
pub(super) fn from_row(row: &AnyRow) -> Result<Sector, StoreError> {
    let id = id_from_row(row)?;
    let bad = |problem: String| StoreError::BadRow { what: format!("sector {id}"), problem };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_names() {
        let names = [TICKET, COMM_R, COMM_D, PRECOMMIT, FILES, SEED].map(|column| NAMES[column]);
        assert_eq!(names, ["ticket", "comm_r", "comm_d", "precommit", "files", "seed"]);
    }
}
