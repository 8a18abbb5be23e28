use std::{path::PathBuf, time::Duration};

use sealbus_schema::{
    Commitment, IntentKind, Phase, ProofBytes, Randomness, SealProof, Token,
    machine::worker::{Machine, Need, State},
    message::Intent,
    parts::{PieceInfo, Seed},
    workflows::seal::{
        Event,
        worker::{Data, Replica},
    },
};
use serde_json::json;

use super::*;
use crate::{
    config::Store,
    driver::expiry::{self, Arrivals},
    journal::Journal,
};

fn ticket(expires_epoch: i64) -> Ticket {
    Ticket { draw: 1, randomness: Randomness([1; 32]), epoch: 90, expires_epoch, head_epoch: 100, epoch_millis: 30_000 }
}

const PRECOMMIT: PreCommitInfo = PreCommitInfo { epoch: 90, prove_by_epoch: 110, head_epoch: 100, epoch_millis: 1_000 };

fn data() -> Data {
    let comm_d = Commitment([2; 32]);
    Data { pieces: vec![PieceInfo { commitment: comm_d, padded_bytes: 2048 }], comm_d }
}

fn pc1(ticket: Ticket) -> Step {
    Step::Pc1 { data: data(), ticket }
}

fn c2(precommit: PreCommitInfo) -> Step {
    let replica = Replica { data: data(), ticket: ticket(200), comm_r: Commitment([3; 32]) };
    Step::C2 { replica, precommit, seed: Seed { draw: 1, randomness: Randomness([4; 32]), epoch: 150 } }
}

/// Every step, in order.
fn steps() -> Vec<Step> {
    let Step::C2 { replica, precommit, seed } = c2(PRECOMMIT) else { unreachable!() };
    let (replica, data) = (|| replica.clone(), data);
    vec![
        Step::AddingPieces { draws: 0 },
        Step::BuildingTreeD { pieces: data().pieces, draws: 0 },
        Step::AwaitingPc1Room { data: data(), next_draw: 1 },
        Step::AwaitingTicket { data: data(), draw: 1 },
        pc1(ticket(200)),
        Step::Pc2 { data: data(), ticket: ticket(200) },
        Step::AwaitingPreCommit { replica: replica() },
        Step::Transferring { replica: replica(), precommit },
        Step::AwaitingPersistCheck { replica: replica(), precommit },
        Step::AwaitingSeed { replica: replica(), precommit },
        Step::C1 { replica: replica(), precommit, seed },
        Step::C2 { replica: replica(), precommit, seed },
        Step::AwaitingProveCommit { replica: replica(), precommit, seed },
    ]
}

fn workplace() -> Workplace {
    let intent = Intent {
        sector: "f01000/7".parse().expect("sector"),
        kind: IntentKind::Seal,
        proof: SealProof::StackedDrg2KiBV1_1,
        lease_sequence: 3,
        attempt: 1,
    };
    Workplace {
        work_dir: "/slot/s-t01000-7.4".into(),
        intent,
        token: Token(4),
        store: Store { name: "main".to_owned(), path: PathBuf::from("/store") },
        store_id: Some("id".to_owned()),
        static_dirs: vec!["/slot/static".into()],
    }
}

#[test]
fn steps_that_run_a_phase_have_a_request_and_no_others() {
    let phases: Vec<Phase> = steps()
        .iter()
        .filter_map(|step| {
            let phase = match Seal::need(step) {
                Need::Run(phase) => Some(phase),
                _ => None,
            };
            let request = Seal::request(step, &workplace());
            assert_eq!(request.is_some(), phase.is_some(), "{}", step.name());
            request.map(|request| request.expect("json"))?;
            phase
        })
        .collect();
    assert_eq!(phases, Seal::PHASES);
}

#[test]
fn a_request_has_the_shape_of_its_stage_and_an_output_of_another_shape_is_refused() {
    for step in steps() {
        let Need::Run(stage) = Seal::need(&step) else { continue };
        let task = Seal::request(&step, &workplace()).expect("a request").expect("json");
        // The request is parsed before the stage touches the slot, which does not exist here.
        let refused = crate::stage::run_json(stage, task.as_bytes()).expect_err("no slot");
        assert!(!refused.to_string().contains("request:"), "{stage}: {refused}");
        assert!(Seal::output(&step, json!("nonsense"), &workplace(), None).is_err(), "{stage}");
    }
}

