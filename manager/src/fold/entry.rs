//! Decides what one record of the log does to its sector. Pure.

use sealbus_nats::log::{Entry, Record};
use sealbus_schema::{
    Invariant, SectorId, Transition, Violation, WorkerName,
    lease::{Ownership, Record as LeaseFold, Remedy},
    machine::manager::AttemptPolicy,
    message::{Event, EventBody, LeaseRecord},
    workflows::Input,
};
use serde_json::json;

use crate::{
    life,
    store::{Happening, Job, Outcome, Outgoing, Verdict, time_text},
};

/// The sector that a record may change.
pub(super) fn sector_of(record: &Record) -> Option<SectorId> {
    match record {
        Record::Lease { sector, .. } | Record::Event { sector, .. } => Some(*sector),
        // Facts are our own answers. Their effects were stored when they were decided.
        Record::Fact { .. } | Record::Unreadable { .. } => None,
    }
}

/// The sector that a record is about.
pub(super) fn about(record: &Record) -> Option<SectorId> {
    match record {
        Record::Lease { sector, .. } | Record::Event { sector, .. } | Record::Fact { sector, .. } => Some(*sector),
        Record::Unreadable { .. } => None,
    }
}

/// What a record does to the sector that it is about.
pub fn decide(sector: Job, entry: &Entry, policy: AttemptPolicy) -> Outcome {
    match &entry.record {
        Record::Lease { owner, record, .. } => lease(sector, entry, owner.as_ref(), record, policy),
        Record::Event { worker, event, .. } => report(sector, entry, worker, event, policy),
        Record::Fact { .. } | Record::Unreadable { .. } => Outcome::unchanged(sector),
    }
}

fn lease(
    mut sector: Job,
    entry: &Entry,
    owner: Option<&WorkerName>,
    record: &LeaseRecord,
    policy: AttemptPolicy,
) -> Outcome {
    let sequence = entry.sequence;
    let fold = match (owner, record) {
        (Some(worker), _) => LeaseFold::Claim { worker, sequence, granted: is_granted(&sector, record) },
        (None, LeaseRecord::Reinstate { worker, token, .. }) => {
            LeaseFold::Reinstated { worker, token: *token, sequence }
        }
        (None, _) => LeaseFold::Release { sequence },
    };
    let Transition::Advance { next, effects } = sector.ownership.fold(&fold) else {
        let holder = match &sector.ownership {
            Ownership::Held { worker, .. } => worker.as_str(),
            Ownership::Free { .. } => "nobody",
        };
        let happening = happening(entry, holder, None, "lease", json!(record).to_string());
        let last = sector.ownership.last_lease();
        let seen = format!("{}: lease record {sequence} comes after {last}", sector.id);
        let broken = vec![Violation::new(Invariant::EventsFoldOnce, seen)];
        return Outcome { history: vec![(happening, Verdict::Illegal)], broken, ..Outcome::unchanged(sector) };
    };
    let was_free = matches!(sector.ownership, Ownership::Free { .. });
    sector.ownership = next;
    let (actor, kind, detail) = match record {
        LeaseRecord::Claim { host, .. } => (owner, "claimed", json!({ "host": host })),
        LeaseRecord::Release { reason } => (None, "released", json!({ "reason": reason })),
        LeaseRecord::Reinstate { worker, token, reason, .. } => {
            (None, "reinstated", json!({ "worker": worker, "token": token, "reason": reason }))
        }
        LeaseRecord::Unknown => (owner, "lease", json!({})),
    };
    let actor = actor.map_or("manager", WorkerName::as_str);
    let happening = happening(entry, actor, owner.map(|_| sequence), kind, detail.to_string());
    if let Some(remedy) = effects.first() {
        return put_right(sector, *remedy, happening);
    }
    sector.leased_at = Some(time_text(entry.time));
    match (owner, record) {
        (Some(_), _) => {
            // The serials of orders count for one owner, so they start again.
            sector.resubmits = 0;
            life::decide(sector, Input::Claimed, happening, policy)
        }
        (None, LeaseRecord::Reinstate { .. }) => {
            Outcome { history: vec![(happening, Verdict::Noted)], ..Outcome::unchanged(sector) }
        }
        // It had no owner. If it is offered, it needs a new intent that names this record.
        (None, _) if was_free && is_offered(&sector) => Outcome {
            outbox: Vec::from_iter(life::intent_of(&sector).map(Outgoing::Intent)),
            history: vec![(happening, Verdict::Noted)],
            ..Outcome::unchanged(sector)
        },
        // It stays blocked until a person decides, whoever claims it meanwhile.
        (None, _) if was_free && sector.blocked.is_some() => {
            Outcome { history: vec![(happening, Verdict::Noted)], ..Outcome::unchanged(sector) }
        }
        (None, _) => {
            let input = Input::Released(life::released(&sector));
            life::decide(sector, input, happening, policy)
        }
    }
}

