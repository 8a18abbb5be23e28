//! Directories that are not what their paths say: a store and a slot whose disks are not mounted, and a slot of another
//! worker.

use std::{fs, path::Path};

use sealbus_schema::{
    ErrorClass, ErrorCode,
    identity::{self, KnownStore, SlotIdentity, StoreIdentity},
    message::{EventBody, Heartbeat, KnownSlot},
    workflows::seal,
};

use crate::support::{Bench, Manager, Server, Worker, eventually};

fn mount_store(root: &Path, id: &str) {
    let identity = StoreIdentity {
        id: id.to_owned(),
        name: "main".to_owned(),
        network: String::new(),
        miners: Vec::new(),
        made_at: String::new(),
    };
    fs::write(root.join(identity::STORE_FILE), identity::render(&identity).expect("renders")).expect("writes");
}

fn code_of(event: &EventBody) -> (ErrorClass, ErrorCode) {
    let error = event.error().expect("an error");
    (error.class, error.code.clone())
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_before_a_byte_is_written_and_over_a_restart() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    manager.stores = vec![KnownStore { name: "main".to_owned(), id: "a".to_owned() }];
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let sector = manager.offer(1).await;
    let failed = manager.see_through(sector, "failed").await;
    assert_eq!(code_of(&failed), (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE));
    let waits = |seen: &Heartbeat| {
        seen.slots[0].blocked.as_ref().is_some_and(|report| report.code == ErrorCode::STORE_UNAVAILABLE)
    };
    manager.heartbeat_with("the wait", waits).await;
    worker.kill();
    let before = manager.heartbeat().await.map(|seen| seen.incarnation);
    let _worker = bench.start();
    manager.heartbeat_with("the wait again", |seen| Some(seen.incarnation) != before && waits(seen)).await;
    mount_store(&bench.path("store"), "b");
    manager.heartbeat_with("another store", waits).await;
    assert_eq!(bench.starts("transfer"), 0, "nothing was begun");
    mount_store(&bench.path("store"), "a");
    manager.see_through(sector, "finished").await;
    let persisted = manager.event(sector, "persisted").await;
    assert!(
        matches!(persisted, EventBody::Seal(seal::Event::Persisted { stored }) if stored.identity.as_deref() == Some("a"))
    );
    let failures = manager.kinds(sector).into_iter().filter(|kind| *kind == "failed").count();
    assert_eq!(failures, 1, "it is told once");
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_slot_is_cleaned_only_while_the_store_with_the_other_copy_is_there() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    manager.stores = vec![KnownStore { name: "main".to_owned(), id: "a".to_owned() }];
    let bench = Bench::new(server.url(), 1);
    mount_store(&bench.path("store"), "a");
    let _worker = bench.start();
    bench.hold("c2");
    let sector = manager.offer(1).await;
    let persisted = manager.see_through(sector, "persisted").await;
    manager.answer(sector, &persisted).await;
    bench.begun("c2", 1).await;
    fs::rename(bench.path("store"), bench.path("away")).expect("renames");
    fs::create_dir(bench.path("store")).expect("directory");
    bench.let_go("c2");
    let proof = manager.event(sector, "c2_done").await;
    manager.answer(sector, &proof).await;
    let failed = manager.event(sector, "failed").await;
    assert_eq!(code_of(&failed), (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE));
    assert!(bench.left_in(0).iter().any(|name| name.starts_with("s-t0")), "{:?}", bench.left_in(0));
    fs::remove_dir(bench.path("store")).expect("removes");
    fs::rename(bench.path("away"), bench.path("store")).expect("renames");
    manager.event(sector, "finished").await;
}

