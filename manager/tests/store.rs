//! The store on a real SQLite file.

use sealbus_manager::{
    life,
    store::{
        Happening, MessageKind, MessageState, Outcome, Sector, SectorFilter, Store, StoreError, Verdict, WantedMessage,
    },
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, ProofBytes, Randomness, SealProof, SectorId, Token,
    lease::Ownership,
    message::{EventBody, PreCommitInfo, Seed, StoredSector, Ticket},
    seal::manager::{AttemptPolicy, Input, Rebuild, Released, State},
};
use serde_json::json;

const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

async fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(&directory.path().join("manager.db")).await.expect("opens");
    let mut tx = store.begin().await.expect("begins");
    tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
    tx.insert_sector(id(), SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");
    (directory, store)
}

fn id() -> SectorId {
    "f01000/1".parse().expect("sector")
}

/// Every input of the happy path.
fn inputs() -> Vec<Input> {
    let ticket = Ticket {
        draw: 1,
        randomness: Randomness([3; 32]),
        epoch: -880,
        expires_epoch: 2900,
        head_epoch: 20,
        epoch_millis: 30_000,
    };
    let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 86_440, head_epoch: 31, epoch_millis: 30_000 };
    vec![
        Input::Claimed,
        Input::Event(EventBody::TicketWanted { draw: 1 }),
        Input::TicketDrawn(ticket),
        Input::Event(EventBody::Pc2Done { comm_r: Commitment([1; 32]), comm_d: Commitment([2; 32]) }),
        Input::PreCommitLanded(precommit),
        Input::Event(EventBody::Persisted { stored: StoredSector { store: "main".into(), files: vec![] } }),
        Input::FilesChecked,
        Input::SeedDrawn(Seed { draw: 1, randomness: Randomness([4; 32]), epoch: 40 }),
        Input::Event(EventBody::C2Done { seed_draw: 1, proof: ProofBytes(vec![7; 192]) }),
        Input::ProofVerified,
        Input::ProveLanded { activation_epoch: 50 },
        Input::Event(EventBody::Finished {}),
    ]
}

async fn apply(store: &Store, input: Input) -> Sector {
    let mut tx = store.begin().await.expect("begins");
    let mut sector = tx.sector(id()).await.expect("reads").expect("exists");
    if input == Input::Claimed {
        sector.ownership = Ownership::Held { worker: "w1".parse().expect("worker"), token: Token(9), last_event: 0 };
    }
    if matches!(input, Input::Released(_)) {
        sector.ownership = Ownership::Free { last_lease: 12 };
    }
    let outcome = life::decide(sector, input, Happening::of_manager("test", json!({})), POLICY);
    tx.store_outcomes(std::slice::from_ref(&outcome)).await.expect("stores");
    tx.commit().await.expect("commits");
    outcome.sector
}

#[tokio::test]
async fn every_state_of_a_life_is_read_back_as_it_was_stored() {
    let (_directory, store) = store().await;
    let refused = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "a test");
    for input in inputs() {
        let stored = apply(&store, input).await;
        assert_eq!(store.sector(id()).await.expect("reads"), Some(stored.clone()));
        if stored.state.is_terminal() {
            continue;
        }
        // Blocked on top of each state, and back.
        let blocked = apply(&store, Input::Refused(refused.clone())).await;
        assert!(matches!(blocked.state, State::Blocked { .. }));
        assert_eq!(store.sector(id()).await.expect("reads"), Some(blocked));
        let mut tx = store.begin().await.expect("begins");
        tx.save_sector(&stored).await.expect("stores");
        tx.commit().await.expect("commits");
    }
    let filter = SectorFilter { state: Some("proving".into()), ..SectorFilter::default() };
    assert_eq!(store.sectors(&filter).await.expect("lists").len(), 1);
    assert!(store.live_sectors().await.expect("lists").is_empty());
}

#[tokio::test]
async fn a_rebuild_and_a_sector_that_is_given_up_are_read_back_as_they_were_stored() {
    let released = || Input::Released(Released { attempt: 1, issues: 1, precommit_signed: true });
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    for landed in [false, true] {
        let (_directory, store) = store().await;
        let so_far = inputs().into_iter().take(if landed { 8 } else { 4 });
        for input in so_far.chain([released()]) {
            apply(&store, input).await;
        }
        let requeued = store.sector(id()).await.expect("reads").expect("exists");
        assert_eq!(matches!(requeued.state, State::Requeued(Rebuild::Landed(_))), landed, "{requeued:?}");
        assert_eq!((requeued.attempt, requeued.issues), (1, 2));
        let rebuilding = apply(&store, Input::Claimed).await;
        assert_eq!(store.sector(id()).await.expect("reads"), Some(rebuilding));
        let abandoning = apply(&store, Input::Abandoned { cause: cause.clone(), lose_deposit: true }).await;
        assert!(matches!(abandoning.state, State::Abandoning { .. }));
        assert_eq!(store.sector(id()).await.expect("reads"), Some(abandoning));
        apply(&store, released()).await;
        let aborted = store.sector(id()).await.expect("reads").expect("exists");
        assert!(matches!(aborted.state, State::Aborted { .. }));
    }
}

#[tokio::test]
async fn a_sector_whose_proof_is_here_ends_without_a_worker() {
    let (_directory, store) = store().await;
    for input in inputs().into_iter().take(9) {
        apply(&store, input).await;
    }
    let released = Input::Released(Released { attempt: 1, issues: 1, precommit_signed: true });
    assert_eq!(apply(&store, released).await.state.name(), "verifying_proof");
    apply(&store, Input::ProofVerified).await;
    assert_eq!(apply(&store, Input::ProveLanded { activation_epoch: 50 }).await.state.name(), "proving");
}