#[test]
fn what_was_stored_is_in_the_store_that_was_found_after_it() {
    let step = steps().into_iter().find(|step| matches!(step, Step::Transferring { .. })).expect("a step");
    let output = json!(transfer::Response { files: Vec::new() });
    let stored = StoredSector { store: "main".to_owned(), files: Vec::new(), identity: Some("found".to_owned()) };
    let progress = Seal::output(&step, output, &workplace(), Some("found".to_owned())).expect("an output");
    assert_eq!(progress, Progress::Persisted { stored });
}

#[test]
fn a_ticket_expires_by_elapsed_time_with_a_margin() {
    let expired = |expires, now| {
        let step = pc1(ticket(expires));
        let mut arrivals = Arrivals::default();
        arrivals.came(Fact::TICKET, 1_000);
        let epoch = expiry::epoch(&Seal::expiry(&step).expect("it expires"), &arrivals, now);
        Seal::refuse_to_start(&step, epoch) == Some(Ok(Progress::TicketExpired))
    };
    assert!(!expired(200, 1_000));
    assert!(!expired(200, 1_000 + 39 * 30_000));
    assert!(expired(200, 1_000 + 40 * 30_000));
    assert!(expired(159, 1_000), "too old on arrival");
}

#[test]
fn a_ticket_is_as_old_as_the_server_says_after_a_restart_and_new_if_nobody_can_tell() {
    let step = pc1(ticket(200));
    let expired = |arrivals: &Arrivals, now| {
        let epoch = expiry::epoch(&Seal::expiry(&step).expect("it expires"), arrivals, now);
        Seal::refuse_to_start(&step, epoch).is_some()
    };
    let aged = |secs| Arrivals::of_age(Fact::TICKET, Duration::from_secs(secs), 5_000);
    assert!(!expired(&aged(39 * 30), 5_000));
    assert!(expired(&aged(40 * 30), 5_000), "although the machine was started later");
    assert!(!expired(&Arrivals::default(), i64::MAX));
}

#[test]
fn a_precommit_counts_as_late_only_when_it_is_surely_late() {
    let refused = |precommit, epoch| Seal::refuse_to_start(&c2(precommit), epoch);
    assert_eq!(refused(PRECOMMIT, 110), None);
    assert_eq!(refused(PRECOMMIT, 111), None, "an estimate decides nothing");
    let late = PreCommitInfo { head_epoch: 111, ..PRECOMMIT };
    let Some(Err(error)) = refused(late, 111) else { panic!("a proof that the manager calls late is begun") };
    assert_eq!((error.class, error.code), (ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED));
}

#[test]
fn labels_and_replica_expire_with_the_ticket_and_what_follows_with_the_precommit() {
    let told_by = |step: &Step| Seal::expiry(step).map(|expiry| (expiry.told_by, expiry.last_epoch));
    for step in steps() {
        let expected = match step {
            Step::Pc1 { .. } | Step::Pc2 { .. } => Some((Fact::TICKET, 140)),
            Step::Transferring { .. } | Step::C1 { .. } | Step::C2 { .. } => Some((Fact::PRECOMMIT_LANDED, 110)),
            _ => None,
        };
        assert_eq!(told_by(&step), expected, "{}", step.name());
    }
}

#[test]
fn a_journal_with_a_proof_reads_as_it_was_written() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("journal");
    let state = State::claimed(IntentKind::Seal).expect("a known kind");
    let mut journal = Journal::new(Some("SEAL_SECTORS@1".into()), workplace().intent, Token(4), state.clone());
    let proof = ProofBytes(vec![7; 192]);
    journal.advance(state, vec![Event::Pc1Done {}.into(), Event::C2Done { seed_draw: 1, proof }.into()]);
    journal.store(&path).expect("writes");
    assert_eq!(Journal::load(&path).expect("reads"), Some(journal));
}
