//! Turns a job into its row in the table `jobs`, and back.

use sealbus_schema::{IntentKind, SectorId, SectorNumber, Token, lease::Ownership};
use sqlx::{Row, any::AnyRow};

use super::Job;
use crate::store::{StoreError, rows::Places, statements::Statement, tables};

/// The columns of a job's row that may change, in the order of [`bind`].
const COLUMNS: [&str; 15] = [
    "state",
    "ended",
    "offered",
    "attempt",
    "issues",
    "resubmits",
    "signed",
    "changed_at",
    "owner",
    "token",
    "token_stream",
    "last_lease",
    "last_event",
    "leased_at",
    "blocked",
];

/// Inserts the row of a new job.
pub(super) fn insert<'q>(places: Places, job: &'q Job) -> Statement<'q> {
    let into =
        format!("INSERT INTO jobs (miner, number, workflow, is_last, created_at, {}) VALUES ", COLUMNS.join(", "));
    let statement = Statement::of_rows(places, &into, (1, 5 + COLUMNS.len()), " RETURNING id")
        .bind(job.id.miner.to_string())
        .bind(job.id.number.0 as i64)
        .bind(job.state.workflow().name())
        .bind(1i64)
        .bind(job.created_at.as_str());
    bind(job, statement)
}

/// Updates everything that may change, except for the data of the state.
pub(super) fn update<'q>(places: Places, jobs: &'q [Job]) -> Statement<'q> {
    // In both databases the columns of `VALUES` are named `column1`, `column2` and so on.
    let set: String = COLUMNS.iter().zip(3..).map(|(name, place)| format!("{name} = new.column{place}, ")).collect();
    let statement = Statement::of_rows(
        places,
        &format!("UPDATE jobs SET {set}version = version + 1 FROM (VALUES "),
        (jobs.len(), 2 + COLUMNS.len()),
        ") AS new WHERE jobs.miner = new.column1 AND jobs.number = new.column2 AND jobs.is_last = 1",
    );
    jobs.iter().fold(statement, |statement, job| {
        bind(job, statement.bind(job.id.miner.to_string()).bind(job.id.number.0 as i64))
    })
}

/// Binds the values of [`COLUMNS`].
fn bind<'q>(job: &'q Job, row: Statement<'q>) -> Statement<'q> {
    let state = job.state.traits();
    let (owner, token, stream, last_event) = match &job.ownership {
        Ownership::Held { worker, token, stream, last_event, .. } => {
            (Some(worker.as_str()), Some(token.0 as i64), stream.as_deref(), *last_event)
        }
        Ownership::Free { .. } => (None, None, None, 0),
    };
    row.bind(state.name)
        .bind(i64::from(state.is_terminal()))
        .bind(state.offered.map(IntentKind::name))
        .bind(i64::from(job.attempt))
        .bind(i64::from(job.issues))
        .bind(i64::from(job.resubmits))
        .bind(i64::from(job.signed))
        .bind(job.changed_at.as_str())
        .bind(owner)
        .bind(token)
        .bind(stream)
        .bind(job.ownership.last_lease() as i64)
        .bind(last_event as i64)
        .bind(job.leased_at.as_deref())
        .json(job.blocked.as_ref())
}

/// The job of a row of [`tables::select`].
pub(in crate::store) fn from_row(row: &AnyRow) -> Result<Job, StoreError> {
    let id = id_from_row(row)?;
    let last_lease = row.get::<i64, _>("last_lease") as u64;
    let ownership = match row.get::<Option<String>, _>("owner") {
        Some(owner) => Ownership::Held {
            worker: owner.parse().map_err(bad_row(id))?,
            token: Token(row.get::<i64, _>("token") as u64),
            stream: row.get("token_stream"),
            last_lease,
            last_event: row.get::<i64, _>("last_event") as u64,
        },
        None => Ownership::Free { last_lease },
    };
    let blocked: Option<String> = row.get("blocked");
    Ok(Job {
        id,
        proof: row.get::<String, _>("proof").parse().map_err(bad_row(id))?,
        attempt: row.get::<i64, _>("attempt") as u32,
        issues: row.get::<i64, _>("issues") as u32,
        resubmits: row.get::<i64, _>("resubmits") as u32,
        signed: row.get::<i64, _>("signed") != 0,
        created_at: row.get("created_at"),
        changed_at: row.get("changed_at"),
        ownership,
        leased_at: row.get("leased_at"),
        state: tables::state(id, row)?,
        blocked: blocked.map(|cause| serde_json::from_str(&cause)).transpose().map_err(bad_row(id))?,
    })
}

/// The sector of a row.
pub(in crate::store) fn id_from_row(row: &AnyRow) -> Result<SectorId, StoreError> {
    let (miner, number): (String, i64) = (row.get("miner"), row.get("number"));
    let bad = |e| StoreError::BadRow { what: format!("sector {miner}/{number}"), problem: format!("{e}") };
    Ok(SectorId { miner: miner.parse().map_err(bad)?, number: SectorNumber(number as u64) })
}

/// The error for an impossible value in a sector's row.
pub(in crate::store) fn bad_row<E: ToString>(id: SectorId) -> impl Fn(E) -> StoreError {
    move |error| StoreError::BadRow { what: format!("sector {id}"), problem: error.to_string() }
}