/// What follows a claim without an offer. It makes no owner, but it has moved the server's fence, so another record must
/// follow that restores the owner or ends the lease.
fn put_right(sector: Job, remedy: Remedy, happening: Happening) -> Outcome {
    let actor = &happening.actor;
    tracing::error!(
        sector = %sector.id, by = actor, sequence = happening.sequence, state = sector.state.name(),
        "claimed without an offer; it has no effect, and the log is put right"
    );
    let reason = format!("{actor} claimed it without an offer");
    let outgoing = match remedy {
        Remedy::Reinstate => life::reinstate(&sector, &reason),
        Remedy::Release => Some(Outgoing::Release { lease_sequence: sector.ownership.lease(), reason }),
    };
    Outcome {
        outbox: Vec::from_iter(outgoing),
        history: vec![(happening, Verdict::Illegal)],
        ..Outcome::unchanged(sector)
    }
}

/// Whether a sector waits for a worker.
fn is_offered(sector: &Job) -> bool {
    sector.blocked.is_none() && sector.state.traits().offered.is_some()
}

/// Whether a claim names its sector's present intent.
fn is_granted(sector: &Job, record: &LeaseRecord) -> bool {
    let LeaseRecord::Claim { intent, .. } = record else { return false };
    let Some(offered) = life::intent_of(sector) else { return false };
    sector.blocked.is_none()
        && matches!(sector.ownership, Ownership::Free { .. })
        && (intent.sector, intent.kind, intent.proof) == (offered.sector, offered.kind, offered.proof)
        && intent.lease_sequence == offered.lease_sequence
}

fn report(mut sector: Job, entry: &Entry, worker: &WorkerName, event: &Event, policy: AttemptPolicy) -> Outcome {
    let kind = event.body.kind();
    let detail = detail(&event.body);
    let happening = happening(entry, worker.as_str(), Some(event.token.0), kind, detail);
    match sector.ownership.fold(&LeaseFold::Event { worker, token: event.token, number: event.number }) {
        Transition::Advance { next, .. } => {
            let gap = gap(&sector, entry.sequence, event);
            sector.ownership = next;
            let mut outcome = life::decide(sector, Input::Event(event.body.clone()), happening, policy);
            outcome.broken.extend(gap);
            outcome
        }
        Transition::Ignore(_) => Outcome::unchanged(sector),
        Transition::Illegal(_) => {
            let broken = Vec::from_iter(unfenced(&sector, entry.sequence, worker, event));
            Outcome { history: vec![(happening, Verdict::Fenced)], broken, ..Outcome::unchanged(sector) }
        }
    }
}

/// An owner publishes its events one after the other, so none is missing between two of them, unless the queue was lost
/// with it.
fn gap(sector: &Job, sequence: u64, event: &Event) -> Option<Violation> {
    let Ownership::Held { worker, stream: None, last_event, .. } = &sector.ownership else { return None };
    let Event { token, number, .. } = event;
    (*number > last_event + 1).then(|| {
        let seen = format!(
            "{}: event {number} of {worker} under {token} follows event {last_event} (record {sequence})",
            sector.id
        );
        Violation::new(Invariant::TokensAreNotReused, seen)
    })
}

