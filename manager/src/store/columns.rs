//! A sector as the values of its row's columns, and back.

use sealbus_schema::{
    Commitment, ErrorReport, ProofBytes, SectorId, SectorNumber, Token,
    lease::Ownership,
    parts::{PreCommitInfo, Seed, StoredSector, Ticket},
    workflows::{
        self,
        seal::manager::{Active, PreCommitted, Proven, Rebuild, Sealed, Seeded, State, Stored},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use super::{Job, StoreError, statements::Statement};

/// How many columns change in a sector's life. Its miner, number, proof and time of creation do not.
const COUNT: usize = 24;

/// A column's value, as the sector has it. It becomes text only if it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Number(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
    Commitment(Option<&'a Commitment>),
    Ticket(Option<&'a Ticket>),
    PreCommit(Option<&'a PreCommitInfo>),
    Files(Option<&'a StoredSector>),
    Seed(Option<&'a Seed>),
    Error(Option<&'a ErrorReport>),
}

/// The columns of a sector's row that change in its life, by name.
fn columns(sector: &Job) -> [(&'static str, Cell<'_>); COUNT] {
    let workflows::State::Seal(at) = &sector.state;
    let draw = match at {
        State::DrawingTicket { draw } => Some(i64::from(*draw)),
        _ => None,
    };
    let ticket = match at {
        State::Sealing { ticket } => Some(ticket),
        _ => at.sealed().map(|s| &s.ticket),
    };
    let cause = match at {
        State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => Some(cause),
        _ => None,
    };
    let activation_epoch = match at {
        State::Cleaning(active) | State::Proving(active) => Some(active.activation_epoch),
        _ => None,
    };
    let (owner, token, stream, last_event) = match &sector.ownership {
        Ownership::Held { worker, token, stream, last_event, .. } => {
            (Some(worker.as_str()), Some(token.0 as i64), stream.as_deref(), *last_event)
        }
        Ownership::Free { .. } => (None, None, None, 0),
    };
    let number = |number: i64| Cell::Number(Some(number));
    [
        ("attempt", number(sector.attempt.into())),
        ("issues", number(sector.issues.into())),
        ("resubmits", number(sector.resubmits.into())),
        ("precommit_signed", number(sector.signed.into())),
        ("changed_at", Cell::Text(Some(&sector.changed_at))),
        ("owner", Cell::Text(owner)),
        ("token", Cell::Number(token)),
        ("token_stream", Cell::Text(stream)),
        ("last_lease", number(sector.ownership.last_lease() as i64)),
        ("last_event", number(last_event as i64)),
        ("leased_at", Cell::Text(sector.leased_at.as_deref())),
        ("state", Cell::Text(Some(at.name()))),
        ("draw", Cell::Number(draw)),
        ("ticket", Cell::Ticket(ticket)),
        ("comm_r", Cell::Commitment(at.sealed().map(|s| &s.comm_r))),
        ("comm_d", Cell::Commitment(at.sealed().map(|s| &s.comm_d))),
        ("precommit", Cell::PreCommit(at.precommitted().map(|p| &p.precommit))),
        ("seeds_drawn", Cell::Number(at.precommitted().map(|p| p.seeds_drawn.into()))),
        ("files", Cell::Files(at.stored().map(|s| &s.files))),
        ("seed", Cell::Seed(at.seeded().map(|s| &s.seed))),
        ("proof_bytes", Cell::Bytes(at.proven().map(|p| p.proof.0.as_slice()))),
        ("activation_epoch", Cell::Number(activation_epoch)),
        ("cause", Cell::Error(cause)),
        ("blocked", Cell::Error(sector.blocked.as_ref())),
    ]
}

/// The columns of a sector that differ from those `before`; all, if these are not known.
pub(super) fn changed<'a>(sector: &'a Job, before: Option<&Job>) -> Vec<(&'static str, Cell<'a>)> {
    let after = columns(sector);
    match before.map(columns) {
        Some(before) => after.into_iter().zip(before).filter(|(a, b)| a != b).map(|(after, _)| after).collect(),
        None => after.to_vec(),
    }
}

impl Cell<'_> {
    /// Binds the value as it is stored.
    pub(super) fn bind<'q>(self, statement: Statement<'q>) -> Statement<'q>
    where
        Self: 'q,
    {
        match self {
            Cell::Number(number) => statement.bind(number),
            Cell::Text(text) => statement.bind(text),
            Cell::Bytes(bytes) => statement.bind(bytes),
            Cell::Commitment(commitment) => statement.bind(commitment.map(Commitment::to_string)),
            Cell::Ticket(ticket) => bind_json(statement, ticket),
            Cell::PreCommit(precommit) => bind_json(statement, precommit),
            Cell::Files(files) => bind_json(statement, files),
            Cell::Seed(seed) => bind_json(statement, seed),
            Cell::Error(error) => bind_json(statement, error),
        }
    }
}

fn bind_json<'q, T: Serialize>(statement: Statement<'q>, value: Option<&T>) -> Statement<'q> {
    match value.map(serde_json::to_string).transpose() {
        Ok(text) => statement.bind(text),
        Err(error) => statement.failed(error.into()),
    }
}

/// Which sector a row is about.
pub(super) fn id_from_row(row: &AnyRow) -> Result<SectorId, StoreError> {
    let (miner, number): (String, i64) = (row.get("miner"), row.get("number"));
    let bad = |problem: String| StoreError::BadRow { what: format!("sector {miner}/{number}"), problem };
    let miner = miner.parse().map_err(|e| bad(format!("{e}")))?;
    Ok(SectorId { miner, number: SectorNumber(number as u64) })
}

/// The sector of a row with all columns.
pub(super) fn from_row(row: &AnyRow) -> Result<Job, StoreError> {
    let id = id_from_row(row)?;
    let bad = |problem: String| StoreError::BadRow { what: format!("sector {id}"), problem };
    let last_lease = row.get::<i64, _>("last_lease") as u64;
    let ownership = match row.get::<Option<String>, _>("owner") {
        Some(owner) => Ownership::Held {
            worker: owner.parse().map_err(|e| bad(format!("{e}")))?,
            token: Token(row.get::<Option<i64>, _>("token").map_or(last_lease, |token| token as u64)),
            stream: row.get("token_stream"),
            last_lease,
            last_event: row.get::<i64, _>("last_event") as u64,
        },
        None => Ownership::Free { last_lease },
    };
    let state = workflows::State::Seal(state_from_row(id, row)?);
    let blocked = row.get::<Option<String>, _>("blocked").map(|cause| json(id, "blocked", cause)).transpose()?;
    Ok(Job {
        id,
        proof: row.get::<String, _>("proof").parse().map_err(|e| bad(format!("{e}")))?,
        attempt: row.get::<i64, _>("attempt") as u32,
        issues: row.get::<i64, _>("issues") as u32,
        resubmits: row.get::<i64, _>("resubmits") as u32,
        signed: row.get::<i64, _>("precommit_signed") != 0,
        created_at: row.get("created_at"),
        changed_at: row.get("changed_at"),
        ownership,
        leased_at: row.get("leased_at"),
        state,
        blocked,
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