#[tokio::test]
async fn a_new_database_may_be_opened_by_several_at_once() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("manager.db");
    let openings = (0..8).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { Store::open(&path).await.map(drop) })
    });
    for opening in openings.collect::<Vec<_>>() {
        opening.await.expect("no panic").expect("opens");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_a_row_that_cannot_be() {
    let (directory, store) = store().await;
    apply(&store, Input::Claimed).await;
    let url = format!("sqlite://{}", directory.path().join("manager.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.expect("connects");
    for bad in [
        "UPDATE sectors SET state = 'proving'",
        "UPDATE sectors SET comm_r = '00'",
        "UPDATE sectors SET state = 'lost'",
        "UPDATE sectors SET draw = 1",
        "INSERT INTO messages (key, kind, miner, number, state) VALUES ('k', 'precommit', 'f01', 1, 'pushed')",
        "INSERT INTO outbox (kind, miner, number, lease_sequence, payload) VALUES ('fact', 'f01', 1, 0, x'')",
    ] {
        let outcome = sqlx::query(bad).execute(&pool).await;
        assert!(outcome.is_err(), "{bad}");
    }
}

/// The outcome of an input that wants a message.
async fn wants(store: &Store, kind: MessageKind) -> Outcome {
    let sector = store.sector(id()).await.expect("reads").expect("exists");
    Outcome {
        history: vec![(Happening::of_manager("test", json!({})), Verdict::Applied)],
        messages: vec![WantedMessage { kind, attempt: 1 }],
        ..Outcome::unchanged(sector)
    }
}

#[tokio::test]
async fn one_purpose_has_one_message_and_one_nonce() {
    let (_directory, store) = store().await;
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(&[wants(&store, MessageKind::PreCommit).await]).await.expect("wants");
    tx.store_outcomes(&[wants(&store, MessageKind::PreCommit).await]).await.expect("wants the same");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.len(), 1);
    let key = MessageKind::PreCommit.key(id(), 1, 1);
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 0);

    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&key, "t3a", 4, "bafy1", b"bytes").await.expect("stores");
    tx.save_signed(&key, "t3a", 5, "bafy2", b"other").await.expect_err("its bytes are fixed");
    tx.commit().await.expect("commits");
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(&[wants(&store, MessageKind::ProveCommit).await]).await.expect("wants");
    let other = MessageKind::ProveCommit.key(id(), 1, 1);
    tx.save_signed(&other, "t3a", 4, "bafy3", b"bytes").await.expect_err("the nonce is used");
    drop(tx);
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 5);
    let open = store.open_messages().await.expect("reads");
    assert!(matches!(&open[0].state, MessageState::Signed(signed) if signed.bytes == b"bytes"));
}

#[tokio::test]
async fn another_message_for_a_purpose_comes_only_after_the_last_has_failed() {
    let (_directory, store) = store().await;
    let precommit_signed = || async { store.sector(id()).await.expect("reads").expect("exists").precommit_signed };
    let kind = MessageKind::PreCommit;
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(&[wants(&store, kind).await]).await.expect("wants");
    tx.save_signed(&kind.key(id(), 1, 1), "t3a", 4, "bafy1", b"bytes").await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(precommit_signed().await, "it may be anywhere");
    let mut tx = store.begin().await.expect("begins");
    tx.mark_failed(&kind.key(id(), 1, 1), Some(16), "refused").await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(!precommit_signed().await, "it cannot land any more");
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(&[wants(&store, kind).await]).await.expect("wants another");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.iter().map(|m| m.key.clone()).collect::<Vec<_>>(), [kind.key(id(), 1, 2)]);
    let mut tx = store.begin().await.expect("begins");
    tx.mark_landed(kind, id(), 70).await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(store.open_messages().await.expect("reads").is_empty(), "what is on chain is not sent");
}

#[tokio::test]
async fn a_manager_that_was_taken_over_can_no_longer_write() {
    let (_directory, store) = store().await;
    let take_over = || async {
        let mut tx = store.begin().await.expect("begins");
        let epoch = tx.take_over().await.expect("takes over");
        tx.commit().await.expect("commits");
        epoch
    };
    let (first, second) = (take_over().await, take_over().await);
    assert!(second > first);
    assert!(matches!(store.begin_as(first).await.err(), Some(StoreError::TakenOver { .. })));
    let mut tx = store.begin_as(second).await.expect("begins");
    tx.move_offset(second, 0, 10).await.expect("moves");
    assert!(tx.move_offset(second, 0, 11).await.is_err(), "the offset has moved already");
}

#[tokio::test]
async fn effects_leave_through_the_outbox_and_name_the_owner() {
    let (_directory, store) = store().await;
    for input in inputs() {
        apply(&store, input).await;
    }
    let rows = store.outbox(0, 100).await.expect("reads");
    let facts = rows.iter().filter(
        |row| matches!(&row.kind, sealbus_manager::store::OutboxKind::Fact { worker } if worker.as_str() == "w1"),
    );
    assert_eq!(facts.count(), 5, "ticket, precommit, persist check, seed, prove commit");
    assert_eq!(rows.last().map(|row| row.kind.clone()), Some(sealbus_manager::store::OutboxKind::Release));
    assert!(rows.iter().all(|row| row.lease_sequence == 9));
    assert_eq!(store.open_messages().await.expect("reads").len(), 2);
    assert!(matches!(store.sector(id()).await.expect("reads").expect("exists").ownership, Ownership::Held { .. }));
    let history = store.history(id()).await.expect("reads");
    assert!(history.iter().all(|entry| entry.verdict == Verdict::Applied.name()));
}
