//! What is counted for metrics.

use std::time::Duration;

use sealbus_manager::{
    metrics::jobs,
    store::{Count, Expiring},
    waits::{Cause, Subject},
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, Invariant, workflows::Input};
use sqlx::Executor;

use crate::{apply, databases::TestDatabase, id, lives::inputs, on_every_database, store};

on_every_database! {
    jobs_are_counted_by_state_and_by_what_blocks_them,
    what_expires_first_is_found_until_nothing_can_expire,
    waits_proofs_blocks_and_messages_are_counted,
}

fn count(labels: &[&str], count: i64, least: Option<i64>) -> Count {
    Count { labels: labels.iter().map(|label| (*label).to_owned()).collect(), count, least }
}

async fn jobs_are_counted_by_state_and_by_what_blocks_them(database: TestDatabase) {
    let store = store(&database).await;
    let [queued] = &store.count_jobs().await.expect("counts")[..] else { panic!("one state") };
    assert_eq!((&queued.labels[..], queued.count), (&["seal".to_owned(), "queued".to_owned()][..], 1));
    assert!(queued.least.is_some_and(|age| (0..60).contains(&age)), "{queued:?}");
    assert_eq!(store.count_blocked_jobs().await.expect("counts"), []);
    apply(&store, Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, "it"))).await;
    let blocked = store.count_blocked_jobs().await.expect("counts");
    assert_eq!(blocked, [count(&["perm", "PROTOCOL_VIOLATED"], 1, None)]);
}

async fn what_expires_first_is_found_until_nothing_can_expire(database: TestDatabase) {
    let store = store(&database).await;
    let nothing = Expiring::default();
    let mut seen = Vec::new();
    for input in inputs() {
        let job = apply(&store, input).await;
        let found = store.count_expiring(i64::MAX, i64::MAX).await.expect("counts");
        let last = job.last_epoch();
        match found {
            [Expiring { first: None, .. }, Expiring { first: None, .. }] => {
                assert_eq!(found, [nothing; 2]);
                assert!(last.is_none() || job.signed, "{} loses something at {last:?}", job.state.name());
            }
            [ticket, Expiring { first: None, .. }] => {
                assert_eq!((ticket.first, ticket.soon), (last, 1), "{}", job.state.name());
                let later = store.count_expiring(last.unwrap_or_default(), 0).await.expect("counts");
                assert_eq!(later[0].soon, 0);
                seen.push("ticket");
            }
            [ticket, deposit] => {
                assert_eq!((ticket, deposit.first, deposit.soon), (nothing, last, 1), "{}", job.state.name());
                seen.push("deposit");
            }
        }
    }
    seen.dedup();
    assert_eq!(seen, ["ticket", "deposit"]);
}

async fn waits_proofs_blocks_and_messages_are_counted(database: TestDatabase) {
    let store = store(&database).await;
    let mut tx = store.begin().await.expect("begins");
    let cause = Cause::passing(ErrorCode::NODE_UNAVAILABLE, "away");
    tx.save_wait(&Subject::Node, &cause, Duration::from_secs(1), 3).await.expect("stores");
    tx.commit().await.expect("commits");
    let waits = store.count_waits().await.expect("counts");
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].labels, ["node", "temp", "NODE_UNAVAILABLE"]);
    assert!(waits[0].least.is_some_and(|age| (0..60).contains(&age)), "{waits:?}");

    let pool = database.raw().await;
    for (deadline, state, opens, proved, skipped) in [
        (1, "missed", 10_000, "NULL", "[]"),
        (2, "making", 10_060, "10100", r#"[{"number":7,"cause":"x"}]"#),
        (3, "missed", 3, "NULL", "[]"),
    ] {
        let text = format!(
            "INSERT INTO partition_proofs (miner, period, deadline, \"partition\", challenge, opens, closes, randomness, state, \
             sectors, recovering, attempts, skipped, proved_epoch, told) VALUES \
             ('f01000', 1, {deadline}, 0, 1, {opens}, {opens} + 60, '', '{state}', 9, 0, '[]', '{skipped}', {proved}, '{{}}')"
        );
        pool.execute(text.as_str()).await.expect("inserts");
    }
    for (epoch, state) in [(9_000, "lost"), (1, "lost")] {
        let text = format!(
            "INSERT INTO blocks (miner, epoch, state, wins, base_epoch, steps, won_at) \
             VALUES ('f01000', {epoch}, '{state}', 1, 0, '{{}}', '')"
        );
        pool.execute(text.as_str()).await.expect("inserts");
    }
    pool.execute(
        "INSERT INTO wants (job, miner, number, kind, attempt, turn, state) \
         SELECT id, miner, number, 'precommit', 1, 1, 'wanted' FROM jobs",
    )
    .await
    .expect("inserts");
    pool.close().await;
    let mut partitions = store.count_partitions(2880).await.expect("counts");
    partitions.sort_by(|a, b| a.labels.cmp(&b.labels));
    assert_eq!(partitions, [count(&["f01000", "making"], 1, Some(20)), count(&["f01000", "missed"], 1, None)]);
    assert_eq!(store.count_skipped(2880).await.expect("counts"), [count(&["f01000"], 1, None)]);
    assert_eq!(store.count_blocks(2880).await.expect("counts"), [count(&["f01000", "lost"], 1, None)]);
    assert_eq!(store.count_messages().await.expect("counts"), [count(&["precommit", "wanted"], 1, None)]);
    assert_eq!(store.count_forged_orders().await.expect("counts"), 0);

    let page = jobs::look(&store, Some(10_000)).await.expect("looks").text();
    for line in [
        "sealbus_partitions{miner=\"f01000\",state=\"missed\"} 1.0",
        "sealbus_waits{kind=\"node\",class=\"temp\",code=\"NODE_UNAVAILABLE\"} 1.0",
        "sealbus_messages{kind=\"precommit\",state=\"wanted\"} 1.0",
        "sealbus_forged_orders_total 0.0",
    ] {
        assert!(page.lines().any(|written| written == line), "{line}: {page}");
    }
    for invariant in Invariant::ALL {
        let line = format!("sealbus_broken_invariants_total{{invariant=\"{}\"}} 0.0", invariant.name());
        assert!(page.lines().any(|written| written == line), "{line}: {page}");
    }
    assert!(!page.contains(&id().to_string()), "no label is a sector: {page}");
}