#[tokio::test]
async fn a_slot_whose_disk_is_missing_at_the_start_is_no_free_one() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let seen = manager.heartbeat_with("a slot", |seen| seen.slots[0].identity.is_some()).await;
    let (path, id) = (seen.slots[0].path.clone(), seen.slots[0].identity.clone().expect("told"));
    worker.kill();
    fs::rename(bench.path("slot0"), bench.path("away")).expect("renames");
    fs::create_dir(bench.path("slot0")).expect("directory");
    manager.slots = vec![KnownSlot { path, id: id.clone() }];
    manager.order(1, false, &[]).await;
    let sector = manager.offer(1).await;
    let _worker = bench.start();
    let fresh = seen.incarnation;
    let seen = manager
        .heartbeat_with("a disk that is away", |seen| seen.incarnation != fresh && seen.slots[0].blocked.is_some())
        .await;
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.code.clone(), seen.slots[0].unreadable), (ErrorCode::SLOT_UNUSABLE, true));
    assert!(seen.slots[0].identity.is_none() && !bench.path("slot0/sealbus-slot.json").exists());
    fs::rename(bench.path("slot0"), bench.path("mount-point")).expect("renames");
    fs::rename(bench.path("away"), bench.path("slot0")).expect("renames");
    manager.see_through(sector, "finished").await;
    manager.heartbeat_with("the slot", |seen| seen.slots[0].identity.as_ref() == Some(&id)).await;
}

#[tokio::test]
async fn a_slot_that_was_restored_from_a_backup_begins_nothing_until_a_person_decides() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.hold("tree_d");
    let sector = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    let journal = bench.path("slot0/journal");
    let backup = fs::read(&journal).expect("reads");
    bench.hold("pc1");
    bench.let_go("tree_d");
    manager.see_through(sector, "ticket_wanted").await;
    worker.kill();
    let later = fs::read(&journal).expect("reads");
    fs::write(&journal, backup).expect("restores");
    let before = manager.heartbeat().await.map(|seen| seen.incarnation);
    let worker = bench.start();
    let is_blocked = |seen: &Heartbeat| Some(seen.incarnation) != before && seen.slots[0].blocked.is_some();
    let seen = manager.heartbeat_with("a blocked slot", is_blocked).await;
    let report = seen.slots[0].blocked.clone().expect("blocked");
    assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::JOURNAL_BEHIND));
    assert_eq!(bench.starts("tree_d"), 1, "nothing was begun");
    worker.kill();
    fs::write(&journal, later).expect("puts back");
    bench.let_go("pc1");
    let _worker = bench.start();
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_renamed_worker_touches_nothing_of_the_old_ones_and_goes_on_when_it_is_named_back() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.hold("tree_d");
    let sector = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    worker.kill();
    // A half-written journal of a killed worker is removed by the next worker that opens the slot.
    let left = || bench.left_in(0).into_iter().filter(|name| name != ".journal.tmp").collect::<Vec<_>>();
    let (before, mut last) = (left(), None);
    // Also with a journal alone, as in a slot from before slots had an identity.
    for with_identity in [true, false] {
        if !with_identity {
            fs::remove_file(bench.path("slot0").join(identity::SLOT_FILE)).expect("removes");
        }
        let other = bench.config().replace("name = \"w1\"", "name = \"w2\"");
        let renamed = Worker::start(&bench.write_config(&other), &bench.path("w2.log"));
        manager.worker = "w2".parse().expect("name");
        let is_blocked = |seen: &Heartbeat| Some(seen.incarnation) != last && seen.slots[0].blocked.is_some();
        let seen = manager.heartbeat_with("a blocked slot", is_blocked).await;
        last = Some(seen.incarnation);
        let report = seen.slots[0].blocked.clone().expect("blocked");
        assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::SLOT_OF_ANOTHER_WORKER));
        assert!(report.message().contains("w1") && report.message().contains("worker.name"), "{}", report.message());
        renamed.kill();
        assert_eq!(left(), before, "nothing is moved");
    }
    manager.worker = "w1".parse().expect("name");
    bench.let_go("tree_d");
    let _worker = bench.start();
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_slot_of_another_worker_is_taken_when_a_person_has_it_released() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let theirs = SlotIdentity {
        id: "x".to_owned(),
        worker: "w9".parse().expect("name"),
        path: String::new(),
        replaces: None,
        made_at_unix_secs: 0,
    };
    let file = bench.path("slot0").join(identity::SLOT_FILE);
    fs::write(&file, identity::render(&theirs).expect("renders")).expect("writes");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    manager.order(1, false, &[(1, &bench.path("slot0"))]).await;
    manager.see_through(sector, "finished").await;
    let ours = eventually("our slot", async || {
        identity::parse::<SlotIdentity>(&fs::read(&file).ok()?).ok().filter(|slot| slot.worker.as_str() == "w1")
    });
    assert_ne!(ours.await.id, "x");
}
