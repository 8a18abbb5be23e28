//! The table `seal_jobs`: turns the states of sealing into rows, and back.

use sealbus_schema::{
    ErrorReport, ProofBytes,
    workflows::seal::manager::{Active, PreCommitted, Proven, Rebuild, Seal, Sealed, Seeded, State, Stored},
};

use crate::store::{Columns, Existing, InJson, OnChain, Statement, StoreError, Table};

impl Table for Seal {
    const COLUMNS: &'static [&'static str] = &[
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
    ];

    const SHARED: InJson = InJson {
        store: Some(("files", "store")),
        prove_by: Some(("precommit", "prove_by_epoch")),
        expires: Some(("ticket", "expires_epoch")),
        safe: Some("activation_epoch"),
    };

    fn bind<'q>(state: &'q State, row: Statement<'q>) -> Statement<'q> {
        let draw = match state {
            State::DrawingTicket { draw } => Some(i64::from(*draw)),
            _ => None,
        };
        let ticket = match state {
            State::Sealing { ticket } => Some(ticket),
            _ => state.sealed().map(|sealed| &sealed.ticket),
        };
        let cause = match state {
            State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => Some(cause),
            _ => None,
        };
        row.bind(draw)
            .json(ticket)
            .bind(state.sealed().map(|sealed| sealed.comm_r.to_string()))
            .bind(state.sealed().map(|sealed| sealed.comm_d.to_string()))
            .json(state.precommitted().map(|precommitted| &precommitted.precommit))
            .bind(state.precommitted().map(|precommitted| i64::from(precommitted.seeds_drawn)))
            .json(state.stored().map(|stored| &stored.files))
            .json(state.seeded().map(|seeded| &seeded.seed))
            .bind(state.proven().map(|proven| proven.proof.0.as_slice()))
            .bind(active(state).map(|active| active.activation_epoch))
            .json(cause)
    }

    fn read(name: &str, row: &Columns<'_>) -> Result<State, StoreError> {
        Ok(match name {
            "queued" => State::Queued,
            "packing" => State::Packing,
            "drawing_ticket" => State::DrawingTicket { draw: row.get::<i64>("draw")? as u32 },
            "sealing" => State::Sealing { ticket: row.json("ticket")? },
            "pre_committing" => State::PreCommitting(sealed(row)?),
            "persisting" => State::Persisting(precommitted(row)?),
            "checking_files" => State::CheckingFiles(stored(row)?),
            "awaiting_seed" => State::AwaitingSeed(stored(row)?),
            "committing" => State::Committing(seeded(row)?),
            "verifying_proof" => State::VerifyingProof(proven(row)?),
            "prove_committing" => State::ProveCommitting(proven(row)?),
            "cleaning" => State::Cleaning(activated(row)?),
            "proving" => State::Proving(activated(row)?),
            "requeued" => State::Requeued(rebuild(row)?),
            "rebuilding" => State::Rebuilding(rebuild(row)?),
            "aborting" => State::Aborting { cause: cause(row)? },
            "abandoning" => State::Abandoning { cause: cause(row)? },
            "aborted" => State::Aborted { cause: cause(row)? },
            _ => return Err(row.bad(format!("unknown state {name}"))),
        })
    }

    fn leaves(state: &State) -> Option<Existing> {
        // Sealing creates the sector, so what its state does not have does not exist.
        Some(Existing {
            files: state.stored().map(|stored| stored.files.clone()),
            on_chain: active(state).map(|active| {
                let Sealed { comm_r, comm_d, .. } = active.proven.seeded.stored.precommitted.sealed;
                OnChain { comm_r, comm_d, activation_epoch: active.activation_epoch }
            }),
        })
    }
}

const fn active(state: &State) -> Option<&Active> {
    match state {
        State::Cleaning(active) | State::Proving(active) => Some(active),
        _ => None,
    }
}

fn sealed(row: &Columns<'_>) -> Result<Sealed, StoreError> {
    Ok(Sealed { ticket: row.json("ticket")?, comm_r: row.parse("comm_r")?, comm_d: row.parse("comm_d")? })
}

fn precommitted(row: &Columns<'_>) -> Result<PreCommitted, StoreError> {
    let seeds_drawn = row.get::<i64>("seeds_drawn")? as u32;
    Ok(PreCommitted { sealed: sealed(row)?, precommit: row.json("precommit")?, seeds_drawn })
}

fn rebuild(row: &Columns<'_>) -> Result<Rebuild, StoreError> {
    Ok(if row.has("precommit") { Rebuild::Landed(precommitted(row)?) } else { Rebuild::Sent(sealed(row)?) })
}

fn stored(row: &Columns<'_>) -> Result<Stored, StoreError> {
    Ok(Stored { precommitted: precommitted(row)?, files: row.json("files")? })
}

fn seeded(row: &Columns<'_>) -> Result<Seeded, StoreError> {
    Ok(Seeded { stored: stored(row)?, seed: row.json("seed")? })
}

fn proven(row: &Columns<'_>) -> Result<Proven, StoreError> {
    Ok(Proven { seeded: seeded(row)?, proof: ProofBytes(row.get("proof_bytes")?) })
}

fn activated(row: &Columns<'_>) -> Result<Active, StoreError> {
    Ok(Active { proven: proven(row)?, activation_epoch: row.get("activation_epoch")? })
}

fn cause(row: &Columns<'_>) -> Result<ErrorReport, StoreError> {
    row.json("cause")
}
