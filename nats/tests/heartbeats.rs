//! Heartbeats against a real server.

mod support;

use sealbus_nats::{
    Connection,
    heartbeats::{BeatError, Heart},
    topology::{self, Layout},
};
use sealbus_schema::message::Heartbeat;
use support::{Server, eventually};

fn heartbeat(worker: &str, incarnation: u64) -> Heartbeat {
    Heartbeat {
        worker: worker.parse().expect("worker name"),
        host: format!("host-{incarnation}"),
        version: "0".into(),
        incarnation,
        draining: false,
        orders: 0,
        slots: vec![],
        processors: vec![],
        broken: vec![],
    }
}

#[tokio::test]
async fn the_last_heartbeat_of_each_worker_is_listed() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let (seen, memory) = bus.workers_and_memory().await.expect("reads");
    assert!(seen.is_empty() && !memory.is_negative(), "{memory}");
    assert!(memory < topology::HEARTBEAT_MAX_AGE, "the stream was made this instant, and remembers nothing before");
    for (worker, incarnation) in [("b", 1), ("a", 2)] {
        let beat = heartbeat(worker, incarnation);
        let mut heart = Heart::new(&beat.worker);
        heart.beat(&bus, &beat).await.expect("beats");
        heart.beat(&bus, &beat).await.expect("beats");
    }
    let seen = bus.workers().await.expect("reads");
    let names: Vec<_> = seen.iter().map(|s| s.heartbeat.worker.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(seen.iter().all(|s| s.at <= s.now));
}

#[tokio::test]
async fn two_processes_of_one_name_are_noticed_and_a_restart_is_not_mistaken_for_one() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let (first, second) = (heartbeat("w", 1), heartbeat("w", 2));
    let mut old = Heart::new(&first.worker);
    old.beat(&bus, &first).await.expect("beats");
    let mut new = Heart::new(&second.worker);
    new.beat(&bus, &second).await.expect("a restarted process goes on behind the old one");
    match old.beat(&bus, &first).await {
        Err(BeatError::Clone { host, .. }) => assert_eq!(host, "host-2"),
        other => panic!("the clone was not noticed: {other:?}"),
    }
}

#[tokio::test]
async fn a_heartbeat_counts_for_the_worker_of_its_subject_and_what_nobody_can_read_is_replaced() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let names = || async {
        let seen = bus.workers().await.expect("reads");
        seen.into_iter().map(|seen| seen.heartbeat.worker.to_string()).collect::<Vec<_>>()
    };
    // Somebody with w1's key writes a heartbeat for w2.
    let payload = sealbus_schema::codec::encode(&heartbeat("w2", 9)).expect("packs");
    js.publish("seal.hb.w1", payload.into()).await.expect("sends").await.expect("is stored");
    assert!(names().await.is_empty());
    let beat = heartbeat("w1", 1);
    let mut heart = Heart::new(&beat.worker);
    heart.beat(&bus, &beat).await.expect("a start behind it");
    js.publish("seal.hb.w1", "rubbish".into()).await.expect("sends").await.expect("is stored");
    assert!(names().await.is_empty());
    heart.beat(&bus, &beat).await.expect("replaces it");
    assert_eq!(names().await, ["w1"]);
}

#[tokio::test]
async fn heartbeats_go_on_after_the_server_lost_its_memory() {
    let mut server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let beat = heartbeat("w", 1);
    let mut heart = Heart::new(&beat.worker);
    heart.beat(&bus, &beat).await.expect("beats");
    server.kill_and_restart();
    // A stream in memory does not survive its only server; the manager creates it again.
    let layout = Layout { replicas: 1, max_sectors_bytes: 1 << 30 };
    eventually("the streams", || async { bus.ensure_streams(layout).await.ok() }).await;
    let (bus, heart) = (&bus, tokio::sync::Mutex::new(heart));
    eventually("a heartbeat", || async { heart.lock().await.beat(bus, &beat).await.ok() }).await;
    eventually("the worker", || async { bus.workers().await.ok().filter(|seen| seen.len() == 1) }).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let connection = Connection {
        url: "nats://127.0.0.1:9".into(),
        nkey_seed_file: None,
        credentials_file: None,
        ca_file: None,
        api_prefix: None,
    };
    let error = connection.connect("test").await.expect_err("nobody listens there");
    assert!(!error.is_misconfigured());
    assert!(error.to_string().contains("nats://127.0.0.1:9"));
}

#[tokio::test]
async fn a_renewed_identity_counts_at_the_next_connection_without_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let seed_file = directory.path().join("manager.nk");
    let (old, new) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    std::fs::write(&seed_file, old.seed().expect("a seed")).expect("writes");
    let mut server = Server::start_for(&old.public_key());
    let connection = Connection {
        url: server.url(),
        nkey_seed_file: Some(seed_file.clone()),
        credentials_file: None,
        ca_file: None,
        api_prefix: None,
    };
    let bus = connection.connect_patiently("manager").await.expect("the server knows it");
    let layout = Layout { replicas: 1, max_sectors_bytes: 1 << 30 };
    eventually("the streams", || async { bus.ensure_streams(layout).await.ok() }).await;
    let before = bus.connections();
    std::fs::write(&seed_file, new.seed().expect("a seed")).expect("writes");
    server.restart_for(&new.public_key());
    eventually("a new connection", || async { (bus.connections() > before).then_some(()) }).await;
    eventually("the streams", || async { bus.ensure_streams(layout).await.ok() }).await;
    // A client with only the old seed is refused, but does not give up.
    std::fs::write(&seed_file, old.seed().expect("a seed")).expect("writes");
    let refused = connection.connect("manager").await.expect_err("it was replaced");
    assert!(!refused.is_misconfigured() && refused.to_string().contains("refused our identity"), "{refused}");
}