/// The server stores an event only behind the lease record that its token names, or that reinstates the owner.
fn unfenced(sector: &Job, sequence: u64, worker: &WorkerName, event: &Event) -> Option<Violation> {
    let (lease, last, token) = (sector.ownership.lease(), sector.ownership.last_lease(), event.token);
    (token.0 != lease && token.0 != last).then(|| {
        let seen = format!(
            "{}: {worker} wrote {} under {token} while the last lease record was {last} (record {sequence})",
            sector.id,
            event.body.kind()
        );
        Violation::new(Invariant::WritersAreFenced, seen)
    })
}

/// The details of an event as JSON, without its kind, which is stored separately.
fn detail(body: &EventBody) -> String {
    if let Some(brief) = body.brief() {
        return brief.to_string();
    }
    // Cut the kind out of the text. Going through a `Value` would take several times as long.
    match serde_json::to_string(body) {
        Ok(text) => match text.strip_prefix("{\"kind\":\"").and_then(|rest| rest.strip_prefix(body.kind())) {
            Some("\"}") => "{}".to_owned(),
            Some(rest) => rest.strip_prefix("\",").map(|fields| format!("{{{fields}")).unwrap_or(text),
            None => text,
        },
        Err(error) => json!({ "not_written": error.to_string() }).to_string(),
    }
}

fn happening(entry: &Entry, actor: &str, token: Option<u64>, kind: &str, detail: String) -> Happening {
    Happening {
        at: time_text(entry.time),
        sequence: Some(entry.sequence),
        actor: actor.to_owned(),
        token,
        kind: kind.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        Commitment, ErrorClass, ErrorCode, ErrorReport, Phase, ProofBytes,
        message::{CommonEvent, NewerEvent},
        parts::{PieceInfo, StoredFile, StoredSector},
        workflows::seal,
    };

    use super::*;

    #[test]
    fn particulars_are_the_event_without_its_kind() {
        let commitment = Commitment([7; 32]);
        let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::ABANDONED, "a \"kind\":\"failed\", in quotes");
        let file = StoredFile { path: "sealed/s-t01000-1".to_owned(), bytes: 2048, blake2b: commitment };
        let events = [
            EventBody::Common(CommonEvent::PhaseStarted {
                phase: Phase::Pc1,
                attempt: 1,
                processor: "pc1-\"0\"".to_owned(),
            }),
            EventBody::Seal(seal::Event::PiecesAdded { pieces: vec![PieceInfo { commitment, padded_bytes: 2048 }; 2] }),
            EventBody::Seal(seal::Event::TreeDBuilt { comm_d: commitment }),
            EventBody::Seal(seal::Event::TicketWanted { draw: 1 }),
            EventBody::Seal(seal::Event::Pc1Done {}),
            EventBody::Seal(seal::Event::Pc2Done { comm_r: commitment, comm_d: commitment }),
            EventBody::Seal(seal::Event::Persisted {
                stored: StoredSector { store: "main".to_owned(), files: vec![file], identity: None },
            }),
            EventBody::Seal(seal::Event::C1Done { seed_draw: 2 }),
            EventBody::Common(CommonEvent::Finished {}),
            EventBody::Common(CommonEvent::Failed { error: error.clone() }),
            EventBody::Common(CommonEvent::Aborted { error }),
            EventBody::Newer(NewerEvent { kind: "newer".to_owned() }),
        ];
        for event in events {
            let mut expected = json!(event);
            expected.as_object_mut().expect("an object").remove("kind");
            let written = detail(&event);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON"), expected, "{written}");
        }
        let proof = EventBody::Seal(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![1; 1920]) });
        assert_eq!(detail(&proof), r#"{"proof_bytes":1920,"seed_draw":1}"#);
    }
}
